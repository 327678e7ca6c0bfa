"""Convolution and its two gradients by oneDNN, inside of XLA's programs for a CPU.

One of three calls, each with a result of its own: outputs of (x, kernel), the gradient of x of
(kernel, dy), the gradient of the kernel of (x, dy). `onednn.c` is the other side. In bfloat16 where
the processor multiplies it, else in float32.
"""

import functools
import importlib.metadata
import math
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from models.axes import over_batch, vary_alike
from models.cpu import build

FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT = range(3)
BLOCK = 16  # channels that are not cut apart: float32 numbers in the widest register
LAYOUT = ('NHWC', 'HWIO', 'NHWC')

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # (low, high) of height and width
Shapes = tuple[tuple[int, ...], ...]  # of x, kernel, y


def takes(x: Array | jax.ShapeDtypeStruct, kernel: Array, *settings) -> bool:
  """Returns whether oneDNN is here and has this convolution, of floats of 32 bits or less."""
  floats = x.dtype in (jnp.float32, jnp.bfloat16, jnp.float16) and x.dtype == kernel.dtype
  if not floats or build.why_not():
    return False
  shapes = _shapes(x, kernel, settings)
  kinds = (FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT)
  # All three calls or none: a forward pass whose gradient is missing would fail late.
  return all(map(math.prod, shapes)) and all(
    _workspace(_numbers(kind, shapes, _width(x.dtype), *settings)) >= 0 for kind in kinds
  )


def description() -> str:
  """Returns in a few words what computes convolutions here, for run.json and the reader."""
  if reason := build.why_not():
    return f"XLA's own, since {reason}"
  package = build.PACKAGES[0]
  half = ', bfloat16' if build.library().onednn_has_bfloat16() else ''
  return f'oneDNN ({package} {importlib.metadata.version(package)}), {threads()} threads{half}'


def threads() -> int:
  """Returns how many threads compute: as many as this process has cores."""
  return len(os.sched_getaffinity(0))


def conv(x: Array, kernel: Array, *settings) -> Array:
  """Returns the convolution of `[B, H, W, C]` with `[h, w, C / groups, F]`: `[B, H', W', F]`.

  A jitted program over a mesh is cut here: XLA cannot look into a call, so it would gather the
  batch and have every device compute all of it. Has no second derivatives and no forward ones.
  """
  return over_batch(lambda x, kernel: _on_one_device(x, kernel, *settings), x, kernel)


def _on_one_device(x, kernel, *settings):
  x, kernel = vary_alike(x, kernel)
  # Where half precision is computed in float32 its gradients come back through these casts.
  cast = (a.astype(_width(x.dtype)) for a in (x, kernel))
  return _conv(*cast, *settings).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, kernel, *settings):
  return _call(FORWARD, x, kernel, _shapes(x, kernel, settings), settings)


def _forward(x, kernel, *settings):
  return _conv(x, kernel, *settings), (x, kernel)


def _backward(*arguments):
  *settings, (x, kernel), dy = arguments
  shapes = x.shape, kernel.shape, dy.shape
  dx = _call(INPUT_GRADIENT, kernel, dy, shapes, settings)
  return dx, _kernel_gradient(x, dy, shapes, settings)


_conv.defvjp(_forward, _backward)


def _kernel_gradient(x: Array, dy: Array, shapes: Shapes, settings) -> Array:
  sums = _call(KERNEL_GRADIENT, x, dy, shapes, settings)
  # [n, h, w, C / groups, F]: each job wrote its own; the order of the sum is always the same.
  return functools.reduce(lax.add, [sums[i] for i in range(len(sums))]).astype(x.dtype)


def conv_transpose(x: Array, kernel: Array, image: tuple[int, ...], *settings) -> Array:
  """Returns the transpose of `conv` with these settings: `[B, H', W', F]` to `[B, H, W, C]`.

  image: [H, W, C]. kernel: `[h, w, C, F]`, as of `conv`, whose gradient of x this computes.
  """

  def on_one_device(x: Array, kernel: Array) -> Array:
    x, kernel = vary_alike(x, kernel)
    cast = (a.astype(_width(x.dtype)) for a in (x, kernel))
    return _conv_transpose(*cast, image, *settings).astype(x.dtype)

  return over_batch(on_one_device, x, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _conv_transpose(x, kernel, image, *settings):
  shapes = (len(x), *image), kernel.shape, x.shape
  return _call(INPUT_GRADIENT, kernel, x, shapes, settings)


def _transpose_forward(x, kernel, image, *settings):
  return _conv_transpose(x, kernel, image, *settings), (x, kernel)


def _transpose_backward(image, *arguments):
  *settings, (x, kernel), dy = arguments
  shapes = dy.shape, kernel.shape, x.shape
  dx = _call(FORWARD, dy, kernel, shapes, settings)
  return dx, _kernel_gradient(dy, x, shapes, settings)


_conv_transpose.defvjp(_transpose_forward, _transpose_backward)


def _shapes(x, kernel, settings):
  # XLA's own rule for the shape, of which nothing is computed.
  y = jax.eval_shape(lambda x, kernel: plain_conv(x, kernel, *settings), x, kernel)
  return x.shape, kernel.shape, y.shape


def plain_conv(x: Array, kernel: Array, strides: Pair, pads: Pads, groups: int) -> Array:
  """Returns the convolution by XLA's own operation."""
  return lax.conv_general_dilated(
    x, kernel, strides, pads, dimension_numbers=LAYOUT, feature_group_count=groups
  )


# -------- the call --------


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 3, 4))
def _call(kind: int, a: Array, b: Array, shapes: Shapes, settings) -> Array:
  """Returns y or dx; or `[n, h, w, C / groups, F]`, whose sum is the kernel's gradient."""
  numbers = _numbers(kind, shapes, a.dtype, *settings)
  kernels = _job(kind, shapes, settings[2]).kernels
  shape = {FORWARD: shapes[2], INPUT_GRADIENT: shapes[0]}.get(kind, (kernels, *shapes[1]))
  dtype = np.float32 if kind == KERNEL_GRADIENT else a.dtype
  # Scratch is a result of the call, so that XLA plans its memory with all the rest.
  workspace = jax.ShapeDtypeStruct((_workspace(numbers),), np.uint8)
  call = jax.ffi.ffi_call(
    'onednn_conv', (jax.ShapeDtypeStruct(shape, dtype), workspace), vmap_method='sequential'
  )
  y, _ = call(a, b, numbers=np.array(numbers, np.int64))
  varying = tuple(jax.typeof(a).manual_axis_type.varying)  # which the call's result forgets
  return lax.pcast(y, varying, to='varying') if varying else y


