"""The functions that `models/gpt/model.py` is made of: products, norms, GELU, dropout, the loss."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from models import ops
from models.axes import mesh_size, vary_alike
from models.cpu import text as cpu_text
from models.layers import on_channels

FUSED_ROWS = 64  # from how many rows on one product for several kernels pays their joining


def unstack(tree: Any, layers: int) -> list[Any]:
  """`[layers, ...]` as a tree for each. A split, since its gradient is one concatenation."""
  leaves, structure = jax.tree.flatten(tree)
  split = [[x[0] for x in lax.split(leaf, (1,) * layers)] for leaf in leaves]
  return [jax.tree.unflatten(structure, own) for own in zip(*split, strict=True)]


# -------- products --------


def dense(x: Array, weights: Any) -> Array:
  """`x @ kernel + bias` in the dtype of x, `[..., C]` to `[..., F]`; the bias may be missing."""
  rows = x.reshape(-1, x.shape[-1])
  y = ops.dense(rows, weights['kernel'].astype(x.dtype))
  if 'bias' in weights:
    y = y + on_channels(weights['bias'].astype(x.dtype), 2)
  return y.reshape(*x.shape[:-1], -1)


def dense_each(x: Array, weights: Sequence[Any]) -> list[Array]:
  """`dense` with each of several, as one product where that pays and cuts no device's part."""
  sizes = [own['kernel'].shape[1] for own in weights]
  if mesh_size('tensor') > 1 or x.size // x.shape[-1] < FUSED_ROWS:
    return [dense(x, own) for own in weights]
  leaves = [{name: leaf.astype(x.dtype) for name, leaf in own.items()} for own in weights]
  joined = jax.tree.map(lambda *parts: jnp.concatenate(parts, -1), *leaves)
  return list(lax.split(dense(x, joined), sizes, x.ndim - 1))


# -------- norms, GELU, dropout --------


def layer_norm(x: Array, weights: Any) -> Array:
  """Ba et al. 2016 (arXiv 1607.06450), over the last axis; the bias may be missing."""
  y = _norm(x.astype(jnp.float32), weights['scale'], centred=True)
  if 'bias' in weights:
    y = y + on_channels(weights['bias'], y.ndim)
  return y.astype(x.dtype)


def rms_norm(x: Array, weights: Any) -> Array:
  """Zhang & Sennrich 2019, eq. 4, over the last axis."""
  return _norm(x.astype(jnp.float32), weights['scale'], centred=False).astype(x.dtype)


def _norm(x, scale, *, centred: bool):
  if ops.formulation() == 'cpu':
    return cpu_text.norm(x, scale, centred=centred)
  x = x - x.mean(-1, keepdims=True) if centred else x
  x = x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + cpu_text.EPSILON)
  return x * on_channels(scale, x.ndim)


NORMS = {'layer': layer_norm, 'rms': rms_norm}


def gelu(x: Array) -> Array:
  """Hendrycks & Gimpel 2016 (arXiv 1606.08415), the approximation by tanh, as GPT-2 has it."""
  return jax.nn.gelu(x, approximate=True)


def dropout(x: Array, rate: float, key: Array) -> Array:
  """Zeroes each unit with probability `rate`, and divides the others by what is left."""
  kept = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


# -------- logits and their loss --------


