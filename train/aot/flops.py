"""Counts the operations of a model's matrix products and convolutions, by tracing it.

Compilers' own counts take the body of a loop once, and their convolutions by what they made of
them.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax

from models import forms
from train.task import Batch, Programs, Task, Variables

BACKWARD = 2  # products in the gradient for each of the forward pass: of inputs, of weights


def of_step(task: Task, variables: Variables, batch: Batch) -> float:
  """Returns the FLOPs of a training step: a task's own count, or three times its forward pass's.

  Args:
    task: that is trained.
    variables: abstract.
    batch: abstract.
  """
  return count(task, variables, batch) if task.flops is None else task.flops


def of_programs(programs: Programs) -> float:
  """Returns the operations of traced programs, each run once."""
  return sum(_of_jaxpr(traced.jaxpr.jaxpr) for traced in programs.values())


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
  return _times(name, equation.params) * sum(map(_of_jaxpr, inner))


def _times(name: str, params: Any) -> int:
  """Returns how often an equation's jaxprs are run, on all devices together."""
  if name == 'scan':
    return params['length']
  if name == 'shard_map':  # of one device's part; axes that split nothing repeat the work
    axes = {axis for spec in params['in_specs'] for axis in _axes(spec)}
    return math.prod(params['mesh'].shape[axis] for axis in axes)
  return 1


def _axes(spec: Any) -> Iterator[str]:
  for part in spec:
    yield from (part,) if isinstance(part, str) else part or ()


def _inner(params: Any) -> Iterator[Any]:
  """Yields the jaxprs among an equation's parameters."""
  for value in params.values():
    for one in value if isinstance(value, tuple | list) else (value,):
      jaxpr = getattr(one, 'jaxpr', one)
      if hasattr(jaxpr, 'eqns'):
        yield jaxpr
