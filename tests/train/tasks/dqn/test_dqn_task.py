"""The task dqn: runs that are stopped and resumed, devices, seeds, scores, what it refuses."""

import contextlib
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.tasks.dqn.small_dqn import SMALL, counting, merged, mesh_of, task_of
from train import mesh as mesh_lib
from train import verbs
from train.errors import UserError
from train.step import init_state, make_step


def metrics_of(workdir):
  lines = [json.loads(x) for x in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return [{k: v for k, v in x.items() if not k.startswith('time/')} for x in lines]


def sums_of(workdir, step):
  """The checksum of each array of a checkpoint, the replay among them."""
  text = (workdir / 'checkpoints' / str(step) / 'meta' / 'metadata').read_text()
  return json.loads(text)['leaves']


FULL = {
  'seeds': 2,
  'history': 2,
  'replay': {'priority': 0.5},
  'target': {'n_step': 3, 'double': True},
}


@pytest.fixture(scope='module')
def straight(one_device, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('straight')
  verbs.train(config_of(dueling=True, **FULL), str(workdir))
  return workdir


def config_of(model=(), dueling=False, **task):
  config = {**SMALL, 'task': merged(SMALL['task'], task)}
  return verbs.complete_config({**config, 'model': {**SMALL['model'], 'dueling': dueling}})


@pytest.mark.long
def test_a_run_that_was_stopped_ends_in_the_same_bits(straight, tmp_path, monkeypatch):
  requests = iter([False, False, True])
  with monkeypatch.context() as patch:
    patch.setattr(
      'train.runtime.preemption.Preemption.requested', lambda self, step: next(requests)
    )
    verbs.train(config_of(dueling=True, **FULL), str(tmp_path))
  assert not (tmp_path / 'checkpoints' / '6').exists()
  verbs.train(config_of(dueling=True, **FULL), str(tmp_path))
  sums = sums_of(straight, 6)
  assert any('carry/replay/observation' in name for name in sums)
  assert sums_of(tmp_path, 6) == sums
  assert metrics_of(tmp_path) == metrics_of(straight)


@pytest.mark.long
def test_what_a_run_reports(straight):
  train, evaluation = metrics_of(straight)[-2:]
  assert train['train/play_frames_a_step'] == 16 * 2
  assert 0.1 <= train['train/play_epsilon'] <= 1
  logged = {name for line in metrics_of(straight) for name in line}
  assert {'train/play_return_seed0', 'train/play_return_seed1'} <= logged
  assert 1 <= evaluation['eval/return'] <= 12  # the time limit
  assert evaluation['eval/epsilon'] == 0.05
  seeds = [evaluation[f'seed{i}/return'] for i in range(2)]
  assert np.isclose(evaluation['eval/return'], np.mean(seeds))
  assert np.isclose(evaluation['eval/return_std'], np.std(seeds, ddof=1))
  assert {'predicted/value', 'realised/value'} <= evaluation.keys()
  picture = (straight / 'samples' / '00000006-episode.png').read_bytes()
  assert picture.startswith(b'\x89PNG') and b'acTL' in picture  # it moves


@pytest.mark.long
def test_eval_and_sample(straight, capsys):
  found = verbs.evaluate([str(straight)])
  assert found['metrics']['eval/return'] == metrics_of(straight)[-1]['eval/return']
  verbs.sample(str(straight), options={'epsilon': 0.0, 'seed': 3})
  assert 'episode.png: return' in capsys.readouterr().out


# -------- updates --------


def trained(devices=1, parallel='jit', accumulate=1, steps=3, **task):
  made, mesh = task_of(**task), mesh_of(devices)
  tx = optax.sgd(0.1)
  with mesh_lib.activate(mesh) if parallel == 'jit' else contextlib.nullcontext():
    state, shardings = init_state(made, tx, 0, mesh)
    step = make_step(made, tx, shardings, parallel=parallel, accumulate=accumulate)
    batch = batch_of(made)
    for _ in range(steps):
      state, metrics = step(state, batch)
  return jax.device_get((state.params, metrics))


def batch_of(made):
  count, seeds, rng = made.batch_size, made.seeds, np.random.default_rng(0)
  share = np.full((count, seeds), 1 / count, np.float32)
  names = ('return', 'length', 'epsilon', 'frames', 'episodes_a_step', 'frames_a_step')
  return {
    'inputs': rng.normal(size=(count, seeds, 4)).astype(np.float32),
    'action': rng.integers(2, size=(count, seeds)),
    'target': 2 * rng.normal(size=(count, seeds)).astype(np.float32),
    'mask': (rng.random((count, seeds)) < 0.8).astype(np.float32),
    'weight': np.ones((count, seeds), np.float32),
    'play': {name: (share, share) for name in names},
  }


def close(a, b, tolerance=2e-5):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance, rtol=1e-4), a, b)


