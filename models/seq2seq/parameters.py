"""The parameters of `models.seq2seq.transformer` as a table, what it counts, and its positions."""

import math
from typing import Any, Protocol

import jax
import numpy as np
from flax.linen.initializers import normal, ones, variance_scaling, zeros

from models.transformer import Specs, is_spec, stacked_specs

xavier = variance_scaling(1.0, 'fan_avg', 'uniform', batch_axis=(0,))  # each layer's of a stack

ATTENTION = {'query': 'width', 'key': 'width', 'value': 'width', 'out': 'heads'}
"""An attention's products, by the logical axis that each reads."""


class TransformerSizes(Protocol):
  """The fields of the Transformer, where they are explained, that its parameters depend on."""

  vocab_size: int
  block_size: int
  layers: int
  width: int
  mlp_width: int
  norm: str
  positions: str


def specs(model: TransformerSizes) -> dict[str, Any]:
  """Returns the model's tree of parameters with a Spec for each leaf."""
  # Logits of unit vectors and the embeddings times sqrt(width) both begin with a variance of 1.
  table = normal(model.width**-0.5)
  groups: dict[str, Any] = {
    'token_embed': {'embedding': ((model.vocab_size, model.width), ('vocab', 'width'), table)},
    'encoder': stacked_specs(_encoder_layer(model), model.layers),
    'decoder': stacked_specs(_decoder_layer(model), model.layers),
  }
  if model.positions == 'learned':
    shape = model.block_size, model.width
    groups['position_embed'] = {'embedding': (shape, ('position', 'width'), normal(1.0))}
  if model.norm == 'pre':
    groups |= {name: _norm(model) for name in ('encoder_norm', 'decoder_norm')}
  return groups


def _encoder_layer(model: TransformerSizes) -> dict[str, Specs]:
  return {
    **_attention(model),
    'up': _dense(model.width, model.mlp_width, 'width', 'mlp'),
    'down': _dense(model.mlp_width, model.width, 'mlp', 'width'),
    **{f'norm{number}': _norm(model) for number in (1, 2)},
  }


def _decoder_layer(model: TransformerSizes) -> dict[str, Specs]:
  memory = {f'memory_{name}': own for name, own in _attention(model).items()}
  return {**_encoder_layer(model), **memory, 'norm3': _norm(model)}


def _attention(model: TransformerSizes) -> dict[str, Specs]:
  other = {'width': 'heads', 'heads': 'width'}
  return {
    name: _dense(model.width, model.width, axis, other[axis]) for name, axis in ATTENTION.items()
  }


def _dense(n: int, m: int, axis: str, axis_out: str) -> Specs:
  return {'kernel': ((n, m), (axis, axis_out), xavier), 'bias': ((m,), (axis_out,), zeros)}


def _norm(model: TransformerSizes) -> Specs:
  return {name: ((model.width,), ('width',), init) for name, init in _NORM.items()}


_NORM = {'scale': ones, 'bias': zeros}


def num_params(model: TransformerSizes) -> int:
  """Returns the number of parameters; the one table of pieces counts once."""
  return sum(math.prod(shape) for shape, _, _ in jax.tree.leaves(specs(model), is_leaf=is_spec))


def flops_per_pair(model: TransformerSizes, source_length: int, target_length: int) -> float:
  """Returns the FLOPs of a training step for each pair of these lengths, as PaLM counts them.

  6 for each weight in a product and each position that it acts on, and 12 x width for each pair of
  positions of an attention (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
  """
  S, T, square = source_length, target_length, model.width**2
  mlp = 2 * model.width * model.mlp_width
  # Of the decoder's second attention, keys and values are made of the source.
  kernels = S * (4 * square + mlp + 2 * square) + T * (6 * square + mlp)
  pairs = S * S + T * T + S * T
  head = T * model.vocab_size * model.width
  return 6.0 * (model.layers * kernels + head) + 12.0 * model.layers * model.width * pairs


def sinusoids(length: int, width: int) -> np.ndarray:
  """Returns the positions of section 3.5, float32 `[length, width]`, sine and cosine by turns.

  sin(position / 10000^(2i / width)) at unit 2i, the cosine behind it: those of another position are
  a rotation of them that depends on the distance alone.
  """
  rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
  angles = np.arange(length)[:, None] * rates
  return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, width).astype(np.float32)
