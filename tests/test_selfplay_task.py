"""The task selfplay: its source, its loss, its evaluations, runs that are stopped and resumed."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts import symmetry
from tests.test_multiprocess import ROOT, free_port
from train import config as config_lib
from train import mesh as mesh_lib
from train import tools
from train.config import UserError
from train.tasks import zero_loss

SMALL = {
  'task': {
    'name': 'selfplay',
    'game': 'tictactoe',
    'slots': 16,
    'moves': 3,
    'simulations': 6,
    'rule': 'puct(fraction=0.25)',
    'temperature_moves': 9,
    'window': 320,
    'minimum': 160,
    'match_games': 16,
    'match_simulations': 4,
    'past_every': 4,
  },
  'model': {'name': 'policy_value', 'blocks': 1, 'channels': 8, 'value_width': 8},
  'data': {'name': 'selfplay', 'batch_size': 32},
  'optimizer': {'name': 'sgd', 'learning_rate': 0.05},
  'train': {
    'steps': 6,
    'log_every': 2,
    'eval_every': 6,
    'checkpoint_every': 3,
    'best': 'past/share',
  },
}
GO = {
  'game': 'go(size=3, komi=0.5, history=2)',
  'rule': 'gumbel(considered=4)',
  'window': 640,
}
GATED = {'gate': 0.5, 'gate_games': 8, 'gate_every': 2, 'rivals': 4, 'pool': 2, 'symmetries': True}


def config_of(**task):
  return tools.complete_config({**SMALL, 'task': {**SMALL['task'], **task}})


def task_of(model=(), **task):
  config = config_of(**task)
  config['model'] = {**config['model'], **dict(model)}
  return tools.build_task(config)


def mesh_of(devices):
  return mesh_lib.make_mesh(devices, devices=jax.devices()[:devices])


def begin(task, devices=1, seed=0):
  source = task.source('train', mesh_of(devices), seed)
  variables = mesh_lib.unbox(jax.jit(task.init)(jax.random.key(1)))
  return source, source.init(jax.random.key(seed)), variables


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
  tools.train(config_of(**GATED), str(workdir))
  return workdir


@pytest.mark.long
def test_a_run_that_was_stopped_amid_games_ends_in_the_same_bits(straight, tmp_path, monkeypatch):
  stopped = config_of(**GATED)
  requests = iter([False, False, True])
  with monkeypatch.context() as patch:
    patch.setattr('train.preemption.Preemption.requested', lambda self, step: next(requests))
    tools.train(stopped, str(tmp_path))
  assert not (tmp_path / 'checkpoints' / '6').exists()
  tools.train(config_of(**GATED), str(tmp_path))
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
  run = tools.load_run(str(straight))
  assert run.task.game.name == 'tictactoe'
  states = jax.tree.map(lambda x: x[None], run.task.game.init())
  keys = jax.random.split(jax.random.key(0), 1)
  logits, values = run.task.evaluator(run.variables)(states, keys)
  assert logits.shape == (1, 9) and values.shape == (1,)
  found = tools.evaluate([str(straight)])['metrics']
  assert found['random/share'] == metrics_of(straight)[-1]['random/share']


# -------- the source --------


def exact(variables, planes):
  """A network without rounding, which would depend on how many positions there are."""
  place = (planes.reshape(len(planes), -1) * np.arange(1, 19)[None]).sum(1)
  logits = place[:, None] * np.arange(1, 10)[None] % 5
  return logits.astype(jnp.float32), (place % 9 - 4).astype(jnp.float32) / 8


@functools.cache
def played(devices, **task):
  """The carry after the warm-up and two steps, on so many devices, and the batch."""
  task = task_of(**task)
  task.apply = exact
  source, carry, variables = begin(task, devices)
  for step in range(2):
    carry, batch = source.next(carry, step, variables)
  actors = carry.actors
  found = actors.state.board, actors.plies, carry.replay, batch
  return jax.device_get(found), source._step._cache_size()


@pytest.mark.long
def test_one_device_and_eight_play_the_same_games():
  (one, _, one_kept, _), _ = played(1)
  (eight, _, eight_kept, _), programs = played(8)
  assert programs == 1
  np.testing.assert_array_equal(one, eight)
  for name in ('planes', 'legal', 'end', 'outcome', 'player'):
    np.testing.assert_array_equal(getattr(one_kept, name), getattr(eight_kept, name))
  np.testing.assert_allclose(one_kept.policy, eight_kept.policy, atol=2e-3)
  assert len({board.tobytes() for board in one}) > 4


def test_every_slot_plays_as_much_and_no_batch_is_drawn_before_the_minimum():
  (_, plies, replay, batch), _ = played(1)
  assert set(plies.tolist()) == {160 // 16 + 3}  # the first step plays what is missing
  np.testing.assert_array_equal(replay.count, plies)
  assert batch['mask'].all() and len(batch['mask']) == 32
  assert np.isclose(batch['play']['moves_a_step'][0].sum(), 3 * 16)


def policies_where_legal(carry, move, before):
  """`[n, 9]`, of the tic-tac-toe positions since so many plies in which the move was legal."""
  new = np.arange(before, int(carry.actors.plies[0])) % carry.replay.end.shape[1]
  legal = np.unpackbits(carry.replay.legal, axis=-1, count=9).astype(bool)[:, new, move]
  assert legal.any()
  return np.asarray(carry.replay.policy)[:, new][legal]


@pytest.mark.long
def test_the_games_of_a_step_are_played_with_the_variables_of_that_step():
  """A network that is sure of one move, its only parameter: where it is legal it was chosen."""
  task = task_of(simulations=1, minimum=0, rule='puct')
  task.apply = lambda variables, planes: (
    jnp.broadcast_to(1e4 * jax.nn.one_hot(variables['move'], 9), (len(planes), 9)),
    jnp.zeros(len(planes)),
  )
  task.init = lambda key: {'move': jnp.int32(0)}
  source, carry, _ = begin(task)
  for step, move in enumerate((2, 5, 7)):
    before = int(carry.actors.plies[0])
    carry, _ = source.next(carry, step, {'move': jnp.int32(move)})
    assert (policies_where_legal(carry, move, before) == np.eye(9)[move]).all()


@pytest.mark.long
def test_the_past_is_kept_at_its_steps_and_not_between():
  task = task_of()
  source, carry, variables = begin(task)
  twice = jax.tree.map(lambda x: 2 * x, variables)
  carry, _ = source.next(carry, 0, variables)
  carry, _ = source.next(carry, 1, twice)
  assert int(carry.past_step) == 0
  for a, b in zip(*map(jax.tree.leaves, (carry.past, variables)), strict=True):
    np.testing.assert_array_equal(a, b)
  carry, _ = source.next(carry, 4, twice)
  assert int(carry.past_step) == 4
  for a, b in zip(*map(jax.tree.leaves, (carry.past, twice)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.long
def test_only_who_wins_at_the_gate_plays():
  """Networks that are sure of their one parameter's move: to go for the centre is better."""
  gate = {'gate': 0.55, 'gate_games': 8, 'gate_every': 2}
  task = task_of(simulations=1, rule='puct', opening=0, moves=9, **gate)

  def apply(variables, planes):
    likes = 1e3 * jax.nn.one_hot(variables['move'], 9) - jnp.arange(9.0)
    return jnp.broadcast_to(likes, (len(planes), 9)), jnp.zeros(len(planes))

  task.apply, task.init = apply, lambda key: {'move': jnp.int32(0)}
  source, carry, _ = begin(task)
  playing = []
  for step, move in enumerate((5, 4, 4, 5, 5, 1)):
    before = int(carry.actors.plies[0])
    carry, _ = source.next(carry, step, {'move': jnp.int32(move)})
    playing.append(int(carry.best['move']))
  assert playing == [5, 5, 4, 4, 4, 4]
  assert (policies_where_legal(carry, 4, before) == np.eye(9)[4]).all()


