"""Causal attention over texts whose tokens are shared by devices, those of the mesh axis `context`.

All else in a layer is done token by token: of T tokens each of n devices has T / n. For attention
they exchange tokens for heads and back, by an all-to-all each for queries, keys, values and
outputs (DeepSpeed-Ulysses, Jacobs et al. 2023, arXiv 2309.14509): a device has some heads of all
tokens. So positions, masks and the kernel are those of one device, and all devices have as many
scores to compute. A ring of keys sends n / 2 times as much, its causal pieces have to be dealt out
evenly, and it sums parts by their logsumexp, whose gradient JAX's call of cuDNN drops.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

from models import attention, forms
from models.axes import BATCH_AXES, CONTEXT_AXIS, mesh_size, over_devices, split_axes

HEAD_AXES = ('tensor', CONTEXT_AXIS)
# Over which axes `[B, T, H, d]` is split, outside of attention and in it.
BY_TOKENS = BATCH_AXES, (CONTEXT_AXIS,), ('tensor',)
BY_HEADS = BATCH_AXES, (), HEAD_AXES
BLOCK, SPANS = 128, 4  # queries at a time, and in how many lengths of the keys that they see
LANES = 128  # of a TPU


def causal(
  q: Array,
  k: Array,
  v: Array,
  segments: Array | None = None,
  *,
  form: str = 'auto',
  dropout: attention.Dropout | None = None,
) -> Array:
  """Returns `attention.causal`, `[B, T, H, d]`, also where devices share the T tokens.

  There nothing holds `[T, T]` but the form 'explicit', which dropout needs: it is the flash kernel
  of cuDNN or Pallas, or `blockwise`.
  """
  if not split_axes(q.shape[1], CONTEXT_AXIS):
    return attention.causal(q, k, v, segments, form=form, dropout=dropout)
  shape, parts = q.shape, mesh_size(*split_axes(q.shape[2], 'tensor'))
  copies = _copies(q, k)
  q, k, v = (_exchange(x, n, parts) for x, n in ((q, 1), (k, copies), (v, copies)))
  y = _shard(_attend(q, k, v, segments, form, dropout), BY_HEADS)
  y = y.reshape(*shape[:2], parts, -1, shape[3])[:, :, :, : shape[2] // parts]
  return _shard(y.reshape(shape), BY_TOKENS)


def _attend(
  q: Array,
  k: Array,
  v: Array,
  segments: Array | None,
  form: str,
  dropout: attention.Dropout | None,
) -> Array:
  if dropout is not None or form == 'explicit':
    return attention.explicit(q, k, v, attention.causal_mask(q.shape[1], segments), dropout)
  if segments is None and attention.cudnn_accepts(q):  # segments would be a mask [T, T]
    return attention.fused(q, k, v)
  if forms.platform() == 'tpu' and q.shape[1] % LANES == 0:
    return splash(q, k, v, segments)
  return blockwise(q, k, v, segments)


def _copies(q: Array, k: Array) -> int:
  """Returns how often to repeat keys so that each device has whole groups of queries."""
  heads, group = k.shape[2], q.shape[2] // k.shape[2]
  devices = mesh_size(*HEAD_AXES)
  fits = (n for n in range(1, group) if group % n == 0 and heads * n % devices == 0)
  return next(fits, group)


def _exchange(x: Array, copies: int, parts: int) -> Array:
  """Returns `[B, T, H', d]`, each head so many times, split by heads and no more by tokens.

  Heads of zeros fill up each of the `parts` that devices of `tensor` have already.
  """
  B, T, _, d = x.shape
  # Said here too, else the products before are split as what becomes of them.
  x = jnp.repeat(_shard(x, BY_TOKENS), copies, axis=2).reshape(B, T, parts, -1, d)
  fill = -x.shape[3] % (mesh_size(*HEAD_AXES) // parts)
  x = jnp.pad(x, [(0, 0)] * 3 + [(0, fill), (0, 0)])
  return _shard(x.reshape(B, T, -1, d), BY_HEADS)


def _shard(x: Array, by: Sequence[tuple[str, ...]]) -> Array:
  return lax.with_sharding_constraint(x, _spec(x, by))


def _spec(x: Array, by: Sequence[tuple[str, ...]]) -> PartitionSpec:
  """Returns how `[B, T, H, d]` is split by B, T and H: over axes that divide them."""
  sizes = zip(x.shape[:3], by, strict=True)
  return PartitionSpec(*(split_axes(size, *axes) or None for size, axes in sizes))


def splash(
  q: Array, k: Array, v: Array, segments: Array | None = None, *, interpret: bool = False
) -> Array:
  """Returns `attention.causal` by JAX's flash kernel for TPUs, each device with its own heads.

  Args:
    q: queries `[B, T, H, d]`, T a multiple of LANES.
    k: keys `[B, T, K, d]`.
    v: values.
    segments: see `attention.causal`.
    interpret: computes what the kernel does without it, where there is no TPU.
  """
  # Only here, since Pallas takes long to import.
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernel
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

  T, d = q.shape[1], q.shape[3]
  size = next(n for n in (512, 256, LANES) if T % n == 0)
  sizes = kernel.BlockSizes(
    block_q=size,
    block_kv=size,
    block_q_dkv=size,
    block_kv_dkv=size,
    block_q_dq=size,
    block_kv_dq=size,
  )

  def own(q: Array, k: Array, v: Array, segments: Array | None) -> Array:
    mask = masks.MultiHeadMask([masks.CausalMask((T, T))] * q.shape[2])
    attend = kernel.make_splash_mha_single_device(mask, block_sizes=sizes, interpret=interpret)
    ids = None if segments is None else kernel.SegmentIds(segments, segments)
    q, k, v = (x.swapaxes(1, 2) for x in (q * d**-0.5, k, v))
    return jax.vmap(attend)(q, k, v, ids).swapaxes(1, 2)

  here = _spec(k, BY_HEADS)  # of heads of queries there is a multiple
  if not any(here):
    return own(q, k, v, segments)
  return over_devices(own, (here, here, here, PartitionSpec(here[0])), here)(q, k, v, segments)


# -------- without a kernel --------


def blockwise(q: Array, k: Array, v: Array, segments: Array | None = None) -> Array:
  """Returns `attention.causal` with scores `[B, H, BLOCK, T]` at a time.

  They are computed anew in the backward pass (Rabe & Staats 2021, arXiv 2112.05682).
  """
  length = q.shape[1]
  segments = jnp.zeros((1, length), jnp.int32) if segments is None else segments
  begins = np.arange(0, length, min(BLOCK, length))
  queries, own = (_in_blocks(x, len(begins)) for x in (q, segments))
  # Summed over blocks, as their gradients are, in float32.
  k, v = k.astype(jnp.float32), v.astype(jnp.float32)
  outs, first = [], 0
  # Blocks of a span see keys up to its end: 5/8 of all scores are computed.
  for span in np.array_split(begins, min(SPANS, len(begins))):
    last = first + len(span)
    end = min(last * queries.shape[2], length)
    seen = k[:, :end], v[:, :end], segments[:, :end]
    outs.append(_of_blocks((queries[first:last], own[first:last], jnp.asarray(span)), *seen))
    first = last
  y = jnp.moveaxis(jnp.concatenate(outs), 0, 1)  # [B, blocks, BLOCK, H, d]
  return y.reshape(len(q), -1, *q.shape[2:])[:, :length]


def _of_blocks(blocks: tuple[Array, ...], k: Array, v: Array, segments: Array) -> Array:
  """Returns attention `[blocks, B, BLOCK, H, d]`.

  Args:
    blocks: queries `[blocks, B, BLOCK, H, d]`, their segments, and where each block begins.
    k: keys `[B, S, K, d]`.
    v: values.
    segments: int32 `[1 or B, S]`, of the keys.
  """

  @jax.checkpoint
  def of_block(block: tuple[Array, ...]) -> Array:
    q, own, begin = block
    before = begin + jnp.arange(q.shape[1])[:, None] >= jnp.arange(k.shape[1])[None]
    mask = before[None] & (own[:, :, None] == segments[:, None])
    return attention.explicit(q, k.astype(q.dtype), v.astype(q.dtype), mask)

  return lax.map(of_block, blocks)


def _in_blocks(x: Array, count: int) -> Array:
  """Returns `[B, T, ...]` as `[count, B, T / count, ...]`, padded with zeros."""
  size = min(BLOCK, x.shape[1])
  x = jnp.pad(x, [(0, 0), (0, count * size - x.shape[1])] + [(0, 0)] * (x.ndim - 2))
  return jnp.moveaxis(x.reshape(len(x), count, size, *x.shape[2:]), 1, 0)
