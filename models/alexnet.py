"""AlexNet (Krizhevsky, Sutskever, Hinton 2012), its CIFAR-10 network, and its one-column successor.

The papers' three suppose images in units of grey levels: 0 to 255 less the mean. Initial weights,
learning rates and the constants of the response normalisation were chosen at that scale.
torchvision's takes images of unit variance.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import normal, ones, zeros
from jax import Array
from jax.sharding import PartitionSpec

from models.axes import COLUMN_AXIS, mesh_size
from models.layers import (
  Conv,
  Dense,
  Dropout,
  LocallyConnected,
  LocalResponseNorm,
  MaxPool,
  check_sizes,
)


class AlexNet(nn.Module):
  """Images `[B, 224, 224, 3]` to logits `[B, num_classes]`; sections 3 and 5 of the paper.

  Attributes:
    num_classes: number of outputs.
    channels: of the five convolutions, all columns together.
    columns: the paper trained two, one a GPU. Each holds half of the channels, contiguous; conv2,
      conv4 and conv5 see their own column alone, conv3 and the full layers see both. On a mesh
      whose `tensor` axis is 2, each device holds and computes one column, and activations travel
      where the paper's GPUs communicated: before conv3 and before each full layer.
    hidden: units of the two hidden full layers.
    lrn: whether the first two convolutions have response normalisation.
    conv1_padding: above and left, and below and right.
    dropout: 'outputs' of the hidden full layers, all scaled at test time, as in the paper; or their
      'inputs', the kept scaled in training, as in torchvision.
    dtype: of the computation.
  """

  num_classes: int
  channels: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
  columns: int = 2
  hidden: int = 4096
  lrn: bool = True
  conv1_padding: tuple[int, int] = (1, 2)  # 224 + 3 is what gives the paper's 55 x 55 maps
  dropout: str = 'outputs'
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    if min(x.shape[1:3]) < 64:
      raise ValueError(f'images of {x.shape[1]} x {x.shape[2]}: AlexNet needs at least 64 x 64')
    c1, c2, c3, c4, c5 = self.channels
    x = self.conv('conv1', c1, 11, strides=(4, 4), padding=[self.conv1_padding] * 2)(x)
    x = self.pool('pool1')(self.norm('norm1')(nn.relu(x)))  # [B, 27, 27, 96]
    x = self.conv('conv2', c2, 5, groups=self.columns, bias_init=ones)(x)
    x = self.pool('pool2')(self.norm('norm2')(nn.relu(x)))  # [B, 13, 13, 256]
    x = nn.relu(self.conv('conv3', c3, 3)(x))
    x = nn.relu(self.conv('conv4', c4, 3, groups=self.columns, bias_init=ones)(x))
    x = nn.relu(self.conv('conv5', c5, 3, groups=self.columns, bias_init=ones)(x))
    x = join_columns(self.pool('pool5')(x))  # [B, 6, 6, 256]
    x = x.reshape(x.shape[0], -1)
    inputs = self.dropout == 'inputs'
    for i in (6, 7):
      dropout = functools.partial(Dropout(0.5, inverted=inputs, name=f'dropout{i}'), train=train)
      x = dropout(x) if inputs else x
      x = nn.relu(self.full(f'full{i}', self.hidden, bias_init=ones)(x))
      x = x if inputs else dropout(x)
    return self.full('full8', self.num_classes)(x).astype(jnp.float32)

  def conv(self, name: str, features: int, size: int, **kwargs) -> Conv:
    """Returns a convolution whose outputs belong to the columns."""
    out_axis = 'column' if self.columns > 1 else 'channels_out'
    common: dict[str, Any] = {
      'kernel_init': normal(0.01),
      'out_axis': out_axis,
      'dtype': self.dtype,
    }
    return Conv(features, (size, size), name=name, **common, **kwargs)

  def full(self, name: str, features: int, bias_init=zeros) -> Dense:
    """Returns a fully connected layer."""
    return Dense(features, normal(0.01), bias_init, self.dtype, name=name)

  def norm(self, name: str) -> Callable[[Array], Array]:
    """Returns response normalisation within each column, if there is any."""
    return LocalResponseNorm(columns=self.columns, name=name) if self.lrn else lambda x: x

  def pool(self, name: str) -> MaxPool:
    """Returns overlapping pooling (section 3.4)."""
    return MaxPool((3, 3), (2, 2), name=name)


def join_columns(x: Array) -> Array:
  """Gathers the channels of `[B, H, W, C]` on every device, so that they can be flattened."""
  if mesh_size(COLUMN_AXIS) == 1:
    return x
  free = PartitionSpec.UNCONSTRAINED
  return jax.lax.with_sharding_constraint(x, PartitionSpec(free, free, free, None))


class CifarNet(nn.Module):
  """The CIFAR-10 network of section 3.3: 13 % test error without, 11 % with response normalisation.

  The paper points to its code for the layers: cuda-convnet's layers-conv-local-13pct and -11pct.
  There the images are crops of 24 x 24, and the sum of squares is averaged over its 5 channels.
  """

  num_classes: int
  lrn: bool = True
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    for i, std in ((1, 1e-4), (2, 0.01)):
      conv = Conv(64, (5, 5), kernel_init=normal(std), dtype=self.dtype, name=f'conv{i}')
      x = nn.relu(conv(x))
      if self.lrn:
        x = LocalResponseNorm(size=5, k=1.0, alpha=0.001 / 5, beta=0.75, name=f'norm{i}')(x)
      x = MaxPool((3, 3), (2, 2), 'SAME', name=f'pool{i}')(x)  # 24 -> 12 -> 6
    for i in (3, 4):
      local = LocallyConnected(
        32, (3, 3), kernel_init=normal(0.04), dtype=self.dtype, name=f'local{i}'
      )
      x = nn.relu(local(x))
    x = x.reshape(x.shape[0], -1)
    x = Dense(self.num_classes, normal(0.01), dtype=self.dtype, name='full5')(x)
    return x.astype(jnp.float32)


def alexnet(num_classes: int, *, hidden: int = 4096, dtype: str = 'float32') -> nn.Module:
  """Returns AlexNet as published in 2012: 60,965,224 parameters for 1,000 classes.

  Args:
    num_classes: number of outputs.
    hidden: units of the two hidden full layers.
    dtype: of the computation; parameters are float32.
  """
  check_sizes(hidden=hidden)
  return AlexNet(num_classes, hidden=hidden, dtype=dtype)


def alexnet_one_column(
  num_classes: int, *, conv4: int = 384, hidden: int = 4096, dtype: str = 'float32'
) -> nn.Module:
  """Returns the network of one column in Krizhevsky 2014 (arXiv 1404.5997).

  Args:
    num_classes: number of outputs.
    conv4: channels of the fourth convolution: 384 in that paper; 256 in the author's code and in
      torchvision (61,100,840 parameters).
    hidden: units of the two hidden full layers.
    dtype: of the computation.
  """
  check_sizes(conv4=conv4, hidden=hidden)
  return AlexNet(num_classes, (64, 192, 384, conv4, 256), columns=1, hidden=hidden, dtype=dtype)


def alexnet_torchvision(num_classes: int, *, dtype: str = 'float32') -> nn.Module:
  """Returns the one-column network as torchvision has it: 61,100,840 parameters for 1,000 classes.

  Without response normalisation, with 256 channels in the fourth convolution and 2 pixels of
  padding around the images, which are of unit variance.

  Args:
    num_classes: number of outputs.
    dtype: of the computation.
  """
  return AlexNet(
    num_classes,
    (64, 192, 384, 256, 256),
    columns=1,
    lrn=False,
    conv1_padding=(2, 2),
    dropout='inputs',
    dtype=dtype,
  )


def alexnet_cifar10(num_classes: int, *, lrn: bool = True, dtype: str = 'float32') -> nn.Module:
  """Returns the CIFAR-10 network; see `CifarNet`.

  Args:
    num_classes: number of outputs.
    lrn: whether it has local response normalisation.
    dtype: of the computation; parameters are float32.
  """
  return CifarNet(num_classes, lrn, dtype)
