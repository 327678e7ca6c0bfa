"""Evaluates language models: the perplexity of a text, and the accuracy of multiple choice.

Perplexities and losses can only be compared with the same tokenizer, windows and denominators; all
of these are in the metadata that comes with the metrics.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax import Array
from jax.sharding import Mesh

from data.text import evaluation
from data.text.rows import Rows, StridedWindows
from data.text.source import TextData
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.logging.progress import Progress
from train.task import Batch, Batches, Variables

Result = tuple[dict[str, float], dict[str, Any]]  # metrics, and metadata for eval.json

LARGEST_EXPONENT = 709  # of e in float64

# No text is de-tokenised before it is counted. Published zero-shot perplexities of WikiText, PTB or
# 1BW are per word of the original text, and files of these sets hold a tokenised form of it.
DENOMINATORS = {
  'loss': 'tokens that were predicted',
  'perplexity': 'tokens that were predicted',
  'word_perplexity': 'words, which is what stands between spaces and line breaks',
  'bits_per_byte': 'bytes of UTF-8',
}


def text_metrics(name: str, loss: float, counts: dict[str, int]) -> dict[str, float]:
  """Returns loss, perplexity, perplexity per word, and bits per byte.

  A perplexity that no float holds, as per word of a text without spaces, is left out.

  Args:
    name: prefix of the metrics.
    loss: nats per predicted token. Where the first token is not predicted, words and bytes share
      the nats of all tokens as if it had the mean of the others.
    counts: numbers of tokens, words and bytes of the text.
  """
  nats = loss * counts['tokens']
  exponents = {'perplexity': loss, 'word_perplexity': nats / max(counts['words'], 1)}
  for kind, exponent in exponents.items():
    if exponent >= LARGEST_EXPONENT:
      logging.warning('%s/%s: e^%.4g is beyond all floats and left out', name, kind, exponent)
  return {
    f'{name}/loss': loss,
    **{f'{name}/{kind}': math.exp(x) for kind, x in exponents.items() if x < LARGEST_EXPONENT},
    f'{name}/bits_per_byte': nats / max(counts['bytes'], 1) / math.log(2),
  }


def accuracies(name: str, nats: Sequence[np.ndarray], answers: Sequence[int]) -> dict[str, float]:
  """Returns the share of questions whose answer has the fewest nats, and its standard error.

  The error is that of a mean, by the sample's variance; 0 for a single question.

  Args:
    name: of the metric.
    nats: `[choices]` of each question; of equal ones the first is chosen.
    answers: the index of each right choice.
  """
  right = np.array([each.argmin() == answer for each, answer in zip(nats, answers, strict=True)])
  accuracy = float(right.mean())
  error = math.sqrt(accuracy * (1 - accuracy) / max(len(right) - 1, 1))
  return {f'choices/{name}': accuracy, f'choices/{name}_stderr': error}


@dataclasses.dataclass(frozen=True)
class Scorer:
  """Scores texts with one language model.

  Attributes:
    loss: of a task, whose metric `loss` is (nats, tokens) of a batch of `TextData`.
    data: gives the tokenizer, the block and the batch size.
    variables: the network's.
    mesh: where it runs.
  """

  loss: Callable[..., Any]
  data: TextData
  variables: Variables
  mesh: Mesh

  # -------- what can be asked --------

  def split(self, stride: int = 0) -> Result:
    """Scores the evaluation split: by rows as in training, or by windows that move by `stride`.

    The latter give `val_strided/loss` and so on, another number than a paper's rows.

    Args:
      stride: in tokens; 0: rows.

    Raises:
      UserError: rows are packed documents, which have no windows, or the stride is out of range.
    """
    data, split = self.data, self.data.eval_split
    about = {'split': split, 'packing': data.packing, 'block_size': data.block_size}
    if stride and data.packing != 'stream':
      raise UserError(f'--stride={stride}: windows are of data.packing=stream, not {data.packing}')
    with user_errors():
      counts, name = data.tokens(split).counts, 'val_strided' if stride else 'val'
      batches = data.eval_batches(split, mesh_lib.batch_sharding(self.mesh))
    if stride:
      about['stride'] = stride
      loss, predicted = self.strided(data.tokens(split).stream, stride, split)
    else:
      loss, predicted = self.mean(batches, split)
    text = {**about, **counts, 'predicted': predicted}
    return text_metrics(name, loss, counts), self.metadata(text=text)

  def text(self, path: str, stride: int = 0) -> Result:
    """Scores a file's text by windows that move by `stride` tokens.

    Each token is predicted once, from more than block_size - stride tokens before it wherever the
    text has them; the first from the end-of-text token, without which it is not predicted.

    Args:
      path: a text file.
      stride: in tokens; 0: half a block.

    Raises:
      UserError: the file cannot be read or encoded, or the stride is out of range.
    """
    stride = stride or max(1, self.data.block_size // 2)
    with user_errors():
      stream, counts = evaluation.read_text(path, self.data.tokenizer)
    loss, predicted = self.strided(stream, stride, path)
    given = 'the end of a document' if predicted == counts['tokens'] else "the text's first token"
    about = {'file': path, 'block_size': self.data.block_size, 'stride': stride, **counts}
    text = {**about, 'predicted': predicted, 'given': given}
    return text_metrics('text', loss, counts), self.metadata(text=text)

  def choices(self, path: str) -> Result:
    """Scores answers: the accuracy of choosing by likelihood, and by likelihood per byte.

    They are `acc` and `acc_norm` of lm-evaluation-harness (github.com/EleutherAI), which counts
    characters in place of bytes. `choices/chance` is the accuracy of choosing blindly.

    Args:
      path: a file of questions, one JSON object a line.

    Raises:
      UserError: the file cannot be read or encoded, or a likelihood is not finite.
    """
    data = self.data
    with user_errors():
      questions = evaluation.read_questions(path)
      encoded = [evaluation.encode_choices(x, data.tokenizer, data.block_size) for x in questions]
    flat = [choice for each in encoded for choice in each]
    nats = np.split(self.nats(flat, path), np.cumsum([len(each) for each in encoded])[:-1])
    sizes = [np.array([len(choice.encode()) for choice in x.choices]) for x in questions]
    answers = [x.answer for x in questions]
    metrics = {
      **accuracies('accuracy', nats, answers),
      **accuracies('accuracy_norm', list(map(np.divide, nats, sizes)), answers),
      'choices/chance': float(np.mean([1 / len(each) for each in sizes])),
    }
    about = {'file': path, 'block_size': data.block_size, 'questions': len(questions)}
    about |= {'choices': len(flat), 'shortened': sum(choice.num_truncated > 0 for choice in flat)}
    return metrics, self.metadata(choices=about)

  # -------- how --------

  def strided(self, stream: np.ndarray, stride: int, where: str) -> tuple[float, int]:
    """Returns `mean` over windows of a stream of tokens `[N]`, those of the text `where`."""
    if not 1 <= stride <= self.data.block_size:
      raise UserError(
        f'--stride={stride}: must be from 1 to data.block_size, which is {self.data.block_size}'
      )
    with self.batches(StridedWindows(stream, self.data.block_size, stride)) as batches:
      return self.mean(batches, where)

  def mean(self, batches: Batches, where: str) -> tuple[float, int]:
    """Returns nats per token, added up in float64, and the number of tokens.

    Raises:
      UserError: a loss is not finite; the text `where` is named.
    """
    measure = jax.jit(self.sums)
    sums = [jax.device_get(measure(self.variables, batch)) for batch in self.with_progress(batches)]
    nats, tokens = np.asarray(sums, np.float64).T
    if bad := np.count_nonzero(~np.isfinite(nats)):
      raise UserError(
        f'{where}: the network gives no finite loss in {bad} of {len(nats)} batches, the first is'
        f' number {np.flatnonzero(~np.isfinite(nats))[0] + 1}'
      )
    return float(nats.sum() / tokens.sum()), round(tokens.sum())

  def nats(self, choices: Sequence[evaluation.Choice], where: str = 'choices') -> np.ndarray:
    """Returns `[choices]`: the nats of each choice of the file `where`, given its context."""
    measure = jax.jit(self.row_nats, out_shardings=mesh_lib.replicated(self.mesh))
    found = np.zeros(len(choices))
    for length, which in evaluation.length_buckets(choices, self.data.block_size).items():
      with self.batches(evaluation.PaddedChoices([choices[i] for i in which], length)) as batches:
        rows = [
          jax.device_get(measure(self.variables, batch)) for batch in self.with_progress(batches)
        ]
      found[which] = np.concatenate(rows)[: len(which)]
    if bad := np.count_nonzero(~np.isfinite(found)):
      raise UserError(
        f'{where}: the network gives {bad} of {len(found)} choices no finite likelihood'
      )
    return found

  def sums(self, variables: Variables, batch: Batch) -> tuple[Array, Array]:
    """Returns nats and tokens of a batch."""
    return self.loss(variables, batch, jax.random.key(0), train=False)[1][1]['loss']

  def row_nats(self, variables: Variables, batch: Batch) -> Array:
    """Returns the nats of each row `[B]`; each is a batch of its own, so that a loss is enough."""

    def of_row(row: Batch) -> Array:
      return self.sums(variables, jax.tree.map(lambda x: x[None], row))[0]

    return jax.vmap(of_row)(batch)

  def batches(self, rows: Rows) -> contextlib.AbstractContextManager[Batches]:
    """Returns a context in which the rows are read in batches."""
    sharding = mesh_lib.batch_sharding(self.mesh)
    return evaluation.batches(rows, sharding, self.data.eval_batch_size)

  def with_progress(self, batches: Batches) -> Iterator[Batch]:
    """Yields the batches, with a progress bar on a terminal."""
    data, show = self.data, mesh_lib.is_main()
    size = data.eval_batch_size * data.block_size
    with contextlib.closing(Progress(len(batches), size, unit='tokens', show=show)) as progress:
      for number, batch in enumerate(batches, 1):
        yield batch
        progress.update(number)

  def metadata(self, **more: Any) -> dict[str, Any]:
    """Returns what makes the metrics comparable, for `eval.json`."""
    return {'tokenizer': self.data.tokenizer.name, 'denominators': DENOMINATORS, **more}
