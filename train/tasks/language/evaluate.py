"""How likely a language model finds a text, and which of several answers it finds the likeliest.

Perplexities and losses can only be compared with the same tokenizer, windows and denominators; all
of these are in the facts that come with the metrics.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from data.text import evaluation
from data.text.rows import Rows, StridedWindows
from data.text.source import TextData
from train import mesh as mesh_lib
from train.config import UserError, user_errors
from train.logging.progress import Progress
from train.task import Batch, Batches, Variables

Found = tuple[dict[str, float], dict[str, Any]]  # metrics, and facts for eval.json

# No text is changed before it is counted. Published zero-shot perplexities of WikiText, PTB or 1BW
# are a word of the original text, of which a file of these sets holds the tokenised form.
DENOMINATORS = {
  'loss': 'tokens that were predicted',
  'perplexity': 'tokens that were predicted',
  'word_perplexity': 'words, which is what stands between spaces and line breaks',
  'bits_per_byte': 'bytes of UTF-8',
}


def text_metrics(name: str, loss: float, counts: dict[str, int]) -> dict[str, float]:
  """loss: nats a predicted token. A word and a byte get their part of all tokens of the text.

  That part is by the mean of the predicted ones, where the first token is not among these.
  """
  nats = loss * counts['tokens']
  return {
    f'{name}/loss': loss,
    f'{name}/perplexity': exponential(loss),
    f'{name}/word_perplexity': exponential(nats / max(counts['words'], 1)),
    f'{name}/bits_per_byte': nats / max(counts['bytes'], 1) / math.log(2),
  }


def exponential(x: float) -> float:
  """Infinite where floats end, as for words of a text that has no spaces."""
  return math.exp(x) if x < 709 else math.inf


def accuracies(name: str, nats: Sequence[np.ndarray], answers: Sequence[int]) -> dict[str, float]:
  """The share of questions whose answer has the fewest nats, and its standard error.

  nats: [choices] of each question; of equal ones the first is chosen. The error is that of a mean,
  by the sample's variance; 0 for one question, of which it can say nothing.
  """
  right = np.array([each.argmin() == answer for each, answer in zip(nats, answers, strict=True)])
  accuracy = float(right.mean())
  error = math.sqrt(accuracy * (1 - accuracy) / max(len(right) - 1, 1))
  return {f'choices/{name}': accuracy, f'choices/{name}_stderr': error}


@dataclasses.dataclass(frozen=True)
class Scorer:
  """What is scored, and where.

  loss: of a task, whose metric `loss` is (nats, tokens) of a batch of `TextData`.
  data: gives the tokenizer, the block and the batch size.
  """

  loss: Callable[..., Any]
  data: TextData
  variables: Variables
  mesh: Mesh

  # -------- what can be asked --------

  def split(self, stride: int = 0) -> Found:
    """The evaluation split: by rows as in training, or by windows that move by `stride` tokens.

    The latter are `val_strided/loss` and so on: a paper's number may be of the former.
    """
    data, split = self.data, self.data.eval_split
    facts = {'split': split, 'packing': data.packing, 'block_size': data.block_size}
    if stride and data.packing != 'stream':
      raise UserError(f'--stride={stride}: windows are of data.packing=stream, not {data.packing}')
    counts, name = data.tokens(split).counts, 'val_strided' if stride else 'val'
    if stride:
      facts['stride'] = stride
      loss, predicted = self.strided(data.tokens(split).stream, stride)
    else:
      loss, predicted = self.mean(data.eval_batches(split, mesh_lib.batch_sharding(self.mesh)))
    text = {**facts, **counts, 'predicted': predicted}
    return text_metrics(name, loss, counts), self.facts(text=text)

  def text(self, path: str, stride: int = 0) -> Found:
    """A file's text by windows that move by `stride` tokens, 0 for half a block.

    Each token is predicted once, from more than block_size - stride tokens before it wherever the
    text has them; the first from the end of a document, without which it is not predicted.
    """
    stride = stride or max(1, self.data.block_size // 2)
    with user_errors():
      stream, counts = evaluation.read_text(path, self.data.tokenizer)
    loss, predicted = self.strided(stream, stride)
    given = 'the end of a document' if predicted == counts['tokens'] else "the text's first token"
    facts = {'file': path, 'block_size': self.data.block_size, 'stride': stride, **counts}
    text = {**facts, 'predicted': predicted, 'given': given}
    return text_metrics('text', loss, counts), self.facts(text=text)

  def choices(self, path: str) -> Found:
    """The accuracy of choosing by likelihood, and by likelihood to the power of 1 / bytes.

    They are `acc` and `acc_norm` of lm-evaluation-harness (github.com/EleutherAI), which counts
    characters. `choices/chance` is the accuracy of choosing blindly.
    """
    data = self.data
    with user_errors():
      questions = evaluation.read_questions(path)
      encoded = [evaluation.encode_choices(x, data.tokenizer, data.block_size) for x in questions]
    flat = [choice for each in encoded for choice in each]
    nats = np.split(self.nats(flat), np.cumsum([len(each) for each in encoded])[:-1])
    sizes = [np.array([len(choice.encode()) for choice in x.choices]) for x in questions]
    answers = [x.answer for x in questions]
    metrics = {
      **accuracies('accuracy', nats, answers),
      **accuracies('accuracy_norm', list(map(np.divide, nats, sizes)), answers),
      'choices/chance': float(np.mean([1 / len(each) for each in sizes])),
    }
    facts = {'file': path, 'block_size': data.block_size, 'questions': len(questions)}
    facts |= {'choices': len(flat), 'shortened': sum(choice.num_truncated > 0 for choice in flat)}
    return metrics, self.facts(choices=facts)

  # -------- how --------

  def strided(self, stream: np.ndarray, stride: int) -> tuple[float, int]:
    """`mean` over windows of a stream [N]."""
    if not 1 <= stride <= self.data.block_size:
      raise UserError(
        f'--stride={stride}: must be from 1 to data.block_size, which is {self.data.block_size}'
      )
    with self.batches(StridedWindows(stream, self.data.block_size, stride)) as batches:
      return self.mean(batches)

  def mean(self, batches: Batches) -> tuple[float, int]:
    """Nats a token, added up in float64, and how many tokens that is of."""
    measure = jax.jit(self.sums)
    sums = [jax.device_get(measure(self.variables, batch)) for batch in self.shown(batches)]
    nats, tokens = np.asarray(sums, np.float64).sum(0)
    return float(nats / tokens), round(tokens)

  def nats(self, choices: Sequence[evaluation.Choice]) -> np.ndarray:
    """[choices], of what is not given of each."""
    measure = jax.jit(self.row_nats, out_shardings=mesh_lib.replicated(self.mesh))
    found = np.zeros(len(choices))
    for length, which in evaluation.length_buckets(choices, self.data.block_size).items():
      with self.batches(evaluation.PaddedChoices([choices[i] for i in which], length)) as batches:
        rows = [jax.device_get(measure(self.variables, batch)) for batch in self.shown(batches)]
      found[which] = np.concatenate(rows)[: len(which)]
    if not np.isfinite(found).all():
      raise UserError('choices: the network gives some of them no finite likelihood')
    return found

  def sums(self, variables: Variables, batch: Batch) -> tuple[Array, Array]:
    """Nats and tokens of a batch."""
    return self.loss(variables, batch, jax.random.key(0), train=False)[1][1]['loss']

  def row_nats(self, variables: Variables, batch: Batch) -> Array:
    """[B]; a row is a batch of its own, so that nobody has to offer more than a loss."""

    def of_row(row: Batch) -> Array:
      return self.sums(variables, jax.tree.map(lambda x: x[None], row))[0]

    return jax.vmap(of_row)(batch)

  def batches(self, rows: Rows) -> contextlib.AbstractContextManager[Batches]:
    sharding = mesh_lib.batch_sharding(self.mesh)
    return evaluation.batches(rows, sharding, self.data.eval_batch_size)

  def shown(self, batches: Batches) -> Iterator[Batch]:
    """The batches, with a bar on a terminal."""
    data, show = self.data, mesh_lib.is_main()
    size = data.eval_batch_size * data.block_size
    with contextlib.closing(Progress(len(batches), size, unit='tokens', show=show)) as progress:
      for number, batch in enumerate(batches, 1):
        yield batch
        progress.update(number)

  def facts(self, **more: Any) -> dict[str, Any]:
    return {'tokenizer': self.data.tokenizer.name, 'denominators': DENOMINATORS, **more}
