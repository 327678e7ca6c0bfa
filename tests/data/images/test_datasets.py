"""Sets by name: digits, folders of photographs, and TFDS sets written here without TensorFlow."""

import io
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from tensorflow_datasets.core import registered

from data import splits as splits_lib
from data.images import datasets, decode, records
from data.images.source import ImageData

TINY = (12, 8)  # height, width of the TFDS set's images


def encode(pixels: np.ndarray, form: str = 'PNG') -> bytes:
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, form, quality=90)
  return out.getvalue()


def tiny_pixels(index: int) -> np.ndarray:
  return np.random.default_rng(index).integers(0, 256, (*TINY, 3)).astype(np.uint8)


def write_tfds(root: pathlib.Path, damaged: tuple = (), features: dict | None = None) -> None:
  """The set 'tiny', 1.2.3: 20 training and 7 test images in 3 classes; `damaged` are no images."""
  with registered.skip_registration():
    write_registered(root, damaged, features)


def write_registered(root: pathlib.Path, damaged: tuple, features: dict | None) -> None:
  form = {
    'photo': tfds.features.Image(shape=(*TINY, 3)),
    'kind': tfds.features.ClassLabel(names=['ant', 'bee', 'cow']),
    'id': tfds.features.Text(),
  }

  class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('1.2.3')
    name = 'tiny'
    url_infos: dict = {}  # nothing is downloaded

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(features or form)
      )

    def _split_generators(self, dl_manager):
      return {'train': self._generate_examples(20), 'test': self._generate_examples(7)}

    def _generate_examples(self, count):
      for i in range(count):
        data = b'no image' if i in damaged else encode(tiny_pixels(i))
        row = {'photo': io.BytesIO(data), 'kind': i % 3, 'id': str(i)}
        yield i, {key: row[key] for key in self.info.features}

  Tiny(data_dir=root, file_format='array_record').download_and_prepare()


@pytest.fixture(scope='module')
def tfds_root(tmp_path_factory):
  root = tmp_path_factory.mktemp('tfds')
  write_tfds(root)
  return root


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
  """china.jpg and flower.jpg, 427 x 640, cut into a folder of JPEGs in two classes."""
  root = tmp_path_factory.mktemp('photographs')
  for photo, name in zip(load_sample_images().images, ('china', 'flower'), strict=True):
    for split, count in (('train', 6), ('val', 2)):
      (root / split / name).mkdir(parents=True)
      for i in range(count):
        part = Image.fromarray(photo[20 * i :, 30 * i :])
        part.save(root / split / name / f'{i}.JPEG', quality=90)
  (root / 'train' / 'china' / 'notes.txt').write_text('not an image')
  return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache' / 'breakthroughs' / 'data'


def pixels_of(split: records.Records, spec: str = '') -> np.ndarray:
  ops = decode.parse(spec, 'spec')
  items = split.read(range(split.size))
  return np.stack([decode.decode(item, ops, split.channels) for item, _ in items])


# --- digits


def test_digits_are_scikit_learn_s_in_a_stratified_split():
  splits = datasets.load('digits')
  assert {name: split.size for name, split in splits.items()} == {'train': 1437, 'test': 360}
  labels = {n: np.array([y for _, y in s.read(range(s.size))]) for n, s in splits.items()}
  share = np.bincount(labels['test']) / np.bincount(np.concatenate([*labels.values()]))
  np.testing.assert_allclose(share, 0.2, atol=0.01)
  small = load_digits().images
  shrunk = np.concatenate([pixels_of(split, 'resize(8)') for split in splits.values()])
  assert (
    np.abs(np.sort(shrunk.mean((1, 2, 3)) / 255 * 16) - np.sort(small.mean((1, 2)))).max() < 0.3
  )


def test_digits_of_the_two_splits_differ_and_never_change():
  splits = datasets.load('digits')
  train, test = ({x.tobytes() for x in pixels_of(splits[name])} for name in ('train', 'test'))
  assert not train & test
  again = datasets.load('digits')
  np.testing.assert_array_equal(pixels_of(splits['test']), pixels_of(again['test']))


# --- slices


