"""The parameters of `models/gpt/model.py` in one table: shapes, logical axes, initial values,
counts."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import normal, ones, zeros
from jax import Array

Spec = tuple[tuple[int, ...], tuple[str | None, ...], Any]  # shape, logical axes, initialiser
Group = dict[str, Spec]

STD = 0.02


def parameters(model: Any) -> dict[str, Any]:
  """All that a GPT has, as its tree of parameters, with a Spec for each leaf."""
  width, vocab = model.width, vocab_rows(model)
  groups: dict[str, Any] = {'token_embed': embedding(vocab, width, 'vocab')}
  if model.positions == 'learned':
    groups['position_embed'] = embedding(model.block_size, width, 'position')
  groups['blocks'] = stacked(layer_parameters(model), model.layers)
  groups['final_norm'] = norm(model)
  return groups if model.tied else groups | {'head': embedding(vocab, width, 'vocab')}


def layer_parameters(model: Any) -> dict[str, Group]:
  """One layer's. Kernels that end a residual start smaller: section 2.3 of the GPT-2 paper."""
  width, mlp, head = model.width, mlp_width_of(model), model.width // model.heads
  few = kv_heads_of(model) * head
  residual = STD / math.sqrt(2 * model.layers)
  linear = functools.partial(dense, bias=model.bias)
  groups = {
    'norm1': norm(model),
    'query': linear(width, width, 'width', 'heads'),
    'key': linear(width, few, 'width', 'kv_heads'),
    'value': linear(width, few, 'width', 'kv_heads'),
    'out': linear(width, width, 'heads', 'width', std=residual),
    'norm2': norm(model),
    'up': linear(width, mlp, 'width', 'mlp'),
    'down': linear(mlp, width, 'mlp', 'width', std=residual),
  }
  if model.mlp == 'swiglu':
    groups['gate'] = linear(width, mlp, 'width', 'mlp')
  if model.qk_norm:
    groups |= {name: {'scale': ((head,), (None,), ones)} for name in ('query_norm', 'key_norm')}
  return groups


def embedding(size: int, width: int, axis: str) -> Group:
  return {'embedding': ((size, width), (axis, 'width'), normal(STD))}


def dense(n: int, m: int, axis: str, axis_out: str, *, bias: bool, std: float = STD) -> Group:
  kernel = {'kernel': ((n, m), (axis, axis_out), normal(std))}
  return kernel | {'bias': ((m,), (axis_out,), zeros)} if bias else kernel


def norm(model: Any) -> Group:
  vector = (model.width,), ('width',)
  scale = {'scale': (*vector, ones)}
  return scale | {'bias': (*vector, zeros)} if model.norm == 'layer' and model.bias else scale


def stacked(groups: dict[str, Group], layers: int) -> dict[str, Group]:
  def stack(spec: Spec) -> Spec:
    shape, axes, init = spec
    return (layers, *shape), ('layers', *axes), init

  return jax.tree.map(stack, groups, is_leaf=is_spec)


def is_spec(leaf: Any) -> bool:
  return isinstance(leaf, tuple)


def kv_heads_of(model: Any) -> int:
  return model.heads if model.kv_heads is None else model.kv_heads


def vocab_rows(model: Any) -> int:
  """Of the embedding: the vocabulary, and what fills it up to `vocab_multiple`."""
  return -(-model.vocab_size // model.vocab_multiple) * model.vocab_multiple


def mlp_width_of(model: Any) -> int:
  """4 widths; of SwiGLU, with three kernels for two, 8/3 widths up to a multiple of 64."""
  if model.mlp_width is not None:
    return model.mlp_width
  return 4 * model.width if model.mlp == 'gelu' else -(-8 * model.width // (3 * 64)) * 64


# -------- values --------


def initial(specs: Any, key: Array) -> Any:
  """Float32 initial values for a tree of Specs, boxed with the logical names of their axes."""
  leaves, tree = jax.tree.flatten(specs, is_leaf=is_spec)
  keys = jax.random.split(key, len(leaves))
  values = [
    nn.LogicallyPartitioned(init(key, shape, jnp.float32), axes)
    for key, (shape, axes, init) in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(tree, values)


def unboxed(tree: Any) -> Any:
  """Without boxes. Flax's own way constrains to mesh axes, also where these do not divide."""
  return jax.tree.map(lambda leaf: leaf.value if is_box(leaf) else leaf, tree, is_leaf=is_box)


def is_box(leaf: Any) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)


# -------- counts --------


def num_params(model: Any, embeddings: bool = True) -> int:
  """The number of parameters; without `embeddings`, tokens', positions' and head's do not count.

  Kaplan et al. 2020 (arXiv 2001.08361, section 2.1) fit their laws to the latter.
  """
  groups = parameters(model)
  if not embeddings:
    groups = {name: groups[name] for name in ('blocks', 'final_norm')}
  return sum(math.prod(shape) for shape, _, _ in jax.tree.leaves(groups, is_leaf=is_spec))


def flops_per_token(model: Any, length: int) -> float:
  """Of a training step on rows of `length`, in the convention of PaLM (arXiv 2204.02311, app. B).

  6 for each weight in a product (kernels and head), and 12 x layers x width x length for attention,
  as though every position saw all others; nothing for what remat computes again.
  """
  blocks = jax.tree.leaves(layer_parameters(model), is_leaf=is_spec)
  kernels = model.layers * sum(math.prod(shape) for shape, _, _ in blocks if len(shape) == 2)
  weights = kernels + model.vocab_size * model.width
  return 6.0 * weights + 12.0 * model.layers * model.width * length
