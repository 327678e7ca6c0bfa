"""A recorded game as SGF has it: one line of play, its boards, its result and its komi.

Actions are row * N + column with row 0 at the top, and N^2 for a pass; players are 0 for black and
1 for white. Whether moves are legal is for the rules to say, not for a record.
"""

import dataclasses
import math
import re
from collections.abc import Iterable

import numpy as np
from sgfmill import boards

from mcts.go.notation import BLACK

COLOURS = 'bw'
STONES = (2.75, 3.75)  # the komi of Chinese rules, half of the points
NUMBER = r'(\d+(?:[.,]\d*)?|[.,]\d+)'


@dataclasses.dataclass
class Record:
  """One line of play of a game.

  Attributes:
    size: N.
    komi: 0 where the file has none.
    board: int8 `[N, N]`, stones set up before the first move, 1 black and -1 white; None for none.
    to_play: who has the first move.
    moves: (player, action) in turn; a player may move twice in a row.
    result: as in the file: 'B+R', 'W+3.5', '0', ''.
    handicap: as in the file; the stones themselves are on `board`.
    names: of black and of white.
    comments: by how many moves have been made: `comments[0]` is on the game as a whole.
    tags: other properties of the game that have one value: 'DT', 'EV', 'RU', ...
    notes: a line on each thing in the file that is not kept, or had to be guessed.
  """

  size: int = 19
  komi: float = 0.0
  board: np.ndarray | None = None
  to_play: int = BLACK
  moves: list[tuple[int, int]] = dataclasses.field(default_factory=list)
  result: str = ''
  handicap: int = 0
  names: tuple[str, str] = ('', '')
  comments: dict[int, str] = dataclasses.field(default_factory=dict)
  tags: dict[str, str] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()


# -------- boards --------


def stones(record: Record, moves: int | None = None) -> np.ndarray:
  """Returns int8 `[N, N]`, 1 black, -1 white: the board after so many moves, after all if None."""
  return replay(record.size, record.board, record.moves[:moves])


def replay(
  size: int, start: np.ndarray | None, moves: Iterable[tuple[int, int]] = ()
) -> np.ndarray:
  """Returns int8 `[N, N]`, the board that moves lead to from stones set up (None for none).

  Raises:
    ValueError: if a chain begins without a liberty, or a move is to a point with a stone.
  """
  board = set_up(size, start)
  for player, action in moves:
    if action < size**2:
      row, column = divmod(action, size)
      try:
        board.play(size - 1 - row, column, COLOURS[player])
      except ValueError:
        raise ValueError(f'a move to row {row}, column {column}: there is a stone') from None
  array = np.zeros((size, size), np.int8)
  for colour, (row, column) in board.list_occupied_points():
    array[size - 1 - row, column] = 1 if colour == 'b' else -1
  return array


def set_up(size: int, array: np.ndarray | None) -> boards.Board:
  """Returns sgfmill's board with these stones, int8 `[N, N]`, None for none; its row 0 is below."""
  board = boards.Board(size)
  if array is not None:
    if array.shape != (size, size):
      raise ValueError(f'a board of shape {array.shape}: must be {size} x {size}')
    groups = [[(size - 1 - r, c) for r, c in np.argwhere(array == v)] for v in (1, -1)]
    if not board.apply_setup(*groups, []):
      raise ValueError('a chain has no liberty')
  return board


# -------- results and komi --------


def winner(result: str) -> int:
  """Returns 1 if black has won, -1 if white, 0 for a draw and for what says neither."""
  match = re.match(r'\s*([BbWw])(?:lack|hite)?\s*\+', result)
  return 0 if match is None else {'b': 1, 'w': -1}[match[1].lower()]


def margin(result: str) -> float:
  """Returns by how many points the game was won; NaN if it was not counted."""
  if re.fullmatch(r'\s*(0|draw|jigo)\s*', result, re.IGNORECASE):
    return 0.0
  match = re.match(rf'\s*[BbWw]\w*\s*\+\s*{NUMBER}(?!\s*[\d/½.,e])', result, re.ASCII)
  return float(match[1].replace(',', '.')) if match else math.nan


def komi(text: str) -> float:
  """Returns the number of a KM property, '6.5' or '6,5'; 0 where it is none that float32 holds."""
  match = re.fullmatch(rf'\s*([-+]?){NUMBER}\s*', text, re.ASCII)
  value = float(''.join(match.groups()).replace(',', '.')) if match else 0.0
  return value if abs(value) < 1e30 else 0.0


def komi_in_points(komi: float) -> float:
  """Returns a komi of foreign records in points; to be asked for, as no number says what it means.

  Some servers write it hundredfold (375, 650), or in stones of Chinese counting (3.75 for 7.5);
  other values are taken for what they are.
  """
  value = komi / 100 if komi / 100 in (*STONES, 4.5, 5.5, 6.5, 7.5) else komi
  return 2 * value if value in STONES else value
