"""Damaged image files and TFDS folders: they are read as they are, or refused by name in a line."""

import io
import pathlib
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.images.source import ImageData
from tests.data.images.test_datasets import write_tfds
from tests.fuzzing import fuzzed
from tests.mutated import mutated

pytestmark = pytest.mark.filterwarnings('ignore')  # PIL's about damaged metadata

RNG = np.random.default_rng(0)


def encode(image: Image.Image, form: str, **options) -> bytes:
  out = io.BytesIO()
  image.save(out, form, **options)
  return out.getvalue()


def seeds() -> list[tuple[str, bytes]]:
  """Files of 12 x 8 pixels: the end of the name, and the contents."""
  noise = Image.fromarray(RNG.integers(0, 256, (8, 12, 3)).astype(np.uint8))
  ramp = Image.fromarray(np.linspace(0, 65535, 96).reshape(8, 12).astype(np.uint16))
  frames = [noise, noise.rotate(180)]
  exif = Image.Exif()
  exif[0x0112] = 6
  some = {'save_all': True, 'append_images': frames[1:]}
  return [
    ('.png', encode(noise, 'PNG', exif=exif)),
    ('.png', encode(ramp, 'PNG')),
    ('.png', encode(noise.quantize(8), 'PNG', transparency=3)),
    ('.png', encode(noise.convert('RGBA'), 'PNG', icc_profile=bytes(200))),
    ('.jpg', encode(noise, 'JPEG', exif=exif)),
    ('.jpg', encode(noise.convert('CMYK'), 'JPEG', progressive=True)),
    ('.gif', encode(noise, 'GIF', **some)),
    ('.bmp', encode(noise, 'BMP')),
    ('.tif', encode(ramp, 'TIFF', compression='tiff_lzw')),
    ('.tif', encode(noise.convert('F').point(lambda v: v / 255), 'TIFF')),
    ('.tif', encode(noise, 'TIFF', **some)),
    ('.pgm', encode(ramp, 'PPM')),
    ('.pgm', b'P2 2 2 1000 0 500 700 1000'),
    ('.webp', encode(noise, 'WEBP', lossless=True, exif=exif)),
    ('.webp', encode(noise, 'WEBP', **some)),
    ('.tga', encode(noise, 'TGA', compression='tga_rle')),
    ('.pcx', encode(noise, 'PCX')),
    ('.jp2', encode(noise, 'JPEG2000')),
  ]


SEEDS = seeds()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def read_all(data: ImageData, split: str) -> np.ndarray:
  """Every record of a split, as training without memory decodes them."""
  source, images = data._records(split), None
  from data.images import records
  from data.remarks import Remarks

  shape = records.shape_of(source, data._ops_train)
  images = np.empty((source.size, *shape), np.uint8)
  remarks, labels = Remarks(source.name), np.empty(source.size, int)
  ops, rngs = data._ops_train, [None] * source.size
  records.decode_rows(source, range(source.size), ops, rngs, images, labels, remarks)
  assert 0 <= labels.min() <= labels.max() < len(data.classes)
  return images


@fuzzed
@given(st.data())
def test_fuzz_images(tmp_path, data):
  """One damaged file in a folder of classes."""
  root = tmp_path / 'set'
  shutil.rmtree(root, ignore_errors=True)
  end, whole = data.draw(st.sampled_from(SEEDS))
  for number in range(2):
    path = root / 'train' / 'ab'[number] / f'{number}{end}'
    path.parent.mkdir(parents=True)
    path.write_bytes(whole)
  path.write_bytes(data.draw(mutated(whole)))
  try:
    opened = ImageData('folder', str(root), eval_split='train', decode_train='resize(4)')
    assert read_all(opened, 'train').shape[1:3] == (4, 4)
  except ValueError as error:
    refused_by_name(error, path)
  finally:
    if 'opened' in locals():
      opened.close()


def refused_by_name(error: ValueError, *paths: pathlib.Path) -> None:
  assert any(str(path) in str(error) for path in paths), error
  assert '\n' not in str(error) and len(str(error)) < 600, error


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
  root = tmp_path_factory.mktemp('tfds')
  write_tfds(root)
  return root / 'tiny' / '1.2.3'


@fuzzed
@given(st.data())
def test_fuzz_tfds_folders(tmp_path, tiny, data):
  """One damaged file of a prepared set."""
  folder = tmp_path / 'tfds' / 'tiny' / '1.2.3'
  shutil.rmtree(folder, ignore_errors=True)
  shutil.copytree(tiny, folder)
  path = data.draw(st.sampled_from(sorted(folder.iterdir())))
  whole = path.read_bytes()
  # Of a file of records the first 10 kB; behind them it is filled up to 64 kB.
  path.write_bytes(data.draw(mutated(whole[:10000])) + whole[10000:])
  try:
    opened = ImageData('tiny', str(tmp_path / 'tfds'))
    for split in ('train', 'test'):
      assert read_all(opened, split).shape[1:] == (12, 8, 3)
  except ValueError as error:
    assert '\n' not in str(error) and len(str(error)) < 800, error
  finally:
    if 'opened' in locals():
      opened.close()
