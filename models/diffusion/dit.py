"""Diffusion transformers: Peebles & Xie 2023 (arXiv 2212.09748), with adaLN-Zero (section 3.2).

An image is cut into patches, each a token; what the noise and the label are scales, shifts and
gates each layer's two residuals, all of which begin at zero.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import normal, variance_scaling, zeros
from jax import Array, lax

from models import attention as attention_lib
from models import transformer as parts
from models.axes import shard_batch
from models.diffusion.conditioning import check_context, check_label, in_full, sinusoids

CHOICES = {'remat': ('none', 'block'), 'dtype': ('float32', 'bfloat16')}
POSITIVE = ('patch', 'layers', 'heads', 'width')
NOT_NEGATIVE = ('num_classes', 'context_width')
EPSILON = 1e-6
FREQUENCIES = 256  # of the noise's embedding
STD = 0.02

xavier = variance_scaling(1.0, 'fan_avg', 'uniform')

# The paper's table 1; with the patch behind a stroke, 'DiT-XL/2' is dit_xl with patch 2.
SIZES = {
  'dit_s': {'layers': 12, 'heads': 6, 'width': 384},
  'dit_b': {'layers': 12, 'heads': 12, 'width': 768},
  'dit_l': {'layers': 24, 'heads': 16, 'width': 1024},
  'dit_xl': {'layers': 28, 'heads': 16, 'width': 1152},
}


class DiT(nn.Module):
  """Images `[B, H, W, C]` and noise levels `[B]` to float32 `[B, H, W, C]`.

  patch: the side of a patch, a divisor of H and W.
  num_classes: 0 for a network without labels.
  context_width: D of a context; 0 for a network without cross-attention, which comes after each
    layer's attention and is added as it is (PixArt-alpha, Chen et al. 2023, arXiv 2310.00426).
  learned_variance: twice the channels out, for Nichol & Dhariwal 2021 (arXiv 2102.09672, eq. 15).
  scan: one compiled layer in a loop; None: on accelerators, since it is slower on a CPU.
  remat: 'block' computes layers anew in the backward pass.
  dtype: of activations; parameters are float32, as are norms and softmaxes.
  """

  patch: int = 2
  layers: int = 12
  heads: int = 6
  width: int = 384
  num_classes: int = 0
  context_width: int = 0
  learned_variance: bool = False
  scan: bool | None = None
  remat: str = 'none'
  dtype: str = 'float32'

  def __post_init__(self):
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

    t: `[B]`, DDPM's steps from 0 to 1000.
    label: int `[B]`; -1 or `num_classes`, as None for all, is no label, which has a row of its own.
    context: `[B, L, context_width]`, of which bool `mask` `[B, L]` says what is seen; None: all.
      A row of which nothing is seen has no context, as None for all.
    """
    check_input(self, x, label, context)
    outputs = x.shape[-1] * (2 if self.learned_variance else 1)
    weights = {
      name: parts.unboxed(self.param(name, functools.partial(parts.init_specs, specs), unbox=False))
      for name, specs in parameters(self, x.shape[-1], outputs).items()
    }
    c = nn.silu(self.condition(weights, t, label))
    h = patches(x.astype(self.dtype), self.patch)
    h = parts.dense(h, weights['patch'])
    grid = x.shape[1] // self.patch, x.shape[2] // self.patch
    h = h + positions(*grid, self.width)[None].astype(h.dtype)
    seen = in_full(context, mask, len(x), self.context_width)
    step = functools.partial(self.layer, c, *seen)
    h = self.through(step, shard_batch(h), weights['blocks'])
    shift, scale = jnp.split(parts.dense(c, weights['final_modulation'])[:, None], 2, axis=-1)
    h = parts.dense(norm(h) * (1 + scale) + shift, weights['final'])
    return image(h, grid[0], self.patch).astype(jnp.float32)

  def condition(self, weights: Any, t: Array, label: Array | None) -> Array:
    """`[B, width]` of noise and label."""
    y = sinusoids(t, FREQUENCIES).astype(self.dtype)
    y = parts.dense(nn.silu(parts.dense(y, weights['noise1'])), weights['noise2'])
    if self.num_classes:
      label = jnp.full(t.shape, -1) if label is None else label
      label = jnp.where(label < 0, self.num_classes, label)
      y = y + jnp.take(weights['label']['embedding'], label, axis=0).astype(y.dtype)
    return y

  def layer(self, c: Array, context: Array | None, mask: Array | None, x: Array, weights: Any):
    """x `[B, T, width]` after one layer, conditioned on c `[B, width]`."""
    modulation = parts.dense(c, weights['modulation'])[:, None]
    shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation, 6, axis=-1)
    y = norm(x) * (1 + scale1) + shift1
    qkv = parts.dense_each(y, [weights[name] for name in ('query', 'key', 'value')])
    x = x + gate1 * parts.dense(self.attend(qkv), weights['out'])
    if context is not None:
      q = parts.dense(x, weights['context_query'])
      context = context.astype(x.dtype)
      k, v = parts.dense_each(context, [weights[f'context_{name}'] for name in ('key', 'value')])
      x = x + parts.dense(self.attend([q, k, v], mask), weights['context_out'])
    y = norm(x) * (1 + scale2) + shift2
    y = parts.dense(parts.gelu(parts.dense(y, weights['up'])), weights['down'])
    return shard_batch(x + gate2 * y)

  def attend(self, qkv: list[Array], mask: Array | None = None) -> Array:
    heads = (y.reshape(*y.shape[:2], self.heads, -1) for y in qkv)
    return attention_lib.full(*heads, mask=mask).reshape(qkv[0].shape)

  def through(self, layer: Any, x: Array, blocks: Any) -> Array:
    """Returns x after all layers, `layer(x, weights) -> x`."""

    def step(x: Array, weights: Any) -> tuple[Array, None]:
      return layer(x, weights), None

    return parts.apply_layers(step, x, blocks, scan=self.scan, remat=self.remat)[0]


