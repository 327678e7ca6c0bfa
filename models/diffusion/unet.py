"""The U-Net of diffusion models, and what ADM, score SDEs and EDM changed in it, each by a field.

Ho et al. 2020 (arXiv 2006.11239), appendix B: residual blocks at 2, 3 or more resolutions, down and
up again; each block on the way up also sees what one on the way down gave.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.initializers import zeros
from jax import Array

from models.axes import shard_batch
from models.diffusion.conditioning import FEATURES, Embedding, check_context, check_label, in_full
from models.diffusion.unet_blocks import (
  Attention,
  Downsample,
  GroupNorm,
  ResBlock,
  Upsample,
  add,
  conv3,
)

CHOICES = {
  'resampling': ('conv', 'block'),
  'up_attention': ('all', 'last'),
  'embedding': tuple(FEATURES),
  'remat': ('none', 'block'),
  'dtype': ('float32', 'bfloat16'),
}
POSITIVE = ('channels', 'blocks', 'heads', 'groups')
NOT_NEGATIVE = ('head_width', 'num_classes', 'context_width')

_SCORE_SDE = {
  'blocks': 4,
  'resampling': 'block',
  'rescale': True,
  'project': True,
  'up_attention': 'last',
  'dropout': 0.1,
}
_NCSNPP = {**_SCORE_SDE, 'fir': True, 'embedding': 'fourier', 'input_skip': True}

# The papers' networks: Ho et al. 2020 for CIFAR-10; Song et al. 2021 (arXiv 2011.13456, app. H);
# Karras et al. 2022 (arXiv 2206.00364, app. F); Dhariwal & Nichol 2021 (arXiv 2105.05233, table 4).
SIZES: dict[str, dict[str, Any]] = {
  'ddpm': {'dropout': 0.1},
  'ddpmpp': _SCORE_SDE,
  'ddpmpp_deep': {**_SCORE_SDE, 'blocks': 8},
  'ncsnpp': _NCSNPP,
  'ncsnpp_deep': {**_NCSNPP, 'blocks': 8},
  'edm': {**_SCORE_SDE, 'multipliers': (2, 2, 2), 'dropout': 0.13},
  'edm_ncsnpp': {**_NCSNPP, 'multipliers': (2, 2, 2), 'dropout': 0.13},
  'adm_imagenet64': {
    'channels': 192,
    'multipliers': (1, 2, 3, 4),
    'blocks': 3,
    'attention': (32, 16, 8),
    'head_width': 64,
    'resampling': 'block',
    'scale_shift': True,
    'learned_variance': True,
    'dropout': 0.1,
    'num_classes': 1000,
  },
}


class UNet(nn.Module):
  """Images `[B, H, W, C]` and noise levels `[B]` to float32 `[B, H, W, C]`.

  channels, multipliers: the first level has channels x the first multiplier, and so on; each level
    halves height and width of the one before.
  blocks: residual blocks of a level on the way down; one more on the way up.
  attention: the heights of images at which attention follows each block, as it does in the middle.
  up_attention: on the way up after 'all' blocks, or the 'last' of a level (score SDEs, EDM).
  heads, head_width: of attention; a width other than 0 decides the number.
  groups: of the norms, at most.
  resampling: a convolution of its own ('conv'), or a residual block ('block', BigGAN's).
  scale_shift, rescale, project, fir: those of `unet_blocks.ResBlock`.
  embedding: of noise levels, 'sinusoidal' or 'fourier' waves.
  input_skip: each level also sees the image, filtered down (NCSN++'s residual input pyramid).
  num_classes: 0 for a network without labels.
  context_width: D of a context; 0 for a network without cross-attention.
  learned_variance: twice the channels out, for Nichol & Dhariwal 2021 (arXiv 2102.09672, eq. 15).
  remat: 'block' computes residual blocks and attention anew in the backward pass.
  dtype: of activations; parameters are float32.
  """

  channels: int = 128
  multipliers: tuple[int, ...] = (1, 2, 2, 2)
  blocks: int = 2
  attention: tuple[int, ...] = (16,)
  up_attention: str = 'all'
  heads: int = 1
  head_width: int = 0
  groups: int = 32
  dropout: float = 0.0
  resampling: str = 'conv'
  scale_shift: bool = False
  rescale: bool = False
  project: bool = False
  fir: bool = False
  embedding: str = 'sinusoidal'
  input_skip: bool = False
  num_classes: int = 0
  context_width: int = 0
  learned_variance: bool = False
  remat: str = 'none'
  dtype: str = 'float32'

  def __post_init__(self):
    for name in ('multipliers', 'attention'):  # lists, where they come from JSON
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
    """What the network says of images x at noise levels t.

    t: `[B]`, the noise as its embedding takes it: DDPM's steps from 0 to 1000 for sinusoids.
    label: int `[B]`; -1 or `num_classes`, as None for all, is no label.
    context: `[B, L, context_width]`, of which bool `mask` `[B, L]` says what is seen; None: all.
      A row of which nothing is seen has no context, as None for all.
    """
    check_input(self, x, label, context)
    outputs = x.shape[-1] * (2 if self.learned_variance else 1)
    noise = self.channels * (2 if self.embedding == 'fourier' else 1)
    embed = Embedding(
      4 * self.channels, noise, self.embedding, self.num_classes, self.dtype, name='embedding'
    )
    seen = in_full(context, mask, len(x), self.context_width)
    path = Path(self, embed(t, label), *seen, train)
    h = self.up(path, *self.down(path, x))
    h = GroupNorm(self.groups, dtype=self.dtype, name='norm_out')(h)
    h = conv3(outputs, kernel_init=zeros, dtype=self.dtype, name='conv_out')(h)
    return h.astype(jnp.float32)

  def down(self, path: 'Path', x: Array) -> tuple[Array, list[Array]]:
    """What the last level gives, and what all convolutions and blocks before did."""
    image = x.astype(self.dtype)
    h = conv3(self.channels, dtype=self.dtype, name='conv_in')(image)
    skips = [h]
    for level, multiplier in enumerate(self.multipliers):
      for i in range(self.blocks):
        h = path.block(h, f'down{level}_{i}', self.channels * multiplier)
        skips.append(h)
      if level + 1 < len(self.multipliers):
        h = path.resampled(h, f'down{level}', 'down')
        if self.input_skip:
          image = Downsample(h.shape[-1], self.fir, self.dtype, name=f'input{level}')(image)
          image = h = add(h, image, self.rescale)
        skips.append(h)
    return h, skips

  def up(self, path: 'Path', h: Array, skips: list[Array]) -> Array:
    h = path.block(h, 'middle_0', h.shape[-1], attention=True)
    h = path.block(h, 'middle_1', h.shape[-1], attention=False)
    for level, multiplier in reversed(list(enumerate(self.multipliers))):
      for i in range(self.blocks + 1):
        h = jnp.concatenate([h, skips.pop()], axis=-1)
        sees = None if self.up_attention == 'all' or i == self.blocks else False
        h = path.block(h, f'up{level}_{i}', self.channels * multiplier, attention=sees)
      if level:
        h = path.resampled(h, f'up{level}', 'up')
    return h


class Path:
  """One application of a UNet: what all its blocks are handed."""

  def __init__(self, net: UNet, embedding, context, mask, train: bool):
    self.net, self.embedding, self.train = net, embedding, train
    self.context, self.mask = context, mask
    remat = net.remat == 'block'
    self.res_block = nn.remat(ResBlock, static_argnums=(3,)) if remat else ResBlock
    self.attention = nn.remat(Attention) if remat else Attention

  def block(self, h: Array, name: str, features: int, attention: bool | None = None) -> Array:
    """A residual block, and attention; None: where the net has it at this size."""
    h = self.residual(h, name, features)
    if h.shape[1] in self.net.attention if attention is None else attention:
      h = self.attends(f'{name}_attention')(h)
      if self.net.context_width:
        h = self.attends(f'{name}_context')(h, self.context, self.mask)
    return shard_batch(h)

  def resampled(self, h: Array, name: str, to: str) -> Array:
    net = self.net
    if net.resampling == 'block':
      return shard_batch(self.residual(h, f'{name}_resample', h.shape[-1], to))
    layer: Callable = Upsample if to == 'up' else functools.partial(Downsample, h.shape[-1])
    return shard_batch(layer(fir=net.fir, dtype=net.dtype, name=f'{name}_resample')(h))

  def residual(self, h: Array, name: str, features: int, to: str = '') -> Array:
    fields = ('groups', 'dropout', 'scale_shift', 'rescale', 'project', 'fir', 'dtype')
    settings = {field: getattr(self.net, field) for field in fields}
    block = self.res_block(features, resample=to, name=name, **settings)
    return block(h, self.embedding, self.train)

  def attends(self, name: str) -> Callable[..., Array]:
    net = self.net

    def attend(h: Array, *context: Array) -> Array:
      width = head_width(net, h.shape[-1])
      return self.attention(width, net.groups, net.rescale, net.dtype, name=name)(h, *context)

    return attend


def head_width(net: UNet, channels: int) -> int:
  """Of attention over so many channels; ValueError where heads do not divide them."""
  name = 'head_width' if net.head_width else 'heads'
  if channels % getattr(net, name):
    raise ValueError(f'model.{name}={getattr(net, name)}: must divide {channels} channels')
  return net.head_width or channels // net.heads


# -------- what cannot be --------


def check(net: UNet) -> None:
  """Raises ValueError where a field has a value that cannot be."""
  for name, choices in CHOICES.items():
    if (value := getattr(net, name)) not in choices:
      raise ValueError(f'model.{name}={value!r}: choose from {", ".join(choices)}')
  for names, least in ((POSITIVE, 1), (NOT_NEGATIVE, 0)):
    for name in names:
      if (value := getattr(net, name)) < least:
        raise ValueError(f'model.{name}={value}: at least {least}')
  if not net.multipliers or min(net.multipliers) < 1:
    raise ValueError(f'model.multipliers={net.multipliers}: one or more positive numbers')
  if net.channels % 2:
    raise ValueError(f'model.channels={net.channels}: an even number')
  if not 0 <= net.dropout < 1:
    raise ValueError(f'model.dropout={net.dropout}: from 0 to below 1')
  head_width(net, net.channels * net.multipliers[-1])  # the middle always attends


def check_input(net: UNet, x: Array, label: Array | None, context: Array | None) -> None:
  factor = 2 ** (len(net.multipliers) - 1)
  if x.shape[1] % factor or x.shape[2] % factor:
    raise ValueError(
      f'images of {x.shape[1]} x {x.shape[2]}: {len(net.multipliers)} levels'
      f' (model.multipliers) need multiples of {factor}'
    )
  check_label(label, net.num_classes)
  check_context(context, net.context_width)