@pytest.mark.long
def test_the_pool_keeps_the_newest_of_the_past():
  task = task_of(rivals=4, pool=2, past_every=2, moves=1, minimum=0)
  task.apply = lambda variables, planes: (
    jnp.broadcast_to(1e4 * jax.nn.one_hot(variables['move'], 9), (len(planes), 9)),
    jnp.zeros(len(planes)),
  )
  task.init = lambda key: {'move': jnp.int32(0)}
  source, carry, _ = begin(task)
  pools = []
  for step in range(6):
    carry, _ = source.next(carry, step, {'move': jnp.int32(step)})
    pools.append(carry.pool['move'].tolist())
  assert pools == [[0, 0], [0, 0], [0, 2], [0, 2], [4, 2], [4, 2]]
  drawn = {int(source._rival(carry.pool, carry.key, kept)['move']) for kept in range(2, 20)}
  assert drawn == {2, 4}


@pytest.mark.long
def test_play_sees_running_averages():
  """Other averages, another value; another game beside it, the same value."""
  task = task_of()
  _, _, variables = begin(task)
  planes = jax.random.bernoulli(jax.random.key(0), 0.3, (8, 3, 3, 2))
  values = task.apply(variables, planes)[1]
  np.testing.assert_allclose(task.apply(variables, planes[:2])[1], values[:2], atol=1e-6)
  shifted = {**variables, 'batch_stats': jax.tree.map(lambda x: x + 1, variables['batch_stats'])}
  assert not np.allclose(task.apply(shifted, planes)[1], values, atol=1e-3)


