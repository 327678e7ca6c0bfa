"""Convolution, products and pooling in two forms; response normalisation and batch moments.

The plain form says what is computed in the words of `jax.lax`, and is what accelerators want. The
CPU form (`models/cpu/`) computes the same numbers as XLA's CPU backend runs them well; it has
reverse-mode gradients only. Images are `[B, H, W, C]`, kernels `[h, w, C / groups, F]`.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from models.cpu import images, onednn
from models.cpu.onednn import Pads, Pair
from models.forms import FORMULATIONS as FORMULATIONS
from models.forms import formulation as formulation
from models.forms import use as use

Padding = str | Sequence[tuple[int, int]]


# -------- products --------


def conv(x: Array, kernel: Array, *, strides: Pair = (1, 1), padding: Padding = 'SAME', groups=1):
  """Cross-correlation of `[B, H, W, C]` with `[h, w, C / groups, F]`: `[B, H', W', F]`."""
  strides = tuple(strides)
  pads = _pads(x, kernel.shape[:2], strides, padding)
  by_onednn = formulation() == 'cpu' and onednn.takes(x, kernel, strides, pads, groups)
  return (onednn.conv if by_onednn else onednn.plain_conv)(x, kernel, strides, pads, groups)


def dense(x: Array, kernel: Array) -> Array:
  """`x @ kernel`: `[..., C]` with `[C, F]`."""
  if formulation() == 'cpu' and x.ndim == 2:
    return images.dense(x, kernel)
  return jnp.dot(x, kernel)


# -------- pooling --------


def max_pool(x: Array, window: Pair, strides: Pair, padding: Padding = 'VALID') -> Array:
  """The largest value of each window; the first of equal ones takes its gradient."""
  window, strides = tuple(window), tuple(strides)
  pads = _pads(x, window, strides, padding)
  if formulation() == 'cpu':
    return images.max_pool(x, window, strides, pads)
  return _reduce_window(x, -jnp.inf, lax.max, window, strides, pads)


def avg_pool(x: Array, window: Pair, strides: Pair, padding: Padding = 'VALID') -> Array:
  """The mean of each window, in which padding counts as zeros."""
  pads = _pads(x, window, strides, padding)
  return _reduce_window(x, 0.0, lax.add, window, strides, pads) / math.prod(window)


def _reduce_window(x, start, function, window, strides, pads):
  pads = ((0, 0), *pads, (0, 0))
  return lax.reduce_window(x, start, function, (1, *window, 1), (1, *strides, 1), pads)


# -------- normalisation --------


def local_response_norm(x: Array, size: int, k: float, alpha: float, beta: float) -> Array:
  """`x / (k + alpha * s)^beta`, s the squares' sum over `size` adjacent channels.

  Krizhevsky 2012, section 3.3; channels beyond the first and last count as zeros.
  """
  pads = [(0, 0)] * (x.ndim - 1) + [(size // 2, size - 1 - size // 2)]
  window = (1,) * (x.ndim - 1) + (size,)
  total = lax.reduce_window(x * x, 0.0, lax.add, window, (1,) * x.ndim, pads)
  return x * (k + alpha * total) ** -beta


def batch_moments(x: Array) -> tuple[Array, Array]:
  """Mean and biased variance of `[..., C]` over all but the last axis, float32 `[C]`."""
  x = x.astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  mean, square = x.mean(axes), (x * x).mean(axes)
  return mean, jnp.maximum(square - mean * mean, 0.0)


def _pads(x, window, strides, padding: Padding) -> Pads:
  """Padding as ((low, high), (low, high)) of the two image axes."""
  if not isinstance(padding, str):
    return tuple((int(low), int(high)) for low, high in padding)
  if padding not in ('SAME', 'VALID'):
    raise ValueError(f'padding {padding!r}: choose from SAME, VALID, two pairs (low, high)')
  return tuple(lax.padtype_to_pads(x.shape[1:3], window, strides, padding))
