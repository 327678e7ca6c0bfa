"""A network's layers as a table: output shapes, parameters, multiply-adds; nothing is computed."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import ops


@dataclasses.dataclass
class Layer:
  """path: joined by '/'. output: shape without the batch. parameters, multiply_adds: its own."""

  path: str
  kind: str
  output: tuple[int, ...] = ()
  parameters: int = 0
  multiply_adds: int = 0


def layers(module: nn.Module, input_shape: Sequence[int]) -> list[Layer]:
  """The layers in the order in which they are computed for one image `[H, W, C]` in evaluation."""
  seen: list[tuple[Layer, tuple[str, ...]]] = []

  def record(call, args, kwargs, context):
    if context.method_name != '__call__' or not context.module.path:
      return call(*args, **kwargs)
    layer = Layer('/'.join(context.module.path), type(context.module).__name__)
    seen.append((layer, context.module.path))
    output = call(*args, **kwargs)
    layer.output = output.shape[1:]
    return output

  def init(key: jax.Array, images: jax.Array) -> Any:
    return module.init({'params': key, 'dropout': key}, images, train=False)

  images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  # Shapes are all that is wanted: the plain formulation is traced sooner.
  with nn.intercept_methods(record), ops.use('plain'):
    variables = nn.unbox(jax.eval_shape(init, jax.random.key(0), images))
  for layer, path in seen:
    measure(layer, own(variables['params'], path))
  return [layer for layer, path in seen if not has_children(path, [p for _, p in seen])]


def own(params: Any, path: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
  """The shapes of the parameters that belong to the module at `path` itself."""
  for name in path:
    params = params.get(name, {})
  return {name: leaf.shape for name, leaf in params.items() if not isinstance(leaf, dict)}


def has_children(path: tuple[str, ...], paths: list[tuple[str, ...]]) -> bool:
  return any(other[: len(path)] == path and len(other) > len(path) for other in paths)


def measure(layer: Layer, shapes: dict[str, tuple[int, ...]]) -> None:
  """Counts parameters, and the products with the kernel: all of its weights at each position."""
  layer.parameters = sum(math.prod(shape) for shape in shapes.values())
  kernel = math.prod(shapes.get('kernel', (0,)))
  # A locally connected kernel has its positions among its own axes.
  shared = layer.kind != 'LocallyConnected'
  layer.multiply_adds = kernel * (math.prod(layer.output[:-1]) if shared else 1)


def table(module: nn.Module, input_shape: Sequence[int]) -> str:
  """The layers as text of up to 100 columns, for one image of `input_shape` `[H, W, C]`."""
  found = layers(module, input_shape)
  total = Layer('total', '', (), *(sum(getattr(layer, f) for layer in found) for f in FIELDS))
  head = ('layer', 'kind', 'output', 'parameters', 'multiply-adds')
  lines = [head, ('input', '', by(input_shape), '', ''), *map(cells, found), cells(total)]
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  text = [align(line, widths) for line in lines]
  rule = '-' * len(text[0])
  return '\n'.join([text[0], rule, *text[1:-1], rule, text[-1]])


def parameter_table(params: Any) -> str:
  """The arrays of a pytree, or their shapes, as text: path, shape, number of values."""
  paths, _ = jax.tree_util.tree_flatten_with_path(params)
  rows = [(jax.tree_util.keystr(p, simple=True, separator='/'), x.shape) for p, x in paths]
  lines = [('parameter', 'shape', 'values')]
  lines += [(path, by(shape), f'{math.prod(shape):,}') for path, shape in rows]
  lines.append(('total', '', f'{sum(math.prod(shape) for _, shape in rows):,}'))
  widths = [max(len(line[i]) for line in lines) for i in range(3)]
  text = [f'{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}' for a, b, c in lines]
  rule = '-' * len(text[0])
  return '\n'.join([text[0], rule, *text[1:-1], rule, text[-1]])


FIELDS = ('parameters', 'multiply_adds')


def cells(layer: Layer) -> tuple[str, ...]:
  numbers = (f'{getattr(layer, field):,}' for field in FIELDS)
  return layer.path, layer.kind, by(layer.output), *('' if n == '0' else n for n in numbers)


def by(shape: Sequence[int]) -> str:
  return ' x '.join(map(str, shape))


def align(line: tuple[str, ...], widths: list[int]) -> str:
  left = [cell.ljust(width) for cell, width in zip(line[:3], widths[:3], strict=True)]
  right = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:], strict=True)]
  return '  '.join(left + right).rstrip()
