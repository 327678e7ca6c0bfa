"""Every config: its docstring, its whole step in shapes, and ImageNet's two on real pictures."""

import ast
import contextlib
import pathlib
import re

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from data import SOURCES
from mcts.selfplay import replay
from models import ops
from train import config as config_lib
from train import verbs
from train.errors import UserError
from train.loop import Loop
from train.optim import make_optimizer
from train.tasks import TASKS

pytestmark = pytest.mark.usefixtures('one_device')

EVERY = sorted((pathlib.Path(__file__).parents[1] / 'configs').glob('[a-z]*.py'))
CONFIGS = [path for path in EVERY if 'launch.py train' in path.read_text()]


def load(path, **overrides):
  config = config_lib.load(str(path))
  for key, text in overrides.items():
    config = config_lib.override(config, key.replace('__', '.'), text)
  return verbs.complete_config(config)


@pytest.mark.parametrize('path', EVERY, ids=lambda path: path.stem)
def test_a_config_opens_with_its_command_its_paper_and_the_numbers(path):
  text = ast.get_docstring(ast.parse(path.read_text()))
  assert re.search(rf'python launch\.py (train|match) --config={path.stem} ', text)
  assert 'Paper: ' in text
  assert re.search(r'\d( %| nats| bits| steps| points)|(FID|squared error\s+of)\s\d', text)
  assert 'Ours: ' in text


def images(task):
  return {
    'image': jax.ShapeDtypeStruct((4, *task.data.image_shape), np.uint8),
    'label': jax.ShapeDtypeStruct((4,), np.int32),
    'index': jax.ShapeDtypeStruct((4,), np.int32),
    'mask': jax.ShapeDtypeStruct((4,), np.float32),
  }


def mini_batches(task):
  batch = {**images(task), 'step': images(task)['index']}
  size = task.batch_size
  return {k: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for k, x in batch.items()}


def text(task):
  data = task.data
  return {
    'tokens': jax.ShapeDtypeStruct((4, data.block_size + 1), np.int32),
    'mask': jax.ShapeDtypeStruct((4, data.block_size), np.float32),
    'index': jax.ShapeDtypeStruct((4,), np.int32),
  }


def words(task):
  row = jax.ShapeDtypeStruct((4, task.data.chunk), np.int32)
  each = jax.ShapeDtypeStruct((4,), np.int32)
  return {'words': row, 'sentences': row, 'index': each}


def positions(task):
  game, key = task.game, jax.random.key(0)
  aux = jax.eval_shape(lambda: game.aux_targets(game.init())) if task.settings.aux_targets else {}

  def draw():
    return replay.sample(game, replay.init(game, 2, 4, aux), key, 4, 4)

  share = jax.ShapeDtypeStruct((4,), np.float32)
  return {
    **jax.eval_shape(draw),
    'calibration': [share, share],
    'play': {'search_value': [share, share]},
  }


def recorded(task):
  each = {name: jax.ShapeDtypeStruct((4,), np.float32) for name in ('result', 'mask')}
  move = jax.ShapeDtypeStruct((4,), np.int32)
  return {'inputs': task.network.example_inputs(4), 'move': move, **each}


def own_moves(task):
  each = {name: jax.ShapeDtypeStruct((4,), np.float32) for name in ('won', 'turns')}
  sensible = jax.ShapeDtypeStruct((4, task.network.size**2), bool)
  return {**recorded(task), 'sensible': sensible, **each}


def experience(task):
  lead = (task.batch_size, task.seeds)
  number = jax.ShapeDtypeStruct(lead, np.float32)
  names = ('return', 'length', 'epsilon', 'frames', 'episodes_a_step', 'frames_a_step')
  return {
    'inputs': jax.ShapeDtypeStruct((*lead, *task.input_shape), task.layout.observation.dtype),
    'action': jax.ShapeDtypeStruct(lead, np.int32),
    **dict.fromkeys(('target', 'mask', 'weight'), number),
    'play': dict.fromkeys(names, (number, number)),
  }


def pairs(task):
  each = {name: jax.ShapeDtypeStruct((4, 8), np.int32) for name in ('source', 'target')}
  mask = jax.ShapeDtypeStruct((4,), np.float32)
  return {**each, 'mask': mask, 'index': jax.ShapeDtypeStruct((4,), np.int32)}


BATCHES = {
  'belief': mini_batches,
  'dqn': experience,
  'classify': images,
  'diffusion': images,
  'consistency': images,
  'gan': images,
  'language': text,
  'words': words,
  'translation': pairs,
  'selfplay': positions,
  'go_policy': recorded,
  'go_value': recorded,
  'go_value_selfplay': recorded,
  'go_reinforce': own_moves,
}


