"""What is kept of a game of Go, and what is fixed when its rules are compiled."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from mcts.go import chains as chains_lib
from mcts.go import superko


@dataclasses.dataclass(frozen=True)
class Rules:
  """What is fixed when a program is compiled. history: boards in `observe`."""

  size: int
  superko: str
  suicide: bool
  max_moves: int
  history: int

  @property
  def points(self) -> int:
    return self.size * self.size

  @property
  def packing(self) -> superko.Packing:
    return superko.Packing(self.max_moves, self.points)


class State(NamedTuple):
  """All that the rules need: 2.5 KB at 19x19, 0.5 KB at 9x9.

  chains: int16 `[N^2]`, the board (see `mcts.go.chains`).
  record, record_high: uint16 `[M]` and uint32 `[...]`, each turn's point and when its stone was
    captured (see `mcts.go.superko`).
  count: uint16, entries in the record: stones set up and turns taken.
  start: uint16, entries that are stones set up; the first `blacks` (uint16) of them are black.
  first: uint8, who took the first turn after them, 0 black or 1 white.
  passes: uint8, passes in a row just now, 2 at most.
  komi: float32, added to white's score.
  """

  chains: Array
  record: Array
  record_high: Array
  count: Array
  start: Array
  blacks: Array
  first: Array
  passes: Array
  komi: Array


def to_play(state: State) -> Array:
  count, start = state.count.astype(jnp.int32), state.start.astype(jnp.int32)
  return (count - start + state.first) & 1


def done(rules: Rules, state: State) -> Array:
  return (state.passes >= 2) | (state.count >= rules.max_moves)


def chains_of(state: State) -> Array:
  """The board in int32: XLA:CPU cannot compile some of what follows in 16 bits."""
  return chains_lib.in_memory(state.chains.astype(jnp.int32))


def stones_of(rules: Rules, state: State) -> tuple[Array, Array, Array]:
  """int32 `[M]` of each entry: the colour (0 black, 1 white), the point, the time of capture."""
  point, gone = rules.packing.unpack(state.record, state.record_high)
  entry = jnp.arange(rules.max_moves)
  start = state.start.astype(jnp.int32)
  colour = (entry - start + state.first) & 1
  colour = jnp.where(entry < start, entry >= state.blacks, colour)
  return colour.astype(jnp.int32), point, gone
