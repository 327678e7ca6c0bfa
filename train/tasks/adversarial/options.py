"""The groups of options of the task `gan`, each a section of a config."""

import dataclasses
from typing import Any

from train.errors import UserError


@dataclasses.dataclass(frozen=True)
class Regularization:
  """What keeps the discriminator smooth.

  r1: gamma of the penalty gamma / 2 E |grad_x D(x)|² on real images; 0 for none.
  r1_interval: steps for one with the penalty, on average, which then counts as many times. Which
    ones is drawn from the step's key, so that all microbatches and devices agree.
  spectral_norm: whether the discriminator's kernels are divided by their largest singular value.
  """

  r1: float = 0.0
  r1_interval: int = 16
  spectral_norm: bool = False

  def __post_init__(self):
    require('regularization.r1', self.r1, 0 <= self.r1 < 1e6, 'must be at least 0')
    require('regularization.r1_interval', self.r1_interval, self.r1_interval >= 1, AT_LEAST_1)


@dataclasses.dataclass(frozen=True)
class DrawingOptions:
  """How images are drawn; may change after training.

  num_preview_samples: images drawn at each evaluation in training, 0 for none.
  sample_batch_size: images drawn at a time.
  statistics_batch: fixed latents by whose batch the generator's batch normalisation is done, so
    that an image depends on its own latent alone; 0 for the running averages of training, which lag
    behind averaged weights.
  """

  num_preview_samples: int = 64
  sample_batch_size: int = 256
  statistics_batch: int = 1024

  def __post_init__(self):
    for name in ('num_preview_samples', 'statistics_batch'):
      value = getattr(self, name)
      require(f'sampling.{name}', value, value >= 0, 'must be at least 0')
    size = self.sample_batch_size
    require('sampling.sample_batch_size', size, size >= 1, AT_LEAST_1)


AT_LEAST_1 = 'must be at least 1'


def require(key: str, value: Any, holds: bool, rule: str) -> None:
  """Raises UserError unless a key of the section `task` keeps the rule."""
  if not holds:
    raise UserError(f'task.{key}={value!r}: {rule}')


REGULARIZATION = Regularization()
SAMPLING = DrawingOptions()
