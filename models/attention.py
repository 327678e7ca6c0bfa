"""Softmax attention of several heads: causal, over everything, against a cache; rotary positions.

Queries are `[B, T, H, d]`, keys and values `[B, S, K, d]`: K divides H, and query head h reads the
keys and values of head h // (H / K) (grouped queries, Ainslie et al. 2023, arXiv 2305.13245).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

from models import forms
from models.axes import BATCH_AXES, CONTEXT_AXIS, over_devices, split_axes
from models.cpu import text as cpu_text

FORMS = ('auto', 'explicit', 'fused')
MASKED = -1e30  # the score of what must not be seen; finite, since inf - inf is not a number
ROPE_BASE = 10_000.0

Dropout = Callable[[Array], Array]
Slots = tuple[Array, Array]
"""One layer's part of a cache: keys and values, `[B, N, K, d]` each (or as `cached` says)."""


def causal(
  q: Array,
  k: Array,
  v: Array,
  segments: Array | None = None,
  *,
  form: str = 'auto',
  dropout: Dropout | None = None,
) -> Array:
  """Returns causal attention `[B, T, H, d]`: each position sees itself and what came before it.

  Args:
    q: queries `[B, T, H, d]`.
    k: keys `[B, T, K, d]`.
    v: values `[B, T, K, d]`.
    segments: int32 `[B, T]`; positions of different numbers do not see each other.
    form: 'fused' is `jax.nn.dot_product_attention`, cuDNN's flash kernel where that can be called;
      'explicit' holds the scores `[B, H, T, T]`; 'auto' is fused where cuDNN can be called.
    dropout: applied to the attention weights, which only the explicit form has.
  """
  if dropout is None and (form == 'fused' or (form == 'auto' and cudnn_accepts(q, segments))):
    return fused(q, k, v, segments)
  mask = causal_mask(q.shape[1], segments)
  if forms.formulation() == 'cpu' and dropout is None:
    return cpu_text.attend(q, k, v, mask)
  return explicit(q, k, v, mask, dropout)


def causal_mask(length: int, segments: Array | None = None) -> Array:
  """Returns bool `[1 or B, T, T]`: whether a position (axis 1) sees another (axis 2)."""
  mask = jnp.tril(jnp.ones((1, length, length), bool))
  # A segment is contiguous, so equal numbers say enough: no positions are compared.
  return mask if segments is None else mask & (segments[:, :, None] == segments[:, None, :])


