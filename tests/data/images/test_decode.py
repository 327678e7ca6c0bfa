"""Decoding on the host: shapes, colour modes, and the statistics of the Inception crop."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from data.images import decode


@pytest.fixture(scope='module')
def photo() -> np.ndarray:
  return load_sample_images().images[0]  # 427 x 640


def encode(image: Image.Image, form: str, **options) -> bytes:
  out = io.BytesIO()
  image.save(out, form, **options)
  return out.getvalue()


def run(item, spec: str = '', channels: int = 3, seed: int = 0) -> np.ndarray:
  return decode.decode(item, decode.parse(spec, 'spec'), channels, np.random.default_rng(seed))


@pytest.mark.parametrize(
  ('spec', 'shape'),
  [
    ('', (427, 640, 3)),
    ('resize(64)', (64, 64, 3)),
    ('resize_shorter(256)', (256, 384, 3)),
    ('resize_shorter(256)|center_crop(224)', (224, 224, 3)),
    ('random_crop(size=400)|random_flip()', (400, 400, 3)),
    ('inception_crop(224)|random_flip()', (224, 224, 3)),
  ],
)
def test_shapes(spec, shape, photo):
  item = encode(Image.fromarray(photo), 'JPEG')
  out = run(item, spec)
  assert out.shape == shape and out.dtype == np.uint8
  np.testing.assert_array_equal(out, run(item, spec))


def test_evaluation_takes_the_centre(photo):
  item = encode(Image.fromarray(photo), 'PNG')
  out = run(item, 'center_crop(101)')
  np.testing.assert_array_equal(out, photo[163 : 163 + 101, 269 : 269 + 101])


def test_a_shrunk_jpeg_looks_like_the_whole_one(photo):
  """The decoder's own reduction, against reducing all of the pixels."""
  item = encode(Image.fromarray(photo), 'JPEG', quality=95)
  whole = run(run(item), 'resize_shorter(64)')
  assert np.abs(run(item, 'resize_shorter(64)') - whole.astype(int)).mean() < 2
  for seed in range(5):
    crop, expected = (run(x, 'inception_crop(48)', seed=seed) for x in (item, run(item)))
    assert np.abs(crop - expected.astype(int)).mean() < 6


@pytest.mark.parametrize('mode', ['L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16'])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('spec', ['', 'resize_shorter(20)|center_crop(16)'])
def test_every_colour_mode_becomes_the_set_s_channels(mode, channels, spec):
  gray = np.linspace(0, 255, 32 * 40).reshape(32, 40)
  if mode == 'I;16':
    image = Image.fromarray((gray * 257).astype(np.uint16))
  else:
    image = Image.fromarray(gray.astype(np.uint8))
    image = image.convert('RGB').convert(mode, palette=Image.Palette.ADAPTIVE)
  item = encode(image, 'TIFF')
  out = run(item, spec, channels)
  assert out.shape == ((16, 16) if spec else (32, 40)) + (channels,)
  reference = run(gray.astype(np.uint8)[..., None], spec, channels)
  assert np.abs(out.astype(int) - reference).max() < 3


@settings(max_examples=50)
@given(width=st.integers(1, 400), height=st.integers(1, 400), seed=st.integers(0, 1000))
def test_inception_boxes_lie_inside_the_image(width, height, seed):
  rng = np.random.default_rng(seed)
  left, top, w, h = decode._inception_box(width, height, rng, (0.08, 1.0), (3 / 4, 4 / 3))
  assert 0 <= left <= left + w <= width and 0 <= top <= top + h <= height and w and h


def test_inception_boxes_have_the_paper_s_areas_and_ratios():
  rng = np.random.default_rng(0)
  boxes = [decode._inception_box(400, 400, rng, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(2000)]
  _, _, width, height = np.array(boxes).T
  area, ratio = width * height / 400**2, width / height
  assert 0.07 < area.min() < 0.1 and area.max() > 0.9
  assert 0.74 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.35
  small = area[area < 0.5]  # those all fit, so that they are uniform still
  assert np.histogram(small, 4, (0.08, 0.5))[0] == pytest.approx([len(small) / 4] * 4, rel=0.2)


def test_which_specs_are_random():
  random = ['random_flip()', 'resize(8)|random_crop(4)', 'inception_crop(8)']
  assert all(decode.is_random(decode.parse(spec, 'spec')) for spec in random)
  assert not decode.is_random(decode.parse('resize_shorter(8)|center_crop(8)', 'spec'))


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    (
      'crop(3)',
      "unknown operation 'crop'; choices: center_crop, inception_crop, jpeg, random_crop",
    ),
    ('center_crop()', r'center_crop\(\) needs size'),
    ('center_crop(0)', r'size=0\): must be at least 1'),
  ],
)
def test_mistakes_in_a_spec_are_named(spec, message):
  with pytest.raises(ValueError, match=f'^data.decode_eval.*{message}'):
    decode.parse(spec, 'data.decode_eval')


def test_a_crop_larger_than_the_image_is_refused(photo):
  with pytest.raises(ValueError, match=r'crop of 500 from 640 x 427 pixels: resize_shorter\(\)'):
    run(photo, 'center_crop(500)')


def test_resize_shorter_bilinear_or_bicubic(photo):
  for bicubic, resample in ((False, 'BILINEAR'), (True, 'BICUBIC')):
    wanted = Image.fromarray(photo).resize((96, 64), Image.Resampling[resample])
    found = run(photo, f'resize_shorter(64, bicubic={bicubic})')
    np.testing.assert_array_equal(found, np.asarray(wanted))


def test_jpeg_costs_detail_and_less_of_it_at_a_higher_quality(photo):
  def loss(quality):
    return np.abs(run(photo, f'jpeg(quality={quality})').astype(int) - photo).mean()

  assert loss(10) > loss(75) > 0


def test_jpeg_of_an_impossible_quality_is_refused(photo):
  with pytest.raises(ValueError, match=r'jpeg\(quality=100\): from 1 to 95'):
    run(photo, 'jpeg(quality=100)')
