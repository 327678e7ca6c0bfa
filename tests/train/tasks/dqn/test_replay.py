"""The replay beside lists in Python: what is sampled is what happened."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.tasks.dqn.small_dqn import counting
from train.tasks.dqn import actor, replay, targets
from train.tasks.dqn.replay import Layout

pytestmark = pytest.mark.usefixtures('one_device')

STEPS, RINGS, SEEDS, LENGTH = 4, 6, 3, 16


def played(environment, rounds, **options):
  """A replay after so many rounds of STEPS rows, and all rows by hand: ring -> list of dicts."""
  layout = Layout(environment.observation, LENGTH, SEEDS, **options)
  actors = actor.init(environment, layout.history, jax.random.split(jax.random.key(0), RINGS))
  ring = replay.init(layout, RINGS)

  def no_values(inputs):
    return jnp.zeros((len(inputs), environment.num_actions))

  @jax.jit
  def go(actors, ring):
    count = actors.count[0]
    actors, rows = jax.lax.scan(
      lambda actors, _: actor.step(environment, no_values, actors, jnp.float32(1))[:2],
      actors,
      None,
      STEPS,
    )
    return actors, replay.write(layout, ring, rows, count), rows

  kept = [[] for _ in range(RINGS)]
  for _ in range(rounds):
    actors, ring, rows = go(actors, ring)
    rows = {name: np.asarray(x) for name, x in vars(rows).items()}
    for t in range(STEPS):
      for r in range(RINGS):
        kept[r].append({name: x[t, r] for name, x in rows.items()})
  return layout, ring, kept


def by_hand(layout, rows, at):
  """The transition that begins with row `at` of a ring's rows, in plain Python."""

  def history(i):
    frames = []
    for _ in range(layout.history):
      frames.append(rows[i]['observation'] if i is not None else 0 * rows[0]['observation'])
      i = None if i is None or rows[i]['first'] else i - 1
    return np.stack(frames[::-1])

  reward, discount, i = 0.0, 1.0, at
  while i < at + layout.n_step and rows[i]['valid']:
    reward += discount * rows[i]['reward']
    discount *= layout.discount
    i += 1
    if rows[i - 1]['terminal']:
      return history(at), None, reward, 0.0
  return history(at), history(i), reward, discount


@pytest.mark.long
@pytest.mark.parametrize('rounds', [1, 3, 4, 7])  # empty but for one write, not full, full, past it
@pytest.mark.parametrize('options', [{}, {'history': 3, 'n_step': 3}, {'priority': 0.6}])
@pytest.mark.parametrize('truncated', [False, True])
def test_what_is_sampled_is_what_happened(rounds, options, truncated):
  environment = counting(5, truncated=truncated, planes='history' in options)
  layout, ring, kept = played(environment, rounds, **options)
  count = rounds * STEPS
  drawn = replay.sample(layout, ring, jax.random.key(1), 400, jnp.int32(count))
  drawn = jax.tree.map(np.asarray, drawn)
  seen = set()
  for n, s in np.ndindex(400, SEEDS):
    r, place = drawn.ring[n, s], drawn.place[n, s]
    assert r % SEEDS == s  # of no other seed
    at = max(i for i in range(count) if i % LENGTH == place)
    # Its followers are written, its history is not overwritten.
    assert at + layout.n_step < count
    assert at - layout.history + 1 >= count - LENGTH or count <= LENGTH
    row = kept[r][at]
    assert drawn.mask[n, s] == row['valid']
    assert drawn.action[n, s] == row['action']
    if not row['valid']:
      continue
    first, last, reward, discount = by_hand(layout, kept[r], at)
    assert np.array_equal(drawn.frames[n, s], first)
    assert np.isclose(drawn.reward[n, s], reward)
    assert np.isclose(drawn.discount[n, s], discount)
    if last is not None:
      assert np.array_equal(drawn.next_frames[n, s], last)
    seen.add((r, at))
  oldest = max(0, count - (LENGTH - layout.history + 1))
  all_of_them = {
    (r, i)
    for r in range(RINGS)
    for i in range(oldest, count - layout.n_step)
    if kept[r][i]['valid']
  }
  assert seen <= all_of_them
  assert len(seen) > 0.95 * len(all_of_them)


