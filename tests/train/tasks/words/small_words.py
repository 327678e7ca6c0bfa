"""A text in which some words are alike, and Word2Vec of it, small enough for a second."""

import numpy as np
import pytest

from data.text.words.source import WordData
from train.tasks.words.task import Words

MODEL = {'name': 'word2vec', 'width': 8, 'window': 2, 'block': 8, 'shared': 8}
PAIRS = (('king', 'man'), ('queen', 'woman'), ('prince', 'boy'), ('princess', 'girl'))


def sentences(count=400, seed=0):
  """Lines in which the first word of a pair stands by 'royal', and both by a word of their own."""
  rng = np.random.default_rng(seed)
  for i in rng.integers(len(PAIRS), size=count):
    royal, plain = PAIRS[i]
    yield f'the {royal} is royal x{i} y{i}' if rng.random() < 0.5 else f'a {plain} was x{i} y{i}'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def text(tmp_path):
  (tmp_path / 'text.txt').write_text('\n'.join(sentences()) + '\n')
  return str(tmp_path / 'text.txt')


@pytest.fixture
def task(text):
  """Of a file's text, by options of the model, the data and the task."""
  made = []

  def make(model=(), data=(), **options):
    settings = {'min_count': 1, 'chunk': 64, 'batch_size': 8, 'sample': 0.0, **dict(data)}
    made.append(Words({**MODEL, **dict(model)}, WordData(text, **settings), **options))
    return made[-1]

  yield make
  for each in made:
    each.close()


def config(text, **sections):
  """Returns a config of a run in a second."""
  found = {
    'task': {'name': 'words', 'words': ('king', 'man')},
    'model': MODEL,
    'data': {
      **{'name': 'words', 'dataset': text, 'min_count': 1, 'chunk': 64, 'batch_size': 8},
      **{'sample': 0.0},
    },
    'optimizer': {
      **{'name': 'sgd', 'momentum': 0.0, 'learning_rate': 0.1, 'schedule': 'linear'},
      **{'final_learning_rate': 1e-5},
    },
    'train': {'steps': 12, 'log_every': 2, 'checkpoint_every': 4, 'best': 'text/loss'},
  }
  return {name: {**section, **sections.get(name, {})} for name, section in found.items()}
