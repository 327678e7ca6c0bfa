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
  passed: np.ndarray
  if model.hierarchical:
    nodes, depth = tree[0], tree[0].shape[1]
    passed = np.bincount((nodes + 1).ravel(), np.repeat(read, depth), len(read) + 1)[1:]
  else:
    passed = read + model.negatives * np.diff(noise.astype(np.float64), prepend=0) / 2.0**32
  loads = (pairs * read, predictions * passed)
  limits = [(1 / np.maximum(load, 1e-9)).astype(np.float32) for load in loads]
  return Draws(noise, tree[0], tree[1], (limits[0], limits[1]))


class WordBlock(NamedTuple):
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
  def __call__(self) -> Any:
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


def pairs(model: Word2Vec, block: WordBlock) -> Array:
  """Returns `[B, C, T]`: 1 where word j of the block is context of its word i, else 0."""
  w, centres = model.window, slice(model.window, model.window + model.block)
  distance = np.abs(np.arange(model.block + 2 * w)[:, None] - np.arange(model.block) - w)
  near = (distance > 0)[None] & (distance[None] <= block.reach[:, None])
  same = block.sentences[:, :, None] == block.sentences[:, None, centres]
  real = block.sentences[:, None, centres] >= 0
  return (near & same & real).astype(jnp.float32)


def outputs(model: Word2Vec, draws: Draws, block: WordBlock) -> tuple[Array, Array]:
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
    loss, predictions: nats, summed over so many predictions.
    inputs: int32 `[B, C]` and float32 `[B, C, D]`.
    outputs: int32 `[B, R]` and float32 `[B, R, D]`.
  """

  loss: Array
  predictions: Array
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


def gradients(model: Word2Vec, draws: Draws, tables: Tables, block: WordBlock) -> Gradients:
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
  # A row that was read after its table changed would make XLA keep a copy of the whole table.
  steps = lax.optimization_barrier(jax.tree.map(gather, steps))
  return {
    name: _add_rows(tables[name], *step)
    for name, step in zip(('input', 'output'), steps, strict=True)
  }


def _add_rows(table: Array, rows: Array, change: Array) -> Array:
  return table.at[rows.reshape(-1)].add(change.reshape(-1, table.shape[1]))
