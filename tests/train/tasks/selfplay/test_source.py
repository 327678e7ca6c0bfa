"""The source of self-play: who plays with which variables, and what is kept of the games."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.tasks.selfplay.small_selfplay import begin, mesh_of, task_of
from train import mesh as mesh_lib


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


def test_every_environment_plays_as_much_and_no_batch_is_drawn_before_the_minimum():
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
  task = task_of(search={'num_simulations': 1}, replay={'min_size': 0}, selection='puct')
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
def test_snapshots_are_taken_at_their_steps_and_not_between():
  task = task_of()
  source, carry, variables = begin(task)
  twice = jax.tree.map(lambda x: 2 * x, variables)
  carry, _ = source.next(carry, 0, variables)
  carry, _ = source.next(carry, 1, twice)
  assert int(carry.snapshot_step) == 0
  for a, b in zip(*map(jax.tree.leaves, (carry.snapshot, variables)), strict=True):
    np.testing.assert_array_equal(a, b)
  carry, _ = source.next(carry, 4, twice)
  assert int(carry.snapshot_step) == 4
  for a, b in zip(*map(jax.tree.leaves, (carry.snapshot, twice)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.long
def test_only_who_wins_at_the_gate_plays():
  """Networks that are sure of their one parameter's move: to go for the centre is better."""
  task = task_of(
    search={'num_simulations': 1},
    selection='puct',
    evaluation={'opening_moves': 0},
    moves_per_step=9,
    gate={'threshold': 0.55, 'num_games': 8, 'every': 2},
  )

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
  task = task_of(
    opponent_pool={'env_stride': 4, 'size': 2},
    snapshot_every=2,
    moves_per_step=1,
    replay={'min_size': 0},
  )
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
  drawn = {int(source._opponent(carry.pool, carry.key, kept)['move']) for kept in range(2, 20)}
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
  task = task_of(replay={'window': 16 * 4096})
  source, carry, variables = begin(task)
  arguments = carry.actors, carry.replay, carry.calibration, carry.key, variables, (), 0
  text = source._step.lower(*arguments).compile().as_text()
  assert 'u8[16,4096,3]' in text  # the planes' ring
  copies = [x for x in text.splitlines() if ' copy(' in x and '[16,4096,' in x]
  assert not copies, copies[0]


def test_devices_with_more_to_draw_from_count_more():
  """Each draws as many: 3 devices hold 1, 2 and 6 examples, of which each counts the same."""
  mesh = mesh_of(3)
  rows, counts = jax.sharding.PartitionSpec(mesh_lib.BATCH_AXES), jnp.array([1, 2, 6])
  share = jax.shard_map(
    lambda x: mesh_lib.share_of(x[0])[None], mesh=mesh, in_specs=rows, out_specs=rows
  )
  np.testing.assert_allclose(share(counts), counts / 3)
  np.testing.assert_array_equal(share(0 * counts), [0, 0, 0])


@pytest.mark.long
def test_a_batch_weighs_by_the_positions_that_each_device_has():
  (_, _, kept, batch), _ = played(8)
  held = (kept.trainable & (kept.end >= 0)).reshape(8, -1).sum(1)
  np.testing.assert_allclose(batch['mask'].reshape(8, -1), np.tile(held / held.mean(), (4, 1)).T)
  assert played(1)[0][3]['mask'].tolist() == [1] * 32
