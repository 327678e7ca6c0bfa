"""A fingerprint tells other data under the same name, and nothing else."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from data import fingerprint
from data.images.source import ImageData
from data.text.source import TextData


@pytest.fixture
def folder(tmp_path):
  root = tmp_path / 'here'
  for name in ('a/1', 'a/2', 'b/1'):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name * 100)
  return root


def of(root):
  return fingerprint.of_files(sorted(str(path) for path in root.rglob('*') if path.is_file()))


def test_moved_copied_or_touched_files_have_the_same(folder, tmp_path):
  before = of(folder)
  for path in folder.rglob('*'):
    os.utime(path, (1, 1))
  assert of(folder) == before
  shutil.copytree(folder, tmp_path / 'elsewhere' / 'deep')
  assert of(tmp_path / 'elsewhere' / 'deep') == before


@pytest.mark.parametrize(
  'change',
  [
    lambda root: (root / 'a/1').write_text('A/1' * 100),  # as many bytes
    lambda root: (root / 'a/1').write_text('a/1' * 99),
    lambda root: (root / 'a/2').rename(root / 'a/3'),
    lambda root: (root / 'b/1').rename(root / 'a/3'),
    lambda root: (root / 'a/2').unlink(),
    lambda root: (root / 'a/2').chmod(0o644) or (root / 'c').write_text(''),
  ],
)
def test_other_files_have_another(folder, change):
  before = of(folder)
  change(folder)
  assert of(folder) != before


def test_of_large_sets_an_even_sample_is_read(tmp_path, monkeypatch):
  monkeypatch.setattr(fingerprint, 'BLOCK', 8)
  monkeypatch.setattr(fingerprint, 'MOST', 80)
  monkeypatch.setattr(fingerprint, 'FILES', 3)
  path = tmp_path / 'large'
  contents = bytes(range(250)) * 4
  path.write_bytes(contents)
  seen = 0
  whole = fingerprint.of_files([str(path)])
  for place in range(0, 1000, 10):
    path.write_bytes(contents[:place] + b'\xff' + contents[place + 1 :])
    seen += fingerprint.of_files([str(path)]) != whole
  assert 5 <= seen <= 15  # 80 of 1,000 bytes
  path.write_bytes(contents[:-1] + b'\xff')
  assert fingerprint.of_files([str(path)]) != whole
  many = [str(tmp_path / str(i)) for i in range(9)]
  for name in many:
    shutil.copy(path, name)
  before = fingerprint.of_files(many)
  os.truncate(many[4], 5)
  assert fingerprint.of_files(many) != before


def test_what_cannot_be_read_counts_by_its_name(tmp_path):
  gone = [str(tmp_path / name) for name in ('x', 'y')]
  assert fingerprint.of_files(gone) == fingerprint.of_files(gone) != fingerprint.of_files(gone[:1])
  assert fingerprint.of_files([]) == fingerprint.of_files([])


def test_arrays_differ_by_type_shape_and_contents():
  x = np.arange(12, dtype=np.int32)
  several = [x, x + 1, x.reshape(3, 4), x.view(np.uint32), x[:11].copy(), x[:0].copy()]
  assert len({fingerprint.of_arrays(array) for array in several}) == len(several)
  assert fingerprint.of_arrays(x, x) != fingerprint.of_arrays(x)


# -------- of the sources --------


def one_device():
  import jax
  from jax.sharding import NamedSharding, PartitionSpec

  mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1])
  return NamedSharding(mesh, PartitionSpec('data'))


def test_a_text_of_the_same_characters_is_another(tmp_path):
  def read(text):
    (tmp_path / 'text.txt').write_text(text)
    data = TextData(str(tmp_path / 'text.txt'), block_size=8, batch_size=2)
    data.train_source(0, one_device())
    data.eval_batches('validation', one_device())
    data.close()
    return data.fingerprints()

  first = read('to be or not ' * 40)
  assert set(first) == {'train', 'validation'}
  assert read('to be or not ' * 40) == first
  other = read('or not to be ' * 40)
  assert other['train'] != first['train']


def test_images_are_told_by_their_files_or_their_pixels(tmp_path):
  for split, number in (('train', 4), ('test', 2)):
    for name in ('bee', 'cow'):
      (tmp_path / split / name).mkdir(parents=True)
      for i in range(number):
        Image.new('L', (8, 8), 20 * i).save(tmp_path / split / name / f'{i}.png')

  def read(**arguments):
    data = ImageData(batch_size=2, **arguments)
    assert data.fingerprints() == {}
    data.train_source(0, one_device())
    data.eval_batches('test', one_device())
    data.close()
    return data.fingerprints()

  first = read(dataset='folder', data_dir=str(tmp_path))
  Image.new('L', (8, 8), 99).save(tmp_path / 'train' / 'cow' / '0.png')
  second = read(dataset='folder', data_dir=str(tmp_path))
  assert first['train'] != second['train'] and first['test'] == second['test']
  digits = read()
  assert digits == read() and len(set(digits.values())) == 2
