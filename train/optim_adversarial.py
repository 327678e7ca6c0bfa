"""Two optimisers for a generator and a discriminator that are trained against each other."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from train.errors import UserError
from train.muon import apart
from train.optim import Optimizer, Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adversarial:
  """Two optimisers, for a task whose parameters are those of a generator and of a discriminator.

  Each is a section of its own, with a name, such as `optimizer.generator.learning_rate`.

  Attributes:
    generator: what updates the generator.
    discriminator: what updates the discriminator.
    discriminator_steps: updates of the discriminator for one of the generator (k of Goodfellow et
      al. 2014, algorithm 1). The rates of both are functions of the step of training.
  """

  generator: Optimizer
  discriminator: Optimizer
  discriminator_steps: int = 1

  def __post_init__(self) -> None:
    if self.discriminator_steps < 1:
      raise UserError(
        f'optimizer.discriminator_steps={self.discriminator_steps}: must be at least 1'
      )

  def make(self, steps: int) -> tuple[optax.GradientTransformation, Schedule]:
    """Returns the transformation of both, and the schedule of the generator."""
    generator, rate = self.generator.make(steps)
    discriminator, _ = self.discriminator.make(steps)
    if self.discriminator_steps > 1:
      generator = each_nth(generator, self.discriminator_steps)
    both = apart(lambda path: path[0] == 'generator', generator, discriminator)

    def init(params: Any) -> Any:
      if missing := {'generator', 'discriminator'} - set(params):
        raise UserError(
          f"optimizer.name='adversarial': the model has no {' and no '.join(sorted(missing))};"
          ' it is for the task gan'
        )
      return both.init(params)

    return optax.GradientTransformation(init, both.update), rate

  def doubts(self, steps: int) -> Iterator[str]:
    """Yields what of either has no effect, or an odd one."""
    for name, options in (('generator', self.generator), ('discriminator', self.discriminator)):
      yield from (f'{name}.{text}' for text in options.doubts(steps))


def each_nth(tx: optax.GradientTransformation, n: int) -> optax.GradientTransformation:
  """Applies `tx` in steps n - 1, 2 n - 1, ...; between them nothing of its state changes either."""

  def update(updates: Any, state: tuple[Array, Any], params: Any = None) -> tuple[Any, Any]:
    step, inner = state

    def wait(updates: Any, inner: Any) -> tuple[Any, Any]:
      return jax.tree.map(jnp.zeros_like, updates), inner

    def act(updates: Any, inner: Any) -> tuple[Any, Any]:
      return tx.update(updates, inner, params)

    updates, inner = jax.lax.cond((step + 1) % n == 0, act, wait, updates, inner)
    return updates, (step + 1, inner)

  return optax.GradientTransformation(
    lambda params: (jnp.zeros((), jnp.int32), tx.init(params)), update
  )
