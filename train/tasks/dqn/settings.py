"""Sections of the config of the task `dqn`. A frame is one step of one environment."""

import dataclasses
from typing import Any

from train.errors import UserError

LONGEST = 100  # of a history, or of the rewards that are added up: both are unrolled


def require(key: str, value: Any, holds: bool, rule: str) -> None:
  """Raises UserError 'task.key=value: rule' unless it holds."""
  if not holds:
    raise UserError(f'task.{key}={value!r}: {rule}')


def at_least(key: str, value: int, least: int) -> None:
  """Raises UserError unless the value is at least `least`."""
  require(key, value, value >= least, f'must be at least {least}')


@dataclasses.dataclass(frozen=True)
class EpsilonSettings:
  """Epsilon, the probability of a random action: 1 until learning begins, then it falls linearly.

  final: where it ends.
  frames: over how many, of each seed.
  """

  final: float = 0.1
  frames: int = 100_000

  def __post_init__(self):
    require('exploration.final', self.final, 0 <= self.final <= 1, 'must be in [0, 1]')
    at_least('exploration.frames', self.frames, 1)


@dataclasses.dataclass(frozen=True)
class ExperienceSettings:
  """The replay; numbers are frames of each seed, over all its environments.

  capacity: that are kept.
  min_size: that are played at random before the first update.
  priority: alpha, the exponent of a transition's priority; 0 samples uniformly (Schaul et al. 2016,
    equation 1).
  correction: beta, the exponent of the weights that correct for it (section 3.4).
  """

  capacity: int = 100_000
  min_size: int = 5_000
  priority: float = 0.0
  correction: float = 0.4

  def __post_init__(self):
    at_least('replay.capacity', self.capacity, 1)
    at_least('replay.min_size', self.min_size, 1)
    rule = f'must be at most task.replay.capacity={self.capacity}'
    require('replay.min_size', self.min_size, self.min_size <= self.capacity, rule)
    for name in ('priority', 'correction'):
      value = getattr(self, name)
      require(f'replay.{name}', value, 0 <= value <= 1, 'must be in [0, 1]')


@dataclasses.dataclass(frozen=True)
class TargetSettings:
  """What a transition is worth: r + discount max_a Q'(s', a), Q' the target network.

  discount: gamma.
  every: updates between two copies of the network to the target network.
  n_step: rewards that are added up before the bootstrap (Sutton 1988).
  double: whether the network itself chooses the action that Q' values (van Hasselt et al. 2016).
  """

  discount: float = 0.99
  every: int = 1_000
  n_step: int = 1
  double: bool = False

  def __post_init__(self):
    require('target.discount', self.discount, 0 <= self.discount <= 1, 'must be in [0, 1]')
    at_least('target.every', self.every, 1)
    rule = f'must be at least 1 and at most {LONGEST}'
    require('target.n_step', self.n_step, 1 <= self.n_step <= LONGEST, rule)


@dataclasses.dataclass(frozen=True)
class EpisodeSettings:
  """What is measured during training and by the verb eval.

  episodes: of each seed.
  epsilon: the probability of a random action in them.
  max_steps: after which an episode is counted as it stands.
  preview: whether each evaluation leaves an episode as a moving picture.
  """

  episodes: int = 30
  epsilon: float = 0.05
  max_steps: int = 5_000
  preview: bool = True

  def __post_init__(self):
    at_least('evaluation.episodes', self.episodes, 1)
    at_least('evaluation.max_steps', self.max_steps, 1)
    require('evaluation.epsilon', self.epsilon, 0 <= self.epsilon <= 1, 'must be in [0, 1]')
