"""The task selfplay: runs that are stopped and resumed, its evaluations, what it refuses."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.tasks.selfplay.small_selfplay import (
  GATED,
  GO,
  SMALL,
  begin,
  config_of,
  mesh_of,
  task_of,
)
from tests.train.test_multiprocess import ROOT, free_port
from train import config as config_lib
from train import verbs
from train.errors import UserError
from train.tasks.selfplay.task import SelfPlayTask

# -------- runs --------


def metrics_of(workdir):
  lines = [json.loads(x) for x in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{k: v for k, v in x.items() if not k.startswith('time/')} for x in lines]


def sums_of(workdir, step):
  """The checksum of each array of a checkpoint, the games in progress among them."""
  return json.loads((workdir / 'checkpoints' / str(step) / 'meta' / 'metadata').read_text())[
    'leaves'
  ]


@pytest.fixture(scope='module')
def straight(one_device, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('straight')
  verbs.train(config_of(**GATED), str(workdir))
  return workdir


@pytest.mark.long
def test_a_run_that_was_stopped_amid_games_ends_in_the_same_bits(straight, tmp_path, monkeypatch):
  stopped = config_of(**GATED)
  requests = iter([False, False, True])
  with monkeypatch.context() as patch:
    patch.setattr(
      'train.runtime.preemption.Preemption.requested', lambda self, step: next(requests)
    )
    verbs.train(stopped, str(tmp_path))
  assert not (tmp_path / 'checkpoints' / '6').exists()
  verbs.train(config_of(**GATED), str(tmp_path))
  sums = sums_of(straight, 6)
  assert any('carry/actors/length' in name for name in sums)
  assert sums_of(tmp_path, 6) == sums
  assert metrics_of(tmp_path) == metrics_of(straight)


@pytest.mark.long
def test_what_a_run_reports(straight):
  train, evaluation = metrics_of(straight)[-2:]
  for name in ('policy', 'value', 'play_length', 'play_first_share', 'play_entropy', 'calibration'):
    assert np.isfinite(train[f'train/{name}']), name
  assert 5 <= train['train/play_length'] <= 9
  assert train['train/play_moves_a_step'] == 3 * 16
  assert 0 <= train['train/play_first_share'] <= 1
  for name in ('random/as_first', 'random/as_second', 'raw/share', 'past/share'):
    assert 0 <= evaluation[name] <= 1
  assert evaluation['past/step'] == 4
  text = (straight / 'samples' / '00000006-game.txt').read_text()
  assert text.splitlines()[-1] in ('X wins', 'O wins', 'a draw')
  chances = (straight / 'samples' / '00000006-first.txt').read_text().split()
  assert len(chances) == 9 and 95 <= sum(map(int, chances)) <= 105


@pytest.mark.long
def test_a_run_is_opened_and_evaluated(straight):
  run = verbs.load_run(str(straight))
  assert run.task.game.name == 'tictactoe'
  states = jax.tree.map(lambda x: x[None], run.task.game.init())
  keys = jax.random.split(jax.random.key(0), 1)
  logits, values = run.task.evaluator(run.variables)(states, keys)
  assert logits.shape == (1, 9) and values.shape == (1,)
  found = verbs.evaluate([str(straight)])['metrics']
  assert found['random/share'] == metrics_of(straight)[-1]['random/share']


# -------- what is refused, and configs --------


@pytest.mark.parametrize(
  ('task', 'words'),
  [
    ({'game': 'chess'}, 'choose from go, tictactoe, connect_four'),
    ({'game': 'go(sides=9)'}, 'unknown key'),
    ({'selection': 'minimax'}, 'choose from puct, gumbel'),
    ({'replay': {'window': 100}}, 'task.replay.window=100: must be at least 144'),
    ({'evaluation': {'baselines': ('gnugo',)}}, 'choose from random, uniform, rollout'),
    ({'loss': {'ownership_weight': 1.0}}, 'no auxiliary targets'),
    ({**GO, 'loss': {'score_weight': 1.0}}, 'needs model.score=true'),
    ({'search': {'full_search_prob': 0.5}}, 'search.fast_num_simulations=0: must be from 1'),
    ({'loss': {'value_target_mix': 2.0}}, 'task.loss.value_target_mix=2.0'),
    ({'gate': {'threshold': 55}}, 'task.gate.threshold=55.0: must be in'),
    (
      {'opponent_pool': {'env_stride': 4}, 'search': {'reuse_tree': True}},
      'two networks share no tree',
    ),
    ({'exploration': {'random_move_prob': 0.5}}, 'needs task.loss.value_target_mix=1.0'),
    ({'search': {'num_sims': 3}}, 'task.search.num_sims=3: unknown key'),
  ],
)
def test_what_does_not_fit_is_said_in_a_line(task, words):
  with pytest.raises(UserError, match=words.replace('(', r'\(')):
    task_of(**task)


def test_environments_are_shared_evenly():
  with pytest.raises(UserError, match=r'task\.num_envs=12: must be a multiple of 8'):
    task_of(num_envs=12).source('train', mesh_of(8), 0)
  with pytest.raises(UserError, match=r'task\.opponent_pool\.env_stride=3: must divide 2, the env'):
    task_of(opponent_pool={'env_stride': 3}).source('train', mesh_of(8), 0)


@pytest.mark.long
def test_a_game_of_go_is_drawn():
  task = task_of(**GO)
  _, _, variables = begin(task)
  files = task.draw(variables, jax.random.key(0))
  assert files['game.png'].startswith(b'\x89PNG') and files['first.png'].startswith(b'\x89PNG')
  assert b'SZ[3]' in files['game.sgf'] and b'KM[0.5]' in files['game.sgf']


@pytest.mark.long
def test_where_the_time_goes(monkeypatch):
  """Of programs that a run compiles once, however often it is evaluated."""
  task, traced = task_of(evaluation={'timings': True}), []
  _, _, variables = begin(task)
  apply = task.apply
  monkeypatch.setattr(task, 'apply', lambda *args: traced.append(args) or apply(*args))
  evaluate = task.evals(mesh_of(2))['time']
  _, once, found = evaluate(variables), len(traced), evaluate(variables)
  assert len(traced) == once > 0
  assert set(found) == {'network', 'environment', 'search', 'training'}
  assert min(found.values()) >= 0 and sum(found.values()) == pytest.approx(1)


@pytest.mark.slow
def test_two_processes_play_what_two_devices_play(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(SMALL))
  address = f'localhost:{free_port()}'

  def start(workdir, devices, *flags):
    command = [sys.executable, 'launch.py', 'train', f'--config={tmp_path}/config.json', *flags]
    flags = f'--xla_force_host_platform_device_count={devices}'
    environment = {**os.environ, 'XLA_FLAGS': flags}
    return subprocess.Popen([*command, f'--workdir={workdir}'], cwd=ROOT, env=environment)

  together = ('--num_processes=2', f'--coordinator_address={address}')
  processes = [start(tmp_path / 'two', 1, *together, f'--process_id={i}') for i in range(2)]
  processes.append(start(tmp_path / 'one', 2))
  assert [process.wait(300) for process in processes] == [0, 0, 0]
  for two, one in zip(metrics_of(tmp_path / 'two'), metrics_of(tmp_path / 'one'), strict=True):
    assert two == pytest.approx(one, abs=1e-5)


@pytest.mark.slow
def test_tic_tac_toe_is_learned_without_a_mistake(one_device, tmp_path):
  path = pathlib.Path(__file__).parents[4] / 'configs' / 'tictactoe.py'
  config = config_lib.override(config_lib.load(str(path)), 'train.steps', '1000')
  verbs.train(verbs.complete_config(config), str(tmp_path))
  last = metrics_of(tmp_path)[-1]
  assert last['lines/losses'] == 0
  assert last['random/share'] > 0.9


@pytest.mark.long
def test_training_stops_where_the_network_gives_nan_while_it_plays(tmp_path, monkeypatch):
  """The positions learnt from may be others, whose loss is finite."""

  def apply(task, variables, planes):
    logits, values = task.model.apply(variables, planes, train=False)[:2]
    return logits, jnp.where(planes.any((1, 2, 3)), values, jnp.nan)

  monkeypatch.setattr(SelfPlayTask, 'apply', apply)
  with pytest.raises(verbs.Halted, match=r'train/loss is not finite at step 1 .*play_search_value'):
    verbs.train(config_of(), str(tmp_path))


def test_settings_that_no_self_play_has_are_named():
  for task, message in (
    ({'exploration': {'temperature': float('nan')}}, r'exploration\.temperature=nan: must be'),
    ({'exploration': {'temperature_moves': -1}}, r'exploration\.temperature_moves=-1: must be'),
    ({'loss': {'value_weight': -1.0}}, r'loss\.value_weight=-1\.0: must be a finite number'),
    ({'evaluation': {'opening_moves': 9}}, r'evaluation\.opening_moves=9: must be below 9'),
  ):
    with pytest.raises(UserError, match=message):
      task_of(**task)
