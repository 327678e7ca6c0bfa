"""Connect Four: stones fall down a column, four in a row win; the action is the column."""

import jax.numpy as jnp

from mcts import symmetry
from mcts.game import Game
from mcts.games import in_a_row as in_a_row_lib


def ConnectFour(rows: int = 6, columns: int = 7, in_a_row: int = 4) -> Game:
  """Returns the game; on 6 x 7 the first player wins with best play (Allis 1988).

  Raises ValueError for a board without cells, or too small for a row of `in_a_row`.
  """
  if rows < 1 or columns < 1:
    raise ValueError(f'rows {rows}, columns {columns}: must be at least 1')
  return in_a_row_lib.make_game(
    'connect_four',
    (rows, columns),
    in_a_row=in_a_row,
    num_actions=columns,
    free=lambda board: board[0] == 0,
    cell=lambda board, action: (_lowest(board[:, action] == 0), action),
    symmetries=symmetry.MIRROR,
  )


def _lowest(empty):
  """Returns the row of the lowest empty cell of a column; row 0, the top, if it is full."""
  return jnp.maximum(empty.sum(dtype=jnp.int32) - 1, 0)
