"""AlphaGo Zero's network: one residual tower with a policy and a value at its top.

Silver et al. 2017, Methods, 'Neural network architecture'; the heads for who owns each point and
for the score are those of Wu 2019 (arXiv 1902.10565), section 4, in their plainest form.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from models.layers import BatchNorm, Dense, check_statistics
from models.resnet import Block, conv

SIZES: dict[str, dict] = {
  'policy_value': {},
  'alphago_zero20': {'blocks': 19, 'channels': 256},  # with the first convolution, 20 blocks
  'alphago_zero40': {'blocks': 39, 'channels': 256},
}


class PolicyValue(nn.Module):
  """Planes `[B, H, W, C]` to float32 logits `[B, A]`, values `[B]` in [-1, 1], and auxiliary heads.

  Attributes:
    num_actions: A.
    blocks: residual blocks of two 3x3 convolutions.
    channels: of the tower's convolutions.
    policy_channels: of the policy head's 1x1 convolution.
    value_channels: of the value head's 1x1 convolution.
    value_width: units of the value head's hidden layer.
    ownership: adds aux['ownership'] `[B, H, W]` in [-1, 1]: 1 where the player to move will own.
    score: adds aux['score'] `[B]`, for the player to move, in boards: points / (H W).
    white_plane: whether the network also sees a plane of ones where the last one has zeros: Go's
      last plane is 1 if black is to move, and Leela Zero has one for white beside it.
    black_value: whether the value head speaks for black, by the last plane, as ELF OpenGo's does.
    statistics: BatchNorm's in training, 'global' or 'device'.
    dtype: of the computation.
  """

  num_actions: int
  blocks: int = 4
  channels: int = 64
  policy_channels: int = 2
  value_channels: int = 1
  value_width: int = 256
  ownership: bool = False
  score: bool = False
  white_plane: bool = False
  black_value: bool = False
  statistics: str = 'global'
  dtype: str = 'float32'

  def __post_init__(self):
    check_statistics(self.statistics)
    super().__post_init__()

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> tuple[Array, Array, dict[str, Array]]:
    """Returns logits, values and the auxiliary outputs by name."""
    x = x.astype(self.dtype)
    colour = 2 * x[:, 0, 0, -1].astype(jnp.float32) - 1 if self.black_value else 1.0  # [B]
    if self.white_plane:  # no bias stands for it, as convolutions pad both planes with zeros
      x = jnp.concatenate([x, 1 - x[..., -1:]], -1)
    x = conv(self.channels, 3, 1, dtype=self.dtype, name='stem')(x)
    x = self.norm_relu('stem_norm', x, train)
    for i in range(self.blocks):
      block = Block(self.channels, statistics=self.statistics, dtype=self.dtype, name=f'block{i}')
      x = block(x, train=train)
    aux = {}
    if self.ownership:
      owner = conv(1, 1, 1, dtype=self.dtype, name='ownership')(x)
      aux['ownership'] = jnp.tanh(owner[..., 0].astype(jnp.float32))
    if self.score:
      mean = x.mean((1, 2))
      aux['score'] = Dense(1, dtype=self.dtype, name='score')(mean)[:, 0].astype(jnp.float32)
    return self.policy(x, train), colour * self.value(x, train), aux

  def policy(self, x: Array, train: bool) -> Array:
    """Returns the policy head's logits `[B, A]`."""
    x = conv(self.policy_channels, 1, 1, dtype=self.dtype, name='policy_conv')(x)
    x = self.norm_relu('policy_norm', x, train).reshape(x.shape[0], -1)
    return Dense(self.num_actions, dtype=self.dtype, name='policy')(x).astype(jnp.float32)

  def value(self, x: Array, train: bool) -> Array:
    """Returns the value head's values `[B]`."""
    x = conv(self.value_channels, 1, 1, dtype=self.dtype, name='value_conv')(x)
    x = self.norm_relu('value_norm', x, train).reshape(x.shape[0], -1)
    x = nn.relu(Dense(self.value_width, dtype=self.dtype, name='value_hidden')(x))
    x = Dense(1, dtype=self.dtype, name='value')(x)
    return jnp.tanh(x[:, 0].astype(jnp.float32))

  def norm_relu(self, name: str, x: Array, train: bool) -> Array:
    """Applies BatchNorm and ReLU."""
    return nn.relu(BatchNorm(self.statistics, dtype=self.dtype, name=name)(x, train=train))
