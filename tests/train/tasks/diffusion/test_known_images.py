"""The image files of --inpaint, --mask and --colourise."""

import numpy as np
import pytest
from PIL import Image

from train.errors import UserError
from train.tasks.diffusion.sample import read_image


def save(path, pixels, **options) -> str:
  Image.fromarray(np.array(pixels, np.uint8)).save(path, **options)
  return str(path)


def test_a_transparent_image_is_composed_over_white_and_told(tmp_path, caplog):
  path = save(tmp_path / 'x.png', [[[255, 0, 0, 0], [0, 0, 255, 255]]])
  assert read_image(path, (1, 2, 3), 'inpaint').tolist() == [[[255] * 3, [0, 0, 255]]]
  assert f'--inpaint={path}: is transparent in parts, which are taken as white' in caplog.text


def test_a_mask_in_the_alpha_channel_is_refused(tmp_path):
  """Its colours may be of any value: nothing would be drawn anew, or all."""
  path = save(tmp_path / 'mask.png', [[[0, 0, 0, 0], [0, 0, 0, 255]]])
  with pytest.raises(
    UserError, match=r'mask\.png: is transparent in parts; a mask is opaque, white'
  ):
    read_image(path, (1, 2, 1), 'mask')
  opaque = save(tmp_path / 'opaque.png', [[[255, 255, 255, 255], [0, 0, 0, 255]]])
  assert read_image(opaque, (1, 2, 1), 'mask').ravel().tolist() == [255, 0]


def test_a_mask_of_16_bits_or_of_one(tmp_path):
  Image.fromarray(np.array([[65535, 300]], np.uint16)).save(tmp_path / '16.png')
  Image.fromarray(np.array([[True, False]])).save(tmp_path / '1.png')
  for name, expected in (('16.png', [255, 1]), ('1.png', [255, 0])):
    assert read_image(str(tmp_path / name), (1, 2, 1), 'mask').ravel().tolist() == expected


@pytest.mark.parametrize('contents', [b'', b'text', b'\x89PNG\r\n\x1a\n'])
def test_what_is_no_image_is_named(tmp_path, contents):
  (tmp_path / 'x.png').write_bytes(contents)
  with pytest.raises(UserError, match=rf'^--inpaint={tmp_path}/x\.png: '):
    read_image(str(tmp_path / 'x.png'), (1, 2, 3), 'inpaint')
  with pytest.raises(UserError, match=r'^--inpaint=gone\.png: .*No such file'):
    read_image('gone.png', (1, 2, 3), 'inpaint')
