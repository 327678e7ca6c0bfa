"""Games of two players and the search of their trees, for themselves or for training."""

from mcts.game import Game
from mcts.games.connect_four import ConnectFour
from mcts.games.tictactoe import TicTacToe
from mcts.go import Go

GAMES = {'go': Go, 'tictactoe': TicTacToe, 'connect_four': ConnectFour}


def build(name: str, **options) -> Game:
  """The game of that name with its options."""
  if name not in GAMES:
    raise ValueError(f'game {name!r}: choose from {", ".join(GAMES)}')
  return GAMES[name](**options)
