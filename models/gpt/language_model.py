"""The contract of a language model, and what a network of logits alone needs to meet it.

Task `language` trains whatever meets `LanguageModel`, and `generate` writes with it. GPT meets it
with a key-value cache. `UncachedLanguageModel` is the base for a network that is only `__call__`: a
linen module that derives from it and returns logits is trained, evaluated and sampled from.
"""

import dataclasses
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

Variables = Any
"""Flax's collections, `{'params': ...}`."""


class LanguageModel(Protocol):
  """A linen module that predicts each token of a text from those before it.

  `__call__`, `loss` and `decode` run inside of `apply`; the other methods need no variables.
  """

  vocab_size: int
  block_size: int
  """The most tokens that a prediction is made from, `T <= block_size` below."""

  def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Variables: ...

  def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any: ...

  def __call__(self, tokens: Array, *, train: bool = False, segments: Array | None = None) -> Array:
    """Returns float32 logits `[B, T, vocab_size]` of the token after each of int32 `[B, T]`.

    They are causal: what is at a position depends on no later token. With `segments`, int32
    `[B, T]`, it also depends on no token of another number (documents packed into a row). Dropout
    draws from the stream 'dropout' where `train` is set.
    """

  def loss(
    self,
    tokens: Array,
    targets: Array,
    weights: Array,
    *,
    chunk: int = 0,
    train: bool = False,
    segments: Array | None = None,
  ) -> tuple[Array, Array]:
    """Returns the weighted sum of the targets' nats, and the sum of the weights, float32 scalars.

    All are `[B, T]`. Logits of `chunk` positions at a time, 0 for all, if the model can.
    """

  def init_cache(self, batch: int, length: int) -> Any:
    """Returns an empty cache of `length` slots for each of `batch` sequences.

    It is a dataclass and a pytree with the fields of `TokenCache` but `tokens`: `start` and `end`.
    """

  def decode(self, tokens: Array, cache: Any) -> tuple[Array, Any]:
    """Returns float32 logits `[B, S, vocab_size]` after S more tokens `[B, S]`, and the cache."""

  def decoding_variables(self, variables: Variables) -> Variables:
    """Returns the variables that `decode` is applied to for single tokens: perhaps copies of them.

    `generate` calls it once, before its loop.
    """

  def decoding_cache(self, cache: Any) -> Any:
    """Returns a cache of several tokens as `decode` wants it for single ones."""

  def flops_per_token(self, length: int) -> float | None:
    """Returns the FLOPs of a training step for each token of rows of `length`; None: not known."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenCache:
  """The cache of a model that keeps nothing but the tokens themselves.

  Attributes:
    tokens: int32 `[B, N]`, of which the first `end` slots are used.
    start: int32 `[B]`, each sequence's first slot; what is before it is padding.
    end: int32 `[]`.
  """

  tokens: Array
  start: Array
  end: Array


class UncachedLanguageModel(nn.Module):
  """A language model of which only `__call__` is written; see `LanguageModel.__call__`.

  Decoding is slow: each new token computes the logits of the whole window.
  """

  vocab_size: int
  block_size: int = 1024

  def loss(
    self, tokens: Array, targets: Array, weights: Array, *, chunk: int = 0, **kwargs: Any
  ) -> tuple[Array, Array]:
    """Returns sums as `LanguageModel.loss` does, of all logits at once whatever `chunk`."""
    nats = optax.softmax_cross_entropy_with_integer_labels(self(tokens, **kwargs), targets)
    weights = weights.astype(jnp.float32)
    return (nats * weights).sum(), weights.sum()

  def init_cache(self, batch: int, length: int) -> TokenCache:
    """Returns a cache without tokens."""
    zeros = jnp.zeros(batch, jnp.int32)
    return TokenCache(jnp.zeros((batch, length), jnp.int32), zeros, jnp.zeros((), jnp.int32))

  def decode(self, tokens: Array, cache: TokenCache) -> tuple[Array, TokenCache]:
    """Returns the logits of the new tokens, computed with all before them."""
    kept = lax.dynamic_update_slice(cache.tokens, tokens, (jnp.zeros_like(cache.end), cache.end))
    # Each row from its start on; what comes behind its last token changes nothing before it.
    rows = jax.vmap(jnp.roll)(kept, -cache.start)
    here = cache.end - cache.start[:, None] + jnp.arange(tokens.shape[1])[None]  # [B, S]
    logits = jnp.take_along_axis(self(rows), jnp.maximum(here, 0)[..., None], axis=1)
    return logits, TokenCache(kept, cache.start, cache.end + tokens.shape[1])

  def decoding_variables(self, variables: Variables) -> Variables:
    """Returns the variables as they are."""
    return variables

  def decoding_cache(self, cache: TokenCache) -> TokenCache:
    """Returns the cache as it is."""
    return cache

  def flops_per_token(self, length: int) -> float | None:
    """Returns None: not known."""
    return None
