"""Decoded pixels in the cache: until a file changes, and as they were written."""

import os

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from data.images import decode, records
from data.images.source import ImageData
from tests.data.images.test_datasets import write_tfds


@pytest.fixture
def photographs(tmp_path):
  """Twelve JPEGs of two classes."""
  root = tmp_path / 'photographs'
  for photo, name in zip(load_sample_images().images, ('china', 'flower'), strict=True):
    for i in range(8):
      path = root / ('val' if i > 5 else 'train') / name / f'{i}.JPEG'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(photo[20 * i :, 30 * i :]).save(path, quality=90)
  return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache' / 'breakthroughs' / 'data'


def read_all(data: ImageData, spec: str = '') -> np.ndarray:
  """Through the cache, as training in memory does."""
  ops = decode.parse(spec, 'spec')
  split = data._records('train')
  return records.decoded(split, ops, records.shape_of(split, ops), data._threads.pool)[0]


def test_pixels_are_cached_until_a_file_changes(tmp_path, cache, photographs, monkeypatch):
  data = ImageData('folder', str(photographs), decode_train='resize(16)')
  first = read_all(data, 'resize(16)')
  decoded, plain = [], decode.decode
  monkeypatch.setattr(decode, 'decode', lambda *a: decoded.append(1) or plain(*a))

  def count(spec='resize(16)'):
    decoded.clear()
    pixels = read_all(data, spec)
    return len(decoded) - 1, pixels  # all but the one that tells the shape

  number, again = count()
  assert number == 0
  np.testing.assert_array_equal(again, first)
  assert count('resize(20)')[0] == 12
  os.utime(photographs / 'train' / 'china' / '0.JPEG', ns=(0, 0))
  assert count()[0] == 12
  assert not [path for path in cache.iterdir() if path.name.startswith('unfinished')]


DAMAGE = {
  'a bit': lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
  'zeros': lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
  'emptied': lambda data: b'',
  'cut': lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize('damage', list(DAMAGE))
@pytest.mark.parametrize('name', ['images.npy', 'labels.npy', 'checksums.json'])
def test_a_damaged_cache_is_told_and_made_again(damage, name, cache, photographs, caplog):
  data = ImageData('folder', str(photographs), decode_train='resize(16)')
  first = read_all(data, 'resize(16)')
  [file] = cache.glob(f'*/{name}')
  file.write_bytes(DAMAGE[damage](file.read_bytes()))
  np.testing.assert_array_equal(read_all(data, 'resize(16)'), first)
  read_all(data, 'resize(16)')  # whole once more
  [line] = [x.getMessage() for x in caplog.records if 'made again' in x.getMessage()]
  assert name in line


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, photographs):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  data = ImageData('folder', str(photographs), decode_train='resize(16)')
  assert read_all(data, 'resize(16)').shape == (12, 16, 16, 3)


def test_a_damaged_record_is_named(tmp_path):
  write_tfds(tmp_path, damaged=(3,))
  with pytest.raises(
    ValueError, match=r'tiny 1\.2\.3 train, record \d+ \(.*\): cannot identify image'
  ):
    read_all(ImageData('tiny', str(tmp_path), eval_split='train'))


def test_damaged_files_are_named(tmp_path):
  write_tfds(tmp_path)
  [path] = (tmp_path / 'tiny' / '1.2.3').glob('*train*')
  whole = path.read_bytes()
  path.write_bytes(whole[:500] + bytes(64) + whole[564:])
  with pytest.raises(ValueError, match=r'tiny 1\.2\.3 train, record \d+ \(.*\): '):
    read_all(ImageData('tiny', str(tmp_path), eval_split='train'))
  path.unlink()
  with pytest.raises(ValueError, match=r'tiny 1\.2\.3 train, record 0 \(.*\): cannot be read'):
    read_all(ImageData('tiny', str(tmp_path), eval_split='train'))
