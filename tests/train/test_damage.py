"""Damage to any file of a run's newest checkpoint: it is seen and said, or it changes no bit."""

import shutil

import jax
import numpy as np
import pytest

from train import config as config_lib
from train import mesh as mesh_lib
from train import verbs
from train.checkpoint import Checkpointer
from train.errors import UserError
from train.optim import make_optimizer
from train.sections import build_task
from train.step import init_state

pytestmark = pytest.mark.slow


def flip(contents, other):
  middle = len(contents) // 2
  return contents[:middle] + bytes([contents[middle] ^ 32]) + contents[middle + 1 :]


DAMAGE = {  # (contents, those of the file of that name in the step before) -> contents; None: gone
  'cut': lambda contents, other: contents[:-1],
  'halved': lambda contents, other: contents[: len(contents) // 2],
  'emptied': lambda contents, other: b'',
  'zeros': lambda contents, other: bytes(len(contents)),
  'flipped': flip,
  'removed': lambda contents, other: None,
  'of another step': lambda contents, other: other,
}


@pytest.fixture(scope='module')
def saved(tmp_path_factory, one_device):
  """Checkpoints 2 and 4 of a run with an optimiser's state and averages, and what restores them."""
  folder = tmp_path_factory.mktemp('damage') / 'run'
  config = config_lib.load('configs/lenet_digits.py')
  config['train'] |= dict(steps=4, log_every=2, eval_every=2, ema_decay=0.5)
  config = verbs.complete_config(config)
  verbs.train(config, str(folder))
  task, mesh = build_task(config), mesh_lib.make_mesh()
  tx, _ = make_optimizer(**config['optimizer'], steps=4)
  state, _ = init_state(task, tx, 0, mesh, ema=True)
  model = {'params': state.params, 'extra': state.extra, 'ema': state.ema}
  train = {'step': state.step, 'key': state.key, 'opt_state': state.opt_state, 'carry': ()}

  def restore(step=None):
    checkpoints = Checkpointer(str(folder / 'checkpoints'), read_only=True)
    found = checkpoints.restore(*jax.tree.map(abstract, (model, train)), step=step)
    checkpoints.close()
    return found[0], jax.tree.map(bits, found[1:3])

  return folder / 'checkpoints', restore, {step: restore(step)[1] for step in (2, 4)}


def abstract(leaf):
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def bits(leaf):
  is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_damaged_file_is_seen_or_harmless(saved, kind, caplog):
  """Every file in turn, the arrays' own and the metadata."""
  folder, restore, whole = saved
  passed_over = 0
  for path in sorted(path for path in (folder / '4').rglob('*') if path.is_file()):
    contents, before = path.read_bytes(), folder / '2' / path.relative_to(folder / '4')
    other = before.read_bytes() if before.exists() else b''  # arrays' files have names of their own
    damaged = DAMAGE[kind](contents, other)
    caplog.clear()
    try:
      if damaged is None:
        path.unlink()
      else:
        path.write_bytes(damaged)
      step, found = restore()
    finally:
      path.write_bytes(contents)
    jax.tree.map(np.testing.assert_array_equal, found, whole[step])
    assert ('checkpoint 4 in' in caplog.text) == (step == 2), path
    passed_over += step == 2
  assert passed_over > 5, kind


@pytest.mark.parametrize('item', ['params', 'extra', 'ema', 'train', 'meta', '.'])
def test_a_folder_that_is_gone_or_of_another_step_is_seen(saved, item, tmp_path, caplog):
  folder, restore, whole = saved
  place, aside = folder / '4' / item, tmp_path / 'aside'
  if not place.exists():
    pytest.skip(f'lenet keeps no {item}')
  for other in (None, folder / '2' / item):
    caplog.clear()
    shutil.move(place, aside)
    try:
      if other is not None:
        shutil.copytree(other, place)
      step, found = restore()
    finally:
      shutil.rmtree(place, ignore_errors=True)
      shutil.move(aside, place)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, found, whole[2])
    # A step that is not there at all is no damage.
    assert ('checkpoint 4 in' in caplog.text) != (item == '.' and other is None)


def test_where_both_are_damaged_both_are_named(saved):
  folder, restore, _ = saved
  records = [folder / step / 'meta' / 'metadata' for step in ('2', '4')]
  contents = [path.read_bytes() for path in records]
  try:
    for path in records:
      path.write_bytes(b'{}')
    with pytest.raises(UserError, match=r'damaged: step 4 \(.*step 2 \(.*no other step is there'):
      restore()
  finally:
    for path, before in zip(records, contents, strict=True):
      path.write_bytes(before)
