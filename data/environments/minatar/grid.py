"""What the MinAtar games share: a grid of 10 x 10 cells, six actions, masks of cells."""

import jax.numpy as jnp
import numpy as np
from jax import Array

SIDE = 10
NOTHING, LEFT, UP, RIGHT, DOWN, FIRE = range(6)  # the actions of all games
NUM_ACTIONS = 6
ROWS, COLUMNS = np.arange(SIDE)[:, None], np.arange(SIDE)[None, :]


def cell(y: Array | int, x: Array | int) -> Array:
  """Returns bool `[10, 10]`, true at row y and column x alone; nowhere if they are outside."""
  return jnp.equal(y, ROWS) & jnp.equal(x, COLUMNS)


def cells(y: Array, x: Array, there: Array) -> Array:
  """Returns bool `[10, 10]`, true at rows and columns `[N]` of those that are `there`."""
  rows, columns = (y[None] == ROWS) & there[None], x[None] == ROWS  # [10, N]
  return (rows[:, None] & columns[None]).any(-1)


def lanes(x: Array, there: Array | np.ndarray) -> Array:
  """Returns bool `[10, 10]`, true at columns x `[8]` of those of rows 1 to 8 that are `there`."""
  return jnp.pad((x[:, None] == COLUMNS) & there[:, None], ((1, 1), (0, 0)))


def planes(*parts: Array) -> Array:
  """Returns bool `[10, 10, C]` of C masks."""
  return jnp.stack(parts, -1)


def move(position: Array, action: Array, less: int, more: int, least: int = 0) -> Array:
  """Returns a coordinate after an action: `less` takes one off, `more` adds one, within the grid.

  least: the smallest coordinate; the largest is as far from the grid's other side.
  """
  position = position + (action == more) - (action == less)
  return jnp.clip(position, least, SIDE - 1 - least)


def inside(x: Array) -> Array:
  """Returns whether columns are on the grid."""
  return (x >= 0) & (x < SIDE)
