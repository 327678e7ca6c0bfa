"""DCGAN: a generator of transposed convolutions, a discriminator of strided ones.

Radford, Metz and Chintala 2016 (arXiv 1511.06434), section 3. Each level doubles the side of the
images and halves the channels; images of any sides that halve to a small grid have such networks.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from models import ops
from models.layers import BatchNorm, Conv, Dense, check_sizes, parameter

INIT = nn.initializers.normal(0.02)
NORMS = ('batch', 'none')
SMALLEST = 4  # pixels of a side of the coarsest grid
leaky_relu = functools.partial(nn.leaky_relu, negative_slope=0.2)


def levels(image_shape: tuple[int, ...]) -> int:
  """Returns how often both sides are halved: 32 is 4 x 8 (3 levels), 28 is 7 x 4 (2 levels).

  Raises:
    ValueError: a side cannot be halved even once.
  """
  count, sides = 0, image_shape[:2]
  while all(side % 2 == 0 and side // 2 >= SMALLEST for side in sides):
    count, sides = count + 1, (sides[0] // 2, sides[1] // 2)
  if not count or max(sides) > 8:
    height, width = image_shape[:2]
    raise ValueError(
      f'images of {height} x {width}: DCGAN needs sides that halve to a grid of {SMALLEST} to 8,'
      ' such as 28, 32 or 64; data.decode_train and data.decode_eval can resize them'
    )
  return count


class ConvTranspose(nn.Module):
  """Transposed convolution that doubles both sides, with a kernel `[h, w, features, C]`."""

  features: int
  window: int
  use_bias: bool
  dtype: str

  @nn.compact
  def __call__(self, x: Array) -> Array:
    shape = (self.window, self.window, self.features, x.shape[-1])
    axes = (None, None, 'channels_out', 'channels_in')
    kernel = parameter(self, 'kernel', INIT, shape, axes).astype(self.dtype)
    y = ops.conv_transpose(x.astype(self.dtype), kernel, strides=(2, 2))
    if self.use_bias:
      zeros = nn.initializers.zeros
      bias = parameter(self, 'bias', zeros, (self.features,), ('channels_out',))
      y = y + lax.broadcast_to_rank(bias, y.ndim).astype(self.dtype)
    return y


class ConvGenerator(nn.Module):
  """Projects latents `[B, D]` to the coarsest grid and doubles it; batch norm, ReLU, tanh."""

  image_shape: tuple[int, int, int]
  width: int
  window: int
  num_classes: int
  momentum: float
  dtype: str

  @nn.compact
  def __call__(self, z: Array, labels: Array, *, train: bool) -> Array:
    height, width, channels = self.image_shape
    count = levels(self.image_shape)
    if self.num_classes:
      z = jnp.concatenate([z, jax.nn.one_hot(labels, self.num_classes)], -1)
    shape = height >> count, width >> count, self.width << (count - 1)
    # Its bias is batch normalisation's, which follows.
    x = Dense(math.prod(shape), kernel_init=INIT, dtype=self.dtype, name='project')(z)
    x = x.reshape(-1, *shape)
    for level in range(count):
      x = nn.relu(
        BatchNorm(momentum=self.momentum, dtype=self.dtype, name=f'norm{level}')(x, train=train)
      )
      last = level == count - 1
      features = channels if last else shape[-1] >> (level + 1)
      x = ConvTranspose(features, self.window, last, self.dtype, name=f'conv{level}')(x)
    return 0.5 + 0.5 * jnp.tanh(x.astype(jnp.float32))


class ConvDiscriminator(nn.Module):
  """Halves images in [0, 1] to the coarsest grid by strided convolutions; leaky ReLU.

  Of labels it adds <e(label), features> to the logit (Miyato and Koyama 2018, eq. 4).
  """

  width: int
  window: int
  norm: str
  num_classes: int
  momentum: float
  dtype: str

  @nn.compact
  def __call__(self, images: Array, labels: Array, *, train: bool) -> Array:
    x = (2 * images - 1).astype(self.dtype)
    for level in range(levels(images.shape[1:])):
      # No normalisation of the first layer, nor of the generator's last: they see the pixels.
      normed = level > 0 and self.norm == 'batch'
      window = self.window, self.window
      conv = Conv(
        self.width << level,
        window,
        (2, 2),
        use_bias=not normed,
        kernel_init=INIT,
        dtype=self.dtype,
        name=f'conv{level}',
      )
      x = conv(x)
      if normed:
        x = BatchNorm(momentum=self.momentum, dtype=self.dtype, name=f'norm{level}')(x, train=train)
      x = leaky_relu(x)
    x = x.reshape(len(x), -1).astype(jnp.float32)
    logits = Dense(1, kernel_init=INIT, name='output')(x)[:, 0]
    if self.num_classes:
      shape, axes = (self.num_classes, x.shape[-1]), (None, 'features_in')
      logits += (parameter(self, 'embedding', INIT, shape, axes)[labels] * x).sum(-1)
    return logits


class DCGAN(nn.Module):
  """Both networks, an `AdversarialNetworks`.

  Attributes:
    image_shape: [H, W, C], whose sides are halved to a grid of 4 to 8.
    num_classes: of the labels that both networks are told; 0 for none.
    latent_size: dimensions of z.
    width: channels of the finest level, doubled at each coarser one; the paper's at 64 pixels: 128.
    window: sides of the kernels; the paper's 5, PyTorch's example 4.
    momentum: of the moving averages of batch normalisation.
    discriminator_norm: 'batch', or 'none' as with spectral normalisation.
    dtype: of the computation; parameters are float32.
  """

  image_shape: tuple[int, int, int]
  num_classes: int = 0
  latent_size: int = 100
  width: int = 64
  window: int = 4
  momentum: float = 0.9
  discriminator_norm: str = 'batch'
  dtype: str = 'float32'

  def setup(self):
    sizes = {'latent_size': self.latent_size, 'width': self.width, 'window': self.window}
    check_sizes(**sizes)
    if self.discriminator_norm not in NORMS:
      norm = f'model.discriminator_norm={self.discriminator_norm!r}'
      raise ValueError(f'{norm}: choose from {", ".join(NORMS)}')
    common: dict[str, Any] = {'width': self.width, 'window': self.window, 'dtype': self.dtype}
    common |= {'num_classes': self.num_classes, 'momentum': self.momentum}
    self.generator = ConvGenerator(self.image_shape, **common)
    self.discriminator = ConvDiscriminator(norm=self.discriminator_norm, **common)

  def __call__(self, latents: Array, labels: Array) -> Array:
    """Applies both, so that `init` makes the variables of both."""
    return self.discriminate(self.generate(latents, labels, train=False), labels, train=False)

  def generate(self, latents: Array, labels: Array, *, train: bool) -> Array:
    """Returns images in [0, 1]."""
    return self.generator(latents, labels, train=train)

  def discriminate(self, images: Array, labels: Array, *, train: bool) -> Array:
    """Returns logits `[B]`."""
    return self.discriminator(images, labels, train=train)
