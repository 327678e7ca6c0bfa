"""Text as batches: what is in one, on any devices, after a restart, in several processes."""

from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from data.text import rows as rows_lib
from data.text.source import TextData
from tests.data.processes import HalfOf
from tests.data.text import small_texts
from tests.data.text.small_texts import EOT

cache, story, library = small_texts.cache, small_texts.story, small_texts.library  # fixtures


def sharding(devices: int = 1) -> NamedSharding:
  auto = (AxisType.Auto,)
  mesh = jax.make_mesh((devices,), ('data',), axis_types=auto, devices=jax.devices()[:devices])
  return NamedSharding(mesh, PartitionSpec('data'))


def steps(source, wanted) -> list[dict]:
  return [jax.tree.map(np.asarray, source.next((), step)[1]) for step in wanted]


def joined(batches) -> dict[str, np.ndarray]:
  batches = [jax.tree.map(np.asarray, batch) for batch in batches]
  return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('packing', ['stream', 'documents'])
def test_a_batch_depends_on_seed_and_step_alone(library, packing):
  """After a restart, backwards, twice, on another number of devices: always the same."""
  data = TextData(library, block_size=16, batch_size=8, packing=packing)
  batches = steps(data.train_source(5, sharding(1)), range(30))
  again = TextData(library, block_size=16, batch_size=8, packing=packing)
  source = again.train_source(5, sharding(8))
  for step, batch in zip((17, 4, 4, 29), steps(source, (17, 4, 4, 29)), strict=True):
    assert_equal(batch, batches[step])
  other = steps(data.train_source(6, sharding(1)), [0])[0]
  assert (other['tokens'] != batches[0]['tokens']).any()
  assert (batches[0]['tokens'] != batches[1]['tokens']).any()
  data.close()


@pytest.mark.parametrize('packing', ['stream', 'documents'])
def test_what_a_batch_is_made_of(library, packing):
  data = TextData(library, block_size=16, batch_size=8, packing=packing)
  _, batch = data.train_source(0, where := sharding(8)).next((), 0)
  forms = {key: (x.shape, x.dtype.name) for key, x in batch.items()}
  expected = {'tokens': ((8, 17), 'int32'), 'mask': ((8, 16), 'float32'), 'index': ((8,), 'int32')}
  if packing == 'documents':
    expected['segments'] = ((8, 17), 'int32')
  assert forms == expected
  assert all(x.sharding.is_equivalent_to(where, x.ndim) for x in batch.values())


def test_an_epoch_is_every_row_once_however_it_is_batched(story):
  data = TextData(story, block_size=16, batch_size=8)
  source = data.train_source(1, sharding())
  size = data._rows_of('train').size
  rows = joined(steps(source, range(-(-3 * size // 8))))
  for epoch in range(3):
    here = slice(epoch * size, (epoch + 1) * size)
    assert sorted(rows['index'][here]) == list(range(size))
    counted = np.bincount(rows['tokens'][here, 1:][rows['mask'][here] > 0], minlength=257)
    stream = data.tokens('train').stream
    np.testing.assert_array_equal(counted, np.bincount(stream[1:], minlength=257))


@pytest.mark.parametrize('devices', [1, 8])
@pytest.mark.parametrize('block', [16, 27, 5000])
def test_an_evaluation_reads_the_split_in_order_and_once(story, devices, block):
  data = TextData(story, block_size=16, eval_batch_size=8)
  data.block_size = block
  batches = data.eval_batches('validation', sharding(devices))
  assert len(batches) == len(list(batches)) == len(list(batches))  # again
  rows = joined(batches)
  stream = data.tokens('validation').stream
  real = rows['index'] >= 0
  assert rows['index'][real].tolist() == list(range(real.sum()))
  np.testing.assert_array_equal(rows['tokens'][:, 1:][rows['mask'] > 0], stream[1:])
  np.testing.assert_array_equal(rows['tokens'][:, :-1][rows['mask'] > 0], stream[:-1])
  assert not rows['mask'][~real].any() and (rows['mask'][real].sum(1) > 0).all()


def test_an_evaluation_of_documents(library):
  data = TextData(library, block_size=16, batch_size=8, packing='documents')
  rows = joined(data.eval_batches('validation', sharding()))
  counted = np.bincount(rows['tokens'][:, 1:][rows['mask'] > 0], minlength=257)
  assert (counted[ord('l')], counted[ord('n')], counted[EOT]) == (110, 130, 2)


def test_batches_that_devices_cannot_share_are_refused(story):
  data = TextData(story, block_size=8, batch_size=12, eval_batch_size=4)
  with pytest.raises(ValueError, match=r'data.batch_size=12: .* the 8 parts .*nearest: 8 or 16'):
    data.train_source(0, sharding(8))
  with pytest.raises(ValueError, match=r'data.eval_batch_size=4: .*nearest: 8$'):
    data.eval_batches('validation', sharding(8))
  with pytest.raises(ValueError, match='seed=-1: must be at least 0'):
    data.train_source(-1, sharding())


# -------- several processes, as far as one can tell in one --------


class Spy:
  size, block_size, has_segments = 100, 2, False

  def __init__(self):
    self.seen = []

  def read(self, rows):
    self.seen += rows.tolist()
    return {
      'tokens': np.zeros((len(rows), 3), np.int32),
      'mask': np.ones((len(rows), 2), np.float32),
    }


def test_processes_read_disjoint_rows_that_make_up_the_whole():
  spies, wanted = [Spy(), Spy()], np.random.default_rng(0).permutation(100)[:16]
  with ThreadPoolExecutor(1) as pool:
    for i, spy in enumerate(spies):
      half = HalfOf(sharding(8), jax.devices()[4 * i : 4 * i + 4])
      rows_lib.RowLoader(spy, half, pool).start(wanted, (0, 0))
  assert len(spies[0].seen) == len(spies[1].seen) == 8
  assert spies[0].seen + spies[1].seen == wanted.tolist()
