"""Word2Vec's training: chunks of text, cut into blocks, each of which is a step in place.

Read `word2vec.py` first: the network, and the gradient of one block.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from models.word2vec import Draws, Tables, Word2Vec, WordBlock, descend, gradients


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


def cut(model: Word2Vec, words: Array, sentences: Array, drawn: Any, number: Array) -> WordBlock:
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
  return WordBlock(*parts, *(lax.dynamic_index_in_dim(x, number, 1, keepdims=False) for x in drawn))


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

  def block(self, model: Word2Vec, number: Array) -> WordBlock:
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
    sums = [a + b for a, b in zip(sums, (block.loss, block.predictions, squares), strict=True)]
    return descend(draws, tables, block, rate, gather), *sums

  zero = jnp.zeros(())
  return lax.fori_loop(0, -(-real // model.block), step, (tables, zero, zero, zero))
