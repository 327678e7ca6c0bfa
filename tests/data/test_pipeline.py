"""Batches as pure functions of (seed, step), on any number of devices, in memory or streamed."""

import itertools
import threading
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sklearn.datasets import load_sample_images

from data import permutation, pipeline
from data.images import datasets, records
from data.images.loaders import StreamingLoader
from data.images.source import ImageData
from data.images.workers import Decoding, Threads
from data.remarks import Remarks
from tests.data.processes import HalfOf

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (37, 6, 5, 3)).astype(np.uint8)
LABELS = RNG.integers(0, 4, 37)
RANDOM = dict(decode_train='random_crop(4)|random_flip()', decode_eval='center_crop(4)')


def numbered(data_dir=None):
  return {
    'train': records.from_arrays('numbered train', IMAGES, LABELS, 'abcd'),
    'test': records.from_arrays('numbered test', IMAGES[:11], LABELS[:11], 'abcd'),
  }


@pytest.fixture(autouse=True)
def table(monkeypatch):
  """A new dataset is a function and a line."""
  monkeypatch.setitem(datasets.DATASETS, 'numbered', numbered)


def sharding(devices: int = 1, tensor: int = 1) -> NamedSharding:
  mesh = jax.make_mesh(
    (devices // tensor, tensor),
    ('data', 'tensor'),
    axis_types=(AxisType.Auto,) * 2,
    devices=jax.devices()[:devices],
  )
  return NamedSharding(mesh, PartitionSpec('data'))


def steps(source, wanted) -> list[dict]:
  """The batches of the steps `wanted`, as NumPy."""
  carry = source.init(jax.random.key(0))
  return [jax.tree.map(np.asarray, source.next(carry, step)[1]) for step in wanted]


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


# --- the order of records


@settings(max_examples=100)
@given(size=st.integers(1, 50), batch=st.integers(1, 120), seed=st.integers(0, 2**31))
def test_every_epoch_visits_every_record_once(size, batch, seed):
  order = pipeline.EpochOrder(seed, size)
  count = -(-3 * size // batch)
  rows = np.concatenate([order.rows(step, batch) for step in range(count)])
  for epoch in range(3):
    assert sorted(rows[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_epochs_and_seeds_differ():
  rows = [
    pipeline.EpochOrder(seed, 100).rows(step, 100).tolist() for seed in (0, 1) for step in (0, 1)
  ]
  assert len({tuple(row) for row in rows}) == 4


@settings(max_examples=100)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**31), epoch=st.integers(0, 100))
def test_a_computed_permutation_visits_every_record_once(size, seed, epoch):
  rows = permutation.permuted(np.arange(size), size, (seed, epoch))
  assert sorted(rows) == list(range(size))


def test_a_computed_permutation_is_random():
  """Every order of three is as frequent, and neighbours do not stay together."""
  orders = [tuple(permutation.permuted(np.arange(3), 3, (0, epoch))) for epoch in range(600)]
  assert all(60 < orders.count(order) < 140 for order in itertools.permutations(range(3)))
  rows = permutation.permuted(np.arange(10_000), 10**9, (5, 0))
  assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.05
  assert np.histogram(rows, 10, (0, 10**9))[0].min() > 900


def test_the_order_of_a_large_set_takes_no_memory():
  """Four gigabytes, were it kept; and it is one order however it is asked for."""
  tracemalloc.start()
  order = pipeline.EpochOrder(0, 10**9)
  step = 10**9 // 96
  rows = order.rows(step, 96)  # reaches into the next epoch
  assert tracemalloc.get_traced_memory()[1] < 1 << 20
  tracemalloc.stop()
  assert len(set(rows.tolist())) > 64
  halves = [pipeline.EpochOrder(0, 10**9).rows(2 * step + i, 48) for i in (0, 1)]
  np.testing.assert_array_equal(np.concatenate(halves), rows)


@settings(max_examples=30)
@given(
  wanted=st.lists(st.integers(0, 200), min_size=1, max_size=8), batch=st.sampled_from([4, 8, 64])
)
def test_an_order_has_no_memory(wanted, batch):
  one = pipeline.EpochOrder(3, 37)
  for step in wanted:
    np.testing.assert_array_equal(
      one.rows(step, batch), pipeline.EpochOrder(3, 37).rows(step, batch)
    )


# --- training batches


@pytest.mark.parametrize('options', [{}, {'in_memory': 'no'}, RANDOM], ids=str)
@pytest.mark.parametrize('devices', [1, 8])
def test_a_batch_depends_on_seed_and_step_alone(options, devices):
  """After a restart, backwards, twice: always the same."""
  data = ImageData('numbered', batch_size=16, **options)
  batches = steps(data.train_source(5, sharding(devices)), range(6))
  again = ImageData('numbered', batch_size=16, **options).train_source(5, sharding(8 // devices))
  for step, batch in zip((4, 1, 1, 5), steps(again, (4, 1, 1, 5)), strict=True):
    assert_equal(batch, batches[step])
  other = steps(data.train_source(6, sharding(devices)), range(1))[0]
  assert (other['index'] != batches[0]['index']).any()


def test_a_batch_holds_the_records_that_it_names():
  for in_memory in ('yes', 'no'):
    source = ImageData('numbered', batch_size=64, in_memory=in_memory).train_source(0, sharding(8))
    for batch in steps(source, range(2)):
      np.testing.assert_array_equal(batch['image'], IMAGES[batch['index']])
      np.testing.assert_array_equal(batch['label'], LABELS[batch['index']])
      assert batch['image'].dtype == np.uint8 and (batch['mask'] == 1).all()
      assert {k: v.dtype.name for k, v in batch.items() if k != 'image'} == {
        'label': 'int32',
        'index': 'int32',
        'mask': 'float32',
      }


@pytest.mark.parametrize('in_memory', ['yes', 'no'])
def test_batches_are_global_arrays_of_the_sharding(in_memory):
  for where in (sharding(1), sharding(8), sharding(8, tensor=2)):
    data = ImageData('numbered', batch_size=16, in_memory=in_memory)
    _, batch = data.train_source(0, where).next((), 0)
    assert all(x.sharding.is_equivalent_to(where, x.ndim) for x in batch.values())


def test_slices_of_a_split_are_numbered_from_their_start():
  for in_memory in ('yes', 'no'):
    data = ImageData('numbered', batch_size=8, train_split='train[10:20]', in_memory=in_memory)
    batches = steps(data.train_source(0, sharding()), range(5))
    index = np.concatenate([batch['index'] for batch in batches])
    assert sorted(index[:10]) == list(range(10))
    np.testing.assert_array_equal(batches[0]['image'], IMAGES[10 + batches[0]['index']])


def test_random_decoding_draws_anew_in_every_epoch():
  data = ImageData('numbered', batch_size=37, **RANDOM)
  assert data.image_shape == (4, 4, 3)
  first, second = steps(data.train_source(0, sharding()), range(2))
  a, b = (batch['image'][np.argsort(batch['index'])] for batch in (first, second))
  assert (a != b).any((1, 2, 3)).mean() > 0.5


def test_the_gather_in_memory_communicates_nothing():
  data = ImageData('numbered', batch_size=16)
  loader = data._loader('train', [], sharding(8))
  index = jax.device_put(np.arange(16, dtype=np.int32), sharding(8))
  text = loader._gather.lower(loader._images, loader._labels, index).compile().as_text()
  assert not [word for word in ('all-', 'collective', 'permute') if word in text]


# --- evaluation


@pytest.mark.parametrize('in_memory', ['yes', 'no'])
@pytest.mark.parametrize('devices', [1, 8])
def test_evaluation_sees_every_record_once_in_order(in_memory, devices):
  data = ImageData('numbered', batch_size=16, eval_batch_size=8, in_memory=in_memory)
  for split, size in (('test', 11), ('train', 37), ('train[:20%]', 7)):
    batches = data.eval_batches(split, sharding(devices))
    for _ in range(2):  # can be iterated again
      seen = [jax.tree.map(np.asarray, batch) for batch in batches]
      assert len(seen) == len(batches) == -(-size // 8)
      joined = {key: np.concatenate([batch[key] for batch in seen]) for key in seen[0]}
      np.testing.assert_array_equal(joined['index'][:size], np.arange(size))
      np.testing.assert_array_equal(joined['image'][:size], IMAGES[:size])
      np.testing.assert_array_equal(joined['mask'], np.arange(len(joined['mask'])) < size)
      assert (joined['index'][size:] == -1).all() and not joined['image'][size:].any()


# --- several processes, as far as one can tell in one


@pytest.mark.parametrize('tensor', [1, 2])
def test_a_process_holds_the_rows_of_its_devices(tensor):
  whole = sharding(8, tensor)
  halves = [HalfOf(whole, jax.devices()[i : i + 4]) for i in (0, 4)]
  mine = [pipeline.local_positions(half, 16) for half in halves]
  assert sorted(np.concatenate(mine)) == list(range(16)) and len(mine[0]) == 8
  local = {'x': np.arange(16)[:, None] * 10}
  out = pipeline.to_global(local, np.arange(16), whole, 16)
  assert_equal(out, local)


def test_only_the_rows_of_this_process_are_read():
  seen = []
  source = numbered()['train']

  def read(rows):
    seen.extend(rows)
    return source.read(rows)

  spy = records.Records('spy', source.classes, 3, source.size, read)
  half = HalfOf(sharding(8), jax.devices()[4:])
  threads = Threads({'train': spy}, 2)
  loader = StreamingLoader(threads, Decoding('train', (), (6, 5, 3)), 2, half, 0, Remarks('spy'))
  loader.start(np.arange(16), (0, 0))
  threads.close()
  assert sorted(seen) == list(range(10, 18))


# --- what goes wrong


def broken(data_dir=None):
  splits = numbered()

  def read(rows):
    if 7 in rows:
      raise OSError('the disk is tired')
    return [(IMAGES[row, : 6 - (row == 9)], 0) for row in rows]

  train = records.Records('broken train', tuple('abcd'), 3, 37, read, path='file-{}'.format)
  return {'train': train, 'test': splits['test']}


@pytest.mark.parametrize(
  ('split', 'in_memory', 'message'),
  [
    ('train[:9]', 'no', r'record 7 \(file-7\): cannot be read: the disk is tired'),
    ('train[8:]', 'no', r'record 9 \(file-9\): 5 x 5 x 3 pixels and not 6 x 5 x 3; bring all to'),
    ('train', 'yes', r'record 7 \(file-7\): cannot be read: the disk is tired'),
  ],
)
def test_a_record_that_fails_is_named(split, in_memory, message, monkeypatch):
  monkeypatch.setitem(datasets.DATASETS, 'broken', broken)
  data = ImageData('broken', batch_size=64, train_split=split, in_memory=in_memory)
  with pytest.raises(ValueError, match='^broken train, ' + message):
    data.train_source(0, sharding()).next((), 0)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(in_memory='maybe'), "data.in_memory='maybe': unknown; choices: auto, yes, no"),
    (dict(in_memory='yes', **RANDOM), r"data.in_memory='yes': data.decode_train=.* is random"),
    (dict(decode_eval='random_flip()'), r'data.decode_eval=.*: must not be random'),
    (dict(batch_size=0), 'data.batch_size=0: must be at least 1'),
    (dict(prefetch=-1), 'data.prefetch=-1: must be at least 0'),
    (dict(eval_split='tset'), "split 'tset': not in this set; choices: test, train"),
  ],
)
def test_impossible_settings_are_refused_when_building(options, message):
  with pytest.raises(ValueError, match=message):
    ImageData('numbered', **options)


def test_a_batch_that_the_devices_cannot_share_is_refused():
  data = ImageData('numbered', batch_size=100, eval_batch_size=4)
  with pytest.raises(ValueError, match=r'batch_size=100: .* by the 8 parts .* 96 or 104'):
    data.train_source(0, sharding(8))
  with pytest.raises(ValueError, match=r'eval_batch_size=4: .* nearest: 8'):
    data.eval_batches('test', sharding(8))
  with pytest.raises(ValueError, match='seed=-1: must be at least 0'):
    data.train_source(-1, sharding())


def test_closing_ends_the_threads():
  data = ImageData('numbered', batch_size=16, **RANDOM)
  data.train_source(0, sharding()).next((), 0)
  assert [t for t in threading.enumerate() if t.name.startswith('decode')]
  data.close()
  assert not [t for t in data._threads.pool._threads if t.is_alive()]


# --- photographs


def test_photographs_stream_through_the_inception_crop(tmp_path):
  from PIL import Image

  for split, count in (('train', 5), ('val', 2)):
    for name, photo in zip('ab', load_sample_images().images, strict=True):
      (tmp_path / split / name).mkdir(parents=True)
      for i in range(count):
        Image.fromarray(photo[:, 40 * i :]).save(tmp_path / split / name / f'{i}.jpg')
  data = ImageData(
    'folder',
    str(tmp_path),
    batch_size=8,
    decode_train='inception_crop(48)|random_flip()',
    decode_eval='resize_shorter(56)|center_crop(48)',
  )
  one, many = (steps(data.train_source(1, sharding(n)), range(3)) for n in (1, 8))
  assert_equal(one, many)
  [batch] = data.eval_batches('test', sharding(8))
  assert batch['image'].shape == (8, 48, 48, 3) and np.asarray(batch['mask']).sum() == 4


def test_an_even_draw_gives_each_part_of_a_sorted_set_its_share():
  labels = np.repeat(np.arange(10), [50, 150] * 5)
  rows = pipeline.even_rows(100, len(labels))
  assert len(set(rows)) == 100 and (np.diff(rows) > 0).all()
  assert abs(np.bincount(labels[rows]) - np.array([5, 15] * 5)).max() <= 1
  turns = np.arange(1000) % 2  # an even stride would meet one class alone
  assert 30 <= turns[pipeline.even_rows(100, 1000)].sum() <= 70
  for count in (0, 7, 8):
    assert pipeline.even_rows(count, 7).tolist() == list(range(7))


def test_batches_of_chosen_records_hold_these_in_order():
  class Loader:
    prefetch = 1

    def start(self, rows, seed):
      return lambda: rows.tolist()

  batches = pipeline.EvalBatches(Loader(), 100, 3, np.array([7, 2, 90, 5]))
  assert len(batches) == 2 and list(batches) == [[7, 2, 90], [5, -1, -1]]
  assert list(pipeline.EvalBatches(Loader(), 4, 3)) == [[0, 1, 2], [3, -1, -1]]
