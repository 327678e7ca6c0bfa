"""Folders of images as ArrayRecord shards, read by several hosts and in processes."""

import os
import pathlib
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc

import jax
import numpy as np
import pytest
from PIL import Image

from data import pipeline
from data.images import datasets, shards, workers
from data.images.source import ImageData
from tests.data.processes import HalfOf
from tests.data.test_pipeline import assert_equal, sharding, steps

RANDOM = dict(decode_train='inception_crop(8)|random_flip()', decode_eval='resize(8)')


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """60 training and 12 test images in 3 classes, JPEG and PNG; one of each is damaged."""
  root = tmp_path_factory.mktemp('photos')
  for split, count in (('train', 60), ('val', 12)):
    for i in range(count):
      path = root / split / 'abc'[i % 3] / f'{i:02}.{"jpg" if i % 2 else "png"}'
      path.parent.mkdir(parents=True, exist_ok=True)
      pixels = np.random.default_rng(i).integers(0, 256, (20 + i % 5, 16, 3)).astype(np.uint8)
      Image.fromarray(pixels).save(path)
      if i in (4, 5):
        path.write_bytes(path.read_bytes()[:-90])
  return root


@pytest.fixture(scope='module')
def root(photos, tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(shards, 'SHARD_BYTES', 10_000)
    patch.setattr(shards, 'CHUNK', 7)
    root = tmp_path_factory.mktemp('sets')
    shards.prepare(str(photos), root, 'photos', say=lambda line: None)
  return root


def photo_data(root, **options) -> ImageData:
  options |= dict(batch_size=16, eval_split='val', **RANDOM)
  return ImageData('photos', str(root), **options)


# -------- what is written --------


def test_shards_hold_the_files_of_the_folder_byte_by_byte(photos, root):
  folder, found = (datasets.load(*where) for where in (('folder', photos), ('photos', str(root))))
  assert found['train'].classes == ('a', 'b', 'c') and set(found) == {'train', 'val'}
  assert len(found['train'].files) > 3
  for split in ('train', 'val'):
    rows = range(folder[split].size)
    whole = [row for row in rows if folder[split].path(row)[-6:-4] not in ('04', '05')]
    assert found[split].read(range(found[split].size)) == folder[split].read(whole)


def test_what_cannot_be_decoded_is_counted_and_named(photos, tmp_path, caplog):
  shards.prepare(str(photos), tmp_path, say=lambda line: None)
  notes = [r.getMessage() for r in caplog.records if 'left out' in r.getMessage()]
  assert len(notes) == 2 and all('damaged images: 2 (' in note for note in notes), notes


def test_a_set_is_not_written_twice_nor_over_a_bad_name(photos, root):
  with pytest.raises(ValueError, match=r'photos/1\.0\.0: is there already; remove it, or'):
    shards.prepare(str(photos), root, 'photos')
  with pytest.raises(ValueError, match=r"name='My set': must be of a-z, 0-9 and _, with a letter"):
    shards.prepare(str(photos), root, 'My set')


def test_what_is_interrupted_leaves_nothing(photos, tmp_path, monkeypatch):
  def interrupt(*arguments):
    raise KeyboardInterrupt

  monkeypatch.setattr(shards.decode, 'decode', interrupt)
  with pytest.raises(KeyboardInterrupt):
    shards.prepare(str(photos), tmp_path)
  assert not list(tmp_path.glob('*/*'))


@pytest.mark.long
def test_the_verb_prints_how_the_set_is_read(photos, tmp_path):
  command = [sys.executable, 'launch.py', 'prepare', str(photos), f'--data_dir={tmp_path}']
  done = subprocess.run([*command, '--name=mine'], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    'train: 60 images, shards: 1',
    'val: 12 images, shards: 1',
    f'in {tmp_path}/mine/1.0.0: --config.data.dataset=mine --config.data.data_dir={tmp_path}',
  ]
  assert 'damaged images: 2 (' in done.stderr
  again = subprocess.run([*command, '--name=mine'], capture_output=True, text=True)
  assert again.returncode == 2 and 'is there already' in again.stderr


# -------- batches of several shards --------


def test_a_set_is_read_without_holding_it(root):
  """60 batches, of which three are in memory at a time."""
  data = ImageData(
    'photos',
    str(root),
    eval_split='val',
    batch_size=16,
    decode_train='inception_crop(64)',
    decode_eval='resize(64)',
  )
  source = data.train_source(0, sharding())
  source.next((), 0)
  tracemalloc.start()
  for step in range(1, 61):
    source.next((), step)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  data.close()
  assert peak < 12 * 16 * 64 * 64 * 3


def test_an_epoch_reads_every_record_of_every_shard_once(root):
  batches = steps(photo_data(root).train_source(0, sharding()), range(4))
  index = np.concatenate([batch['index'] for batch in batches])
  assert sorted(index[:58]) == list(range(58))


@pytest.mark.parametrize('processes', [2, 4])
def test_hosts_share_a_batch_as_one_reads_it(root, processes, monkeypatch):
  """Each reads its own rows; together they are the batch, at whatever step they begin."""
  whole, data = sharding(8), photo_data(root)
  [batch] = steps(data.train_source(3, whole), [5])
  monkeypatch.setattr(pipeline, 'to_global', lambda local, *rest: local)
  parts = []
  for devices in np.split(np.array(jax.devices()), processes):
    part = HalfOf(whole, devices)
    loader = data._new_loader('train', data._ops_train, part)
    source = pipeline.TrainSource(loader, pipeline.EpochOrder(3, 58), 16, part)
    parts.append(source.next((), 5)[1])
  assert {len(part['label']) for part in parts} == {16 // processes}
  assert_equal({name: np.concatenate([part[name] for part in parts]) for name in batch}, batch)


# -------- in processes --------


@pytest.mark.long
@pytest.mark.parametrize('dataset', ['photos', 'folder'])
def test_processes_decode_the_same_batches_as_threads(root, photos, dataset):
  place = str(root if dataset == 'photos' else photos)
  options = dict(batch_size=16, train_split='train[20:]', eval_split='val', **RANDOM)
  threads = ImageData(dataset, place, **options, in_memory='no', prefetch=0)
  processes = ImageData(dataset, place, **options, in_memory='no', processes=2)
  wanted = [0, 2] if dataset == 'photos' else [1]
  batches = [steps(data.train_source(1, sharding(8)), wanted) for data in (threads, processes)]
  assert_equal(*batches)
  processes.close()


@pytest.mark.long
def test_a_process_that_is_killed_is_told_in_a_line(root):
  data = photo_data(root, processes=1)
  source = data.train_source(0, sharding())
  source.next((), 0)
  for name in workers.SIGNALS:  # they go to all processes of a job, and are the trainer's alone
    for pid in data._processes._pool._processes:
      os.kill(pid, getattr(signal, name))
  source.next((), 1)
  for pid in data._processes._pool._processes:
    os.kill(pid, signal.SIGKILL)
  with pytest.raises(ValueError, match=r'^data\.processes=1: one of the processes .* has ended; '):
    for step in range(2, 9):
      source.next((), step)
  data.close()


@pytest.mark.long
def test_processes_end_with_the_one_that_started_them(tmp_path):
  path = tmp_path / 'program.py'
  path.write_text("""
import os, signal
import numpy as np
from data.images import records, workers
from data.remarks import Remarks

if __name__ == '__main__':
  train = records.from_arrays('train', np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, int), 'a')
  processes = workers.Processes({'train': train}, 1)
  what = workers.Decoding('train', (), (8, 8, 3))
  processes.start(what, [0, 1], [(0,), (1,)], 2, Remarks('train'))()
  print(*processes._pool._processes, flush=True)
  os.kill(os.getpid(), signal.SIGKILL)
""")
  environment = {**os.environ, 'PYTHONPATH': '.'}
  done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True)
  pid = int(done.stdout)
  for _ in range(100):
    if not pathlib.Path(f'/proc/{pid}/cmdline').exists():
      return
    time.sleep(0.1)
  pytest.fail('the process is still there')


def test_what_is_wrong_in_a_process_is_told_as_in_a_thread(photos, monkeypatch):
  """Errors and remarks come over."""
  data = ImageData('folder', str(photos), batch_size=4, eval_split='val', **RANDOM)
  train = data._splits['train']
  bad = next(row for row in range(train.size) if train.path(row).endswith('05.jpg'))
  monkeypatch.setattr(workers, '_splits', {'train': pickle.loads(pickle.dumps(train))})
  what = workers.Decoding('train', data._ops_train, (8, 8, 3))
  with tempfile.NamedTemporaryFile() as file:
    file.truncate(8 * 8 * 3)
    with pytest.raises(ValueError, match=rf'^folder .*, record {bad} \(.*05\.jpg\): '):
      workers._decode(what, [bad], [(0,)], file.name, 1, 0)


# -------- what goes wrong --------


def test_a_damaged_shard_is_named_with_the_record(root, tmp_path):
  shutil.copytree(root, tmp_path / 'sets')
  path = sorted((tmp_path / 'sets').glob('*/*/photos-train*'))[1]
  raw = bytearray(path.read_bytes())
  begin = raw.index(b'JFIF')
  raw[begin : begin + 100] = bytes(100)
  path.write_bytes(raw)
  source = photo_data(tmp_path / 'sets').train_source(0, sharding())
  with pytest.raises(
    ValueError, match=rf'^photos 1\.0\.0 train, record \d+ \(.*{path.name}\[0\]\): '
  ):
    steps(source, range(4))


def test_more_shards_than_files_that_may_be_open(root):
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) + 4, hard))
  try:
    steps(photo_data(root).train_source(0, sharding()), range(4))
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
