"""Causal attention of several heads, in two forms that are equal, and rotary positions.

Queries are `[B, T, H, d]`, keys and values `[B, S, K, d]`: K divides H, and query head h reads the
keys and values of head h // (H / K) (grouped queries, Ainslie et al. 2023, arXiv 2305.13245).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import ops
from models.cpu import text as cpu_text

FORMS = ('auto', 'explicit', 'fused')
MASKED = -1e30  # the score of what must not be seen; finite, since inf - inf is not a number
ROPE_BASE = 10_000.0

Drop = Callable[[Array], Array] | None


def causal(
  q: Array,
  k: Array,
  v: Array,
  segments: Array | None = None,
  *,
  form: str = 'auto',
  drop: Drop = None,
) -> Array:
  """Each position attends to itself and what came before it, `[B, T, H, d]`; T = S.

  segments: int32 `[B, T]`; positions of different numbers do not see each other.
  form: 'fused' is `jax.nn.dot_product_attention`, cuDNN's flash kernel where that takes it;
    'explicit' holds the scores `[B, H, T, S]`; 'auto' is fused where cuDNN takes it.
  drop: applied to the attention's weights, which only the explicit form has.
  """
  if drop is None and (form == 'fused' or (form == 'auto' and cudnn_takes(q, segments))):
    return fused(q, k, v, segments)
  mask = causal_mask(q.shape[1], segments)
  if ops.formulation() == 'cpu' and drop is None:
    return cpu_text.attend(q, k, v, mask)
  return explicit(q, k, v, mask, drop)


def causal_mask(length: int, segments: Array | None = None) -> Array:
  """bool `[1 or B, T, T]`: whether a position (axis 1) sees another (axis 2)."""
  mask = jnp.tril(jnp.ones((1, length, length), bool))
  return mask if segments is None else mask & (segments[:, :, None] == segments[:, None, :])


def explicit(q: Array, k: Array, v: Array, mask: Array, drop: Drop = None) -> Array:
  """Softmax attention (Vaswani et al. 2017, arXiv 1706.03762, eq. 1), the softmax in float32.

  mask: bool `[1 or B, T, S]`, true somewhere in each row.
  """
  B, T, H, d = q.shape
  groups = q.reshape(B, T, k.shape[2], -1, d)
  scores = jnp.einsum('btkgd,bskd->bkgts', groups, k, preferred_element_type=jnp.float32)
  scores = jnp.where(mask[:, None, None], scores * d**-0.5, MASKED)
  weights = jax.nn.softmax(scores).astype(q.dtype)
  weights = drop(weights) if drop else weights
  return jnp.einsum('bkgts,bskd->btkgd', weights, v).reshape(B, T, H, d)


def fused(q: Array, k: Array, v: Array, segments: Array | None = None) -> Array:
  mask = None if segments is None else (segments[:, :, None] == segments[:, None, :])[:, None]
  kernel = 'cudnn' if cudnn_takes(q, segments) else 'xla'
  return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=True, implementation=kernel)


def cudnn_takes(q: Array, segments: Array | None) -> bool:
  """Whether cuDNN's flash attention is here and computes these: half precision, heads up to 128."""
  if jax.default_backend() != 'gpu' or ops.formulation() == 'cpu':
    return False
  if 'cuda' not in jax.devices()[0].client.platform_version:
    return False
  half = q.dtype in (jnp.bfloat16, jnp.float16)
  even = segments is None or q.shape[1] % 2 == 0  # with a mask, in training
  return half and even and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128


# -------- against a cache --------


def write(slots: Array, new: Array, end: Array) -> Array:
  """The cache `[B, N, K, d]` with `new` `[B, S, K, d]` in its slots from `end` on."""
  zero = jnp.zeros((), end.dtype)
  return lax.dynamic_update_slice(slots, new.astype(slots.dtype), (zero, end, zero, zero))


def cached(q: Array, keys: Array, values: Array, start: Array, end: Array) -> Array:
  """S new queries `[B, S, H, d]`, in the slots from `end` on, over a cache `[B, N, K, d]`.

  A query sees the slots from its sequence's `start` to its own; one before `start`, which is
  padding, sees itself alone.
  """
  here = end + jnp.arange(q.shape[1])[None, :, None]  # [1, S, 1]
  slot = jnp.arange(keys.shape[1])[None, None]
  mask = (slot == here) | ((slot < here) & (slot >= start[:, None, None]))
  return explicit(q, keys.astype(q.dtype), values.astype(q.dtype), mask)


# -------- positions --------


def positions(length: int, segments: Array | None = None) -> Array:
  """int32 `[1, T]`; with segments `[B, T]`: each position's distance from where its own begins."""
  index = jnp.arange(length)[None]
  if segments is None:
    return index
  new = jnp.diff(segments, axis=1, prepend=segments[:, :1]) != 0
  return index - lax.cummax(jnp.where(new, index, 0), axis=1)


def rotate(x: Array, positions: Array) -> Array:
  """Rotary positions (Su et al. 2021, arXiv 2104.09864, eq. 34): `[B, T, H, d]`, d even.

  The pair (i, i + d / 2) turns by positions * 10000^(-2 i / d). positions: int32 `[1 or B, T]`.
  """
  half = x.shape[-1] // 2
  rates = np.float32(ROPE_BASE) ** (-np.arange(half, dtype=np.float32) / half)
  angles = positions[..., None].astype(jnp.float32) * rates[None, None]
  cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
