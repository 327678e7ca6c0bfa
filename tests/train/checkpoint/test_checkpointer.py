"""Checkpoints: whatever happens to the files, what is restored is what was saved."""

import contextlib
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from train.checkpoint import Checkpointer
from train.checkpoint.record import fingerprint
from train.errors import UserError

ROOT = pathlib.Path(__file__).parents[3]


def place(tree, shape=None):
  """On one device, or the first axis over the first of a mesh's axes and the second over both."""
  if shape is None:
    return jax.device_put(tree, SingleDeviceSharding(jax.devices()[0]))
  mesh = jax.make_mesh(shape, ('a', 'b'), axis_types=(AxisType.Auto,) * 2)

  def sharding(x):
    return NamedSharding(mesh, P('a', 'b') if x.ndim == 2 else P())

  return jax.tree.map(lambda x: jax.device_put(x, sharding(x)), tree)


def state(step, shape=None):
  """(model, train), different for every step."""
  key = jax.random.fold_in(jax.random.key(0), step)
  params = {
    'dense': {'kernel': jax.random.normal(key, (32, 16)), 'bias': jnp.ones(16, jnp.bfloat16)},
    'mask': jnp.arange(5) > 2,
  }
  model = {'params': params, 'extra': {'mean': jnp.full(3, float(step))}, 'ema': ()}
  opt_state = optax.adam(1e-3).init(params)
  carry = {'nothing': (), 'empty': jnp.zeros((0, 16), jnp.int8)}
  train = {'step': jnp.int32(step), 'key': key, 'opt_state': opt_state, 'carry': carry}
  return place((model, train), shape)


def abstract(tree):
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def bits(x):
  return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(np.asarray(bits(x)), np.asarray(bits(y)))


@contextlib.contextmanager
def opened(directory, **options):
  with contextlib.closing(Checkpointer(str(directory), **options)) as checkpoints:
    yield checkpoints


def save(directory, steps, errors=None, **options):
  with opened(directory, **options) as checkpoints:
    for step in steps:
      metrics = {'test/error': errors[step]} if errors and step in errors else {}
      checkpoints.save(step, *state(step), {'metrics': metrics})
    checkpoints.wait()
    return checkpoints.steps(), checkpoints.best_step()


def restore(directory, step=None, read_only=False):
  """The step that was restored, checked to be whole."""
  with opened(directory, read_only=read_only) as checkpoints:
    found, model, train, _ = checkpoints.restore(*abstract(state(0)), step=step)
  same((model, train), state(found))
  return found


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """Steps 1, 2, 3, of which 2 is best."""
  directory = tmp_path_factory.mktemp('saved') / 'checkpoints'
  save(directory, [1, 2, 3], {1: 0.3, 2: 0.1, 3: 0.2}, keep=3)
  return directory


@pytest.fixture
def copy(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'checkpoints')


def files(directory):
  return [path for path in sorted(directory.rglob('*')) if path.is_file()]


