"""The MinAtar games beside the NumPy original, step for step, with the same chances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.environments import ENVIRONMENTS

pytestmark = pytest.mark.usefixtures('one_device')

GAMES = ('asterix', 'breakout', 'freeway', 'seaquest', 'space_invaders')
CHANCES = {'asterix': (3,), 'freeway': (2, 8), 'seaquest': (5,), 'breakout': ()}


class Scripted:
  """Stands in for the original's random numbers: gives those that ours drew, in its order."""

  def __init__(self):
    self.numbers = []

  def choice(self, options, size=None, p=None):
    if size:
      return np.array([self.choice(options) for _ in range(size)])
    u = self.numbers.pop(0)
    if p is None:
      return options[int(u * np.float32(len(options)))]
    return options[int(np.searchsorted(np.cumsum(p), u, side='right'))]

  def randint(self, low, high=None, size=None):
    options = range(low) if high is None else range(low, high)
    return self.choice(options, size)

  def rand(self, size=None):
    return np.array([self.numbers.pop(0) for _ in range(size or 1)]).reshape(size or ())


def chances_of(name, key):
  if name not in CHANCES:
    return []
  return list(np.asarray(jax.random.uniform(key, CHANCES[name])).reshape(-1))


def actions_of(name, rng, steps):
  """Random actions that are often held for a while, so that play gets somewhere."""
  up = 0.7 if name == 'freeway' else 1 / 6
  actions = rng.choice(6, size=steps, p=[up if a == 2 else (1 - up) / 5 for a in range(6)])
  for i in range(1, steps):
    if rng.random() < 0.6:
      actions[i] = actions[i - 1]
  return actions


def compare(name, steps, seed=0):
  """Plays the same actions in both; returns how many episodes ended and the rewards' sum."""
  minatar = pytest.importorskip('minatar')
  ours = ENVIRONMENTS[name](sticky_prob=0.0)
  original = minatar.Environment(name, sticky_action_prob=0.0)
  scripted = original.env.random = Scripted()
  root = jax.random.key(seed)

  @jax.jit
  def chunk(state, actions, keys):
    """Steps, each followed by a new episode if it ended one."""

    def one(state, x):
      action, key = x
      new, reward, terminal = ours.step(state, action, key)
      fresh = ours.init(jax.random.fold_in(key, 1))
      after = jax.tree.map(lambda a, b: jnp.where(terminal, a, b), fresh, new)
      return after, (ours.observe(new), reward, terminal, ours.observe(after))

    return jax.lax.scan(one, state, (actions, keys))

  draws = jax.jit(jax.vmap(lambda key: jax.random.uniform(key, CHANCES.get(name, ()))))
  state = ours.init(root)
  scripted.numbers = chances_of(name, root)
  original.reset()
  assert np.array_equal(ours.observe(state), original.state())
  rng, size, ends, total = np.random.default_rng(seed), min(steps, 2_000), 0, 0.0
  for part in range(steps // size):
    actions = actions_of(name, rng, size)
    keys = jax.random.split(jax.random.fold_in(root, part), size)
    state, (seen, rewards, terminals, after) = jax.device_get(chunk(state, actions, keys))
    drawn = np.asarray(draws(keys)).reshape(size, -1)
    new = np.asarray(draws(jax.vmap(jax.random.fold_in, (0, None))(keys, 1))).reshape(size, -1)
    for i, action in enumerate(actions):
      numbers = list(drawn[i])
      if name == 'seaquest' and original.env.e_spawn_timer:
        numbers = numbers[3:]
      scripted.numbers = numbers
      reward, terminal = original.act(action)
      where = f'{name}, step {part * size + i}'
      assert reward == rewards[i], where
      assert terminal == terminals[i], where
      assert np.array_equal(original.state(), seen[i]), where
      total += reward
      if terminal:
        ends += 1
        scripted.numbers = list(new[i])
        original.reset()
        assert np.array_equal(original.state(), after[i]), where
  return ends, total


@pytest.mark.parametrize('name', GAMES)
def test_a_game_is_the_original_step_for_step(name):
  ends, total = compare(name, 4_000)
  assert ends > 0 and total > 0


@pytest.mark.slow
@pytest.mark.parametrize('name', GAMES)
def test_a_game_is_the_original_over_100_000_steps(name):
  ends, total = compare(name, 100_000, seed=1)
  assert ends > 30 and total > 30
