"""Task `language`: a network predicts each token of a text from those before it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import Array
from jax.sharding import Mesh

import models
import models.summary
from data.text.source import TextData
from models.gpt import LanguageModel, generation
from models.gpt.generation import NotFiniteError
from models.gpt.sampling import Sampling
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.step import make_eval
from train.task import Batch, Metrics, Programs, Source, Task, Variables
from train.tasks.language import sample as sample_lib
from train.tasks.language.evaluate import Scorer

Evaluation = Callable[[Variables], Mapping[str, float]]


class Language(Task):
  """The task `language`: the mean cross-entropy of a text's tokens, in nats.

  Args:
    model: the config's section; any network that meets `models.gpt.LanguageModel`.
    data: the text, encoded, with its tokenizer.
    chunk: at how many positions of a row logits are computed at a time on a device, 0 for all at
      once; with a vocabulary of 50,000 the whole of them may take more memory than the network.
    sample_tokens: how many tokens are written at each evaluation in training; 0: none.
    prompt: what that text goes on from.

  Raises:
    UserError: a number is negative, a character of `prompt` has no token, the network is no
      language model, or its block is shorter than a row of the data.
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
    if model['name'] in models.SEQ2SEQ:
      raise UserError(f'model.name={model["name"]!r}: translates; a task language needs another')
    self.data, self.chunk, self.text_length = data, chunk, data.block_size
    self.sample_tokens, self.prompt = sample_tokens, prompt
    with user_errors():
      built = models.build(**{**model, 'vocab_size': data.vocab_size})
    self.model = cast(LanguageModel, built)  # what takes a vocabulary is one
    if data.block_size > self.model.block_size:
      raise UserError(
        f'data.block_size={data.block_size}: must be at most model.block_size, which is'
        f' {self.model.block_size}'
      )
    if data.block_size < self.model.block_size:
      logging.warning(
        'data.block_size=%d is below model.block_size=%d: what comes later in a context is not'
        ' trained, and yet `sample` goes that far',
        data.block_size,
        self.model.block_size,
      )

  @property
  def batch_size(self) -> int:
    """Rows in a training batch."""
    return self.data.batch_size

  @property
  def metrics(self) -> Sequence[str]:
    """The metric of the evaluation split."""
    return ('val/loss',)

  @property
  def throughput(self) -> tuple[str, int]:
    """What rates count, and how many of it a batch has."""
    return 'tokens', self.data.batch_size * self.data.block_size

  @property
  def flops(self) -> float | None:
    """FLOPs of a training step in PaLM's convention (`models.gpt.flops_per_token`), if known."""
    length = self.data.block_size
    per_token = self.model.flops_per_token(length)
    return None if per_token is None else per_token * self.data.batch_size * length

  def summary(self) -> str:
    """Returns a table of the parameters."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    """Closes the data."""
    self.data.close()

  def fingerprints(self) -> Mapping[str, str]:
    """Returns split -> a hash of its data."""
    return self.data.fingerprints()

  def init(self, key: Array) -> Variables:
    """Returns the network's initial variables."""
    return self.model.init(key, jnp.zeros((1, 2), jnp.int32))

  def trace_sample(self, variables: Variables, mesh: Mesh) -> Programs:
    """Returns the programs that write 8 texts, on one device as `sample` does."""
    alone = mesh_lib.make_mesh(1, 1, 1, devices=[mesh.devices.flat[0]])
    with mesh_lib.activate(alone):
      here = mesh_lib.abstract(variables, mesh_lib.replicated(alone))
      return generation.trace(self.model, here, 8)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the mean nats a token, no variables, and the metric `loss` as (nats, tokens).

    Args:
      variables: the network's.
      batch: `tokens` int32 `[B, T + 1]`, `mask` `[B, T]` of the targets that count, `index` `[B]`
        the rows' numbers, and for packed documents `segments` int32 `[B, T + 1]`.
      key: of dropout.
      train: whether dropout acts.
    """
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
    """Returns the stream of training batches."""
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; evals reads the others')
    return self.data.train_source(seed, mesh_lib.batch_sharding(mesh))

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns 'val': nats a token over every row of the evaluation split."""
    batches = self.data.eval_batches(self.data.eval_split, mesh_lib.batch_sharding(mesh))
    measure = make_eval(self)
    return {'val': lambda variables: measure(variables, batches)}

  def examine(
    self,
    ensemble: Sequence[Variables],
    mesh: Mesh,
    *,
    text: str | None = None,
    stride: int = 0,
    choices: str | None = None,
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Measures loss, perplexities and bits per byte, or the accuracy of choosing answers.

    Args:
      ensemble: one network's variables.
      mesh: where it runs.
      text: a file to measure in place of the evaluation split.
      stride: see `Scorer`; 0 is half a block for a text, and for the split the rows that evaluation
        in training has.
      choices: a file of questions, whose answers are chosen by their likelihood.

    Returns:
      Metrics, metadata for `eval.json`, and no arrays.

    Raises:
      UserError: there are several networks, or an option does not fit the data.
    """
    if len(ensemble) > 1:
      raise UserError(f'{len(ensemble)} workdirs: language models are evaluated one by one')
    if choices is not None and text is None and stride:
      raise UserError(f'--stride={stride}: is of texts; --choices has no windows that move')
    scorer, found = Scorer(self.loss, self.data, ensemble[0], mesh), []
    with mesh_lib.activate(mesh):
      if text is not None:
        found.append(scorer.text(text, stride))
      if choices is not None:
        found.append(scorer.choices(choices))
      found = found or [scorer.split(stride)]
    metrics = {name: value for measured, _ in found for name, value in measured.items()}
    metadata = {name: value for _, said in found for name, value in said.items()}
    return metrics, metadata, {}

  def draw(self, variables: Variables, key: Array) -> dict[str, bytes]:
    """Returns 'sample.txt': `prompt` and up to `sample_tokens` tokens that the model adds."""
    if not self.sample_tokens:
      return {}
    text, tokenizer = sample_lib.GrowingText(self.data.tokenizer, self.prompt), self.data.tokenizer
    try:
      sample_lib.compose(self.model, variables, tokenizer, [text], key, tokens=self.sample_tokens)
    except NotFiniteError as error:  # no reason to end a training, whose loss is watched
      return {'sample.txt': f'{text.text} [{error}]'.encode()}
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
    """Writes texts to stdout as they are made, and to `texts.jsonl` in the folder (verb sample).

    Args:
      variables: the network's.
      folder: where the file is.
      prompt: one text or several.
      samples: how many texts go on from each prompt.
      tokens: how many new tokens a text gets at most.
      temperature: see `models.gpt.sampling.Sampling`, as for the next four.
      top_k: likewise.
      top_p: likewise.
      min_p: likewise.
      repetition: the repetition penalty.
      stop: strings that end a text, and are no part of it.
      seed: with its prompt and number it decides a text.

    Raises:
      UserError: a value is outside of its range.
    """
    with user_errors():
      sampling = Sampling(temperature, top_k, top_p, min_p, repetition)
    prompts, stops = ((x,) if isinstance(x, str) else tuple(x) for x in (prompt, stop))
    request = sample_lib.TextRequest(prompts, samples, tokens, sampling, stops, seed)
    sample_lib.sample(self.model, variables, self.data.tokenizer, folder, request)