# -------- parameters --------


def parameters(net: DiT, inputs: int, outputs: int) -> dict[str, Any]:
  """All that a DiT has for so many channels in and out, with a Spec for each leaf."""
  width, pixels = net.width, net.patch**2
  groups = {
    'patch': linear(pixels * inputs, width, None, 'width'),
    'noise1': linear(FREQUENCIES, width, None, 'mlp', normal(STD)),
    'noise2': linear(width, width, 'mlp', 'width', normal(STD)),
    'blocks': parts.stacked_specs(layer_parameters(net), net.layers),
    'final_modulation': linear(width, 2 * width, 'width', None, zeros),
    'final': linear(width, pixels * outputs, 'width', None, zeros),
  }
  if net.num_classes:
    shape = net.num_classes + 1, width
    groups['label'] = {'embedding': (shape, (None, 'width'), normal(STD))}
  return groups


def layer_parameters(net: DiT) -> dict[str, Any]:
  width = net.width
  groups = {
    'modulation': linear(width, 6 * width, 'width', None, zeros),
    'out': linear(width, width, 'heads', 'width'),
    'up': linear(width, 4 * width, 'width', 'mlp'),
    'down': linear(4 * width, width, 'mlp', 'width'),
  }
  groups |= {name: linear(width, width, 'width', 'heads') for name in ('query', 'key', 'value')}
  if net.context_width:
    groups['context_query'] = linear(width, width, 'width', 'heads')
    for name in ('context_key', 'context_value'):
      groups[name] = linear(net.context_width, width, None, 'heads')
    groups['context_out'] = linear(width, width, 'heads', 'width', zeros)
  return groups


def linear(n: int, m: int, axis: str | None, axis_out: str | None, init: Any = xavier) -> Any:
  return {'kernel': ((n, m), (axis, axis_out), init), 'bias': ((m,), (axis_out,), zeros)}


# -------- patches, positions, norm --------


def patches(x: Array, side: int) -> Array:
  """`[B, H, W, C]` to `[B, T, side^2 C]`, row by row."""
  B, H, W, C = x.shape
  x = x.reshape(B, H // side, side, W // side, side, C).swapaxes(2, 3)
  return x.reshape(B, -1, side * side * C)


def image(tokens: Array, rows: int, side: int) -> Array:
  """`patches` undone, of an image with so many rows of them."""
  B, T, _ = tokens.shape
  x = tokens.reshape(B, rows, T // rows, side, side, -1).swapaxes(2, 3)
  return x.reshape(B, rows * side, T // rows * side, -1)


def positions(rows: int, columns: int, width: int) -> np.ndarray:
  """float32 `[rows * columns, width]`: half of it waves of the row, half of the column."""
  rates = 10_000.0 ** (-np.arange(width // 4) / (width / 4))
  row, column = np.divmod(np.arange(rows * columns), columns)
  angles = [index[:, None] * rates for index in (row, column)]
  waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
  return np.concatenate(waves, axis=1).astype(np.float32)


def norm(x: Array) -> Array:
  """LayerNorm over the last axis, without weights of its own."""
  y = x.astype(jnp.float32)
  y = y - y.mean(-1, keepdims=True)
  return (y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + EPSILON)).astype(x.dtype)


# -------- what cannot be --------


def check(net: DiT) -> None:
  """Raises ValueError where a field has a value that cannot be."""
  for name, choices in CHOICES.items():
    if (value := getattr(net, name)) not in choices:
      raise ValueError(f'model.{name}={value!r}: choose from {", ".join(choices)}')
  for names, least in ((POSITIVE, 1), (NOT_NEGATIVE, 0)):
    for name in names:
      if (value := getattr(net, name)) < least:
        raise ValueError(f'model.{name}={value}: at least {least}')
  if net.width % net.heads:
    raise ValueError(f'model.heads={net.heads}: must divide model.width={net.width}')
  if net.width % 4:
    raise ValueError(f"model.width={net.width}: a multiple of 4, for both axes' waves")


def check_input(net: DiT, x: Array, label: Array | None, context: Array | None) -> None:
  if x.shape[1] % net.patch or x.shape[2] % net.patch:
    raise ValueError(
      f'images of {x.shape[1]} x {x.shape[2]}: model.patch={net.patch} must divide both'
    )
  check_label(label, net.num_classes)
  check_context(context, net.context_width)
