"""MinAtar's Asterix: treasure is to be met, enemies are not; both cross the grid, ever faster."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data.environments.environment import Environment, sticky
from data.environments.minatar import grid

SLOTS = 8  # rows 1 to 8 have one entity each
EARLIER = np.tri(SLOTS, k=-1, dtype=bool)  # [row, earlier row]
SPAWN, MOVE, RAMP = 10, 5, 100  # steps between two entities, their moves, and rises of difficulty


class AsterixState(NamedTuple):
  """A position; int32 `[]` unless said.

  y, x: the player's cell.
  there, gold, right: bool `[8]`, whether a row has an entity, a treasure, one that goes right.
  at: int32 `[8]`, its column.
  spawn_timer, move_timer, ramp_timer: steps until the next of each.
  spawn_every, move_every: the intervals, which shrink.
  ramps: rises of difficulty so far.
  """

  y: Array
  x: Array
  there: Array
  gold: Array
  right: Array
  at: Array
  spawn_timer: Array
  move_timer: Array
  ramp_timer: Array
  spawn_every: Array
  move_every: Array
  ramps: Array


def Asterix(sticky_prob: float = 0.1) -> Environment:
  """Returns the environment: treasure is worth 1, and an episode ends when an enemy is met.

  Args:
    sticky_prob: the probability that an action is the one before (Young and Tian 2019: 0.1).
  """
  game = Environment('asterix', grid.NUM_ACTIONS, init, step, observe)
  return sticky(game, sticky_prob)


def init(key: Array) -> AsterixState:
  """Returns the player in the middle of an empty grid."""
  del key
  none, zeros = jnp.zeros(SLOTS, bool), jnp.zeros(SLOTS, jnp.int32)
  numbers = [jnp.int32(n) for n in (SPAWN, MOVE, RAMP, SPAWN, MOVE, 0)]
  return AsterixState(jnp.int32(5), jnp.int32(5), none, none, none, zeros, *numbers)


def step(state: AsterixState, action: Array, key: Array) -> tuple[AsterixState, Array, Array]:
  """Spawns, moves the player, then the entities, and makes the game harder when it is time."""
  state = _spawn(state, jax.random.uniform(key, (3,)))
  x = grid.move(state.x, action, grid.LEFT, grid.RIGHT)
  y = grid.move(state.y, action, grid.UP, grid.DOWN, least=1)
  rows = np.arange(1, SLOTS + 1)
  met = state.there & (rows == y) & (state.at == x)
  moves = state.move_timer == 0
  at = state.at + jnp.where(moves, jnp.where(state.right, 1, -1), 0)
  there = state.there & ~(met & state.gold) & grid.inside(at)
  met_moving = moves & there & (rows == y) & (at == x)
  reward = ((met | met_moving) & state.gold).sum()
  caught = ((met | met_moving) & ~state.gold).any()
  there &= ~(met_moving & state.gold)
  new = state._replace(
    y=y,
    x=x,
    there=there,
    at=at,
    spawn_timer=state.spawn_timer - 1,
    move_timer=jnp.where(moves, state.move_every, state.move_timer) - 1,
  )
  return _ramp(new), reward.astype(jnp.float32), caught


def _spawn(state: AsterixState, chance: Array) -> AsterixState:
  """Puts a new entity into a free row when it is time; chance: uniform in [0, 1), `[3]`."""
  due, free = state.spawn_timer == 0, ~state.there
  right, gold = chance[0] < 0.5, chance[1] < 1 / 3
  count = free.sum()
  number = (chance[2] * count).astype(jnp.int32)
  before = (EARLIER & free[None]).sum(-1)  # free rows before each
  new = due & free & (before == number)
  return state._replace(
    there=state.there | new,
    gold=jnp.where(new, gold, state.gold),
    right=jnp.where(new, right, state.right),
    at=jnp.where(new, jnp.where(right, 0, grid.SIDE - 1), state.at),
    spawn_timer=jnp.where(due, state.spawn_every, state.spawn_timer),
  )


def _ramp(state: AsterixState) -> AsterixState:
  """Shortens the intervals: the spawning's each time, the moves' every other time."""
  goes_on = (state.spawn_every > 1) | (state.move_every > 1)
  due = goes_on & (state.ramp_timer < 0)
  faster = due & (state.move_every > 1) & (state.ramps % 2 == 1)
  return state._replace(
    ramp_timer=jnp.where(due, RAMP, state.ramp_timer - goes_on),
    move_every=state.move_every - faster,
    spawn_every=state.spawn_every - (due & (state.spawn_every > 1)),
    ramps=state.ramps + due,
  )


def observe(state: AsterixState) -> Array:
  """Returns the planes player, enemy, trail (where each came from), gold."""
  behind = state.at - jnp.where(state.right, 1, -1)
  return grid.planes(
    grid.cell(state.y, state.x),
    grid.lanes(state.at, state.there & ~state.gold),
    grid.lanes(behind, state.there),
    grid.lanes(state.at, state.there & state.gold),
  )
