"""Word2Vec: skip-gram and CBOW, by negative sampling or by a hierarchical softmax.

Mikolov et al. 2013a (arXiv 1301.3781) has the two architectures, 2013b (arXiv 1310.4546) their
objectives, and what the papers leave out is as in their program, word2vec.c.

A *block* is B streams of T neighbouring words, with the `window` words before and after them. Its
update is three matrix products: C = T + 2 window rows of the input table, R rows of the output
table, one logit for each pair. The matrix `weights` says how often a pair counts: 0 for most. With
negative sampling R is the T words and K negatives that all of the block share (Ji et al. 2016,
arXiv 1611.06172), each weighted so that a pair has `negatives` of them in expectation; with a
hierarchical softmax R is the inner nodes on the words' paths.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

ARCHITECTURES = ('skipgram', 'cbow')
OBJECTIVES = ('negative_sampling', 'hierarchical_softmax')
SMALLEST = 1e-7  # of a probability in the loss that is shown

Tables = dict[str, Array]
"""`input` and `output`, float32 [V, D]: the words' vectors, and those that predict them."""


class Draws(NamedTuple):
  """What the objectives need to know of a vocabulary of V words, most frequent first.

  Attributes:
    negatives: uint32 `[V]`, cumulative probabilities of negatives times 2**32.
    nodes: int32 `[V, L]`, the inner nodes of the Huffman tree from the root to a word, -1 behind.
    codes: bool `[V, L]`, the turn taken at each; `[V, 0]` both, where no tree is needed.
    limits: float32 `[V]`, the largest learning rate of each row of `input`, and of `output`.
  """

  negatives: np.ndarray
  nodes: np.ndarray
  codes: np.ndarray
  limits: tuple[np.ndarray, np.ndarray]


def draws_of(
  model: 'Word2Vec', read: np.ndarray, noise: np.ndarray, tree: tuple, streams: int
) -> Draws:
  """Returns what the objectives need to know of a vocabulary.

  A block adds up the gradients of all its pairs, so a word that is in many of them would take a
  step many times too long, where word2vec.c takes many, each from where the last one led. Its rate
  is limited to 1 over the number of its pairs in a block; of English only the most frequent words
  come near to it.

  Args:
    model: says how long a block is.
    read: float64 `[V]`, the share of each word in what is read, after subsampling.
    noise: uint32 `[V]`, see `Draws.negatives`.
    tree: nodes and codes, see `Draws`.
    streams: B.
  """
  words = streams * model.block  # of a block
  pairs = words * (model.window + 1.0)  # a reach is (window + 1) / 2 on average, to both sides
  predictions = pairs if model.architecture == 'skipgram' else words
  if model.hierarchical:
    nodes, depth = tree[0], tree[0].shape[1]
    passed = np.bincount((nodes + 1).ravel(), np.repeat(read, depth), len(read) + 1)[1:]
  else:
    passed = read + model.negatives * np.diff(noise.astype(np.float64), prepend=0) / 2.0**32
  loads = (pairs * read, predictions * passed)
  limits = tuple((1 / np.maximum(load, 1e-9)).astype(np.float32) for load in loads)
  return Draws(noise, *tree, (limits[0], limits[1]))


class Block(NamedTuple):
  """A block's words.

  Attributes:
    words: int32 `[B, C]`.
    sentences: int32 `[B, C]`, the number of each word's sentence, negative for padding.
    reach: int32 `[B, T]`, how many words to each side of a word are its context.
    negatives: int32 `[B, K]`.
  """

  words: Array
  sentences: Array
  reach: Array
  negatives: Array


class Word2Vec(nn.Module):
  """The two tables of vectors, and what is to be done with a block.

  Attributes:
    vocab_size: V, the number of words.
    width: D, the dimension of the vectors.
    architecture: 'skipgram' (each word of the context predicts the word) or 'cbow' (their mean
      does).
    objective: 'negative_sampling' or 'hierarchical_softmax'.
    window: the most words to each side that are context; each word's own number is drawn uniformly
      from 1 to it.
    negatives: negative words a pair.
    block: T, words of a stream in one update. Of many a frequent word would take too large a step,
      since gradients are added.
    shared: K, the negatives of a block in one stream.
  """

  vocab_size: int
  width: int = 100
  architecture: str = 'skipgram'
  objective: str = 'negative_sampling'
  window: int = 5
  negatives: int = 5
  block: int = 64
  shared: int = 64

  def __post_init__(self) -> None:
    for key, choices in (('architecture', ARCHITECTURES), ('objective', OBJECTIVES)):
      if getattr(self, key) not in choices:
        raise ValueError(f'model.{key}={getattr(self, key)!r}: choose from {", ".join(choices)}')
    for key in ('width', 'window', 'negatives', 'block', 'shared'):
      if getattr(self, key) < 1:
        raise ValueError(f'model.{key}={getattr(self, key)}: must be at least 1')
    super().__post_init__()

  @nn.compact
  def __call__(self) -> Tables:
    """Returns the tables."""
    named, shape = nn.with_logical_partitioning, (self.vocab_size, self.width)
    axes = ('vocab', 'width')
    return {
      'input': self.param('input', named(self._uniform, axes), shape),
      'output': self.param('output', named(nn.initializers.zeros_init(), axes), shape),
    }

  def _uniform(self, key: Array, shape: tuple[int, int]) -> Array:
    return jax.random.uniform(key, shape, minval=-0.5 / self.width, maxval=0.5 / self.width)

  @property
  def hierarchical(self) -> bool:
    """Whether the objective is the hierarchical softmax."""
    return self.objective == 'hierarchical_softmax'


