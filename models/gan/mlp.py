"""The networks of the first paper: a generator of ReLUs, a discriminator of maxout units.

Goodfellow et al. 2014 (arXiv 1406.2661); sizes, dropout and initial weights are those of the
authors' public configuration for MNIST.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from models.layers import Dense, Dropout, check_sizes


def uniform(bound: float) -> nn.initializers.Initializer:
  """Returns an initialiser that draws from U(-bound, bound)."""
  return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def with_label(x: Array, labels: Array, num_classes: int) -> Array:
  """Returns `[B, D]` with the labels one-hot beside it, `[B, D + num_classes]` (Mirza 2014)."""
  return jnp.concatenate([x, jax.nn.one_hot(labels, num_classes)], -1) if num_classes else x


class ReluGenerator(nn.Module):
  """Maps latents `[B, D]` to images in [0, 1] through hidden layers of ReLUs and a sigmoid."""

  image_shape: tuple[int, int, int]
  hidden: tuple[int, ...]
  num_classes: int
  dtype: str

  @nn.compact
  def __call__(self, z: Array, labels: Array) -> Array:
    init = uniform(0.05)
    x = with_label(z, labels, self.num_classes)
    for features in self.hidden:
      x = nn.relu(Dense(features, kernel_init=init, dtype=self.dtype)(x))
    logits = Dense(math.prod(self.image_shape), kernel_init=init, name='output')(x)
    return nn.sigmoid(logits).reshape(-1, *self.image_shape)


class MaxoutDiscriminator(nn.Module):
  """Maps images to logits `[B]` through maxout layers: the largest of `pieces` linear units each.

  Dropout keeps 0.8 of the pixels and 0.5 of the hidden units.
  """

  maxout: tuple[int, ...]
  pieces: int
  num_classes: int
  dtype: str

  @nn.compact
  def __call__(self, images: Array, labels: Array, *, train: bool) -> Array:
    init, rate = uniform(0.005), 0.2
    x = with_label(images.reshape(len(images), -1), labels, self.num_classes)
    for features in self.maxout:
      x = Dropout(rate)(x, train=train)
      x = Dense(features * self.pieces, kernel_init=init, dtype=self.dtype)(x)
      # Pieces before features: the last axis, of which XLA makes vectors, stays long.
      x, rate = x.reshape(len(x), self.pieces, features).max(1), 0.5
    x = Dropout(rate)(x, train=train)
    return Dense(1, kernel_init=init, name='output')(x)[:, 0]


class MLP(nn.Module):
  """Both networks, an `AdversarialNetworks` for images of any shape.

  Attributes:
    image_shape: [H, W, C] of the images.
    num_classes: of the labels that both networks are told, one-hot beside their inputs; 0 for none.
    latent_size: dimensions of z.
    hidden: widths of the generator's hidden layers.
    maxout: units of the discriminator's hidden layers.
    pieces: linear units of which a maxout unit is the largest.
    dtype: of the computation; parameters are float32.
  """

  image_shape: tuple[int, int, int]
  num_classes: int = 0
  latent_size: int = 100
  hidden: tuple[int, ...] = (1200, 1200)
  maxout: tuple[int, ...] = (240, 240)
  pieces: int = 5
  dtype: str = 'float32'

  def setup(self):
    sizes = {'latent_size': self.latent_size, 'pieces': self.pieces}
    check_sizes(hidden=self.hidden, maxout=self.maxout, **sizes)
    self.generator = ReluGenerator(self.image_shape, self.hidden, self.num_classes, self.dtype)
    self.discriminator = MaxoutDiscriminator(self.maxout, self.pieces, self.num_classes, self.dtype)

  def __call__(self, latents: Array, labels: Array) -> Array:
    """Applies both, so that `init` makes the variables of both."""
    return self.discriminate(self.generate(latents, labels, train=False), labels, train=False)

  def generate(self, latents: Array, labels: Array, *, train: bool) -> Array:
    """Returns images in [0, 1]."""
    del train
    return self.generator(latents, labels)

  def discriminate(self, images: Array, labels: Array, *, train: bool) -> Array:
    """Returns logits `[B]`."""
    return self.discriminator(images, labels, train=train)