@pytest.mark.long
def test_the_program_copies_no_ring():
  task = task_of(window=16 * 4096)
  source, carry, variables = begin(task)
  arguments = carry.actors, carry.replay, carry.calibration, carry.key, variables, (), 0
  text = source._step.lower(*arguments).compile().as_text()
  assert 'u8[16,4096,3]' in text  # the planes' ring
  copies = [x for x in text.splitlines() if ' copy(' in x and '[16,4096,' in x]
  assert not copies, copies[0]


# -------- the loss --------


def batch_of(task):
  source, carry, variables = begin(task)
  return source.next(carry, 0, variables)[1], variables


@functools.cache
def tictactoe():
  return batch_of(task_of())


@pytest.mark.long
def test_the_loss_by_hand():
  task = task_of(value_mix=0.25)
  batch, variables = tictactoe()
  value, (_, metrics) = task.loss(variables, batch, jax.random.key(0), train=False)
  logits, values, _ = task.model.apply(variables, batch['planes'], train=False)
  weights = np.where(batch['legal'], np.exp(logits), 0)
  p = weights / weights.sum(1, keepdims=True)
  policy = -(np.asarray(batch['policy']) * np.log(np.where(batch['legal'], p, 1))).sum(1)
  target = 0.75 * batch['outcome'] + 0.25 * batch['value']
  error = np.square(np.asarray(values - target))
  assert float(value) == pytest.approx((policy + error).mean(), rel=1e-5)
  assert float(metrics['value'][0] / metrics['value'][1]) == pytest.approx(error.mean(), rel=1e-5)


@pytest.mark.long
def test_illegal_moves_have_no_gradient():
  task = task_of()
  batch, variables = tictactoe()
  bias = lambda x: x['params']['policy']['bias']  # noqa: E731
  only_first = {**batch, 'legal': jnp.zeros_like(batch['legal']).at[:, :3].set(True)}

  def loss(params):
    return task.loss({**variables, 'params': params}, only_first, jax.random.key(0), train=True)[0]

  gradient = bias({'params': jax.grad(loss)(variables['params'])})
  assert not gradient[3:].any() and gradient[:3].any()


@pytest.mark.long
def test_training_normalises_by_the_batch():
  task = task_of()
  batch, variables = tictactoe()
  _, (extra, _) = task.loss(variables, batch, jax.random.key(0), train=True)
  same = jax.tree.map(
    lambda a, b: bool((a == b).all()), extra['batch_stats'], variables['batch_stats']
  )
  assert not any(jax.tree.leaves(same))