def draw(model: Word2Vec, draws: Draws, keys: Array, count: int) -> tuple[Array, Array]:
  """Returns what is random in `count` blocks: reaches `[B, count, T]` and negatives [B, count, K].

  keys: `[B]`, of the streams.
  """

  def of_stream(key: Array) -> tuple[Array, Array]:
    reach, bits = jax.random.split(key)
    shared = 0 if model.hierarchical else model.shared
    negatives = jnp.searchsorted(
      jnp.asarray(draws.negatives),
      jax.random.bits(bits, (count, shared), jnp.uint32),
      side='right',
      method='scan_unrolled',
    )
    reaches = jax.random.randint(reach, (count, model.block), 1, model.window + 1)
    return reaches, jnp.minimum(negatives, model.vocab_size - 1)

  return jax.vmap(of_stream)(keys)


def cut(model: Word2Vec, words: Array, sentences: Array, drawn: Any, number: Array) -> Block:
  """Returns block `number` of streams.

  Args:
    model: says how long a block is.
    words: int32 `[B, window + N T + window]`, padded at both ends.
    sentences: likewise, negative in the padding.
    drawn: see `draw`, of N blocks.
    number: int32 `[]`.
  """
  length = model.block + 2 * model.window
  parts = (
    lax.dynamic_slice_in_dim(x, number * model.block, length, axis=1) for x in (words, sentences)
  )
  return Block(*parts, *(lax.dynamic_index_in_dim(x, number, 1, keepdims=False) for x in drawn))


def pairs(model: Word2Vec, block: Block) -> Array:
  """Returns `[B, C, T]`: 1 where word j of the block is context of its word i, else 0."""
  w, centres = model.window, slice(model.window, model.window + model.block)
  distance = np.abs(np.arange(model.block + 2 * w)[:, None] - np.arange(model.block) - w)
  near = (distance > 0)[None] & (distance[None] <= block.reach[:, None])
  same = block.sentences[:, :, None] == block.sentences[:, None, centres]
  real = block.sentences[:, None, centres] >= 0
  return (near & same & real).astype(jnp.float32)


def outputs(model: Word2Vec, draws: Draws, block: Block) -> tuple[Array, Array]:
  """Returns which rows of the output table a block needs, int32 `[B, R]`, and their labels.

  The labels are 1 or 0, `[B, R]`; a row -1 is none.
  """
  centres = block.words[:, model.window : model.window + model.block]
  if not model.hierarchical:
    rows = jnp.concatenate([centres, block.negatives], axis=1)
    labels = jnp.arange(rows.shape[1])[None] < model.block
    return rows, jnp.broadcast_to(labels, rows.shape).astype(jnp.float32)
  streams = len(centres)
  labels = 1 - jnp.asarray(draws.codes, jnp.float32)[centres]  # as in word2vec.c
  return jnp.asarray(draws.nodes)[centres].reshape(streams, -1), labels.reshape(streams, -1)


