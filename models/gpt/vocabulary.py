"""A vocabulary that devices share: each has some of its rows, and looks up and scores those.

Megatron-LM's way (Shoeybi et al. 2019, arXiv 1909.08053, section 3). A row's width may be split as
well (`fsdp`): it is gathered once, in the dtype of the activations, and its gradient is summed and
split once, in float32. The partitioner, left alone, gathers the table in float32 for a look-up, and
moves the gradients of all activations to all devices.

Gradients are written out: what is communicated is what is here.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from models.axes import BATCH_AXES, CONTEXT_AXIS, mesh_size, over_devices, split_axes

ROW_AXIS, WIDTH_AXIS = 'tensor', 'fsdp'


class TableSplit(NamedTuple):
  """Which mesh axes split a table `[V, D]` and texts `[B, T, ...]`; () where none does."""

  rows: tuple[str, ...] = ()
  width: tuple[str, ...] = ()
  batch: tuple[str, ...] = ()
  length: tuple[str, ...] = ()

  @property
  def table(self) -> PartitionSpec:
    """How the table is split."""
    return PartitionSpec(self.rows or None, self.width or None)

  @property
  def tokens(self) -> PartitionSpec:
    """How arrays `[B, T, ...]` are split."""
    return PartitionSpec(self.batch or None, self.length or None)


WHOLE = TableSplit()


def split(table: Array, tokens: Array) -> TableSplit:
  """Returns how the active mesh splits a table and texts `[B, T]`; WHOLE where it does not."""
  of_table = split_axes(len(table), ROW_AXIS), split_axes(table.shape[1], WIDTH_AXIS)
  of_batch = split_axes(len(tokens), *BATCH_AXES)
  if not of_batch and mesh_size(*BATCH_AXES) > 1:
    return WHOLE  # every device has the batch: nothing is gained
  return TableSplit(*of_table, of_batch, split_axes(tokens.shape[1], CONTEXT_AXIS))


# -------- on one device --------


def gather_width(over: TableSplit, table: Array) -> Array:
  """Returns a device's rows `[V', D]`, whole, of its part `[V', D']`."""
  return lax.all_gather(table, over.width, axis=1, tiled=True) if over.width else table


def sum_gradients(over: TableSplit, gradient: Array) -> Array:
  """Returns the sum over the texts' devices of `[V', D]`, of which each keeps its `[V', D']`."""
  if over.width:
    gradient = lax.psum_scatter(gradient, over.width, scatter_dimension=1, tiled=True)
  rest = (axis for axis in over.batch + over.length if axis not in over.width)
  return lax.psum(gradient, tuple(rest))


def own_rows(over: TableSplit, numbers: Array, count: int) -> Array:
  """Returns which of a device's `count` rows those of the whole table are; `count` for others'."""
  own = numbers - lax.axis_index(over.rows) * count if over.rows else numbers
  return jnp.where((own >= 0) & (own < count), own, count)


# -------- look-up --------


def look_up(table: Array, tokens: Array, dtype: DTypeLike) -> Array:
  """Returns the rows of a table `[V, D]` at tokens int32 `[B, T]`: `[B, T, D]` of a dtype."""
  over = split(table, tokens)
  if over == WHOLE:
    return jnp.take(table, tokens, axis=0).astype(dtype)
  return _look_up(over, jnp.dtype(dtype), table, tokens)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _look_up(over: TableSplit, dtype: Any, table: Array, tokens: Array) -> Array:
  def own(table: Array, tokens: Array) -> Array:
    rows = gather_width(over, table.astype(dtype))
    # Other devices' rows count as zeros here.
    x = jnp.take(rows, own_rows(over, tokens, len(rows)), axis=0, mode='fill', fill_value=0)
    return lax.psum(x, over.rows)

  return over_devices(own, (over.table, over.tokens), over.tokens)(table, tokens)


def _look_up_forward(over, dtype, table, tokens):
  return _look_up(over, dtype, table, tokens), (table, tokens)


def _look_up_backward(over, dtype, saved, dx):
  table, tokens = saved

  def own(table: Array, tokens: Array, dx: Array) -> Array:
    count, width = len(table), dx.shape[-1]
    rows = own_rows(over, tokens, count).reshape(-1)
    gradient = jnp.zeros((count, width), table.dtype)
    gradient = gradient.at[rows].add(dx.reshape(-1, width).astype(table.dtype), mode='drop')
    return sum_gradients(over, gradient)

  specs = over.table, over.tokens, over.tokens
  return over_devices(own, specs, over.table)(table, tokens, dx), None


_look_up.defvjp(_look_up_forward, _look_up_backward)
