"""AlphaGo's evaluation of a leaf: a value network's and a fast rollout's, mixed.

V(s) = (1 - lambda) v(s) + lambda z, z the outcome for the player to move (Silver et al. 2016,
Methods, 'Evaluation'; lambda = 0.5 played).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from mcts.alphago import patterns
from mcts.go import Go, State, playouts
from mcts.search.evaluators import Evaluate


def mixed(
  game: Go,
  policy: Callable[[State], Array],
  value: Callable[[State], Array],
  weights: Array | None = None,
  mixing: float = 0.5,
) -> Evaluate:
  """An evaluator of a policy's logits `[B, A]`, and lambda = `mixing` of the two values.

  value: states to `[B]`, not called where mixing is 1. weights: those of `mcts.alphago.patterns`,
  by which rollouts are played, else at random; where mixing is 0 none are.
  """
  if not 0 <= mixing <= 1:
    raise ValueError(f'mixing {mixing!r}: must be from 0 (values alone) to 1 (rollouts alone)')
  choose = playouts.random_moves if weights is None else patterns.moves(weights)
  roll = playouts.outcome(game, choose)

  def evaluate(states: State, keys: Array) -> tuple[Array, Array]:
    total = jnp.zeros_like(jax.random.key_data(keys)[:, 0], jnp.float32)
    if mixing < 1:
      total += (1 - mixing) * value(states)
    if mixing > 0:
      total += mixing * roll(states, keys)
    return policy(states), total

  return evaluate
