"""Language models: the next token of a text, from those before it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

import models
import models.summary
from data.text import TextData
from train import mesh as mesh_lib
from train.config import UserError
from train.step import make_eval
from train.task import Batch, Metrics, Source, Variables

Evaluation = Callable[[Variables], Mapping[str, float]]


def exponential(x: float) -> float:
  """Infinite where floats end, as for words of a text that has no spaces."""
  return math.exp(x) if x < 709 else math.inf


class Language:
  """The task `language`: the mean cross-entropy of a text's tokens, in nats.

  chunk: so many tokens' logits are computed at a time, 0 for all at once; with a vocabulary of
    50,000 the whole of them may take more memory than the network.
  """

  def __init__(self, model: Mapping[str, Any], data: TextData, *, chunk: int = 0):
    if chunk < 0:
      raise UserError(f'task.chunk={chunk}: must be a number of tokens, or 0 for all at once')
    self.data, self.chunk = data, chunk
    self.model = models.build(**{**model, 'vocab_size': data.vocab_size})
    if data.block_size > self.model.block_size:
      raise UserError(
        f'data.block_size={data.block_size}: must be at most model.block_size, which is'
        f' {self.model.block_size}'
      )

  @property
  def batch_size(self) -> int:
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    return 'tokens', self.data.batch_size * self.data.block_size

  def summary(self) -> str:
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    self.data.close()

  def init(self, key: Array) -> Variables:
    return self.model.init(key, jnp.zeros((1, 2), jnp.int32))

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    tokens, segments = batch['tokens'], batch.get('segments')
    sums: Any = self.model.apply(
      variables,
      tokens[:, :-1],
      tokens[:, 1:],
      batch['mask'],
      chunk=self.chunk,
      train=train,
      segments=None if segments is None else segments[:, :-1],
      # The row's number: another mask on each device and in each microbatch.
      rngs={'dropout': jax.random.fold_in(key, batch['index'][0])} if train else None,
      method='loss',
    )
    total, weight = sums
    return total / jnp.maximum(weight, 1), ({}, {'loss': (total, weight)})

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; evals reads the others')
    return self.data.train_source(seed, mesh_lib.batch_sharding(mesh))

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """'val': nats a token over every row of the evaluation split."""
    batches = self.data.eval_batches(self.data.eval_split, mesh_lib.batch_sharding(mesh))
    measure = make_eval(self)
    return {'val': lambda variables: measure(variables, batches)}

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Loss, perplexity a token and a word, and bits a byte, of the whole evaluation split.

    The last two count all of the split's tokens by the mean of those that were predicted. Words are
    what stands between spaces; bytes are UTF-8.
    """
    if len(members) > 1:
      raise UserError(f'{len(members)} workdirs: language models are evaluated one by one')
    loss = self.evals(mesh)['val'](members[0])['loss']
    counts = self.data.tokens(self.data.eval_split).counts
    nats = loss * counts['tokens']
    metrics = {
      'val/loss': loss,
      'val/perplexity': exponential(loss),
      'val/word_perplexity': exponential(nats / max(counts['words'], 1)),
      'val/bits_per_byte': nats / max(counts['bytes'], 1) / math.log(2),
    }
    return metrics, {'text': counts, 'tokenizer': self.data.tokenizer.name}, {}