EXTRAS = {'dqn_atari': 'ale_py'}  # packages that a config is made for


@pytest.mark.long
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_trains_in_shapes(path):
  if path.stem in EXTRAS:
    pytest.importorskip(EXTRAS[path.stem])
  config = load(path)
  section = {key: value for key, value in config['data'].items() if key != 'name'}
  data = config_lib.resolve(SOURCES[config['data']['name']]).metadata(**section)
  task = config_lib.build(config['task'], TASKS, 'task', model=config['model'], data=data)
  tx, schedule = make_optimizer(**config['optimizer'], steps=Loop(**config['train']).steps)
  batch = BATCHES[config['task']['name']](task)

  def step(key, batch):
    variables = verbs.mesh_lib.unbox(task.init(key))
    params, extra = variables['params'], {k: v for k, v in variables.items() if k != 'params'}

    def loss(params):
      value, (new, _) = task.loss({'params': params, **extra}, batch, key, train=True)
      return value, new

    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(params)
    updates, _ = tx.update(grads, tx.init(params), params)
    return value, updates, new, schedule(0)

  # A hundred convolutions are traced in seconds in the plain form, in minutes in a CPU's.
  plain = config['task']['name'] in ('diffusion', 'gan', 'selfplay')
  with ops.use('plain') if plain else contextlib.nullcontext():
    value, updates, _, rate = jax.eval_shape(step, jax.random.key(0), batch)
  assert (value.shape, rate.shape) == ((), ())
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(updates))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """A folder of real JPEGs: pieces of a temple and of a flower."""
  root = tmp_path_factory.mktemp('photos')
  for name, image in zip(('temple', 'flower'), load_sample_images().images, strict=True):
    for split, count in (('train', 8), ('val', 4)):
      folder = root / split / name
      folder.mkdir(parents=True)
      for i in range(count):
        left, top = 20 * i, 10 * i
        piece = Image.fromarray(image[top : top + 300, left : left + 400])
        piece.save(folder / f'{i}.jpg', quality=90)
  return root


SMALL = {
  'alexnet_imagenet': {
    'model__hidden': '32',
    'task__augment': 'random_crop_to(size=64)|flip()|color_pca()',
    'data__decode_train': 'resize_shorter(80)|center_crop(80)',
  },
  'resnet_imagenet': {
    'model': 'resnet20',  # compiles sooner than the larger ones
    'data__decode_train': 'inception_crop(64)|random_flip()',
  },
}


@pytest.mark.slow
@pytest.mark.parametrize('name', list(SMALL))
def test_the_imagenet_configs_run_on_a_folder_of_pictures(name, photos, tmp_path):
  config = load(
    CONFIGS[0].parent / f'{name}.py',
    data__dataset='folder',
    data__data_dir=str(photos),
    data__eval_split='val',
    data__batch_size='8',
    data__decode_eval='resize_shorter(80)|center_crop(80)',
    task__view='center_crop(size=64)',
    train__steps='2',
    train__log_every='1',
    optimizer__milestones='()',
    **SMALL[name],
  )
  verbs.train(config, str(tmp_path))
  result = verbs.evaluate([str(tmp_path)], overrides={'task.view': 'ten_crop(size=64)'})
  assert result['step'] == 2
  assert np.sum(result['confusion']) == 8
  assert result['classes'] == ['flower', 'temple']


@pytest.mark.long
@pytest.mark.parametrize('name', ['gpt_python_cpu', 'gpt_shakespeare_modern', 'gpt_scaling'])
def test_a_text_config_runs_on_a_file_of_ones_own(name, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  (tmp_path / 'text.txt').write_text('def f(x):\n  return x + 1\n\n' * 200)
  config = load(
    CONFIGS[0].parent / f'{name}.py',
    data__dataset=str(tmp_path / 'text.txt'),
    data__tokenizer='bytes',
    data__eval_split='validation',
    data__block_size='16',
    data__batch_size='8',
    data__eval_batch_size='8',
    model__layers='1',
    model__width='32',
    model__heads='2',
    task__sample_tokens='0',
    train__steps='4',
    train__log_every='2',
  )
  verbs.train(config, str(tmp_path / 'run'))
  metrics = verbs.evaluate([str(tmp_path / 'run')])['metrics']
  assert config['paper']['metric'] in metrics
  assert metrics['val/loss'] < np.log(257)  # less than knowing nothing


@pytest.mark.parametrize('seed', ['-1', str(2**32)])
def test_a_seed_that_no_key_can_be_made_of_is_refused(seed):
  with pytest.raises(UserError, match=rf'^seed={seed}: must be at least 0 and less than 2\*\*32$'):
    load(EVERY[0], seed=seed)
