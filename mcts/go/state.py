"""The state of a game of Go, and the options that are fixed when its rules are compiled."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from mcts.go import chains as chains_lib
from mcts.go.superko import Packing


@dataclasses.dataclass(frozen=True)
class Rules:
  """Options of a game that are constants of its compiled programs.

  Attributes:
    size: N, the board has N x N points.
    superko: 'positional', 'situational' or 'simple' (docs/go_rules.md, "Repetition").
    suicide: whether a move may remove the player's own chain.
    max_moves: M, the game ends after so many entries of its record.
    history: K, how many boards `observe` shows.
  """

  size: int
  superko: str
  suicide: bool
  max_moves: int
  history: int

  @property
  def points(self) -> int:
    """Returns N^2."""
    return self.size * self.size

  @property
  def packing(self) -> Packing:
    """Returns how the record lies in memory."""
    return Packing(self.max_moves, self.points)


class State(NamedTuple):
  """All that the rules need of one game: 2.5 KB at 19x19, 0.5 KB at 9x9.

  Attributes:
    chains: int16 `[N^2]`, the board as chain ids (layout in `mcts.go.chains`).
    record: uint16 `[M]`, low bits of each entry's point and time of capture (layout in
      `mcts.go.superko`). Entries are stones set up, black's first, and then turns.
    record_high: uint32 `[num_words]`, the high bits of these.
    num_entries: uint16, entries in use: stones set up and turns taken.
    num_setup: uint16, entries that are stones set up.
    num_setup_black: uint16, how many of these are black.
    first_player: uint8, who took the first turn after the setup, 0 black or 1 white.
    passes: uint8, how many passes the game ends in so far, at most 2.
    komi: float32, added to white's score.
  """

  chains: Array
  record: Array
  record_high: Array
  num_entries: Array
  num_setup: Array
  num_setup_black: Array
  first_player: Array
  passes: Array
  komi: Array


def to_play(state: State) -> Array:
  """Returns int32 `[]`: who is to move, 0 for black and 1 for white."""
  turns = state.num_entries.astype(jnp.int32) - state.num_setup.astype(jnp.int32)
  return (turns + state.first_player) & 1


def done(rules: Rules, state: State) -> Array:
  """Returns bool `[]`: whether two passes or `max_moves` have ended the game."""
  return (state.passes >= 2) | (state.num_entries >= rules.max_moves)


def chains_of(state: State) -> Array:
  """Returns the chains as int32 `[N^2]`: XLA:CPU cannot compile some of their uses in 16 bits."""
  return chains_lib.materialize(state.chains.astype(jnp.int32))


def stones_of(rules: Rules, state: State) -> tuple[Array, Array, Array]:
  """Returns (colour, point, captured_at), int32 `[M]` each, of the entries of the record.

  Colours are 0 for black and 1 for white; for the rest see `mcts.go.superko`. Only the first
  `num_entries` mean anything.
  """
  point, captured_at = rules.packing.unpack(state.record, state.record_high)
  entry = jnp.arange(rules.max_moves)
  num_setup = state.num_setup.astype(jnp.int32)
  colour = (entry - num_setup + state.first_player) & 1
  colour = jnp.where(entry < num_setup, entry >= state.num_setup_black, colour)
  return colour.astype(jnp.int32), point, captured_at
