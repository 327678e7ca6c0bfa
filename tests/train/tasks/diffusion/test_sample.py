"""The verb sample from a known part: inpainting, colourisation, interpolation, a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data.images.source import ImageData
from tests.train.tasks.diffusion import toy_diffusion as small
from train import mesh as mesh_lib
from train.errors import UserError
from train.tasks.images import features
from train.tasks.images.features import Features

# A network that says nearly 0 is then one of noise of deviation 0.5.
GAUSSIAN = {
  'process': 'edm',
  'prediction': 'edm',
  'sampling': {'timestep_schedule': 'edm', 'num_steps': 10},
}

pytestmark = pytest.mark.slow  # each compiles a network and a sampler


@pytest.fixture(scope='module')
def plain():
  made = small.task(**GAUSSIAN)
  return made, variables_of(made)


def variables_of(made):
  return jax.device_put(small.variables(made, noise=0.02), jax.devices()[0])


def save(path, pixels):
  Image.fromarray(pixels).save(path)
  return str(path)


def pictures(capsys):
  """Returns the images of the printed grid, uint8 [rows, columns, 64, 64, ...]."""
  picture = np.asarray(Image.open(capsys.readouterr().out.strip()))
  rows, columns = (side // 66 for side in picture.shape[:2])
  places = [[(2 + 66 * i, 2 + 66 * j) for j in range(columns)] for i in range(rows)]
  return np.array([[picture[y : y + 64, x : x + 64] for y, x in row] for row in places])


def test_inpainting_keeps_unmasked_pixels(plain, tmp_path, capsys):
  made, variables = plain
  known = save(tmp_path / 'known.png', np.full((8, 8), 200, np.uint8))
  hole = np.zeros((8, 8), np.uint8)
  hole[:, 4:] = 255
  files = {'inpaint': known, 'mask': save(tmp_path / 'mask.png', hole)}
  made.sample(variables, str(tmp_path), samples=4, **files)
  drawn = pictures(capsys).astype(int)
  assert abs(drawn[..., :20] - 200).max() <= 2  # but for what enlarging brings over
  assert drawn[..., 44:].std(axis=(0, 1)).mean() > 5


def test_a_mask_without_white_is_refused(plain, tmp_path):
  made, variables = plain
  black = save(tmp_path / 'black.png', np.zeros((8, 8), np.uint8))
  with pytest.raises(UserError, match=r'--mask=.*black\.png: nothing in it is white'):
    made.sample(variables, str(tmp_path), inpaint=black, mask=black)


def test_colourising_keeps_the_grey(tmp_path, capsys):
  rng = np.random.default_rng(0)
  (tmp_path / 'set').mkdir()
  for i in range(3):
    pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    save(tmp_path / 'set' / f'{i}.png', pixels)
  made = small.task(of=ImageData('folder', str(tmp_path / 'set'), batch_size=2), **GAUSSIAN)
  variables = variables_of(made)
  picture = np.repeat(rng.integers(110, 140, (8, 8, 1)), 3, axis=-1).astype(np.uint8)
  drawn = []
  keep = made.images
  made.images = lambda *args, **how: drawn.append(keep(*args, **how)) or drawn[-1]
  path = save(tmp_path / 'grey.png', picture)
  made.sample(variables, str(tmp_path), samples=2, colourise=path)
  inside = (drawn[0].min(-1) > 0) & (drawn[0].max(-1) < 255)  # no colour was cut off
  assert inside.mean() > 0.2
  error = drawn[0].astype(float).mean(-1) - picture[None].astype(float).mean(-1)
  assert abs(error[inside]).max() <= 1 and drawn[0].std(-1).mean() > 5
  with pytest.raises(UserError, match='has 8 x 7 pixels; the network draws 8 x 8'):
    wrong = save(tmp_path / 'wrong.png', picture[:, :7])
    made.sample(variables, str(tmp_path), colourise=wrong)


def test_interpolation_starts_and_ends_with_real_images(plain, tmp_path, capsys):
  made, variables = plain
  made.sample(variables, str(tmp_path), samples=1, interpolate=True, seed=3)
  [way] = pictures(capsys).astype(int)
  assert len(way) == 11
  batches = made.data.eval_batches('test', mesh_lib.batch_sharding(small.mesh_of()))
  real = np.concatenate([np.asarray(batch['image']) for batch in batches])[..., 0]
  ends = [np.asarray(Image.fromarray(x.astype(np.uint8)).resize((8, 8))) for x in way[[0, -1]]]
  for end in ends:
    assert abs(real.astype(int) - end).mean((1, 2)).min() < 10
  assert abs(way[5] - way[0]).mean() > 5


def test_classifier_guides_an_unconditional_network(plain, tmp_path, capsys, monkeypatch):
  made, variables = plain

  def brightness(variables, images):
    score = 200 * (images.mean((1, 2, 3)) - 0.5)
    return images.reshape(len(images), -1), jnp.stack([-score, score], -1)

  judge = Features('toy', brightness, {}, ('dark', 'bright'), {})
  monkeypatch.setattr(features, 'of_classifier', lambda *about: judge)
  made.sample(variables, str(tmp_path), samples=4, classifier='judge')
  dark, bright = pictures(capsys).mean((1, 2, 3))
  assert bright > dark + 20
  with pytest.raises(UserError, match='--label=red: no such class; choose from dark, bright'):
    made.sample(variables, str(tmp_path), classifier='judge', label=('red',))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'mask': 'x.png'}, '--inpaint=FILE and --mask=FILE go together'),
    ({'interpolate': True, 'colourise': 'x.png'}, '--colourise and --interpolate: one of them'),
    ({'inpaint': 'x.png', 'mask': 'x.png'}, r'--inpaint=x\.png: .*No such file'),
    ({'colourise': 'x.png'}, r'--colourise=x\.png: the network draws images of 1 channels'),
    ({'interpolate': True, 'samples': 500}, 'samples=500: test has 360 images'),
  ],
  ids=str,
)
def test_invalid_options_are_reported_in_one_line(plain, tmp_path, options, message):
  made, variables = plain
  with pytest.raises(UserError, match=message):
    made.sample(variables, str(tmp_path), **options)