def logits(hidden: Array, head: Array, softcap: float = 0.0) -> Array:
  """float32 `[..., V]` of `[..., D]` and `head` `[V, D]`, capped if `softcap` is not 0."""
  rows = hidden.reshape(-1, hidden.shape[-1])
  y = lax.dot_general(
    rows, head.astype(hidden.dtype), (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32
  )
  y = softcap * jnp.tanh(y / softcap) if softcap else y
  return y.reshape(*hidden.shape[:-1], -1)


def chunked_cross_entropy(
  hidden: Array,
  head: Array,
  targets: Array,
  weights: Array,
  chunk: int = 0,
  softcap: float = 0.0,
  vocab: int | None = None,
) -> tuple[Array, Array]:
  """The sum of weighted nats of `targets` `[B, T]`, and the sum of `weights` `[B, T]`, float32.

  hidden: `[B, T, D]`; head: `[V, D]`. Where a gradient is wanted it is computed with the loss, so
  that logits are neither kept nor computed twice.
  chunk: at how many positions of each row logits exist at once, `[B, chunk, V]`; 0: at all. Whole
    rows' chunks leave a batch on the devices that hold it.
  vocab: how many of the head's V rows are tokens; None: all. The others have no probability.
  """
  weights = weights.astype(jnp.float32)
  length = targets.shape[1]
  if chunk < 0:
    raise ValueError(f'chunk={chunk}: a number of positions, or 0 for all')
  chunk = min(chunk, length) or length
  head, hidden, weights = vary_alike(head, hidden, lax.stop_gradient(weights))
  chunks = [in_chunks(x, chunk) for x in (hidden, targets, weights)]
  vocab = None if vocab == head.shape[0] else vocab
  return _cross_entropy((softcap, vocab), head, *chunks), weights.sum()


def in_chunks(x: Array, chunk: int) -> Array:
  """`[B, T, ...]` as `[T / chunk, B, chunk, ...]`, filled up with zeros."""
  fill = [(0, 0), (0, -x.shape[1] % chunk)] + [(0, 0)] * (x.ndim - 2)
  x = jnp.pad(x, fill)
  return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(form, head, *chunks):
  return _over_chunks(functools.partial(_nats, form, head), chunks)[0]


def _cross_entropy_forward(form, head, *chunks):
  function = functools.partial(_nats_and_gradients, form, head)
  (nats, dhead), dhidden = _over_chunks(function, chunks)
  return nats, (dhead, dhidden, chunks[2])


def _cross_entropy_backward(_, saved, dnats):
  dhead, dhidden, weights = saved
  return dhead * dnats, (dhidden * dnats).astype(dhidden.dtype), None, jnp.zeros_like(weights)


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def _over_chunks(function, chunks):
  """`function(*chunk) -> (sums, out)` over the leading axis: the sums' sums, the outs stacked."""
  # The first chunk apart: it gives the sums their types, and is often all.
  sums, out = function(*(x[0] for x in chunks))
  outs = jax.tree.map(lambda x: x[None], out)
  if len(chunks[0]) == 1:
    return sums, outs

  def step(sums, chunk):
    more, out = function(*chunk)
    return jax.tree.map(jnp.add, sums, more), out

  sums, others = lax.scan(step, sums, tuple(x[1:] for x in chunks))
  return sums, jax.tree.map(lambda *parts: jnp.concatenate(parts), outs, others)


def _nats(form, head, hidden, targets, weights):
  softcap, vocab = form
  scores = _of_tokens(logits(hidden, head, softcap), vocab)
  return _weighted_nats(scores, targets, weights)[0], ()


def _of_tokens(scores, vocab):
  """Scores `[..., V]` that leave no probability to rows of the head that stand for no token."""
  if vocab is None:
    return scores
  row = lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1)
  return jnp.where(row < vocab, scores, -jnp.inf)


def _weighted_nats(scores, targets, weights):
  """The sum of nats, and the logarithm of each position's partition sum `[B, T, 1]`."""
  log_sum = jax.nn.logsumexp(scores, axis=-1, keepdims=True)
  at_target = jnp.take_along_axis(scores, targets[..., None], axis=-1)
  return (weights * (log_sum - at_target)[..., 0]).sum(), log_sum


def _nats_and_gradients(form, head, hidden, targets, weights):
  """((nats, d nats / d head), d nats / d hidden), products in the dtype of hidden."""
  softcap, vocab = form
  capped = logits(hidden, head, softcap)
  scores = _of_tokens(capped, vocab)
  nats, log_sum = _weighted_nats(scores, targets, weights)
  is_target = targets[..., None] == lax.broadcasted_iota(jnp.int32, scores.shape, 2)
  dscores = weights[..., None] * (jnp.exp(scores - log_sum) - is_target)
  if softcap:
    dscores = dscores * (1 - jnp.square(capped / softcap))
  d = dscores.astype(hidden.dtype)
  dhead = jnp.einsum('btv,btd->vd', d, hidden, preferred_element_type=jnp.float32)
  return (nats, dhead), jnp.einsum('btv,vd->btd', d, head.astype(d.dtype))