def flip(path, bit):
  data = bytearray(path.read_bytes())
  data[bit // 8] ^= 1 << bit % 8
  path.write_bytes(data)


# -------- what is kept --------


def test_an_empty_directory_holds_nothing(tmp_path):
  with opened(tmp_path / 'absent', read_only=True) as checkpoints:
    assert checkpoints.restore(*abstract(state(0))) is None
    assert checkpoints.steps() == []
  assert not (tmp_path / 'absent').exists()


def test_everything_comes_back_with_its_dtype(saved):
  assert restore(saved) == 3
  assert restore(saved, 'best') == 2
  assert restore(saved, 1) == 1


@pytest.mark.parametrize(
  ('errors', 'mode', 'kept', 'best'),
  [
    ({1: 0.3, 2: 0.1, 3: 0.2, 4: 0.2}, 'min', [2, 3, 4], 2),
    ({1: 0.3, 2: 0.1, 3: 0.2, 4: 0.2}, 'max', [1, 3, 4], 1),
    ({1: 0.1, 2: 0.1, 3: 0.5}, 'min', [2, 3, 4], 2),  # the later of equals; 4 has no metric
    ({1: float('nan'), 2: 0.5, 3: float('nan')}, 'min', [2, 3, 4], 2),
    ({}, 'min', [3, 4], None),
  ],
)
def test_the_newest_and_the_best_are_kept(tmp_path, errors, mode, kept, best):
  assert save(tmp_path, [1, 2, 3, 4], errors, keep=2, mode=mode) == (kept, best)
  with opened(tmp_path, mode=mode, read_only=True) as checkpoints:  # known to the next run too
    assert (checkpoints.steps(), checkpoints.best_step()) == (kept, best)


def test_a_step_is_saved_once_and_never_before_a_later_one(copy):
  with opened(copy, keep=3) as checkpoints:
    checkpoints.save(3, *state(7), {})
    with pytest.raises(ValueError, match=r'step 2: .* later step 3'):
      checkpoints.save(2, *state(2), {})
  assert restore(copy) == 3


def test_meta_comes_back_exactly(tmp_path):
  meta = {'metrics': {'test/error': 0.1 + 0.2}, 'log': [[7, {'loss': [1 / 3, float('inf')]}]]}
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, *state(1), meta)
    assert checkpoints.restore(*abstract(state(1)))[3] == meta


def test_a_leaf_that_is_no_array_is_refused_by_name(tmp_path):
  model, train = state(1)
  with opened(tmp_path) as checkpoints:
    for leaf, message in {'text': 'train/carry/here: a str', np.int64(2**40): 'int32'}.items():
      with pytest.raises(ValueError, match=message):
        checkpoints.save(1, model, {**train, 'carry': {'here': leaf}}, {})
    checkpoints.save(1, model, {**train, 'carry': {'here': 3}}, {})


# -------- to other devices, in parts, and onwards --------


@pytest.mark.parametrize('target', [None, (2, 4), (1, 8)], ids=str)
def test_restores_onto_other_devices(tmp_path, target):
  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, *state(1, (8, 1)), {})
    wanted = abstract(state(0, target))
    _, model, train, _ = checkpoints.restore(*wanted)
  same((model, train), state(1))
  assert jax.tree.map(lambda x, y: x.sharding == y.sharding, (model, train), wanted) == (
    jax.tree.map(lambda x: True, wanted)
  )


def test_parameters_are_restored_without_an_optimiser(saved):
  model, _ = state(3)
  with opened(saved, read_only=True) as checkpoints:
    found = checkpoints.restore({'params': abstract(model['params'])})
  same(found[1], {'params': model['params']})
  assert found[2] is None


def test_saved_arrays_may_be_donated_at_once_and_restored_ones_too(tmp_path):
  step = jax.jit(lambda tree: jax.tree.map(lambda x: x * 2 + 1, tree), donate_argnums=0)

  def numbers():
    return place({'a': jnp.arange(4096.0).reshape(64, 64), 'b': jnp.float32(3)})

  with opened(tmp_path) as checkpoints:
    checkpoints.save(1, {'params': (tree := numbers())}, {'step': jnp.int32(1)}, {})
    step(step(tree))
    _, model, _, _ = checkpoints.restore({'params': abstract(numbers())})
    _, again, _, _ = checkpoints.restore({'params': abstract(numbers())})
  same(step(step(step(model['params']))), step(step(step(numbers()))))
  same(again['params'], numbers())


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda m, t: ({**m, 'params': {**m['params'], 'mask': jnp.ones(6, bool)}}, t), 'mask.*6'),
    (lambda m, t: ({**m, 'extra': {'mean': jnp.ones(3, jnp.bfloat16)}}, t), 'extra/mean .*bfloat'),
    (lambda m, t: ({**m, 'ema': m['params']}, t), 'only in this run: ema/dense/bias'),
    (lambda m, t: ({**m, 'extra': {}}, t), 'only in the checkpoint: extra/mean'),
    (lambda m, t: (m, {**t, 'opt_state': ()}), 'only in the checkpoint: train/opt_state/0/count'),
  ],
)
def test_another_network_or_optimiser_is_no_damage(copy, change, message):
  with opened(copy) as checkpoints:
    with pytest.raises(UserError, match=message):
      checkpoints.restore(*abstract(place(change(*state(0)))))
    assert checkpoints.steps() == [1, 2, 3]