def test_several_updates_a_step_are_as_many_steps_of_one():
  several, _ = trained(steps=1)
  made = task_of()
  tx, mesh = optax.sgd(0.1), mesh_of(1)
  state, shardings = init_state(made, tx, 0, mesh)
  whole = batch_of(made)
  made.updates_per_step = 1
  step = make_step(made, tx, shardings)
  for k in range(4):
    state, _ = step(state, jax.tree.map(lambda x, k=k: x[k::4], whole))
  assert int(state.step) == 4
  close(several, jax.device_get(state.params))


@pytest.mark.long
@pytest.mark.parametrize(
  'options',
  [{'devices': 8}, {'devices': 4, 'parallel': 'pmap'}, {'accumulate': 2}],
  ids=['8 devices', 'pmap', 'accumulated'],
)
def test_updates_do_not_depend_on_how_a_batch_is_cut(options):
  params, metrics = trained(seeds=2)
  others, measured = trained(seeds=2, **options)
  close(params, others)
  close(metrics, measured, 1e-3)


def gradients(made, params, batch):
  def loss(params):
    return made.loss({'params': params}, batch, jax.random.key(0), train=True)[0]

  return jax.grad(loss)(params)


@pytest.mark.long
def test_a_seed_learns_as_it_would_alone():
  together, alone = task_of(seeds=3), task_of()
  batch = batch_of(together)
  batch['mask'][:] = 1
  params = together.init(jax.random.key(0))['params']
  grads = gradients(together, params, batch)
  own = [jax.tree.map(lambda x, i=i: x[i : i + 1], (params, grads)) for i in range(3)]
  for i, (params, expected) in enumerate(own):
    part = jax.tree.map(lambda x, i=i: x[:, i : i + 1], batch)
    close(gradients(alone, params, part), expected)


# -------- acting --------


def begin(made, devices=1):
  source = made.source('train', mesh_of(devices), 0)
  variables = mesh_lib.unbox(jax.jit(made.init)(jax.random.key(1)))
  return source, source.init(jax.random.key(0)), variables


def test_rewards_are_clipped_in_targets_and_not_in_scores():
  made = task_of(target={'discount': 0.0})
  made.environment = counting(5, truncated=False)
  source, carry, _ = begin_counting(made)
  carry, batch = source.next(carry, 0, made.init(jax.random.key(0)))
  assert np.allclose(batch['target'], 1)
  total, number = (np.asarray(x).sum() for x in batch['play']['return'])
  assert total / number > 5 * 10  # each step is worth at least 10


def begin_counting(made):
  made.layout = dataclasses.replace(made.layout, observation=made.environment.observation)
  return begin(made)


def test_what_a_step_plays_can_be_compiled_without_playing():
  made = task_of(seeds=2)
  variables = jax.eval_shape(lambda: dict(made.init(jax.random.key(0))))
  programs, batch = made.source('train', mesh_of(8), 0).trace(variables)
  assert list(programs) == ['play'] and programs['play'].lower()
  assert batch['inputs'].shape == (32, 2, 4)


