"""Tic-tac-toe: 3 x 3, three in a row; action row * 3 + column. With best play nobody wins."""

from mcts import lines
from mcts.game import Game


def TicTacToe() -> Game:
  rows = lines.all_lines(3, 3, 3)

  def legal(state):
    return (state.board.reshape(-1) == 0) & ~lines.done(state, rows)

  def step(state, action):
    placed = lines.place(state, action // 3, action % 3)
    return lines.keep_finished(lines.done(state, rows), state, placed)

  return Game(
    name='tictactoe',
    num_actions=9,
    init=lambda: lines.init(3, 3),
    step=step,
    legal=legal,
    done=lambda state: lines.done(state, rows),
    value=lambda state: lines.value(state, rows),
    observe=lines.observe,
    to_play=lines.to_play,
  )
