"""Optimisers, by the names that a config's section `optimizer` uses."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from optax import contrib

from train import config as config_lib
from train.errors import UserError, unknown
from train.muon import apart, hidden, like_adam, matrices
from train.optim_checks import DECAY_RATE, DIVISOR, Range, check_ranges, doubts
from train.schedules import SCHEDULES, Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """The options that all optimisers share; a subclass adds its update rule, `scale`.

  Attributes:
    learning_rate: the peak of the schedule.
    schedule: constant, linear, cosine, piecewise, rsqrt or exponential.
    warmup_steps: steps over which the rate rises linearly from 0.
    warmup_learning_rate: a constant rate during the warm-up instead (ResNet-110: He 2015, section
      4.2).
    final_learning_rate: where the schedules cosine and linear end; the least rate of exponential.
    milestones, factor: of the schedule piecewise, whose rate is multiplied by `factor` (one number,
      or one a milestone) once the step reaches a milestone; that of exponential, at each step.
    clip_norm: the largest global norm of the loss's gradient, before any weight decay is added.
    weight_decay: the factor of the decay.
    decay: which parameters decay: 'kernels' (those with two axes or more whose name is not bias or
      scale) or 'all' (as in the AlexNet and ResNet papers).
  """

  learning_rate: float
  schedule: str = 'constant'
  warmup_steps: int = 0
  warmup_learning_rate: float | None = None
  final_learning_rate: float = 0.0
  milestones: tuple[int, ...] = ()
  factor: float | tuple[float, ...] = 0.1
  clip_norm: float | None = None
  weight_decay: float = 0.0
  decay: str = 'kernels'

  ranges: ClassVar[Mapping[str, Range]] = {}  # of the options that a subclass adds
  choices: ClassVar[Mapping[str, type]]  # OPTIMIZERS, for a section within a section

  def __post_init__(self) -> None:
    for key, choices in (('schedule', SCHEDULES), ('decay', DECAYS)):
      value = getattr(self, key)
      if value not in choices:
        raise unknown(f'optimizer.{key}={value!r}', value, f'no such {key}', choices)
    check_ranges(self, self.ranges)
    fits = not isinstance(self.factor, tuple) or len(self.factor) == len(self.milestones)
    self.require('factor', fits, f'one number, or {len(self.milestones)} (one a milestone)')

  def require(self, key: str, holds: bool, rule: str) -> None:
    """Raises UserError with the `rule` in words unless it `holds` for the option `key`."""
    if not holds:
      raise UserError(f'optimizer.{key}={getattr(self, key)!r}: must be {rule}')

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    """Returns the transformation from gradients to updates, weight decay included."""
    raise NotImplementedError

  def make_schedule(self, steps: int) -> Schedule:
    """Returns the learning rate as a function of the step, for a training of `steps` steps."""
    shape = SCHEDULES[self.schedule]

    def rate(step: Any) -> Array:
      step = jnp.asarray(step, jnp.float32)
      main = shape(self, step, steps)
      if self.warmup_learning_rate is None:
        early = self.learning_rate * (step + 1) / max(self.warmup_steps, 1)
      else:
        early = jnp.float32(self.warmup_learning_rate)
      return jnp.where(step < self.warmup_steps, early, main)

    return rate

  def make(self, steps: int) -> tuple[optax.GradientTransformation, Schedule]:
    """Returns the whole transformation, clipping first, and its schedule."""
    rate = self.make_schedule(steps)
    clip = optax.identity() if self.clip_norm is None else optax.clip_by_global_norm(self.clip_norm)
    return optax.chain(clip, self.scale(rate)), rate

  def doubts(self, steps: int) -> Iterator[str]:
    """Yields what has no effect, or an odd one, in so many steps."""
    return doubts(self, steps)

  def add_decay(self) -> optax.GradientTransformation:
    """Adds `weight_decay` times the parameter: to the gradient or to the update, by its place."""
    if not self.weight_decay:
      return optax.identity()
    return optax.add_decayed_weights(self.weight_decay, mask=DECAYS[self.decay])


# -------- the optimisers --------


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
  """Stochastic gradient descent: v <- momentum v + gradient + weight_decay w;  w <- w - rate v.

  Attributes:
    momentum: the factor of v.
    momentum_steps: steps in which the factor changes linearly to `final_momentum`; 0: it does not.
    final_momentum: where it ends.
    nesterov: looks ahead by Nesterov's rule.
    rate_in_momentum: keeps the rate of each step in v, v <- momentum v + rate (gradient + ...) and
      w <- w - v (Krizhevsky 2012, section 5). The two differ once the rate has changed.
  """

  ranges = {'momentum': DECAY_RATE, 'final_momentum': DECAY_RATE, 'momentum_steps': (0.0, np.inf)}
  momentum: float = 0.9
  momentum_steps: int = 0
  final_momentum: float = 0.9
  nesterov: bool = False
  rate_in_momentum: bool = False

  def trace(self) -> optax.GradientTransformation:
    """Returns the transformation of gradients into v."""
    if not self.momentum_steps:
      return optax.trace(self.momentum, self.nesterov) if self.momentum else optax.identity()
    factor = optax.linear_schedule(self.momentum, self.final_momentum, self.momentum_steps)
    changing = optax.inject_hyperparams(optax.trace, static_args='nesterov')
    return changing(decay=factor, nesterov=self.nesterov)

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    descend = optax.scale_by_learning_rate(rate)
    both = self.trace(), descend
    last = both[::-1] if self.rate_in_momentum else both
    return optax.chain(self.add_decay(), *last)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
  """Kingma and Ba 2015, algorithm 1. Weight decay is L2 regularisation: it enters the moments.

  Attributes:
    b1: decay of the mean of gradients.
    b2: decay of the mean of squared gradients.
    eps: added to the root of the latter.
  """

  ranges = {'b1': DECAY_RATE, 'b2': DECAY_RATE, 'eps': DIVISOR}
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8

  def moments(self) -> optax.GradientTransformation:
    return optax.scale_by_adam(self.b1, self.b2, self.eps)

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    return optax.chain(self.add_decay(), self.moments(), optax.scale_by_learning_rate(rate))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adadelta(Optimizer):
  """Zeiler 2012 (arXiv 1212.5701), algorithm 1; its own rate is 1.

  Attributes:
    rho: decay of the means of squared gradients and of squared updates.
    eps: added to both before their roots.
  """

  ranges = {'rho': DECAY_RATE, 'eps': DIVISOR}
  rho: float = 0.95
  eps: float = 1e-6

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    adapt = optax.scale_by_adadelta(self.rho, self.eps)
    return optax.chain(self.add_decay(), adapt, optax.scale_by_learning_rate(rate))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
  """Loshchilov and Hutter 2019, algorithm 2: w shrinks by rate times weight_decay, outside Adam."""

  weight_decay: float = 0.01

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    return optax.chain(self.moments(), self.add_decay(), optax.scale_by_learning_rate(rate))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RMSProp(Optimizer):
  """Gradients over their root mean square, or standard deviation (Mnih et al. 2015: centred).

  Attributes:
    decay_rate: of the averages of gradients and of their squares.
    eps: added to the variance, within the root.
    centred: whether the mean gradient's square is taken off the mean square.
  """

  ranges = {'decay_rate': DECAY_RATE, 'eps': DIVISOR}
  decay_rate: float = 0.95
  eps: float = 0.01
  centred: bool = True

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    by = optax.scale_by_stddev if self.centred else optax.scale_by_rms
    scaled = by(self.decay_rate, self.eps, eps_in_sqrt=True)
    return optax.chain(self.add_decay(), scaled, optax.scale_by_learning_rate(rate))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LAMB(Adam):
  """You et al. 2020, algorithm 2: AdamW whose update of each array has the norm of the array."""

  eps: float = 1e-6
  weight_decay: float = 0.01

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    return optax.chain(
      self.moments(),
      self.add_decay(),
      optax.scale_by_trust_ratio(),
      optax.scale_by_learning_rate(rate),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LARS(Optimizer):
  """You et al. 2017, algorithm 1: SGD with a rate for each kernel.

  It is in proportion to |w| / |gradient + weight_decay w|; the rate enters the momentum.

  Attributes:
    momentum: the factor of the last update.
    trust: the factor of that ratio.
  """

  ranges = {'momentum': DECAY_RATE, 'trust': DIVISOR}
  momentum: float = 0.9
  trust: float = 0.001

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    return optax.chain(
      self.add_decay(),
      optax.masked(optax.scale_by_trust_ratio(trust_coefficient=self.trust), kernels),
      optax.scale_by_learning_rate(rate),
      optax.trace(self.momentum),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(Adam):
  """Orthogonalised momentum for hidden matrices, AdamW for all else (Jordan 2024).

  The singular values of a matrix's momentum are made nearly 1 by five Newton-Schulz iterations
  (kellerjordan.github.io/posts/muon).

  Hidden matrices are the parameters called kernel, each layer's of a stack for itself (`hidden`);
  embeddings, and a head called so, norms and biases are not. Updates are 0.2 sqrt(max(rows,
  columns)) times that matrix, which gives their elements the root mean square of AdamW's: one
  learning rate and one weight decay serve all (Liu et al. 2025, arXiv 2502.16982, equation 4).

  Attributes:
    momentum: the factor of the last update of hidden matrices.
  """

  ranges = {**Adam.ranges, 'momentum': DECAY_RATE}
  momentum: float = 0.95
  weight_decay: float = 0.01

  def scale(self, rate: Schedule) -> optax.GradientTransformation:
    muon = optax.chain(
      contrib.scale_by_muon(beta=self.momentum, weight_dimension_numbers=matrices),
      optax.stateless(lambda updates, params: jax.tree.map(like_adam, updates)),
    )
    updates = apart(hidden, muon, self.moments())
    return optax.chain(updates, self.add_decay(), optax.scale_by_learning_rate(rate))


OPTIMIZERS: dict[str, type[Optimizer]] = {
  'sgd': SGD,
  'adam': Adam,
  'adamw': AdamW,
  'rmsprop': RMSProp,
  'adadelta': Adadelta,
  'lamb': LAMB,
  'lars': LARS,
  'muon': Muon,
}
Optimizer.choices = OPTIMIZERS


SECTIONS: dict[str, Any] = {**OPTIMIZERS, 'adversarial': 'train.optim_adversarial:Adversarial'}
"""What the section `optimizer` of a config chooses from: one of these, or one for each network."""


def make_optimizer(
  name: str, *, steps: int, **options: Any
) -> tuple[optax.GradientTransformation, Schedule]:
  """Returns the transformation and the schedule of a completed section `optimizer`.

  Build it once a run: the compiled step depends on its identity.
  """
  return config_lib.build({'name': name, **options}, SECTIONS, 'optimizer').make(steps)


def check_rate_only(name: str, *, accumulate: int, steps: int, **options: Any) -> None:
  """Raises UserError if a config says more of its steps than a rate, for `Task.updates_itself`."""
  made = config_lib.build({'name': name, **options}, SECTIONS, 'optimizer')
  rules = {'momentum': 0, 'clip_norm': None, 'weight_decay': 0}
  wrong = [key for key, value in rules.items() if getattr(made, key, value) != value]
  if name != 'sgd' or wrong:
    said = f'{wrong[0]}={getattr(made, wrong[0])}' if name == 'sgd' else f'name={name!r}'
    raise UserError(
      f'optimizer.{said}: this task takes its steps itself, by plain gradient descent; choose'
      " name='sgd' with momentum=0 and neither clip_norm nor weight_decay"
    )
  if accumulate > 1:
    raise UserError(
      f'train.accumulate={accumulate}: must be 1, as this task takes its steps itself'
    )


def odd_settings(name: str, *, steps: int, **options: Any) -> list[str]:
  """Returns a line for each setting of a section `optimizer` with no effect, or an odd one."""
  made = config_lib.build({'name': name, **options}, SECTIONS, 'optimizer')
  return [f'optimizer.{text}' for text in made.doubts(steps)]


# -------- which parameters decay --------


def kernels(params: Any) -> Any:
  """Returns True for leaves with two axes or more that are called neither bias nor scale."""

  def is_kernel(path: Any, leaf: Any) -> bool:
    return leaf.ndim >= 2 and jax.tree_util.keystr(path[-1:], simple=True) not in ('bias', 'scale')

  return jax.tree_util.tree_map_with_path(is_kernel, params)


DECAYS = {'kernels': kernels, 'all': lambda params: jax.tree.map(lambda _: True, params)}
