"""AlphaGo's networks, and its linear policy: Silver et al. 2016, Methods.

Networks see planes `[B, N, N, C]` of a board, 48 of `mcts.alphago.features`, or 49 for values.
`sees` is what a module has to be shown, for whoever feeds it.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import zeros
from jax import Array

from models.layers import Conv, Dense, he_normal, parameter

HIDDEN = 256  # rectifier units of the value network's fully connected layer
PATTERNS = 856_080  # features of `mcts.alphago.rollout_policy`


class Trunk(nn.Module):
  """Rectified convolutions, `filters` in each: one of 5x5, and `layers` - 1 of 3x3."""

  layers: int
  filters: int
  dtype: str

  @nn.compact
  def __call__(self, x: Array) -> Array:
    for i in range(self.layers):
      window = (3, 3) if i else (5, 5)
      layer = Conv(
        self.filters, window, kernel_init=he_normal, dtype=self.dtype, name=f'conv{i + 1}'
      )
      x = nn.relu(layer(x))
    return x


class Policy(nn.Module):
  """Planes to float32 logits `[B, N^2]` of the points: the last layer is a filter of 1x1, and a
  bias for each point.
  """

  layers: int
  filters: int
  dtype: str
  sees = 'planes'

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    x = Trunk(self.layers - 1, self.filters, self.dtype, name='trunk')(x.astype(self.dtype))
    last = Conv(1, (1, 1), use_bias=False, dtype=self.dtype, name=f'conv{self.layers}')
    logits = last(x).astype(jnp.float32).reshape(x.shape[0], -1)
    bias = parameter(self, 'bias', zeros, logits.shape[1:], ('position',))
    return logits + bias[None]


class Value(nn.Module):
  """Planes to float32 values `[B]` in (-1, 1), the expected outcome for the player to move."""

  layers: int
  filters: int
  dtype: str
  sees = 'planes and colour'

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    x = Trunk(self.layers - 1, self.filters, self.dtype, name='trunk')(x.astype(self.dtype))
    x = Conv(1, (1, 1), dtype=self.dtype, name=f'conv{self.layers}')(x)
    x = nn.relu(Dense(HIDDEN, dtype=self.dtype, name='hidden')(x.reshape(x.shape[0], -1)))
    return jnp.tanh(Dense(1, name='value')(x.astype(jnp.float32))[:, 0])


class Rollout(nn.Module):
  """A softmax of sums of weights: features int32 `[B, N^2, F]` of `[0, features)` to logits
  `[B, N^2]`.
  """

  features: int = PATTERNS
  sees = 'patterns'

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    weights = parameter(self, 'weights', zeros, (self.features,), (None,))
    return jnp.take(weights, x, axis=0, mode='clip').sum(-1)


def policy(*, layers: int = 13, filters: int = 192, dtype: str = 'float32') -> Policy:
  """192 filters played; 256 predict better, and 128 and 384 were tried (extended data table 3)."""
  _check(layers, filters)
  return Policy(layers, filters, dtype)


def value(*, layers: int = 13, filters: int = 192, dtype: str = 'float32') -> Value:
  """layers: the convolutions, that of one filter included."""
  _check(layers, filters)
  return Value(layers, filters, dtype)


def _check(layers: int, filters: int) -> None:
  for name, number, least in (('layers', layers, 2), ('filters', filters, 1)):
    if number < least:
      raise ValueError(f'model.{name}={number}: must be at least {least}')
