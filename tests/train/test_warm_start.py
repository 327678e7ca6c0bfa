"""`train --init_from`: another run's weights by name and shape, and what begins fresh is said."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from data.text import tokenizers
from models.gpt import GPT, huggingface, unboxed
from tests.train.tasks.language.small_gpt2 import random_variables
from tests.train.tasks.selfplay.small_selfplay import GO, config_of
from train import verbs, warm_start
from train.checkpoint.record import leaves
from train.errors import UserError

pytestmark = [pytest.mark.long, pytest.mark.usefixtures('one_device')]

STILL = {'name': 'sgd', 'learning_rate': 0.0, 'momentum': 0.0}
LENET = {'name': 'lenet', 'channels': (2, 4), 'hidden': (8, 6)}
DIGITS = {
  'task': 'classify',
  'model': LENET,
  'data': {'name': 'images', 'dataset': 'digits', 'batch_size': 32},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.delenv('GPT2_BPE_DIR', raising=False)


def train(config, workdir, origin='', **changes):
  best = 'test/error' if config['task'] == 'classify' else 'val/loss'
  train = {'steps': 1, 'best': best}
  config = {'optimizer': STILL, 'train': train, **config, **changes, 'init_from': str(origin)}
  verbs.train(verbs.complete_config(config), str(workdir))
  return dict(leaves(jax.device_get(dict(verbs.load_run(str(workdir)).variables))))


def taken(ours, theirs):
  """The names of arrays that are the same bits."""
  return {
    name
    for name, value in ours.items()
    if name in theirs
    and value.shape == theirs[name].shape
    and np.array_equal(value, theirs[name])
    and value.any()  # biases begin as zeros
  }


def folder_of_images(path, classes):
  for split in ('train', 'val'):
    for i, name in enumerate(classes):
      (path / split / name).mkdir(parents=True)
      for j in range(16):
        pixels = np.full((28, 28), 20 * i + j, np.uint8)
        Image.fromarray(pixels).save(path / split / name / f'{j}.png')
  return {'name': 'images', 'dataset': 'folder', 'data_dir': str(path), 'eval_split': 'val'}


def test_a_classifier_of_the_same_classes_takes_all(tmp_path, capsys):
  theirs = train(DIGITS, tmp_path / 'a', optimizer={**STILL, 'learning_rate': 0.01})
  ours = train(DIGITS, tmp_path / 'b', tmp_path / 'a', seed=1)
  assert taken(ours, theirs) == {name for name, value in theirs.items() if value.any()}
  said = capsys.readouterr().err
  assert f'begins with 10 of 10 arrays of {tmp_path / "a"}, step 1\n' in said


@pytest.mark.parametrize('classes', [('bee', 'cow'), ('cow', 'dog', 'zebu')])
def test_other_classes_begin_with_a_head_of_their_own(classes, tmp_path, capsys):
  """In number, or of the same number by name."""
  data = folder_of_images(tmp_path / 'ours', ('bee', 'cow', 'dog'))
  theirs = train({**DIGITS, 'data': {**data, 'batch_size': 16}}, tmp_path / 'a', seed=1)
  data = folder_of_images(tmp_path / 'other', classes)
  ours = train({**DIGITS, 'data': {**data, 'batch_size': 16}}, tmp_path / 'b', tmp_path / 'a')
  fresh = {name for name in ours if name not in taken(ours, theirs) and ours[name].any()}
  assert fresh == {'params/output/kernel'}
  said = capsys.readouterr().err
  assert '; fresh: params/output/bias, params/output/kernel\n' in said
  assert json.loads((tmp_path / 'b' / 'meaning.json').read_text())['classes'] == list(classes)


def test_averaged_weights_are_taken_where_they_are_kept(tmp_path):
  fast = {'optimizer': {**STILL, 'learning_rate': 0.5}, 'train': {'steps': 4, 'ema_decay': 0.9}}
  theirs = train(DIGITS, tmp_path / 'a', **fast)
  assert taken(train(DIGITS, tmp_path / 'b', tmp_path / 'a'), theirs) >= {'params/conv1/kernel'}


def test_a_resumed_run_does_not_read_it_again(tmp_path):
  train(DIGITS, tmp_path / 'a')
  long = {'train': {'steps': 2, 'checkpoint_every': 1, 'best': 'test/error'}}
  train(DIGITS, tmp_path / 'b', tmp_path / 'a', **long)
  shutil.rmtree(tmp_path / 'a')
  shutil.rmtree(tmp_path / 'b' / 'checkpoints' / '2')
  train(DIGITS, tmp_path / 'b', tmp_path / 'a', **long)
  assert verbs.load_run(str(tmp_path / 'b')).step == 2


def test_nothing_fits(tmp_path):
  train(DIGITS, tmp_path / 'a')
  gpt = text_config(tmp_path, 'to be')
  with pytest.raises(
    UserError, match=r'--init_from=.*/a, step 1: none of its arrays \(params/conv1'
  ):
    train(gpt, tmp_path / 'b', tmp_path / 'a')
  with pytest.raises(UserError, match=r'no config\.json there'):
    train(DIGITS, tmp_path / 'b', tmp_path / 'nowhere')
  assert not (tmp_path / 'b').exists()


# -------- text --------


def text_config(tmp_path, text, tokenizer='characters', name='text', **model):
  path = tmp_path / f'{name}.txt'
  path.write_text(f'{text}\n' * 400)
  data = {'name': 'text', 'dataset': str(path), 'tokenizer': tokenizer, 'block_size': 16}
  return {
    'task': {'name': 'language', 'sample_tokens': 0},
    'model': {'name': 'gpt', 'block_size': 16, 'layers': 1, 'heads': 2, 'width': 8, **model},
    'data': {**data, 'batch_size': 4},
  }


def test_a_text_of_known_characters_keeps_the_tokens(tmp_path):
  theirs = train(text_config(tmp_path, 'the cat sat'), tmp_path / 'a')
  ours = train(text_config(tmp_path, 'the hat', name='b'), tmp_path / 'b', tmp_path / 'a')
  assert 'params/token_embed/embedding' in taken(ours, theirs)
  assert tokenizers.load(tmp_path / 'b' / 'tokenizer').vocab_size == 8
  again = verbs.load_run(str(tmp_path / 'b'))
  assert again.task.data.vocab_size == 8


def test_a_text_of_other_characters_begins_with_its_own_embedding(tmp_path, capsys):
  """Also of as many: what a token stands for is compared, and not the shape."""
  theirs = train(text_config(tmp_path, 'the cat sat'), tmp_path / 'a', seed=1)
  ours = train(text_config(tmp_path, 'xyz uvw 12', name='b'), tmp_path / 'b', tmp_path / 'a')
  assert 'params/blocks/up/kernel' in taken(ours, theirs)
  assert 'params/token_embed/embedding' not in taken(ours, theirs)
  assert '; fresh: params/token_embed/embedding\n' in capsys.readouterr().err


def test_a_learnt_bpe_stays(tmp_path):
  theirs = train(text_config(tmp_path, 'the cat sat', 'bpe:262'), tmp_path / 'a')
  config = text_config(tmp_path, 'xyz uvw', 'bpe:262', name='b')
  assert 'params/token_embed/embedding' in taken(
    train(config, tmp_path / 'b', tmp_path / 'a'), theirs
  )
  before, after = (tokenizers.load(tmp_path / x / 'tokenizer') for x in 'ab')
  assert tokenizers.fingerprint(before) == tokenizers.fingerprint(after)


def test_public_weights_with_rows_that_pad_the_vocabulary(tmp_path):
  """A change that no shape shows is said: heads."""
  model = GPT(300, block_size=16, layers=1, heads=4, width=8)
  bpe = tokenizers.train_bpe(['the cat sat on the mat and the dog sat on the cat. ' * 9], 300)
  model = model.clone(vocab_size=bpe.vocab_size)
  weights = random_variables(model)
  huggingface.to_hf(model, weights, tmp_path / 'hf')
  bpe.save(tmp_path / 'hf')
  config = text_config(tmp_path, 'the cat sat', 'gpt2', vocab_multiple=64)
  ours = train(config, tmp_path / 'b', tmp_path / 'hf')
  embedding = ours['params/token_embed/embedding']
  assert len(embedding) % 64 == 0
  theirs = weights['params']['token_embed']['embedding']
  np.testing.assert_array_equal(embedding[: len(theirs)], theirs)


def test_what_no_shape_shows_is_said(tmp_path, capsys):
  train(text_config(tmp_path, 'the cat'), tmp_path / 'a')
  train(text_config(tmp_path, 'the cat', heads=4), tmp_path / 'b', tmp_path / 'a')
  assert '; changed: model.heads=4 (was 2)\n' in capsys.readouterr().err


# -------- other pillars --------


def test_diffusion_of_other_classes(tmp_path):
  config = {
    'task': {'name': 'diffusion', 'process': 'edm', 'prediction': 'edm'},
    'model': {'name': 'unet', 'channels': 8, 'channel_multipliers': (1,), 'num_res_blocks': 1},
    'data': {'name': 'images', 'dataset': 'digits', 'batch_size': 8, 'decode_train': 'resize(8)'},
  }
  config['task'] |= {
    'loss': {'weighting': 'edm', 'time_distribution': 'log_normal'},
    'sampling': {'num_preview_samples': 0},
    'conditioning': {'on': 'label'},
  }
  config['model'] |= {'attention_resolutions': (), 'groups': 4}
  config['data'] |= {'decode_eval': 'resize(8)', 'eval_split': 'test[:16]', 'eval_batch_size': 16}
  theirs = train(config, tmp_path / 'a')
  ours = train(config, tmp_path / 'b', tmp_path / 'a', seed=1)
  assert taken(ours, theirs) == {name for name, value in theirs.items() if value.any()}


def test_go_on_a_board_of_another_size(monkeypatch, capsys):
  """The convolutions fit; what has a row for each point begins fresh."""

  def variables(size, seed):
    config = config_of(**{**GO, 'game': f'go(size={size}, history=2)'})
    task = verbs.build_task(config)
    return config, task, unboxed(task.init(jax.random.key(seed)))

  _, _, theirs = variables(3, seed=1)
  origin = warm_start.Origin('runs/3x3', theirs, None, 'nowhere', {})
  monkeypatch.setattr(warm_start, 'load', lambda path: origin)
  config, task, fresh = variables(4, seed=2)
  start = warm_start.starter({**config, 'init_from': 'runs/3x3'}, task, 'nowhere')
  ours, theirs = (dict(leaves(jax.device_get(dict(x)))) for x in (start(fresh), theirs))
  drawn = {name for name, value in theirs.items() if value.any() and value.std()}
  points = {'params/policy/kernel', 'params/value_hidden/kernel'}
  assert taken(ours, theirs) >= drawn - points
  assert not points & taken(ours, theirs)
  assert '; fresh: params/policy/bias, params/policy/kernel, params/value_hidden/kernel' in (
    capsys.readouterr().err
  )
