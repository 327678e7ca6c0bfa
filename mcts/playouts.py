"""Random games of Go by players who leave their own eyes alone, and the search's evaluator of them.

Without that bit of sense games would not end before the cap on moves, and their outcomes would say
little of the position that they began from.
"""

import jax
import jax.numpy as jnp
from jax import Array

from mcts import chains, evaluators
from mcts.go import Go, State


def random_moves(game: Go, states: State, keys: Array) -> Array:
  """int32 `[B]`: a legal point at random, except what fills an eye of one's own; else a pass."""

  def choose(state, key):
    points = game.legal(state)[:-1] & ~own_eyes(game, state)
    return evaluators.draw(jnp.append(points, ~points.any()), key)

  return jax.vmap(choose)(states, keys)


def own_eyes(game: Go, state: State) -> Array:
  """bool `[N^2]`, of the player to move; see `chains.eyes`."""
  player = (1 - 2 * game.to_play(state)).astype(state.chains.dtype)
  return chains.eyes(state.chains * player, game.size)


def rollout(game: Go) -> evaluators.Evaluate:
  """All moves alike; the value is the area's outcome after one such game of 3 N^2 turns at most."""
  prior, longest = evaluators.uniform(game), 3 * game.size * game.size

  def assess(states, keys):
    end = evaluators.play_out(game, random_moves, states, keys, longest)
    sign = 1 - 2 * jax.vmap(game.to_play)(states)
    value = jnp.sign(jax.vmap(game.score)(end)) * sign.astype(jnp.float32)
    return prior(states, keys)[0], value

  return assess
