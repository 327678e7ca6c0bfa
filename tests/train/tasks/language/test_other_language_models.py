"""A network of logits alone is trained, evaluated and sampled from as GPT is."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import models
from data.text.source import TextData
from models.gpt import UncachedLanguageModel
from models.gpt.generation import generate
from models.gpt.sampling import Sampling
from train import mesh as mesh_lib
from train.errors import UserError
from train.step import init_state, make_step
from train.tasks.language.task import Language

TEXT = 'abcdefgh' * 200


class Bigram(UncachedLanguageModel):
  """Logits of the next token from a row of a table for the last one."""

  @nn.compact
  def __call__(self, tokens, *, train=False, segments=None):
    return nn.Embed(self.vocab_size, self.vocab_size, name='table')(tokens)


class Sum(UncachedLanguageModel):
  """Names the token that is the sum of all tokens before it, modulo the vocabulary."""

  @nn.compact
  def __call__(self, tokens, *, train=False, segments=None):
    return 10.0 * jax.nn.one_hot(tokens.cumsum(-1) % self.vocab_size, self.vocab_size)


@pytest.fixture
def language(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setitem(models.MODELS._entries, 'bigram', models.Entry(f'{__name__}:Bigram'))
  (tmp_path / 'text.txt').write_text(TEXT)
  data = TextData(str(tmp_path / 'text.txt'), tokenizer='characters', block_size=16, batch_size=8)
  task = Language({'name': 'bigram', 'block_size': 32}, data, sample_tokens=12, prompt='c')
  yield task
  task.close()


def test_a_bigram_learns_the_alphabet_and_writes_it(language):
  mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  tx = optax.adam(0.3)
  with mesh_lib.activate(mesh):
    state, shardings = init_state(language, tx, 0, mesh)
    step, source = make_step(language, tx, shardings), language.source('train', mesh, 0)
    for i in range(40):
      state, _ = step(state, source.next((), i, None)[1])
  variables = {'params': state.params}
  assert language.examine([variables], mesh)[0]['val/loss'] < 0.1
  text = language.draw(variables, jax.random.key(0))['sample.txt'].decode()
  assert text == 'cdefghabcdefg'
  assert language.flops is None


def test_texts_without_a_cache_are_those_of_whole_windows():
  """Prompts of unequal lengths, beyond the block: each is predicted from its own window."""
  model, greedy = Sum(vocab_size=7, block_size=8), Sampling(temperature=0.0)
  prompts = [[1], [2, 3, 4], [1, 2, 3, 4, 5, 6, 6, 5, 4]]
  blocks = generate(model, {}, prompts, jax.random.key(0), max_tokens=15, sampling=greedy)
  for prompt, row in zip(prompts, np.concatenate(list(blocks), 1).tolist(), strict=True):
    window, wanted = prompt[-8:], []
    for _ in range(15):
      window = window[-4:] if len(window) > 8 else window
      wanted.append(sum(window) % 7)
      window = [*window, wanted[-1]]
    assert row == wanted


def test_a_network_without_a_vocabulary_is_refused(language):
  with pytest.raises(UserError, match=r"model.name='lenet5': missing a required argument"):
    Language({'name': 'lenet5'}, language.data)
