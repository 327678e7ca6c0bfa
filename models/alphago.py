"""AlphaGo's networks, and its linear policy: Silver et al. 2016, Methods.

The networks see planes `[B, N, N, C]` of a board: 48 of `mcts.alphago.features`, or 49 for values.
Their class attribute `sees` says which inputs a module takes, for the code that feeds it.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import zeros
from jax import Array

from models.layers import Conv, Dense, he_normal, parameter

HIDDEN = 256  # rectifier units of the value network's fully connected layer
PATTERNS = 856_080  # features of `mcts.alphago.rollout_policy`


class Trunk(nn.Module):
  """A 5x5 convolution and `layers` - 1 of 3x3, each of `filters` channels and rectified."""

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
  """Planes to float32 logits `[B, N^2]`: the last layer is a 1x1 filter and a bias for each point.

  Attributes:
    layers: number of convolutions.
    filters: channels of each but the last.
    dtype: of the computation.
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
  """Planes to float32 values `[B]` in (-1, 1), the expected outcome for the player to move.

  Attributes:
    layers: number of convolutions, the last one of one filter.
    filters: channels of each but the last.
    dtype: of the computation.
  """

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
  """The rollout policy, a linear softmax: indices int32 `[B, N^2, F]` to logits `[B, N^2]`.

  A point's logit is the sum of the weights of its F features; indices outside `[0, features)` are
  clipped.

  Attributes:
    features: the number of weights.
  """

  features: int = PATTERNS
  sees = 'patterns'

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    weights = parameter(self, 'weights', zeros, (self.features,), (None,))
    return jnp.take(weights, x, axis=0, mode='clip').sum(-1)


def policy(*, layers: int = 13, filters: int = 192, dtype: str = 'float32') -> Policy:
  """Returns the policy network.

  192 filters played; 256 predict better, and 128 and 384 were tried (extended data table 3).

  Args:
    layers: convolutions, the last of 1 x 1.
    filters: channels of all but the last.
    dtype: of the computation; parameters are float32.

  Raises:
    ValueError: there are fewer than 2 layers or no filters.
  """
  _check(layers, filters)
  return Policy(layers, filters, dtype)


def value(*, layers: int = 13, filters: int = 192, dtype: str = 'float32') -> Value:
  """Returns the value network; see `Value`.

  Args:
    layers: convolutions before the full layers, the last of 1 x 1.
    filters: channels of all but the last.
    dtype: of the computation; parameters are float32.

  Raises:
    ValueError: there are fewer than 2 layers or no filters.
  """
  _check(layers, filters)
  return Value(layers, filters, dtype)


def _check(layers: int, filters: int) -> None:
  for name, number, least in (('layers', layers, 2), ('filters', filters, 1)):
    if number < least:
      raise ValueError(f'model.{name}={number}: must be at least {least}')
