"""What a user's folder of classes may hold beside images, and in which order these are read."""

import collections
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from data.images import datasets
from data.images.source import ImageData


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def root(tmp_path):
  """train/ and val/ with the classes bee and cow, of 4 images each."""
  root = tmp_path / 'set'
  for split in ('train', 'val'):
    for name in ('bee', 'cow'):
      for number in range(4):
        save(root / split / name / f'{number}.png')
  return root


def save(path: pathlib.Path, value: int = 0) -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new('RGB', (4, 4), (value, value, value)).save(path, 'PNG')
  return path


def left_out(caplog) -> str:
  """The one line about what is left out; '' if there is none."""
  lines = [x.getMessage() for x in caplog.records if 'left out' in x.getMessage()]
  assert len(lines) <= 1
  return ''.join(lines)


def sizes(root) -> dict[str, int]:
  return {name: split.size for name, split in datasets.load('folder', str(root)).items()}


WHOLE = {'train': 8, 'val': 8, 'validation': 8, 'test': 8}

DROPPINGS = (
  *('@eaDir', '__MACOSX', '.ipynb_checkpoints', 'lost+found', '$RECYCLE.BIN', '.Trash-1000'),
  *('System Volume Information', '#recycle', '.git', '@tmp'),
)


@pytest.mark.parametrize('name', DROPPINGS)
def test_what_systems_drop_is_no_class_and_no_split(root, name, caplog):
  for place in (root, root / 'train', root / 'train' / 'bee', root / 'val'):
    save(place / name / 'thumb.png')
  assert sizes(root) == WHOLE
  assert datasets.load('folder', str(root))['train'].classes == ('bee', 'cow')
  assert left_out(caplog) == ''


@pytest.mark.parametrize('name', ['._0.png', 'Thumbs.db', 'desktop.ini', '.DS_Store', 'Icon\r'])
def test_files_that_systems_drop_are_no_images(root, name, caplog):
  for place in (root / 'train', root / 'train' / 'bee'):
    (place / name).write_bytes(b'\0\5\x16\7')
  assert sizes(root) == WHOLE and left_out(caplog) == ''


def test_what_is_not_used_is_counted_in_one_line(root, caplog):
  bee = root / 'train' / 'bee'
  for name in ('notes.txt', 'labels.csv', 'clip.mp4'):
    (bee / name).write_text('x')
  (bee / 'empty.png').touch()
  (root / 'train' / 'ant').mkdir()
  save(bee / 'more' / '0.png')
  save(root / 'train' / 'alone.png')
  save(root / 'beside.png')
  save(bee / '.hidden.png')
  (root / 'annotations').mkdir()
  (root / 'annotations' / 'boxes.json').write_text('{}')
  assert sizes(root) == WHOLE
  line = left_out(caplog)
  for part in (
    f'folder {root}: left out: ',
    f'files of other formats: 4 (such as {bee}/clip.mp4, {bee}/labels.csv)',
    f'empty files: 1 ({bee}/empty.png)',
    f'folders without images: 1 ({root}/train/ant)',
    f'folders within classes: 1 ({bee}/more)',
    f'images outside of the folders of classes: 1 ({root}/train/alone.png)',
    f'images beside the folder train: 1 ({root}/beside.png)',
    f'hidden files and folders: 1 ({bee}/.hidden.png)',
  ):
    assert part in line


@pytest.mark.parametrize('place', ['train/bee', 'bee'])
def test_where_nothing_is_left_the_error_says_what_there_was(tmp_path, place):
  path = tmp_path / 'phone' / place / 'IMG_1.heic'
  path.parent.mkdir(parents=True)
  path.write_bytes(b'\0\0\0\x18ftypheic')
  with pytest.raises(ValueError, match=r'left out: .*files of other formats: 1 \(.*IMG_1\.heic\)'):
    datasets.load('folder', str(tmp_path / 'phone'))


def test_an_unlabelled_test_folder_is_no_split_and_nothing_stands_for_it(root, caplog):
  save(root / 'test' / '0.png')
  assert sizes(root) == {'train': 8, 'val': 8, 'validation': 8}
  assert f'images outside of the folders of classes: 1 ({root}/test/0.png)' in left_out(caplog)


def test_links_to_folders_and_files_are_followed(root, tmp_path):
  os.rename(root / 'train' / 'cow', tmp_path / 'cow')
  (root / 'train' / 'cow').symlink_to(tmp_path / 'cow')
  (root / 'train' / 'bee' / 'link.png').symlink_to(root / 'val' / 'bee' / '0.png')
  assert sizes(root) == {**WHOLE, 'train': 9}


