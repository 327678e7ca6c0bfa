"""What a Go engine is, and the simplest one.

An engine keeps nothing that it could not do without: it is shown a whole `Position` each time, so a
game may be taken back, jumped about in or begun anew.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

from mcts.go import SIZES, Go, State, playouts
from mcts.go.position import Position
from mcts.search import game_keys

Act = Callable[[State, Array], Array]
"""States `[B, ...]` and a key to actions `[B]`, on the device."""


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A move of a search; value from -1 to 1 for the player to move, prior from 0 to 1."""

  action: int
  visits: int
  value: float
  prior: float
  line: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Report:
  """What an engine thinks: the move it would play, its value, all moves considered, best first."""

  move: int
  value: float | None = None
  visits: int = 0
  candidates: tuple[Candidate, ...] = ()


class Engine(Protocol):
  name: str

  def consider(
    self,
    position: Position,
    player: int,
    seconds: float | None = None,
    *,
    tidy: bool = False,
    allowed: np.ndarray | None = None,
  ) -> Iterator[Report]:
    """Better and better reports on the player's move; the last one counts.

    seconds: at most so long, `math.inf` until the caller leaves off, None as long as ever.
    tidy: no pass while a move would do as well, so that no dead stone stays on the board.
    allowed: bool `[A]`, the moves to look at, if not all legal ones.
    """

  def act(self, game: Go) -> Act:
    """The same player for a batch of games in lockstep."""

  def warm(self, position: Position) -> None:
    """Compiles what a move on a board of this size will need."""


def check_size(engine: Any, size: int) -> None:
  """Raises ValueError unless the engine plays on such boards; a program is asked when it starts."""
  sizes = getattr(engine, 'sizes', SIZES)
  if size not in sizes:
    choices = f'{min(sizes)} to {max(sizes)}' if len(sizes) > 1 else f'{min(sizes)} alone'
    who = getattr(engine, 'name', engine)
    raise ValueError(f'size {size}: {who} plays on boards of size {choices}')


def choose(engine: Engine, position: Position, player: int, seconds=None, **options) -> Report:
  """The last of the engine's reports."""
  *_, last = engine.consider(position, player, seconds, **options)
  return last


# -------- at random --------


@dataclasses.dataclass
class Random:
  """Any legal point except its own eyes, with equal chances; passes when there is none."""

  seed: int = 0
  name: str = 'random'
  moves: int = 0

  def consider(self, position, player, seconds=None, *, tidy=False, allowed=None):
    self.moves += 1
    rng = np.random.default_rng((self.seed, self.moves))
    legal = position.legal(player) & (True if allowed is None else allowed)
    points = np.flatnonzero(legal[:-1] & ~eyes_of(position, player))
    yield Report(int(rng.choice(points)) if len(points) else position.pass_action)

  def act(self, game):
    return _compile_random(game)

  def warm(self, position):
    eyes_of(position, position.to_play)


@functools.cache
def _compile_random(game: Go) -> Act:
  def act(states, key):
    return playouts.random_moves(game, states, game_keys(key, states.komi))

  return jax.jit(act)


@functools.cache
def _eyes(game: Go):
  return jax.jit(game.own_eyes)


def eyes_of(position: Position, player: int) -> np.ndarray:
  """bool `[N^2]`, see `Go.own_eyes`."""
  return np.asarray(_eyes(position.game)(position.state_for(player)))
