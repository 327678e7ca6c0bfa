"""A small transformer that encodes captions for cross-attention."""

import functools

import jax.numpy as jnp
from jax import Array

from models import attention as attention_lib
from models.axes import shard_batch
from models.gpt import GPT


class TextEncoder(GPT):
  """A GPT with bidirectional attention, whose fields are GPT's.

  Tokens below 0 are padding. A row of padding alone means "no caption" (classifier-free guidance).
  """

  block_size: int = 32
  layers: int = 2
  heads: int = 4
  width: int = 128

  def __call__(  # type: ignore[override]  # not the logits of a GPT
    self, tokens: Array, *, train: bool = False
  ) -> tuple[Array, Array]:
    """Returns the context `[B, L, width]` and its mask, bool `[B, L]`, for tokens int32 `[B, L]`.

    Raises ValueError for more than `block_size` tokens.
    """
    if tokens.shape[1] > self.block_size:
      raise ValueError(f'{tokens.shape[1]} tokens: block_size={self.block_size} is the most')
    mask, positions = tokens >= 0, attention_lib.positions(tokens.shape[1])
    seen = jnp.broadcast_to(mask[:, None], (*tokens.shape, tokens.shape[1]))  # [B, L, L]
    dropout = self.make_dropout(train)

    def layer(x: Array, own) -> tuple[Array, None]:
      weights, index = own
      drop = functools.partial(dropout, index) if dropout else None
      q, k, v = self.queries_keys_values(weights, x, positions)
      y = attention_lib.explicit(q, k, v, seen, functools.partial(drop, 0) if drop else None)
      return shard_batch(self.add_residuals(weights, x, y, drop)), None

    x = self.embed(jnp.maximum(tokens, 0), positions)
    return self.normalise_output(self.apply_layers(layer, x)[0]), mask
