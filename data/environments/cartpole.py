"""Cart-pole: a pole is kept upright on a cart (Barto, Sutton and Anderson 1983).

The numbers are those of Gymnasium's CartPole-v1, against which the tests compare each step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data.environments.environment import Environment

GRAVITY, CART_MASS, POLE_MASS, HALF_POLE, FORCE = 9.8, 1.0, 0.1, 0.5, 10.0  # m/s², kg, kg, m, N
SECONDS = 0.02  # of a step
FARTHEST, STEEPEST = 2.4, 12 * np.pi / 180  # metres, radians


class CartPoleState(NamedTuple):
  """Float32 `[]` each: metres and metres a second of the cart, radians and their rate."""

  x: Array
  speed: Array
  angle: Array
  spin: Array


def CartPole(time_limit: int = 500) -> Environment:
  """Returns the environment: actions 0 and 1 push left and right, each step is worth 1.

  Args:
    time_limit: steps after which an episode is truncated.
  """
  return Environment(
    name='cartpole',
    num_actions=2,
    init=lambda key: CartPoleState(*jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)),
    step=step,
    observe=lambda state: jnp.stack(state),
    time_limit=time_limit,
    render=render,
  )


def step(state: CartPoleState, action: Array, key: Array) -> tuple[CartPoleState, Array, Array]:
  """Returns the state after SECONDS by Euler's method, reward 1, and whether the pole fell."""
  del key  # nothing is random
  force = jnp.where(action == 1, FORCE, -FORCE)
  cos, sin = jnp.cos(state.angle), jnp.sin(state.angle)
  mass = CART_MASS + POLE_MASS
  push = (force + POLE_MASS * HALF_POLE * state.spin**2 * sin) / mass
  spin_rate = (GRAVITY * sin - cos * push) / (HALF_POLE * (4 / 3 - POLE_MASS * cos**2 / mass))
  acceleration = push - POLE_MASS * HALF_POLE * spin_rate * cos / mass
  new = CartPoleState(
    state.x + SECONDS * state.speed,
    state.speed + SECONDS * acceleration,
    state.angle + SECONDS * state.spin,
    state.spin + SECONDS * spin_rate,
  )
  fallen = (jnp.abs(new.x) > FARTHEST) | (jnp.abs(new.angle) > STEEPEST)
  return new, jnp.float32(1), fallen


def render(observation: np.ndarray) -> np.ndarray:
  """Returns a picture uint8 `[60, 120, 3]`: a dark cart, its pole, the track."""
  picture = np.full((60, 120, 3), 255, np.uint8)
  picture[50] = 160
  centre = 60 + observation[0] / FARTHEST * 50
  reach = np.linspace(0, 40, 80)  # pixels along the pole
  across = np.clip(centre + reach * np.sin(observation[2]), 0, 118).astype(int)
  up = np.clip(44 - reach * np.cos(observation[2]), 0, 59).astype(int)
  picture[up, across] = picture[up, across + 1] = 200, 90, 40
  left = int(np.clip(centre - 8, 0, 104))
  picture[44:50, left : left + 16] = 40
  return picture
