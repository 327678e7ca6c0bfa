"""Products with few rows and max pooling for a CPU, with gradients of their own.

They compute what the plain forms in `models/ops.py` do; the derived gradients are slow here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.axes import BATCH_AXES, split_axes, vary_alike
from models.cpu.onednn import Pads, Pair
from models.cpu.order import apart

# -------- products --------

FEW_ROWS = 16  # of x: `x^T dy` is faster as so many outer products, one loop that XLA fuses


def dense(x: Array, kernel: Array) -> Array:
  """Returns `x @ kernel`: `[B, C]` with `[C, F]`."""
  return _dense(*vary_alike(x, kernel))


@jax.custom_vjp
def _dense(x, kernel):
  return x @ kernel


def _dense_backward(saved, dy):
  x, kernel = saved
  # Of two matrices that share their last axis XLA:CPU transposes one in memory: not the larger.
  dx = apart(kernel @ dy.T).T if x.shape[0] < x.shape[1] else dy @ kernel.T
  # Rows that are split over devices are not taken one by one: each would travel to all of them.
  few = x.shape[0] <= FEW_ROWS and not split_axes(x.shape[0], *BATCH_AXES)
  if few and x.dtype == jnp.float32:
    dx, x, dy = apart((dx, x, dy))  # dx first, from the old kernel
    # [C, F], as B outer products.
    return dx, sum(x[i][:, None] * dy[i][None] for i in range(x.shape[0]))
  return apart((dx, _rows_product(x, dy)))


_dense.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _dense_backward)


def _rows_product(x, dy):
  """Returns `x^T dy` over all rows, `[C, F]`: XLA:CPU transposes the left operand in memory."""
  x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
  (rows, C), F = x.shape, dy.shape[1]
  # The other order transposes dy and the result.
  return apart(dy.T @ x).T if rows * C > rows * F + C * F else x.T @ dy


# -------- pooling --------


def slices(x: Array, window: Pair, strides: Pair) -> list[Array]:
  """Returns the first value of every window, the second, ...: h * w arrays `[B, H', W', C]`."""
  size = _pooled(x.shape, window, strides)
  return [
    x[:, i : i + (size[0] - 1) * strides[0] + 1 : strides[0], j:][
      :, :, : (size[1] - 1) * strides[1] + 1 : strides[1]
    ]
    for i in range(window[0])
    for j in range(window[1])
  ]


def _pooled(shape, window, strides):
  return [(n - w) // s + 1 for n, w, s in zip(shape[1:3], window, strides, strict=True)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x: Array, window: Pair, strides: Pair, pads: Pads) -> Array:
  """Returns the maxima `[B, H', W', C]` of the windows; see `models.ops.max_pool`."""
  return _max_forward(x, window, strides, pads)[0]


def _max_forward(x, window, strides, pads):
  """Returns the maxima `[B, H', W', C]`, and int8 where in its window each was."""
  shape = x.shape
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)  # padding never wins
  best, *others = slices(x, window, strides)
  where = jnp.zeros(best.shape, jnp.int8)
  for i, values in enumerate(others, 1):
    # Strictly: of equal values the first stays, as in the plain form.
    where = jnp.where(values > best, jnp.int8(i), where)
    best = jnp.maximum(best, values)
  return best, (where, shape)


def _max_backward(window, strides, pads, saved, dy):
  """Returns the gradient by x, gathered rather than scattered.

  Pixel (s t + p, s u + q) collects from the windows in which it is number (i, j) with i = p and j =
  q modulo s, so each phase (p, q) is a sum of slices.
  """
  where, shape = saved
  h, w = strides
  # The padded image in tiles of a stride: pixel (t, p) is number p of tile t.
  tiles = [-(-(n + sum(p)) // s) for n, p, s in zip(shape[1:3], pads, strides, strict=True)]
  # Windows that begin so many tiles above a pixel still hold it.
  above = [(n - 1) // s for n, s in zip(window, strides, strict=True)]
  # So many windows are added, or cut off, that each slice below has one for every tile.
  sides = [(a, n - size) for a, n, size in zip(above, tiles, dy.shape[1:3], strict=True)]
  padded = [_pad(x, *sides) for x in (dy, where)]
  dy, where = apart(padded)
  dtype, dy = dy.dtype, dy.astype(jnp.float32)  # in which XLA's CPU backend adds in any case
  # One array for each place within a tile, so that all slices have stride 1.
  phases = [[jnp.zeros((shape[0], *tiles, shape[3]), dy.dtype)] * w for _ in range(h)]
  for number, (i, j) in enumerate(np.ndindex(window)):
    top, left = above[0] - i // h, above[1] - j // w
    here = lambda x: x[:, top : top + tiles[0], left : left + tiles[1]]  # noqa: B023, E731
    phases[i % h][j % w] += jnp.where(here(where) == number, here(dy), 0)
  phases = apart(phases)
  dx = jnp.stack([jnp.stack(row, 3) for row in phases], 2)  # [B, T, s, T, s, C]
  dx = dx.reshape(shape[0], tiles[0] * h, tiles[1] * w, shape[3])
  # What falls on the padding is dropped.
  return (dx[:, pads[0][0] :, pads[1][0] :][:, : shape[1], : shape[2]].astype(dtype),)


def _pad(x, height, width):
  """Pads height and width by (low, high), of which high may be negative."""
  return lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), (*height, 0), (*width, 0), (0, 0, 0)))


max_pool.defvjp(_max_forward, _max_backward)
