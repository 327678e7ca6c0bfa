"""Random games of Go by players who leave their own eyes alone, and the search's evaluator of them.

Without that rule games would not end before the cap on moves, and their outcomes would say little
of the position that they began from.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from mcts.game import sign
from mcts.go.game import Go
from mcts.go.state import State
from mcts.search import evaluators

MAX_LENGTH = 3  # times N^2: moves of a playout; it is scored as it stands then

Choose = Callable[[Go, State, Array], Array]
"""(game, states `[B, ...]`, typed keys `[B]`) -> actions int32 `[B]`."""


def random_moves(game: Go, states: State, keys: Array) -> Array:
  """Returns int32 `[B]`: a random legal point that is no eye of one's own, else a pass."""
  return jax.vmap(evaluators.random_action)(jax.vmap(game.rollout_legal)(states), keys)


def outcome(game: Go, choose: Choose) -> Callable[[State, Array], Array]:
  """Returns a function that plays one game to its end from each state, all moves by `choose`.

  It maps (states `[B, ...]`, typed keys `[B]`) to the outcomes z, float32 `[B]` in {-1, 0, 1} for
  the player to move.
  """

  def play(states: State, keys: Array) -> Array:
    end = evaluators.play_out(game, choose, states, keys, MAX_LENGTH * game.size * game.size)
    return jnp.sign(jax.vmap(game.score)(end)) * sign(jax.vmap(game.to_play)(states))

  return play


def rollout(game: Go) -> evaluators.Evaluate:
  """Returns the evaluator with a uniform policy and the outcome of one random game as the value."""
  prior, play = evaluators.uniform(game), outcome(game, random_moves)
  return lambda states, keys: (prior(states, keys)[0], play(states, keys))
