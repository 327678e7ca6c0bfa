"""Residual networks: He et al. 2015 (arXiv 1512.03385), and with pre-activation, 2016 (1603.05027).

CIFAR: 20, 32, 44, 56, 110 layers, shortcuts without parameters (option A, section 4.2).
ImageNet: 18, 34, 50, 101, 152 layers (table 1), projections where the shape changes (option B).
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import ones, zeros
from jax import Array

from models.layers import BatchNorm, Conv, Dense, MaxPool, check_statistics, he_normal

VERSIONS = ('v1', 'v1.5', 'v2')

# Table 1: the blocks of each stage, and whether they are bottlenecks (1x1, 3x3, 1x1).
IMAGENET_STAGES = {
  18: ((2, 2, 2, 2), False),
  34: ((3, 4, 6, 3), False),
  50: ((3, 4, 6, 3), True),
  101: ((3, 4, 23, 3), True),
  152: ((3, 8, 36, 3), True),
}


class Block(nn.Module):
  """`shortcut(x) + residual(x)`: two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1.

  In v1 and v1.5 each convolution is followed by BatchNorm and, but for the last, ReLU; the sum is
  rectified. In v2 each convolution is preceded by both, and nothing follows the sum.

  Attributes:
    channels: of the inner convolutions; a bottleneck puts out four times as many.
    strides: of the first convolution; of a bottleneck's 3x3 in v1.5 and v2.
    bottleneck: whether it is one.
    project: whether a shortcut that changes shape is a convolution (option B), or takes every
      `strides`-th pixel and pads with channels of zeros (option A).
    version: 'v1', 'v1.5' or 'v2'.
    zero_init_last_scale: begin with the residual at zero.
    statistics: BatchNorm's, 'global' or 'device'.
    dtype: of the computation.
  """

  channels: int
  strides: int = 1
  bottleneck: bool = False
  project: bool = False
  version: str = 'v1'
  zero_init_last_scale: bool = False
  statistics: str = 'global'
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, *, train: bool) -> Array:
    """Returns `[B, H / strides, W / strides, features]` of x `[B, H, W, C]`."""
    norm = functools.partial(self.norm, train=train)
    layers = self.layers()
    v2 = self.version == 'v2'
    y = nn.relu(norm('norm1', x)) if v2 else x
    # A change of shape starts from the pre-activation, an identity from the sum (2016, section 4).
    changes = self.strides > 1 or x.shape[-1] != layers[-1][0]
    shortcut = self.shortcut(y, layers[-1][0], norm) if changes else x
    for i, layer in enumerate(layers, 1):
      last = i == len(layers)
      y = conv(*layer, dtype=self.dtype, name=f'conv{i}')(y)
      if not v2:
        y = norm(f'norm{i}', y, zeros if last and self.zero_init_last_scale else ones)
      elif not last:
        y = norm(f'norm{i + 1}', y)
      y = y if last else nn.relu(y)
    return shortcut + y if v2 else nn.relu(shortcut + y)

  def layers(self) -> list[tuple[int, int, int]]:
    """Returns (features, window, strides) of each convolution."""
    n, s = self.channels, self.strides
    if not self.bottleneck:
      return [(n, 3, s), (n, 3, 1)]
    first, second = (s, 1) if self.version == 'v1' else (1, s)
    return [(n, 1, first), (n, 3, second), (4 * n, 1, 1)]

  def norm(self, name: str, x: Array, scale_init=ones, *, train: bool) -> Array:
    """Applies BatchNorm."""
    layer = BatchNorm(self.statistics, scale_init=scale_init, dtype=self.dtype, name=name)
    return layer(x, train=train)

  def shortcut(self, x: Array, features: int, norm: Callable[..., Array]) -> Array:
    """Returns x in the shape of the residual, by option B or A of the paper."""
    if self.project:
      x = conv(features, 1, self.strides, dtype=self.dtype, name='projection')(x)
      return x if self.version == 'v2' else norm('projection_norm', x)
    x = x[:, :: self.strides, :: self.strides]
    extra = features - x.shape[-1]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))


def conv(features: int, size: int, strides: int, *, dtype: str, name: str) -> Conv:
  """Returns a convolution padded by half a window, without a bias, which BatchNorm would remove."""
  window, pad = (size, size), (size // 2, size // 2)
  return Conv(
    features,
    window,
    (strides, strides),
    (pad, pad),
    use_bias=False,
    kernel_init=he_normal,
    dtype=dtype,
    name=name,
  )


class ResNet(nn.Module):
  """Images `[B, H, W, C]` to float32 logits `[B, num_classes]`.

  Attributes:
    num_classes: number of outputs.
    stages: the number of blocks of each; the first keeps the size, each other halves it and doubles
      the channels.
    channels: of the first stage.
    bottleneck: see `Block`.
    large_images: begin with the 7x7 convolution of stride 2 and the pooling of the ImageNet
      networks, and project the shortcuts where shapes change.
    version: see `Block`.
    zero_init_last_scale: see `Block`.
    statistics: see `Block`.
    dtype: of the computation.
  """

  num_classes: int
  stages: tuple[int, ...]
  channels: int
  bottleneck: bool = False
  large_images: bool = False
  version: str = 'v1'
  zero_init_last_scale: bool = False
  statistics: str = 'global'
  dtype: str = 'float32'

  def __post_init__(self):
    check(self.version, self.zero_init_last_scale, self.statistics)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    norm = functools.partial(BatchNorm, self.statistics, dtype=self.dtype)
    size, strides = (7, 2) if self.large_images else (3, 1)
    x = conv(self.channels, size, strides, dtype=self.dtype, name='stem')(x)
    if self.version != 'v2':
      x = nn.relu(norm(name='stem_norm')(x, train=train))
    if self.large_images:
      x = MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), name='stem_pool')(x)
    for stage, blocks in enumerate(self.stages):
      for i in range(blocks):
        name = f'stage{stage + 1}_block{i + 1}'
        strides = 2 if stage > 0 and i == 0 else 1
        x = self.block(self.channels * 2**stage, strides, name)(x, train=train)
    if self.version == 'v2':
      x = nn.relu(norm(name='final_norm')(x, train=train))
    x = x.astype(jnp.float32).mean((1, 2))
    return Dense(self.num_classes, dtype=self.dtype, name='full')(x).astype(jnp.float32)

  def block(self, channels: int, strides: int, name: str) -> Block:
    """Returns a block of this network's kind."""
    fields = ('bottleneck', 'version', 'zero_init_last_scale', 'statistics', 'dtype')
    shared = {field: getattr(self, field) for field in fields}
    return Block(channels, strides, project=self.large_images, name=name, **shared)


