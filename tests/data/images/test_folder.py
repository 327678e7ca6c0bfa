"""A user's folder of images as a data set: its layouts, and what is wrong with a file."""

import os
import pathlib
import re

import jax
import numpy as np
import pytest
from absl import logging as absl_logging
from PIL import Image

from data.images import datasets
from data.images.source import ImageData
from tests.train.tasks.diffusion import toy_diffusion as small
from train import mesh as mesh_lib
from train.errors import UserError
from train.loop import Loop
from train.tasks.classify import Classify


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(absl_logging, '_log_counter_per_token', {}, raising=False)


@pytest.fixture
def folder(tmp_path):
  """20 images of 8 x 8 pixels in one folder, in colour."""
  root = tmp_path / 'images'
  root.mkdir()
  for i in range(20):
    save(root / f'{i:02}.png', seed=i)
  return root


def save(path, seed=0, size=(8, 8), channels=3):
  pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(np.uint8)
  Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
  return pixels


def read_all(root, **options):
  data = ImageData('folder', str(root), batch_size=4, **options)
  mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  batches = data.eval_batches(data.train_split, mesh_lib.batch_sharding(mesh))
  images = np.concatenate([np.asarray(batch['image']) for batch in batches])
  return data, images[: data.num_examples(data.train_split)]


def test_images_alone_are_a_set_of_one_class(folder):
  (folder / 'notes.txt').write_text('not an image')
  data, images = read_all(folder)
  assert (data.classes, data.image_shape) == (('image',), (8, 8, 3))
  assert (data.num_examples('train'), data.num_examples('test')) == (18, 2)
  order = [data._records('train').path(row)[-6:] for row in range(18)]
  np.testing.assert_array_equal(images[9], save(folder / 'x.png', seed=int(order[9][:2])))


def test_folders_of_classes_need_no_folder_train(folder):
  for name in ('cats', 'dogs'):
    (folder / name).mkdir()
    for i in range(10):
      os.rename(folder / f'{i + 10 * (name == "dogs"):02}.png', folder / name / f'{i}.png')
  data = ImageData('folder', str(folder))
  assert data.classes == ('cats', 'dogs')
  assert (data.num_examples('train'), data.num_examples('test')) == (18, 2)


def test_a_folder_train_may_hold_images_alone(folder, tmp_path):
  (tmp_path / 'set').mkdir()
  os.rename(folder, tmp_path / 'set' / 'train')
  data = ImageData('folder', str(tmp_path / 'set'), eval_split='train[:5]')
  assert data.num_examples('train') == 20 and data.classes == ('image',)


def test_grey_images_stay_grey(folder):
  for i in range(20):
    save(folder / f'{i:02}.png', seed=i, channels=1)
  data, images = read_all(folder)
  assert data.image_shape == (8, 8, 1)
  third = data._records('train').path(3)
  expected = save(folder / 'x.png', seed=int(os.path.basename(third)[:2]), channels=1)
  np.testing.assert_array_equal(images[3], expected)


@pytest.mark.parametrize('in_memory', ['yes', 'no'])
def test_a_grey_image_among_colour_ones_is_named_and_taken(folder, in_memory, caplog):
  grey = save(folder / '04.png', channels=1)
  data, images = read_all(folder, in_memory=in_memory)
  [row] = [i for i in range(18) if data._records('train').path(i) == f'{folder}/04.png']
  np.testing.assert_array_equal(images[row], np.broadcast_to(grey, (8, 8, 3)))
  [line] = [x.getMessage() for x in caplog.records if 'grey' in x.getMessage()]
  so_far = '' if in_memory == 'yes' else ' so far'
  assert line.endswith(f'grey among colour images, taken as RGB: 1{so_far} ({folder}/04.png)')


DAMAGE = {
  'corrupt': (
    lambda path: path.write_bytes(path.read_bytes()[:60]),
    r'03\.png\): .*(truncated|image)',
  ),
  'no image': (lambda path: path.write_text('text'), r'03\.png\): cannot identify image file'),
  'wrong size': (
    lambda path: save(path, size=(8, 9)),
    r'03\.png\): 8 x 9 x 3 pixels and not 8 x 8 x 3; bring all to one shape with resize\(',
  ),
}