@pytest.mark.long
def test_who_owns_what_is_seen_by_the_player_to_move_and_turned_like_the_board():
  """Stones that stay on the board belong to who put them there."""
  task = task_of({'ownership': True, 'score': True}, **GO, ownership_weight=1.0, score_weight=1.0)
  batch, _ = batch_of(task)
  batch = dict(batch, known=jnp.ones_like(batch['known']))
  sign = 1 - 2 * batch['player']
  boards = batch['planes'][..., 0].astype(jnp.int8) - batch['planes'][..., 1].astype(jnp.int8)
  # As if the game ended with the board of the position, seen by black and not yet turned.
  back = jnp.asarray(symmetry.INVERSES)[batch['turn']]
  owned = jax.vmap(task.game.symmetries.board)(boards * sign[:, None, None].astype(jnp.int8), back)
  score = owned.astype(jnp.float32).sum((1, 2))
  batch['extras'] = {'ownership': owned, 'score': score}
  heads = {
    'ownership': boards.astype(jnp.float32),
    'score': boards.astype(jnp.float32).mean((1, 2)),
  }
  terms = zero_loss.end_terms(task.game, heads, batch)
  assert float(terms['ownership'].max()) == 0
  np.testing.assert_allclose(terms['score'], 0, atol=1e-10)
  unknown = dict(batch, known=jnp.zeros_like(batch['known']))
  heads = {'ownership': heads['ownership'] + 1, 'score': heads['score'] + 1}
  assert float(zero_loss.end_terms(task.game, heads, unknown)['ownership'].max()) == 0
  assert float(zero_loss.end_terms(task.game, heads, batch)['score'].min()) > 0


def test_calibration_is_by_bins():
  """Two sure of a win of whom one wins, and two at even who win and lose: (2 x |1 - 0|) / 4."""
  predicted, outcome = jnp.array([1.0, 1.0, 0.0, 0.0]), jnp.array([1.0, -1.0, 1.0, -1.0])
  assert float(zero_loss.calibration_error(predicted, outcome, jnp.ones(4))) == 0.5
  alone = jnp.array([1.0, 0.0, 1.0, 1.0])
  assert float(zero_loss.calibration_error(predicted, outcome, alone)) == 0


# -------- what is refused, and configs --------


@pytest.mark.parametrize(
  ('task', 'words'),
  [
    ({'game': 'chess'}, 'choose from go, tictactoe, connect_four'),
    ({'game': 'go(sides=9)'}, 'unknown key'),
    ({'rule': 'minimax'}, 'choose from puct, gumbel'),
    ({'window': 100}, 'task.window=100: must be at least 144'),
    ({'anchors': ('gnugo',)}, 'choose from random, uniform, rollout'),
    ({'ownership_weight': 1.0}, 'only Go has points'),
    ({**GO, 'score_weight': 1.0}, 'needs model.score=true'),
    ({'full': 0.5}, 'fast 0: must be from 1'),
    ({'value_mix': 2.0}, 'task.value_mix=2.0'),
    ({'gate': 55}, 'task.gate=55.0: must be in'),
    ({'rivals': 4, 'reuse': True}, 'two networks share no tree'),
  ],
)
def test_what_does_not_fit_is_said_in_a_line(task, words):
  with pytest.raises(UserError, match=words.replace('(', r'\(')):
    task_of(**task)


def test_slots_are_shared_evenly():
  with pytest.raises(UserError, match=r'task\.slots=12: must be a multiple of 8'):
    task_of(slots=12).source('train', mesh_of(8), 0)
  with pytest.raises(UserError, match=r'task\.rivals=3: must divide 2, the slots of each device'):
    task_of(rivals=3).source('train', mesh_of(8), 0)


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
  task, traced = task_of(parts=True), []
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
  path = pathlib.Path(__file__).parents[1] / 'configs' / 'tictactoe.py'
  config = config_lib.override(config_lib.load(str(path)), 'train.steps', '1000')
  tools.train(tools.complete_config(config), str(tmp_path))
  last = metrics_of(tmp_path)[-1]
  assert last['lines/losses'] == 0
  assert last['random/share'] > 0.9
