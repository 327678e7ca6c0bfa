"""RNNsearch of Bahdanau, Cho and Bengio 2015 (arXiv 1409.0473): translation by learning to align.

As in the paper's appendix A, whose symbols are in the comments: a bidirectional GRU reads the
source (A.2.1); for each target piece the decoder's state scores every position of it by a small
network, and reads their mean under a softmax of the scores (A.2.2, section 3.1); a maxout layer
makes the logits. With `attention=False` it is the RNN encoder-decoder of Cho et al. 2014 (arXiv
1406.1078), which the paper compares it with: one GRU, whose last state is all that is read.
"""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import lecun_normal, normal, orthogonal, zeros
from jax import Array, lax

from models import transformer
from models.axes import shard_tokens
from models.gpt import loss as loss_lib
from models.gpt import vocabulary
from models.seq2seq.contract import PAD, shift_right
from models.transformer import dense

SIZES = {'rnnsearch_paper': {'width': 620, 'hidden': 1000, 'align': 1000, 'maxout': 500}}

GATES = ('update', 'reset', 'candidate')
NEVER = -1e30  # the score of padding; finite, since inf - inf is not a number


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Annotated:
  """What the decoder sees of the sources.

  Attributes:
    annotations: `[B, S, 2 n]`, h_j: the states of both directions; without attention `[B, 1, n]`,
      the last state of the one.
    keys: `[B, S, align]`, U_a h_j, computed once for all target pieces.
    real: bool `[B, S]`, false for padding.
    state: `[B, n]`, s_0.
  """

  annotations: Array
  keys: Array
  real: Array
  state: Array