@pytest.mark.parametrize(
  ('split', 'rows'),
  [
    ('train', range(1437)),
    ('train[:90%]', range(1293)),
    ('train[90%:]', range(1293, 1437)),
    ('train[100:110]', range(100, 110)),
    ('test[-5:]', range(355, 360)),
    ('test[:-10%]', range(324)),
  ],
)
def test_splits_are_sliced_as_in_tfds(split, rows):
  splits = datasets.load('digits')
  name, found = splits_lib.parse(splits, split)
  assert name == split.split('[')[0] and found == rows
  assert ImageData(eval_split=split).num_examples(split) == len(rows)


@pytest.mark.parametrize('split', ['train[:1%]', 'train[33%:66%]', 'train[:-7%]', 'test[30%:-10%]'])
def test_slices_have_the_size_that_tfds_gives_them(split, tfds_root):
  splits = datasets.load('tiny', str(tfds_root))
  info = tfds.builder_from_directory(tfds_root / 'tiny' / '1.2.3').info
  expected = info.splits[split].num_examples
  if expected:
    assert len(splits_lib.parse(splits, split)[1]) == expected
  else:
    with pytest.raises(ValueError, match='holds none of the'):
      splits_lib.parse(splits, split)


@pytest.mark.parametrize(
  ('split', 'message'),
  [
    ('valid', r"split 'valid': not in this set; choices: test, train"),
    ('train[:90 %]', r"write 'train', 'train\[:90%\]'"),
    ('train[:2000]', '2000 lies outside the 1437 records'),
    ('train[5:5]', 'holds none of the 1437 records'),
  ],
)
def test_mistakes_in_a_split_are_named(split, message):
  with pytest.raises(ValueError, match=message):
    ImageData(train_split=split)


def test_records_that_are_trained_and_evaluated_on_are_told(caplog):
  ImageData(train_split='train[:80%]', eval_split='train[70%:]')
  line = "data.train_split='train[:80%]' and data.eval_split='train[70%:]' have 144 records in"
  assert line in caplog.text
  caplog.clear()
  ImageData(train_split='train[:80%]', eval_split='train[80%:]')
  assert not caplog.text


def test_a_slice_of_sorted_arrays_that_misses_classes_is_told(monkeypatch, caplog):
  labels = np.arange(40) // 10
  arrays = records.from_arrays('four', np.zeros((40, 4, 4, 1), np.uint8), labels, 'abcd')
  monkeypatch.setitem(datasets.DATASETS, 'four', lambda data_dir: {'train': arrays})
  ImageData('four', train_split='train[:75%]', eval_split='train[75%:]')
  assert "split 'train[75%:]' holds 1 of the 4 classes of 'train'" in caplog.text
  assert "split 'train[:75%]' holds 3 of the 4 classes" in caplog.text


# --- folder


def test_a_folder_of_photographs(photographs):
  data = ImageData(
    'folder', str(photographs), decode_train='inception_crop(32)|random_flip()', in_memory='no'
  )
  assert data.classes == ('china', 'flower') and data.image_shape == (32, 32, 3)
  assert data.num_examples('train') == 12
  assert all(data.num_examples(name) == 4 for name in ('val', 'validation', 'test'))
  split = datasets.load('folder', str(photographs))['train']
  labels = [label for _, label in split.read(range(12))]
  assert [('china', 'flower')[label] in split.path(i) for i, label in enumerate(labels)] == [
    True
  ] * 12
  assert sorted(labels[:6]) == [0] * 3 + [1] * 3  # a slice holds each class' share


def test_layouts_that_are_no_folder_of_classes_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r'data_dir is not set.*SPLIT/CLASS/IMAGE'):
    datasets.load('folder')
  with pytest.raises(ValueError, match='has no folder train'):
    datasets.load('folder', str(tmp_path))
  (tmp_path / 'train' / 'a').mkdir(parents=True)
  with pytest.raises(ValueError, match='holds no images'):
    datasets.load('folder', str(tmp_path))
  (tmp_path / 'train' / 'a' / '0.png').write_bytes(encode(tiny_pixels(0)))
  (tmp_path / 'val' / 'b').mkdir(parents=True)
  (tmp_path / 'val' / 'b' / '0.png').write_bytes(encode(tiny_pixels(0)))
  with pytest.raises(ValueError, match="'b' is no class of the folder train"):
    datasets.load('folder', str(tmp_path))


# --- TFDS


