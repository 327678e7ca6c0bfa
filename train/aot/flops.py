"""Counts the operations of a model's matrix products and convolutions, by tracing it.

Compilers' own counts take the body of a loop once, and their convolutions by what they made of
them.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax

from models import forms
from train.task import Batch, Task, Variables

BACKWARD = 2  # products in the gradient for each of the forward pass: of inputs, of weights


def of_step(task: Task, variables: Variables, batch: Batch) -> float:
  """Returns the FLOPs of a training step: a task's own count, or three times its forward pass's.

  Args:
    task: that is trained.
    variables: abstract.
    batch: abstract.
  """
  return count(task, variables, batch) if task.flops is None else task.flops


def count(task: Task, variables: Variables, batch: Batch) -> float:
  """Returns three times the operations of a loss's forward pass, as it is traced."""

  def loss(variables: Variables, batch: Batch) -> Any:
    return task.loss(variables, batch, jax.random.key(0), train=True)[0]

  with forms.use('plain'):
    traced = jax.make_jaxpr(loss)(variables, batch)
  return (1 + BACKWARD) * _of_jaxpr(traced.jaxpr)


def _of_jaxpr(jaxpr: Any) -> float:
  return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> float:
  name, inner = equation.primitive.name, list(_inner(equation.params))
  if name == 'dot_general':
    (contracted, _), _ = equation.params['dimension_numbers']
    left = equation.invars[0].aval.shape
    return 2.0 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval
    outputs = kernel.shape[equation.params['dimension_numbers'].rhs_spec[0]]
    return 2.0 * equation.outvars[0].aval.size * kernel.size / outputs
  if name == 'cond':
    return max(map(_of_jaxpr, inner))
  turns = equation.params['length'] if name == 'scan' else 1
  return turns * sum(map(_of_jaxpr, inner))


def _inner(params: Any) -> Iterator[Any]:
  """Yields the jaxprs among an equation's parameters."""
  for value in params.values():
    for one in value if isinstance(value, tuple | list) else (value,):
      jaxpr = getattr(one, 'jaxpr', one)
      if hasattr(jaxpr, 'eqns'):
        yield jaxpr