class RNNsearch(nn.Module):
  """A `Seq2Seq`: sources `[B, S]` and targets `[B, T]` to logits `[B, T, vocab_size]`.

  Attributes:
    vocab_size: number of pieces, of both languages; each language has embeddings of its own.
    block_size: the most pieces of a source or a target, EOS included.
    width: m, of the embeddings.
    hidden: n, of the state of each GRU.
    align: n', of the network that scores positions.
    maxout: l, of the layer before the logits.
    attention: whether the decoder searches the source; else it reads its last state alone.
    first_values: 'paper', of appendix B.1, so small that alignment is learnt late; or 'scaled',
      by the inputs of each product (LeCun et al. 1998, section 4.6).
    dropout: rate for embeddings, annotations and the maxout layer, in training; the paper has none.
    dtype: of activations; parameters are float32, and so are softmaxes and logits.
  """

  vocab_size: int
  block_size: int = 64
  width: int = 256
  hidden: int = 256
  align: int = 256
  maxout: int = 256
  attention: bool = True
  first_values: str = 'paper'
  dropout: float = 0.0
  dtype: str = 'float32'

  def __post_init__(self):
    sizes = ('vocab_size', 'block_size', 'width', 'hidden', 'align', 'maxout')
    choices = {'first_values': tuple(INITIALISERS), 'dtype': ('float32', 'bfloat16')}
    transformer.check_fields(self, choices, sizes)
    if not 0 <= self.dropout < 1:
      raise ValueError(f'model.dropout={self.dropout}: from 0 to below 1')
    super().__post_init__()

  def setup(self):
    for name, own in specs(self).items():
      boxed = self.param(name, functools.partial(transformer.init_specs, own), unbox=False)
      setattr(self, name, transformer.unboxed(boxed))

  def __call__(self, source: Array, target: Array, *, train: bool = False) -> Array:
    """Returns float32 logits `[B, T, vocab_size]`; see `Seq2Seq`."""
    memory = self.encode(source, train=train)
    hidden = self.decode(memory, shift_right(target), train=train)
    return loss_lib.logits(hidden, self.head_weight)

  # -------- encoder (A.2.1) --------

  def encode(self, source: Array, *, train: bool = False) -> Annotated:
    """Returns the memory of sources, int32 `[B, S]`."""
    real, drop = source != PAD, self.make_dropout(train)
    x = drop(0, self.embed(self.source_embed, source))
    forward, last = run_gru(self.forward_gru, x, real)
    if not self.attention:
      return self.memory_of(last[:, None], real[:, :1], last)
    backward, first = run_gru(self.backward_gru, x, real, reverse=True)
    return self.memory_of(drop(1, jnp.concatenate([forward, backward], -1)), real, first)

  def memory_of(self, annotations: Array, real: Array, state: Array) -> Annotated:
    """Returns the memory of annotations; the decoder begins with s_0 = tanh(W_s h)."""
    keys = dense(annotations, self.align_keys) if self.attention else annotations[..., :0]
    return Annotated(annotations, keys, real, jnp.tanh(dense(state, self.first_state)))

  # -------- decoder (A.2.2) --------

  def decode(self, memory: Annotated, tokens: Array, *, train: bool = False) -> Array:
    """Returns the maxout layer `[B, T, maxout]` of targets shifted right, int32 `[B, T]`."""
    return self.decode_and_look(memory, tokens, train=train)[0]

  def attention_maps(self, source: Array, target: Array) -> Array:
    """Returns alpha_ij, float32 `[B, 1, 1, T, S]`; without attention `[B, 0, 0, T, S]`."""
    _, weights = self.decode_and_look(self.encode(source), shift_right(target))
    if not self.attention:
      return jnp.zeros((len(source), 0, 0, target.shape[1], source.shape[1]))
    return weights[:, None, None]

  def decode_and_look(
    self, memory: Annotated, tokens: Array, *, train: bool = False
  ) -> tuple[Array, Array]:
    """Returns the maxout layer and the weights alpha `[B, T, S]`."""
    drop = self.make_dropout(train)
    x = drop(2, self.embed(self.target_embed, tokens))
    products = self.state_products()

    def step(state: Array, inputs: Array) -> tuple[Array, Any]:
      context, weights, new = self.advance(products, memory, state, inputs)
      return new, (state, context, weights)

    inputs = jnp.moveaxis(dense(x, self.decoder_input), 1, 0)
    _, seen = lax.scan(step, memory.state, inputs)
    states, contexts, weights = (jnp.moveaxis(y, 0, 1) for y in seen)
    return drop(3, self.read_out(states, x, contexts)), weights

  def advance(
    self, products: Any, memory: Annotated, state: Array, inputs: Array
  ) -> tuple[Array, Array, Array]:
    """Returns c_i, alpha_i and s_i of s_(i-1) `[..., n]` and its piece's part of the gates.

    The axes between B and n, K of beam search, share the source's memory.
    """
    n = self.hidden
    query, gates = jnp.split(state @ products['state'], [products['state'].shape[1] - 2 * n], -1)
    context, weights = self.look(memory, query)
    inputs = inputs + dense(context, self.decoder_context)
    return context, weights, gru_step(gates, products['candidate'], inputs, state)

  def look(self, memory: Annotated, query: Array) -> tuple[Array, Array]:
    """Returns the context `[B, ..., 2 n]` and weights `[B, ..., S]` of W_a s, `[B, ..., align]`."""
    between = (1,) * (query.ndim - 2)
    if not self.attention:
      context = memory.annotations.reshape(len(query), *between, -1)
      return jnp.broadcast_to(context, (*query.shape[:-1], context.shape[-1])), query[..., :1]
    keys = memory.keys.reshape(len(query), *between, *memory.keys.shape[1:])
    real = memory.real.reshape(len(query), *between, -1)
    # Recomputed in the backward pass: kept, it would be T times as large as the annotations.
    score = jax.checkpoint(lambda keys, query, v: jnp.tanh(keys + query[..., None, :]) @ v)
    scores = score(keys, query, self.align_out['kernel'][:, 0].astype(query.dtype))
    weights = nn.softmax(jnp.where(real, scores.astype(jnp.float32), NEVER))
    context = jnp.einsum('b...s,bsd->b...d', weights.astype(query.dtype), memory.annotations)
    return context, weights

  def state_products(self) -> Any:
    """Returns the kernels that the state is multiplied with, joined: W_a, U_z and U_r; and U."""
    own = [self.align_query['kernel']] if self.attention else []
    joined = jnp.concatenate([*own, self.decoder['update'], self.decoder['reset']], 1)
    products = {'state': joined, 'candidate': self.decoder['candidate']}
    return jax.tree.map(lambda x: x.astype(self.dtype), products)

  def read_out(self, states: Array, x: Array, contexts: Array) -> Array:
    """Returns t_i, the larger unit of each pair of U_o s_(i-1) + V_o E y_(i-1) + C_o c_i."""
    units = dense(states, self.out_state) + dense(x, self.out_piece)
    units = units + dense(contexts, self.out_context)
    return units.reshape(*units.shape[:-1], self.maxout, 2).max(-1)

  # -------- decoding piece by piece --------

  def init_cache(self, memory: Annotated, beams: int, length: int) -> Array:
    """Returns s_0 for each of the beams, `[B, beams, n]`; it is of no length."""
    del length
    return jnp.repeat(memory.state[:, None], beams, 1)

  def grow_cache(self, cache: Array, length: int) -> Array:
    """Returns the cache, which has room for any length."""
    del length
    return cache

  def select(self, cache: Array, parents: Array) -> Array:
    """Returns the states in which target k goes on from `parents[b, k]`."""
    return jnp.take_along_axis(cache, parents[:, :, None], axis=1)

  def step(
    self, memory: Annotated, cache: Array, token: Array, position: Array
  ) -> tuple[Array, Array]:
    """Returns float32 logits `[B, K, vocab_size]` after `token` `[B, K]`, and the new states."""
    del position
    x = self.embed(self.target_embed, token)
    inputs = dense(x, self.decoder_input)
    context, _, state = self.advance(self.state_products(), memory, cache, inputs)
    return loss_lib.logits(self.read_out(cache, x, context), self.head_weight), state

  # -------- parts --------

  def embed(self, weights: Any, tokens: Array) -> Array:
    """Returns `[B, T, width]` of pieces `[B, T]`."""
    return shard_tokens(vocabulary.look_up(weights['embedding'], tokens, self.dtype))

  def make_dropout(self, train: bool) -> Any:
    """Returns `dropout(site, x)`, which is the identity where nothing is dropped."""
    if not train or not self.dropout:
      return lambda site, x: x
    return functools.partial(
      transformer.numbered_dropout(self.dropout, self.make_rng('dropout')), 0
    )

  @property
  def head_weight(self) -> Array:
    """The output's weights W_o, `[vocab_size, maxout]`."""
    return self.head['embedding']

  def flops_per_pair(self, source_length: int, target_length: int) -> float:
    """Returns the FLOPs of a training step for each pair of these lengths.

    6 for each weight in a product and each position that it acts on (Chowdhery et al. 2022, arXiv
    2204.02311, appendix B), and as many for each position that is searched.
    """
    leaves = jax.tree_util.tree_leaves_with_path(specs(self), is_leaf=transformer.is_spec)
    counts = [(path[0].key, math.prod(shape)) for path, (shape, _, _) in leaves if len(shape) > 1]
    source = sum(count for name, count in counts if name in OF_SOURCE)
    target = sum(count for name, count in counts if name not in (*OF_SOURCE, *NO_PRODUCT))
    pairs = self.attention * (self.align + 2 * self.hidden)
    S, T = source_length, target_length
    return 6.0 * (S * source + T * target + S * T * pairs)


