"""Convolution, pooling, local response normalisation and batch statistics, each in two forms that give the same numbers.

The plain form says what is computed, in `jax.lax`'s words, and is what accelerators want. The CPU form computes the
same through the operations that XLA's CPU backend runs well. Images are `[B, H, W, C]`, kernels `[h, w, C / groups, F]`.
"""

import contextlib
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FORMULATIONS = ('cpu', 'plain')
_forced: list[str] = []  # the innermost `use`, which overrides the platform's choice

Padding = str | Sequence[tuple[int, int]]


def formulation() -> str:
  """'cpu' or 'plain': which form a call traced now takes."""
  if _forced:
    return _forced[-1]
  return 'cpu' if jax.default_backend() == 'cpu' else 'plain'


@contextlib.contextmanager
def use(name: str):
  """Forces one formulation while tracing: in a test, or when compiling for a TPU on a machine that has none."""
  if name not in FORMULATIONS:
    raise ValueError(f'formulation {name!r} is none of {", ".join(FORMULATIONS)}')
  _forced.append(name)
  try:
    yield
  finally:
    _forced.pop()


def conv(x, kernel, *, strides=(1, 1), padding: Padding = 'SAME', groups: int = 1):
  """Cross-correlation of `[B, H, W, C]` with `[h, w, C / groups, F]`, in the input's dtype."""
  return _plain_conv(x, kernel, tuple(strides), _pads(x, kernel.shape[:2], strides, padding), groups)


def _plain_conv(x, kernel, strides, pads, groups):
  numbers = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(
    x, kernel, strides, pads, dimension_numbers=numbers, feature_group_count=groups
  )


def max_pool(x, window, strides, padding: Padding = 'VALID'):
  """The largest value of each window of `[B, H, W, C]`; of equal values, the first gets the gradient."""
  pads = ((0, 0), *_pads(x, window, strides, padding), (0, 0))
  return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), pads)


def avg_pool(x, window, strides, padding: Padding = 'VALID'):
  """The mean of each window of `[B, H, W, C]`; padding counts as zeros."""
  pads = ((0, 0), *_pads(x, window, strides, padding), (0, 0))
  total = lax.reduce_window(x, 0.0, lax.add, (1, *window, 1), (1, *strides, 1), pads)
  return total / np.prod(window)


def local_response_norm(x, size: int, k: float, alpha: float, beta: float):
  """`x / (k + alpha * s)^beta`, s the sum of squares over `size` adjacent channels (Krizhevsky 2012, section 3.3)."""
  below = size // 2
  pads = [(0, 0)] * (x.ndim - 1) + [(below, size - 1 - below)]
  window = (1,) * (x.ndim - 1) + (size,)
  total = lax.reduce_window(x * x, 0.0, lax.add, window, (1,) * x.ndim, pads)
  return x * (k + alpha * total) ** -beta


def batch_moments(x):
  """Mean and biased variance of `[..., C]` over all but the last axis, float32 `[C]`."""
  x = x.astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  mean = x.mean(axes)
  return mean, jnp.maximum((x * x).mean(axes) - mean * mean, 0.0)


def _pads(x, window, strides, padding: Padding):
  """Padding as ((low, high), (low, high)) of the two image axes."""
  if not isinstance(padding, str):
    return tuple(tuple(pair) for pair in padding)
  if padding not in ('SAME', 'VALID'):
    raise ValueError(f'padding {padding!r} is none of SAME, VALID or two (low, high) pairs')
  return tuple(lax.padtype_to_pads(x.shape[1:3], window, strides, padding))