def test_an_episode_that_the_time_limit_ends_is_not_over():
  environment = counting(5, truncated=True)
  _, _, kept = played(environment, 4)
  rows = kept[0]
  begins = [i for i, row in enumerate(rows) if row['first']]
  assert begins[:3] == [0, 6, 12]  # five steps, and a row of the last observation
  assert [row['valid'] for row in rows[:6]] == [True] * 5 + [False]
  assert not any(row['terminal'] for row in rows)
  assert rows[5]['observation'] == rows[0]['observation'] + 5
  assert rows[5]['reward'] == 0


@pytest.mark.long
def test_priorities_are_of_the_sampled_rows_and_their_sizes():
  environment = counting(5, truncated=False)
  layout, ring, _ = played(environment, 3, priority=1.0, correction=1.0)
  count = jnp.int32(3 * STEPS)
  drawn = replay.sample(layout, ring, jax.random.key(0), 64, count)
  assert np.all(np.asarray(drawn.weight) == 1)
  # Row 2 of ring 0 errs by -9, all others by 1: of seed 0 it is drawn nine times as often as each.
  wrong = (drawn.ring == 0) & (drawn.place == 2)
  assert wrong.any()
  ring = replay.reprioritise(layout, ring, drawn, jnp.where(wrong, -9.0, 1.0))
  again = jax.tree.map(np.asarray, replay.sample(layout, ring, jax.random.key(1), 6_000, count))
  wrong = (again.ring == 0) & (again.place == 2)
  rows = 2 * (3 * STEPS - 1)
  assert np.isclose(wrong[:, 0].mean(), 9 / (9 + rows - 1), rtol=0.02)
  assert not wrong[:, 1:].any()
  assert np.allclose(again.weight[:, 0][wrong[:, 0]], 1 / 9, rtol=1e-3)
  assert np.allclose(again.weight[:, 0][~wrong[:, 0]], 1, rtol=1e-3)


def test_the_replay_takes_the_bytes_that_the_docs_say():
  layout = Layout(jax.ShapeDtypeStruct((10, 10, 4), bool), 6_250)
  assert layout.bytes(16) == 100_000 * (50 + 11)
  pixels = Layout(jax.ShapeDtypeStruct((84, 84, 1), np.uint8), 62_500, history=4)
  assert pixels.bytes(16) == 1_000_000 * (84 * 84 + 11)


def test_hubers_gradient_is_the_error_clipped():
  error = jnp.array([-30.0, -1.0, -0.5, 0.0, 0.25, 1.0, 30.0])
  assert np.allclose(jax.vmap(jax.grad(targets.huber))(error), np.clip(error, -1, 1))


def sample_of(following, reward, discount):
  one = jnp.zeros((1, 1))
  frames = jnp.asarray(following, jnp.float32).reshape(1, 1, 1, -1)
  return replay.Transitions(
    frames, frames, one.astype(int), one + reward, one + discount, one, one, one, one
  )


def test_targets_of_double_dqn_are_the_target_networks_values_of_the_networks_choice():
  sample = sample_of([1.0], reward=0.5, discount=0.9)
  network = lambda x: x * jnp.array([[[1.0, 2.0, 3.0]]])  # noqa: E731
  target = lambda x: x * jnp.array([[[5.0, 4.0, 2.0]]])  # noqa: E731
  plain = targets.td_targets(sample, network, target, double=False)
  double = targets.td_targets(sample, network, target, double=True)
  assert np.allclose(plain, 0.5 + 0.9 * 5)
  assert np.allclose(double, 0.5 + 0.9 * 2)
  assert np.allclose(targets.td_targets(sample_of([1.0], 3, 0), network, target, double=True), 3)
