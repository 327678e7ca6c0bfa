"""Learning-rate schedules after the warm-up: `(options, step, steps) -> learning rate`."""

from collections.abc import Callable
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

Schedule = Callable[[Any], Array]
"""Step (an int or a traced int32 scalar, 0 for the first) -> learning rate, a float32 scalar."""


class ScheduleOptions(Protocol):
  """What a schedule reads of `train.optim.Optimizer`, where each option is explained."""

  @property
  def learning_rate(self) -> float: ...
  @property
  def warmup_steps(self) -> int: ...
  @property
  def final_learning_rate(self) -> float: ...
  @property
  def milestones(self) -> tuple[int, ...]: ...
  @property
  def factor(self) -> float | tuple[float, ...]: ...


def constant(options: ScheduleOptions, step: Array, steps: int) -> Array:
  """Returns `learning_rate`."""
  return jnp.full_like(step, options.learning_rate)


def linear(options: ScheduleOptions, step: Array, steps: int) -> Array:
  """Decays linearly from the end of the warm-up to the end of the training."""
  return _between(options, 1 - _progress(options, step, steps))


def cosine(options: ScheduleOptions, step: Array, steps: int) -> Array:
  """Decays by half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts)."""
  return _between(options, 0.5 * (1 + jnp.cos(jnp.pi * _progress(options, step, steps))))


def piecewise(options: ScheduleOptions, step: Array, steps: int) -> Array:
  """Returns a rate that is constant between milestones."""
  factors = np.broadcast_to(options.factor, len(options.milestones))
  levels = options.learning_rate * np.cumprod([1.0, *factors])
  passed = sum((step >= milestone).astype(int) for milestone in options.milestones)
  return jnp.asarray(levels, jnp.float32)[passed]


def rsqrt(options: ScheduleOptions, step: Array, steps: int) -> Array:
  """Decays as 1 / sqrt(step) from the warm-up's end (Vaswani 2017, section 5.3, equation 3)."""
  return options.learning_rate * jnp.sqrt(max(options.warmup_steps, 1) / (step + 1))


def exponential(options: ScheduleOptions, step: Array, steps: int) -> Array:
  """Multiplies the rate by `factor` at each step, down to `final_learning_rate`."""
  rate = options.learning_rate * jnp.power(jnp.float32(options.factor), step)
  return jnp.maximum(rate, options.final_learning_rate)


SCHEDULES: dict[str, Callable[[ScheduleOptions, Array, int], Array]] = {
  'constant': constant,
  'linear': linear,
  'cosine': cosine,
  'piecewise': piecewise,
  'rsqrt': rsqrt,
  'exponential': exponential,
}


def _progress(options: ScheduleOptions, step: Array, steps: int) -> Array:
  """Returns 0 at the end of the warm-up, rising linearly to 1 at the end of the training."""
  span = max(steps - options.warmup_steps, 1)
  return jnp.clip((step - options.warmup_steps) / span, 0, 1)


def _between(options: ScheduleOptions, share: Array) -> Array:
  """Interpolates from `final_learning_rate` (share 0) to `learning_rate` (share 1)."""
  final = options.final_learning_rate
  return final + (options.learning_rate - final) * share
