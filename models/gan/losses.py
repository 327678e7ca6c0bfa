"""What discriminator and generator minimise: functions of the discriminator's logits.

A logit is the log odds of an image being real, so that D = sigmoid(logit). Written with softplus,
which overflows nowhere: -log D = softplus(-logit) and -log(1 - D) = softplus(logit).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
from jax import Array


@dataclasses.dataclass(frozen=True)
class Objective:
  """A game of two.

  discriminator: maps logits of real and of generated images, `[B]` each, to its loss `[B]`.
  generator: maps the logits of generated images `[B]` to its loss `[B]`.
  chance: both losses where the discriminator cannot tell at all, its logits being 0.
  """

  discriminator: Callable[[Array, Array], Array]
  generator: Callable[[Array], Array]
  chance: tuple[float, float]


def cross_entropy(real: Array, fake: Array) -> Array:
  """Returns -log D(x) - log(1 - D(G(z))), in nats (Goodfellow et al. 2014, eq. 1)."""
  return jax.nn.softplus(-real) + jax.nn.softplus(fake)


def non_saturating(fake: Array) -> Array:
  """Returns -log D(G(z)), whose gradient is large where D is sure (2014, section 3)."""
  return jax.nn.softplus(-fake)


def saturating(fake: Array) -> Array:
  """Returns log(1 - D(G(z))): the minimax game itself (2014, eq. 1)."""
  return -jax.nn.softplus(fake)


def hinge(real: Array, fake: Array) -> Array:
  """Returns max(0, 1 - real) + max(0, 1 + fake) (Lim and Ye 2017; Miyato et al. 2018, eq. 16)."""
  return jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)


LOSSES: Mapping[str, Objective] = {
  'non_saturating': Objective(cross_entropy, non_saturating, (2 * math.log(2), math.log(2))),
  'saturating': Objective(cross_entropy, saturating, (2 * math.log(2), -math.log(2))),
  'hinge': Objective(hinge, lambda fake: -fake, (2.0, 0.0)),
}