@pytest.mark.parametrize('in_memory', ['yes', 'no'])
@pytest.mark.parametrize('damage', list(DAMAGE))
def test_training_on_a_damaged_file_ends_in_one_line_with_its_name(
  folder, tmp_path, damage, in_memory
):
  spoil, message = DAMAGE[damage]
  spoil(folder / '03.png')
  data = ImageData('folder', str(folder), batch_size=16, eval_batch_size=8, in_memory=in_memory)
  made = small.task(of=data, sampling={'num_preview_samples': 0})
  source = None
  with pytest.raises(UserError, match=message) as error:
    source = made.source('train', small.mesh_of(), 0)
    for step in range(3):
      source.next((), step, None)
  assert '\n' not in str(error.value)


def classifier(data):
  return Classify({'name': 'lenet', 'channels': (2, 2), 'hidden': (4, 4)}, data)


@pytest.mark.parametrize(
  'make', [lambda data: small.task(of=data, sampling={'num_preview_samples': 0}), classifier]
)
def test_every_task_on_images_names_the_damaged_file(folder, make):
  data = ImageData('folder', str(folder), batch_size=18, eval_batch_size=8, in_memory='no')
  paths = [data._records(split).path(0) for split in ('test', 'train')]
  made = make(data)
  for path in paths:
    pathlib.Path(path).write_text('text')
  evaluated, trained = (re.escape(os.path.basename(path)) for path in paths)
  with pytest.raises(UserError, match=rf'{trained}\): cannot identify image file'):
    made.source('train', small.mesh_of(), 0).next((), 0, None)
  with pytest.raises(UserError, match=rf'{evaluated}\): cannot identify image file'):
    [(_, measure)] = made.evals(small.mesh_of()).items()
    measure(small.variables(made))


@pytest.mark.long
def test_a_folder_trains(folder, tmp_path):
  import optax

  data = ImageData('folder', str(folder), batch_size=8)
  made = small.task(of=data, sampling={'num_preview_samples': 4, 'sample_batch_size': 8})
  Loop(steps=1, best='val/loss').run(
    made, optax.sgd(0.1), lambda step: 0.1, small.mesh_of(), str(tmp_path / 'run')
  )
  [picture] = (tmp_path / 'run' / 'samples').iterdir()
  assert Image.open(picture).mode == 'RGB'


def test_a_folder_without_images_is_refused(tmp_path):
  for path, wrong in ((tmp_path, 'has no folder train'), (tmp_path / 'nowhere', 'is no folder')):
    with pytest.raises(ValueError, match=rf'{wrong}; .*, or images alone'):
      datasets.load('folder', str(path))


def test_val_alone_is_there_to_evaluate_a_network(tmp_path):
  for name in ('cat', 'dog'):
    (tmp_path / 'val' / name).mkdir(parents=True)
    save(tmp_path / 'val' / name / '0.png')
  assert set(datasets.load('folder', str(tmp_path))) == {'val', 'validation', 'test'}
  trained = {'classes': ('cat', 'cow', 'dog'), 'image_shape': (8, 8, 3)}
  data = ImageData('folder', str(tmp_path), eval_split='val', **trained)
  assert data.classes == ('cat', 'cow', 'dog') and data.num_examples('val') == 2
  with pytest.raises(ValueError, match=r"split 'train': not in this set"):
    ImageData('folder', str(tmp_path), eval_split='val')  # to train on


def test_a_network_is_there_without_its_set(tmp_path):
  missing = str(tmp_path / 'nowhere')
  data = ImageData('folder', missing, classes=('cat', 'dog'), image_shape=(8, 8, 3))
  assert data.classes == ('cat', 'dog') and data.image_shape == (8, 8, 3)
  for ask in (lambda: data.num_examples('test'), lambda: data.eval_image_shape):
    with pytest.raises(ValueError, match=r'nowhere.*is no folder'):
      ask()
  data.close()
  with pytest.raises(ValueError, match=r'nowhere.*is no folder'):
    ImageData('folder', missing, classes=('cat', 'dog'))