def full(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
  """Returns attention of queries `[B, T, H, d]` to all keys and values `[B, S, H, d]`.

  Args:
    q: queries.
    k: keys.
    v: values.
    mask: bool `[B, S]`, which keys are seen; a row of which none is seen gives 0. None: all are.
  """
  if mask is None:
    return _dot_product(q, k, v)
  y = explicit(q, k, v, jnp.broadcast_to(mask[:, None], (len(q), q.shape[1], k.shape[1])))
  return jnp.where(mask.any(1)[:, None, None, None], y, 0)


def unpadded(q: Array, k: Array, v: Array, real: Array) -> Array:
  """Returns attention of queries `[B, T, H, d]` to the keys of sequences that are filled up.

  Args:
    q: queries, of the same sequences or of others.
    k: keys `[B, S, H, d]`.
    v: values, likewise.
    real: bool `[B, S]`, false for keys that only fill up. A row that is nothing else, which counts
      nowhere, sees its first key.
  """
  mask = (real | (jnp.arange(k.shape[1])[None] == 0))[:, None]
  if forms.formulation() == 'cpu':
    return cpu_text.attend(q, k, v, mask, causal=False)
  return explicit(q, k, v, mask)


def explicit(q: Array, k: Array, v: Array, mask: Array, dropout: Dropout | None = None) -> Array:
  """Returns softmax attention `[B, T, H, d]` (Vaswani et al. 2017, arXiv 1706.03762, eq. 1).

  The softmax is in float32.

  Args:
    q: queries `[B, T, H, d]`.
    k: keys `[B, S, K, d]`.
    v: values `[B, S, K, d]`.
    mask: bool `[1 or B, 1 or T, S]`, true somewhere in each row.
    dropout: applied to the attention weights.
  """
  B, T, H, d = q.shape
  groups = q.reshape(B, T, k.shape[2], -1, d)  # [B, T, K, G, d]: the keys are not repeated
  scores = _scores(groups, k)
  # Scaled after the product, in the float32 in which it was summed.
  scores = jnp.where(mask[:, None, None], scores * d**-0.5, MASKED)
  weights = jax.nn.softmax(scores).astype(q.dtype)  # float32 up to here
  weights = dropout(weights) if dropout else weights
  return _weighted_values(weights, v).reshape(B, T, H, d)


def _scores(q: Array, k: Array) -> Array:
  """Returns float32 `[B, K, G, T, S]` of queries `[B, T, K, G, d]` and keys `[B, S, K, d]`."""
  if k.shape[2] == 1:  # as a batch axis of the product K would have the keys copied
    y = jnp.einsum('btgd,bsd->bgts', q[:, :, 0], k[:, :, 0], preferred_element_type=jnp.float32)
    return y[:, None]
  return jnp.einsum('btkgd,bskd->bkgts', q, k, preferred_element_type=jnp.float32)


def _weighted_values(weights: Array, v: Array) -> Array:
  """Returns `[B, T, K, G, d]` of weights `[B, K, G, T, S]` and values `[B, S, K, d]`."""
  if v.shape[2] == 1:
    return jnp.einsum('bgts,bsd->btgd', weights[:, 0], v[:, :, 0])[:, :, None]
  return jnp.einsum('bkgts,bskd->btkgd', weights, v)


def fused(q: Array, k: Array, v: Array, segments: Array | None = None) -> Array:
  """Returns causal attention, as `causal` has it, by JAX's fused operation."""
  return _dot_product(q, k, v, segments, is_causal=True)


def _dot_product(
  q: Array, k: Array, v: Array, segments: Array | None = None, *, is_causal: bool = False
) -> Array:
  """Returns attention by `jax.nn.dot_product_attention`, of cuDNN where that takes the arrays."""
  if not cudnn_accepts(q, segments):
    mask = _same_segment(segments)
    return jax.nn.dot_product_attention(
      q, k, v, mask=mask, is_causal=is_causal, implementation='xla'
    )

  def own(q: Array, k: Array, v: Array, segments: Array | None) -> Array:
    mask = _same_segment(segments)
    return jax.nn.dot_product_attention(
      q, k, v, mask=mask, is_causal=is_causal, implementation='cudnn'
    )

  rows = split_axes(len(q), *BATCH_AXES)
  heads = split_axes(k.shape[2], 'tensor', CONTEXT_AXIS)  # of queries there is a multiple
  if not rows and not heads:
    return own(q, k, v, segments)
  # Examples and heads need nothing of one another: each device calls the kernel with its own. XLA
  # cannot cut the call where another axis is cut by hand already.
  here = PartitionSpec(rows or None, None, heads or None)
  return over_devices(own, (here, here, here, PartitionSpec(rows or None)), here)(q, k, v, segments)


def _same_segment(segments: Array | None) -> Array | None:
  """Returns bool `[B, 1, T, T]`, whether two positions are of one segment; None without any."""
  return None if segments is None else (segments[:, :, None] == segments[:, None, :])[:, None]


def cudnn_accepts(q: Array, segments: Array | None = None) -> bool:
  """Returns whether cuDNN's flash attention can be called for these: half precision, d <= 128."""
  half = q.dtype in (jnp.bfloat16, jnp.float16)
  even = segments is None or q.shape[1] % 2 == 0  # with a mask, in training
  return half and even and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128 and forms.has_cudnn()


# -------- against a cache --------


def cached(
  q: Array, k: Array, v: Array, slots: Slots, start: Array, end: Array
) -> tuple[Array, Slots]:
  """Returns attention of S new positions over a cache `[B, S, H, d]`, and the cache with them.

  A position sees the slots from its sequence's start to its own. One before the start, which is
  padding, sees itself alone.

  Args:
    q: queries `[B, S, H, d]`.
    k: keys `[B, S, K, d]`, which go into the slots from `end` on.
    v: values, likewise.
    slots: keys and values `[B, N, K, d]` so far; or with the heads as sequences of their own,
      `[B * K, N, d]`, a layout that `models/cpu/decode.py` asks for.
    start: int32 `[B]`, each sequence's first slot.
    end: int32 `[]`, the first free slot.
  """
  keys, values = slots
  if heads_apart := keys.ndim == 3:
    B, heads = len(q), len(keys) // len(q)
    q, k, v = (_heads_as_batch(x, heads) for x in (q, k, v))
    keys, values = _write(keys, k[:, :, 0], end), _write(values, v[:, :, 0], end)
    slots, start = (keys, values), jnp.repeat(start, heads)
    keys, values = keys[:, :, None], values[:, :, None]  # [B K, N, 1, d]
  else:
    slots = keys, values = _write(keys, k, end), _write(values, v, end)
  # Slots that are not written yet hold anything: they are beyond every `here`.
  here = end + jnp.arange(q.shape[1])[None, :, None]  # [1, S, 1]
  slot = jnp.arange(keys.shape[1])[None, None]
  mask = (slot == here) | ((slot < here) & (slot >= start[:, None, None]))
  y = explicit(q, keys.astype(q.dtype), values.astype(q.dtype), mask)
  if heads_apart:
    y = jnp.moveaxis(y.reshape(B, heads, *y.shape[1:]), 1, 2)  # [B, S, K, G, d]
    y = y.reshape(B, y.shape[1], -1, y.shape[-1])
  return y, slots


def _write(slots: Array, new: Array, end: Array) -> Array:
  zero = jnp.zeros((), end.dtype)
  # `lax` would move a write that reaches beyond the last slot back, over others: callers keep room.
  begin = (zero, end, *[zero] * (slots.ndim - 2))
  return lax.dynamic_update_slice(slots, new.astype(slots.dtype), begin)


def _heads_as_batch(x: Array, heads: int) -> Array:
  """Returns `[B, S, H, d]` as `[B * heads, S, H / heads, d]`."""
  B, S, _, d = x.shape
  return jnp.moveaxis(x.reshape(B, S, heads, -1, d), 2, 1).reshape(B * heads, S, -1, d)


# -------- positions --------


def positions(length: int, segments: Array | None = None) -> Array:
  """Returns the position of each token, int32 `[1, T]`.

  With segments `[B, T]` it is `[B, T]`, counted from where the token's own segment begins.
  """
  index = jnp.arange(length)[None]
  if segments is None:
    return index
  new = jnp.diff(segments, axis=1, prepend=segments[:, :1]) != 0  # [B, T]
  # The largest beginning so far is that of a token's own segment.
  return index - lax.cummax(jnp.where(new, index, 0), axis=1)


def rotate(
  x: Array, positions: Array, base: float = ROPE_BASE, scaling: Sequence[float] = ()
) -> Array:
  """Turns queries or keys by their positions (RoPE: Su et al. 2021, arXiv 2104.09864, eq. 34).

  The pair (i, i + d / 2) of a head turns by position * base^(-2 i / d).

  Args:
    x: `[B, T, H, d]`, d even.
    positions: int32 `[1 or B, T]`.
    base: of the rates.
    scaling: see `scaled_rates`.
  """
  # Pairs are (i, i + d / 2), not the paper's (2 i, 2 i + 1): two slices, no interleaving. As
  # projections are learned, it is the same up to the order of a head's units.
  half = x.shape[-1] // 2
  rates = np.float32(base) ** (-np.arange(half, dtype=np.float32) / half)
  rates = scaled_rates(rates, scaling) if scaling else rates
  # In float32: bfloat16 has no integers but the even ones beyond 256.
  angles = positions[..., None].astype(jnp.float32) * rates[None, None]
  cos, sin = jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def scaled_rates(rates: np.ndarray, scaling: Sequence[float]) -> np.ndarray:
  """Returns slower rates of rotation, for longer texts than a model was trained on at first.

  Args:
    rates: in radians a token, float32 `[d / 2]`.
    scaling: (factor,) divides all rates (Chen et al. 2023, arXiv 2306.15595); (factor, low, high,
      length) only those that turn less than `high` times in `length` tokens, and wholly those of
      less than `low` turns (Llama 3.1, arXiv 2407.21783, as its authors' code has it).
  """
  factor, *more = scaling
  kept = np.zeros_like(rates)
  if more:
    low, high, length = more
    turns = length * rates / (2 * np.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
  return (rates * (kept + (1 - kept) / factor)).astype(np.float32)
