"""Norms and attention for a CPU, with gradients of their own.

They compute what the plain forms in `models/transformer.py` and `models/attention.py` do, in
float32, which XLA's CPU backend is fast at, and have reverse-mode gradients only.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import Array, lax

from models.axes import vary_alike

EPSILON = 1e-5
BLOCKS, SMALLEST_BLOCK = 4, 32  # of queries


def row_means(x: Array) -> Array:
  """Returns the mean over the last axis, `[..., C]` to `[..., 1]`, as a product: sums are slow."""
  mean = jnp.full(x.shape[-1], 1 / x.shape[-1], x.dtype)
  return lax.dot_general(x, mean, (((x.ndim - 1,), (0,)), ((), ())))[..., None]


# -------- norms --------


def norm(x: Array, scale: Array, epsilon: float = EPSILON, *, centred: bool) -> Array:
  """Returns LayerNorm without a bias, or RMSNorm if not `centred`: x `[..., C]`, scale `[C]`."""
  return _norm((centred, epsilon), *vary_alike(x, scale))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _norm(kind, x, scale):
  return _norm_forward(kind, x, scale)[0]


def _norm_forward(kind, x, scale):
  centred, epsilon = kind
  x = x - row_means(x) if centred else x
  rate = lax.rsqrt(row_means(x * x) + epsilon)
  x = x * rate  # normalised: what the gradient needs, so x itself is not kept
  return x * lax.broadcast_to_rank(scale, x.ndim), (x, rate, scale)


def _norm_backward(kind, saved, dy):
  centred, _ = kind
  x, rate, scale = saved
  # With g = dy scale and y the normalised x: dx = rate (g - mean(g) - y mean(g y)), the first mean
  # only where x was centred.
  dx = dy * lax.broadcast_to_rank(scale, x.ndim)
  across = x * row_means(dx * x)
  across = across + row_means(dx) if centred else across
  rows = (dy * x).reshape(-1, x.shape[-1])
  # A sum over rows as a product with ones, like `row_means`.
  return rate * (dx - across), (jnp.ones((1, rows.shape[0]), rows.dtype) @ rows)[0]


_norm.defvjp(_norm_forward, _norm_backward)


# -------- attention --------


def attend(q: Array, k: Array, v: Array, mask: Array, *, causal: bool = True) -> Array:
  """Returns what `attention.explicit` does, `[B, T, H, d]`, for a mask `[1 or B, 1 or T, S]`.

  Of a causal mask, a block of queries at a time against what the last of them sees: four blocks
  compute 5/8 of the scores. Exponentials are kept, and divided by their sums only behind the
  product with the values, which is narrower.
  """
  groups = q.shape[2] // k.shape[2]
  if groups > 1:
    # From K to H heads: the gradient of a repeat sums over each group.
    k, v = jnp.repeat(k, groups, 2), jnp.repeat(v, groups, 2)
  y = _attend(causal, *vary_alike(*(x.astype(jnp.float32) for x in (q, k, v))), mask[:, None])
  return y.astype(q.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(causal, q, k, v, mask):
  return _attend_forward(causal, q, k, v, mask)[0]


def _attend_forward(causal, q, k, v, mask):
  queries, keys, values = _scaled(q), _turned(k), _by_head(v)
  outs, exponentials, rates = [], [], []
  for a, b, seen in _blocks(causal, q, k):
    scores = _product(queries[:, :, a:b], keys[..., :seen], 3, 2)  # [B, H, t, S]
    scores = jnp.where(mask[:, :, a:b, :seen], scores, -jnp.inf)  # each row's largest is finite
    exponentials.append(jnp.exp(scores - scores.max(-1, keepdims=True)))
    rates.append(1 / exponentials[-1].sum(-1, keepdims=True))  # [B, H, t, 1]
    outs.append(_product(exponentials[-1], values[:, :, :seen], 3, 2) * rates[-1])
  out = jnp.concatenate(outs, 2)
  saved = q, k, v, out, exponentials, jnp.concatenate(rates, 2)
  return _by_head(out), saved


def _attend_backward(causal, saved, dy):
  q, k, v, out, exponentials, rates = saved
  queries, keys, values = _scaled(q), _by_head(k), _turned(v)
  # The softmax's division, moved to the narrower side as in the forward pass.
  dy = _by_head(dy) * rates
  through = (dy * out).sum(-1, keepdims=True)  # what the softmax's gradient subtracts
  dqueries, dkeys, dvalues = [], jnp.zeros((), q.dtype), jnp.zeros((), q.dtype)
  for (a, b, seen), weights in zip(_blocks(causal, q, k), exponentials, strict=True):
    dout = dy[:, :, a:b]
    dscores = weights * (_product(dout, values[..., :seen], 3, 2) - through[:, :, a:b])
    dqueries.append(_product(dscores, keys[:, :, :seen], 3, 2))
    # As [B, H, d, S]: the other way round XLA would turn the scores.
    unseen = [(0, 0)] * 3 + [(0, k.shape[1] - seen)]  # keys after the block: no gradient
    dkeys += jnp.pad(_product(queries[:, :, a:b], dscores, 2, 2), unseen)
    dvalues += jnp.pad(_product(dout, weights, 2, 2), unseen)
  dq = _by_head(jnp.concatenate(dqueries, 2)) * q.shape[-1] ** -0.5  # the scale of `_scaled`
  return dq, jnp.moveaxis(dkeys, 3, 1), jnp.moveaxis(dvalues, 3, 1), None


_attend.defvjp(_attend_forward, _attend_backward)


def _blocks(causal: bool, q: Array, k: Array) -> Iterator[tuple[int, int, int]]:
  """Yields the ends of each block of queries, and how many keys these see."""
  length = q.shape[1]
  size = -(-length // BLOCKS) if causal and length >= BLOCKS * SMALLEST_BLOCK else length
  for begin in range(0, length, size):
    end = min(begin + size, length)
    yield begin, end, end if causal else k.shape[1]


def _product(a, b, axis, axis_b):
  return lax.dot_general(a, b, (((axis,), (axis_b,)), ((0, 1), (0, 1))))


def _scaled(q):
  return _by_head(q * q.shape[-1] ** -0.5)


def _by_head(x):
  """Swaps positions and heads: `[B, T, H, d]` and `[B, H, T, d]`."""
  return x.swapaxes(1, 2)


def _turned(x):
  """Returns `[B, T, H, d]` as `[B, H, d, T]`."""
  return x.transpose(0, 2, 3, 1)
