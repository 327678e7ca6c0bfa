"""Task `words`: Word2Vec learns a vector for each word from the words around it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

import models
import models.summary
from data.text.words import questions
from data.text.words.source import WordData
from models import word2vec, word2vec_steps
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.step import make_eval
from train.task import Batch, Metrics, Source, Task, Variables
from train.tasks.words import evaluate
from train.tasks.words import map as map_lib
from train.tasks.words import neighbours as near

Evaluation = Callable[[Variables], Mapping[str, float]]


class Words(Task):
  """The task `words`. A step takes a hundred small ones in place, since each touches few rows.

  Args:
    model: the config's section; a `models.word2vec.Word2Vec`.
    data: the text as numbers of words, with its vocabulary.
    analogies: a file of questions to evaluate on, such as questions-words.txt; '': none.
    words: whose neighbours are listed and drawn at each evaluation; those that are not in the
      vocabulary are left out.

  Raises:
    UserError: the model is not Word2Vec, or the file of questions is not there.
  """

  updates_itself = True

  def __init__(
    self,
    model: Mapping[str, Any],
    data: WordData,
    *,
    analogies: str = '',
    words: tuple[str, ...] = ('list', 'error', 'import'),
  ):
    self.data, self.words = data, words
    self.analogies, self._table = analogies, ''
    with user_errors():
      built = models.build(**{**model, 'vocab_size': data.vocab_size})
    if not isinstance(built, word2vec.Word2Vec):
      raise UserError(f'model.name={model["name"]!r}: task words trains word2vec alone')
    self.model = built

  @property
  def batch_size(self) -> int:
    """Chunks in a training batch."""
    return self.data.batch_size

  @property
  def metrics(self) -> Sequence[str]:
    """What `evals` report."""
    names = ('accuracy', 'semantic', 'syntactic', 'questions')
    return [f'analogies/{name}' for name in names] if self.analogies else ['text/loss']

  @property
  def throughput(self) -> tuple[str, int]:
    """What rates count, and how many of it a batch has: words of the text, read or left out."""
    return 'words', self.data.batch_size * self.data.chunk

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
    """Returns the tables: small random vectors, and zeros."""
    return self.model.init(key)

  @functools.cached_property
  def draws(self) -> word2vec.Draws:
    """What the objective needs to know of the vocabulary."""
    vocabulary = self.data.vocabulary
    none = np.zeros((len(vocabulary.words), 0), np.int32)
    paths = vocabulary.huffman() if self.model.hierarchical else (none, none.astype(bool))
    read = vocabulary.counts * vocabulary.keep(self.data.sample)
    share, noise = read / max(1.0, read.sum()), vocabulary.negatives()
    return word2vec.draws_of(self.model, share, noise, paths, self.data.batch_size)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the mean nats a prediction, all with the same tables; training takes `update`.

    Args:
      variables: the tables.
      batch: see `data.text.words.source`.
      key: of windows and negatives.
      train: has no effect.
    """
    del train
    found = word2vec_steps.chunks(self.model, self.draws, batch, key)
    tables = dict(variables['params'])
    total, weight = word2vec_steps.loss(self.model, self.draws, tables, found)
    return total / jax.numpy.maximum(weight, 1), ({}, {'loss': (total, weight)})

  def update(
    self, params: Any, batch: Batch, key: Array, rate: Array, axis: str | None
  ) -> tuple[Any, Metrics]:
    """Returns the tables after a step for each block of the chunks, and metrics.

    `loss` is the mean over blocks, each with the tables of its time; `grad_norm` the root of the
    sum of the squares of all blocks' gradients.
    """
    gather = functools.partial(lax.all_gather, axis_name=axis, axis=0, tiled=True)
    found = word2vec_steps.chunks(self.model, self.draws, batch, key)
    tables, *sums = word2vec_steps.train(
      *(self.model, self.draws, dict(params), found, rate), *([gather] if axis else [])
    )
    nats, count, squares = lax.psum(sums, axis) if axis else sums
    one = jax.numpy.ones(())
    return tables, {'loss': (nats, count), 'grad_norm': (jax.numpy.sqrt(squares), one)}

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the stream of training batches."""
    if split != 'train':
      raise ValueError(f'split {split!r}: there is only train')
    return cast(Source, self.data.train_source(seed, mesh_lib.batch_sharding(mesh)))

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns 'analogies', if there is a file of them; else 'text', the loss of some chunks."""
    if not self.analogies:
      with user_errors():
        batches = self.data.eval_batches(mesh_lib.batch_sharding(mesh))
      measure = make_eval(self)
      return {'text': lambda variables: measure(variables, batches)}
    sections = self._questions(self.analogies)

    def ask(variables: Variables) -> Mapping[str, float]:
      answers = evaluate.analogies(self.vectors(variables), sections, self.analogies)
      self._table = evaluate.table(answers)  # for `draw`, which follows
      return evaluate.metrics(answers)

    # At once, so that a text without these words fails before it is trained on.
    evaluate.answerable(self.data.vocabulary, sections, self.analogies)
    return {'analogies': ask}

  def vectors(self, variables: Variables) -> near.Vectors:
    """Returns the vectors of the words."""
    return near.of(variables, self.data.vocabulary, lower=self.data.lower)

  def _questions(self, path: str) -> list[questions.QuestionSection]:
    with user_errors():
      return questions.read_analogies(path, lower=self.data.lower)

  def examine(
    self,
    ensemble: Sequence[Variables],
    mesh: Mesh,
    *,
    analogies: str | None = None,
    similarities: str | None = None,
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Measures the accuracy of analogies by section, and the correlation with similarities.

    Args:
      ensemble: one run's variables.
      mesh: where they are.
      analogies: a file of questions, in place of the config's.
      similarities: a file of pairs of words.

    Returns:
      Metrics, the sections for `eval.json`, and no arrays.

    Raises:
      UserError: there are several runs, or a file does not fit.
    """
    if len(ensemble) > 1:
      raise UserError(f'{len(ensemble)} workdirs: vectors of words are evaluated one by one')
    vectors, path = self.vectors(ensemble[0]), analogies or (self.analogies * (not similarities))
    found: dict[str, float] = {}
    about: dict[str, Any] = {}
    if similarities:
      with user_errors():
        pairs = questions.read_similarities(similarities, lower=self.data.lower)
      each, _ = evaluate.similarities(vectors, pairs, similarities)
      found |= {f'similarities/{name}': value for name, value in each.items()}
    if path:
      answers = evaluate.analogies(vectors, self._questions(path), path)
      found |= {f'analogies/{name}': value for name, value in evaluate.metrics(answers).items()}
      about['sections'] = {x.section.name: [x.right, x.asked] for x in answers}
      about['table'] = evaluate.table(answers)
      if mesh_lib.is_main():
        print(about['table'])
    if not found:
      with mesh_lib.activate(mesh):
        measured = self.evals(mesh)['text'](ensemble[0])
      found |= {f'text/{name}': value for name, value in measured.items()}
    return found, about, {}

  def draw(self, variables: Variables, key: Array) -> dict[str, bytes]:
    """Returns the neighbours of the config's words, their map, and the table of analogies."""
    del key
    vectors = self.vectors(variables)
    words = near.known(vectors, self.words)
    files = {'analogies.txt': self._table.encode()} if self._table else {}
    if not words:
      return files
    text = near.table(vectors, words)
    return {'neighbours.txt': text.encode(), **files, 'map.png': map_lib.draw(vectors, words)}

  def sample(
    self,
    variables: Variables,
    folder: str,
    *,
    word: Sequence[str] = (),
    plus: Sequence[str] = (),
    minus: Sequence[str] = (),
    top: int = 10,
  ) -> None:
    """Lists the nearest words to stdout, and adds them to `neighbours.txt` (verb sample).

    Args:
      variables: the tables.
      folder: where the file is.
      word: whose neighbours are listed, one list each; those of the config, if none is given.
      plus: added to the words, which then make one list.
      minus: taken away, likewise.
      top: how many neighbours.

    Raises:
      UserError: a word is not in the vocabulary.
    """
    vectors = self.vectors(variables)
    added = [*word, *plus]
    if minus and not added:
      raise UserError(f'--minus={minus[0]}: give a word to take it from, as --word=king')
    if plus or minus:
      lists = [near.listing(vectors, added, minus, top)]
    else:
      lists = [
        near.listing(vectors, [x], (), top) for x in added or near.known(vectors, self.words)
      ]
    if not lists:
      raise UserError('sample: give --word=WORD; none of task.words is in the vocabulary')
    text = '\n'.join(lists)
    print(text, end='')
    near.keep(folder, text)
