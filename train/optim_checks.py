"""Checks of an optimiser's options, alone and together with the number of steps."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

LARGEST_RATE = 1e4  # beyond it a step or two overflow
SMALLEST = 1e-37  # of what float32 holds in full

Range = tuple[float, float]  # from the first number to below the second
DECAY_RATE: Range = (0.0, 1.0)  # of a moving average
DIVISOR: Range = (SMALLEST, np.inf)

RATES = ('learning_rate', 'final_learning_rate', 'warmup_learning_rate', 'weight_decay')


def check_ranges(options: Any, ranges: Mapping[str, Range]) -> None:
  """Raises UserError for a number of an `optim.Optimizer` that no training can have.

  ranges: those of the options that its subclass adds.
  """
  options.require('warmup_steps', options.warmup_steps >= 0, 'at least 0')
  for key in RATES:
    value = getattr(options, key) or 0.0
    rule = f'at least 0, and if not 0 from {SMALLEST:g} to {LARGEST_RATE:g}'
    options.require(key, value == 0 or SMALLEST <= value <= LARGEST_RATE, rule)
  clip, milestones = options.clip_norm, list(options.milestones)
  options.require('clip_norm', clip is None or clip >= SMALLEST, 'above 0, or none')
  rising = milestones == sorted(set(milestones)) and min(milestones, default=0) >= 0
  options.require('milestones', rising, 'rising steps')
  options.require('factor', 0 < np.min(options.factor) < np.inf, 'above 0')
  for key, (least, bound) in ranges.items():
    rule = f'at least {least:g}' + (f', below {bound:g}' if bound < np.inf else '')
    options.require(key, least <= np.float32(getattr(options, key)) < bound, rule)


def doubts(options: Any, steps: int) -> Iterator[str]:
  """Yields what of an `optim.Optimizer` has no effect, or an odd one, in so many steps."""
  rate, final, shape = options.learning_rate, options.final_learning_rate, options.schedule
  decay, milestones = options.weight_decay, options.milestones
  if rate == 0:
    yield 'learning_rate=0: nothing will be learned'
  if options.warmup_steps >= steps:
    yield f'warmup_steps={options.warmup_steps} of train.steps={steps}: the warm-up does not end'
  if options.warmup_learning_rate is not None and not options.warmup_steps:
    yield f'warmup_learning_rate={options.warmup_learning_rate}: acts in warmup_steps, which are 0'
  if shape == 'piecewise' and max(milestones, default=steps) >= steps:
    yield f'milestones={milestones} of train.steps={steps}: some or all are not reached'
  if shape != 'piecewise' and milestones:
    yield f'milestones={milestones}: act in schedule=piecewise alone, not in {shape}'
  if final and shape not in ('linear', 'cosine', 'exponential'):
    yield (
      f'final_learning_rate={final}: acts in schedule=linear, cosine or exponential, not in {shape}'
    )
  elif final > rate:
    yield f'final_learning_rate={final}: is above learning_rate={rate}'
  if rate * decay >= 1:
    yield f'weight_decay={decay} with learning_rate={rate}: a step takes all of a weight away'
  if options.decay == 'all' and not decay:
    yield 'decay=all: says what decays by weight_decay, which is 0'
