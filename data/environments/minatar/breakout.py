"""MinAtar's Breakout: a paddle keeps a ball in play that breaks three rows of bricks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from data.environments.environment import Environment, sticky
from data.environments.minatar import grid

WALL = (grid.ROWS >= 1) & (grid.ROWS <= 3) & (grid.COLUMNS >= 0)  # bool [10, 10]


class BreakoutState(NamedTuple):
  """A position; int32 `[]` but for the bricks and `struck`.

  y, x: the ball's cell; last_y, last_x: the one before, its trail.
  down, right: its direction, 1 or -1 a step each.
  paddle: the column of the paddle in the last row.
  bricks: bool `[10, 10]`.
  struck: whether the ball met a brick in the step before: it flies through the next ones, so that
    it breaks no two in a row.
  """

  y: Array
  x: Array
  last_y: Array
  last_x: Array
  down: Array
  right: Array
  paddle: Array
  bricks: Array
  struck: Array


def Breakout(sticky_prob: float = 0.1) -> Environment:
  """Returns the environment: a brick is worth 1, and an episode ends when the ball is lost.

  Args:
    sticky_prob: the probability that an action is the one before (Young and Tian 2019: 0.1).
  """
  game = Environment('breakout', grid.NUM_ACTIONS, init, step, observe)
  return sticky(game, sticky_prob)


def init(key: Array) -> BreakoutState:
  """Returns a ball that comes from the upper left or the upper right."""
  from_left = jax.random.uniform(key) < 0.5
  x, y = jnp.where(from_left, 0, grid.SIDE - 1), jnp.int32(3)
  right, one = jnp.where(from_left, 1, -1), jnp.int32(1)
  return BreakoutState(y, x, y, x, one, right, jnp.int32(4), jnp.asarray(WALL), jnp.bool_(False))


def step(state: BreakoutState, action: Array, key: Array) -> tuple[BreakoutState, Array, Array]:
  """Moves the paddle, then the ball, which bounces off walls, bricks and the paddle."""
  del key  # nothing is random but the beginning
  last, paddle = grid.SIDE - 1, grid.move(state.paddle, action, grid.LEFT, grid.RIGHT)
  y, x = state.y + state.down, state.x + state.right
  side = (x < 0) | (x > last)
  x, right = jnp.clip(x, 0, last), jnp.where(side, -state.right, state.right)
  ceiling = y < 0
  hit = (state.bricks & grid.cell(y, x)).any()
  broken = hit & ~state.struck
  bricks = state.bricks & ~(broken & grid.cell(y, x))
  bottom = ~ceiling & ~hit & (y == last)
  bricks = jnp.where(bottom & ~bricks.any(), WALL, bricks)
  # Above the paddle it bounces up; at the paddle's corner it goes back where it came from.
  straight = bottom & (state.x == paddle)
  corner = bottom & ~straight & (x == paddle)
  lost = bottom & ~straight & ~corner
  down = jnp.where(ceiling | broken | straight | corner, -state.down, state.down)
  right = jnp.where(corner, -right, right)
  y = jnp.where(broken | straight | corner, state.y, jnp.maximum(y, 0))
  new = BreakoutState(y, x, state.y, state.x, down, right, paddle, bricks, hit)
  return new, broken.astype(jnp.float32), lost


def observe(state: BreakoutState) -> Array:
  """Returns the planes paddle, ball, trail, brick."""
  paddle, ball = grid.cell(grid.SIDE - 1, state.paddle), grid.cell(state.y, state.x)
  return grid.planes(paddle, ball, grid.cell(state.last_y, state.last_x), state.bricks)
