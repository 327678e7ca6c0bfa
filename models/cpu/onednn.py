"""Convolution and its two gradients by oneDNN, inside of XLA's programs for a CPU.

One of three calls, each with a result of its own: outputs of (x, kernel), the gradient of x of
(kernel, dy), the gradient of the kernel of (x, dy). `onednn.c` is the other side.
"""

import functools
import importlib.metadata
import math
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

from models.axes import BATCH_AXES, mesh_size, vary_alike
from models.cpu import build

FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT = range(3)
BLOCK = 16  # channels that are not cut apart: float32 numbers in the widest register
LAYOUT = ('NHWC', 'HWIO', 'NHWC')

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]  # (low, high) of height and width
Shapes = tuple[tuple[int, ...], ...]  # of x, kernel, y


def takes(x: Array, kernel: Array, *settings) -> bool:
  """Returns whether oneDNN is here and computes this: floats of up to 32 bits, a pixel or more."""
  floats = x.dtype in (jnp.float32, jnp.bfloat16, jnp.float16) and x.dtype == kernel.dtype
  return floats and not build.why_not() and all(map(math.prod, _shapes(x, kernel, settings)))


def description() -> str:
  """Returns in a few words what computes convolutions here, for run.json and the reader."""
  reason = build.why_not()
  version = '' if reason else importlib.metadata.version(build.PACKAGES[0])
  return f"XLA's own: {reason}" if reason else f'oneDNN of {version}, {threads()} threads'


def threads() -> int:
  """Returns how many threads compute: as many as this process has cores."""
  return len(os.sched_getaffinity(0))


def conv(x: Array, kernel: Array, *settings) -> Array:
  """Returns the convolution of `[B, H, W, C]` with `[h, w, C / groups, F]`: `[B, H', W', F]`.

  A jitted program over a mesh is cut here: XLA cannot look into a call, so it would gather the
  batch and have every device compute all of it. Has no second derivatives and no forward ones.
  """
  axes = tuple(axis for axis in BATCH_AXES if mesh_size(axis) > 1)
  if not axes or x.shape[0] % mesh_size(*axes):
    return _on_one_device(x, kernel, *settings)
  batch = PartitionSpec(axes)
  return jax.shard_map(
    lambda x, kernel: _on_one_device(x, kernel, *settings),
    in_specs=(batch, PartitionSpec()),
    out_specs=batch,
    axis_names=set(axes),
  )(x, kernel)


def _on_one_device(x, kernel, *settings):
  x, kernel = vary_alike(x, kernel)
  wide = (a.astype(np.float32) for a in (x, kernel))
  return _conv(*wide, *settings).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, kernel, *settings):
  return _call(FORWARD, x, kernel, _shapes(x, kernel, settings), settings)


def _forward(x, kernel, *settings):
  return _conv(x, kernel, *settings), (x, kernel)


def _backward(*arguments):
  *settings, (x, kernel), dy = arguments
  shapes = x.shape, kernel.shape, dy.shape
  dx = _call(INPUT_GRADIENT, kernel, dy, shapes, settings)
  parts = _call(KERNEL_GRADIENT, x, dy, shapes, settings)
  return dx, functools.reduce(lax.add, [parts[i] for i in range(len(parts))])


_conv.defvjp(_forward, _backward)


def _shapes(x, kernel, settings):
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
  job = _job(kind, shapes, settings[2])
  copies = job['jobs'] if job['steps'][1] == math.prod(shapes[1]) else 1
  result = {FORWARD: shapes[2], INPUT_GRADIENT: shapes[0]}.get(kind, (copies, *shapes[1]))
  attribute = _attribute(kind, job, shapes, *settings)
  workspace = build.library().onednn_conv_workspace(attribute.ctypes.data)
  if workspace < 0:
    raise NotImplementedError(f'oneDNN has no convolution for {shapes} with {settings}')
  results = jax.ShapeDtypeStruct(result, np.float32), jax.ShapeDtypeStruct((workspace,), np.uint8)
  y, _ = jax.ffi.ffi_call('onednn_conv', results, vmap_method='sequential')(a, b, call=attribute)
  varying = tuple(jax.typeof(a).manual_axis_type.varying)  # which the call's result forgets
  return lax.pcast(y, varying, to='varying') if varying else y


@_call.defjvp
def _refuse(*_):
  raise NotImplementedError(
    'a convolution on a CPU has no second derivative and no forward-mode one:'
    " trace the function under models.ops.use('plain')"
  )


def _job(kind: int, shapes: Shapes, groups: int) -> dict:
  """Returns what one of the equal jobs of a call is: its sizes, and how far apart jobs begin.

  Jobs are images, whose kernel each of them lays out anew; or output channels, which each copies
  from among the others, where the kernel is the larger array or images are too few.
  """
  (B, H, W, C), kernel, (_, out_h, out_w, F) = shapes
  channels = C if kind == INPUT_GRADIENT else F
  blocks = channels // BLOCK if groups == 1 and channels % BLOCK == 0 else 1
  heavy = math.prod(kernel) > math.prod(shapes[0]) + math.prod(shapes[2])
  if blocks > 1 and (heavy or min(blocks, threads()) > B):
    jobs = _at_least(threads(), blocks)
    part = channels // jobs
    if kind == INPUT_GRADIENT:
      return {'jobs': jobs, 'sizes': (B, part, F), 'steps': (part, part * F, 0)}
    return {'jobs': jobs, 'sizes': (B, C, part), 'steps': (0, part, part)}
  jobs = _at_most(threads(), B) if kind == KERNEL_GRADIENT else _at_least(threads(), B)
  of_kernel = math.prod(kernel) if kind == KERNEL_GRADIENT else 0
  n = B // jobs
  steps = n * H * W * C, of_kernel, n * out_h * out_w * F
  return {'jobs': jobs, 'sizes': (n, C, F), 'steps': steps}


def _at_least(count: int, whole: int) -> int:
  """The smallest divisor of `whole` from `count` on, or all."""
  return next(n for n in range(min(count, whole), whole + 1) if whole % n == 0)


def _at_most(count: int, whole: int) -> int:
  return next(n for n in range(min(count, whole), 0, -1) if whole % n == 0)


def _attribute(kind, job, shapes, strides, pads, groups) -> np.ndarray:
  """Returns the numbers in the order of the enum in `onednn.c`."""
  (_, H, W, C), (h, w, _, _), (_, out_h, out_w, F) = shapes
  (top, bottom), (left, right) = pads
  numbers = (kind, job['jobs'], *job['sizes'], *job['steps'], C, F, H, W, out_h, out_w, h, w)
  return np.array([*numbers, groups, *strides, top, left, bottom, right], np.int64)
