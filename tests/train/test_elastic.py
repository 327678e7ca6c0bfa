"""A run that was saved on some devices goes on on others: what it computes stays the same."""

import contextlib
import functools
import math
import tempfile

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.train import toy
from tests.train.test_loop import metrics
from train import mesh as mesh_lib
from train import verbs
from train.checkpoint import Checkpointer
from train.checkpoint.place import moved
from train.errors import UserError
from train.optim import make_optimizer
from train.step import abstract_state

STEPS = 12
# All that eight devices make, and some that fewer do.
LAYOUTS = [(a, b, 8 // a // b) for a in (1, 2, 4, 8) for b in (1, 2, 4, 8) if a * b <= 8]
FEWER = [(1, 1, 1), (2, 1, 1), (1, 2, 2), (4, 1, 1)]


def hop(workdir, layout, monkeypatch, stop=None, **settings):
  """Trains up to a step, as if it was then asked to stop."""
  asked = 'train.runtime.preemption.Preemption.requested'
  with monkeypatch.context() as patch:
    patch.setattr(asked, lambda self, step: step == stop)
    options = {'log_every': 1, 'eval_every': 0, 'ema_decay': 0.9, **settings}
    toy.train(workdir, STEPS, layout, devices=math.prod(layout), **options)


@pytest.mark.slow
def test_a_run_goes_from_mesh_to_mesh_and_ends_as_one_that_stayed(tmp_path, monkeypatch, capsys):
  """SGD with momentum, averaged weights, running statistics: each step on another mesh."""
  hop(tmp_path / 'stayed', (1, 1, 1), monkeypatch)
  for step, layout in enumerate([*LAYOUTS, *FEWER[:2]]):
    kind = {'parallel': 'pmap'} if layout == (2, 1, 1) else {}
    hop(tmp_path / 'moved', layout, monkeypatch, stop=step + 1, **kind)
  before = 'saved with mesh data=1 fsdp=1 tensor=8 context=1, processes 1, accumulate 1; goes on'
  assert before + ' whole with mesh data=1 fsdp=2 tensor=4 context=1, ' in capsys.readouterr().err
  for ours, theirs in zip(metrics(tmp_path / 'moved'), metrics(tmp_path / 'stayed'), strict=True):
    assert ours == pytest.approx(theirs, abs=1e-6)  # the last is of the averaged weights


@pytest.mark.long
def test_fewer_devices_take_more_microbatches(tmp_path, monkeypatch, capsys):
  hop(tmp_path / 'stayed', (8, 1, 1), monkeypatch)
  hop(tmp_path / 'moved', (8, 1, 1), monkeypatch, stop=5)
  assert 'goes on' not in capsys.readouterr().err
  hop(tmp_path / 'moved', (2, 1, 1), monkeypatch, stop=8, accumulate=4)
  assert 'accumulate 4; BatchNorm and dropout see other microb' in capsys.readouterr().err
  hop(tmp_path / 'moved', (1, 4, 1), monkeypatch, accumulate=2)
  for ours, theirs in zip(metrics(tmp_path / 'moved'), metrics(tmp_path / 'stayed'), strict=True):
    assert ours.get('train/loss') == pytest.approx(theirs.get('train/loss'), abs=1e-6)


OPTIMIZERS = {
  'sgd': {'momentum': 0.9},
  'adamw': {},
  'lamb': {},
  'lars': {},
  'muon': {'clip_norm': 1.0},
}


@functools.cache
def drawn(name, layout):
  """A state of random numbers on a mesh."""
  tx, _ = make_optimizer(name, steps=5, learning_rate=0.1, **OPTIMIZERS[name])
  mesh = mesh_lib.make_mesh(*layout, devices=jax.devices()[: math.prod(layout)])
  state, _ = abstract_state(toy.Toy(), tx, mesh, ema=True)
  draw = np.random.default_rng(0)

  def array(x):
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      return jax.device_put(jax.random.key(3), x.sharding)
    return jax.device_put((100 * draw.normal(size=x.shape)).astype(x.dtype), x.sharding)

  return jax.tree.map(array, state)


@pytest.mark.long
@hypothesis.settings(max_examples=8)
@hypothesis.given(
  name=st.sampled_from(sorted(OPTIMIZERS)),
  before=st.sampled_from([*LAYOUTS, *FEWER]),
  after=st.sampled_from([*LAYOUTS, *FEWER]),
)
def test_any_mesh_restores_the_bits_of_any_other(name, before, after):
  """Parameters, averages and the state of every optimiser, cut as the new mesh cuts them."""
  old, new = drawn(name, before), drawn(name, after)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), {'state': new}
  )
  with tempfile.TemporaryDirectory() as folder:
    with contextlib.closing(Checkpointer(folder)) as checkpoints:
      checkpoints.save(1, {'state': old}, {}, {})
    with contextlib.closing(Checkpointer(folder, read_only=True)) as checkpoints:
      _, found, _, _ = checkpoints.restore(shapes)
  for a, b, place in zip(*map(jax.tree.leaves, (old, found, new)), strict=True):
    assert b.sharding == place.sharding
    if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(a, b)


def test_only_what_is_new_about_a_place_is_said():
  here = {'mesh': 'data=2', 'processes': 1, 'accumulate': 1}
  assert moved(here, dict(here)) == ''
  assert moved({**here, 'processes': 2}, here) == (
    'saved with mesh data=2, processes 2, accumulate 1;'
    ' goes on whole with mesh data=2, processes 1, accumulate 1'
  )


@pytest.mark.parametrize(
  ('sizes', 'shape'),
  [
    ({'data': 16}, (8, 1, 1, 1)),
    ({'data': 4, 'tensor': 4}, (1, 8, 1, 1)),
    ({'fsdp': 16, 'data': 1}, (1, 8, 1, 1)),
    ({'data': 4, 'tensor': 2}, (4, 1, 2, 1)),
  ],
)
def test_a_run_is_opened_on_the_devices_that_there_are(sizes, shape, capsys):
  mesh = verbs.mesh_of_run(sizes, 'runs/a', is_own=True)
  assert mesh.devices.shape == shape
  fits, said = math.prod(sizes.values()) == 8, capsys.readouterr().err
  assert said == '' if fits else said.startswith('runs/a: trained on mesh ')


def test_a_mesh_that_is_asked_for_is_not_replaced():
  with pytest.raises(UserError, match=r'number of devices, 8; -1 stands for all that remain'):
    verbs.mesh_of_run({'data': 16}, 'runs/a', is_own=False)
