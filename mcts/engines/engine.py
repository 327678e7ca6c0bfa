"""The contract of a Go engine on the host, and what it says of a position."""

import dataclasses
import functools
from collections.abc import Collection, Iterator
from typing import Protocol

import jax
import numpy as np

from mcts.engines.players import Player
from mcts.engines.ruleset import RuleSet
from mcts.go import Go
from mcts.go.position import Position


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A move that a search has visited at its root.

  action: row * N + column, N^2 for the pass.
  visits: simulations through the move, at least 1.
  value: their mean value in [-1, 1], for the player to move.
  prior: the probability in [0, 1] that the evaluator gave it.
  principal_variation: actions of the most visited continuation, of which `action` is the first.
  """

  action: int
  visits: int
  value: float
  prior: float
  principal_variation: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Analysis:
  """What an engine says of a position and the player to move.

  move: the action that it would play.
  value: the root's value in [-1, 1], None of an engine that does not know it.
  visits: simulations in the tree.
  candidates: the visited moves, the most visited first.
  """

  move: int
  value: float | None = None
  visits: int = 0
  candidates: tuple[Candidate, ...] = ()


class Engine(Protocol):
  """A Go engine on the host.

  It is shown the whole position with each call, so that a game may be taken back, jumped about in
  or begun anew; what it keeps between calls only saves time.

  name: what results call it.
  sizes: board sizes N that it plays on.
  trained: the rules of the games that it has learnt from, None if it has not learnt or they differ.
  """

  name: str
  sizes: Collection[int]
  trained: RuleSet | None

  def analyze(
    self,
    position: Position,
    player: int,
    seconds: float | None = None,
    *,
    cleanup: bool = False,
    allowed: np.ndarray | None = None,
  ) -> Iterator[Analysis]:
    """Yields one or more analyses of the player's move, each by a longer search than the last.

    Args:
      position: the game so far; two passes in a row do not end it.
      player: 0 for black, 1 for white, whoever moved last.
      seconds: to think at most; `math.inf` until the caller stops iterating, None for the engine's
        usual number of simulations.
      cleanup: whether to prefer a move over a pass of about the same value, so that dead stones are
        captured before the end (GTP's kgs-genmove_cleanup).
      allowed: bool `[N^2 + 1]`, the moves to consider; None for all that are legal.

    Raises:
      NoAnswer: what its network says is not finite.
    """

  def player(self, game: Go) -> Player:
    """Returns a compiled player of the same strength, for a batch of games."""

  def compile(self, position: Position) -> None:
    """Compiles what a move on a board of this size needs, so that no clock runs meanwhile."""


def check_size(name: str, sizes: Collection[int], size: int) -> None:
  """Checks that a player plays on boards of a size.

  Raises:
    ValueError: if it does not.
  """
  if size not in sizes:
    choices = f'{min(sizes)} to {max(sizes)}' if len(sizes) > 1 else f'{min(sizes)} alone'
    raise ValueError(f'size {size}: {name} plays on boards of size {choices}')


def final_analysis(
  engine: Engine, position: Position, player: int, seconds: float | None = None, **options
) -> Analysis:
  """Returns the last analysis of `engine.analyze`, whose arguments it takes."""
  *_, last = engine.analyze(position, player, seconds, **options)
  return last


@functools.cache
def _own_eyes(game: Go):
  return jax.jit(game.own_eyes)


def own_eyes(position: Position, player: int) -> np.ndarray:
  """Returns bool `[N^2]`, the points that are the player's own eyes (`Go.own_eyes`)."""
  return np.asarray(_own_eyes(position.game)(position.state_for(player)))
