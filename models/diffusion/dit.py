"""Diffusion transformers: Peebles & Xie 2023 (arXiv 2212.09748), with adaLN-Zero (section 3.2).

An image is cut into patches, each a token. Scales, shifts and gates of each layer's two residual
branches are computed from the noise level and the label; gates start at zero.
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
from models.diffusion.conditioning import check_context, check_label, complete_context, sinusoids

CHOICES = {'freq_shift': (0, 1), 'remat': ('none', 'block'), 'dtype': ('float32', 'bfloat16')}
POSITIVE = ('patch', 'layers', 'heads', 'width')
NOT_NEGATIVE = ('num_classes', 'context_width')
EPSILON = 1e-6
FREQUENCIES = 256  # features of the noise level
STD = 0.02  # initial standard deviation of embeddings

xavier = variance_scaling(1.0, 'fan_avg', 'uniform')

# Table 1 of the paper. DiT-XL/2 is dit_xl with patch=2.
SIZES: dict[str, dict[str, Any]] = {
  'dit_s': {'layers': 12, 'heads': 6, 'width': 384},
  'dit_b': {'layers': 12, 'heads': 12, 'width': 768},
  'dit_l': {'layers': 24, 'heads': 16, 'width': 1024},
  'dit_xl': {'layers': 28, 'heads': 16, 'width': 1152},
}


class DiT(nn.Module):
  """A diffusion transformer, a `denoiser.DenoisingNetwork`.

  patch: height and width of a patch, a divisor of H and W.
  layers: number of layers.
  heads: number of attention heads, a divisor of width.
  width: D of the residual stream, a multiple of 4.
  num_classes: 0 for a network without labels.
  context_width: D of the context; 0 for a network without cross-attention. Cross-attention follows
    each layer's self-attention, ungated (PixArt-alpha, Chen et al. 2023, arXiv 2310.00426).
  learned_variance: outputs v beside the prediction (Nichol and Dhariwal 2021, arXiv 2102.09672).
  freq_shift: see `conditioning.sinusoids`; 0 in the authors' code.
  columns_first: the first half of a position's features is of its column, as in the authors' code,
    not of its row.
  scan: compiles one layer and loops over it; None: on accelerators, since it is slower on a CPU.
  remat: 'block' recomputes layers in the backward pass.
  dtype: of activations; parameters, norms and softmaxes are float32.
  """

  patch: int = 2
  layers: int = 12
  heads: int = 6
  width: int = 384
  num_classes: int = 0
  context_width: int = 0
  learned_variance: bool = False
  freq_shift: int = 1
  columns_first: bool = False
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
    """Returns the output for noisy images x, float32 `[B, H, W, C]`, or 2 C channels with v.

    Args:
      x: `[B, H, W, C]`; `patch` divides H and W.
      t: float `[B]`, `Process.c_noise`, on a scale of 0 to 1000.
      label: int `[B]`; -1 or `num_classes` is no label, as None is for all; it has an embedding of
        its own.
      context: `[B, L, context_width]`; None for no context.
      mask: bool `[B, L]`, the positions of the context that exist; None for all. A row without any
        has no context.
      train: unused, as there is no dropout.

    Raises ValueError for inputs that the network was not made for.
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
    rows, columns = x.shape[1] // self.patch, x.shape[2] // self.patch
    places = positions(rows, columns, self.width, columns_first=self.columns_first)
    h = h + places[None].astype(h.dtype)
    cross = complete_context(context, mask, len(x), self.context_width)
    step = functools.partial(self.layer, c, *cross)
    h = self.through(step, shard_batch(h), weights['blocks'])
    shift, scale = jnp.split(parts.dense(c, weights['final_modulation'])[:, None], 2, axis=-1)
    h = parts.dense(norm(h) * (1 + scale) + shift, weights['final'])
    return image(h, rows, self.patch).astype(jnp.float32)

  def condition(self, weights: Any, t: Array, label: Array | None) -> Array:
    """Returns the embedding of noise level and label, `[B, width]`."""
    y = sinusoids(t, FREQUENCIES, self.freq_shift).astype(self.dtype)
    y = parts.dense(nn.silu(parts.dense(y, weights['noise1'])), weights['noise2'])
    if self.num_classes:
      label = jnp.full(t.shape, -1) if label is None else label
      label = jnp.where(label < 0, self.num_classes, label)
      y = y + jnp.take(weights['label']['embedding'], label, axis=0).astype(y.dtype)
    return y

  def layer(self, c: Array, context: Array | None, mask: Array | None, x: Array, weights: Any):
    """Returns x `[B, T, width]` after one layer, modulated by c `[B, width]` (figure 3)."""
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
    """Returns multi-head attention `[B, T, width]` of [query, key, value], each `[B, T, width]`."""
    q, k, v = (y.reshape(*y.shape[:2], self.heads, -1) for y in qkv)
    return attention_lib.full(q, k, v, mask=mask).reshape(qkv[0].shape)

  def through(self, layer: Any, x: Array, blocks: Any) -> Array:
    """Returns x after all layers, `layer(x, weights) -> x`."""

    def step(x: Array, weights: Any) -> tuple[Array, None]:
      return layer(x, weights), None

    return parts.apply_layers(step, x, blocks, scan=self.scan, remat=self.remat)[0]


