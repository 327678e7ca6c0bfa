"""What games of stones in a row share: tic-tac-toe and Connect Four."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts import symmetry
from mcts.game import Game


class State(NamedTuple):
  """board: int8 `[rows, columns]`, 1 the first player's, -1 the second's, row 0 at the top.

  moves: int32 `[]` stones on the board.
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
  """The game on a board of that shape in which `in_a_row` stones win.

  free: board -> bool `[A]`, which actions have a cell. cell: (board, action) -> its row and column.
  """
  lines = all_lines(*shape, in_a_row)

  def done(state):
    return won(state, lines) | (state.moves == state.board.size)

  def step(state, action):
    row, column = cell(state.board, action)
    stone = (1 - 2 * to_play(state)).astype(jnp.int8)
    placed = State(state.board.at[row, column].set(stone), state.moves + 1)
    over = done(state)
    return jax.tree.map(lambda old, new: jnp.where(over, old, new), state, placed)

  return Game(
    name=name,
    num_actions=num_actions,
    init=lambda: State(jnp.zeros(shape, jnp.int8), jnp.zeros((), jnp.int32)),
    step=step,
    legal=lambda state: free(state.board) & ~done(state),
    done=done,
    # It was not the player to move who made the line.
    value=lambda state: jnp.where(won(state, lines), -1.0, 0.0),
    observe=observe,
    to_play=to_play,
    symmetries=symmetries,
  )


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


def to_play(state: State) -> Array:
  return state.moves % 2


def observe(state: State) -> Array:
  """bool `[rows, columns, 2]`: stones of the player to move, of the other."""
  mine = (1 - 2 * to_play(state)).astype(jnp.int8)
  return jnp.stack([state.board == mine, state.board == -mine], -1)
