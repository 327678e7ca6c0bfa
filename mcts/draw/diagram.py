"""A Go board as SVG and as PNG, with visit shares, ownership and a line of play.

`diagram` says what is to be seen as shapes, `mcts.draw.shapes` writes them as `svg` or `png`.
`python -m mcts.draw.diagram GAME.sgf --move=36 --output=board.png` draws the board after 36 moves.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from mcts.draw.shapes import INK, Box, Disc, Label, Line, Picture, save
from mcts.go import notation
from mcts.go.notation import COLUMNS

CELL = 40.0  # units between two lines of the board
WOOD, WHITE, RED, BLUE = '#e6bd72', '#fbfaf6', '#c8321e', '#1f5fa8'
COLOURS = {1: (INK, WHITE), -1: (WHITE, INK)}  # of a stone, and of what is written on it


# -------- the picture --------


def diagram(
  stones,
  *,
  last: int | None = None,
  visits=None,
  ownership=None,
  line: Sequence[int] = (),
  to_play: int = 0,
  title: str = '',
) -> Picture:
  """The picture of a board `[N, N]` (1 black, -1 white); actions as everywhere, N^2 the pass.

  last: the move to be marked.
  visits: `[N^2 + 1]` numbers or shares of visits by action; the share of each is drawn in blue,
    that of the pass is written below.
  ownership: `[N, N]` in [-1, 1], 1 black's: a square whose area says how sure it is.
  line: a principal variation, numbered from 1, `to_play` (0 black, 1 white) beginning.
  """
  stones = np.sign(np.asarray(stones)).astype(int)
  size = _check(stones, visits, ownership)
  notes = []
  shapes = [*_board(size), *_stones(stones), *_ownership(ownership, stones)]
  if last is not None and last < size * size:
    x, y = _place(last, size)
    ink = COLOURS[stones[divmod(last, size)] or 1][1]
    shapes.append(Disc(x, y, 0.22 * CELL, None, RED if ownership is not None else ink, 2.6))
  elif last is not None:
    notes.append('last move: pass')
  shapes += _visits(visits, stones, size, set(line[:1]))
  shapes += _variation(line, to_play, size)
  if visits is not None and float(visits[size * size]) > 0:
    notes.append(f'pass {_percent(visits[size * size] / np.sum(visits))} %')
  notes += [f'{i + 1}: pass' for i, action in enumerate(line) if action == size * size]
  return _framed(shapes, size, title, ',  '.join(notes))


def _check(stones, visits, ownership) -> int:
  size = len(stones)
  if stones.shape != (size, size) or not 2 <= size <= len(COLUMNS):
    raise ValueError(f'a board of shape {stones.shape}: must be N x N, N from 2 to {len(COLUMNS)}')
  if visits is not None and np.shape(visits) != (size * size + 1,):
    raise ValueError(f'visits of shape {np.shape(visits)}: must be [{size * size + 1}]')
  if ownership is not None and np.shape(ownership) != (size, size):
    raise ValueError(
      f'ownership of shape {np.shape(ownership)}: must be as the board, {size} x {size}'
    )
  return size


def _place(action: int, size: int) -> tuple[float, float]:
  row, column = divmod(int(action), size)
  return (column + 1.5) * CELL, (row + 1.5) * CELL


def _board(size: int):
  low, high = 1.5 * CELL, (size + 0.5) * CELL
  yield Box(0.85 * CELL, 0.85 * CELL, (size + 0.3) * CELL, (size + 0.3) * CELL, WOOD)
  for i in range(size):
    at = low + i * CELL
    width = 2.0 if i in (0, size - 1) else 1.2
    yield Line(low - width / 2, at, high + width / 2, at, width=width)
    yield Line(at, low - width / 2, at, high + width / 2, width=width)
    for edge in (0.42 * CELL, (size + 1.58) * CELL):
      yield Label(at, edge, COLUMNS[i], 0.4 * CELL)
      yield Label(edge, at, str(size - i), 0.4 * CELL)
  for row, column in star_points(size):
    yield Disc((column + 1.5) * CELL, (row + 1.5) * CELL, 0.1 * CELL, INK)


def star_points(size: int) -> list[tuple[int, int]]:
  """(row, column) of the dots of a board, as it is usually printed."""
  if size < 7:
    return [(size // 2, size // 2)] if size == 5 else []
  edge = 3 if size > 11 else 2
  sides = [edge, size - 1 - edge]
  if size % 2 and size >= 15:
    sides.insert(1, size // 2)
  points = [(row, column) for row in sides for column in sides]
  middle = (size // 2, size // 2)
  return points + ([middle] if size % 2 and middle not in points else [])


def _stones(stones):
  size = len(stones)
  for row, column in np.argwhere(stones):
    x, y = _place(row * size + column, size)
    yield Disc(x, y, 0.475 * CELL, COLOURS[stones[row, column]][0], INK, 1.2)


def _ownership(ownership, stones):
  """Squares on empty points, and framed ones on stones that are to be lost."""
  if ownership is None:
    return
  size = len(stones)
  for action, owner in enumerate(np.clip(np.ravel(ownership), -1, 1)):
    stone = stones[divmod(action, size)]
    if abs(owner) < 0.05 or np.sign(owner) == stone:
      continue  # a stone that lives says it itself
    x, y = _place(action, size)
    side = (0.36 if stone else 0.62) * CELL * abs(owner) ** 0.5
    if stone:
      yield Box(x - side / 2 - 1, y - side / 2 - 1, side + 2, side + 2, RED)
    fill = COLOURS[1 if owner > 0 else -1][0]
    yield Box(x - side / 2, y - side / 2, side, side, fill, 1.0 if stone else 0.75)


def _visits(visits, stones, size: int, covered: set):
  """Discs of an area by share, with the percentage where it is at least one."""
  if visits is None or not np.sum(visits) > 0:
    return
  share = np.asarray(visits, float) / np.sum(visits)
  highest = share[:-1].max()
  for action in np.flatnonzero(share[:-1] >= 0.001):
    if stones[divmod(action, size)]:
      continue
    x, y = _place(action, size)
    whole = 0.47 * CELL
    if share[action] >= 0.0095:
      yield Disc(x, y, whole, BLUE, alpha=float(0.35 + 0.6 * (share[action] / highest) ** 0.5))
      if action not in covered:
        yield Label(x, y, _percent(share[action]), 0.4 * CELL, '#ffffff', bold=True)
    else:
      yield Disc(x, y, max(0.08 * CELL, whole * (share[action] / 0.0095) ** 0.5 * 0.6), BLUE)


def _percent(share: float) -> str:
  return f'{100 * share:.0f}'


def _variation(line, to_play: int, size: int):
  seen = set()
  for number, action in enumerate(line):
    if action == size * size or action in seen:
      continue  # a point that is played again keeps its first number
    seen.add(action)
    x, y = _place(action, size)
    fill, ink = COLOURS[1 if (to_play + number) % 2 == 0 else -1]
    text = str(number + 1)
    yield Disc(x, y, 0.44 * CELL, fill, BLUE, 2.4)
    yield Label(x, y, text, (0.5 if len(text) < 2 else 0.4) * CELL, ink, bold=True)


def _framed(shapes, size: int, title: str, note: str) -> Picture:
  """On white, with a line of text above and one below where there is something to say."""
  width, top = (size + 2) * CELL, 0.9 * CELL if title else 0.0
  height = top + (size + 2) * CELL + (0.7 * CELL if note else 0.0)
  moved = [_moved(shape, top) for shape in shapes]
  paper = Box(0, 0, width, height, '#ffffff')
  words = []
  for string, y in ((title, 0.55 * CELL), (note, top + (size + 2.2) * CELL)):
    if string:
      type_size = min(0.46 * CELL, 1.75 * width / len(string))
      words.append(Label(width / 2, y, string, type_size))
  return Picture(width, height, [paper, *moved, *words])


def _moved(shape, down: float):
  change = {'y': shape.y + down}
  if isinstance(shape, Line):
    change['y2'] = shape.y2 + down
  return dataclasses.replace(shape, **change)


# -------- the command --------


def main(arguments: Sequence[str] | None = None) -> None:
  from mcts.go import sgf  # only the command reads files

  parser = argparse.ArgumentParser(
    prog='python -m mcts.draw.diagram', description='Draws a board of a game.'
  )
  parser.add_argument('game', help='an SGF file; of variations the main line')
  parser.add_argument('--move', type=int, help='how many moves to play; all of them if not given')
  parser.add_argument(
    '--title', help='above the board; players and number of the move if not given'
  )
  parser.add_argument('--output', help='a file, .png or .svg; text on the terminal if not given')
  options = parser.parse_args(arguments)
  try:
    record = sgf.read(options.game)
    count = len(record.moves) if options.move is None else options.move
    if not 0 <= count <= len(record.moves):
      raise ValueError(f'--move={count}: the game has {len(record.moves)} moves')
    stones, last = sgf.stones(record, count), record.moves[count - 1][1] if count else None
    if options.output is None:
      print(notation.render(stones, last))
      return
    title = _title(record, count) if options.title is None else options.title
    save(diagram(stones, last=last, title=title), options.output)
  except (OSError, ValueError) as error:
    sys.exit(f'mcts.draw.diagram: {error}')


def _title(record, count: int) -> str:
  names = ' - '.join(filter(None, record.names))
  return f'{names}, after move {count}' if names else f'After move {count}'


if __name__ == '__main__':
  main()