def test_epsilon_falls_after_the_warm_up():
  source, _, _ = begin(task_of())
  rows = jnp.array([0, 8, 12, 16, 999])  # of 8 environments each; 64 frames of warm-up, 64 of fall
  expected = [1.0, 1.0, 0.55, 0.1, 0.1]
  assert np.allclose([source.epsilon(x) for x in rows], expected)


def test_the_target_network_is_a_copy_that_stays():
  made = task_of(target={'every': 8})  # each second step of four updates
  source, carry, variables = begin(made)
  later = jax.tree.map(lambda x: x + 1, variables)
  carry, _ = source.next(carry, 0, variables)
  carry, _ = source.next(carry, 1, later)
  close(carry.target, variables)
  carry, _ = source.next(carry, 2, later)
  close(carry.target, later)


@pytest.mark.long
def test_any_number_of_devices_goes_on():
  made = task_of()
  source, carry, variables = begin(made, 8)
  carry, _ = source.next(carry, 0, variables)
  other = made.source('train', mesh_of(2), 0)
  places = jax.tree.map(lambda x: x.sharding, other.init(jax.random.key(0)))
  carry, batch = other.next(jax.device_put(jax.device_get(carry), places), 1, variables)
  assert batch['inputs'].shape == (32, 1, 4)
  assert int(carry.actors.count[0]) == 10


# -------- what is refused --------


@pytest.mark.parametrize(
  'task, words',
  [
    ({'environment': 'brakeout'}, "task.environment='brakeout': .*did you mean breakout.*cartpole"),
    ({'environment': 'breakout(sticky_prob=2)'}, 'sticky=2.0: must be in'),
    ({'environment': 'cartpole(time_limit=-5)'}, 'time_limit=-5: must be at least 0'),
    ({'history': 101}, 'task.history=101: must be at most 100'),
    ({'target': {'n_step': 101}}, 'task.target.n_step=101: must be at least 1 and at most 100'),
    ({'num_envs': 5}, 'task.num_envs=5: must divide 16, the frames between two steps'),
    ({'replay': {'capacity': 250}}, 'task.replay.capacity=250: must be a multiple of 16'),
    ({'replay': {'min_size': 999}}, 'task.replay.min_size=999: must be at most'),
    ({'target': {'every': 6}}, 'task.target.every=6: must be a multiple of updates_per_step=4'),
    ({'target': {'discount': 1.5}}, 'task.target.discount=1.5: must be in'),
    ({'seeds': 0}, 'task.seeds=0: must be at least 1'),
    ({'exploration': {'final': -1}}, 'task.exploration.final=-1.0: must be in'),
  ],
)
def test_what_is_refused(task, words):
  with pytest.raises(UserError, match=words):
    task_of(**task)


def test_a_replay_that_does_not_fit_is_refused_in_bytes():
  made = task_of(replay={'capacity': 2**40})
  with pytest.raises(UserError, match=r'task.replay.capacity=1099511627776: needs [\d,.]+ GiB of'):
    made.source('train', mesh_of(1), 0).init(jax.random.key(0))


@pytest.mark.parametrize(
  'environment, words',
  [
    ('cartpole', r'^model.filters=\(32, 64, 64\): convolutions see pictures .* shape \[4\];'),
    ('breakout', r'^model.windows: a window of 4 does not fit into 1 x 1$'),
  ],
)
def test_observations_that_a_network_cannot_see_are_refused(environment, words, tmp_path):
  config = {**SMALL, 'task': merged(SMALL['task'], {'environment': environment})}
  config = verbs.complete_config({**config, 'model': {'name': 'dqn_nature'}})
  with pytest.raises(UserError, match=words):
    verbs.train(config, str(tmp_path))


def test_a_network_whose_windows_do_not_fit_its_strides_is_refused():
  with pytest.raises(UserError, match=r'model\.windows'):
    task_of({'filters': (4,), 'windows': (3,), 'strides': (2,)}, environment='breakout')
