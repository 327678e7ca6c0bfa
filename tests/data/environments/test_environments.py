"""What holds of every environment; the cart-pole beside Gymnasium's; sticky actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.environments import ENVIRONMENTS
from data.environments.cartpole import CartPole, CartPoleState
from data.environments.environment import Environment, draw_planes, sticky

pytestmark = pytest.mark.usefixtures('one_device')


@pytest.mark.parametrize('name', [name for name in ENVIRONMENTS if name != 'atari'])
def test_shapes_and_dtypes_stay_what_they_are(name):
  environment = ENVIRONMENTS[name]()
  key = jax.random.key(0)
  state = jax.eval_shape(environment.init, key)
  new, reward, terminal = jax.eval_shape(environment.step, state, jnp.int32(1), key)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(
    lambda x: (x.shape, x.dtype), state
  )
  assert (reward.shape, reward.dtype, terminal.shape, terminal.dtype) == ((), 'f4', (), bool)
  seen = environment.observation
  assert seen.dtype in (bool, np.float32)
  picture = environment.render(np.zeros(seen.shape, seen.dtype))
  assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[-1] == 3


def test_the_cart_pole_is_gymnasiums():
  gymnasium = pytest.importorskip('gymnasium')
  theirs, rng = gymnasium.make('CartPole-v1').unwrapped, np.random.default_rng(0)
  ours = jax.jit(CartPole().step)
  ends = 0
  for episode in range(10):
    theirs.reset(seed=episode)
    for _ in range(200):
      state = CartPoleState(*map(jnp.float32, theirs.state))
      action = int(rng.integers(2))
      observation, reward, terminal, *_ = theirs.step(action)
      new, own_reward, own_terminal = ours(state, jnp.int32(action), jax.random.key(0))
      np.testing.assert_allclose(jnp.stack(new), observation, atol=1e-5)
      assert (own_reward, bool(own_terminal)) == (reward, terminal)
      if terminal:
        ends += 1
        break
  assert ends == 10


def test_a_sticky_action_is_the_one_executed_before():
  """An environment whose state is the action that was executed."""
  said = Environment(
    'said',
    6,
    lambda key: jnp.int32(0),
    lambda state, action, key: (action, jnp.float32(0), jnp.bool_(False)),
    lambda state: state.astype(jnp.float32)[None],
  )
  environment = sticky(said, 0.25)
  actions = jnp.arange(4_000) % 5 + 1

  def step(state, x):
    state, _, _ = environment.step(state, *x)
    return state, environment.observe(state)[0]

  start = environment.init(jax.random.key(0))
  assert environment.observe(start)[0] == 0
  _, done = jax.lax.scan(step, start, (actions, jax.random.split(jax.random.key(1), 4_000)))
  done = np.asarray(done)
  stuck = done != np.asarray(actions)
  assert abs(stuck.mean() - 0.25) < 0.03
  before = np.concatenate([[0], done[:-1]])
  assert np.array_equal(done[stuck], before[stuck])
  with pytest.raises(ValueError, match=r'sticky=1: must be in \[0, 1\)'):
    sticky(said, 1)


def test_planes_are_drawn_in_colours_and_numbers_in_greys():
  planes = np.zeros((2, 3, 2), bool)
  planes[0, 1, 1] = True
  picture = draw_planes(planes, scale=1)
  assert picture.shape == (2, 3, 3)
  assert len({tuple(x) for x in picture.reshape(-1, 3)}) == 2
  assert draw_planes(np.float32([0, -9, 9]), scale=1).shape == (4, 12, 3)
