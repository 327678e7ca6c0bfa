"""GPT-2 (Radford et al. 2019), and what later models changed in it, each by a field of its own.

A decoder-only transformer: `x + attention(norm(x))`, then `x + mlp(norm(x))`, in each layer. As
published: learned positions, LayerNorm, a GELU of tanh, biases, the output tied to the embedding.
The parameters of all layers are stacked, `[layers, ...]`, whether these are scanned or not.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from models import attention as attention_lib
from models import ops
from models.axes import BATCH_AXES, mesh_size
from models.gpt import functional as parts
from models.gpt.functional import chunked_cross_entropy as chunked_cross_entropy
from models.gpt.parameters import flops_per_token as flops_per_token
from models.gpt.parameters import initial, kv_heads_of, parameters, unboxed
from models.gpt.parameters import num_params as num_params

CHOICES = {
  'positions': ('learned', 'rope'),
  'norm': ('layer', 'rms'),
  'mlp': ('gelu', 'swiglu'),
  'attention': attention_lib.FORMS,
  'remat': ('none', 'block', 'dots'),
  'dtype': ('float32', 'bfloat16'),
}

# What of a model is about running it: another value makes no other use of the weights.
RUNNING = ('dropout', 'attention', 'scan', 'remat', 'dtype')

POSITIVE = ('vocab_size', 'block_size', 'layers', 'heads', 'width', 'kv_heads', 'mlp_width')
POSITIVE += ('vocab_multiple',)

# The paper's table 2, whose widths are cut into heads of 64.
SIZES = {
  'gpt2': {'vocab_size': 50_257, 'layers': 12, 'heads': 12, 'width': 768},
  'gpt2_medium': {'vocab_size': 50_257, 'layers': 24, 'heads': 16, 'width': 1024},
  'gpt2_large': {'vocab_size': 50_257, 'layers': 36, 'heads': 20, 'width': 1280},
  'gpt2_xl': {'vocab_size': 50_257, 'layers': 48, 'heads': 25, 'width': 1600},
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """What the layers computed of a batch's tokens so far.

  keys, values: `[layers, B, N, kv_heads, d]`, of which the first `end` slots are used.
  start: int32 `[B]`, the first slot of each sequence; what is before it is padding.
  end: int32 scalar.
  """

  keys: Array
  values: Array
  start: Array
  end: Array


class GPT(nn.Module):
  """Tokens int32 `[B, T]` to float32 logits `[B, T, vocab_size]` of the token after each.

  kv_heads: of keys and values, a divisor of `heads` (grouped queries); None: as many as `heads`.
  norm: 'layer', or 'rms' (Zhang & Sennrich 2019, arXiv 1910.07467).
  mlp: 'gelu' of 4 x width, or 'swiglu' (Shazeer 2020, arXiv 2002.05202) of about as many weights;
    mlp_width overrules its hidden width.
  bias: whether the products and LayerNorm have one.
  qk_norm: RMSNorm on queries and keys, each head's (Henry et al. 2020, arXiv 2010.04245).
  softcap: logits are softcap * tanh(logits / softcap) (Gemma 2, arXiv 2408.00118); 0: as they are.
  dropout: of embeddings, attention weights and residuals, in training.
  attention: see `models.attention.causal`.
  scan: one compiled layer in a loop; None: on accelerators, since it is slower on a CPU.
  remat: what the backward pass computes anew: 'none', whole layers ('block'), or all of a layer
    but its products with kernels ('dots').
  dtype: of activations; parameters are float32, and so are norms, softmaxes and logits.
  vocab_multiple: the embedding's rows are rounded up to one, such as 64, for fast products and so
    that devices can share them; the rows beyond `vocab_size` are in no loss and no logits.
  """

  vocab_size: int
  block_size: int = 1024
  layers: int = 12
  heads: int = 12
  width: int = 768
  kv_heads: int | None = None
  positions: str = 'learned'
  norm: str = 'layer'
  mlp: str = 'gelu'
  bias: bool = True
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
    check(self)
    super().__post_init__()

  def setup(self):
    for name, specs in parameters(self).items():
      boxed = self.param(name, functools.partial(initial, specs), unbox=False)
      setattr(self, name, unboxed(boxed))

  def __call__(self, tokens: Array, *, train: bool = False, segments: Array | None = None) -> Array:
    return self.logits(self.hidden(tokens, train=train, segments=segments))

  def hidden(self, tokens: Array, *, train: bool = False, segments: Array | None = None) -> Array:
    """`[B, T, width]` after the last norm.

    segments: int32 `[B, T]`, numbers of the documents packed into a row, each contiguous.
      Attention stays inside each, and its positions begin at 0.
    """
    if tokens.shape[1] > self.block_size:
      raise ValueError(f'{tokens.shape[1]} tokens: model.block_size={self.block_size} is the most')
    positions = attention_lib.positions(tokens.shape[1], segments)
    drop = self.dropper(train)

    def layer(x: Array, weights: Any, index: Array) -> tuple[Array, None]:
      q, k, v = self.heads_of(weights, x, positions)
      here = functools.partial(drop, index) if drop else None
      y = attention_lib.causal(
        q, k, v, segments, form=self.attention, drop=here and functools.partial(here, 0)
      )
      return on_batch(self.rest(weights, x, y, here)), None

    x = self.embed(tokens, positions)
    x = on_batch(drop(self.layers, 0, x) if drop else x)
    return self.last_norm(self.through(layer, x)[0])

  def logits(self, hidden: Array) -> Array:
    """float32 `[..., vocab_size]` from `[..., width]`."""
    return parts.logits(hidden, self.head_weight, self.softcap)[..., : self.vocab_size]

  def loss(
    self, tokens: Array, targets: Array, weights: Array, *, chunk: int = 0, **kwargs: Any
  ) -> tuple[Array, Array]:
    """Sums of the targets' weighted nats and of the weights, float32; all `[B, T]`.

    chunk: see `chunked_cross_entropy`; kwargs: those of `hidden`.
    """
    hidden = self.hidden(tokens, **kwargs)
    return chunked_cross_entropy(
      hidden, self.head_weight, targets, weights, chunk, self.softcap, self.vocab_size
    )

  def decode(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
    """float32 logits `[B, S, vocab_size]` of S new tokens `[B, S]`, and the cache with them."""
    hidden, cache = self.extend(tokens, cache)
    return self.logits(hidden), cache

  def extend(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
    """`decode` without its logits: `[B, S, width]`, for whoever wants only the last one's.

    With learned positions, what is at `block_size` or beyond it is not a number.
    """
    index = cache.end + jnp.arange(tokens.shape[1])[None] - cache.start[:, None]
    positions = jnp.maximum(index, 0)

    def layer(x: Array, weights: Any, index: Array, slots: Any) -> tuple[Array, Any]:
      q, k, v = self.heads_of(weights, x, positions)
      keys, values = (
        attention_lib.write(old, new, cache.end) for old, new in zip(slots, (k, v), strict=True)
      )
      y = attention_lib.cached(q, keys, values, cache.start, cache.end)
      return self.rest(weights, x, y), (keys, values)

    x = self.embed(tokens, positions)
    x, (keys, values) = self.through(layer, x, (cache.keys, cache.values))
    cache = Cache(keys, values, cache.start, cache.end + tokens.shape[1])
    known = self.positions == 'rope' or (positions < self.block_size)[..., None]
    return jnp.where(known, self.last_norm(x), jnp.nan).astype(self.dtype), cache

  # -------- of what they consist --------

  def embed(self, tokens: Array, positions: Array) -> Array:
    x = jnp.take(self.token_embed['embedding'], tokens, axis=0)
    if self.positions == 'learned':
      x = x + jnp.take(self.position_embed['embedding'], positions, axis=0, mode='clip')
    return x.astype(self.dtype)

  def heads_of(self, weights: Any, x: Array, positions: Array) -> tuple[Array, Array, Array]:
    """Queries `[B, T, heads, d]`, keys and values `[B, T, kv_heads, d]` of `x` `[B, T, width]`."""
    x = parts.NORMS[self.norm](x, weights['norm1'])
    qkv = parts.dense_each(x, [weights[name] for name in ('query', 'key', 'value')])
    q, k, v = (y.reshape(*y.shape[:2], -1, self.width // self.heads) for y in qkv)
    if self.qk_norm:
      q, k = parts.rms_norm(q, weights['query_norm']), parts.rms_norm(k, weights['key_norm'])
    if self.positions == 'rope':
      q, k = attention_lib.rotate(q, positions), attention_lib.rotate(k, positions)
    return q, k, v

  def rest(self, weights: Any, x: Array, y: Array, drop: Callable | None = None) -> Array:
    """`x` `[B, T, width]` plus what attention gave, `[B, T, heads, d]`, plus the MLP of that."""
    y = parts.dense(y.reshape(x.shape), weights['out'])
    x = x + (drop(1, y) if drop else y)
    y = parts.NORMS[self.norm](x, weights['norm2'])
    if self.mlp == 'swiglu':
      gate, y = parts.dense_each(y, [weights['gate'], weights['up']])
      y = parts.dense(nn.silu(gate) * y, weights['down'])
    else:
      y = parts.dense(parts.gelu(parts.dense(y, weights['up'])), weights['down'])
    return x + (drop(2, y) if drop else y)

  def last_norm(self, x: Array) -> Array:
    return parts.NORMS[self.norm](x, self.final_norm)

  @property
  def head_weight(self) -> Array:
    """`[vocab_size, width]`, with the rows of `vocab_multiple`."""
    return (self.token_embed if self.tied else self.head)['embedding']

  def dropper(self, train: bool) -> Callable[[Any, int, Array], Array] | None:
    """`drop(layer, site, x)`, with a key for each layer and site; None where nothing is dropped."""
    if not train or not self.dropout:
      return None
    key = self.make_rng('dropout')

    def drop(layer: Any, site: int, x: Array) -> Array:
      own = jax.random.fold_in(jax.random.fold_in(key, layer), site)
      return parts.dropout(x, self.dropout, own)

    return drop

  def through(self, layer: Callable, x: Array, *each: Any) -> tuple[Array, Any]:
    """x after all layers, `layer(x, weights, index, *each) -> (x, out)`, and the outs stacked."""
    scan = ops.formulation() != 'cpu' if self.scan is None else self.scan

    def step(x: Array, of_layer: Any) -> tuple[Array, Any]:
      return layer(x, *of_layer)

    if self.remat != 'none':
      dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
      policy = dots if self.remat == 'dots' else None
      step = jax.checkpoint(step, policy=policy, prevent_cse=not scan)
    stacked = (self.blocks, jnp.arange(self.layers), *each)
    if scan:
      return lax.scan(step, x, stacked)
    outs = []
    for of_layer in parts.unstack(stacked, self.layers):
      x, out = step(x, of_layer)
      outs.append(out)
    return x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outs)


def from_hf(path: str | pathlib.Path, **overrides: Any) -> tuple[GPT, dict[str, Any]]:
  """The model and its variables (float32, in NumPy) of a Hugging Face folder: `gpt_hf.from_hf`."""
  from models.gpt import huggingface  # which is made of this module

  return huggingface.from_hf(path, **overrides)


def to_hf(model: GPT, variables: Any, path: str | pathlib.Path, **config: Any) -> None:
  """Writes a folder that transformers loads: `gpt_hf.to_hf`."""
  from models.gpt import huggingface

  huggingface.to_hf(model, variables, path, **config)


def check(model: GPT) -> None:
  """Raises ValueError where a field has a value that cannot be."""
  for name, choices in CHOICES.items():
    if (value := getattr(model, name)) not in choices:
      raise ValueError(f'model.{name}={value!r}: choose from {", ".join(choices)}')
  kv_heads = kv_heads_of(model)
  for name in POSITIVE:
    if (value := getattr(model, name)) is not None and value < 1:
      raise ValueError(f'model.{name}={value}: at least 1')
  if model.width % model.heads:
    raise ValueError(f'model.heads={model.heads}: must divide model.width={model.width}')
  if model.heads % kv_heads:
    raise ValueError(f'model.kv_heads={kv_heads}: must divide model.heads={model.heads}')
  head = model.width // model.heads
  if model.positions == 'rope' and head % 2:
    raise ValueError(f"model.positions='rope': heads are {head} wide; an even width is needed")
  if not 0 <= model.dropout < 1:
    raise ValueError(f'model.dropout={model.dropout}: from 0 to below 1')
  if model.softcap < 0:
    raise ValueError(f'model.softcap={model.softcap}: positive, or 0 for none')
  if model.dropout and model.attention == 'fused':
    raise ValueError(
      f"model.dropout={model.dropout}: attention='fused' drops no weights; choose auto, explicit"
    )


def on_batch(x: Array) -> Array:
  """Activations `[B, T, width]` split over the mesh's batch axes and nothing else.

  Left alone, XLA may split their width over `fsdp` as the parameters' is, and not gather those.
  """
  devices = mesh_size(*BATCH_AXES)
  if devices == 1 or x.shape[0] % devices:
    return x
  axes = tuple(axis for axis in BATCH_AXES if mesh_size(axis) > 1)
  return lax.with_sharding_constraint(x, PartitionSpec(axes, None, None))


def init_cache(model: GPT, batch: int, length: int, dtype: Any = None) -> Cache:
  """An empty cache of `length` slots a sequence, of `model.dtype` unless said."""
  shape = (model.layers, batch, length, kv_heads_of(model), model.width // model.heads)
  zeros = functools.partial(jnp.zeros, shape, dtype or model.dtype)
  return Cache(zeros(), zeros(), jnp.zeros(batch, jnp.int32), jnp.zeros((), jnp.int32))