@pytest.mark.parametrize('name', ['bee/4.png', 'ant'])
def test_a_link_to_nothing_is_named(root, name):
  (root / 'train' / name).symlink_to('/gone')
  with pytest.raises(
    ValueError, match=rf'train/{name} \(a link to /gone\): cannot be read: No such'
  ):
    datasets.load('folder', str(root))


def test_a_link_to_itself_is_named(root):
  (root / 'train' / 'bee' / '4.png').symlink_to('4.png')
  with pytest.raises(
    ValueError, match=r'bee/4\.png \(a link to 4\.png\): cannot be read: Too many'
  ):
    datasets.load('folder', str(root))


def test_a_pipe_is_never_opened(root, caplog):
  os.mkfifo(root / 'train' / 'bee' / '4.png')
  assert sizes(root) == WHOLE
  assert 'devices and pipes: 1' in left_out(caplog)


def test_a_folder_that_may_not_be_read_is_named(root, monkeypatch):
  """Permissions mean nothing to root, as whom tests may run."""
  plain = os.scandir

  def refuse(path):
    if str(path).endswith('bee'):
      raise PermissionError(13, 'Permission denied', str(path))
    return plain(path)

  monkeypatch.setattr(os, 'scandir', refuse)
  with pytest.raises(ValueError, match='train/bee: cannot be read: Permission denied'):
    datasets.load('folder', str(root))


def test_alien_names_are_shown_in_one_line(root):
  raw = os.fsencode(root / 'train') + b'/caf\xe9\nbar'
  os.mkdir(raw)
  save(pathlib.Path(os.fsdecode(raw)) / '0.png').write_text('no image')
  data = ImageData('folder', str(root), train_split='val')
  assert data._splits['train'].classes[1].encode('utf-8', 'surrogateescape') == b'caf\xe9\nbar'
  [row] = [i for i in range(9) if 'caf' in data._splits['train'].path(i)]
  with pytest.raises(ValueError, match='cannot identify') as error:
    list(
      ImageData('folder', str(root), in_memory='no')._threads.pool.map(
        lambda i: read(data, i), [row]
      )
    )
  assert str(error.value).isprintable() and r'caf\udce9\nbar/0.png' in str(error.value)


def read(data, row):
  from data.images import records
  from data.remarks import Remarks

  source, images = data._splits['train'], np.zeros((1, 4, 4, 3), np.uint8)
  records.decode_rows(source, [row], [], [None], images, np.zeros(1, int), Remarks(''))


def test_classes_that_differ_by_case_alone_are_told(root, caplog):
  save(root / 'train' / 'Bee' / '0.png')
  assert datasets.load('folder', str(root))['train'].classes == ('Bee', 'bee', 'cow')
  assert "the classes 'Bee' and 'bee' differ by case" in caplog.text


def test_folders_of_splits_are_no_classes(root):
  """Not even where they hold images alone, and none is called train."""
  for split in ('test', 'val'):
    save(root / 'other' / split / '0.png')
  with pytest.raises(ValueError, match='has no folder train'):
    datasets.load('folder', str(root / 'other'))


def test_two_names_of_one_split_share_their_records(root, caplog):
  ImageData('folder', str(root), train_split='val', eval_split='test')
  assert 'have 8 records in common' in caplog.text


# --- order


@pytest.fixture
def sorted_set(tmp_path):
  """Ten classes of ten images in folders, no splits."""
  for label in range(10):
    for number in range(10):
      save(tmp_path / 'ten' / f'{label}' / f'{number}.png', 10 * label + number)
  return tmp_path / 'ten'


@pytest.mark.parametrize('split', ['test', 'train[:10]', 'train[80:]', 'train[-50%:]'])
def test_a_slice_of_a_folder_is_a_sample_of_all_classes(sorted_set, split):
  data = ImageData('folder', str(sorted_set), eval_split=split)
  source = data._records(split)
  from data import splits

  rows = splits.parse(data._splits, split)[1]
  counts = collections.Counter(label for _, label in source.read(rows))
  assert len(counts) == 10 and max(counts.values()) - min(counts.values()) <= 1


def test_every_tenth_record_is_a_sample_too(sorted_set):
  source = datasets.load('folder', str(sorted_set))['train']
  labels = [label for _, label in source.read(range(0, 90, 10))]
  assert len(set(labels)) > 4


def test_the_order_is_always_the_same(sorted_set):
  first, second = (datasets.load('folder', str(sorted_set))['train'] for _ in range(2))
  assert first.files == second.files and len(set(first.files)) == 90