# Without a rule JAX would complain of an FFI call; this says what to do.
@_call.defjvp
def _refuse(*_):
  raise NotImplementedError(
    'a convolution on a CPU has no second derivative and no forward-mode one:'
    " trace the function under models.ops.use('plain')"
  )


class Job(NamedTuple):
  """One of the `jobs` equal jobs of a call.

  Attributes:
    jobs: their number.
    sizes: how many images, input channels and output channels each has.
    steps: how far behind it the next one begins in x, kernel and y, in numbers.
    kernels: into how many arrays the jobs of a kernel's gradient write.
  """

  jobs: int
  sizes: tuple[int, int, int]
  steps: tuple[int, int, int]
  kernels: int = 1


def _job(kind: int, shapes: Shapes, groups: int) -> Job:
  """Cuts a call along its images, each of whose jobs lays the kernel out anew.

  Or along its result's channels, which a job copies from among the others, where the kernel is the
  largest array or images are too few.
  """
  (B, H, W, C), kernel, (_, out_h, out_w, F) = shapes
  channels = C if kind == INPUT_GRADIENT else F
  blocks = channels // BLOCK if groups == 1 and channels % BLOCK == 0 else 1
  heavy = math.prod(kernel) > math.prod(shapes[0]) + math.prod(shapes[2])
  if blocks > 1 and (heavy or min(blocks, threads()) > B):
    jobs = _divisor(blocks, threads())
    part = channels // jobs
    if kind == INPUT_GRADIENT:
      return Job(jobs, (B, part, F), (part, part * F, 0))
    return Job(jobs, (B, C, part), (0, part, part))
  # A kernel's gradient is a sum over images: no more terms than threads.
  jobs = _divisor(B, threads(), most=kind == KERNEL_GRADIENT)
  # `steps` 0 means one array for all jobs: the kernel, unless each writes a gradient of its own.
  n, separate = B // jobs, kind == KERNEL_GRADIENT
  steps = n * H * W * C, math.prod(kernel) * separate, n * out_h * out_w * F
  return Job(jobs, (n, C, F), steps, jobs if separate else 1)


def _divisor(whole: int, count: int, *, most: bool = False) -> int:
  """Returns the divisor of `whole` nearest to `count` from above, or from below if `most`."""
  # Jobs are equal, since one plan of oneDNN's serves all.
  divisors = [n for n in range(1, whole + 1) if whole % n == 0]
  if most:
    return max(n for n in divisors if n <= count)
  return min((n for n in divisors if n >= count), default=whole)


def _numbers(
  kind: int, shapes: Shapes, dtype: DTypeLike, strides: Pair, pads: Pads, groups: int
) -> tuple[int, ...]:
  """Returns the call's attribute, in the order of the enum in `onednn.c`."""
  (_, H, W, C), (h, w, _, _), (_, out_h, out_w, F) = shapes
  (top, bottom), (left, right) = pads
  job = _job(kind, shapes, groups)
  sizes = C, F, H, W, out_h, out_w, h, w
  edges = top, left, bottom, right
  half = int(dtype == jnp.bfloat16)
  return kind, job.jobs, *job.sizes, *job.steps, *sizes, groups, *strides, *edges, half


def _width(dtype: DTypeLike) -> DTypeLike:
  """Returns what arrays of `dtype` are convolved in."""
  half = dtype == jnp.bfloat16 and build.library().onednn_has_bfloat16()
  return jnp.bfloat16 if half else np.float32


# oneDNN plans the convolution to answer, and tracing asks more than once.
@functools.lru_cache(maxsize=1024)
def _workspace(numbers: tuple[int, ...]) -> int:
  """Returns the bytes that the call needs beside its arrays; -1: oneDNN has no such convolution."""
  array = np.array(numbers, np.int64)
  return build.library().onednn_conv_workspace(array.ctypes.data)
