"""MinAtar's Freeway: a chicken crosses eight lanes of cars, as often as it can in 2,500 steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data.environments.environment import Environment, sticky
from data.environments.minatar import grid

LANES = 8  # rows 1 to 8
SLOWEST = 5  # steps between two moves of a car, at most
COLUMN = 4  # the chicken's
REST = 3  # steps between two moves of the chicken
STEPS = 2_500  # of an episode
BOTTOM = grid.SIDE - 1


class FreewayState(NamedTuple):
  """A position.

  y: int32 `[]`, the chicken's row.
  rest: int32 `[]`, steps until it may move again.
  left: int32 `[]`, steps until the episode ends.
  at, speed, timer: int32 `[8]`, each car's column, the steps between its moves (negative for one
    that goes left), and those until its next.
  """

  y: Array
  rest: Array
  left: Array
  at: Array
  speed: Array
  timer: Array


def Freeway(sticky_prob: float = 0.1) -> Environment:
  """Returns the environment: a crossing is worth 1.

  Its end after STEPS is one of the game's rules, seen as terminal by MinAtar's agents.

  Args:
    sticky_prob: the probability that an action is the one before (Young and Tian 2019: 0.1).
  """
  game = Environment('freeway', grid.NUM_ACTIONS, init, step, observe)
  return sticky(game, sticky_prob)


def init(key: Array) -> FreewayState:
  """Returns the chicken at the bottom, and cars of random speeds at the left."""
  speed = speeds(key)
  y, rest, left = (jnp.int32(n) for n in (BOTTOM, REST, STEPS))
  return FreewayState(y, rest, left, jnp.zeros(LANES, jnp.int32), speed, jnp.abs(speed))


def speeds(key: Array) -> Array:
  """Draws int32 `[8]` of magnitudes 1 to SLOWEST, in either direction."""
  chance = jax.random.uniform(key, (2, LANES))
  size = 1 + (chance[0] * SLOWEST).astype(jnp.int32)
  return jnp.where(chance[1] < 0.5, -size, size)


def step(state: FreewayState, action: Array, key: Array) -> tuple[FreewayState, Array, Array]:
  """Moves the chicken, then the cars; who is hit begins again at the bottom."""
  wish = (action == grid.DOWN).astype(jnp.int32) - (action == grid.UP)
  moves = (wish != 0) & (state.rest == 0)
  y = jnp.clip(state.y + jnp.where(moves, wish, 0), 0, BOTTOM)
  rest = jnp.where(moves, REST, state.rest)
  crossed = y == 0
  y = jnp.where(crossed, BOTTOM, y)
  speed = jnp.where(crossed, speeds(key), state.speed)
  timer = jnp.where(crossed, jnp.abs(speed), state.timer)
  rows = np.arange(1, LANES + 1)
  due = timer == 0
  at = (state.at + jnp.where(due, jnp.sign(speed), 0)) % grid.SIDE
  hit = ((rows == y) & ((state.at == COLUMN) | (at == COLUMN))).any()
  new = FreewayState(
    y=jnp.where(hit, BOTTOM, y),
    rest=jnp.maximum(rest - 1, 0),
    left=state.left - 1,
    at=at,
    speed=speed,
    timer=jnp.where(due, jnp.abs(speed), timer - 1),
  )
  return new, crossed.astype(jnp.float32), new.left < 0


def observe(state: FreewayState) -> Array:
  """Returns the planes chicken, car, and five of the speeds, each where such a car came from."""
  behind = (state.at - jnp.sign(state.speed)) % grid.SIDE
  steps = jnp.abs(state.speed)
  return grid.planes(
    grid.cell(state.y, COLUMN),
    grid.lanes(state.at, np.ones(LANES, bool)),
    *(grid.lanes(behind, steps == n) for n in range(1, SLOWEST + 1)),
  )
