"""Convolution, pooling, local response normalisation and batch moments, each in two forms.

The plain form says what is computed in the words of `jax.lax`, and is what accelerators want. The
CPU form computes the same numbers through the operations that XLA's CPU backend runs well; it has
reverse-mode gradients only. Images are `[B, H, W, C]`, kernels `[h, w, C / groups, F]`.
"""

import contextlib
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata

from models import winograd

FORMULATIONS = ('cpu', 'plain')
_forced: list[str] = []  # `use` blocks entered, innermost last

Padding = str | Sequence[tuple[int, int]]
Pair = tuple[int, int]


def formulation() -> str:
  """'cpu' or 'plain': which form is traced here and now."""
  if _forced:
    return _forced[-1]
  return 'cpu' if jax.default_backend() == 'cpu' else 'plain'


@contextlib.contextmanager
def use(name: str):
  """Forces a formulation while tracing: in a test, or to compile for a TPU on a machine without."""
  if name not in FORMULATIONS:
    raise ValueError(f'formulation {name!r}: choose from {", ".join(FORMULATIONS)}')
  _forced.append(name)
  try:
    yield
  finally:
    _forced.pop()


# -------- what XLA:CPU must not fuse --------


@jax.custom_vjp
def apart(x: Array) -> Array:
  """x, computed once, in memory, before anything that uses it; likewise its gradient.

  XLA:CPU fuses cheap producers into every consumer. A convolution's kernel gradient consumes its
  operands transposed, and in ResNet-20 that computed whole stages anew, one strided pixel at a
  time: half of the step. It drops `lax.optimization_barrier` before it fuses, but fuses nothing
  through a call that must not be inlined.
  """
  with set_xla_metadata(inlineable='false'):
    return _identity(x)


_identity = jax.jit(lambda x: x)
apart.defvjp(lambda x: (apart(x), None), lambda _, dx: (apart(dx),))


# -------- convolution --------


def conv(x: Array, kernel: Array, *, strides: Pair = (1, 1), padding: Padding = 'SAME', groups=1):
  """Cross-correlation of `[B, H, W, C]` with `[h, w, C / groups, F]`: `[B, H', W', F]`."""
  strides = tuple(strides)
  pads = _pads(x, kernel.shape[:2], strides, padding)
  if formulation() == 'plain':
    return _plain_conv(x, kernel, strides, pads, groups)
  return _cpu_conv(x, kernel, strides, pads, groups)


def _plain_conv(x, kernel, strides, pads, groups):
  layout = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(
    x, kernel, strides, pads, dimension_numbers=layout, feature_group_count=groups
  )


def _cpu_conv(x, kernel, strides, pads, groups):
  if groups > 1:
    # XLA:CPU computes the kernel gradient of a grouped convolution twenty times slower than this.
    xs, kernels = jnp.split(x, groups, -1), jnp.split(kernel, groups, -1)
    parts = [_cpu_conv(*pair, strides, pads, 1) for pair in zip(xs, kernels, strict=True)]
    return jnp.concatenate(parts, -1)
  if kernel.shape[:2] == (1, 1) and not any(map(any, pads)):
    x, strides = x[:, :: strides[0], :: strides[1]], (1, 1)
  return _one_conv(*_vary_alike(x, kernel), strides, pads)


def _vary_alike(*arrays):
  """All varying over the same axes of a `shard_map`, which then sums gradients outside of here."""
  varying = [jax.typeof(a).manual_axis_type.varying for a in arrays]
  missing = [tuple(frozenset().union(*varying) - v) for v in varying]
  return [lax.pcast(a, m, to='varying') if m else a for a, m in zip(arrays, missing, strict=True)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _one_conv(x, kernel, strides, pads):
  return apart(_convolve(apart(x), kernel, strides, pads))


def _conv_forward(x, kernel, strides, pads):
  x = apart(x)
  return apart(_convolve(x, kernel, strides, pads)), (x, kernel)


def _conv_backward(strides, pads, saved, dy):
  x, kernel = saved
  dy = apart(dy)
  return apart(_input_gradient(x, kernel, dy, strides, pads)), _kernel_gradient(
    x, kernel, dy, strides, pads
  )


_one_conv.defvjp(_conv_forward, _conv_backward)


def _convolve(x, kernel, strides, pads):
  if kernel.shape[:2] == (1, 1) and strides == (1, 1) and not any(map(any, pads)):
    return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))
  if m := _winograd_tile(x, kernel, strides, pads, 32):
    return winograd.convolve(x, kernel, pads, m, apart)
  return _plain_conv(x, kernel, strides, pads, 1)


def _input_gradient(x, kernel, dy, strides, pads):
  if strides == (1, 1):
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    pads = tuple(
      (n - 1 - low, n - 1 - high) for n, (low, high) in zip(kernel.shape[:2], pads, strict=True)
    )
    return _convolve(dy, turned, strides, pads)
  return jax.linear_transpose(lambda x: _plain_conv(x, kernel, strides, pads, 1), x)(dy)[0]


