"""The contract of an encoder-decoder: how it is trained, and how beam search writes with it.

A source and a target are rows of pieces, int32 `[B, S]` and `[B, T]`: each ends with EOS, behind
which PAD fills up. The decoder reads the target shifted right behind BOS.
"""

from typing import Any, Protocol

import jax.numpy as jnp
from jax import Array

from models.gpt import loss as loss_lib

PAD, BOS, EOS = 0, 1, 2

Variables = Any
"""Flax's collections, `{'params': ...}`."""

Memory = Any
"""What the encoder makes of B sources: a pytree."""

Cache = Any
"""What decoding keeps of K targets for each of B sources: a pytree."""


class Seq2Seq(Protocol):
  """A linen module that predicts each piece of a target from the source and the pieces before it.

  Every method but `init`, `apply` and `flops_per_pair` runs inside of `apply`.
  """

  vocab_size: int
  block_size: int
  """The most pieces of a source or a target, EOS included."""

  def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Variables: ...

  def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any: ...

  def __call__(self, source: Array, target: Array, *, train: bool = False) -> Array:
    """Returns float32 logits `[B, T, vocab_size]` of each piece of the target.

    Those at position t depend on the source and on the target before t, and on no padding.
    Dropout draws from the stream 'dropout' where `train` is set.
    """

  def encode(self, source: Array, *, train: bool = False) -> Memory:
    """Returns the memory of sources `[B, S]`; which pieces are padding is part of it."""

  def decode(self, memory: Memory, tokens: Array, *, train: bool = False) -> Array:
    """Returns `[B, T, D]`, of which `head_weight` makes logits.

    Args:
      memory: of B sources.
      tokens: the targets shifted right, int32 `[B, T]`, the first of each row is BOS.
      train: whether dropout acts.
    """

  @property
  def head_weight(self) -> Array:
    """The output's weights `[vocab_size, D]`."""

  def attention_maps(self, source: Array, target: Array) -> Array:
    """Returns float32 `[B, layers, heads, T, S]`: how much each target piece sees of the source."""

  def init_cache(self, memory: Memory, beams: int, length: int) -> Cache:
    """Returns the cache of `beams` targets a source that have no piece yet, with room for some."""

  def grow_cache(self, cache: Cache, length: int) -> Cache:
    """Returns the cache with room for `length` pieces a target, more than before."""

  def select(self, cache: Cache, parents: Array) -> Cache:
    """Returns the cache in which target k goes on from `parents[b, k]`, int32 `[B, K]`."""

  def step(
    self, memory: Memory, cache: Cache, token: Array, position: Array
  ) -> tuple[Array, Cache]:
    """Returns float32 logits `[B, K, vocab_size]` of the next piece, and the cache with this one.

    Args:
      memory: of B sources.
      cache: of K targets for each.
      token: int32 `[B, K]`, the newest piece of each target; BOS at first.
      position: int32 `[]`, its number: 0 for BOS.
    """

  def flops_per_pair(self, source_length: int, target_length: int) -> float | None:
    """Returns the FLOPs of a training step for each pair of these lengths; None: not known."""


def shift_right(target: Array) -> Array:
  """Returns what the decoder reads: BOS, then each row of int32 `[B, T]` without its last piece."""
  return jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=BOS)


def loss(
  model: Seq2Seq,
  source: Array,
  target: Array,
  weights: Array,
  *,
  smoothing: float = 0.0,
  chunk: int = 0,
  train: bool = False,
) -> tuple[Array, Array, Array]:
  """Returns sums over the targets' pieces: the loss, the nats without smoothing, the weights.

  Call it by `model.apply(variables, ..., method=loss)`.

  Args:
    model: bound.
    source: int32 `[B, S]`.
    target: int32 `[B, T]`.
    weights: `[B, T]`, of which padding has 0.
    smoothing: see `models.gpt.loss.smoothed_cross_entropy`.
    chunk: likewise.
    train: whether dropout acts.
  """
  memory = model.encode(source, train=train)
  hidden = model.decode(memory, shift_right(target), train=train)
  head = model.head_weight
  return loss_lib.smoothed_cross_entropy(hidden, head, target, weights, smoothing, chunk)
