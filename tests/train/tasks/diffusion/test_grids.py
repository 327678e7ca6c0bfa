"""Grids of images, and the verb sample of a diffusion model as a user meets it."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from data import spec
from tests.train.tasks.diffusion import toy_diffusion as small
from train import verbs
from train.errors import UserError
from train.tasks.images import grids

pytestmark = pytest.mark.usefixtures('one_device')


def pixels(contents):
  return np.asarray(Image.open(io.BytesIO(contents)))


# -------- grids --------


def test_a_grid_has_its_images_row_by_row_on_white():
  images = np.random.default_rng(0).integers(0, 255, (5, 70, 64, 3)).astype(np.uint8)
  picture = grids.grid(images, 3)
  assert picture.shape == (2 + 2 * 72, 2 + 3 * 66, 3)
  np.testing.assert_array_equal(picture[74:144, 68:132], images[4])
  assert (picture[74:144, 134:] == 255).all() and (picture[:2] == 255).all()
  np.testing.assert_array_equal(pixels(grids.png(picture)), picture)


def test_small_images_are_enlarged():
  images = np.zeros((2, 8, 8, 1), np.uint8)
  images[0, :4] = 200
  picture = grids.grid(images, 2)
  assert picture.shape == (68, 134, 1)
  assert abs(int(picture[12, 30, 0]) - 200) < 3 and picture[60, 30, 0] < 3
  assert pixels(grids.png(picture)).shape == (68, 134)


def test_a_trajectory_is_a_row():
  paths = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * np.ones((64, 64, 1), np.uint8)
  picture = grids.strips(paths)
  assert picture[30, 30 + 66, 0] == 1 and picture[30 + 66, 30, 0] == 3


def test_bytes_are_rounded_and_clipped():
  x = np.array([-2, -1, 2 * 7.4 / 255 - 1, 2 * 7.6 / 255 - 1, 1, 3])
  np.testing.assert_array_equal(grids.to_bytes(x), [0, 0, 7, 8, 255, 255])


@pytest.mark.parametrize(
  ('count', 'classes', 'labels', 'columns'),
  [
    (7, (), [-1] * 7, 3),
    (7, ('a', 'b', 'c'), [0, 0, 1, 1, 2, 2], 2),
    (2, ('a', 'b', 'c'), [0, 1], 1),
    (40, tuple(map(str, range(1000))), np.repeat(np.arange(20), 2), 2),
  ],
)
def test_a_row_is_a_class(count, classes, labels, columns):
  found, width = grids.layout(count, classes)
  assert (list(found), width) == (list(labels), columns)


def test_labels_are_names_or_numbers():
  classes = ('cat', 'dog', 'fish, small', '3', '0')
  found = grids.class_numbers(('dog', '2', 'fish, small', '3', 'cat,0'), classes)
  assert found.tolist() == [1, 2, 2, 3, 0, 4]
  for label in ('dogg', '5', '-1'):
    with pytest.raises(UserError, match=f'--label={label}: no such class.*; choose from cat, '):
      grids.class_numbers((label,), classes)


def test_a_spec_of_one_operation_is_a_section():
  assert spec.section('ddim', 'w') == {'name': 'ddim'}
  found = spec.section("a(x=-1.5, y='z', w=z, v=(1, 2))", 'w')
  assert found == {'name': 'a', 'x': -1.5, 'y': 'z', 'w': 'z', 'v': (1, 2)}
  for wrong in ('', 'a|b', 'a(1)', 'a(**x)', 'a(x=f())', 'a.b(x=1)', 'a(x=1'):
    with pytest.raises(ValueError, match=r'^task\.x=.*: write NAME or NAME'):
      spec.section(wrong, 'task.x')


# -------- samples that are none --------


def test_samples_that_overflow_are_counted():
  x = np.zeros((6, 4, 4, 1), np.float32)
  x[1, 0, 0], x[2, 3, 3], x[4, 1, 1], x[5] = np.nan, -np.inf, 2e6, 300
  diverged = np.asarray(grids.has_diverged(x))
  assert diverged.tolist() == [False, True, True, False, True, False]
  with pytest.raises(grids.Diverged, match=r'3 of 6 samples diverged, such as number 1: .*DDIM'):
    grids.require_images(diverged, 'DDIM')
  grids.require_images(diverged[:1], 'DDIM')


@pytest.mark.long
def test_diverged_samples_are_no_images_but_a_line():
  made = small.task(conditioning={'on': 'label'}, sampling={'guidance_scale': 1e30})
  variables = jax.device_put(small.variables(made), jax.devices()[0])
  with pytest.raises(UserError, match=r'3 of 3 samples diverged.*5 steps, guidance scale 1e\+30'):
    made.images(variables, small.keys_of(3), np.arange(3), small.mesh_of())
  [(name, text)] = made.draw(variables, jax.random.key(0)).items()
  assert name == 'grid.txt' and b'10 of 10 samples diverged' in text


# -------- the verb --------


def config_of(*, sampling=(), **task):
  return verbs.complete_config(
    {
      'task': {
        'name': 'diffusion',
        'sampling': {**small.SAMPLING, 'num_preview_samples': 0, **dict(sampling)},
        **task,
      },
      'model': small.MODEL,
      'data': {'name': 'images', **small.DATA, 'batch_size': 16},
      'optimizer': {'name': 'adam', 'learning_rate': 0.001},
      'train': {'steps': 2, 'log_every': 1, 'best': 'val/loss'},
    }
  )


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('run'))
  verbs.train(config_of(conditioning={'on': 'label'}), folder)
  return folder


def drawn(capsys):
  return [pixels(open(path, 'rb').read()) for path in capsys.readouterr().out.split()]


@pytest.mark.long
def test_sample_writes_the_requested_grids(workdir, capsys):
  verbs.sample(workdir, options={'label': ['3,7', '1'], 'samples': 2, 'seed': 5, 'path': True})
  grid, path = drawn(capsys)
  assert grid.shape == (2 + 3 * 66, 2 + 2 * 66)
  assert path.shape == (2 + 6 * 66, 2 + 6 * 66)
  last = slice(2 + 5 * 66, 6 * 66)  # frame of the first way
  np.testing.assert_array_equal(path[2:66, last], grid[2:66, 2:66])
  verbs.sample(workdir, options={'label': ['1'], 'samples': 2, 'seed': 5})
  np.testing.assert_array_equal(drawn(capsys)[0][2:66], grid[2 + 2 * 66 : 2 + 3 * 66 - 2])
  verbs.sample(workdir, options={'samples': 1})
  assert drawn(capsys)[0].shape == (2 + 10 * 66, 68)


@pytest.mark.long
def test_sampling_options_may_change_after_training(workdir, capsys):
  changed = {'sampler': 'heun(churn=10)', 'num_steps': '3', 'guidance_scale': '2'}
  overrides = {f'task.sampling.{name}': text for name, text in changed.items()}
  verbs.sample(workdir, options={'samples': 1, 'label': ['3']})
  [one] = drawn(capsys)
  verbs.sample(workdir, overrides=overrides, options={'samples': 1, 'label': ['3']})
  [other] = drawn(capsys)
  assert one.shape == other.shape and (one != other).any()
  verbs.train(
    config_of(
      conditioning={'on': 'label'},
      sampling={'sampler': 'heun', 'num_steps': 3, 'guidance_scale': 2.0},
    ),
    workdir,
  )
  with pytest.raises(UserError, match=r'task\.process=.*was made with'):
    verbs.train(config_of(conditioning={'on': 'label'}, process='vp'), workdir)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'label': ['ten']}, r'--label=ten: no such class; choose from 0, 1'),
    ({'prompt': ['a three']}, r"--prompt=a three: needs task\.conditioning\.on='caption'"),
    ({'label': ['1'], 'prompt': ['one']}, '--label and --prompt: one of them at a time'),
    ({'samples': 0}, 'samples=0: must be at least 1'),
    ({'seed': -1}, 'seed=-1: must be at least 0'),
    (
      {'beams': 3},
      '--beams=3: no option of task diffusion; choose from samples, label, prompt',
    ),
  ],
  ids=str,
)
def test_invalid_options_are_reported_in_one_line(workdir, options, message):
  with pytest.raises(UserError, match=message):
    verbs.sample(workdir, options=options)


def test_an_unconditional_network_draws_a_square(tmp_path, capsys):
  made = small.task()
  variables = jax.device_put(small.variables(made), jax.devices()[0])
  made.sample(variables, str(tmp_path), samples=3)
  assert drawn(capsys)[0].shape == (2 + 2 * 66, 2 + 2 * 66)
  with pytest.raises(UserError, match='--label=3: the network is not conditioned on labels'):
    made.sample(variables, str(tmp_path), label=('3',))