def _kernel_gradient(x, kernel, dy, strides, pads):
  if m := _winograd_tile(x, kernel, strides, pads, 16):
    return winograd.kernel_gradient(x, dy, pads, m, apart)
  if x.shape[-1] >= 16:
    x = apart(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    taps = _slices(x, kernel.shape[:2], strides)
    dkernel = [jnp.einsum('bhwc,bhwf->cf', tap, dy) for tap in taps]
    return jnp.stack(dkernel).reshape(kernel.shape)
  return jax.linear_transpose(lambda k: _plain_conv(x, k, strides, pads, 1), kernel)(dy)[0]


def _winograd_tile(x, kernel, strides, pads, least) -> int:
  """The m of the F(m x m, 3 x 3) that is fastest here, 0 where none is.

  Transforming x costs in proportion to tiles x channels, the kernel channels x channels, and both
  are repaid by the products in between, tiles x channels x channels: so there must be many of both.
  """
  channels = min(kernel.shape[2:])
  fits = kernel.shape[:2] == (3, 3) and strides == (1, 1) and max(map(max, pads)) <= 2
  if not fits or channels < least or x.dtype != jnp.float32:
    return 0
  size = winograd.output_size(x.shape, pads)
  tiles = {m: x.shape[0] * math.prod(-(-n // m) for n in size) for m in winograd.TRANSFORMS}
  if tiles[4] >= channels:
    return 4
  return 2 if tiles[2] >= channels // 4 and tiles[2] >= 64 else 0


# -------- pooling --------


def max_pool(x: Array, window: Pair, strides: Pair, padding: Padding = 'VALID') -> Array:
  """The largest value of each window; the first of equal ones takes its gradient."""
  window, strides = tuple(window), tuple(strides)
  pads = _pads(x, window, strides, padding)
  if formulation() == 'cpu':
    return _max_by_slices(x, window, strides, pads)
  return _reduce_window(x, -jnp.inf, lax.max, window, strides, pads)


def avg_pool(x: Array, window: Pair, strides: Pair, padding: Padding = 'VALID') -> Array:
  """The mean of each window, in which padding counts as zeros."""
  pads = _pads(x, window, strides, padding)
  if formulation() == 'cpu':
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    total = functools.reduce(jnp.add, _slices(x, window, strides))
  else:
    total = _reduce_window(x, 0.0, lax.add, window, strides, pads)
  return total / math.prod(window)


def _reduce_window(x, start, function, window, strides, pads):
  pads = ((0, 0), *pads, (0, 0))
  return lax.reduce_window(x, start, function, (1, *window, 1), (1, *strides, 1), pads)


def _slices(x, window, strides) -> list[Array]:
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
def _max_by_slices(x, window, strides, pads):
  return _max_forward(x, window, strides, pads)[0]


def _max_forward(x, window, strides, pads):
  """The maxima, and where in its window each was, int8."""
  shape = x.shape
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
  best, where = None, None
  for i, values in enumerate(_slices(x, window, strides)):
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


_max_by_slices.defvjp(_max_forward, _max_backward)


# -------- normalisation --------


def local_response_norm(x: Array, size: int, k: float, alpha: float, beta: float) -> Array:
  """`x / (k + alpha * s)^beta`, s the squares' sum over `size` adjacent channels.

  Krizhevsky 2012, section 3.3; channels beyond the first and last count as zeros.
  """
  if formulation() == 'cpu':
    return _response_norm(x, size, k, alpha, beta)
  pads = [(0, 0)] * (x.ndim - 1) + [(size // 2, size - 1 - size // 2)]
  window = (1,) * (x.ndim - 1) + (size,)
  total = lax.reduce_window(x * x, 0.0, lax.add, window, (1,) * x.ndim, pads)
  return x * (k + alpha * total) ** -beta


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _response_norm(x, size, k, alpha, beta):
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


_response_norm.defvjp(_response_forward, _response_backward)


def _band(x, size):
  """`[C, C]`: which channels (rows) are summed for which (columns)."""
  channels = np.arange(x.shape[-1])
  offset = channels[:, None] - channels[None, :] + size // 2
  return ((offset >= 0) & (offset < size)).astype(x.dtype)


def _power(x, beta):
  """`x^-beta`; of 3/4, the paper's, by two roots, each used once: so all of it becomes one loop."""
  return lax.rsqrt(x * jnp.sqrt(x)) if beta == 0.75 else x**-beta


def batch_moments(x: Array) -> tuple[Array, Array]:
  """Mean and biased variance of `[..., C]` over all but the last axis, float32 `[C]`."""
  x = x.astype(jnp.float32)
  if formulation() == 'cpu':
    rows = x.reshape(-1, x.shape[-1])
    weights = jnp.full(rows.shape[:1], 1 / rows.shape[0], x.dtype)
    mean, square = weights @ rows, weights @ (rows * rows)
  else:
    axes = tuple(range(x.ndim - 1))
    mean, square = x.mean(axes), (x * x).mean(axes)
  return mean, jnp.maximum(square - mean * mean, 0.0)


def _pads(x, window, strides, padding: Padding) -> tuple[Pair, Pair]:
  """Padding as ((low, high), (low, high)) of the two image axes."""
  if not isinstance(padding, str):
    return tuple((int(low), int(high)) for low, high in padding)
  if padding not in ('SAME', 'VALID'):
    raise ValueError(f'padding {padding!r}: choose from SAME, VALID, two pairs (low, high)')
  return tuple(lax.padtype_to_pads(x.shape[1:3], window, strides, padding))
