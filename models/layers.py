"""The layers that networks share, as linen modules over the operations of `models/ops.py`.

Images are `[B, H, W, C]`. Parameters are float32 and carry logical axis names; `dtype` is that of a
layer's inputs, products and outputs.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import lecun_normal, ones, zeros
from jax import Array, lax
from jax.sharding import PartitionSpec

from models import ops
from models.axes import BATCH_AXES, COLUMN_AXIS, bound_size, mesh_size

STATISTICS = ('global', 'device')  # of BatchNorm

Initializer = Callable[..., Array]


def he_normal(key: Array, shape: Sequence[int], dtype=jnp.float32) -> Array:
  """Draws from N(0, 2 / fan_out) for a kernel `[h, w, in, out]`.

  He et al. 2015 (arXiv 1502.01852), eq. 14.
  """
  # So that the variance of gradients is kept from layer to layer; fan_in (eq. 10) keeps that of
  # activations.
  fan_out = np.prod(shape) // shape[-2]  # h w out
  return np.sqrt(2 / fan_out).astype(np.float32) * jax.random.normal(key, shape, dtype)


def parameter(
  module: nn.Module,
  name: str,
  init: Initializer,
  shape: Sequence[int],
  axes: tuple[str | None, ...],
) -> Array:
  """Returns a float32 parameter of the module, whose initial value is boxed with its axes' names.

  Args:
    module: inside of its compact method or setup.
    name: of the parameter.
    init: `(key, shape, dtype) -> value`.
    shape: of the parameter.
    axes: the logical name of each axis, or None; `train/mesh.py` maps them to the mesh.
  """
  boxed = nn.with_logical_partitioning(init, axes)
  # Linen would constrain the value to its mesh axes, also where these do not divide it.
  value = module.param(name, boxed, tuple(shape), jnp.float32, unbox=False)
  return value.value if isinstance(value, nn.LogicallyPartitioned) else value


# -------- products --------


class Dense(nn.Module):
  """`x @ kernel + bias` on the last axis."""

  features: int
  kernel_init: Initializer = lecun_normal()
  bias_init: Initializer = zeros
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (x.shape[-1], self.features)
    kernel = parameter(self, 'kernel', self.kernel_init, shape, ('features_in', 'features_out'))
    bias = parameter(self, 'bias', self.bias_init, shape[1:], ('features_out',))
    # Cast where it is used: the parameter, its gradient and its update stay float32.
    y = ops.dense(x.astype(self.dtype), kernel.astype(self.dtype))
    return y + lax.broadcast_to_rank(bias, y.ndim).astype(self.dtype)


class Conv(nn.Module):
  """Convolution with a kernel `[h, w, C / groups, features]`.

  Attributes:
    features: output channels.
    window: h and w.
    strides: of height and width.
    padding: see `ops.conv`.
    groups: see `ops.conv`.
    use_bias: whether a bias is added to each output channel.
    kernel_init: initialiser of the kernel.
    bias_init: initialiser of the bias.
    out_axis: the logical name of the outputs; 'column' where they belong to AlexNet's columns,
      whose groups then stay on their own devices on a mesh with a `tensor` axis.
    dtype: of inputs, products and outputs.
  """

  features: int
  window: tuple[int, int]
  strides: tuple[int, int] = (1, 1)
  padding: ops.Padding = 'SAME'
  groups: int = 1
  use_bias: bool = True
  kernel_init: Initializer = lecun_normal()
  bias_init: Initializer = zeros
  out_axis: str = 'channels_out'
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (*self.window, x.shape[-1] // self.groups, self.features)
    axes = (None, None, 'channels_in', self.out_axis)
    kernel = parameter(self, 'kernel', self.kernel_init, shape, axes).astype(self.dtype)
    conv = column_conv if self.groups > 1 and self.out_axis == 'column' else ops.conv
    y = conv(
      x.astype(self.dtype), kernel, strides=self.strides, padding=self.padding, groups=self.groups
    )
    if self.use_bias:
      bias = parameter(self, 'bias', self.bias_init, (self.features,), (self.out_axis,))
      y = y + lax.broadcast_to_rank(bias, y.ndim).astype(self.dtype)
    return y


def column_conv(x: Array, kernel: Array, *, strides, padding, groups: int) -> Array:
  """Returns a grouped convolution, computed on the devices that hold its groups.

  XLA's partitioner gathers both operands of a grouped convolution onto every device. As the program
  of one device (`shard_map`), each convolves its own channels with its own filters and nothing
  travels.

  Args:
    x: `[B, H, W, C]`, its channels split over the columns' axis of the mesh.
    kernel: `[h, w, C / groups, F]`.
    strides: of height and width.
    padding: see `ops.conv`.
    groups: the number of columns.

  Raises:
    ValueError: the mesh would cut through a group.
  """
  devices = mesh_size(COLUMN_AXIS)
  if groups % devices:
    raise ValueError(
      f'mesh.{COLUMN_AXIS}={devices}: must divide the {groups} columns of the network'
    )
  # On each device as many groups as it has columns, of its own channels.
  conv = functools.partial(ops.conv, strides=strides, padding=padding, groups=groups // devices)
  if devices == 1:
    return conv(x, kernel)
  channels = PartitionSpec(None, None, None, COLUMN_AXIS)
  return jax.shard_map(
    conv, in_specs=(channels, channels), out_specs=channels, axis_names={COLUMN_AXIS}
  )(x, kernel)


class LocallyConnected(nn.Module):
  """A convolution of stride 1 that shares nothing: each position has its own filters and biases.

  The kernel is `[H, W, h * w * C, features]`; outputs have the inputs' height and width.
  """

  features: int
  window: tuple[int, int]
  kernel_init: Initializer = lecun_normal()
  bias_init: Initializer = zeros
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    # [B, H, W, h w C]: no convolution, whose kernel all positions would share.
    patches = neighbourhoods(x.astype(self.dtype), self.window)
    height, width, inputs = patches.shape[1:]
    shape = (height, width, self.features)
    bias = parameter(self, 'bias', self.bias_init, shape, (None, None, 'channels_out'))
    axes = (None, None, 'channels_in', 'channels_out')
    kernel = parameter(
      self, 'kernel', self.kernel_init, (height, width, inputs, self.features), axes
    )
    y = jnp.einsum('bhwp,hwpf->bhwf', patches, kernel.astype(self.dtype))
    return y + bias[None].astype(self.dtype)


def neighbourhoods(x: Array, window: tuple[int, int]) -> Array:
  """Returns the window around each position, zeros outside: `[B, H, W, h * w * C]`."""
  height, width = x.shape[1:3]
  h, w = window
  # As 'SAME' pads: of an even window the odd one goes to the end.
  x = jnp.pad(x, ((0, 0), ((h - 1) // 2, h // 2), ((w - 1) // 2, w // 2), (0, 0)))
  shifts = [x[:, i : i + height, j : j + width] for i in range(h) for j in range(w)]
  return jnp.concatenate(shifts, axis=-1)


# -------- pooling, normalisation, dropout --------


class MaxPool(nn.Module):
  """The largest value of each window."""

  window: tuple[int, int]
  strides: tuple[int, int]
  padding: ops.Padding = 'VALID'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    return ops.max_pool(x, self.window, self.strides, self.padding)


class LocalResponseNorm(nn.Module):
  """Response normalisation (Krizhevsky 2012, section 3.3) within each of `columns`, in float32."""

  size: int = 5
  k: float = 2.0
  alpha: float = 1e-4
  beta: float = 0.75
  columns: int = 1

  @nn.compact
  def __call__(self, x: Array) -> Array:
    # [B, H, W, columns, C / columns]: no sum of squares reaches over to the other column.
    columns = x.reshape(*x.shape[:-1], self.columns, -1)
    y = ops.local_response_norm(columns, self.size, self.k, self.alpha, self.beta)
    return y.reshape(x.shape)


class Dropout(nn.Module):
  """Zeroes each unit with probability `rate` in training.

  The paper multiplies all units by `1 - rate` at test time (Krizhevsky 2012, section 4.2);
  `inverted` divides the kept ones by it in training instead. Both expect in training what they
  compute at test time.
  """

  rate: float
  inverted: bool = True

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    keep = 1.0 - self.rate
    if not train or self.rate == 0.0:
      return x if self.inverted else x * keep
    kept = jax.random.bernoulli(self.make_rng('dropout'), keep, x.shape)
    return jnp.where(kept, x / keep if self.inverted else x, 0)


def check_sizes(**sizes: int | tuple[int, ...]) -> None:
  """Raises ValueError unless the sizes, named as in the section `model`, are positive."""
  for name, value in sizes.items():
    if min(value if isinstance(value, tuple) else (value,), default=1) < 1:
      raise ValueError(f'model.{name}={value!r}: must be at least 1')


def check_statistics(statistics: str) -> None:
  """Raises ValueError unless BatchNorm knows these statistics."""
  if statistics not in STATISTICS:
    raise ValueError(f'model.statistics={statistics!r}: choose from {", ".join(STATISTICS)}')


class BatchNorm(nn.Module):
  """Ioffe & Szegedy 2015, algorithms 1 and 2, per channel, in float32 whatever `dtype`.

  Attributes:
    statistics: whose moments normalise a batch in training: the whole batch's, over all devices
      ('global'), or each device's part by its own ('device', as He et al. 2015 trained).
    momentum: of the moving averages.
    epsilon: added to variances.
    scale_init: initialiser of the scale.
    dtype: of outputs.

  Both statistics mean the same under `jit` over a mesh, where 'device' computes the moments of as
  many groups as the mesh splits the batch into, and under `pmap`. Running statistics are moving
  averages; with 'device' of the devices' mean, which under pmap the step takes (`pmean` of
  `batch_stats`).

  A batch is normalised by its biased variance; the running variance averages unbiased ones, as the
  paper's algorithm 2 (step 10) has it.
  """

  statistics: str = 'global'
  momentum: float = 0.9
  epsilon: float = 1e-5
  scale_init: Initializer = ones
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    shape = x.shape[-1:]
    scale = parameter(self, 'scale', self.scale_init, shape, ('channels_out',))
    bias = parameter(self, 'bias', zeros, shape, ('channels_out',))
    mean = self.variable('batch_stats', 'mean', jnp.zeros, shape, jnp.float32)
    var = self.variable('batch_stats', 'var', jnp.ones, shape, jnp.float32)
    affine = functools.partial(
      normalise, scale=scale, bias=bias, epsilon=self.epsilon, dtype=self.dtype
    )
    # Initialisation runs on made-up inputs, which are to leave no trace in the running statistics.
    if not train or self.is_initializing():
      return affine(x, mean.value, var.value)
    y, batch_mean, batch_var = normalise_by_batch(x, affine, self.statistics)
    # After the batch was normalised by its own moments: training does not read these.
    mean.value = self.momentum * mean.value + (1 - self.momentum) * batch_mean
    var.value = self.momentum * var.value + (1 - self.momentum) * batch_var
    return y


def normalise(x: Array, mean: Array, var: Array, *, scale, bias, epsilon: float, dtype) -> Array:
  """Returns `(x - mean) / sqrt(var + epsilon) * scale + bias` in `dtype`, computed in float32."""
  # As a x + b the gradient needs two sums over x, not three.
  a = scale * lax.rsqrt(var + epsilon)
  a, b = lax.broadcast_to_rank(a, x.ndim), lax.broadcast_to_rank(bias - mean * a, x.ndim)
  return (x.astype(jnp.float32) * a + b).astype(dtype)


def normalise_by_batch(
  x: Array, affine: Callable[..., Array], statistics: str
) -> tuple[Array, Array, Array]:
  """Returns `affine(x, mean, var)` by the batch's moments; and mean and unbiased variance `[C]`."""

  def one_group(x: Array) -> tuple[Array, Array, Array]:
    mean, var, count = moments(x, everywhere=statistics == 'global')
    return affine(x, mean, var), mean, var * (count / max(count - 1, 1))

  groups = 1 if statistics == 'global' else mesh_size(*BATCH_AXES)
  if groups == 1:
    return one_group(x)
  if x.shape[0] % groups:
    raise ValueError(f"a batch of {x.shape[0]}: statistics='device' needs a multiple of {groups}")
  # The mesh cuts a batch into contiguous parts, so group i is device i's and nothing travels.
  y, mean, var = jax.vmap(one_group)(x.reshape(groups, -1, *x.shape[1:]))
  return y.reshape(x.shape), mean.mean(0), var.mean(0)


def moments(x: Array, *, everywhere: bool) -> tuple[Array, Array, int]:
  """Returns mean, biased variance `[C]` and the number of values; `everywhere`: of all replicas."""
  mean, var = ops.batch_moments(x)
  count = x.size // x.shape[-1]
  # Under jit the batch that is seen is the whole one; only pmap binds 'data'.
  if not everywhere or not (devices := bound_size('data')):
    return mean, var, count
  whole = lax.pmean(mean, 'data')
  # Variance within the devices' parts, plus that of their means: no difference of large numbers.
  return whole, lax.pmean(var + jnp.square(mean - whole), 'data'), count * devices
