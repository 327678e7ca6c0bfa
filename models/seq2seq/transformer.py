"""The Transformer of Vaswani et al. 2017 (arXiv 1706.03762): an encoder and a decoder of attention.

As published: sinusoids, norms behind each sum, ReLU, dropout of each sub-layer's output and of the
embeddings, one table for source, target and output. What is read by section of the paper: 3.1
`encode` and `decode`, 3.2 `models/attention.py`, 3.3 `feed_forward`, 3.4 `embed`, 3.5 `sinusoids`;
5.4 `make_dropout`. The parameters of all layers of a stack are stacked, `[layers, ...]`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from models import attention, transformer
from models.axes import shard_tokens
from models.gpt import loss as loss_lib
from models.gpt import vocabulary
from models.seq2seq import parameters
from models.seq2seq.contract import PAD, shift_right
from models.transformer import dense, dense_each

# The paper's table 3. Of WMT14 English-German 37,000 pieces: 63 M and 214 M parameters.
SIZES = {
  'transformer_base': {'layers': 6, 'heads': 8, 'width': 512, 'mlp_width': 2048, 'dropout': 0.1},
  'transformer_big': {'layers': 6, 'heads': 16, 'width': 1024, 'mlp_width': 4096, 'dropout': 0.3},
}

QKV = ('query', 'key', 'value')

Dropout = Callable[[int, Array], Array]
"""`(site, x) -> x`: dropout of the output of a layer's sub-layer 1, 2 or 3."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SourceMemory:
  """What the decoder sees of the sources.

  Attributes:
    keys: `[B, S, heads, d]` of the encoder's output, a list of each decoder layer's own.
    values: likewise.
    real: bool `[B, S]`, false for padding.
  """

  keys: list[Array]
  values: list[Array]
  real: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TargetCache:
  """The keys and values of K targets a source, of N pieces at most.

  A piece's slot is never moved. What a target is made of is said by `origins`, so that beams which
  go on from another one's pieces copy none.

  Attributes:
    keys: `[B, N, K, heads, d]`, a list of each layer's; slot (n, j) was written by target j.
    values: likewise.
    origins: int32 `[B, K, N]`: target k's piece n is in slot (n, origins[b, k, n]).
  """

  keys: list[Array]
  values: list[Array]
  origins: Array


