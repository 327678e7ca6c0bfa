"""Language models: the next token of a text, from those before it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

import models
import models.summary
from data.text.source import TextData
from models.gpt import GPT, flops_per_token
from models.gpt.sampling import Sampling
from train import mesh as mesh_lib
from train.config import UserError, user_errors
from train.step import make_eval
from train.task import Batch, Metrics, Source, Variables
from train.tasks.language import sample as sample_lib
from train.tasks.language.evaluate import Scorer

Evaluation = Callable[[Variables], Mapping[str, float]]


class Language:
  """The task `language`: the mean cross-entropy of a text's tokens, in nats.

  chunk: so many tokens' logits are computed at a time, 0 for all at once; with a vocabulary of
    50,000 the whole of them may take more memory than the network.
  sample_tokens: of the text that is written at each evaluation in training, which goes on from
    `prompt`; 0: none.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: TextData,
    *,
    chunk: int = 0,
    sample_tokens: int = 200,
    prompt: str = '',
  ):
    if chunk < 0:
      raise UserError(f'task.chunk={chunk}: must be a number of tokens, or 0 for all at once')
    if sample_tokens < 0:
      raise UserError(f'task.sample_tokens={sample_tokens}: must be a number of tokens, or 0')
    if isinstance(data, TextData):  # or its metadata, which has no tokenizer
      sample_lib.first_tokens(data.tokenizer, prompt, 'task.prompt')
    self.data, self.chunk = data, chunk
    self.sample_tokens, self.prompt = sample_tokens, prompt
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

  @property
  def flops(self) -> float | None:
    """Of a training step, in PaLM's convention: see `models.gpt.parameters.flops_per_token`."""
    if not isinstance(self.model, GPT):
      return None
    length = self.data.block_size
    return flops_per_token(self.model, length) * self.data.batch_size * length

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
    self,
    members: Sequence[Variables],
    mesh: Mesh,
    *,
    text: str | None = None,
    stride: int = 0,
    choices: str | None = None,
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Loss, perplexity a token and a word, and bits a byte, of the evaluation split or of `text`.

    text: a file. stride: see `Scorer`; 0 is half a block for a text, and for the split the rows
      that evaluation in training has.
    choices: a file of questions, whose answers are chosen by their likelihood.
    """
    if len(members) > 1:
      raise UserError(f'{len(members)} workdirs: language models are evaluated one by one')
    if choices is not None and text is None and stride:
      raise UserError(f'--stride={stride}: is of texts; --choices has no windows that move')
    scorer, found = Scorer(self.loss, self.data, members[0], mesh), []
    with mesh_lib.activate(mesh):
      if text is not None:
        found.append(scorer.text(text, stride))
      if choices is not None:
        found.append(scorer.choices(choices))
      found = found or [scorer.split(stride)]
    metrics = {name: value for measured, _ in found for name, value in measured.items()}
    return metrics, {name: fact for _, facts in found for name, fact in facts.items()}, {}

  def draw(self, variables: Variables, key: Array) -> dict[str, bytes]:
    """'sample.txt': `prompt`, and up to `sample_tokens` tokens behind it as the model has them."""
    if not self.sample_tokens or not hasattr(self.model, 'decode'):
      return {}
    text = sample_lib.Text(self.data.tokenizer, self.prompt)
    sample_lib.compose(
      self.model, variables, self.data.tokenizer, [text], key, tokens=self.sample_tokens
    )
    return {'sample.txt': text.text.encode()}

  def sample(
    self,
    variables: Variables,
    folder: str,
    *,
    prompt: Sequence[str] = ('',),
    samples: int = 1,
    tokens: int = 500,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition: float = 1.0,
    stop: Sequence[str] = (),
    seed: int = 0,
  ) -> None:
    """The verb sample: texts on stdout as they are made, and in the folder's `texts.jsonl`.

    `samples` of up to `tokens` new tokens behind each prompt; an end of text, or a string of
    `stop`, ends one, and is no part of it. `models.gpt.sampling.Sampling` has the other numbers.
    """
    with user_errors():
      sampling = Sampling(temperature, top_k, top_p, min_p, repetition)
    prompts, stops = ((x,) if isinstance(x, str) else tuple(x) for x in (prompt, stop))
    request = sample_lib.Request(prompts, samples, tokens, sampling, stops, seed)
    sample_lib.sample(self.model, variables, self.data.tokenizer, folder, request)