def resnet_cifar(
  depth: int,
  num_classes: int,
  *,
  version: str = 'v1',
  zero_init_last_scale: bool = False,
  statistics: str = 'global',
  dtype: str = 'float32',
) -> nn.Module:
  """Returns the CIFAR network of depth 6 n + 2: three stages of n blocks (section 4.2).

  They have 16, 32 and 64 channels at 32, 16 and 8 pixels.

  Args:
    depth: 6 n + 2.
    num_classes: number of outputs.
    version: 'v1', or 'v2' with pre-activation (He 2016).
    zero_init_last_scale: starts the last norm of each block at 0, so that it starts as an identity.
    statistics: of batch normalisation, over the 'global' batch or each device's part ('device').
    dtype: of the computation; parameters are float32.
  """
  return ResNet(
    num_classes,
    stages=((depth - 2) // 6,) * 3,
    channels=16,
    version=version,
    zero_init_last_scale=zero_init_last_scale,
    statistics=statistics,
    dtype=dtype,
  )


def resnet_imagenet(
  depth: int,
  num_classes: int,
  *,
  version: str = 'v1.5',
  zero_init_last_scale: bool = False,
  statistics: str = 'global',
  dtype: str = 'float32',
) -> nn.Module:
  """Returns the ImageNet network of that depth (table 1).

  Args:
    depth: a key of IMAGENET_STAGES.
    num_classes: number of outputs.
    version: 'v1' as published in 2015; 'v1.5' with the stride of a bottleneck on its 3x3
      convolution, which all public results since use; 'v2' of 2016.
    zero_init_last_scale: begin with every residual at zero (Goyal et al. 2017, section 5.1).
    statistics: BatchNorm's, 'global' or 'device'.
    dtype: of the computation.

  Raises:
    ValueError: a value is unknown, or v2 is to begin with residuals at zero.
  """
  stages, bottleneck = IMAGENET_STAGES[depth]
  return ResNet(
    num_classes,
    stages=stages,
    channels=64,
    bottleneck=bottleneck,
    large_images=True,
    version=version,
    zero_init_last_scale=zero_init_last_scale,
    statistics=statistics,
    dtype=dtype,
  )


def check(version: str, zero_init_last_scale: bool, statistics: str) -> None:
  """Raises ValueError for values that cannot be."""
  if version not in VERSIONS:
    raise ValueError(f'model.version={version!r}: choose from {", ".join(VERSIONS)}')
  check_statistics(statistics)
  if zero_init_last_scale and version == 'v2':
    raise ValueError(
      'model.zero_init_last_scale=True: v2 ends its residuals with a convolution, not a scale;'
      ' choose version v1 or v1.5'
    )
