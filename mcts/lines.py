"""What games of stones in a row share: tic-tac-toe and Connect Four."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array


class State(NamedTuple):
  """board: int8 `[rows, columns]`, 1 the first player's, -1 the second's, row 0 at the top.

  moves: int32 `[]` stones on the board.
  """

  board: Array
  moves: Array


def init(rows: int, columns: int) -> State:
  return State(jnp.zeros((rows, columns), jnp.int8), jnp.zeros((), jnp.int32))


def all_lines(rows: int, columns: int, in_a_row: int) -> np.ndarray:
  """int32 `[L, in_a_row]`: the cells, row * columns + column, of each line of that length."""
  if not 1 <= in_a_row <= max(rows, columns):
    raise ValueError(f'in_a_row {in_a_row}: must be from 1 to {max(rows, columns)}')
  cells = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
  found = []
  for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
    for row, column in np.ndindex(rows, columns):
      line = [(row + i * down, column + i * right) for i in range(in_a_row)]
      if all(r < rows and 0 <= c < columns for r, c in line):
        found.append([cells[place] for place in line])
  return np.array(found, np.int32)


def won(state: State, lines: np.ndarray) -> Array:
  """bool `[]`: whether a line is full of one player's stones."""
  sums = state.board.reshape(-1)[lines].astype(jnp.int32).sum(-1)
  return (jnp.abs(sums) == lines.shape[1]).any()


def done(state: State, lines: np.ndarray) -> Array:
  return won(state, lines) | (state.moves == state.board.size)


def value(state: State, lines: np.ndarray) -> Array:
  """float32 `[]`: -1 if there is a line, for it was not the player to move who made it."""
  return jnp.where(won(state, lines), -1.0, 0.0)


def place(state: State, row: Array, column: Array) -> State:
  stone = (1 - 2 * to_play(state)).astype(jnp.int8)
  return State(state.board.at[row, column].set(stone), state.moves + 1)


def keep_finished(over: Array, old: State, new: State) -> State:
  return State(jnp.where(over, old.board, new.board), jnp.where(over, old.moves, new.moves))


def to_play(state: State) -> Array:
  return state.moves % 2


def observe(state: State) -> Array:
  """bool `[rows, columns, 2]`: stones of the player to move, of the other."""
  mine = (1 - 2 * to_play(state)).astype(jnp.int8)
  return jnp.stack([state.board == mine, state.board == -mine], -1)
