"""MinAtar's Space Invaders: a cannon against a block of aliens that shoot and come nearer."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from data.environments.environment import Environment, sticky
from data.environments.minatar import grid

ALIENS = (grid.ROWS < 4) & (grid.COLUMNS >= 2) & (grid.COLUMNS < 8)  # bool [10, 10]
COOL_DOWN = 5  # steps between two shots of the cannon
SHOT_EVERY = 10  # of the aliens
SLOWEST, FASTEST = 12, 6  # steps between the moves of a whole block: at first, and after some waves
BOTTOM = grid.SIDE - 1


class SpaceInvadersState(NamedTuple):
  """A position; int32 `[]` unless said.

  x: the cannon's column.
  shots, bombs, aliens: bool `[10, 10]`, of the cannon and of the aliens, and these themselves.
  direction: of the aliens, 1 or -1.
  shot_timer, bomb_timer, move_timer: steps until the next of each.
  move_every: the largest number of steps between two moves of the aliens.
  """

  x: Array
  shots: Array
  bombs: Array
  aliens: Array
  direction: Array
  shot_timer: Array
  bomb_timer: Array
  move_timer: Array
  move_every: Array


def SpaceInvaders(sticky_prob: float = 0.1) -> Environment:
  """Returns the environment: an alien is worth 1; a bomb or an alien at the cannon ends it.

  Args:
    sticky_prob: the probability that an action is the one before (Young and Tian 2019: 0.1).
  """
  game = Environment('space_invaders', grid.NUM_ACTIONS, init, step, observe)
  return sticky(game, sticky_prob)


def init(key: Array) -> SpaceInvadersState:
  """Returns the first wave."""
  del key
  none = jnp.zeros((grid.SIDE, grid.SIDE), bool)
  numbers = (jnp.int32(n) for n in (-1, 0, SHOT_EVERY, SLOWEST, SLOWEST))
  return SpaceInvadersState(jnp.int32(5), none, none, jnp.asarray(ALIENS), *numbers)


def step(
  state: SpaceInvadersState, action: Array, key: Array
) -> tuple[SpaceInvadersState, Array, Array]:
  """Moves the cannon, its shots, the bombs, the aliens; nothing is random."""
  del key
  fires = (action == grid.FIRE) & (state.shot_timer == 0)
  x = grid.move(state.x, action, grid.LEFT, grid.RIGHT)
  here = grid.cell(BOTTOM, x)
  shots = _down(state.shots | (fires & grid.cell(BOTTOM, state.x)), -1)
  bombs = _down(state.bombs, 1)
  over = (bombs & here).any() | (state.aliens & here).any()
  aliens, direction, due, landed = _march(state)
  over |= landed | (due & (aliens & here).any())
  move_timer = jnp.where(due, jnp.minimum(state.aliens.sum(), state.move_every), state.move_timer)
  bombs_due = state.bomb_timer == 0
  bombs |= bombs_due & _nearest(aliens, x)
  killed = aliens & shots
  aliens, shots = aliens & ~killed, shots & ~killed
  won = ~aliens.any()
  new = SpaceInvadersState(
    x=x,
    shots=shots,
    bombs=bombs,
    aliens=jnp.where(won, ALIENS, aliens),
    direction=direction,
    shot_timer=jnp.maximum(jnp.where(fires, COOL_DOWN, state.shot_timer) - 1, 0),
    bomb_timer=jnp.where(bombs_due, SHOT_EVERY, state.bomb_timer) - 1,
    move_timer=move_timer - 1,
    move_every=state.move_every - (won & (state.move_every > FASTEST)),
  )
  return new, killed.sum().astype(jnp.float32), over


def _down(mask: Array, rows: int) -> Array:
  """Returns the mask moved by 1 or -1 rows; what leaves the grid is gone."""
  empty = jnp.zeros_like(mask[:1])
  return jnp.concatenate([empty, mask[:-1]] if rows == 1 else [mask[1:], empty])


def _march(state: SpaceInvadersState) -> tuple[Array, Array, Array, Array]:
  """Returns the aliens after their move, direction, whether it was due, whether they landed.

  At a side they turn round and come a row nearer.
  """
  aliens, due = state.aliens, state.move_timer == 0
  at_side = jnp.where(state.direction < 0, aliens[:, 0].any(), aliens[:, -1].any())
  turns = due & at_side
  landed = turns & aliens[BOTTOM].any()
  sideways = jnp.where(state.direction < 0, jnp.roll(aliens, -1, 1), jnp.roll(aliens, 1, 1))
  moved = jnp.where(at_side, jnp.roll(aliens, 1, 0), sideways)
  direction = jnp.where(turns, -state.direction, state.direction)
  return jnp.where(due, moved, aliens), direction, due, landed


def _nearest(aliens: Array, x: Array) -> Array:
  """Returns bool `[10, 10]`: the lowest alien of the column nearest to x, of two the left one."""
  columns = np.arange(grid.SIDE)
  distance = 2 * jnp.abs(columns - x) + (columns > x)
  chosen = jnp.argmin(jnp.where(aliens.any(0), distance, 99))
  lowest = jnp.max(jnp.where(aliens & (chosen == grid.COLUMNS), grid.ROWS, -1))
  return grid.cell(lowest, chosen)


def observe(state: SpaceInvadersState) -> Array:
  """Returns the planes cannon, alien, aliens that go left, that go right, shots, bombs."""
  left, right = (state.aliens & (state.direction == way) for way in (-1, 1))
  cannon = grid.cell(BOTTOM, state.x)
  return grid.planes(cannon, state.aliens, left, right, state.shots, state.bombs)
