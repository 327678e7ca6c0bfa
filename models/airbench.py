"""A small network that learns CIFAR-10 fast (Jordan 2024, arXiv 2404.00498, section 3, airbench94).

Its first layer is not learnt: it whitens patches of 2 x 2 pixels. What natural images look like is
known beforehand, so that this needs no look at the training set.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from models import ops
from models.layers import (
  BatchNorm,
  Conv,
  Dense,
  MaxPool,
  check_sizes,
  check_statistics,
  he_normal,
  parameter,
)

# The statistics of natural images hardly change when they are mirrored or shifted. So the principal
# components of 2 x 2 pixels are Haar's four patterns in each of three opponent colours.
PATTERNS = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 2
COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])

# [pattern, colour]: their variances in CIFAR-10's training set (a JPEG re-encoding), brought to
# mean 0 and variance 1 in each channel: `patch_variances` of it.
VARIANCES = (
  (10.04, 0.7600, 0.1744),
  (0.3994, 0.00579, 0.00226),
  (0.3407, 0.00394, 0.00172),
  (0.0546, 0.00023, 0.00015),
)


def components() -> np.ndarray:
  """Returns an orthonormal basis of patches `[pattern, colour, y, x, channel]`."""
  basis = np.einsum('pi,cj->pcij', PATTERNS, COLOURS)
  return basis.reshape(len(PATTERNS), len(COLOURS), 2, 2, 3)


def patch_variances(images: np.ndarray) -> np.ndarray:
  """Returns `VARIANCES` of other images, `[N, H, W, 3]` as the network sees them."""
  height, width = (size - 1 for size in images.shape[1:3])
  corners = [images[:, y : y + height, x : x + width] for y in (0, 1) for x in (0, 1)]
  patches = np.stack(corners, axis=3)  # [N, H - 1, W - 1, 4, 3]
  return np.einsum('nhwij,pi,cj->nhwpc', patches, PATTERNS, COLOURS, optimize=True).var((0, 1, 2))


def whitening(variances: Sequence[Sequence[float]], epsilon: float) -> np.ndarray:
  """Returns a kernel `[2, 2, 3, 24]`: each component over its standard deviation, and its negative.

  `epsilon` is added to variances, lest the noise of the smallest be blown up.
  """
  kernel = components() / np.sqrt(np.asarray(variances) + epsilon)[..., None, None, None]
  kernel = np.moveaxis(kernel.reshape(-1, 2, 2, 3), 0, -1)
  return np.concatenate([kernel, -kernel], axis=-1).astype(np.float32)


def partial_identity(key: Array, shape: Sequence[int], dtype=jnp.float32) -> Array:
  """Initialises a kernel `[h, w, in, out]`: the first outputs repeat the inputs, others are random.

  Section 3.2 of the paper.
  """
  height, width, inputs, outputs = shape
  same = min(inputs, outputs)
  kernel = he_normal(key, shape, dtype)
  repeat = jnp.zeros((height, width, inputs, same), dtype)
  repeat = repeat.at[height // 2, width // 2, jnp.arange(same), jnp.arange(same)].set(1)
  return kernel.at[..., :same].set(repeat)


class AirBench(nn.Module):
  """Images `[B, H, W, 3]` of mean 0 and variance 1 to float32 logits `[B, num_classes]`.

  Attributes:
    num_classes: number of outputs.
    channels: of the convolutions of the three blocks.
    variances: see `VARIANCES`.
    epsilon: of the whitening.
    logit_scale: a factor of the outputs.
    statistics: BatchNorm's, 'global' or 'device'.
    dtype: of the computation.
  """

  num_classes: int
  channels: tuple[int, ...] = (64, 256, 256)
  variances: tuple[tuple[float, ...], ...] = VARIANCES
  epsilon: float = 5e-4
  logit_scale: float = 1 / 9
  statistics: str = 'global'
  dtype: str = 'float32'

  def __post_init__(self):
    check_sizes(num_classes=self.num_classes, channels=self.channels)
    check_statistics(self.statistics)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    if x.shape[-1] != 3 or min(x.shape[1:3]) < 26:
      raise ValueError(f'images of {x.shape[1:]}: must be RGB of 26 x 26 pixels or more')
    kernel = whitening(self.variances, self.epsilon)
    x = ops.conv(x.astype(self.dtype), jnp.asarray(kernel, self.dtype), padding='VALID')
    bias = parameter(self, 'whitening_bias', nn.initializers.zeros, kernel.shape[-1:], (None,))
    x = nn.gelu(x + bias.astype(self.dtype)[None, None, None], approximate=False)  # [B, 31, 31, 24]
    for number, channels in enumerate(self.channels, 1):
      x = self.block(f'block{number}', x, channels, train=train)  # [B, 15, 7, 3]
    x = x.max((1, 2))
    x = Dense(self.num_classes, dtype=self.dtype, name='head')(x)
    return x.astype(jnp.float32) * self.logit_scale

  def block(self, name: str, x: Array, channels: int, *, train: bool) -> Array:
    """Returns two convolutions, BatchNorm and GELU after each, the first halved by pooling."""
    for number in (1, 2):
      conv = functools.partial(Conv, kernel_init=partial_identity, use_bias=False, dtype=self.dtype)
      x = conv(channels, (3, 3), name=f'{name}_conv{number}')(x)
      x = MaxPool((2, 2), (2, 2))(x) if number == 1 else x
      norm = BatchNorm(self.statistics, dtype=self.dtype, name=f'{name}_norm{number}')
      x = nn.gelu(norm(x, train=train), approximate=False)
    return x
