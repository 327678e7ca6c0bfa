"""A small GPT-2 with its tokenizer as public weights, as a workdir, and its fine-tuning."""

import jax
import numpy as np
import pytest

from data.text import tokenizers
from models.gpt import GPT, huggingface, unboxed
from train import config as config_lib
from train import convert, verbs

TEXT = 'the cat sat on the mat and the dog sat on the cat; so it goes.\n' * 40
MODEL = GPT(300, block_size=32, layers=2, heads=2, width=16, dropout=0.1)
BPE = tokenizers.train_bpe([TEXT, 'and so on, until the end of it all, which is not here. '], 300)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.delenv('GPT2_BPE_DIR', raising=False)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))


@pytest.fixture
def text(tmp_path):
  (tmp_path / 'text.txt').write_text(TEXT)
  return str(tmp_path / 'text.txt')


def random_variables(model, seed=0):
  shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2), np.int32))
  draw = np.random.default_rng(seed)
  leaf = lambda x: 0.2 * draw.normal(size=x.shape).astype('f4')  # noqa: E731
  return jax.tree.map(leaf, unboxed(shapes))


@pytest.fixture
def folder(tmp_path):
  """A small GPT-2 with its tokenizer, in Hugging Face's layout."""
  huggingface.to_hf(MODEL, random_variables(MODEL), tmp_path / 'hf')
  BPE.save(tmp_path / 'hf')
  return str(tmp_path / 'hf')


@pytest.fixture
def workdir(folder, tmp_path):
  convert.import_weights(folder, str(tmp_path / 'run'))
  return str(tmp_path / 'run')


def config_of(workdir, **overrides):
  config = verbs.read_config(workdir)
  for key, value in overrides.items():
    config = config_lib.override(config, key.replace('__', '.'), str(value))
  return verbs.complete_config(config)


def tune(workdir, text, steps=5, **overrides):
  settings = {
    'data__dataset': text,
    'train__steps': steps,
    'train__log_every': 1,
    'optimizer__learning_rate': 1e-2,
    'optimizer__warmup_steps': 0,
    **overrides,
  }
  verbs.train(config_of(workdir, **settings), workdir)


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)
