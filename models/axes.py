"""The mesh as models see it: which axes split a batch, and over how many devices.

`train/mesh.py` makes the mesh and maps the parameters' logical axes to it.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

# What a batch is split over, what holds AlexNet's columns, and what shares the tokens of each text.
# Under pmap, whose programs see one device, 'data' is a named axis instead.
BATCH_AXES = ('data', 'fsdp')
COLUMN_AXIS = 'tensor'
CONTEXT_AXIS = 'context'


def mesh_size(*axes: str) -> int:
  """Returns over how many devices these axes of the active mesh split a jitted program.

  It is 1 without a mesh, and for axes that a `shard_map` around the caller has already split.
  """
  mesh = jax.sharding.get_abstract_mesh()
  split = [axis for axis in axes if axis in mesh.shape and axis not in mesh.manual_axes]
  return int(np.prod([mesh.shape[axis] for axis in split]))


def bound_size(axis: str) -> int:
  """Returns the number of devices along an axis that pmap or shard_map has bound, else 0."""
  try:
    return lax.axis_size(axis)
  except NameError:
    return 0


def split_axes(size: int, *axes: str) -> tuple[str, ...]:
  """Returns those of the axes that split a dimension: of several devices that divide its size."""
  found = tuple(axis for axis in axes if mesh_size(axis) > 1)
  return found if size % mesh_size(*found) == 0 else ()


def over_devices(function: Callable, in_specs: Any, out_specs: Any) -> Callable:
  """Returns `function` of each device's own parts; it says itself what is communicated.

  Where the partitioner would move more than it must. It covers the axes of the active mesh that no
  `shard_map` around the caller has already. Differentiated as it
  stands, what is whole on several devices would be summed over them: the caller sees to that.
  """
  mesh = jax.sharding.get_abstract_mesh()
  names = {axis for axis in mesh.axis_names if axis not in mesh.manual_axes}
  return jax.shard_map(
    function, in_specs=in_specs, out_specs=out_specs, axis_names=names, check_vma=False
  )


def shard_batch(x: Array) -> Array:
  """Constrains activations `[B, ...]` to be split over the mesh's batch axes and nothing else.

  Without it XLA may split their width over `fsdp`, as the parameters' is, and gather activations
  where it should gather parameters. Returns x as it is where the devices do not divide B.
  """
  return _constrain(x, split_axes(len(x), *BATCH_AXES))


def shard_tokens(x: Array) -> Array:
  """Constrains activations of texts `[B, T, ...]` as `shard_batch`, and T to `context`."""
  return _constrain(x, split_axes(len(x), *BATCH_AXES), split_axes(x.shape[1], CONTEXT_AXIS))


def _constrain(x: Array, *axes: tuple[str, ...]) -> Array:
  """Constrains the first dimensions of x to mesh axes; () of an axis is none."""
  if not any(axes):
    return x
  rest = [None] * (x.ndim - len(axes))
  return lax.with_sharding_constraint(x, PartitionSpec(*(each or None for each in axes), *rest))


def over_batch(function: Callable, x: Array, weights: Array) -> Array:
  """Returns `function(x, weights)`, each device's part of x `[B, ...]` by itself.

  Where the partitioner would gather the batch and have every device compute all of it. Gradients of
  the weights are summed over the devices, in float32: XLA for a CPU aborts at a sum of bfloat16
  here. Where these do not divide B, nothing is cut.
  """
  axes = split_axes(x.shape[0], *BATCH_AXES)
  if not axes:
    return function(x, weights)

  def own(x: Array, wide: Array) -> Array:
    x, wide = vary_alike(x, wide)
    return function(x, wide.astype(weights.dtype))

  batch = PartitionSpec(axes)
  return jax.shard_map(
    own, in_specs=(batch, PartitionSpec()), out_specs=batch, axis_names=set(axes)
  )(x, weights.astype(np.float32))


def vary_alike(*arrays: Array) -> list[Array]:
  """Returns the arrays, all marked as varying over the same axes of a `shard_map`.

  A function with a custom gradient needs it: the sum over devices is then taken outside of it.
  """
  varying = [jax.typeof(a).manual_axis_type.varying for a in arrays]
  missing = [tuple(frozenset().union(*varying) - v) for v in varying]
  return [lax.pcast(a, m, to='varying') if m else a for a, m in zip(arrays, missing, strict=True)]