def test_a_tfds_set_is_read_by_its_name_alone(tfds_root, monkeypatch):
  """The features are found by their types, here 'photo' and 'kind'."""
  monkeypatch.setenv('TFDS_DATA_DIR', str(tfds_root))
  for name in ('tiny', 'tiny:1.2.3'):
    splits = datasets.load(name)
    assert {n: s.size for n, s in splits.items()} == {'train': 20, 'test': 7}
    assert splits['train'].classes == ('ant', 'bee', 'cow')
  found = {x.tobytes() for x in pixels_of(splits['train'])}
  assert found == {tiny_pixels(i).tobytes() for i in range(20)}  # TFDS shuffles as it writes
  data = ImageData('tiny', batch_size=4)
  assert data.image_shape == (*TINY, 3)


def test_neither_tensorflow_nor_a_backend_is_started(tfds_root):
  code = (
    'import sys, data.images.source, jax; '
    "print(data.images.source.ImageData('tiny', data_dir=sys.argv[1]).image_shape); "
    "assert 'tensorflow' not in sys.modules; assert not jax._src.xla_bridge._backends"
  )
  command = [sys.executable, '-c', code, str(tfds_root)]
  done = subprocess.run(command, capture_output=True, text=True, timeout=100)
  assert done.returncode == 0, done.stderr
  assert '(12, 8, 3)' in done.stdout


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('tinny', r"'tinny': not found in .*; choices there: digits, folder, tiny\. To prepare it, .*"),
    ('tiny:9.9.9', r"'tiny:9.9.9': .* has only 1\.2\.3"),
    ('tiny/a/b', r"'tiny/a/b': write 'NAME', 'NAME/CONFIG' or 'NAME:VERSION'"),
  ],
)
def test_absent_sets_are_named_with_what_to_do(name, message, tfds_root):
  with pytest.raises(ValueError, match=f'^data.dataset={message}$') as error:
    ImageData(name, data_dir=str(tfds_root))
  assert '\n' not in str(error.value)


def test_the_message_of_an_absent_set_holds_the_command_and_the_place(monkeypatch, tmp_path):
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
  monkeypatch.setenv('HOME', str(tmp_path))
  root = tmp_path / 'tensorflow_datasets'
  with pytest.raises(ValueError, match=r'data.data_dir and TFDS_DATA_DIR are not set') as error:
    datasets.load('mnist')
  assert str(error.value).endswith(f': python launch.py prepare mnist --data_dir={root}')
  with pytest.raises(ValueError, match='not found') as error:
    datasets.load('kmnist')
  assert f"tfds.builder('kmnist', data_dir='{root}', file_format='array_record')" in str(
    error.value
  )


def test_tfrecord_is_refused_with_the_command_that_converts(tfds_root, tmp_path):
  copy = tmp_path / 'tiny' / '1.2.3'
  copy.mkdir(parents=True)
  for path in (tfds_root / 'tiny' / '1.2.3').iterdir():
    (copy / path.name).write_bytes(path.read_bytes())
  info = copy / 'dataset_info.json'
  info.write_text(info.read_text().replace('array_record', 'tfrecord'))
  with pytest.raises(ValueError, match=r'stored as tfrecord.*tfds convert_format') as error:
    datasets.load('tiny', str(tmp_path))
  assert '\n' not in str(error.value)


def test_a_set_without_labels_is_refused(tmp_path):
  write_tfds(tmp_path, features={'photo': tfds.features.Image(shape=(*TINY, 3))})
  with pytest.raises(ValueError, match=r'no feature named label .*features are photo: Image'):
    datasets.load('tiny', str(tmp_path))


# --- the real sets, where they are


@pytest.mark.skipif('TFDS_DATA_DIR' not in os.environ, reason='TFDS_DATA_DIR is not set')
@pytest.mark.parametrize(
  ('name', 'split', 'size', 'mean'),
  [('mnist', 'test', 10000, 0.1325), ('cifar10', 'test', 10000, 0.4765)],
)
def test_the_real_sets(name, split, size, mean):
  try:
    splits = datasets.load(name)
  except ValueError as error:
    pytest.skip(str(error))
  assert splits[split].size == size and len(splits[split].classes) == 10
  rows = range(0, size, 20)
  items = splits[split].read(rows)
  pixels = np.stack([decode.decode(item, (), splits[split].channels) for item, _ in items])
  assert pixels.mean() / 255 == pytest.approx(mean, rel=0.03)
