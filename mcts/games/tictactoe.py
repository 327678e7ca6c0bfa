"""Tic-tac-toe: 3 x 3, three in a row; action row * 3 + column. With best play it is a draw."""

from mcts import symmetry
from mcts.game import Game
from mcts.games import in_a_row


def TicTacToe() -> Game:
  """Returns the game."""
  return in_a_row.make_game(
    'tictactoe',
    (3, 3),
    in_a_row=3,
    num_actions=9,
    free=lambda board: board.reshape(-1) == 0,
    cell=lambda board, action: (action // 3, action % 3),
    symmetries=symmetry.SQUARE,
  )
