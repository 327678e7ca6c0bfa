"""LeNet-5 as published (LeCun, Bottou, Bengio, Haffner 1998), and its ReLU and max-pool descendant.

Layers have the paper's names and numbers of trainable parameters (section II-B): C1 156, S2 12,
C3 1,516, S4 32, C5 48,120, F6 10,164.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import ops
from models.layers import Conv, Dense, MaxPool, check_sizes, parameter

OUTPUTS = ('linear', 'rbf')

# Table I: the S2 maps that each C3 map looks at.
C3_INPUTS = (
  *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
  *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
  *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)

# The output units' fixed codes, 7 x 12 pixels a digit. Drawn here after the manner of figure 3,
# whose pixels were at hand for no comparison.
DIGITS = """
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
..###.. ...#... .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
.#...#. ..##... #.....# #.....# ...#.#. #...... .#..... ......# #.....# #.....#
#.....# .#.#... ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# .#...#. #.####. #...... .....#. #.....# #.....#
#.....# ...#... .....#. ..####. #....#. ##....# #.####. ....#.. .#####. .######
#.....# ...#... ....#.. ......# ####### ......# ##....# ....#.. #.....# ......#
#.....# ...#... ...#... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# .....#.
.#...#. ...#... .#..... #.....# .....#. #.....# #.....# ..#.... #.....# ....#..
..###.. .#####. ####### .#####. .....#. .#####. .#####. ..#.... .#####. .###...
....... ....... ....... ....... ....... ....... ....... ....... ....... .......
"""


def digit_codes() -> np.ndarray:
  """Returns the codes of the ten digits, float32 `[10, 84]`: -1 is white, +1 black."""
  rows = np.array([[list(row) for row in line.split()] for line in DIGITS.split('\n') if line])
  return np.where(rows.transpose(1, 0, 2).reshape(10, 84) == '#', 1, -1).astype(np.float32)


def squash(x: Array) -> Array:
  """Returns the paper's scaled tanh (appendix A), which maps 1 to 1 and -1 to -1."""
  return 1.7159 * jnp.tanh(2 / 3 * x)


