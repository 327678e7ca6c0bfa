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
NO_PADS = ((0, 0), (0, 0))

# -------- products --------

FEW_ROWS = 16  # of x: `x^T dy` is faster as so many outer products, one loop that XLA fuses


def dense(x: Array, kernel: Array) -> Array:
  """`x @ kernel`, `[B, C]` with `[C, F]`."""
  return _dense(*vary_alike(x, kernel))


@jax.custom_vjp
def _dense(x, kernel):
  return x @ kernel


def _dense_backward(saved, dy):
  x, kernel = saved
  # Of two matrices that share their last axis XLA:CPU transposes one in memory: not the larger.
  dx = apart(kernel @ dy.T).T if x.shape[0] < x.shape[1] else dy @ kernel.T
  if x.shape[0] <= FEW_ROWS and x.dtype == jnp.float32:
    dx, x, dy = apart((dx, x, dy))  # dx first, from the old kernel
    return dx, sum(x[i][:, None] * dy[i][None] for i in range(x.shape[0]))
  return apart((dx, _rows_product(x, dy)))


_dense.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _dense_backward)


def _rows_product(x, dy):
  """`x^T dy` over all rows, `[C, F]`. XLA:CPU first transposes the left operand in memory."""
  x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
  (rows, C), F = x.shape, dy.shape[1]
  # The other order transposes dy and the result.
  return apart(dy.T @ x).T if rows * C > rows * F + C * F else x.T @ dy


def vary_alike(*arrays):
  """All varying over the same axes of a `shard_map`, which then sums gradients outside of here."""
  varying = [jax.typeof(a).manual_axis_type.varying for a in arrays]
  missing = [tuple(frozenset().union(*varying) - v) for v in varying]
  return [lax.pcast(a, m, to='varying') if m else a for a, m in zip(arrays, missing, strict=True)]


# -------- convolution --------

TILES = {3: (4, 3, 2), 5: (4, 2)}  # side of a kernel -> the m of F(m x m, side x side)
# What Winograd's transforms cost in multiplications of its products: of a pixel's channel, and of a
# weight (`python -m benchmarks.convolutions` shows where they are repaid).
PIXEL, KERNEL = 160, 110


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
  if strides[0] == strides[1] > 1 and (blocks := _blocks(x, kernel, strides[0], pads)):
    return conv(*blocks, (1, 1), NO_PADS, 1)
  if strides == (1, 1) and (side := _tile_side(kernel)):
    return banded.convolve(x, kernel, pads, side)
  return _one_conv(*vary_alike(x, kernel), strides, pads)


def _tile_side(kernel) -> int:
  """Of the tiles for models/banded.py, where channels are so few that they pay, else 0."""
  h, w, C, F = kernel.shape
  if h != w or h == 1 or C * F > 128:
    return 0
  return 4 if C * F <= 32 else 2


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _one_conv(x, kernel, strides, pads):
  return apart(_convolve(x, kernel, strides, pads))


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
    return winograd.kernel_gradient(x, dy, pads, m, kernel.shape[0])
  # A product for each tap, of which 1 x 1 has one; more copy x so often that fewer channels lose.
  if x.shape[-1] >= (32 if kernel.shape[:2] == (1, 1) else 256):
    x = apart(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    taps = slices(x, kernel.shape[:2], strides)
    dkernel = [_rows_product(tap, dy) for tap in taps]
    return jnp.stack(dkernel).reshape(kernel.shape)
  return jax.linear_transpose(lambda k: plain_conv(x, k, strides, pads, 1), kernel)(dy)[0]


def _blocks(x, kernel, s, pads):
  """x and kernel of the same convolution with stride 1: blocks of s x s pixels become channels.

  None where that does not make it one for Winograd's filtering. AlexNet's first, 11 x 11 of 3
  channels and stride 4, becomes 3 x 3 of 48.
  """
  (h, w, C, F), side = kernel.shape, -(-kernel.shape[0] // s)
  if h != w or side not in TILES:
    return None
  rows, columns = ((n - 1) // s + side for n in winograd.output_size(x.shape, pads, h))
  blocks = jax.ShapeDtypeStruct((x.shape[0], rows, columns, s * s * C), x.dtype)
  kernels = jax.ShapeDtypeStruct((side, side, s * s * C, F), kernel.dtype)
  if not _winograd_tile(blocks, kernels, (1, 1), NO_PADS):
    return None
  wanted = zip(pads, (rows, columns), x.shape[1:3], strict=True)
  sides = [(low, n * s - size - low) for (low, _), n, size in wanted]
  x = winograd.pad(x, *sides).reshape(x.shape[0], rows, s, columns, s, C)
  more = side * s - h
  kernel = jnp.pad(kernel, ((0, more), (0, more), (0, 0), (0, 0)))
  kernel = kernel.reshape(side, s, side, s, C, F).transpose(0, 2, 1, 3, 4, 5)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(blocks.shape), kernel.reshape(kernels.shape)


def _winograd_tile(x, kernel, strides, pads) -> int:
  """The m of the F(m x m, r x r) that is fastest here, 0 where none is."""
  r, width, C, F = kernel.shape
  square = width == r and strides == (1, 1) and max(map(max, pads)) < r
  size = winograd.output_size(x.shape, pads, r)
  if not (square and r in TILES) or min(size) < 1 or x.dtype != jnp.float32:
    return 0

  def cost(m):
    """Multiplications for each output, with what takes as long as so many."""
    tiles = [-(-n // m) for n in size]
    products = ((m + r - 1) / m) ** 2 * C * F * (1 + KERNEL / (x.shape[0] * math.prod(tiles)))
    return math.prod(tiles) * m * m / math.prod(size) * (products + PIXEL * (C + F))

  m = min(TILES[r], key=cost)
  return m if cost(m) < r * r * C * F else 0


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
  h, w = strides
  tiles = [-(-(n + sum(p)) // s) for n, p, s in zip(shape[1:3], pads, strides, strict=True)]
  # Windows that begin so many tiles above a pixel still hold it.
  above = [(n - 1) // s for n, s in zip(window, strides, strict=True)]
  sides = [(a, n - size) for a, n, size in zip(above, tiles, dy.shape[1:3], strict=True)]
  padded = [winograd.pad(x, *sides) for x in (dy, where)]
  dy, where = apart(padded)
  phases = [[jnp.zeros((shape[0], *tiles, shape[3]), dy.dtype)] * w for _ in range(h)]
  for number, (i, j) in enumerate(np.ndindex(window)):
    top, left = above[0] - i // h, above[1] - j // w
    here = lambda x: x[:, top : top + tiles[0], left : left + tiles[1]]  # noqa: B023, E731
    phases[i % h][j % w] += jnp.where(here(where) == number, here(dy), 0)
  phases = apart(phases)
  dx = jnp.stack([jnp.stack(row, 3) for row in phases], 2)  # [B, T, s, T, s, C]
  dx = dx.reshape(shape[0], tiles[0] * h, tiles[1] * w, shape[3])
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
