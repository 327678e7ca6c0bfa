"""Fine-tuning of public weights: it begins with them, resumes, and keeps what they are."""

import dataclasses
import json
import pathlib
import shutil

import jax
import pytest

from tests.train.tasks.language import small_gpt2 as small
from tests.train.tasks.language.small_gpt2 import assert_same, config_of, tune
from train import verbs
from train.errors import UserError

pytestmark = pytest.mark.usefixtures('one_device')
cache, text, folder, workdir = small.cache, small.text, small.folder, small.workdir  # fixtures


def losses(workdir):
  lines = map(json.loads, pathlib.Path(workdir, 'metrics.jsonl').read_text().splitlines())
  return [line['train/loss'] for line in lines if 'train/loss' in line]


@pytest.mark.long
def test_fine_tuning_learns_and_resumes_to_the_same_bits(workdir, text, tmp_path, monkeypatch):
  straight, broken = workdir, str(tmp_path / 'broken')
  shutil.copytree(workdir, broken)
  tune(straight, text)
  seen = losses(straight)
  assert seen[0] > seen[-1] and len(seen) == 5
  real = verbs.Loop.run

  def until_three(self, *args, **kwargs):
    real(dataclasses.replace(self, steps=3), *args, **kwargs)

  with monkeypatch.context() as patch:
    patch.setattr(verbs.Loop, 'run', until_three)
    tune(broken, text)
  assert verbs.load_run(broken).step == 3
  verbs.train(config_of(broken), broken)  # as --workdir alone does
  assert losses(broken) == seen
  assert_same(verbs.load_run(broken).variables, verbs.load_run(straight).variables)


@pytest.mark.long
def test_fine_tuning_begins_with_the_imported_weights(workdir, text):
  run = verbs.load_run(workdir)
  before = jax.device_get(run.variables)
  tune(workdir, text, steps=1, optimizer__learning_rate=0.0, train__ema_decay=0.5)
  after = verbs.load_run(workdir)
  assert after.step == 1 and after.config['train']['ema_decay'] == 0.5
  assert_same(jax.device_get(after.variables), before)


@pytest.mark.long
def test_all_but_the_model_may_change_until_it_is_trained(workdir, text):
  changes = {'model__dropout': 0.0, 'optimizer__schedule': 'linear', 'seed': 3}
  tune(workdir, text, steps=1, data__batch_size=16, **changes)
  with pytest.raises(UserError, match=r'data.batch_size=8: .* was made with 16'):
    tune(workdir, text, steps=1, data__batch_size=8, **changes)


@pytest.mark.long
def test_a_start_that_fails_binds_to_nothing(workdir, text, monkeypatch):
  def fail(*args):
    raise MemoryError

  with monkeypatch.context() as patch:
    patch.setattr('train.loop._Session.run', fail)
    with pytest.raises(MemoryError):
      tune(workdir, text, train__ema_decay=0.9)
  assert verbs.load_run(workdir).step == 0  # an average is wanted, and none is there yet
  tune(workdir, text, steps=1, seed=5)
  assert verbs.load_run(workdir).step == 1
  assert json.loads(pathlib.Path(workdir, 'run.json').read_text())['seed'] == 5


@pytest.mark.parametrize(
  'key, value, message',
  [
    ('model__heads', 4, r'model.heads=4: .* was made with 2'),
    ('model__softcap', 30.0, r'model.softcap=30.0: .* was made with 0.0'),
    ('data__tokenizer', 'characters', r"data.tokenizer='characters': .* keeps another one, bpe"),
    ('data__block_size', 64, r'data.block_size=64: must be at most model.block_size'),
  ],
)
def test_what_the_weights_are_cannot_change(key, value, message, workdir, text):
  with pytest.raises(UserError, match=message):
    tune(workdir, text, **{key: value})


@pytest.mark.long
def test_a_config_of_ones_own_takes_the_weights(workdir, text):
  """As --config=FILE --workdir=DIR does; the model may go by a size's name."""
  config = {
    'model': {'name': 'gpt2', 'block_size': 32, 'layers': 2, 'heads': 2, 'width': 16},
    'task': 'language',
    'data': {'name': 'text', 'dataset': text, 'tokenizer': 'gpt2', 'block_size': 32},
    'optimizer': {'name': 'sgd', 'learning_rate': 0.0},
    'train': {'steps': 1},
    'seed': 7,
  }
  config['data']['batch_size'] = 8
  before = jax.device_get(verbs.load_run(workdir).variables)
  verbs.train(verbs.complete_config(config), workdir)
  run = verbs.load_run(workdir)
  assert run.step == 1 and run.config['model']['name'] == 'gpt2'
  assert_same(jax.device_get(run.variables), before)
