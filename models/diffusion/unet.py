"""The U-Net of diffusion models, with the changes of ADM, score SDEs and EDM as fields.

Ho et al. 2020 (arXiv 2006.11239), appendix B: residual blocks at several resolutions, on a path
down and a path up again; each block on the way up also reads the output of one on the way down (a
skip).
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import zeros
from jax import Array

from models.axes import shard_batch
from models.diffusion.conditioning import (
  FEATURES,
  Embedding,
  check_context,
  check_label,
  complete_context,
)
from models.diffusion.unet_blocks import (
  Attention,
  Downsample,
  GroupNorm,
  ResBlock,
  Upsample,
  add,
  conv3,
)
from models.transformer import check_fields

CHOICES = {
  'resampling': ('conv', 'block'),
  'up_attention': ('all', 'last'),
  'embedding': tuple(FEATURES),
  'downsample_padding': (0, 1),
  'freq_shift': (0, 1),
  'remat': ('none', 'block'),
  'dtype': ('float32', 'bfloat16'),
}
POSITIVE = ('channels', 'num_res_blocks', 'heads', 'groups', 'group_width')
NOT_NEGATIVE = ('head_width', 'num_classes', 'context_width')

_SCORE_SDE = {
  'num_res_blocks': 4,
  'resampling': 'block',
  'skip_rescale': True,
  'project_shortcut': True,
  'up_attention': 'last',
  'dropout': 0.1,
}
_NCSNPP = {**_SCORE_SDE, 'fir': True, 'embedding': 'fourier', 'input_skip': True}

# The networks of the papers: Ho et al. 2020 for CIFAR-10; Song et al. 2021 (arXiv 2011.13456, app.
# H); Karras et al. 2022 (arXiv 2206.00364, app. F); Dhariwal & Nichol 2021 (arXiv 2105.05233, table
# 4).
SIZES: dict[str, dict[str, Any]] = {
  'ddpm': {'dropout': 0.1},
  'ddpmpp': _SCORE_SDE,
  'ddpmpp_deep': {**_SCORE_SDE, 'num_res_blocks': 8},
  'ncsnpp': _NCSNPP,
  'ncsnpp_deep': {**_NCSNPP, 'num_res_blocks': 8},
  'edm': {**_SCORE_SDE, 'channel_multipliers': (2, 2, 2), 'dropout': 0.13},
  'edm_ncsnpp': {**_NCSNPP, 'channel_multipliers': (2, 2, 2), 'dropout': 0.13},
  'adm_imagenet64': {
    'channels': 192,
    'channel_multipliers': (1, 2, 3, 4),
    'num_res_blocks': 3,
    'attention_resolutions': (32, 16, 8),
    'head_width': 64,
    'resampling': 'block',
    'scale_shift_norm': True,
    'learned_variance': True,
    'dropout': 0.1,
    'num_classes': 1000,
  },
}


class UNet(nn.Module):
  """A U-Net, a `denoiser.DenoisingNetwork`.

  channels: base width; level i has channels x channel_multipliers[i].
  channel_multipliers: one per level; each level halves height and width of the one before.
  num_res_blocks: residual blocks per level on the way down; one more on the way up.
  attention_resolutions: heights of feature maps at which self-attention follows each block. The
    middle always has it.
  up_attention: on the way up, attention after 'all' blocks or the 'last' of a level (score SDEs,
    EDM).
  heads: number of attention heads, where head_width is 0.
  head_width: channels per attention head; 0 to divide them by `heads`.
  groups: the largest number of groups of a norm.
  group_width: the fewest channels of a group; diffusers has no such bound.
  norm_epsilon: added to variances.
  dropout: probability in residual blocks, [0, 1).
  resampling: by a convolution ('conv') or a residual block ('block', BigGAN's).
  scale_shift_norm, skip_rescale, project_shortcut, fir: those of `unet_blocks.ResBlock`.
  downsample_padding: of a downsampling convolution: 1 pads each side with a zero, 0 the ends alone,
    as SAME of TensorFlow does, in which DDPM was written.
  embedding: features of the noise level, 'sinusoidal' or 'fourier'.
  freq_shift: see `conditioning.sinusoids`.
  input_skip: adds the downsampled image at each level (residual input pyramid of NCSN++).
  num_classes: 0 for a network without labels.
  context_width: D of the context; 0 for a network without cross-attention.
  learned_variance: outputs v beside the prediction (Nichol and Dhariwal 2021, arXiv 2102.09672).
  remat: 'block' recomputes residual blocks and attention in the backward pass.
  dtype: of activations; parameters, norms and softmaxes are float32.
  """

  channels: int = 128
  channel_multipliers: tuple[int, ...] = (1, 2, 2, 2)
  num_res_blocks: int = 2
  attention_resolutions: tuple[int, ...] = (16,)
  up_attention: str = 'all'
  heads: int = 1
  head_width: int = 0
  groups: int = 32
  group_width: int = 4
  norm_epsilon: float = 1e-6
  dropout: float = 0.0
  resampling: str = 'conv'
  scale_shift_norm: bool = False
  skip_rescale: bool = False
  project_shortcut: bool = False
  fir: bool = False
  downsample_padding: int = 0
  embedding: str = 'sinusoidal'
  freq_shift: int = 1
  input_skip: bool = False
  num_classes: int = 0
  context_width: int = 0
  learned_variance: bool = False
  remat: str = 'none'
  dtype: str = 'float32'

  def __post_init__(self):
    for name in ('channel_multipliers', 'attention_resolutions'):  # lists in JSON
      object.__setattr__(self, name, tuple(getattr(self, name)))
    check(self)
    super().__post_init__()

  @nn.compact
  def __call__(
    self,
    x: Array,
    t: Array,
    label: Array | None = None,
    context: Array | None = None,
    mask: Array | None = None,
    *,
    train: bool = False,
  ) -> Array:
    """Returns the output for noisy images x, float32 `[B, H, W, C]`, or 2 C channels with v.

    Args:
      x: `[B, H, W, C]`; H and W are multiples of 2^(levels - 1).
      t: float `[B]`, `Process.c_noise`: 0 to 1000 suits sinusoidal features, log sigma Fourier
        ones.
      label: int `[B]`; -1 or `num_classes` is no label, as None is for all.
      context: `[B, L, context_width]`; None for no context.
      mask: bool `[B, L]`, the positions of the context that exist; None for all. A row without any
        has no context.
      train: whether dropout acts.

    Raises ValueError for inputs that the network was not made for.
    """
    check_input(self, x, label, context)
    outputs = x.shape[-1] * (2 if self.learned_variance else 1)
    noise = self.channels * (2 if self.embedding == 'fourier' else 1)
    embed = Embedding(
      4 * self.channels,
      noise,
      self.embedding,
      self.num_classes,
      self.freq_shift,
      self.dtype,
      name='embedding',
    )
    context, mask = complete_context(context, mask, len(x), self.context_width)
    blocks = Blocks(self, embed(t, label), context, mask, train)
    h = self.up(blocks, *self.down(blocks, x))
    h = GroupNorm(**norm_fields(self), dtype=self.dtype, name='norm_out')(h)
    h = conv3(outputs, kernel_init=zeros, dtype=self.dtype, name='conv_out')(h)
    return h.astype(jnp.float32)

  def down(self, blocks: 'Blocks', x: Array) -> tuple[Array, list[Array]]:
    """Returns the last level's output, and the skips: the outputs of all layers in order."""
    image = x.astype(self.dtype)
    h = conv3(self.channels, dtype=self.dtype, name='conv_in')(image)
    skips = [h]
    for level, multiplier in enumerate(self.channel_multipliers):
      for i in range(self.num_res_blocks):
        h = blocks.block(h, f'down{level}_{i}', self.channels * multiplier)
        skips.append(h)
      if level + 1 < len(self.channel_multipliers):
        h = blocks.resample(h, f'down{level}', 'down')
        if self.input_skip:
          shrink = Downsample(h.shape[-1], self.fir, dtype=self.dtype, name=f'input{level}')
          image = shrink(image)
          image = h = add(h, image, self.skip_rescale)
        skips.append(h)
    return h, skips

  def up(self, blocks: 'Blocks', h: Array, skips: list[Array]) -> Array:
    """Returns `[B, H, W, channels]` from the last level's output and the skips."""
    h = blocks.block(h, 'middle_0', h.shape[-1], attention=True)
    h = blocks.block(h, 'middle_1', h.shape[-1], attention=False)
    for level, multiplier in reversed(list(enumerate(self.channel_multipliers))):
      for i in range(self.num_res_blocks + 1):
        h = jnp.concatenate([h, skips.pop()], axis=-1)
        attends = None if self.up_attention == 'all' or i == self.num_res_blocks else False
        h = blocks.block(h, f'up{level}_{i}', self.channels * multiplier, attention=attends)
      if level:
        h = blocks.resample(h, f'up{level}', 'up')
    return h


class Blocks:
  """The blocks of a UNet in one application, with the inputs that all of them share."""

  def __init__(self, net: UNet, embedding, context, mask, train: bool):
    self.net, self.embedding, self.train = net, embedding, train
    self.context, self.mask = context, mask
    remat = net.remat == 'block'
    self.res_block = nn.remat(ResBlock, static_argnums=(3,)) if remat else ResBlock
    self.attention = nn.remat(Attention) if remat else Attention

  def block(self, h: Array, name: str, features: int, attention: bool | None = None) -> Array:
    """Applies a residual block, then attention; attention=None: by `attention_resolutions`."""
    h = self.residual(h, name, features)
    if attention is None:
      attention = h.shape[1] in self.net.attention_resolutions
    if attention:
      h = self.attend(h, f'{name}_attention')
      if self.net.context_width:
        h = self.attend(h, f'{name}_context', self.context, self.mask)
    return shard_batch(h)

  def resample(self, h: Array, name: str, to: str) -> Array:
    """Halves (to='down') or doubles ('up') the height and width."""
    net = self.net
    if net.resampling == 'block':
      return shard_batch(self.residual(h, f'{name}_resample', h.shape[-1], to))
    down = functools.partial(Downsample, h.shape[-1], padding=net.downsample_padding)
    layer: Callable = Upsample if to == 'up' else down
    return shard_batch(layer(fir=net.fir, dtype=net.dtype, name=f'{name}_resample')(h))

  def residual(self, h: Array, name: str, features: int, to: str = '') -> Array:
    fields = ('dropout', 'scale_shift_norm', 'skip_rescale', 'project_shortcut', 'fir')
    settings = norm_fields(self.net) | {field: getattr(self.net, field) for field in fields}
    block = self.res_block(features, resample=to, dtype=self.net.dtype, name=name, **settings)
    return block(h, self.embedding, self.train)

  def attend(self, h: Array, name: str, *context: Array | None) -> Array:
    net, width = self.net, head_width(self.net, h.shape[-1])
    settings = {**norm_fields(net), 'skip_rescale': net.skip_rescale, 'dtype': net.dtype}
    return self.attention(width, name=name, **settings)(h, *context)


def norm_fields(net: UNet) -> dict[str, Any]:
  """Returns the fields of the network's norms."""
  return {'groups': net.groups, 'group_width': net.group_width, 'epsilon': net.norm_epsilon}


def head_width(net: UNet, channels: int) -> int:
  """Returns the channels per attention head; ValueError unless heads divide the channels."""
  name = 'head_width' if net.head_width else 'heads'
  if channels % getattr(net, name):
    raise ValueError(f'model.{name}={getattr(net, name)}: must divide {channels} channels')
  return net.head_width or channels // net.heads


# -------- checks --------


def check(net: UNet) -> None:
  """Raises ValueError for a field with a value that is not allowed."""
  check_fields(net, CHOICES, POSITIVE, NOT_NEGATIVE)
  if not net.channel_multipliers or min(net.channel_multipliers) < 1:
    multipliers = net.channel_multipliers
    raise ValueError(f'model.channel_multipliers={multipliers}: one or more positive numbers')
  if net.channels % 2:
    raise ValueError(f'model.channels={net.channels}: an even number')
  if net.downsample_padding and net.fir:
    raise ValueError(f'model.downsample_padding={net.downsample_padding}: model.fir has its own')
  if not 0 < net.norm_epsilon < 1:
    raise ValueError(f'model.norm_epsilon={net.norm_epsilon}: above 0 and below 1')
  if not 0 <= net.dropout < 1:
    raise ValueError(f'model.dropout={net.dropout}: from 0 to below 1')
  head_width(net, net.channels * net.channel_multipliers[-1])  # the middle always attends


def check_input(net: UNet, x: Array, label: Array | None, context: Array | None) -> None:
  """Raises ValueError for inputs that the network does not take."""
  factor = 2 ** (len(net.channel_multipliers) - 1)
  if x.shape[1] % factor or x.shape[2] % factor:
    raise ValueError(
      f'images of {x.shape[1]} x {x.shape[2]}: {len(net.channel_multipliers)} levels'
      f' (model.channel_multipliers) need multiples of {factor}'
    )
  check_label(label, net.num_classes)
  check_context(context, net.context_width)
