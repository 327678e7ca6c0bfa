"""The engine that plays at random."""

import dataclasses
import functools
from collections.abc import Collection

import jax
import numpy as np

from mcts.engines.engine import Analysis, own_eyes
from mcts.engines.players import Player
from mcts.engines.ruleset import RuleSet
from mcts.go import SIZES, Go, playouts


@dataclasses.dataclass
class RandomEngine:
  """An engine that draws from the legal points, its own eyes excepted, and passes without one.

  seed: of the draws, together with the number of moves drawn so far.
  """

  seed: int = 0
  name: str = 'random'
  sizes: Collection[int] = SIZES
  num_drawn: int = 0
  trained: RuleSet | None = None

  def analyze(self, position, player, seconds=None, *, cleanup=False, allowed=None):
    """Yields one analysis, of a random move; `seconds` and `cleanup` change nothing."""
    self.num_drawn += 1
    rng = np.random.default_rng((self.seed, self.num_drawn))
    legal = position.legal(player) & (True if allowed is None else allowed)
    points = np.flatnonzero(legal[:-1] & ~own_eyes(position, player))
    yield Analysis(int(rng.choice(points)) if len(points) else position.pass_action)

  def player(self, game: Go) -> Player:
    """Returns the compiled `playouts.random_moves`."""
    return _compile_player(game)

  def compile(self, position):
    """Compiles the search for eyes."""
    own_eyes(position, position.to_play)


@functools.cache
def _compile_player(game: Go) -> Player:
  return jax.jit(functools.partial(playouts.random_moves, game))
