"""Games of two players: their rules, the search of their trees, self-play, and programs that play.

Read first `game.py`, the contract of a game, and `games/in_a_row.py`, a short game; then
`search/` (the batched tree search) and `selfplay/` (games that a network plays against itself).
Go has its own rooms: `go/` (rules, text, SGF), `alphago/` (the features and rollouts of 2016),
`engines/`, `gtp/` and `match/` (players that talk to other programs), `draw/` (diagrams).

`mcts` imports neither `train` nor `data`; `mcts.search` knows no game, only the contract.
"""

from mcts.game import Game
from mcts.games.connect_four import ConnectFour
from mcts.games.tictactoe import TicTacToe
from mcts.go import Go

GAMES = {'go': Go, 'tictactoe': TicTacToe, 'connect_four': ConnectFour}


def build(name: str, **options) -> Game:
  """Returns the game of GAMES with its options. Raises ValueError for an unknown name."""
  if name not in GAMES:
    raise ValueError(f'game {name!r}: choose from {", ".join(GAMES)}')
  return GAMES[name](**options)
