"""What a transition is worth, and the loss of a prediction of it."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from train.tasks.dqn.actor import stacked
from train.tasks.dqn.replay import Transitions

Network = Callable[[Array], Array]
"""From histories as `stacked` returns them, `[N, S, ...]`, to each seed's Q values `[N, S, A]`."""


def td_targets(sample: Transitions, network: Network, target: Network, *, double: bool) -> Array:
  """Returns float32 `[N, S]`: reward + discount Q'(s', a), with Q' the target network.

  a is the best action by Q', or with `double` by the network (van Hasselt et al. 2016, equation 4).
  """
  following = stacked(sample.next_frames, 2)
  values = target(following)
  best = (network(following) if double else values).argmax(-1)
  return sample.reward + sample.discount * chosen(values, best)


def chosen(q: Array, action: Array) -> Array:
  """Returns `[...]` of Q values `[..., A]`, those of the actions."""
  return jnp.take_along_axis(q, action[..., None], axis=-1)[..., 0]


def huber(error: Array) -> Array:
  """Returns error² / 2, and beyond 1 the line that goes on from it.

  Its derivative is the error clipped to [-1, 1], which is what Mnih et al. 2015 clip: to clip the
  error itself would leave no gradient where it is large.
  """
  size = jnp.abs(error)
  return jnp.where(size <= 1, 0.5 * error**2, size - 0.5)
