"""GPT-2 (Radford et al. 2019), and what later models changed in it, each by a field of its own.

A decoder-only transformer: `x + attention(norm(x))`, then `x + mlp(norm(x))`, in each layer. As
published: learned positions, LayerNorm, a GELU of tanh, biases, the output tied to the embedding.
The parameters of all layers are stacked, `[layers, ...]`, whether these are scanned or not.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from models import attention as attention_lib
from models import forms, transformer
from models.axes import shard_tokens
from models.cpu import decode as cpu_decode
from models.gpt import context, fields, vocabulary
from models.gpt import loss as loss_lib
from models.gpt import parameters as parameters_lib
from models.transformer import RUNTIME_FIELDS as RUNTIME_FIELDS
from models.transformer import dense

QKV = ('query', 'key', 'value')

# The paper's table 2, whose widths are cut into heads of 64.
SIZES = {
  'gpt2': {'vocab_size': 50_257, 'layers': 12, 'heads': 12, 'width': 768},
  'gpt2_medium': {'vocab_size': 50_257, 'layers': 24, 'heads': 16, 'width': 1024},
  'gpt2_large': {'vocab_size': 50_257, 'layers': 36, 'heads': 20, 'width': 1280},
  'gpt2_xl': {'vocab_size': 50_257, 'layers': 48, 'heads': 25, 'width': 1600},
}

LayerDropout = Callable[[int, Array], Array]
"""`(site, x) -> x`: dropout in one layer; site 0: attention weights, 1: attention, 2: MLP."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """The keys and values of a batch's tokens so far.

  Attributes:
    keys: `[layers, B, N, kv_heads, d]`, of which the first `end` slots are used; or a list of one
      array for each layer, as `models/cpu/decode.py` lays them out.
    values: likewise.
    start: int32 `[B]`, the first slot of each sequence; what is before it is padding.
    end: int32 `[]`.
  """

  keys: Array | list[Array]
  values: Array | list[Array]
  start: Array
  end: Array


class GPT(nn.Module):
  """Tokens int32 `[B, T]` to logits `[B, T, vocab_size]` of the next: a `LanguageModel`.

  Attributes:
    vocab_size: number of tokens.
    block_size: the most tokens that a prediction is made from.
    layers: number of layers.
    heads: number of heads of queries.
    width: of the residual stream.
    kv_heads: heads of keys and values, a divisor of `heads` (grouped queries); None: `heads`.
    head_width: of each head; None: `width / heads`.
    positions: 'learned' embeddings, or 'rope' (`attention.rotate`).
    norm: 'layer', or 'rms' (Zhang & Sennrich 2019, arXiv 1910.07467).
    mlp: 'gelu' of 4 x width, or 'swiglu' (Shazeer 2020, arXiv 2002.05202) of about as many weights.
    rope_base: of the rates of rotary positions.
    rope_scaling: slower rates for longer texts, see `attention.scaled_rates`; () for none.
    norm_epsilon: added to the variance or mean square that a norm divides by.
    bias: whether the products and LayerNorm have one.
    qkv_bias: whether the products for queries, keys and values have one in any case (Qwen2).
    qk_norm: RMSNorm on queries and keys of each head (Henry et al. 2020, arXiv 2010.04245).
    softcap: logits are softcap * tanh(logits / softcap) (Gemma 2, arXiv 2408.00118); 0: no cap.
    tied: whether the output's weights are the token embedding's.
    dropout: rate for embeddings, attention weights and residuals, in training.
    attention: the form, see `models.attention.causal`.
    scan: see `models.transformer.apply_layers`.
    remat: see `models.transformer.apply_layers`.
    dtype: of activations; parameters are float32, and so are norms, softmaxes and logits.
    mlp_width: overrules the hidden width of the MLP.
    vocab_multiple: the embedding's rows are rounded up to one, such as 64, for fast products and so
      that devices can share them; rows beyond `vocab_size` are in no loss and no logits.
  """

  vocab_size: int
  block_size: int = 1024
  layers: int = 12
  heads: int = 12
  width: int = 768
  kv_heads: int | None = None
  head_width: int | None = None
  positions: str = 'learned'
  norm: str = 'layer'
  mlp: str = 'gelu'
  rope_base: float = attention_lib.ROPE_BASE
  rope_scaling: tuple[float, ...] = ()
  norm_epsilon: float = 1e-5
  bias: bool = True
  qkv_bias: bool = False
  qk_norm: bool = False
  softcap: float = 0.0
  tied: bool = True
  dropout: float = 0.0
  attention: str = 'auto'
  scan: bool | None = None
  remat: str = 'none'
  dtype: str = 'float32'
  mlp_width: int | None = None
  vocab_multiple: int = 1

  def __post_init__(self):
    fields.check(self)
    super().__post_init__()

  def setup(self):
    for name, specs in parameters_lib.specs(self).items():
      boxed = self.param(name, functools.partial(transformer.init_specs, specs), unbox=False)
      setattr(self, name, transformer.unboxed(boxed))

  def __call__(self, tokens: Array, *, train: bool = False, segments: Array | None = None) -> Array:
    """Returns float32 logits `[B, T, vocab_size]`; see `hidden`."""
    return self.logits(self.hidden(tokens, train=train, segments=segments))

  def hidden(self, tokens: Array, *, train: bool = False, segments: Array | None = None) -> Array:
    """Returns `[B, T, width]` after the last norm.

    Args:
      tokens: int32 `[B, T]`.
      train: whether dropout acts, from the stream 'dropout'.
      segments: int32 `[B, T]`, numbers of the documents packed into a row, each contiguous.
        Attention stays inside each, and its positions begin at 0.

    Raises:
      ValueError: T is larger than `block_size`.
    """
    if tokens.shape[1] > self.block_size:
      raise ValueError(f'{tokens.shape[1]} tokens: model.block_size={self.block_size} is the most')
    positions = attention_lib.positions(tokens.shape[1], segments)
    dropout = self.make_dropout(train)

    def layer(x: Array, own: Any) -> tuple[Array, None]:
      weights, index = own
      drop = functools.partial(dropout, index) if dropout else None
      weights_drop = functools.partial(drop, 0) if drop else None
      q, k, v = self.queries_keys_values(weights, x, positions)
      y = context.causal(q, k, v, segments, form=self.attention, dropout=weights_drop)
      return shard_tokens(self.add_residuals(weights, x, y, drop)), None

    x = self.embed(tokens, positions)
    x = shard_tokens(dropout(self.layers, 0, x) if dropout else x)  # numbered behind the layers
    return self.normalise_output(self.apply_layers(layer, x)[0])

  def logits(self, hidden: Array) -> Array:
    """Returns float32 logits `[B, T, vocab_size]` from `[B, T, width]`."""
    return loss_lib.logits(hidden, self.head_weight, self.softcap)[..., : self.vocab_size]

  def loss(
    self, tokens: Array, targets: Array, weights: Array, *, chunk: int = 0, **kwargs: Any
  ) -> tuple[Array, Array]:
    """Returns the sum of the targets' weighted nats and the sum of the weights, float32 scalars.

    All are `[B, T]`; for `chunk` see `loss.chunked_cross_entropy`, for the rest `hidden`.
    """
    hidden = self.hidden(tokens, **kwargs)  # logits exist a chunk at a time
    return loss_lib.chunked_cross_entropy(
      hidden, self.head_weight, targets, weights, chunk, self.softcap, self.vocab_size
    )

  # -------- decoding --------

  def init_cache(self, batch: int, length: int, dtype: Any = None) -> Cache:
    """Returns an empty cache of `length` slots a sequence, of the model's dtype unless given."""
    heads, d = parameters_lib.num_kv_heads(self), parameters_lib.head_width(self)
    shape = (self.layers, batch, length, heads, d)  # keys once for each group of queries
    zeros = functools.partial(jnp.zeros, shape, dtype or self.dtype)
    return Cache(zeros(), zeros(), jnp.zeros(batch, jnp.int32), jnp.zeros((), jnp.int32))

  def decode(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
    """Returns float32 logits `[B, S, vocab_size]` of S new tokens `[B, S]`, and the new cache."""
    hidden, cache = self.extend(tokens, cache)
    return self.logits(hidden), cache

  def extend(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
    """Returns what `decode` does, but `[B, S, width]` for those who need no or few logits.

    With learned positions, what is at `block_size` or beyond it is not a number.
    """
    index = cache.end + jnp.arange(tokens.shape[1])[None] - cache.start[:, None]
    positions = jnp.maximum(index, 0)  # [B, S]; padding on the left is below 0

    def layer(x: Array, own: Any) -> tuple[Array, Any]:
      weights, _, slots = own
      q, k, v = self.queries_keys_values(weights, x, positions)
      y, slots = attention_lib.cached(q, k, v, slots, cache.start, cache.end)
      return self.add_residuals(weights, x, y), slots

    x, slots = self.embed(tokens, positions), (cache.keys, cache.values)
    blocks: Any = self.get_variable('decoding', 'blocks')  # there on a CPU alone
    if blocks:  # a list, from `decoding_variables`
      layers = []
      for own in zip(blocks, range(self.layers), zip(*slots, strict=True), strict=True):
        x, written = layer(x, own)
        layers.append(written)
      keys, values = (list(each) for each in zip(*layers, strict=True))
    else:
      x, (keys, values) = self.apply_layers(layer, x, slots)  # [layers, B, N, kv_heads, d]
    cache = Cache(keys, values, cache.start, cache.end + tokens.shape[1])
    known = self.positions == 'rope' or (positions < self.block_size)[..., None]
    return jnp.where(known, self.normalise_output(x), jnp.nan).astype(self.dtype), cache

  def decoding_variables(self, variables: Any) -> Any:
    """Returns the variables, and on a CPU also the layers' weights as single tokens want them."""
    if not self._decodes_by_layer:
      return variables
    blocks = cpu_decode.layer_weights(variables['params']['blocks'], self.dtype, {'qkv': QKV})
    return {**variables, 'decoding': {'blocks': blocks}}

  def decoding_cache(self, cache: Cache) -> Cache:
    """Returns the cache, on a CPU in the layout that goes with `decoding_variables`."""
    if not self._decodes_by_layer:
      return cache
    keys, values = (cpu_decode.layer_slots(jnp.asarray(x)) for x in (cache.keys, cache.values))
    return dataclasses.replace(cache, keys=keys, values=values)

  @property
  def _decodes_by_layer(self) -> bool:
    # The layout is known to this `extend` alone: a subclass with another one gets the plain cache.
    return forms.formulation() == 'cpu' and type(self).extend is GPT.extend

  def flops_per_token(self, length: int) -> float:
    """Returns `parameters.flops_per_token` of the model."""
    return parameters_lib.flops_per_token(self, length)

  # -------- the parts of a layer --------

  def embed(self, tokens: Array, positions: Array) -> Array:
    """Returns `[B, T, width]` of tokens and, unless they are rotary, of positions `[B, T]`."""
    x = vocabulary.look_up(self.token_embed['embedding'], tokens, self.dtype)
    if self.positions == 'learned':
      # Clipped, since a position beyond the block has no embedding: `extend` makes that row NaN.
      at = jnp.take(self.position_embed['embedding'], positions, axis=0, mode='clip')
      x = x.astype(jnp.float32) + shard_tokens(at)
    return x.astype(self.dtype)

  def queries_keys_values(
    self, weights: Any, x: Array, positions: Array
  ) -> tuple[Array, Array, Array]:
    """Returns queries `[B, T, heads, d]`, keys and values `[B, T, kv_heads, d]` of `x`."""
    x, d = self.normalise(x, weights['norm1']), parameters_lib.head_width(self)
    if 'qkv' in weights:  # joined beforehand, by `decoding_variables`
      kv_width = parameters_lib.num_kv_heads(self) * d
      sizes = (self.heads * d, kv_width, kv_width)
      products = lax.split(dense(x, weights['qkv']), sizes, 2)
    else:
      products = transformer.dense_each(x, [weights[name] for name in QKV])
    q, k, v = (y.reshape(*y.shape[:2], -1, d) for y in products)
    if self.qk_norm:
      # Before rotation, which keeps norms.
      q = transformer.rms_norm(q, weights['query_norm'], self.norm_epsilon)
      k = transformer.rms_norm(k, weights['key_norm'], self.norm_epsilon)
    if self.positions == 'rope':
      how = self.rope_base, self.rope_scaling
      q, k = (attention_lib.rotate(y, positions, *how) for y in (q, k))
    return q, k, v

  def add_residuals(
    self, weights: Any, x: Array, y: Array, drop: LayerDropout | None = None
  ) -> Array:
    """Returns x `[B, T, width]` plus attention's output, plus the MLP of that sum.

    Args:
      weights: the layer's.
      x: what the layer got, `[B, T, width]`.
      y: what attention gave, `[B, T, heads, d]`.
      drop: dropout of the two residuals.
    """
    y = dense(y.reshape(*x.shape[:2], -1), weights['out'])  # the heads side by side
    # Norms come before the parts and never after the sum, so x reaches the last layer unscaled.
    x = x + (drop(1, y) if drop else y)
    y = self.normalise(x, weights['norm2'])
    if self.mlp == 'swiglu':
      gate, y = transformer.dense_each(y, [weights['gate'], weights['up']])  # [B, T, F] each
      y = dense(nn.silu(gate) * y, weights['down'])
    else:
      y = dense(transformer.gelu(dense(y, weights['up'])), weights['down'])
    return x + (drop(2, y) if drop else y)

  def normalise_output(self, x: Array) -> Array:
    """Applies the last norm."""
    return self.normalise(x, self.final_norm)

  def normalise(self, x: Array, weights: Any) -> Array:
    """Applies a norm of the model's kind."""
    return transformer.NORMS[self.norm](x, weights, self.norm_epsilon)

  @property
  def head_weight(self) -> Array:
    """The output's weights `[vocab_size, width]`, with the rows of `vocab_multiple`."""
    return (self.token_embed if self.tied else self.head)['embedding']

  def make_dropout(self, train: bool) -> Callable[[Any, int, Array], Array] | None:
    """Returns `dropout(layer, site, x)`, or None where nothing is dropped."""
    if not train or not self.dropout:
      return None
    return transformer.numbered_dropout(self.dropout, self.make_rng('dropout'))

  def apply_layers(self, layer: transformer.Layer, x: Array, *each: Any) -> tuple[Array, Any]:
    """Returns x after all layers, `layer(x, (weights, index, *each)) -> (x, out)`, and the outs."""
    stacked = (self.blocks, jnp.arange(self.layers), *each)  # numbers, for dropout's keys
    return transformer.apply_layers(layer, x, stacked, scan=self.scan, remat=self.remat)
