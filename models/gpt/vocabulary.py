"""A vocabulary that devices share: each has some of its rows, and looks up and scores those.

Megatron-LM's way (Shoeybi et al. 2019, arXiv 1909.08053, section 3). A row's width may be split as
well (`fsdp`): it is gathered once, in the dtype of the activations, and its gradient is summed and
split once, in float32. The partitioner, left alone, gathers the table in float32 for a look-up, and
moves the gradients of all activations to all devices.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from models.axes import BATCH_AXES, mesh_size, over_devices, split_axes, vary_alike

ROW_AXIS, WIDTH_AXIS = 'tensor', 'fsdp'


class Split(NamedTuple):
  """Which mesh axes split a table `[V, D]` and a batch `[B, ...]`; () where none does."""

  rows: tuple[str, ...] = ()
  width: tuple[str, ...] = ()
  batch: tuple[str, ...] = ()

  @property
  def table(self) -> PartitionSpec:
    """Of the table."""
    return PartitionSpec(self.rows or None, self.width or None)

  @property
  def examples(self) -> PartitionSpec:
    """Of arrays whose axis 0 is the batch."""
    return PartitionSpec(self.batch or None)


WHOLE = Split()


def split(table: Array, batch: int) -> Split:
  """Returns how the active mesh splits a table and a batch; WHOLE where it does not."""
  rows, width = table.shape
  of_batch = split_axes(batch, *BATCH_AXES)
  if not of_batch and mesh_size(*BATCH_AXES) > 1:
    return WHOLE  # every device has the batch: nothing is gained
  return Split(split_axes(rows, ROW_AXIS), split_axes(width, WIDTH_AXIS), of_batch)


def first_row(table: Array, axes: tuple[str, ...]) -> Array | int:
  """Returns the number of the first row that this device has."""
  return lax.axis_index(axes) * table.shape[0] if axes else 0


def gather_width(table: Array, axes: tuple[str, ...]) -> Array:
  """Returns this device's rows `[V', D]`, whole."""
  return lax.all_gather(table, axes, axis=1, tiled=True) if axes else table


def scatter_width(gradient: Array, axes: tuple[str, ...]) -> Array:
  """Returns the sum over devices of `[V', D]`, of which this device keeps its part of the width."""
  return lax.psum_scatter(gradient, axes, scatter_dimension=1, tiled=True) if axes else gradient


def look_up(table: Array, tokens: Array, dtype: DTypeLike) -> Array:
  """Returns the rows of a table `[V, D]` at tokens int32 `[B, T]`: `[B, T, D]` of a dtype."""
  over = split(table, tokens.shape[0])
  if over == WHOLE:
    return jnp.take(table, tokens, axis=0).astype(dtype)

  def own(table: Array, tokens: Array) -> Array:
    table, tokens = vary_alike(table, tokens)
    x = _look_up(over, jnp.dtype(dtype), table, tokens)
    return lax.psum(x, over.rows) if over.rows else x

  return over_devices(own, (over.table, over.examples), over.examples)(table, tokens)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _look_up(over: Split, dtype: Any, table: Array, tokens: Array) -> Array:
  rows = gather_width(table.astype(dtype), over.width)
  own = tokens - first_row(table, over.rows)
  here = (own >= 0) & (own < len(rows))
  return jnp.where(here[..., None], rows[jnp.where(here, own, 0)], 0)


def _look_up_forward(over, dtype, table, tokens):
  return _look_up(over, dtype, table, tokens), (table, tokens)


def _look_up_backward(over, dtype, saved, dx):
  table, tokens = saved
  width = dx.shape[-1]
  own = tokens - first_row(table, over.rows)
  # Rows of other devices have no place here: what lies outside is dropped.
  own = jnp.where(own >= 0, own, table.shape[0]).reshape(-1)
  zeros = jnp.zeros((table.shape[0], width), table.dtype)
  (zeros, own, dx) = vary_alike(zeros, own, dx)
  gradient = zeros.at[own].add(dx.reshape(-1, width).astype(table.dtype), mode='drop')
  return scatter_width(gradient, over.width), None


_look_up.defvjp(_look_up_forward, _look_up_backward)
