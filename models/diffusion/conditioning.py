"""The inputs of a denoising network beside its image: embeddings of noise level, label, context."""

import functools
import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import normal, variance_scaling
from jax import Array

from models.layers import Dense, parameter

FOURIER_SCALE = 16.0  # Song et al. 2021 (arXiv 2011.13456), appendix C

uniform = variance_scaling(1.0, 'fan_avg', 'uniform')

linear = functools.partial(Dense, kernel_init=uniform)

# -------- noise levels and labels --------


def sinusoids(t: Array, features: int, freq_shift: int = 1) -> Array:
  """Returns sines, then cosines of t `[B]` at rates from 1 to 1 / 10,000, float32 `[B, features]`.

  Ho et al. 2020 (arXiv 2006.11239), appendix B, after Vaswani et al. 2017, section 3.5. The i-th of
  `half` rates is 10,000^(-i / (half - freq_shift)): with 1 the last is 1 / 10,000, as in DDPM's
  code; with 0 it is a little more, as in ADM's, DiT's and diffusers'.
  """
  half = features // 2
  exponents = np.arange(half) / max(half - freq_shift, 1)
  rates = np.exp(-math.log(10_000) * exponents).astype(np.float32)
  angles = t.astype(jnp.float32)[:, None] * rates[None]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fourier_features(t: Array, features: int, freq_shift: int = 1) -> Array:
  """Returns random Fourier features of t `[B]`, `[B, features]` (Song et al. 2021, appendix C)."""
  del freq_shift
  rates = np.random.default_rng(0).normal(size=features // 2) * FOURIER_SCALE * 2 * math.pi
  angles = t.astype(jnp.float32)[:, None] * rates.astype(np.float32)[None]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


FEATURES = {'sinusoidal': sinusoids, 'fourier': fourier_features}


class LabelTable(nn.Module):
  """Embedding of labels int `[B]` to `[B, features]`; zeros for -1 or `num_classes`, no label."""

  num_classes: int
  features: int

  @nn.compact
  def __call__(self, label: Array) -> Array:
    shape, axes = (self.num_classes, self.features), (None, 'features_out')
    table = parameter(self, 'embedding', normal(1.0), shape, axes)
    known = (label >= 0) & (label < self.num_classes)
    rows = jnp.take(table, jnp.where(known, label, 0), axis=0)
    return jnp.where(known[:, None], rows, 0)


class Embedding(nn.Module):
  """Embedding of the noise level `[B]` and the label `[B]` for all blocks: `[B, width]`.

  An MLP of `features` sinusoidal or Fourier features of the noise level, plus the label's
  embedding.
  """

  width: int
  features: int
  noise_embedding: str
  num_classes: int
  freq_shift: int = 1
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, t: Array, label: Array | None) -> Array:
    y = FEATURES[self.noise_embedding](t, self.features, self.freq_shift)
    y = nn.silu(linear(self.width, dtype=self.dtype, name='dense1')(y))
    y = linear(self.width, dtype=self.dtype, name='dense2')(y)
    if self.num_classes:
      label = jnp.full(t.shape, -1) if label is None else label
      y = y + LabelTable(self.num_classes, self.width, name='label')(label).astype(self.dtype)
    return nn.silu(y)


# -------- contexts --------


def complete_context(
  context: Array | None, mask: Array | None, batch: int, width: int
) -> tuple[Array | None, Array | None]:
  """Returns context and mask with defaults filled in; (None, None) without cross-attention.

  No context is one masked position of zeros `[B, 1, width]`; no mask shows every position.
  """
  if not width:
    return None, None
  if context is None:
    return jnp.zeros((batch, 1, width)), jnp.zeros((batch, 1), bool)
  return context, jnp.ones(context.shape[:2], bool) if mask is None else mask


# -------- checks --------


def check_label(label: Array | None, num_classes: int) -> None:
  """Raises ValueError for labels given to a network without."""
  if label is not None and not num_classes:
    raise ValueError('label: the network has none; give it model.num_classes')


def check_context(context: Array | None, width: int) -> None:
  """Raises ValueError for a context `[B, L, D]` whose D is not the network's width."""
  if context is not None and context.shape[-1] != width:
    raise ValueError(
      f'a context of width {context.shape[-1]}: the network takes model.context_width={width}'
    )
