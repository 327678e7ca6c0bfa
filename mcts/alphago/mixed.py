"""AlphaGo's evaluation of a leaf: a value network's value mixed with a fast rollout's outcome.

V(s) = (1 - lambda) v(s) + lambda z, z the outcome for the player to move (Silver et al. 2016,
Methods, 'Search algorithm', evaluation; AlphaGo played with lambda = 0.5).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from mcts.alphago import rollout_policy
from mcts.go import Go, State, playouts
from mcts.search.evaluators import Evaluate


def evaluator(
  game: Go,
  policy: Callable[[State], Array],
  value: Callable[[State], Array],
  rollout_weights: Array | None = None,
  mixing: float = 0.5,
) -> Evaluate:
  """Returns the search's evaluator of a policy and the mixed value.

  Args:
    game: the rules.
    policy: states `[B, ...]` -> logits `[B, N^2 + 1]`, the prior.
    value: states -> v, float32 `[B]`; not called where mixing is 1.
    rollout_weights: of the rollout policy, `[rollout_policy.COUNT]`; rollouts are random without.
    mixing: lambda, from 0 (values alone, no rollout is played) to 1 (rollouts alone).

  Raises:
    ValueError: if mixing is out of range.
  """
  if not 0 <= mixing <= 1:
    raise ValueError(f'mixing {mixing!r}: must be from 0 (values alone) to 1 (rollouts alone)')
  choose: playouts.Choose = playouts.random_moves
  if rollout_weights is not None:
    choose = rollout_policy.player(rollout_weights)
  play_out = playouts.outcome(game, choose)

  def evaluate(states: State, keys: Array) -> tuple[Array, Array]:
    mixed = jnp.zeros_like(jax.random.key_data(keys)[:, 0], jnp.float32)
    if mixing < 1:
      mixed += (1 - mixing) * value(states)
    if mixing > 0:
      mixed += mixing * play_out(states, keys)
    return policy(states), mixed

  return evaluate