# -------- damage --------


@pytest.mark.long
def test_a_flipped_bit_anywhere_is_seen_or_harmless(copy):
  """Every file of the newest step in turn, the arrays' own and the metadata."""
  seen = set()
  for path in files(copy / '3'):
    data = path.read_bytes()
    flip(path, 8 * (len(data) // 2) + 5)
    if restore(copy, read_only=True) == 2:
      seen.add(path.parent.name if path.parent.name == 'd' else path.name)
    path.write_bytes(data)
  assert {'d', 'manifest.ocdbt', '_METADATA', 'metadata'} <= seen


def test_a_flipped_bit_of_an_array_is_told_by_its_name(copy, caplog):
  """Orbax itself reads such a file without a complaint."""
  kernel = max(files(copy / '3' / 'params' / 'ocdbt.process_0'), key=lambda x: x.stat().st_size)
  flip(kernel, 8 * 1000)
  assert restore(copy, read_only=True) == 2
  assert 'checksum of params/dense/kernel' in caplog.text


def truncate(step):
  for path in files(step):
    path.write_bytes(path.read_bytes()[:-1])


def empty(step):
  shutil.rmtree(step)
  step.mkdir()


def replace_values(step):
  shutil.rmtree(step / 'params')
  shutil.copytree(step.parent / '1' / 'params', step / 'params')


DAMAGE = {
  'truncated': truncate,
  'half deleted': lambda step: shutil.rmtree(step / 'train'),
  'no metadata': lambda step: (step / 'train' / '_METADATA').unlink(),
  'nothing but the folder': empty,
  'other values': replace_values,
}


@pytest.mark.long
@pytest.mark.parametrize('damage', DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_step_is_passed_over_and_can_be_saved_again(copy, damage, caplog):
  damage(copy / '3')
  assert restore(copy, read_only=True) == 2
  assert (copy / '3').exists()  # who only reads leaves it there
  assert restore(copy) == 2
  assert 'checkpoint 3 in' in caplog.text
  assert (copy.parent / 'damaged' / '3').exists()
  assert save(copy, [3], keep=3)[0] == [1, 2, 3]
  assert restore(copy) == 3


def test_damage_is_passed_over_as_far_as_it_goes(copy):
  truncate(copy / '3')
  truncate(copy / '2')
  assert restore(copy, 'best', read_only=True) == 1  # 2 is best, then 3
  assert restore(copy) == 1


def test_the_folder_of_another_step_is_damage(copy, caplog):
  shutil.rmtree(copy / '3')
  shutil.copytree(copy / '1', copy / '3')
  assert restore(copy, read_only=True) == 2
  assert 'the folder holds step 1' in caplog.text


def test_what_may_not_be_read_is_no_damage(copy, monkeypatch):
  """Tensorstore tells of the system's errors in words alone."""

  def refused(*arguments, **keywords):
    raise ValueError('PERMISSION_DENIED: opening "/runs/x/3/params": Permission denied')

  monkeypatch.setattr(ocp.StandardCheckpointHandler, 'restore', refused)
  with pytest.raises(PermissionError, match='/runs/x/3/params'):
    restore(copy)
  assert (copy / '3').exists()


def test_an_old_step_half_deleted_does_no_harm(copy):
  shutil.rmtree(copy / '1' / 'meta')
  assert save(copy, [4], keep=2)[0] == [2, 3, 4]


def test_a_damaged_step_that_was_asked_for_is_an_error(copy):
  truncate(copy / '2')
  with pytest.raises(UserError, match=r'damaged: step 2 \(.*choose from 1, 3'):
    restore(copy, 2)
  with pytest.raises(UserError, match=r'step 5 is not in .* choose from best, 1, 2, 3'):
    restore(copy, 5)


def test_where_nothing_is_whole_nothing_is_moved(copy):
  for step in ('1', '2', '3'):
    truncate(copy / step)
  with pytest.raises(UserError, match=r'step 3 \(.*step 2 \(.*step 1 \(.*no other step'):
    restore(copy)
  assert sorted(path.name for path in copy.iterdir()) == ['1', '2', '3']


def test_what_fails_behind_is_raised_at_the_next_call(tmp_path):
  """A full disk, played by a limit on the size of files."""
  big = {'params': {'a': jax.random.normal(jax.random.key(0), (300, 300))}}
  checkpoints = Checkpointer(str(tmp_path))
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
  try:
    with pytest.raises(Exception, match='too large'):
      checkpoints.save(1, big, {'step': jnp.int32(1)}, {})
      checkpoints.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  checkpoints.close()
  # Orbax's threads may still write into the folder of the save that failed; in a run they would
  # have ended with the process.
  for leftover in tmp_path.glob('*.orbax-checkpoint-tmp'):
    for _ in range(100):
      shutil.rmtree(leftover, ignore_errors=True)
      if not leftover.exists():
        break
      time.sleep(0.1)
  assert save(tmp_path, [2])[0] == [2]


SAVING = """
import sys
from tests.train.checkpoint.test_checkpointer import opened, state
with opened(sys.argv[1]) as checkpoints:
  for step in range(1, 1000):
    checkpoints.save(step, *state(step), {})
    print(step, flush=True)
"""


def test_a_kill_in_the_middle_of_a_save_leaves_a_whole_step(tmp_path):
  command = [sys.executable, '-c', SAVING, str(tmp_path / 'checkpoints')]
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
    for line in process.stdout:
      if line.strip() == '4':  # 3 is complete, 4 is being written
        process.send_signal(signal.SIGKILL)
        break
  assert restore(tmp_path / 'checkpoints') in (3, 4)
  assert not list(tmp_path.rglob('*tmp*'))


# -------- checksums --------

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.int32, np.uint8, np.int8, bool, np.uint32]


@given(st.sampled_from(DTYPES), st.integers(0, 2**31), st.integers(0, 23))
def test_every_flipped_bit_changes_the_fingerprint(dtype, bit, seed):
  random = np.random.default_rng(seed)
  x = random.integers(0, 2, size=(3, 8)).astype(dtype)
  y = x.copy()
  index = bit % x.size
  if dtype is bool:
    y.flat[index] = not y.flat[index]
  else:
    flat = y.reshape(-1).view(np.uint8)
    flat[bit // 8 % flat.size] ^= 1 << bit % 8
  assert int(fingerprint(x)) != int(fingerprint(y))


def test_the_fingerprint_tells_apart_what_sums_do_not():
  x = jnp.arange(12.0).reshape(3, 4)
  others = [x[::-1], x.at[0, 0].set(-0.0), -x, x.at[0, 0].add(1).at[0, 1].add(-1), x + 0 * 1j]
  assert len({int(fingerprint(y)) for y in [x, *others]}) == 6


@pytest.mark.parametrize('shape', [(8, 1), (1, 8), (2, 4)], ids=str)
def test_the_fingerprint_does_not_depend_on_the_devices(shape):
  x = jax.random.normal(jax.random.key(0), (16, 8))
  assert int(fingerprint(place(x, shape))) == int(fingerprint(place(x)))


def test_the_fingerprint_of_a_key_is_of_its_words():
  keys = [jax.random.key(seed) for seed in range(3)]
  assert len({int(fingerprint(key)) for key in keys}) == 3
