"""Go in text: vertices such as D4, colours, results, and a board as lines of text."""

from typing import Any

import numpy as np

COLUMNS = 'ABCDEFGHJKLMNOPQRSTUVWXYZ'  # GTP has no I
BLACK, WHITE = 0, 1
COLOURS = ('black', 'white')
PLAYERS = {'b': BLACK, 'black': BLACK, 'w': WHITE, 'white': WHITE}


def to_vertex(action: int, size: int) -> str:
  """Returns the vertex of an action row * N + column, such as 'D4', or 'pass'."""
  if action == size * size:
    return 'pass'
  row, column = divmod(action, size)
  return f'{COLUMNS[column]}{size - row}'


def from_vertex(text: str, size: int) -> int:
  """Returns the action of a vertex such as 'd4' or 'PASS'.

  Raises:
    ValueError: for what is no vertex of this board.
  """
  if text.lower() == 'pass':
    return size * size
  column, row = COLUMNS.find(text[:1].upper()), text[1:]
  if not (row.isascii() and row.isdigit() and len(row) < 4):
    raise ValueError(f'vertex {text!r}: must be a letter and a number, or pass')
  if not (text and 0 <= column < size and 1 <= int(row) <= size):
    raise ValueError(f'vertex {text!r}: not on a board of size {size}')
  return (size - int(row)) * size + column


def result(score: float) -> str:
  """Returns 'B+3.5', 'W+7.5' or '0', as GTP and SGF write a result."""
  return '0' if score == 0 else f'{"B" if score > 0 else "W"}+{abs(score):.10g}'


def printable(text: str, most: int = 100) -> str:
  """Returns a file's text for a terminal or a picture: short, no control characters among it."""
  text = text if len(text) <= most else f'{text[:most]}...'
  return ''.join(c if c.isprintable() else ' ' for c in text)


def render(stones: Any, last: int | None = None, *, coordinates: bool = True) -> str:
  """Returns a board as lines of text, X for black and O for white, without a newline at the end.

  Args:
    stones: `[N, N]`, 1 black, -1 white, 0 empty; row 0 at the top.
    last: the action of the last move, which is put in parentheses.
    coordinates: around the board; without them a row is N characters such as '.XO', as the report's
      viewer of games reads it, and `last` is not shown.
  """
  size, rows = len(stones), [['.XO'[int(np.sign(x))] for x in row] for row in stones]
  if not coordinates:
    return '\n'.join(''.join(row) for row in rows)
  letters = '   ' + ' '.join(COLUMNS[:size])
  lines = [letters]
  for number, row in enumerate(rows):
    line = ' ' + ' '.join(row) + ' '
    if last is not None and last < size * size and last // size == number:
      at = 2 * (last % size)
      line = line[:at] + f'({line[at + 1]})' + line[at + 3 :]
    lines.append(f'{size - number:2}{line}{size - number}')
  return '\n'.join([*lines, letters])