# -------- parameters --------


def parameters(net: DiT, inputs: int, outputs: int) -> dict[str, Any]:
  """Returns the parameter tree for so many input and output channels, a spec at each leaf."""
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
  """Returns the parameter tree of one layer."""
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
  """Returns the specs (shape, axes, initializer) of a linear layer's kernel and bias."""
  return {'kernel': ((n, m), (axis, axis_out), init), 'bias': ((m,), (axis_out,), zeros)}


# -------- patches, positions, norm --------


def patches(x: Array, side: int) -> Array:
  """Returns the patches of `[B, H, W, C]`, row by row: `[B, T, side² C]`."""
  B, H, W, C = x.shape
  x = x.reshape(B, H // side, side, W // side, side, C).swapaxes(2, 3)
  return x.reshape(B, -1, side * side * C)


def image(tokens: Array, rows: int, side: int) -> Array:
  """Returns the image `[B, H, W, C]` of `patches`, which has so many rows of them."""
  B, T, _ = tokens.shape
  x = tokens.reshape(B, rows, T // rows, side, side, -1).swapaxes(2, 3)
  return x.reshape(B, rows * side, T // rows * side, -1)


def positions(rows: int, columns: int, width: int, *, columns_first: bool = False) -> np.ndarray:
  """Returns 2D sinusoidal positions, float32 `[rows * columns, width]`, half for each axis."""
  rates = 10_000.0 ** (-np.arange(width // 4) / (width / 4))
  row, column = np.divmod(np.arange(rows * columns), columns)
  axes = (column, row) if columns_first else (row, column)
  angles = [index[:, None] * rates for index in axes]
  waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
  return np.concatenate(waves, axis=1).astype(np.float32)


def norm(x: Array) -> Array:
  """Returns LayerNorm over the last axis, without scale and bias."""
  y = x.astype(jnp.float32)
  y = y - y.mean(-1, keepdims=True)
  return (y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + EPSILON)).astype(x.dtype)


# -------- checks --------


def check(net: DiT) -> None:
  """Raises ValueError for a field with a value that is not allowed."""
  parts.check_fields(net, CHOICES, POSITIVE, NOT_NEGATIVE)
  if net.width % net.heads:
    raise ValueError(f'model.heads={net.heads}: must divide model.width={net.width}')
  if net.width % 4:
    raise ValueError(f'model.width={net.width}: must be a multiple of 4')


def check_input(net: DiT, x: Array, label: Array | None, context: Array | None) -> None:
  """Raises ValueError for inputs that the network does not take."""
  if x.shape[1] % net.patch or x.shape[2] % net.patch:
    raise ValueError(
      f'images of {x.shape[1]} x {x.shape[2]}: model.patch={net.patch} must divide both'
    )
  check_label(label, net.num_classes)
  check_context(context, net.context_width)
