"""The loop: whatever ends a run, the same command goes on to the same parameters and metrics."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.train import toy
from train.checkpoint import Checkpointer
from train.checkpoint.failures import NotSaved
from train.errors import UserError
from train.loop import Halted, Loop
from train.step import abstract_model
from train.task import check_best
from train.workdir import lock

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 12  # not a multiple of log_every=5 or eval_every, so that intervals cross checkpoints
SETTINGS = {'steps': STEPS, 'log_every': 5, 'eval_every': 4, 'checkpoint_every': 3}


def start(workdir, **arguments):
  command = [
    sys.executable,
    '-m',
    'tests.train.toy',
    json.dumps({'workdir': str(workdir), **arguments}),
  ]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def metrics(workdir):
  """The lines of metrics.jsonl without what a clock says."""
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{k: v for k, v in line.items() if not k.startswith('time/')} for line in lines]


def params(workdir, step=None):
  mesh = toy.mesh_lib.make_mesh(1, devices=jax.devices()[:1])
  checkpoints = Checkpointer(str(workdir / 'checkpoints'), read_only=True)
  step, model, _, _ = checkpoints.restore(abstract_model(toy.Toy(), mesh), step=step)
  checkpoints.close()
  return step, jax.device_get(model)


def same(a, b, tolerance=0.0):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('straight')
  toy.train(workdir, **SETTINGS)
  return workdir


@pytest.mark.long
def test_a_run_logs_evaluates_and_keeps_the_newest_and_the_best(straight):
  lines = metrics(straight)
  assert [line['step'] for line in lines if 'train/loss' in line] == [5, 10, 12]
  tests = {line['step']: line['test/error'] for line in lines if 'test/error' in line}
  assert list(tests) == [4, 8, 12]
  first, last = (line['train/loss'] for line in (lines[1], lines[-2]))
  assert last < first
  kept = {int(path.name) for path in (straight / 'checkpoints').iterdir() if path.name.isdigit()}
  best = min(tests, key=lambda step: (tests[step], -step))
  assert kept == {9, 12, best}


@pytest.mark.long
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL], ids=['SIGTERM', 'SIGKILL'])
@pytest.mark.parametrize('step', [2, 7, 9])
def test_a_run_ended_anywhere_resumes_to_the_same_bits(straight, tmp_path, step, number):
  ended = start(tmp_path, **SETTINGS, task={'signal': (step, number)})
  assert ended.returncode == (0 if number == signal.SIGTERM else -9), ended.stderr
  if number == signal.SIGTERM:
    assert 'the same command resumes' in ended.stderr
    assert params(tmp_path)[0] == step + 1
  toy.train(tmp_path, **SETTINGS)
  assert metrics(tmp_path) == metrics(straight)
  same(params(tmp_path), params(straight))


def test_a_finished_run_has_nothing_left_to_do(straight, capfd):
  before = (straight / 'metrics.jsonl').read_text()
  toy.train(straight, **SETTINGS)
  assert (straight / 'metrics.jsonl').read_text() == before


@pytest.mark.long
def test_a_damaged_checkpoint_costs_steps_and_nothing_else(straight, tmp_path, caplog):
  toy.train(tmp_path, **{**SETTINGS, 'steps': 8})
  for path in (tmp_path / 'checkpoints' / '8' / 'params').rglob('d/*'):
    path.write_bytes(path.read_bytes()[:-10])
  toy.train(tmp_path, **SETTINGS)
  assert 'checkpoint 8' in caplog.text
  assert (tmp_path / 'damaged' / '8').is_dir()
  assert [line['step'] for line in metrics(tmp_path)][-1] == STEPS


@pytest.mark.long
def test_a_run_moves_to_another_number_of_devices(straight, tmp_path):
  toy.train(tmp_path, **SETTINGS, task={'signal': (6, signal.SIGTERM)})
  toy.train(tmp_path, **SETTINGS, devices=1)
  same(params(tmp_path)[1], params(straight)[1], 1e-5)


@pytest.mark.long
def test_pmap_and_fsdp_train_to_the_numbers_of_jit(straight, tmp_path):
  toy.train(tmp_path / 'pmap', **SETTINGS, parallel='pmap')
  toy.train(tmp_path / 'fsdp', **SETTINGS, layout=(2, 4, 1))
  for other in ('pmap', 'fsdp'):
    same(params(tmp_path / other)[1], params(straight)[1], 1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_and_shows_how_it_came(tmp_path):
  with pytest.raises(Halted, match=r'step 7 .*the state before .* last good checkpoint is step 6'):
    toy.train(tmp_path, **SETTINGS, task={'poison': 6})
  batch = np.load(tmp_path / 'nan' / 'batch-6.npz')
  assert np.isnan(batch['image']).any()
  mesh = toy.mesh_lib.make_mesh(1, devices=jax.devices()[:1])
  checkpoints = Checkpointer(str(tmp_path / 'nan'), best=None, read_only=True)
  step, model, _, meta = checkpoints.restore(abstract_model(toy.Toy(), mesh))
  assert step == 6
  assert 'not finite' in meta['error']
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(model)))
  assert metrics(tmp_path)[-1]['step'] <= 6


def test_a_checkpoint_that_cannot_be_written_ends_the_run_in_a_line(tmp_path, monkeypatch):
  save = Checkpointer.save

  def full(self, step, *items):
    if step > 6:
      raise NotSaved('a checkpoint was not saved: No space left on device')
    save(self, step, *items)

  with monkeypatch.context() as patch, pytest.raises(Halted) as caught:
    patch.setattr(Checkpointer, 'save', full)
    toy.train(tmp_path, **SETTINGS, devices=1)
  assert str(caught.value) == (
    f'{tmp_path}: a checkpoint was not saved: No space left on device;'
    ' the last good checkpoint is step 6'
  )
  toy.train(tmp_path, **SETTINGS, devices=1)  # once there is space
  assert params(tmp_path)[0] == STEPS


@pytest.mark.long
def test_a_folder_that_is_removed_ends_the_run_in_a_line(tmp_path, monkeypatch):
  workdir = tmp_path / 'run'
  next_batch = toy.ToySource.next

  def remove(self, carry, step, variables):
    if step == 6 and workdir.exists():
      while not (workdir / 'checkpoints' / '4').exists():
        time.sleep(0.01)
      workdir.rename(tmp_path / 'elsewhere')
    return next_batch(self, carry, step, variables)

  monkeypatch.setattr(toy.ToySource, 'next', remove)
  with pytest.raises(Halted, match='moved or removed while it trained; no checkpoint is there'):
    toy.train(workdir, **{**SETTINGS, 'checkpoint_every': 0}, devices=1)


def test_a_second_run_on_a_workdir_is_refused(tmp_path):
  with lock(str(tmp_path)), pytest.raises(UserError, match='in use by'):
    toy.train(tmp_path, **SETTINGS)


@pytest.mark.parametrize('steps', [(1, 3), (2, 4)])
def test_a_profile_is_left_for_the_steps_asked_for(tmp_path, steps):
  """Also for the last ones."""
  import optax

  task, mesh = toy.Toy(), toy.mesh_lib.make_mesh()
  loop = Loop(steps=4, log_every=2)
  loop.run(task, optax.sgd(0.1), lambda step: 0.1, mesh, str(tmp_path), profile=steps)
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))
  with pytest.raises(
    UserError, match=r'--profile=1:3: must lie within 4:4, the steps to be trained'
  ):
    loop.run(task, optax.sgd(0.1), lambda step: 0.1, mesh, str(tmp_path), profile=(1, 3))


@pytest.mark.parametrize(
  ('setting', 'message'),
  [
    ({'steps': 0}, 'train.steps=0: must be at least 1'),
    ({'ema_decay': 1.0}, r'train.ema_decay=1.0: must be in \[0, 1\)'),
    ({'best_mode': 'least'}, 'choose from min, max'),
  ],
)
def test_impossible_settings_say_why(setting, message):
  with pytest.raises(UserError, match=message):
    Loop(**{'steps': 1, **setting})


def test_a_best_metric_that_no_evaluation_reports_is_refused_at_the_start(tmp_path, monkeypatch):
  with pytest.raises(UserError, match=r"train.best='val/loss': evaluations report test/\.\.\.;"):
    toy.train(tmp_path, 1, devices=1, best='val/loss')
  monkeypatch.setattr(toy.Toy, 'metrics', ('test/loss', 'test/error'))
  with pytest.raises(
    UserError, match=r"'test/error_top5': evaluations report test/loss, test/error"
  ):
    toy.train(tmp_path, 1, devices=1, best='test/error_top5')


@pytest.mark.parametrize(
  ('best', 'mode', 'told'),
  [
    ('test/accuracy_top5', 'min', True),
    ('test/loss', 'max', True),
    ('test/loss', 'min', False),
    ('rollout/share', 'max', False),
  ],
)
def test_a_best_that_is_the_worst_is_told(best, mode, told, capsys):
  check_best(toy.Toy(), {'test': None, 'rollout': None}, best, mode, default='test/error')
  assert ('keeps the worst' in capsys.readouterr().err) == told


def test_the_environment_of_the_tests_has_eight_devices():
  assert jax.device_count() == 8, os.environ.get('XLA_FLAGS')
