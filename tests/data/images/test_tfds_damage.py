"""Folders of TFDS sets whose files are damaged: each is named with what is wrong."""

import json
import shutil

import numpy as np
import pytest

from data.images.source import ImageData
from tests.data.images.test_datasets import write_tfds

TRAIN = 'tiny-train.array_record-00000-of-00001'


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  root = tmp_path_factory.mktemp('tfds')
  write_tfds(root)
  return root


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  shutil.copytree(whole, tmp_path / 'tfds')
  return tmp_path / 'tfds' / 'tiny' / '1.2.3'


def open_it(folder) -> ImageData:
  return ImageData('tiny', str(folder.parent.parent), eval_split='train')


def read_all(folder) -> np.ndarray:
  data = open_it(folder)
  items = data._records('train').read(range(20))
  return np.array([label for _, label in items])


def change(folder, name, **values) -> None:
  path = folder / name
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize('contents', [b'', b'{"a', b'[]', b'{}', b'null', b'"\xe9"', b'[' * 10**5])
@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
def test_a_damaged_description_is_told_with_the_folder(folder, name, contents):
  (folder / name).write_bytes(contents)
  with pytest.raises(ValueError, match=rf'^{folder}: TFDS cannot read it: .+') as error:
    open_it(folder)
  assert '\n' not in str(error.value)


def test_a_description_that_is_gone(folder):
  (folder / 'features.json').unlink()
  with pytest.raises(ValueError, match=rf'^{folder}: TFDS cannot read it: '):
    open_it(folder)


@pytest.mark.parametrize(
  ('lengths', 'message'),
  [
    (['10'], f'{TRAIN}: holds 20 records where 10 are expected'),
    (['30'], f'{TRAIN}: holds 20 records where 30 are expected'),
    (['10', '10'], 'tiny-train.array_record-00000-of-00002: '),
    (['-1'], "holds none of the -1 records of 'train'"),
    ([], "holds none of the 0 records of 'train'"),
  ],
)
def test_other_numbers_of_records_than_the_set_says(folder, lengths, message):
  """As when a file is of another version, or some were not copied."""
  info = json.loads((folder / 'dataset_info.json').read_text())
  [split] = [split for split in info['splits'] if split['name'] == 'train']
  change(folder, 'dataset_info.json', splits=[{**split, 'shardLengths': lengths}])
  with pytest.raises(ValueError, match=message):
    open_it(folder)


@pytest.mark.parametrize('damage', [lambda x: x[: len(x) // 2], lambda x: b'', lambda x: b'text'])
def test_a_file_that_is_cut(folder, damage):
  (folder / TRAIN).write_bytes(damage((folder / TRAIN).read_bytes()))
  with pytest.raises(ValueError, match=rf'{TRAIN}: holds 0 records where 20 are expected'):
    open_it(folder)


def test_a_flipped_bit_in_any_record(folder):
  data = bytearray((folder / TRAIN).read_bytes())
  expected = read_all(folder)
  for place in range(100, 9000, 700):
    data[place] ^= 1
    (folder / TRAIN).write_bytes(bytes(data))
    with pytest.raises(
      ValueError, match=r'tiny 1\.2\.3 train, record \d+ \(.*\): .*(mismatch|Corrupted)'
    ):
      records = open_it(folder)._records('train')
      from data.images.records import _read

      _read(records, range(20))
    data[place] ^= 1
  (folder / TRAIN).write_bytes(bytes(data))
  np.testing.assert_array_equal(read_all(folder), expected)


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    (b'ant\nbee\n', 'kind.labels.txt: 2 names for 3 classes'),
    (b'ant\nbee\nant\n', 'kind.labels.txt: 2 names for 3 classes'),
    (b'', 'kind.labels.txt: 0 names for 3 classes'),
    (b'ant\nb\xe9e\ncow\n', 'kind.labels.txt: is not UTF-8'),
  ],
)
def test_names_of_classes_that_do_not_fit(folder, names, message):
  (folder / 'kind.labels.txt').write_bytes(names)
  with pytest.raises(ValueError, match=message):
    open_it(folder)


@pytest.mark.parametrize('number', ['2', str(2**62)])
def test_labels_outside_of_the_declared_classes(folder, number):
  features = json.loads((folder / 'features.json').read_text())
  features['featuresDict']['features']['kind']['classLabel']['numClasses'] = number
  change(folder, 'features.json', **features)
  if number == '2':
    (folder / 'kind.labels.txt').write_text('ant\nbee\n')
    message = r'train, record \d+ \(.*\): cannot be read: label 2 is no class; must be from 0 to 1'
  else:
    (folder / 'kind.labels.txt').unlink()
    message = rf'{folder}: {number} classes; must be from 1 to'
  with pytest.raises(ValueError, match=message):
    data = open_it(folder)
    list(data.eval_batches('train', one_device()))


def one_device():
  import jax

  from train import mesh as mesh_lib

  return mesh_lib.batch_sharding(mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1]))
