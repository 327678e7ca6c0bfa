"""The blocks of `unet`: norms, residual blocks, attention, resampling.

Images are `[B, H, W, C]`. Norms and softmaxes are computed in float32 whatever `dtype`.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import ones, zeros
from jax import Array

from models import attention as attention_lib
from models.diffusion.conditioning import linear, uniform
from models.layers import Conv, Dropout, Initializer, parameter
from models.transformer import dense_each

EPSILON = 1e-6
GROUP_WIDTH = 4  # the fewest channels of a group
TAPS = {False: (1, 1), True: (1, 3, 3, 1)}  # filters of resampling, by the field `fir`

conv3 = functools.partial(Conv, window=(3, 3), padding=((1, 1), (1, 1)), kernel_init=uniform)
conv1 = functools.partial(Conv, window=(1, 1), kernel_init=uniform)


# -------- norms --------


class GroupNorm(nn.Module):
  """Group normalisation (Wu and He 2018, arXiv 1803.08494), then SiLU.

  groups: the largest number of groups.
  group_width: the fewest channels of a group.
  epsilon: added to variances.
  silu: whether SiLU follows.
  """

  groups: int
  group_width: int = GROUP_WIDTH
  epsilon: float = EPSILON
  silu: bool = True
  dtype: str = 'float32'

  @nn.compact
  def __call__(
    self,
    x: Array,
    shift: Array | None = None,
    factor: Array | None = None,
    term: Array | None = None,
  ) -> Array:
    """Returns `[B, H, W, C]`, (1 + factor) norm(x + shift) + term before the SiLU.

    shift: `[1 or B, C]` or None. factor, term: `[B, C]`, both or none (ADM's adaptive norm).
    """
    shape = x.shape[-1:]
    scale = parameter(self, 'scale', ones, shape, ('channels_out',))[None]
    bias = parameter(self, 'bias', zeros, shape, ('channels_out',))[None]
    if factor is not None and term is not None:
      factor = 1 + factor.astype(jnp.float32)
      scale, bias = scale * factor, bias * factor + term.astype(jnp.float32)
    shift = jnp.zeros((1, *shape)) if shift is None else shift.astype(jnp.float32)
    groups = groups_of(x.shape[-1], self.groups, self.group_width)
    return group_norm(x, scale, bias, shift, groups, self.epsilon, self.silu).astype(self.dtype)


def groups_of(channels: int, most: int, least: int = GROUP_WIDTH) -> int:
  """Returns the largest number <= most that divides channels into groups of `least` or more."""
  return max(n for n in range(1, max(min(most, channels // least), 1) + 1) if channels % n == 0)


def group_norm(x, scale, bias, shift, groups: int, epsilon: float, silu: bool) -> Array:
  """Returns the normalised `x + shift`, float32; x `[B, H, W, C]`, all else `[1 or B, C]`."""
  # As a x + b, with a and b from each channel's moments: x is read twice, and never as x + shift.
  x = x.astype(jnp.float32)
  mean, square = x.mean((1, 2)), (x * x).mean((1, 2))  # [B, C]
  mean, square = mean + shift, square + 2 * shift * mean + shift * shift
  mean, square = (in_groups(moment, groups) for moment in (mean, square))
  a = scale * jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0) + epsilon)
  b = bias + a * (shift - mean)
  y = x * a[:, None, None] + b[:, None, None]
  return nn.silu(y) if silu else y


def in_groups(x: Array, groups: int) -> Array:
  """Returns for each channel the mean over its group, `[B, C]`."""
  means = x.reshape(len(x), groups, -1).mean(-1)
  return jnp.repeat(means, x.shape[1] // groups, axis=1)


# -------- residual blocks --------


class ResBlock(nn.Module):
  """Twice GroupNorm, SiLU and a 3x3 convolution, with the embedding `[B, D]` of noise and label.

  features: output channels.
  resample: 'up' or 'down' between the first SiLU and convolution, and on the shortcut (BigGAN's
    blocks, Brock et al. 2018), or ''.
  scale_shift_norm: the embedding scales and shifts the second norm (ADM, arXiv 2105.05233, section
    3); otherwise it is added before it.
  skip_rescale: divides the sum with the shortcut by sqrt(2) (Song et al. 2021, appendix H).
  project_shortcut: a resampled shortcut has a 1x1 convolution even if channels stay the same.
  fir: resamples with the filter (1, 3, 3, 1) instead of (1, 1).
  """

  features: int
  groups: int = 32
  group_width: int = GROUP_WIDTH
  epsilon: float = EPSILON
  dropout: float = 0.0
  resample: str = ''
  scale_shift_norm: bool = False
  skip_rescale: bool = False
  project_shortcut: bool = False
  fir: bool = False
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, embedding: Array, train: bool) -> Array:
    norm = functools.partial(
      GroupNorm, self.groups, self.group_width, self.epsilon, dtype=self.dtype
    )
    h = norm(name='norm1')(x)
    if self.resample:
      h, x = (resample(y, self.resample, TAPS[self.fir]) for y in (h, x))
    h = conv3(self.features, use_bias=False, dtype=self.dtype, name='conv1')(h)
    # The convolution's bias goes into the norm's shift, which costs nothing more.
    bias = parameter(self, 'conv1_bias', zeros, (self.features,), ('channels_out',))[None]
    h = norm(name='norm2')(h, *self.modulation(embedding, bias))
    h = Dropout(self.dropout, name='dropout')(h, train=train)
    h = conv3(self.features, kernel_init=zeros, dtype=self.dtype, name='conv2')(h)
    if x.shape[-1] != self.features or (self.resample and self.project_shortcut):
      x = conv1(self.features, dtype=self.dtype, name='shortcut')(x)
    return add(x, h, self.skip_rescale)

  def modulation(self, embedding: Array, bias: Array) -> tuple[Array | None, ...]:
    """Returns (shift, factor, term) for the second norm."""
    out = self.features * (2 if self.scale_shift_norm else 1)
    y = linear(out, dtype=self.dtype, name='embedding')(embedding)
    return (bias, *jnp.split(y, 2, axis=-1)) if self.scale_shift_norm else (bias + y, None, None)


def add(x: Array, h: Array, rescale: bool) -> Array:
  """Returns x + h, over sqrt(2) with rescale: then unit variances stay unit."""
  return (x + h) * math.sqrt(0.5) if rescale else x + h


# -------- attention --------


class Linear(nn.Module):
  """The weights `{'kernel': [C, F], 'bias': [F]}` of a linear layer, for `transformer.dense`."""

  shape: tuple[int, int]
  axes: tuple[str, str]
  kernel_init: Initializer = uniform

  @nn.compact
  def __call__(self) -> dict[str, Array]:
    return {
      'kernel': parameter(self, 'kernel', self.kernel_init, self.shape, self.axes),
      'bias': parameter(self, 'bias', zeros, self.shape[1:], self.axes[1:]),
    }


class Attention(nn.Module):
  """Self-attention over positions, or cross-attention to a context (Ho 2020, appendix B).

  head_width: channels per head, a divisor of C.
  """

  head_width: int
  groups: int = 32
  group_width: int = GROUP_WIDTH
  epsilon: float = EPSILON
  skip_rescale: bool = False
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, context: Array | None = None, mask: Array | None = None) -> Array:
    """Returns x `[B, H, W, C]` plus the attention's output.

    context: `[B, L, D]`, or None for self-attention. mask: bool `[B, L]`, the positions that exist.
    """
    norm = GroupNorm(
      self.groups, self.group_width, self.epsilon, silu=False, dtype=self.dtype, name='norm'
    )
    h = norm(x)
    h = h.reshape(x.shape[0], -1, x.shape[-1])  # [B, T, C]
    if context is None:
      q, k, v = dense_each(h, self.weights(h, 'query', 'key', 'value'))
    else:
      context = context.astype(self.dtype)
      (q,) = dense_each(h, self.weights(h, 'query'))
      k, v = dense_each(context, self.weights(context, 'key', 'value', features=x.shape[-1]))
    q, k, v = (y.reshape(*y.shape[:2], -1, self.head_width) for y in (q, k, v))
    h = attention_lib.full(q, k, v, mask=mask).reshape(h.shape)
    shape, axes = (x.shape[-1],) * 2, ('heads', 'width')
    (h,) = dense_each(h, [Linear(shape, axes, zeros, name='out')()])
    return add(x, h.reshape(x.shape), self.skip_rescale)

  def weights(self, x: Array, *names: str, features: int | None = None) -> list[dict[str, Array]]:
    shape = x.shape[-1], features or x.shape[-1]
    return [Linear(shape, ('width', 'heads'), name=name)() for name in names]


# -------- resampling --------


def resample(x: Array, to: str, taps: tuple[int, ...]) -> Array:
  """Returns x with twice (to='up') or half ('down') the height and width, filtered by `taps`.

  (1, 1): repetition, and means of 2 x 2 pixels; (1, 3, 3, 1): Zhang 2019 (arXiv 1904.11486).
  """
  one = halve if to == 'down' else double
  return one(one(x, taps, 1), taps, 2)


def halve(x: Array, taps: tuple[int, ...], axis: int) -> Array:
  """Returns every second value of x filtered along an axis, with zeros beyond its ends."""
  size, pad = x.shape[axis] // 2, len(taps) // 2 - 1
  x = pad_axis(x, axis, pad)
  windows = [jax.lax.slice_in_dim(x, k, k + 2 * size - 1, 2, axis) for k in range(len(taps))]
  return weighted_sum(windows, taps)


def double(x: Array, taps: tuple[int, ...], axis: int) -> Array:
  """Returns twice the transpose of `halve`: value i of x is spread from 2i - pad on by the taps."""
  size, reach = x.shape[axis], len(taps) // 4  # neighbours on each side with a weight
  x, phases = pad_axis(x, axis, reach), []
  for phase in range(2):
    # In the result's value 2i + phase, x[i + j] has the tap number phase + pad - 2j.
    pairs = [(j, phase + len(taps) // 2 - 1 - 2 * j) for j in range(-reach, reach + 1)]
    terms = [
      jax.lax.slice_in_dim(x, reach + j, reach + j + size, 1, axis) * (2 * taps[k] / sum(taps))
      for j, k in pairs
      if 0 <= k < len(taps)
    ]
    phases.append(sum(terms[1:], start=terms[0]))
  y = jnp.stack(phases, axis + 1)
  return y.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def blur(x: Array, taps: tuple[int, ...]) -> Array:
  """Returns x filtered along both axes at full resolution, `[B, H + 1, W + 1, C]`."""
  for axis in (1, 2):
    size = x.shape[axis] + 1
    x = pad_axis(x, axis, len(taps) // 2)
    windows = [jax.lax.slice_in_dim(x, k, k + size, 1, axis) for k in range(len(taps))]
    x = weighted_sum(windows, taps)
  return x


def weighted_sum(windows: list[Array], taps: tuple[int, ...]) -> Array:
  """Returns the mean of the windows weighted by taps."""
  first, *others = (window * (w / sum(taps)) for window, w in zip(windows, taps, strict=True))
  return sum(others, start=first)


def pad_axis(x: Array, axis: int, by: int) -> Array:
  """Pads an axis with `by` zeros at both ends."""
  return jnp.pad(x, [(by, by) if i == axis else (0, 0) for i in range(x.ndim)]) if by else x


class Downsample(nn.Module):
  """A 3x3 convolution with stride 2, after the FIR filter if `fir`.

  padding: zeros above and left, 0 or 1; one is below and right.
  """

  features: int
  fir: bool = False
  padding: int = 0
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    padding = ((self.padding, 1), (self.padding, 1))
    if self.fir:
      x, padding = blur(x, TAPS[True]), ((0, 0), (0, 0))
    conv = functools.partial(conv3, strides=(2, 2), dtype=self.dtype, name='conv')
    return conv(self.features, padding=padding)(x)


class Upsample(nn.Module):
  """Repetition of pixels, or FIR upsampling if `fir`, then a 3x3 convolution."""

  fir: bool = False
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    y = resample(x, 'up', TAPS[self.fir])
    return conv3(x.shape[-1], dtype=self.dtype, name='conv')(y)
