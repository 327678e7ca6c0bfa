"""GPT's parameters as a table of shapes, logical axes and initialisers; and what it counts."""

import functools
import math
from typing import Any, Protocol

import jax
from flax.linen.initializers import normal, ones, zeros

from models.transformer import Specs, is_spec, stacked_specs

STD = 0.02


class Sizes(Protocol):
  """The fields of `models.gpt.GPT`, where they are explained, that its parameters depend on."""

  vocab_size: int
  block_size: int
  layers: int
  heads: int
  width: int
  kv_heads: int | None
  head_width: int | None
  positions: str
  norm: str
  mlp: str
  bias: bool
  qkv_bias: bool
  qk_norm: bool
  tied: bool
  mlp_width: int | None
  vocab_multiple: int


def num_kv_heads(model: Sizes) -> int:
  """Returns the number of heads of keys and values."""
  return model.heads if model.kv_heads is None else model.kv_heads


def head_width(model: Sizes) -> int:
  """Returns the width of a head."""
  return model.width // model.heads if model.head_width is None else model.head_width


def num_embeddings(model: Sizes) -> int:
  """Returns the embedding's rows: the vocabulary, rounded up to `vocab_multiple`."""
  return -(-model.vocab_size // model.vocab_multiple) * model.vocab_multiple


def mlp_width(model: Sizes) -> int:
  """Returns the MLP's hidden width: 4 x width, or 8/3 x width up to a multiple of 64 for SwiGLU.

  SwiGLU has three kernels in place of two, so it has about as many weights.
  """
  if model.mlp_width is not None:
    return model.mlp_width
  return 4 * model.width if model.mlp == 'gelu' else -(-8 * model.width // (3 * 64)) * 64


# -------- the table --------


def specs(model: Sizes) -> dict[str, Any]:
  """Returns the model's tree of parameters with a Spec for each leaf."""
  width, rows = model.width, num_embeddings(model)
  groups: dict[str, Any] = {'token_embed': _embedding(rows, width, 'vocab')}
  if model.positions == 'learned':
    groups['position_embed'] = _embedding(model.block_size, width, 'position')
  groups['blocks'] = stacked_specs(layer_specs(model), model.layers)
  groups['final_norm'] = _norm(model)
  return groups if model.tied else groups | {'head': _embedding(rows, width, 'vocab')}


def layer_specs(model: Sizes) -> dict[str, Specs]:
  """Returns the specs of one layer.

  Kernels that end a residual start smaller, by 1 / sqrt(2 layers): section 2.3 of the GPT-2 paper.
  """
  width, hidden, head = model.width, mlp_width(model), head_width(model)
  q_width, kv_width = model.heads * head, num_kv_heads(model) * head
  residual = STD / math.sqrt(2 * model.layers)
  dense = functools.partial(_dense, bias=model.bias)
  attend = functools.partial(_dense, bias=model.bias or model.qkv_bias)
  groups = {
    'norm1': _norm(model),
    'query': attend(width, q_width, 'width', 'heads'),
    'key': attend(width, kv_width, 'width', 'kv_heads'),
    'value': attend(width, kv_width, 'width', 'kv_heads'),
    'out': dense(q_width, width, 'heads', 'width', std=residual),
    'norm2': _norm(model),
    'up': dense(width, hidden, 'width', 'mlp'),
    'down': dense(hidden, width, 'mlp', 'width', std=residual),
  }
  if model.mlp == 'swiglu':
    groups['gate'] = dense(width, hidden, 'width', 'mlp')
  if model.qk_norm:
    groups |= {name: {'scale': ((head,), (None,), ones)} for name in ('query_norm', 'key_norm')}
  return groups


def _embedding(rows: int, width: int, axis: str) -> Specs:
  return {'embedding': ((rows, width), (axis, 'width'), normal(STD))}


def _dense(n: int, m: int, axis: str, axis_out: str, *, bias: bool, std: float = STD) -> Specs:
  found: Specs = {'kernel': ((n, m), (axis, axis_out), normal(std))}
  return found | {'bias': ((m,), (axis_out,), zeros)} if bias else found


def _norm(model: Sizes) -> Specs:
  found: Specs = {'scale': ((model.width,), ('width',), ones)}
  if model.norm == 'layer' and model.bias:
    found['bias'] = ((model.width,), ('width',), zeros)
  return found


# -------- counts --------


def num_params(model: Sizes, embeddings: bool = True) -> int:
  """Returns the number of parameters.

  Without `embeddings` those of tokens, positions and head do not count: Kaplan et al. 2020 (arXiv
  2001.08361, section 2.1) fit their laws to that number.
  """
  groups = specs(model)
  if not embeddings:
    groups = {name: groups[name] for name in ('blocks', 'final_norm')}
  return sum(math.prod(shape) for shape, _, _ in jax.tree.leaves(groups, is_leaf=is_spec))


def flops_per_token(model: Sizes, length: int) -> float:
  """Returns the FLOPs of a training step for each token of rows of `length`, as PaLM counts them.

  6 for each weight in a product (kernels and head), and 12 x layers x heads x head width x length
  for attention, as though every position saw all others; nothing for what remat computes again
  (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
  """
  layer = jax.tree.leaves(layer_specs(model), is_leaf=is_spec)
  kernels = model.layers * sum(math.prod(shape) for shape, _, _ in layer if len(shape) == 2)
  weights = kernels + model.vocab_size * model.width
  return 6.0 * weights + 12.0 * model.layers * model.heads * head_width(model) * length