def weights_of(model: Word2Vec, predict: Array, rows: Array) -> Array:
  """Returns how often each predicting row and output row are a pair, `[B, H, R]`.

  predict: `[B, H, T]`, how often it is to predict each word of the block.
  """
  if model.hierarchical:
    each = jnp.repeat(predict, rows.shape[1] // model.block, axis=2)
    return each * (rows >= 0)[:, None]
  share = predict.sum(2, keepdims=True) * (model.negatives / model.shared)
  return jnp.concatenate(
    [predict, jnp.broadcast_to(share, (*predict.shape[:2], model.shared))], axis=2
  )


class Gradients(NamedTuple):
  """The gradient of a block's loss, row by row; a row that is there twice counts twice.

  Attributes:
    loss, count: nats, summed over `count` predictions.
    inputs: int32 `[B, C]` and float32 `[B, C, D]`.
    outputs: int32 `[B, R]` and float32 `[B, R, D]`.
  """

  loss: Array
  count: Array
  inputs: tuple[Array, Array]
  outputs: tuple[Array, Array]


def predictors(model: Word2Vec, vectors: Array, context: Array) -> tuple[Array, Array]:
  """Returns the vectors that predict, `[B, H, D]`, and how often each predicts a word [B, H, T].

  vectors: `[B, C, D]`, those of a block's words.
  context: see `pairs`.
  """
  if model.architecture == 'skipgram':
    return vectors, context
  count = context.sum(1)  # [B, T]
  mean = jnp.swapaxes(context, 1, 2) @ vectors / jnp.maximum(count, 1)[..., None]
  return mean, jnp.eye(model.block)[None] * (count > 0)[:, None]


def gradients(model: Word2Vec, draws: Draws, tables: Tables, block: Block) -> Gradients:
  """Returns the loss of a block and its gradient.

  As in word2vec.c, CBOW gives each word of a context the whole gradient of their mean, not its
  share.
  """
  context = pairs(model, block)
  rows, labels = outputs(model, draws, block)
  vectors, predicting = tables['input'][block.words], tables['output'][rows]
  hidden, predict = predictors(model, vectors, context)
  weights = weights_of(model, predict, rows)
  right = jnp.einsum('bhd,brd->bhr', hidden, predicting)
  p = jax.nn.sigmoid(right)
  error = (p - labels[:, None]) * weights
  d_hidden = jnp.einsum('bhr,brd->bhd', error, predicting)
  d_rows = jnp.einsum('bhr,bhd->brd', error, hidden)
  if model.architecture == 'cbow':
    d_hidden = context @ d_hidden
  likely = jnp.where(labels[:, None] > 0, p, 1 - p)
  loss = -jnp.sum(weights * jnp.log(jnp.maximum(likely, SMALLEST)))
  return Gradients(loss, predict.sum(), (block.words, d_hidden), (rows, d_rows))


def descend(
  draws: Draws, tables: Tables, found: Gradients, rate: Array, gather: Callable
) -> Tables:
  """Returns the tables after a step of gradient descent, in place where XLA may.

  gather: of an array `[B, ...]`, its streams on all devices; the identity, if a program is one.
  """
  steps = [
    (rows, -jnp.minimum(rate, jnp.asarray(limit)[rows])[..., None] * change)
    for limit, (rows, change) in zip(draws.limits, (found.inputs, found.outputs), strict=True)
  ]
  # Both gradients are there before either table changes, else XLA would copy a table to keep it.
  steps = lax.optimization_barrier(jax.tree.map(gather, steps))
  return {
    name: _add_rows(tables[name], *step)
    for name, step in zip(('input', 'output'), steps, strict=True)
  }


def _add_rows(table: Array, rows: Array, change: Array) -> Array:
  return table.at[rows.reshape(-1)].add(change.reshape(-1, table.shape[1]))


# -------- chunks: many blocks --------


class Chunks(NamedTuple):
  """Texts of B streams, cut into N blocks, with all that is drawn.

  Attributes:
    words, sentences: int32 `[B, window + N T + window]`, as `cut` takes them.
    reach: int32 `[B, N, T]`.
    negatives: int32 `[B, N, K]`.
  """

  words: Array
  sentences: Array
  reach: Array
  negatives: Array

  def block(self, model: Word2Vec, number: Array) -> Block:
    """Returns block `number` of each stream."""
    return cut(model, self.words, self.sentences, self[2:], number)


def chunks(model: Word2Vec, draws: Draws, batch: dict[str, Array], key: Array) -> Chunks:
  """Returns a batch padded to whole blocks, with its draws.

  batch: `words` and `sentences` int32 `[B, N]`, and `index` `[B]`, of which each stream's draws
    depend, so that they are the same however many devices share the batch.
  """
  length = batch['words'].shape[1]
  count = -(-length // model.block)
  ends = ((0, 0), (model.window, count * model.block - length + model.window))
  words = jnp.pad(jnp.maximum(batch['words'], 0), ends)
  sentences = jnp.pad(batch['sentences'], ends, constant_values=-1)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch['index'])
  return Chunks(words, sentences, *draw(model, draws, keys, count))


def loss(model: Word2Vec, draws: Draws, tables: Tables, found: Chunks) -> tuple[Array, Array]:
  """Returns nats and predictions of chunks, all with the same tables."""
  numbers = jnp.arange(found.reach.shape[1])
  nats, counts = lax.map(
    lambda number: gradients(model, draws, tables, found.block(model, number))[:2], numbers
  )
  return nats.sum(), counts.sum()


def train(
  model: Word2Vec,
  draws: Draws,
  tables: Tables,
  found: Chunks,
  rate: Array,
  gather: Callable = lambda x: x,
) -> tuple[Tables, Array, Array, Array]:
  """Takes a step of gradient descent for each block of chunks, in their order.

  Blocks of padding alone are left out.

  Args:
    model: whose tables they are.
    draws: of its vocabulary.
    tables: the model's.
    found: the chunks.
    rate: of learning, `[]`.
    gather: see `descend`.

  Returns:
    the tables; nats and predictions, each block's with the tables before its step; and the sum of
    the gradients' squares.
  """
  real = jnp.sum(gather(found.sentences) >= 0, axis=1).max()

  def step(number: Array, carry: Any) -> Any:
    tables, *sums = carry
    block = gradients(model, draws, tables, found.block(model, number))
    squares = sum(jnp.sum(jnp.square(change)) for _, change in block[2:])
    sums = [a + b for a, b in zip(sums, (block.loss, block.count, squares), strict=True)]
    return descend(draws, tables, block, rate, gather), *sums

  zero = jnp.zeros(())
  return lax.fori_loop(0, -(-real // model.block), step, (tables, zero, zero, zero))
