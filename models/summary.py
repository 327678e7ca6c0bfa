"""Lists a network's layers: output shapes, parameters, multiply-adds; nothing is computed.

`nn.tabulate` would show each parameter's shape in rows wider than a terminal, and has no
multiply-adds: its FLOPs come from compiling, which does not count oneDNN's calls.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import forms


class Layer(NamedTuple):
  """One layer of a network.

  Attributes:
    path: names of modules, joined by '/'.
    kind: its class.
    output: shape without the batch.
    parameters: the number of its own.
    multiply_adds: for one image: all weights of its kernel at each position.
  """

  path: str
  kind: str
  output: tuple[int, ...]
  parameters: int
  multiply_adds: int


def layers(module: nn.Module, input_shape: Sequence[int]) -> list[Layer]:
  """Returns the layers in the order in which one image `[H, W, C]` passes them in evaluation."""
  calls: list[list[Any]] = []  # of each module: path, kind, output shape

  def record(call, args, kwargs, context):
    if context.method_name != '__call__' or not context.module.path:
      return call(*args, **kwargs)
    calls.append(entry := [context.module.path, type(context.module).__name__, ()])
    output = call(*args, **kwargs)
    entry[2] = output.shape[1:]
    return output

  def init(key: jax.Array, images: jax.Array) -> Any:
    return module.init({'params': key, 'dropout': key}, images, train=False)

  images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  # Only shapes are wanted, and the plain formulation is traced sooner.
  with nn.intercept_methods(record), forms.use('plain'):
    params = nn.unbox(jax.eval_shape(init, jax.random.key(0), images))['params']
  inner = {path[:n] for path, *_ in calls for n in range(1, len(path))}  # modules of layers
  return [_layer(params, *call) for call in calls if call[0] not in inner]


def _layer(params: Any, path: tuple[str, ...], kind: str, output: tuple[int, ...]) -> Layer:
  for name in path:
    params = params.get(name, {})
  sizes = {name: leaf.size for name, leaf in params.items()}
  # A locally connected kernel has its positions among its own axes.
  positions = 1 if kind == 'LocallyConnected' else math.prod(output[:-1])
  kernel = sizes.get('kernel', 0)
  return Layer('/'.join(path), kind, output, sum(sizes.values()), kernel * positions)


def table(module: nn.Module, input_shape: Sequence[int]) -> str:
  """Returns the layers as text of up to 100 columns, for one image of `input_shape` `[H, W, C]`."""
  found = layers(module, input_shape)
  rows = [(x.path, x.kind, _by(x.output), x.parameters, x.multiply_adds) for x in found]
  total = ('total', '', '', *(sum(row[i] for row in rows) for i in (3, 4)))  # type: ignore[misc]
  head = ('layer', 'kind', 'output', 'parameters', 'multiply-adds')
  return _text(head, [('input', '', _by(input_shape), 0, 0), *rows], total)


def parameter_table(params: Any) -> str:
  """Returns the arrays of a pytree, or their shapes, as text: path, shape, number of values."""
  paths, _ = jax.tree_util.tree_flatten_with_path(params)
  rows = [
    (jax.tree_util.keystr(path, simple=True, separator='/'), _by(x.shape), math.prod(x.shape))
    for path, x in paths
  ]
  total = ('total', '', sum(row[2] for row in rows))
  return _text(('parameter', 'shape', 'values'), rows, total)


def _by(shape: Sequence[int]) -> str:
  return ' x '.join(map(str, shape))


def _text(head: Sequence[str], rows: Sequence[Sequence[Any]], total: Sequence[Any]) -> str:
  """Returns aligned columns between rules; numbers are to the right, and zeros left out."""
  lines = [head, *([_cell(value) for value in row] for row in (*rows, total))]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  right = [isinstance(value, int) for value in total]
  text = [
    '  '.join(
      cell.rjust(width) if is_number else cell.ljust(width)
      for cell, width, is_number in zip(line, widths, right, strict=True)
    ).rstrip()
    for line in lines
  ]
  rule = '-' * max(map(len, text))
  return '\n'.join([text[0], rule, *text[1:-1], rule, text[-1]])


def _cell(value: Any) -> str:
  return f'{value:,}' if isinstance(value, int) and value else str(value or '')
