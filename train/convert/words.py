"""Vectors of words in word2vec's formats, read and written."""

import os
import pathlib
from typing import Any

import numpy as np

from data.text.words import vectors
from data.text.words.vocabulary import Vocabulary
from models.weights.files import Files
from train import verbs
from train.convert.format import Converted
from train.errors import UserError
from train.tasks.words import neighbours
from train.workdir import free_path

BINARY = '.bin'


def is_word2vec(files: Files) -> bool:
  """Returns whether a file holds word2vec's vectors, text or binary."""
  return files.path.is_file() and vectors.is_vectors(files.path)


def from_word2vec(files: Files) -> Converted:
  """Returns a file's vectors as a model, whose second table is not in such files: it is zero."""
  words, rows = vectors.read(files.path)
  # By rank, where no counts are kept: sums and negatives need some that fall.
  counts = 5 * len(words) // np.arange(1, len(words) + 1)
  config: dict[str, Any] = {
    'task': {'name': 'words', 'words': ()},
    'model': {'name': 'word2vec', 'width': rows.shape[1]},
    'data': {'name': 'words', 'lower': all(word == word.lower() for word in words)},
    'optimizer': {'name': 'sgd', 'momentum': 0.0, 'learning_rate': 0.025},
    'train': {'steps': 100, 'best': 'text/loss'},
    'paper': {'title': 'imported vectors', 'metric': 'analogies/accuracy'},
  }
  params = {'input': rows, 'output': np.zeros_like(rows)}
  summary = f'{len(words):,} words of {rows.shape[1]} dimensions'
  return Converted(config, {'params': params}, summary, tokenizer=Vocabulary(words, counts))


def export_word2vec(workdir: str, path: str, step: int | str = 'latest') -> None:
  """Writes a run's vectors in word2vec's format: binary if the name ends with .bin, else text.

  Args:
    workdir: of a run of task `words`.
    path: the file; it must not be there.
    step: the checkpoint's, or 'latest', 'best'.

  Raises:
    UserError: there is such a file, it cannot be written, or the run has no vectors of words.
  """
  name = verbs.read_config(workdir)['task']['name']
  if name != 'words':
    raise UserError(f'{workdir}: task.name={name!r}; only vectors of words are exported')
  if os.path.lexists(path):
    raise UserError(f'{path}: is there already; another name, such as {free_path(path)}')
  run = verbs.load_run(workdir, step)
  task: Any = run.task
  rows = neighbours.table_of(run.variables)
  unfinished = pathlib.Path(f'{path}.unfinished')
  try:
    vectors.write(unfinished, task.data.vocabulary.words, rows, binary=path.endswith(BINARY))
    unfinished.rename(path)
  except OSError as error:
    raise UserError(f'{path}: cannot be written: {error.strerror}') from error
  finally:
    unfinished.unlink(missing_ok=True)
  kind = 'binary' if path.endswith(BINARY) else 'text'
  print(f"{path}: {len(rows):,} vectors of step {run.step} of {workdir}, word2vec's {kind} format")
