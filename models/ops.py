"""Convolution, products and pooling in two forms; response normalisation and batch moments.

The plain form says what is computed in terms of `jax.lax`. The CPU form (`models/cpu/`) computes
the same numbers in another order and has reverse-mode gradients only; `models/forms.py` chooses.
Images are `[B, H, W, C]`, kernels `[h, w, C / groups, F]`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from models.axes import over_batch
from models.cpu import decode, images, onednn
from models.cpu.onednn import Pads, Pair
from models.forms import FORMULATIONS as FORMULATIONS
from models.forms import formulation as formulation
from models.forms import use as use

Padding = str | Sequence[tuple[int, int]]
BLOCK = 64  # numbers of which `top_k` first takes the largest


# -------- products --------


def conv(
  x: Array,
  kernel: Array,
  *,
  strides: Pair = (1, 1),
  padding: Padding = 'SAME',
  groups: int = 1,
) -> Array:
  """Returns the cross-correlation `[B, H', W', F]` of images with a kernel.

  Args:
    x: `[B, H, W, C]`.
    kernel: `[h, w, C / groups, F]`.
    strides: of height and width.
    padding: 'SAME', 'VALID', or two pairs (low, high).
    groups: into how many groups the channels are cut; each output sees the inputs of its own.

  Raises:
    ValueError: `padding` is none of these.
  """
  pads = _pads(x, kernel.shape[:2], strides, padding)
  # Decided while tracing, by shapes: the compiled program holds one of the two.
  settings = strides, pads, groups
  if formulation() == 'cpu' and onednn.takes(x, kernel, *settings):
    return onednn.conv(x, kernel, *settings)
  if groups == 1:
    return onednn.plain_conv(x, kernel, *settings)
  # XLA's partitioner would gather the batch for a grouped one.
  return over_batch(lambda x, kernel: onednn.plain_conv(x, kernel, *settings), x, kernel)


def conv_transpose(x: Array, kernel: Array, *, strides: Pair = (1, 1)) -> Array:
  """Returns the transposed convolution `[B, s H, s W, F]` of images with a kernel.

  It is the transpose of the linear map `conv` with the same kernel, strides and padding 'SAME', as
  in PyTorch; papers say fractionally strided convolution.

  Args:
    x: `[B, H, W, C]`.
    kernel: `[h, w, F, C]`, that of the convolution from F channels to C.
    strides: s of height and width.
  """
  sizes = (n * s for n, s in zip(x.shape[1:3], strides, strict=True))
  y = jax.ShapeDtypeStruct((len(x), *sizes, kernel.shape[2]), x.dtype)
  settings = strides, _pads(y, kernel.shape[:2], strides, 'SAME'), 1
  if formulation() == 'cpu' and onednn.takes(y, kernel, *settings):
    return onednn.conv_transpose(x, kernel, y.shape[1:], *settings)
  return jax.linear_transpose(lambda y: onednn.plain_conv(y, kernel, *settings), y)(x)[0]


def dense(x: Array, kernel: Array) -> Array:
  """Returns `x @ kernel`: `[..., C]` with `[C, F]`."""
  if formulation() == 'cpu' and x.ndim == 2:
    return images.dense(x, kernel)
  return jnp.dot(x, kernel)


def dense_transposed(x: Array, kernel: Array, dtype: DTypeLike | None = None) -> Array:
  """Returns `x @ kernel.T`, of that dtype: `[B, C]` with `[F, C]`."""
  if formulation() == 'cpu' and decode.accepts(x):
    return decode.dense_transposed(x, kernel).astype(dtype or x.dtype)
  axes = (((1,), (1,)), ((), ()))  # contracts the last axes of both
  return lax.dot_general(x, kernel, axes, preferred_element_type=dtype)


# -------- ranks --------


def top_k(x: Array, k: int) -> tuple[Array, Array]:
  """Returns the k largest of each row `[..., C]`, the largest first, and where they are.

  As `lax.top_k`: of equal ones the first; zeros of either sign are equal, NaN has no rank. Sorts
  few numbers where k is small beside C: the k blocks with the largest maxima hold all of them.
  """
  x = jnp.where(x == 0, 0.0, x)  # lax.top_k has -0 below 0
  rows, C = x.shape[:-1], x.shape[-1]
  blocks = -(-C // BLOCK)
  if 4 * k > blocks:
    return lax.top_k(x, k)
  edge = [(0, 0)] * len(rows) + [(0, blocks * BLOCK - C)]
  x = jnp.pad(x, edge, constant_values=-jnp.inf).reshape(*rows, blocks, BLOCK)
  # In the order of their places, so that of equal numbers the first is the first of these, too.
  chosen = jnp.sort(lax.top_k(x.max(-1), k)[1], axis=-1)
  near = jnp.take_along_axis(x, chosen[..., None], axis=-2).reshape(*rows, -1)
  largest, at = lax.top_k(near, k)
  block = jnp.take_along_axis(chosen, at // BLOCK, axis=-1)
  return largest, block * BLOCK + at % BLOCK


def has_largest(x: Array) -> Array:
  """Returns whether each row `[..., C]` has a finite largest number and no NaN: `[...]`."""
  # XLA's CPU backend leaves NaN out of the maximum of a long row.
  return jnp.isfinite(x.max(-1)) & ~jnp.isnan(x).any(-1)


# -------- pooling --------


def max_pool(x: Array, window: Pair, strides: Pair, padding: Padding = 'VALID') -> Array:
  """Returns the largest value of each window; the first of equal ones takes its gradient."""
  pads = _pads(x, window, strides, padding)
  if formulation() == 'cpu':
    return images.max_pool(x, window, strides, pads)
  return _reduce_window(x, -jnp.inf, lax.max, window, strides, pads)


def avg_pool(x: Array, window: Pair, strides: Pair, padding: Padding = 'VALID') -> Array:
  """Returns the mean of each window, in which padding counts as zeros."""
  pads = _pads(x, window, strides, padding)
  # By the whole window at the edge as well, since padding counts.
  return _reduce_window(x, 0.0, lax.add, window, strides, pads) / math.prod(window)


def _reduce_window(x, start, function, window, strides, pads):
  pads = ((0, 0), *pads, (0, 0))
  return lax.reduce_window(x, start, function, (1, *window, 1), (1, *strides, 1), pads)


# -------- normalisation --------


def local_response_norm(x: Array, size: int, k: float, alpha: float, beta: float) -> Array:
  """Returns `x / (k + alpha * s)^beta`, where s sums the squares of `size` adjacent channels.

  Krizhevsky 2012, section 3.3; channels beyond the first and last count as zeros. Computed in
  float32 whatever the dtype of x.
  """
  dtype, x = x.dtype, x.astype(jnp.float32)
  pads = [(0, 0)] * (x.ndim - 1) + [(size // 2, size - 1 - size // 2)]
  window = (1,) * (x.ndim - 1) + (size,)
  # A window along channels alone, as long as `size`.
  total = lax.reduce_window(x * x, 0.0, lax.add, window, (1,) * x.ndim, pads)
  # A power is slow on a CPU: with it `alexnet_cifar10` trained at 575 images a second, not at 750.
  return (x * jnp.exp(-beta * jnp.log(k + alpha * total))).astype(dtype)


def batch_moments(x: Array) -> tuple[Array, Array]:
  """Returns mean and biased variance over all axes but the last: `[..., C]` to float32 `[C]`."""
  x = x.astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  # Both sums in one pass over x. The difference may round below 0.
  mean, square = x.mean(axes), (x * x).mean(axes)
  return mean, jnp.maximum(square - mean * mean, 0.0)


def _pads(
  x: Array | jax.ShapeDtypeStruct, window: Sequence[int], strides: Pair, padding: Padding
) -> Pads:
  """Returns ((low, high), (low, high)) for height and width."""
  if isinstance(padding, str):
    if padding not in ('SAME', 'VALID'):
      raise ValueError(f'padding {padding!r}: choose from SAME, VALID, two pairs (low, high)')
    padding = lax.padtype_to_pads(x.shape[1:3], window, strides, padding)
  (top, bottom), (left, right) = padding
  return (int(top), int(bottom)), (int(left), int(right))
