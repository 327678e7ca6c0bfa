"""One token more through `models/gpt/model.py`, as XLA's CPU backend wants it; equal to
`GPT.decode`.

A step reads every weight once for a handful of rows, and what bounds it is how fast they are read.
Three things that `GPT.decode` leaves to XLA are settled once, before the loop: each layer has
weights of its own instead of slices that are copied; they are transposed, since XLA reads those
faster; and each has its own part of the cache, in the order in which it is read, so
that it is written in place.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import attention, ops
from models.gpt import GPT, Cache
from models.gpt import functional as parts
from models.layers import on_channels


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerCache:
  """A `Cache` with the layers apart: lists of keys and values, `[B * kv_heads, N, d]` each.

  As `[B, kv_heads, N, d]` XLA drops the first axis of a batch of 1 and copies the whole for it."""

  keys: list[Array]
  values: list[Array]
  start: Array
  end: Array


def takes(model: Any) -> bool:
  """Whether `model` is what `step` computes, and the device what it is for."""
  return isinstance(model, GPT) and ops.formulation() == 'cpu'


def prepare(model: GPT, variables: Any) -> dict[str, Any]:
  """What `step` reads: copies of the layers' weights, and the other variables as they are."""
  params = jax.tree.map(jnp.asarray, variables['params'])
  rest = {name: group for name, group in params.items() if name != 'blocks'}
  layers = [_transposed(params['blocks'], np.int32(i), model.dtype) for i in range(model.layers)]
  return {'rest': rest, 'layers': layers}


@functools.partial(jax.jit, static_argnames='dtype')
def _transposed(blocks, layer: Array, dtype: str):
  """One layer's kernels as `[out, in]`, queries', keys' and values' joined; norms as they are.

  The layer's number is no part of what is compiled: one program does for all.
  """
  weights = jax.tree.map(lambda x: x[layer], blocks)
  joined = [weights[name] for name in ('query', 'key', 'value')]
  joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, -1), *joined)
  others = {name: own for name, own in weights.items() if name not in ('query', 'key', 'value')}
  return {
    name: {leaf: x.astype(dtype).T if leaf == 'kernel' else x for leaf, x in own.items()}
    for name, own in (others | {'qkv': joined}).items()
  }


def by_layer(cache: Cache) -> LayerCache:
  L, _, N, _, d = cache.keys.shape
  keys, values = (
    [jnp.moveaxis(own, 2, 1).reshape(-1, N, d) for own in parts.unstack(x, L)]
    for x in (cache.keys, cache.values)
  )
  return LayerCache(keys, values, cache.start, cache.end)


def step(model: GPT, prepared: Any, token: Array, cache: LayerCache) -> tuple[Array, LayerCache]:
  """float32 logits `[B, V]` of a new token int32 `[B]` each, and the cache with it."""
  position = jnp.maximum(cache.end - cache.start, 0)[:, None]  # [B, 1]
  embeds = prepared['rest']
  x = embeds['token_embed']['embedding'][token]
  if model.positions == 'learned':
    x = x + jnp.take(embeds['position_embed']['embedding'], position[:, 0], axis=0)
  x = x.astype(model.dtype)
  keys, values = list(cache.keys), list(cache.values)
  for i, weights in enumerate(prepared['layers']):
    y, keys[i], values[i] = _attend(model, weights, x, position, cache, keys[i], values[i])
    x = x + y
    x = x + _feed(model, weights, x)
  x = parts.NORMS[model.norm](x, embeds['final_norm'])
  head = embeds['token_embed' if model.tied else 'head']['embedding']
  logits = _product(x, head.astype(x.dtype)).astype(jnp.float32)[:, : model.vocab_size]
  logits = model.softcap * jnp.tanh(logits / model.softcap) if model.softcap else logits
  return logits, LayerCache(keys, values, cache.start, cache.end + 1)


def _attend(model, weights, x, position, cache, keys, values):
  """What attention adds to x `[B, D]`, and the layer's keys and values with a slot more."""
  _, N, d = keys.shape
  B, H, K = x.shape[0], model.heads, keys.shape[0] // x.shape[0]
  y = _dense(parts.NORMS[model.norm](x, weights['norm1']), weights['qkv'])
  q, k, v = lax.split(y.reshape(B, 1, -1, d), (H, K, K), 2)  # [B, 1, ., d]
  if model.qk_norm:
    q, k = parts.rms_norm(q, weights['query_norm']), parts.rms_norm(k, weights['key_norm'])
  if model.positions == 'rope':
    q, k = attention.rotate(q, position), attention.rotate(k, position)
  zero = jnp.zeros((), cache.end.dtype)
  keys, values = (
    lax.dynamic_update_slice(old, new.reshape(B * K, 1, d), (zero, cache.end, zero))
    for old, new in ((keys, k), (values, v))
  )
  slot = jnp.arange(N)[None]
  mask = (slot <= cache.end) & (slot >= cache.start[:, None])  # [B, N]
  mask = jnp.broadcast_to(mask[:, None], (B, K, N)).reshape(B * K, 1, N)
  scores = jnp.einsum('cgd,cnd->cgn', q.reshape(B * K, H // K, d) * d**-0.5, keys)
  scores = jnp.where(mask, scores.astype(jnp.float32), attention.MASKED)
  y = jnp.einsum('cgn,cnd->cgd', jax.nn.softmax(scores).astype(x.dtype), values)
  return _dense(y.reshape(x.shape), weights['out']), keys, values


def _feed(model, weights, x):
  y = parts.NORMS[model.norm](x, weights['norm2'])
  if model.mlp == 'swiglu':
    return _dense(
      jax.nn.silu(_dense(y, weights['gate'])) * _dense(y, weights['up']), weights['down']
    )
  return _dense(parts.gelu(_dense(y, weights['up'])), weights['down'])


def _dense(x, weights):
  y = _product(x, weights['kernel'])
  return y + on_channels(weights['bias'].astype(x.dtype), 2) if 'bias' in weights else y


def _product(x, kernel):
  """`x @ kernel.T`: `[B, n]` with `[m, n]`, as `kernel @ x.T`.

  The barriers keep XLA from moving the transpositions into the product, which it then computes
  several times as slowly.
  """
  if x.shape[0] == 1:  # a product with a vector, whose transposition is nothing
    return lax.dot_general(x, kernel, (((1,), (1,)), ((), ())))
  y = lax.optimization_barrier(kernel @ lax.optimization_barrier(x.T))
  return y.T
