"""A tiny GPT with its data, texts and questions for it, and its likelihoods by a plain loop."""

import functools
import json

import jax
import numpy as np
import pytest

from data.text.source import TextData
from train import mesh as mesh_lib
from train.tasks.language.task import Language

TEXT = 'to be, or not to be: that is the question.\n' * 20
OTHER = 'that is not\nthe question, or is it not to be?'.replace('?', '.')
T = 16
MODEL = {'name': 'gpt', 'layers': 1, 'heads': 2, 'width': 16, 'block_size': T}
QUIZ = [
  {'context': 'to be', 'choices': [', or', ': that', '.'], 'answer': 1},
  {'context': 'is that the ', 'choices': ['question', 'not'], 'answer': 0, 'from': 'nowhere'},
  {'context': TEXT[:40], 'choices': ['to', 'be: that is', 'or'], 'answer': 2},
  '',
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def file(tmp_path):
  """Writes a text, or questions as dicts, and gives the path."""

  def write(content, name='given.txt'):
    if isinstance(content, list):
      content = '\n'.join(x if isinstance(x, str) else json.dumps(x) for x in content)
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(raw)
    return str(tmp_path / name)

  return write


@pytest.fixture
def data(file):
  made = []

  def make(**options):
    options = {'tokenizer': 'characters', 'block_size': T, 'eval_batch_size': 8, **options}
    made.append(TextData(file(TEXT, 'trained on.txt'), **options))
    return made[-1]

  yield make
  for each in made:
    each.close()


@pytest.fixture
def network(data):
  """A tiny GPT with weights drawn at random, so large that its guesses differ."""

  def make(**options):
    language = Language(MODEL, data(**options))
    fresh = mesh_lib.unbox(language.init(jax.random.key(0)))
    return language, jax.tree.map(lambda x: 3 * x, fresh)

  return make


def one_device():
  return mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])


def examine(language, variables, mesh=None, **options):
  return language.examine([variables], mesh or one_device(), **options)[:2]


def nats_of(language, variables, tokens):
  """[n - 1], of each token given all before it: one row, no padding."""
  logits = logits_of(language.model, variables, np.asarray(tokens, np.int32)[None, :-1])[0]
  return -np.asarray(jax.nn.log_softmax(logits))[np.arange(len(tokens) - 1), tokens[1:]]


@functools.partial(jax.jit, static_argnames='model')
def logits_of(model, variables, tokens):
  return model.apply(variables, tokens)