def fan_in_uniform(key: Array, shape, dtype=jnp.float32) -> Array:
  """Draws uniformly within 2.4 / fan-in of 0 (appendix A)."""
  bound = 2.4 / np.prod(shape[:-1])
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def pad_to_32(x: Array) -> Array:
  """Centres images `[B, H, W, C]` in 32 x 32 by repeating their border, which is background.

  Raises:
    ValueError: an image is larger than 32 x 32.
  """
  if max(x.shape[1:3]) > 32:
    raise ValueError(f'images of {x.shape[1]} x {x.shape[2]}: LeNet takes up to 32 x 32')
  pads = [((32 - size) // 2, (33 - size) // 2) for size in x.shape[1:3]]
  return jnp.pad(x, ((0, 0), *pads, (0, 0)), mode='edge')


class Subsampling(nn.Module):
  """S2, S4: each 2 x 2 block's sum, times a coefficient, plus a bias, one each a map; squashed."""

  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    # The coefficient of a plain mean; the paper states no other start for it.
    quarter = nn.initializers.constant(0.25)
    scale = parameter(self, 'scale', quarter, x.shape[-1:], ('channels_out',))
    bias = parameter(self, 'bias', nn.initializers.zeros, x.shape[-1:], ('channels_out',))
    sums = 4 * ops.avg_pool(x, (2, 2), (2, 2))
    scale, bias = (lax.broadcast_to_rank(v, x.ndim).astype(self.dtype) for v in (scale, bias))
    return squash(sums * scale + bias)


class PartialConv(nn.Module):
  """C3: each of 16 maps is convolved from its own choice of S2's maps (table I).

  The kernel holds the 60 connected pairs alone, `[5, 5, 60]`.
  """

  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    pairs = [(i, o) for o, inputs in enumerate(C3_INPUTS) for i in inputs]
    inputs, outputs = np.array(pairs).T
    # A unit's fan-in is 25 for each map that it sees.
    bound = 2.4 / (25 * np.bincount(outputs)[outputs]).astype(np.float32)
    kernel = parameter(
      self,
      'kernel',
      functools.partial(scaled_uniform, bound=bound),
      (5, 5, len(pairs)),
      (None, None, None),
    )
    bias = parameter(self, 'bias', nn.initializers.zeros, (16,), ('channels_out',))
    full = jnp.zeros((5, 5, 6, 16), self.dtype)
    full = full.at[:, :, inputs, outputs].set(kernel.astype(self.dtype), unique_indices=True)
    y = ops.conv(x.astype(self.dtype), full, padding='VALID')
    return y + lax.broadcast_to_rank(bias, y.ndim).astype(self.dtype)


def scaled_uniform(key: Array, shape, dtype=jnp.float32, *, bound: np.ndarray) -> Array:
  """Draws uniformly within `bound` of 0, `[shape[-1]]`."""
  return jax.random.uniform(key, shape, dtype, -1, 1) * lax.broadcast_to_rank(bound, len(shape))


class RadialBasis(nn.Module):
  """The output layer: minus the squared distance of `[B, 84]` to each digit's code.

  Softmax cross-entropy of these is the paper's second criterion (equation 9) without its constant.
  """

  @nn.compact
  def __call__(self, x: Array) -> Array:
    difference = x.astype(jnp.float32)[:, None] - digit_codes()[None]
    return -jnp.square(difference).sum(-1)


class LeNet5(nn.Module):
  """LeNet-5, figure 2. Images `[B, H, W, C]` of up to 32 x 32 to logits `[B, num_classes]`.

  Attributes:
    num_classes: number of outputs.
    output: 'rbf' as published, for ten digits only, or 'linear': the layer that everybody uses in
      its place, for any number of classes and any loss.
    dtype: of the computation.
  """

  num_classes: int
  output: str = 'linear'
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    common: dict[str, Any] = {'kernel_init': fan_in_uniform, 'dtype': self.dtype}
    x = pad_to_32(x)
    x = squash(Conv(6, (5, 5), padding='VALID', name='C1', **common)(x))  # [B, 28, 28, 6]
    x = Subsampling(self.dtype, name='S2')(x)  # [B, 14, 14, 6]
    x = squash(PartialConv(self.dtype, name='C3')(x))  # [B, 10, 10, 16]
    x = Subsampling(self.dtype, name='S4')(x)  # [B, 5, 5, 16]
    x = squash(Conv(120, (5, 5), padding='VALID', name='C5', **common)(x))  # [B, 1, 1, 120]
    x = squash(Dense(84, name='F6', **common)(x.reshape(x.shape[0], -1)))
    if self.output == 'rbf':
      return RadialBasis(name='output')(x)
    return Dense(self.num_classes, name='output', **common)(x).astype(jnp.float32)


class LeNet(nn.Module):
  """The convolutional network that goes by the name today: ReLU, max pooling, full connections.

  Attributes:
    num_classes: number of outputs.
    channels: of the two convolutions.
    hidden: units of the two hidden layers.
    dtype: of the computation.
  """

  num_classes: int
  channels: tuple[int, int] = (6, 16)
  hidden: tuple[int, int] = (120, 84)
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    common: dict[str, Any] = {'kernel_init': nn.initializers.he_normal(), 'dtype': self.dtype}
    x = pad_to_32(x)
    for i, channels in enumerate(self.channels, 1):
      x = nn.relu(Conv(channels, (5, 5), padding='VALID', name=f'conv{i}', **common)(x))
      x = MaxPool((2, 2), (2, 2), name=f'pool{i}')(x)
    x = x.reshape(x.shape[0], -1)
    for i, features in enumerate(self.hidden, 1):
      x = nn.relu(Dense(features, name=f'full{i}', **common)(x))
    return Dense(self.num_classes, name='output', dtype=self.dtype)(x).astype(jnp.float32)


def lenet5(num_classes: int, *, output: str = 'linear', dtype: str = 'float32') -> nn.Module:
  """Returns LeNet-5; see `LeNet5`.

  Args:
    num_classes: number of outputs.
    output: the last layer, 'linear' or the paper's 'rbf' units with their codes of digits.
    dtype: of the computation; parameters are float32.

  Raises:
    ValueError: `output` is unknown, or 'rbf' for other than 10 classes.
  """
  if output not in OUTPUTS:
    raise ValueError(f'model.output={output!r}: choose from {", ".join(OUTPUTS)}')
  if output == 'rbf' and num_classes != 10:
    raise ValueError(f"model.output='rbf': has codes for 10 classes, the data have {num_classes}")
  return LeNet5(num_classes, output, dtype)


def lenet(
  num_classes: int,
  *,
  channels: tuple[int, int] = (6, 16),
  hidden: tuple[int, int] = (120, 84),
  dtype: str = 'float32',
) -> nn.Module:
  """Returns the modern LeNet; see `LeNet`.

  Args:
    num_classes: number of outputs.
    channels: of the two convolutions.
    hidden: units of the two hidden full layers.
    dtype: of the computation; parameters are float32.
  """
  check_sizes(channels=tuple(channels), hidden=tuple(hidden))
  return LeNet(num_classes, channels, hidden, dtype)
