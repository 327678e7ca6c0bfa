"""Games of stones in a row, whose rules tic-tac-toe and Connect Four share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts import symmetry
from mcts.game import Game


class BoardState(NamedTuple):
  """A position.

  board: int8 `[rows, columns]`, 1 the first player's stones, -1 the second's, row 0 at the top.
  moves: int32 `[]`, the number of stones on the board.
  """

  board: Array
  moves: Array


def make_game(
  name: str,
  shape: tuple[int, int],
  *,
  in_a_row: int,
  num_actions: int,
  free: Callable[[Array], Array],
  cell: Callable[[Array, Array], tuple[Array, Array]],
  symmetries: symmetry.Group = symmetry.NONE,
) -> Game:
  """Returns the game on a board of `shape` in which `in_a_row` stones in a line win.

  Args:
    name: of the game.
    shape: rows and columns.
    in_a_row: stones, also on diagonals.
    num_actions: A.
    free: board -> bool `[A]`, whether an action has an empty cell.
    cell: (board, action) -> the row and the column where its stone comes to lie.
    symmetries: of the board.

  Raises:
    ValueError: `in_a_row` is below 1 or longer than the board.
  """
  lines = all_lines(*shape, in_a_row)

  def done(state):
    return won(state, lines) | (state.moves == state.board.size)

  def step(state, action):
    row, column = cell(state.board, action)
    stone = (1 - 2 * to_play(state)).astype(jnp.int8)
    placed = BoardState(state.board.at[row, column].set(stone), state.moves + 1)
    over = done(state)
    return jax.tree.map(lambda old, new: jnp.where(over, old, new), state, placed)

  return Game(
    name=name,
    num_actions=num_actions,
    max_length=shape[0] * shape[1],
    init=lambda: BoardState(jnp.zeros(shape, jnp.int8), jnp.zeros((), jnp.int32)),
    step=step,
    legal=lambda state: free(state.board) & ~done(state),
    done=done,
    # A line is always made by the player who has just moved, so the player to move has lost.
    value=lambda state: jnp.where(won(state, lines), -1.0, 0.0),
    observe=observe,
    to_play=to_play,
    render=render,
    symmetries=symmetries,
  )


def all_lines(rows: int, columns: int, in_a_row: int) -> np.ndarray:
  """Returns int32 `[L, in_a_row]`: the cells, row * columns + column, of each line."""
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


def won(state: BoardState, lines: np.ndarray) -> Array:
  """Returns bool `[]`: whether a line `[L, in_a_row]` is full of one player's stones."""
  sums = state.board.reshape(-1)[lines].astype(jnp.int32).sum(-1)
  return (jnp.abs(sums) == lines.shape[1]).any()


def to_play(state: BoardState) -> Array:
  """Returns int32 `[]`, 0 or 1."""
  return state.moves % 2


def observe(state: BoardState) -> Array:
  """Returns bool `[rows, columns, 2]`: the stones of the player to move, and of the other."""
  mine = (1 - 2 * to_play(state)).astype(jnp.int8)
  return jnp.stack([state.board == mine, state.board == -mine], -1)


def render(state: BoardState) -> str:
  """Returns the board as rows of '.', 'X' (the first player) and 'O'."""
  return '\n'.join(''.join('.XO'[stone] for stone in row) for row in np.asarray(state.board))
