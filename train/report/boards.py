"""A game of a report, move by move, from boards as tasks write them in text.

`templates/game.html` draws it, with the page's only script; without it the last position is seen.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

FILE = 'game.txt'  # as tasks name it
STONES = {'X': 'first', 'O': 'second'}  # of the player who moves first, and of the other


class Stone(NamedTuple):
  """A stone on column x and row y, there after move `begin` and gone after move `end`."""

  x: int
  y: int
  kind: str  # 'first' or 'second'
  begin: int
  end: int


class BoardSequence(NamedTuple):
  """A game on a board of `rows` x `columns` points."""

  rows: int
  columns: int
  moves: int
  stones: list[Stone]
  result: str


def replay(text: str) -> BoardSequence | None:
  """Reads a FILE: boards of '.', 'X' and 'O' with empty lines between them, then the result.

  Returns None if the text is nothing of the kind.
  """
  *blocks, result = text.strip().split('\n\n')
  boards = [block.split('\n') for block in blocks]
  sizes = {(len(board), len(row)) for board in boards for row in board}
  points = {point for board in boards for row in board for point in row}
  if len(sizes) != 1 or not points <= {'.', *STONES}:
    return None
  [(rows, columns)] = sizes
  return BoardSequence(rows, columns, len(boards), list(_stones(boards, rows, columns)), result)


def _stones(boards: Sequence[Sequence[str]], rows: int, columns: int) -> Iterator[Stone]:
  for y, x in itertools.product(range(rows), range(columns)):
    begin = 1
    for point, run in itertools.groupby(board[y][x] for board in boards):
      end = begin + len(list(run))
      if point in STONES:
        yield Stone(x, y, STONES[point], begin, end)
      begin = end
