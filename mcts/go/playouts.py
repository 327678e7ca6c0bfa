"""Random games of Go by players who leave their own eyes alone, and the search's evaluator of them.

Without that bit of sense games would not end before the cap on moves, and their outcomes would say
little of the position that they began from.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from mcts.game import sign
from mcts.go.game import Go, State
from mcts.go.game import own_eyes as own_eyes_of
from mcts.search import evaluators

LONGEST = 3  # times N^2: moves of a game that is played out; it is scored as it stands then

Choose = Callable[[Go, State, Array], Array]
"""A game, states `[B, ...]` and typed keys `[B]` to actions `[B]`."""


def random_moves(game: Go, states: State, keys: Array) -> Array:
  """int32 `[B]`: a legal point at random, except what fills an eye of one's own; else a pass."""

  return jax.vmap(evaluators.random_action)(jax.vmap(game.rollout_legal)(states), keys)


def own_eyes(game: Go, state: State) -> Array:
  """bool `[N^2]`, of the player to move; see `chains.eyes`."""
  return own_eyes_of(game.rules, state)


def outcome(game: Go, choose: Choose) -> Callable[[State, Array], Array]:
  """(states, keys) -> float32 `[B]`: 1, -1 or 0 for the player to move, by one game from each."""

  def play(states: State, keys: Array) -> Array:
    end = evaluators.play_out(game, choose, states, keys, LONGEST * game.size * game.size)
    return jnp.sign(jax.vmap(game.score)(end)) * sign(jax.vmap(game.to_play)(states))

  return play


def rollout(game: Go) -> evaluators.Evaluate:
  """All moves alike; the value is the outcome of one random game."""
  prior, play = evaluators.uniform(game), outcome(game, random_moves)
  return lambda states, keys: (prior(states, keys)[0], play(states, keys))
