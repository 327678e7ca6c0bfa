"""The groups of options of the tasks `diffusion` and `consistency`, each a section of a config.

Specs such as 'vp(beta_max=10)' choose from a table by name and change some of its defaults.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from data import spec
from models.diffusion import guidance, losses
from train import config as config_lib
from train.errors import UserError, unknown, user_errors

HYBRID = 'hybrid'  # the loss that trains a learned variance
WEIGHTINGS = (*losses.WEIGHTINGS, HYBRID)
CONDITIONS = ('none', 'label', 'caption')
THRESHOLDS = ('none', *guidance.THRESHOLDS)


@dataclasses.dataclass(frozen=True)
class Loss:
  """What is minimised, and at which times.

  weighting: a name of `losses.WEIGHTINGS`, or 'hybrid' for a network of `learned_variance`.
  time_distribution: spec of `losses.TIME_DISTRIBUTIONS`, the distribution of training times.
  low_discrepancy: spreads the times of a batch evenly.
  cond_drop_prob: probability that an image is trained on without its condition, [0, 1], as
    classifier-free guidance needs it.
  """

  weighting: str = 'simple'
  time_distribution: str = 'uniform'
  low_discrepancy: bool = True
  cond_drop_prob: float = 0.1

  def __post_init__(self):
    require_choice('loss.weighting', self.weighting, WEIGHTINGS)
    probability = self.cond_drop_prob
    require('loss.cond_drop_prob', probability, 0 <= probability <= 1, 'must be in [0, 1]')


@dataclasses.dataclass(frozen=True)
class Conditioning:
  """What the network is conditioned on beside the noise level.

  on: 'none', 'label' (the class), or 'caption' (a text made of the class's name).
  caption: the caption, in which {} stands for the class's name.
  """

  on: str = 'none'
  caption: str = 'a picture of {}'

  def __post_init__(self):
    require_choice('conditioning.on', self.on, CONDITIONS)


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
  """How images are drawn; may change after training.

  sampler: spec of `samplers.SAMPLERS`.
  timestep_schedule: spec of `timesteps.TIMESTEP_SCHEDULES`.
  num_steps: number of timesteps, >= 2.
  guidance_scale: of classifier-free guidance, or of a classifier's; 1 for none.
  guidance_interval: noise levels sigma / alpha between which classifier-free guidance is used.
  threshold: 'none', or 'static' or 'dynamic' clipping of x_0, see `guidance.threshold`.
  num_preview_samples: images drawn at each evaluation in training, 0 for none.
  sample_batch_size: images drawn at a time.
  """

  sampler: str = 'ddim'
  timestep_schedule: str = 'uniform'
  num_steps: int = 50
  guidance_scale: float = 1.0
  guidance_interval: tuple[float, float] | None = None
  threshold: str = 'none'
  num_preview_samples: int = 36
  sample_batch_size: int = 64

  def __post_init__(self):
    require_choice('sampling.threshold', self.threshold, THRESHOLDS)
    require_scale('sampling', self.guidance_scale)
    low, high = self.guidance_interval or (0, 1)
    rule = 'must be two noise levels, the lower one first'
    require('sampling.guidance_interval', self.guidance_interval, 0 <= low < high, rule)
    require_at_least('sampling', self, num_steps=2, num_preview_samples=0, sample_batch_size=1)


@dataclasses.dataclass(frozen=True)
class ConsistencySampling:
  """How images are drawn from a consistency function; may change after training.

  num_steps: evaluations of the network per image, >= 1.
  num_preview_samples: images drawn at each evaluation in training, 0 for none.
  sample_batch_size: images drawn at a time.
  """

  num_steps: int = 1
  num_preview_samples: int = 36
  sample_batch_size: int = 64

  def __post_init__(self):
    require_at_least('sampling', self, num_steps=1, num_preview_samples=0, sample_batch_size=1)


@dataclasses.dataclass(frozen=True)
class Distillation:
  """What a consistency function is distilled from.

  num_levels: noise levels between which the teacher makes its steps, >= 2.
  guidance_scale: the teacher's classifier-free guidance, which the student learns to do without.
  """

  num_levels: int = 18
  guidance_scale: float = 1.0

  def __post_init__(self):
    require_scale('distillation', self.guidance_scale)
    require_at_least('distillation', self, num_levels=2)


# -------- checks --------


def require(key: str, value: Any, holds: bool, rule: str) -> None:
  """Raises UserError unless a key of the section `task` keeps the rule."""
  if not holds:
    raise UserError(f'task.{key}={value!r}: {rule}')


def require_choice(key: str, value: str, choices: Collection[str]) -> None:
  """Raises UserError, with the nearest choice, unless the value is one of the choices."""
  if value not in choices:
    raise unknown(f'task.{key}={value!r}', value, f'no such {key.split(".")[-1]}', choices)


def require_at_least(section: str, options: Any, **least: int) -> None:
  """Raises UserError for a field of the options that is below its least value."""
  for name, bound in least.items():
    value = getattr(options, name)
    require(f'{section}.{name}', value, value >= bound, f'must be at least {bound}')


def require_scale(section: str, scale: float) -> None:
  """Raises UserError unless a guidance scale is a number that float32 holds."""
  require(f'{section}.guidance_scale', scale, abs(scale) < 3e38, 'must be a finite number')


def require_unconditional(cond_drop_prob: float, guidance_scale: float) -> None:
  """Raises UserError if the unconditional half of classifier-free guidance was never trained."""
  if cond_drop_prob == 0 and guidance_scale != 1:
    raise UserError(
      f'guidance_scale={guidance_scale:g} with task.loss.cond_drop_prob=0: guidance needs a network'
      ' that was also trained without its condition; set cond_drop_prob above 0, or the scale to 1'
    )


def build_spec(text: str, table: Mapping[str, Callable], key: str, **given: Any) -> Any:
  """Builds what a spec such as 'heun(churn=10)' names in the table; UserError for other text."""
  with user_errors():
    where = f'task.{key}'
    return config_lib.build(spec.section(text, where), table, where, **given)


# -------- defaults of the tasks --------

LOSS = Loss()
CONDITIONING = Conditioning()
SAMPLING = SamplerOptions()
CONSISTENCY_SAMPLING = ConsistencySampling()
DISTILLATION = Distillation()