def run_gru(weights: Any, x: Array, real: Array, *, reverse: bool = False) -> tuple[Array, Array]:
  """Returns the states `[B, T, n]` of a GRU that reads x `[B, T, m]`, and the last it came to.

  Padding, where `real` `[B, T]` is false, leaves the state as it is.
  """
  update, reset, candidate = (weights[name].astype(x.dtype) for name in GATES)
  gates = jnp.concatenate([update, reset], 1)

  def step(state: Array, own: Any) -> tuple[Array, Array]:
    inputs, here = own
    new = gru_step(state @ gates, candidate, inputs, state)
    new = jnp.where(here[:, None], new, state)
    return new, new

  inputs = dense(x, weights)
  first = jnp.zeros((len(x), candidate.shape[0]), x.dtype)
  in_time = jnp.moveaxis(inputs, 1, 0), real.T
  last, states = lax.scan(step, first, in_time, reverse=reverse)
  return jnp.moveaxis(states, 0, 1), last


def gru_step(gates: Array, candidate: Array, inputs: Array, state: Array) -> Array:
  """Returns the next state of a gated unit (Cho et al. 2014; A.1.1).

  z = sigmoid(.), r = sigmoid(.), s~ = tanh(. + U [r s]), s' = (1 - z) s + z s~: the reset gate acts
  on the state before its product with U, not on the product, as in cuDNN's GRU.

  Args:
    gates: `[..., 2 n]`, U_z s and U_r s.
    candidate: `[n, n]`, U.
    inputs: `[..., 3 n]`, what all else adds to z, r and s~.
    state: `[..., n]`, s.
  """
  n = state.shape[-1]
  update, reset = jnp.split(nn.sigmoid(gates + inputs[..., : 2 * n]), 2, -1)
  new = jnp.tanh((reset * state) @ candidate + inputs[..., 2 * n :])
  return (1 - update) * state + update * new