class Transformer(nn.Module):
  """A `Seq2Seq`: sources `[B, S]` and targets `[B, T]` to logits `[B, T, vocab_size]`.

  Attributes:
    vocab_size: number of pieces, of both languages.
    block_size: the most pieces of a source or a target, EOS included.
    layers: of the encoder, and as many of the decoder.
    heads: of each attention.
    width: d_model.
    mlp_width: d_ff.
    norm: 'post', behind each sum as published; or 'pre', in front of each sub-layer and at the end
      of both stacks (Xiong et al. 2020, arXiv 2002.04745).
    positions: 'sinusoid', or 'learned' (the paper's table 3, row E).
    dropout: rate for the sub-layers' outputs and the embeddings, in training.
    scan: see `models.transformer.apply_layers`.
    remat: see `models.transformer.apply_layers`.
    dtype: of activations; parameters are float32, and so are norms, softmaxes and logits.
  """

  vocab_size: int
  block_size: int = 256
  layers: int = 6
  heads: int = 8
  width: int = 512
  mlp_width: int = 2048
  norm: str = 'post'
  positions: str = 'sinusoid'
  dropout: float = 0.1
  scan: bool | None = None
  remat: str = 'none'
  dtype: str = 'float32'

  def __post_init__(self):
    choices = {
      'norm': ('post', 'pre'),
      'positions': ('sinusoid', 'learned'),
      'remat': transformer.REMAT,
      'dtype': ('float32', 'bfloat16'),
    }
    sizes = ('vocab_size', 'block_size', 'layers', 'heads', 'width', 'mlp_width')
    transformer.check_fields(self, choices, sizes)
    if self.width % self.heads:
      raise ValueError(f'model.heads={self.heads}: must divide model.width={self.width}')
    if self.width % 2 and self.positions == 'sinusoid':
      raise ValueError(f'model.width={self.width}: must be even, for pairs of sine and cosine')
    if not 0 <= self.dropout < 1:
      raise ValueError(f'model.dropout={self.dropout}: from 0 to below 1')
    super().__post_init__()

  def setup(self):
    for name, own in parameters.specs(self).items():
      boxed = self.param(name, functools.partial(transformer.init_specs, own), unbox=False)
      setattr(self, name, transformer.unboxed(boxed))

  def __call__(self, source: Array, target: Array, *, train: bool = False) -> Array:
    """Returns float32 logits `[B, T, vocab_size]`; see `Seq2Seq`."""
    memory = self.encode(source, train=train)
    hidden = self.decode(memory, shift_right(target), train=train)
    return loss_lib.logits(hidden, self.head_weight)

  # -------- the two stacks --------

  def encode(self, source: Array, *, train: bool = False) -> SourceMemory:
    """Returns the memory of sources, int32 `[B, S]`."""
    real, drop = source != PAD, self.make_dropout(train)

    def layer(x: Array, own: Any) -> tuple[Array, None]:
      weights, index = own
      residual = self.residual(weights, drop and functools.partial(drop, index))

      def attend(x: Array) -> Array:
        return self.attention_out(weights, attention.unpadded(*self.project(weights, x), real))

      x = residual(1, x, attend)
      return shard_tokens(residual(2, x, self.feed_forward(weights))), None

    x = self.embed(source, self.position_table(source.shape[1]), drop)
    hidden = self.last_norm('encoder_norm', self.apply_layers(layer, x, self.encoder)[0])
    return SourceMemory(*self.memory_keys_values(hidden), real)

  def decode(self, memory: SourceMemory, tokens: Array, *, train: bool = False) -> Array:
    """Returns `[B, T, width]` of targets that are shifted right, int32 `[B, T]`."""
    return self.decode_and_look(memory, tokens, train=train, look=False)[0]

  def attention_maps(self, source: Array, target: Array) -> Array:
    """Returns float32 `[B, layers, heads, T, S]`: how much each target piece sees of the source."""
    _, maps = self.decode_and_look(self.encode(source), shift_right(target), look=True)
    return jnp.moveaxis(maps, 0, 1)

  def decode_and_look(
    self, memory: SourceMemory, tokens: Array, *, train: bool = False, look: bool
  ) -> tuple[Array, Any]:
    """Returns what `decode` does, and each layer's attention to the sources if we `look`."""
    drop = self.make_dropout(train)

    def layer(x: Array, own: Any) -> tuple[Array, Any]:
      weights, index, keys, values = own
      residual = self.residual(weights, drop and functools.partial(drop, index))

      def attend(x: Array) -> Array:
        return self.attention_out(weights, attention.causal(*self.project(weights, x)))

      x = residual(1, x, attend)
      seen = self.memory_weights(weights, x, keys, memory.real) if look else None
      x = residual(2, x, self.attend_memory(weights, keys, values, memory.real))
      return shard_tokens(residual(3, x, self.feed_forward(weights))), seen

    x = self.embed(tokens, self.position_table(tokens.shape[1]), drop)
    keys, values = jnp.stack(memory.keys), jnp.stack(memory.values)
    x, seen = self.apply_layers(layer, x, self.decoder, keys, values)
    return self.last_norm('decoder_norm', x), seen

  # -------- decoding --------

  def init_cache(self, memory: SourceMemory, beams: int, length: int) -> TargetCache:
    """Returns an empty cache of `beams` targets a source, for `length` pieces of each."""
    B, _, heads, d = memory.keys[0].shape
    zeros = [jnp.zeros((B, length, beams, heads, d), keys.dtype) for keys in memory.keys]
    return TargetCache(zeros, zeros, jnp.zeros((B, beams, length), jnp.int32))

  def grow_cache(self, cache: TargetCache, length: int) -> TargetCache:
    """Returns the cache with room for `length` pieces."""
    more = length - cache.keys[0].shape[1]

    def pad(x: Array, axis: int) -> Array:
      return jnp.pad(x, [(0, more if i == axis else 0) for i in range(x.ndim)])

    keys, values = ([pad(x, 1) for x in layers] for layers in (cache.keys, cache.values))
    return TargetCache(keys, values, pad(cache.origins, 2))

  def select(self, cache: TargetCache, parents: Array) -> TargetCache:
    """Returns the cache in which target k goes on from `parents[b, k]`."""
    origins = jnp.take_along_axis(cache.origins, parents[:, :, None], axis=1)
    return dataclasses.replace(cache, origins=origins)

  def step(
    self, memory: SourceMemory, cache: TargetCache, token: Array, position: Array
  ) -> tuple[Array, TargetCache]:
    """Returns float32 logits `[B, K, vocab_size]` after `token` `[B, K]`, and the cache with it."""
    (B, K), N = token.shape, cache.keys[0].shape[1]
    mine = lax.broadcasted_iota(jnp.int32, (B, K, 1), 1)
    origins = lax.dynamic_update_slice(cache.origins, mine, (0, 0, position))
    # [B, K, N, K']: whether piece n of target k is in the slot of target k'.
    slot, piece = (lax.broadcasted_iota(jnp.int32, (B, K, N, K), axis) for axis in (3, 2))
    seen = ((origins[..., None] == slot) & (piece <= position)).reshape(B, K, N * K)
    x = self.embed(token, lax.dynamic_slice_in_dim(self.position_table(N), position, 1))
    keys, values = [*cache.keys], [*cache.values]
    for i, weights in enumerate(transformer.unstack(self.decoder)):
      residual = self.residual(weights)
      x, keys[i], values[i] = self.attend_cache(weights, x, keys[i], values[i], seen, position)
      of_memory = self.attend_memory(weights, memory.keys[i], memory.values[i], memory.real)
      x = residual(3, residual(2, x, of_memory), self.feed_forward(weights))
    hidden = self.last_norm('decoder_norm', x)
    return loss_lib.logits(hidden, self.head_weight), TargetCache(keys, values, origins)

  def attend_cache(
    self, weights: Any, x: Array, keys: Array, values: Array, seen: Array, position: Array
  ) -> tuple[Array, Array, Array]:
    """Returns x `[B, K, width]` behind the first sub-layer, and a layer's cache with its pieces."""

    def attend(x: Array) -> Array:
      nonlocal keys, values
      q, k, v = self.project(weights, x)
      at = (0, position, 0, 0, 0)
      keys = lax.dynamic_update_slice(keys, k[:, None], at)
      values = lax.dynamic_update_slice(values, v[:, None], at)
      B, N, K, *head = keys.shape
      slots = keys.reshape(B, N * K, *head), values.reshape(B, N * K, *head)
      return self.attention_out(weights, attention.explicit(q, slots[0], slots[1], seen))

    return self.residual(weights)(1, x, attend), keys, values

  # -------- what the stacks are made of --------

  def embed(self, tokens: Array, positions: Array, drop: Any = None) -> Array:
    """Returns `[B, T, width]` of pieces `[B, T]`, times sqrt(width), and positions `[T, width]`."""
    x = vocabulary.look_up(self.token_embed['embedding'], tokens, self.dtype)
    # The same rows make the logits, unscaled: they are small, for a softmax that begins flat.
    x = x * self.width**0.5 + positions[None].astype(x.dtype)
    return shard_tokens(drop(self.layers, 0, x) if drop else x)

  def position_table(self, length: int) -> Array:
    """Returns the first `length` positions, `[length, width]`."""
    if self.positions == 'sinusoid':
      return jnp.asarray(parameters.sinusoids(length, self.width))
    if length > self.block_size:
      raise ValueError(f'{length} pieces: model.block_size={self.block_size} is the most')
    return self.position_embed['embedding'][:length]

  def residual(self, weights: Any, drop: Dropout | None = None) -> Callable:
    """Returns a function `(site, x, sub_layer)` that adds a sub-layer's output to its input."""

    def add(site: int, x: Array, sub_layer: Callable[[Array], Array]) -> Array:
      normalise = functools.partial(transformer.layer_norm, weights=weights[f'norm{site}'])
      y = sub_layer(normalise(x) if self.norm == 'pre' else x)
      y = x + (drop(site, y) if drop else y)
      return y if self.norm == 'pre' else normalise(y)

    return add

  def project(self, weights: Any, x: Array) -> tuple[Array, Array, Array]:
    """Returns queries, keys and values `[B, T, heads, d]` of x `[B, T, width]`."""
    q, k, v = (self.by_head(y) for y in dense_each(x, [weights[name] for name in QKV]))
    return q, k, v

  def attention_out(self, weights: Any, y: Array, name: str = 'out') -> Array:
    """Returns the product `[B, T, width]` of the heads' outputs `[B, T, heads, d]`."""
    return dense(y.reshape(*y.shape[:2], -1), weights[name])

  def attend_memory(self, weights: Any, keys: Array, values: Array, real: Array) -> Callable:
    """Returns the sub-layer that attends to the encoder's output, by its keys and values."""

    def attend(x: Array) -> Array:
      q = self.by_head(dense(x, weights['memory_query']))
      return self.attention_out(weights, attention.unpadded(q, keys, values, real), 'memory_out')

    return attend

  def memory_weights(self, weights: Any, x: Array, keys: Array, real: Array) -> Array:
    """Returns the attention weights `[B, heads, T, S]` of that sub-layer, for its residual x."""
    x = transformer.layer_norm(x, weights['norm2']) if self.norm == 'pre' else x
    q, (B, S, H, _) = self.by_head(dense(x, weights['memory_query'])), keys.shape
    # Of values that are unit vectors, attention returns its weights.
    units = jnp.broadcast_to(jnp.eye(S)[:, None], (B, S, H, S))
    return jnp.moveaxis(attention.unpadded(q, keys, units, real), 2, 1)

  def memory_keys_values(self, hidden: Array) -> tuple[list[Array], list[Array]]:
    """Returns every decoder layer's keys and values of the encoder's output, in one product."""
    names = ('memory_key', 'memory_value')
    own = [transformer.unstack(self.decoder[name]) for name in names]
    products = [self.by_head(y) for y in dense_each(hidden, own[0] + own[1])]
    return products[: self.layers], products[self.layers :]

  def feed_forward(self, weights: Any) -> Callable[[Array], Array]:
    """Returns the sub-layer of two products around a ReLU, at each position by itself."""
    return lambda x: dense(nn.relu(dense(x, weights['up'])), weights['down'])

  def by_head(self, x: Array) -> Array:
    """Returns `[B, T, width]` as `[B, T, heads, d]`."""
    return x.reshape(*x.shape[:2], self.heads, -1)

  def last_norm(self, name: str, x: Array) -> Array:
    """Applies the norm behind a stack of sub-layers whose norms come before them."""
    return transformer.layer_norm(x, getattr(self, name)) if self.norm == 'pre' else x

  def make_dropout(self, train: bool) -> Callable[[Any, int, Array], Array] | None:
    """Returns `dropout(layer, site, x)`, or None where nothing is dropped."""
    if not train or not self.dropout:
      return None
    return transformer.numbered_dropout(self.dropout, self.make_rng('dropout'))

  def apply_layers(
    self, layer: transformer.Layer, x: Array, weights: Any, *each: Any
  ) -> tuple[Array, Any]:
    """Returns x after a stack, `layer(x, (weights, index, *each)) -> (x, out)`, and the outs."""
    stacked = (weights, jnp.arange(self.layers), *each)
    return transformer.apply_layers(layer, x, stacked, scan=self.scan, remat=self.remat)

  @property
  def head_weight(self) -> Array:
    """The output's weights `[vocab_size, width]`: the pieces' own."""
    return self.token_embed['embedding']

  def flops_per_pair(self, source_length: int, target_length: int) -> float:
    """Returns `parameters.flops_per_pair` of the model."""
    return parameters.flops_per_pair(self, source_length, target_length)
