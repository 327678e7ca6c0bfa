"""The mesh as models see it: which axes split a batch, and over how many devices."""

import jax
import numpy as np
from jax import Array, lax

# Of train/mesh.py's mesh: what a batch is split over, and what holds AlexNet's columns. Under pmap,
# whose programs see one device, 'data' is bound instead, as a named axis.
BATCH_AXES = ('data', 'fsdp')
COLUMN_AXIS = 'tensor'


def mesh_size(*axes: str) -> int:
  """Returns over how many devices these axes of the current mesh split a jitted program.

  1 without a mesh, and of axes that a `shard_map` has already split.
  """
  mesh = jax.sharding.get_abstract_mesh()
  split = [axis for axis in axes if axis in mesh.shape and axis not in mesh.manual_axes]
  return int(np.prod([mesh.shape[axis] for axis in split]))


def bound_size(axis: str) -> int:
  """Returns the devices along an axis that pmap or shard_map has bound, else 0."""
  try:
    return lax.axis_size(axis)
  except NameError:
    return 0


def vary_alike(*arrays: Array) -> list[Array]:
  """Returns the arrays, all varying over the same axes of a `shard_map`.

  For a function with a gradient of its own: the sum over devices is then taken outside of it.
  """
  varying = [jax.typeof(a).manual_axis_type.varying for a in arrays]
  missing = [tuple(frozenset().union(*varying) - v) for v in varying]
  return [lax.pcast(a, m, to='varying') if m else a for a, m in zip(arrays, missing, strict=True)]