# -------- parameters --------

OF_SOURCE = ('forward_gru', 'backward_gru', 'align_keys')  # products at each source position
NO_PRODUCT = ('source_embed', 'target_embed', 'first_state')  # nor at each target position

orthogonally = orthogonal()  # as published, and for both
INITIALISERS = {
  'paper': {'any': normal(0.01), 'align': normal(0.001), 'align_out': zeros},
  'scaled': {'any': lecun_normal(), 'align': lecun_normal(), 'align_out': lecun_normal()},
}


def specs(model: RNNsearch) -> dict[str, Any]:
  """Returns the tree of parameters with a Spec for each leaf."""
  V, m, n, maxout = model.vocab_size, model.width, model.hidden, model.maxout
  context = 2 * n if model.attention else n
  first = INITIALISERS[model.first_values]
  table = normal(
    0.01 if model.first_values == 'paper' else 1.0
  )  # of a piece, whose input is a single 1
  product = functools.partial(_dense, init=first['any'])
  align = functools.partial(_dense, init=first['align'])
  embedding = {'embedding': ((V, m), ('vocab', 'width'), table)}
  output = first['any'] if model.first_values == 'paper' else normal(maxout**-0.5)
  groups = {
    'source_embed': embedding,
    'target_embed': embedding,
    'forward_gru': {**product(m, 3 * n), **_recurrent(n)},
    'first_state': product(n, n),
    'decoder_input': product(m, 3 * n),
    'decoder_context': product(context, 3 * n, bias=False),
    'decoder': _recurrent(n),
    'out_state': product(n, 2 * maxout),
    'out_piece': product(m, 2 * maxout, bias=False),
    'out_context': product(context, 2 * maxout, bias=False),
    'head': {'embedding': ((V, maxout), ('vocab', 'width'), output)},
  }
  if model.attention:
    groups['backward_gru'] = groups['forward_gru']
    groups['align_keys'] = align(2 * n, model.align)
    groups['align_query'] = align(n, model.align, bias=False)
    groups['align_out'] = _dense(model.align, 1, first['align_out'], bias=False)
  return groups


def _recurrent(n: int) -> transformer.Specs:
  return {name: ((n, n), ('width', None), orthogonally) for name in GATES}


def _dense(n: int, m: int, init: Any, *, bias: bool = True) -> transformer.Specs:
  own = {'kernel': ((n, m), ('width', None), init)}
  return own | ({'bias': ((m,), (None,), zeros)} if bias else {})
