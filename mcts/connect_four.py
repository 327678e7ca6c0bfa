"""Connect Four: stones fall down a column, four in a row win; the action is the column."""

import jax.numpy as jnp

from mcts import lines
from mcts.game import Game


def ConnectFour(rows: int = 6, columns: int = 7, in_a_row: int = 4) -> Game:
  """On 6 x 7 the first player wins with best play (Allis 1988)."""
  if rows < 1 or columns < 1:
    raise ValueError(f'rows {rows}, columns {columns}: must be at least 1')
  table = lines.all_lines(rows, columns, in_a_row)

  def legal(state):
    return (state.board[0] == 0) & ~lines.done(state, table)

  def step(state, action):
    empty = (state.board[:, action] == 0).sum(dtype=jnp.int32)
    placed = lines.place(state, jnp.maximum(empty - 1, 0), action)
    return lines.keep_finished(lines.done(state, table), state, placed)

  return Game(
    name='connect_four',
    num_actions=columns,
    init=lambda: lines.init(rows, columns),
    step=step,
    legal=legal,
    done=lambda state: lines.done(state, table),
    value=lambda state: lines.value(state, table),
    observe=lines.observe,
    to_play=lines.to_play,
  )
