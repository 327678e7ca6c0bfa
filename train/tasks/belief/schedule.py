"""The stages of a run: RBM after RBM, then the whole net by the up-down algorithm."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from train.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rates:
  """How a mini-batch moves weights: v <- momentum v - rate (gradient + decay w);  w <- w + v.

  Attributes:
    learning_rate: of the mean gradient of a mini-batch.
    momentum: the factor of v.
    initial_momentum: in the first `initial_steps` of a stage.
    initial_steps: of the training loop.
    weight_decay: of weights, not of biases.
  """

  learning_rate: float = 0.1
  momentum: float = 0.9
  initial_momentum: float = 0.5
  initial_steps: int = 0
  weight_decay: float = 2e-4


@dataclasses.dataclass(frozen=True)
class Greedy(Rates):
  """Contrastive divergence (CD-1) of one RBM after another.

  Attributes:
    steps: of the training loop, one number for each RBM from the pixels up; the last is the top.
  """

  steps: tuple[int, ...] = (1, 1, 1)


@dataclasses.dataclass(frozen=True)
class UpDown(Rates):
  """The up-down algorithm, which trains the whole net.

  Attributes:
    steps: of the training loop, one number for each of `gibbs_steps`; () leaves it out.
    gibbs_steps: iterations of Gibbs sampling in the top RBM, in one stage after another.
    full_steps: of a last stage, on all training images, with the last of `gibbs_steps`.
  """

  learning_rate: float = 0.01
  momentum: float = 0.0
  weight_decay: float = 0.0
  steps: tuple[int, ...] = ()
  gibbs_steps: tuple[int, ...] = (3, 6, 10)
  full_steps: int = 0


class Stage(NamedTuple):
  """One stage: its name, its steps, what it trains and how.

  Attributes:
    name: 'RBM 1', 'up-down, 3 Gibbs iterations'.
    start: its first step.
    steps: how many it has.
    layer: the RBM that it trains, from 0; the number of RBMs where it trains the whole net.
    gibbs_steps: iterations in the top RBM.
    full: whether it learns from all training images, not only from the chosen ones.
    rates: learning rate, momentum, decay.
  """

  name: str
  start: int
  steps: int
  layer: int
  gibbs_steps: int
  full: bool
  rates: Rates


class Now(NamedTuple):
  """What a compiled step knows of its stage; scalars, which may be traced."""

  number: Array
  layer: Array
  gibbs_steps: Array
  is_first: Array
  learning_rate: Array
  momentum: Array
  weight_decay: Array

  def begin(self, velocity: Any) -> Any:
    """Returns momenta, of a stage's first step zeros."""
    return jax.tree.map(lambda v: jnp.where(self.is_first, 0, v), velocity)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The stages in order; the last one goes on as long as the run does."""

  stages: tuple[Stage, ...]

  def at(self, step: int) -> Stage:
    """Returns the stage of a step."""
    return [stage for stage in self.stages if stage.start <= step][-1]

  def now(self, step: Array) -> Now:
    """Returns a traced step's stage."""
    stages = self.stages
    number = jnp.sum(step >= np.array([stage.start for stage in stages])) - 1

    def column(values: Sequence[float]) -> Array:
      return jnp.asarray(np.array(values))[number]

    def of_rate(name: str) -> Array:
      return column([float(getattr(stage.rates, name)) for stage in stages])

    early = step < column([stage.start + stage.rates.initial_steps for stage in stages])
    return Now(
      number,
      column([stage.layer for stage in stages]),
      column([stage.gibbs_steps for stage in stages]),
      step == column([stage.start for stage in stages]),
      of_rate('learning_rate'),
      jnp.where(early, of_rate('initial_momentum'), of_rate('momentum')),
      of_rate('weight_decay'),
    )


def make_schedule(greedy: Greedy, updown: UpDown, num_rbms: int) -> Schedule:
  """Returns the stages that have any steps.

  Raises:
    UserError: a number is out of range, or there are too many or too few of them.
  """
  check(greedy, updown, num_rbms)
  stages: list[Stage] = []

  def add(name: str, steps: int, layer: int, gibbs: int, full: bool, rates: Rates) -> None:
    start = stages[-1].start + stages[-1].steps if stages else 0
    if steps:
      stages.append(Stage(name, start, steps, layer, gibbs, full, rates))

  for i, steps in enumerate(greedy.steps):
    add(f'RBM {i + 1}', steps, i, 1, False, greedy)
  for steps, gibbs in zip(updown.steps, updown.gibbs_steps, strict=False):
    add(f'up-down, {gibbs} Gibbs iterations', steps, num_rbms, gibbs, False, updown)
  if updown.full_steps:
    name = 'up-down, all images'
    add(name, updown.full_steps, num_rbms, updown.gibbs_steps[-1], True, updown)
  if not stages:
    raise UserError('task.greedy.steps and task.updown.steps: no stage has any steps')
  return Schedule(tuple(stages))


def check(greedy: Greedy, updown: UpDown, num_rbms: int) -> None:
  """Raises UserError for what cannot be a schedule of so many RBMs."""

  def require(holds: bool, key: str, value: object, rule: str) -> None:
    if not holds:
      raise UserError(f'task.{key}={value}: must be {rule}')

  for name, rates in (('greedy', greedy), ('updown', updown)):
    steps = rates.steps
    require(min(steps, default=0) >= 0, f'{name}.steps', steps, 'at least 0')
    require(rates.initial_steps >= 0, f'{name}.initial_steps', rates.initial_steps, 'at least 0')
    for key in ('learning_rate', 'weight_decay'):
      value = getattr(rates, key)
      require(0 <= value < 10, f'{name}.{key}', value, 'at least 0 and below 10')
    for key in ('momentum', 'initial_momentum'):
      require(0 <= getattr(rates, key) < 1, f'{name}.{key}', getattr(rates, key), 'in [0, 1)')
  rule = f'{num_rbms} numbers, one for each RBM of the model'
  require(len(greedy.steps) == num_rbms, 'greedy.steps', greedy.steps, rule)
  gibbs = updown.gibbs_steps
  require(min(gibbs, default=0) >= 1, 'updown.gibbs_steps', gibbs, 'one number or more, from 1')
  rule = f'() or {len(gibbs)} numbers, one for each of updown.gibbs_steps'
  require(len(updown.steps) in (0, len(gibbs)), 'updown.steps', updown.steps, rule)
  require(updown.full_steps >= 0, 'updown.full_steps', updown.full_steps, 'at least 0')
