"""Q-networks: Nature's (Mnih et al. 2015), MinAtar's (Young and Tian 2019), and an MLP."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import lecun_normal, zeros
from jax import Array

from models import ops
from models.layers import Dense, parameter

SIZES: Mapping[str, Mapping[str, Any]] = {
  # Methods, 'Model architecture'.
  'dqn_nature': {
    'filters': (32, 64, 64),
    'windows': (8, 4, 3),
    'strides': (4, 2, 1),
    'hidden': (512,),
  },
  'dqn_minatar': {'filters': (16,), 'windows': (3,), 'strides': (1,), 'hidden': (128,)},
  'dqn_mlp': {'hidden': (128, 128)},
}


class QNetwork(nn.Module):
  """Maps observations to float32 Q values `[B, num_actions]`.

  An observation is bool or float `[B, ...]`, or uint8 pixels `[B, H, W, C]`, which are divided by
  255; of a history the frames are channels.

  Attributes:
    num_actions: A.
    filters: channels of each convolution, none for observations that are no pictures.
    windows: their sides; a multiple of the stride.
    strides: of each.
    hidden: widths of the fully connected layers.
    dueling: whether Q is a state's value plus advantages around their mean, each from a last hidden
      layer of its own (Wang et al. 2016, equation 9).
    dtype: of the computation.
  """

  num_actions: int
  filters: tuple[int, ...] = ()
  windows: tuple[int, ...] = ()
  strides: tuple[int, ...] = ()
  hidden: tuple[int, ...] = (128,)
  dueling: bool = False
  dtype: str = 'float32'

  def __post_init__(self) -> None:
    super().__post_init__()
    if not len(self.filters) == len(self.windows) == len(self.strides):
      raise ValueError(
        f'model.filters={self.filters}, windows={self.windows}, strides={self.strides}:'
        ' must be as many'
      )
    sizes = zip(self.windows, self.strides, strict=True)
    if any(stride < 1 or window < 1 or window % stride for window, stride in sizes):
      raise ValueError(
        f'model.windows={self.windows}: must be multiples of model.strides={self.strides}'
      )

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    if self.filters and x.ndim != 4:
      raise ValueError(
        f'model.filters={self.filters}: convolutions see pictures [H, W, C], and an observation has'
        f' the shape {list(x.shape[1:])}; choose dqn_mlp'
      )
    x = x / 255 if x.dtype == jnp.uint8 else x
    x = x.astype(self.dtype)
    for i, sizes in enumerate(zip(self.filters, self.windows, self.strides, strict=True)):
      x = nn.relu(Convolution(*sizes, dtype=self.dtype, name=f'conv{i + 1}')(x))
    x = x.reshape(x.shape[0], -1)
    if not self.dueling:
      return self._head(x, self.num_actions, 'q')
    value, advantage = self._head(x, 1, 'value'), self._head(x, self.num_actions, 'advantage')
    return value + advantage - advantage.mean(-1, keepdims=True)

  def _head(self, x: Array, outputs: int, name: str) -> Array:
    for i, width in enumerate(self.hidden):
      x = nn.relu(Dense(width, dtype=self.dtype, name=f'{name}_hidden{i + 1}')(x))
    return Dense(outputs, name=name)(x.astype(jnp.float32))


class Convolution(nn.Module):
  """A convolution without padding, as one product of a matrix of windows.

  Networks of several seeds are one program by `vmap`, and several updates one by `scan`: there a
  product stays a product, where XLA runs a convolution's gradient many times slower on a CPU.
  """

  features: int
  window: int
  stride: int
  dtype: str = 'float32'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    if self.window > min(x.shape[1:3]):
      raise ValueError(
        f'model.windows: a window of {self.window} does not fit into {x.shape[1]} x {x.shape[2]}'
      )
    shape = (self.window, self.window, x.shape[-1], self.features)
    axes = (None, None, 'channels_in', 'channels_out')
    kernel = parameter(self, 'kernel', lecun_normal(), shape, axes)
    bias = parameter(self, 'bias', zeros, shape[-1:], axes[-1:])
    patches = windows(blocks(x, self.stride), self.window // self.stride)
    matrix = kernel_blocks(kernel, self.stride).astype(self.dtype)
    y = ops.dense(patches.reshape(-1, patches.shape[-1]), matrix) + bias[None].astype(self.dtype)
    return y.reshape(*patches.shape[:-1], self.features)


def blocks(x: Array, side: int) -> Array:
  """Returns images `[B, H, W, C]` as `[B, H / side, W / side, side side C]`; a rest is cut off."""
  b, h, w, c = x.shape
  rows, columns = h // side, w // side
  x = x[:, : rows * side, : columns * side].reshape(b, rows, side, columns, side, c)
  return x.swapaxes(2, 3).reshape(b, rows, columns, side * side * c)


def windows(x: Array, side: int) -> Array:
  """Returns all windows of `[B, H, W, C]`, `[B, H - side + 1, W - side + 1, side side C]`."""
  rows, columns = x.shape[1] - side + 1, x.shape[2] - side + 1
  parts = [x[:, i : i + rows, j : j + columns] for i in range(side) for j in range(side)]
  return jnp.concatenate(parts, -1)


def kernel_blocks(kernel: Array, stride: int) -> Array:
  """Returns a kernel `[h, w, C, F]` as `[h w C, F]`, rows in the order of `windows(blocks())`."""
  h, w, c, f = kernel.shape
  return (
    kernel.reshape(h // stride, stride, w // stride, stride, c, f).swapaxes(1, 2).reshape(-1, f)
  )
