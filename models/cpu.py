"""The forms that XLA's CPU backend runs well, each the equal of a plain one in `models/ops.py`.

They have reverse-mode gradients only, and gradients of their own wherever the derived one is slow.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import banded, winograd
from models.barrier import apart

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

# -------- products --------


def dense(x: Array, kernel: Array) -> Array:
  """`x @ kernel`, `[B, C]` with `[C, F]`."""
  return _dense(*_vary_alike(x, kernel))


@jax.custom_vjp
def _dense(x, kernel):
  return x @ kernel


def _dense_backward(saved, dy):
  x, kernel = saved
  # Of two matrices that share their last axis XLA:CPU transposes one in memory: not the larger.
  dx = apart(kernel @ dy.T).T if x.shape[0] < x.shape[1] else dy @ kernel.T
  return apart((dx, _rows_product(x, dy)))


_dense.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _dense_backward)


def _rows_product(x, dy):
  """`x^T dy` over all rows, `[C, F]`. XLA:CPU first transposes the left operand in memory."""
  x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
  (rows, C), F = x.shape, dy.shape[1]
  # The other order transposes dy and the result.
  return apart(dy.T @ x).T if rows * C > rows * F + C * F else x.T @ dy


def _vary_alike(*arrays):
  """All varying over the same axes of a `shard_map`, which then sums gradients outside of here."""
  varying = [jax.typeof(a).manual_axis_type.varying for a in arrays]
  missing = [tuple(frozenset().union(*varying) - v) for v in varying]
  return [lax.pcast(a, m, to='varying') if m else a for a, m in zip(arrays, missing, strict=True)]


# -------- convolution --------


def plain_conv(x: Array, kernel: Array, strides: Pair, pads: Pads, groups: int) -> Array:
  layout = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(
    x, kernel, strides, pads, dimension_numbers=layout, feature_group_count=groups
  )


def conv(x: Array, kernel: Array, strides: Pair, pads: Pads, groups: int) -> Array:
  if groups > 1:
    # XLA:CPU computes the kernel gradient of a grouped convolution twenty times slower than this.
    xs, kernels = jnp.split(x, groups, -1), jnp.split(kernel, groups, -1)
    parts = [conv(*pair, strides, pads, 1) for pair in zip(xs, kernels, strict=True)]
    return jnp.concatenate(parts, -1)
  if kernel.shape[:2] == (1, 1) and not any(map(any, pads)):
    x, strides = x[:, :: strides[0], :: strides[1]], (1, 1)
  if strides == (1, 1) and (side := _tile_side(kernel)):
    return banded.convolve(x, kernel, pads, side)
  return _one_conv(*_vary_alike(x, kernel), strides, pads)


def _tile_side(kernel) -> int:
  """Of the tiles for models/banded.py, where channels are so few that they pay, else 0."""
  h, w, C, F = kernel.shape
  if h != w or h == 1 or C * F > 128:
    return 0
  return 4 if C * F <= 32 else 2


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _one_conv(x, kernel, strides, pads):
  return apart(_convolve(apart(x), kernel, strides, pads))


def _conv_forward(x, kernel, strides, pads):
  x = apart(x)
  return apart(_convolve(x, kernel, strides, pads)), (x, kernel)


def _conv_backward(strides, pads, saved, dy):
  x, kernel = saved
  dy = apart(dy)
  dx = _input_gradient(x, kernel, dy, strides, pads)
  return apart((dx, _kernel_gradient(x, kernel, dy, strides, pads)))


_one_conv.defvjp(_conv_forward, _conv_backward)


def _convolve(x, kernel, strides, pads):
  if kernel.shape[:2] == (1, 1) and strides == (1, 1) and not any(map(any, pads)):
    return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
  if m := _winograd_tile(x, kernel, strides, pads):
    return winograd.convolve(x, kernel, pads, m)
  return plain_conv(x, kernel, strides, pads, 1)


def _input_gradient(x, kernel, dy, strides, pads):
  if strides == (1, 1):
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    pads = tuple(
      (n - 1 - low, n - 1 - high) for n, (low, high) in zip(kernel.shape[:2], pads, strict=True)
    )
    return _convolve(dy, turned, strides, pads)
  return jax.linear_transpose(lambda x: plain_conv(x, kernel, strides, pads, 1), x)(dy)[0]


def _kernel_gradient(x, kernel, dy, strides, pads):
  if m := _winograd_tile(x, kernel, strides, pads):
    return winograd.kernel_gradient(x, dy, pads, m)
  if x.shape[-1] >= 32:  # below, the products are too thin
    x = apart(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    taps = slices(x, kernel.shape[:2], strides)
    dkernel = [_rows_product(tap, dy) for tap in taps]
    return jnp.stack(dkernel).reshape(kernel.shape)
  return jax.linear_transpose(lambda k: plain_conv(x, k, strides, pads, 1), kernel)(dy)[0]


def _winograd_tile(x, kernel, strides, pads) -> int:
  """The m of the F(m x m, 3 x 3) that is fastest here, 0 where none is.

  Transforming x costs in proportion to tiles x channels, the kernel channels x channels, and both
  are repaid by the products in between, tiles x channels x channels: so there must be many of both.
  """
  channels = min(kernel.shape[2:])
  fits = kernel.shape[:2] == (3, 3) and strides == (1, 1) and max(map(max, pads)) <= 2
  if not fits or channels < 32 or x.dtype != jnp.float32:
    return 0
  size = winograd.output_size(x.shape, pads)
  tiles = {m: x.shape[0] * math.prod(-(-n // m) for n in size) for m in winograd.TRANSFORMS}
  if tiles[4] >= channels:
    return 4
  return 2 if tiles[2] >= channels // 4 and tiles[2] >= 64 else 0


# -------- pooling --------


def slices(x, window, strides) -> list[Array]:
  """The first value of every window, the second, ...: h * w arrays `[B, H', W', C]`."""
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
def max_pool(x, window, strides, pads):
  return _max_forward(x, window, strides, pads)[0]


def _max_forward(x, window, strides, pads):
  """The maxima, and where in its window each was, int8."""
  shape = x.shape
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
  best, where = None, None
  for i, values in enumerate(slices(x, window, strides)):
    if i == 0:
      best, where = values, jnp.zeros(values.shape, jnp.int8)
    else:
      where = jnp.where(values > best, jnp.int8(i), where)
      best = jnp.maximum(best, values)
  return best, (where, shape)


def _max_backward(window, strides, pads, saved, dy):
  """Pixel (s t + p, s u + q) collects from the windows where it is number i, j = p, q modulo s."""
  where, shape = saved
  tiles = [-(-(n + sum(p)) // s) for n, p, s in zip(shape[1:3], pads, strides, strict=True)]
  phases = [[jnp.zeros((shape[0], *tiles, shape[3]), dy.dtype)] * strides[1]] * strides[0]
  phases = [list(row) for row in phases]
  for i, j in np.ndindex(window):
    part = jnp.where(where == i * window[1] + j, dy, 0)
    ahead = (i // strides[0], j // strides[1])
    sides = [(n, tiles[d] - n - dy.shape[d + 1]) for d, n in enumerate(ahead)]
    part = jnp.pad(part, ((0, 0), *sides, (0, 0)))
    phases[i % strides[0]][j % strides[1]] += part
  dx = jnp.stack([jnp.stack(row, 3) for row in phases], 2)  # [B, T, s, T, s, C]
  dx = dx.reshape(shape[0], tiles[0] * strides[0], tiles[1] * strides[1], shape[3])
  return (dx[:, pads[0][0] :, pads[1][0] :][:, : shape[1], : shape[2]],)


max_pool.defvjp(_max_forward, _max_backward)


# -------- normalisation --------


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def response_norm(x, size, k, alpha, beta):
  return _response_forward(x, size, k, alpha, beta)[0]


def _response_forward(x, size, k, alpha, beta):
  """The sum over channels as a product with a band matrix."""
  x = apart(x)
  base = k + alpha * ((x * x) @ _band(x, size))
  return apart(x * _power(base, beta)), (x, base)


def _response_backward(size, k, alpha, beta, saved, dy):
  x, base = saved
  dy = apart(dy)
  direct = dy * _power(base, beta)
  through = (direct * x / base) @ _band(x, size).T
  return (apart(direct - (2 * alpha * beta) * x * through),)


response_norm.defvjp(_response_forward, _response_backward)


def _band(x, size):
  """`[C, C]`: which channels (rows) are summed for which (columns)."""
  channels = np.arange(x.shape[-1])
  offset = channels[:, None] - channels[None, :] + size // 2
  return ((offset >= 0) & (offset < size)).astype(x.dtype)


def _power(x, beta):
  """`x^-beta`; of 3/4, the paper's, by two roots, each used once: so all of it becomes one loop."""
  return lax.rsqrt(x * jnp.sqrt(x)) if beta == 0.75 else x**-beta
