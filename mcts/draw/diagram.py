"""Draws a Go board with visit shares, ownership and a line of play."""

import argparse
import io
import itertools
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from mcts.go import notation, sgf
from mcts.go.notation import COLUMNS

CELL = 40  # pixels between two lines of the board
INK, WOOD, WHITE, RED, BLUE = '#1c1a18', '#e6bd72', '#fbfaf6', '#c8321e', '#1f5fa8'
COLOURS = {1: (INK, WHITE), -1: (WHITE, INK)}  # of a stone, and of what is written on it
STYLE: dict[Any, Any] = {'svg.fonttype': 'none', 'svg.hashsalt': 'board'}  # the same file each time
LINES, STONES, MARKS, SHARES, VARIATION = range(5)  # from the bottom to the top


def draw(
  stones,
  *,
  last: int | None = None,
  visits=None,
  ownership=None,
  line: Sequence[int] = (),
  to_play: int = 0,
  title: str = '',
) -> Figure:
  """Returns the picture of a board, in which a unit of the axes is the distance of two lines.

  Args:
    stones: [N, N], 1 black, -1 white, 0 empty. Actions are row * N + column, and N^2 the pass.
    last: The move to be marked.
    visits: [N^2 + 1] numbers or shares of visits by action, drawn in blue; the pass's below.
    ownership: [N, N] in [-1, 1], 1 black's: a square whose area says how sure it is.
    line: A principal variation, numbered from 1.
    to_play: Who plays its first move, 0 black or 1 white.
    title: Above the board.

  Raises:
    ValueError: An array's shape is another one.
  """
  stones = np.sign(np.asarray(stones)).astype(int)
  size = _check(stones, visits=visits, ownership=ownership)
  notes = ['last move: pass'] if last == size * size else []
  if visits is not None and visits[-1] > 0:
    notes.append(f'pass {100 * visits[-1] / np.sum(visits):.0f} %')
  notes += [f'{i}: pass' for i, action in enumerate(line, 1) if action == size * size]
  figure, axes = _board(size, title, ',  '.join(notes))
  for row, column in np.argwhere(stones):
    fill = COLOURS[stones[row, column]][0]
    _disc(axes, row, column, 0.475, STONES, facecolor=fill, edgecolor=INK, linewidth=1.2)
  if last is not None and last < size * size:
    ink = RED if ownership is not None else COLOURS[stones.flat[last] or 1][1]
    _disc(axes, *divmod(last, size), 0.22, SHARES, fill=False, edgecolor=ink, linewidth=2.6)
  if ownership is not None:
    _ownership(axes, np.clip(ownership, -1, 1), stones)
  if visits is not None and np.sum(visits) > 0:
    _visits(axes, np.asarray(visits, float) / np.sum(visits), stones, hidden=line[:1])
  _variation(axes, line, to_play, size)
  return figure


def _check(stones: np.ndarray, **arrays) -> int:
  size = len(stones)
  if stones.shape != (size, size) or not 2 <= size <= len(COLUMNS):
    raise ValueError(f'a board of shape {stones.shape}: must be N x N, N from 2 to {len(COLUMNS)}')
  for name, shape in {'visits': [size * size + 1], 'ownership': [size, size]}.items():
    if arrays[name] is not None and list(np.shape(arrays[name])) != shape:
      raise ValueError(f'{name} of shape {np.shape(arrays[name])}: must be {shape}')
  return size


def _board(size: int, title: str, note: str) -> tuple[Figure, Axes]:
  """Returns an empty board on white, with a line of text above it and one below."""
  top, bottom, width = 0.9 * bool(title), 0.7 * bool(note), size + 2
  height = width + top + bottom
  # At 72 dots an inch a point is a pixel, so that widths and sizes of type are in pixels.
  figure = Figure(figsize=(width * CELL / 72, height * CELL / 72), dpi=72, facecolor='white')
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(-1.5, size + 0.5), ylim=(size + 0.5 + bottom, -1.5 - top))
  axes.set_axis_off()
  _square(axes, -0.65, -0.65, size + 0.3, LINES, facecolor=WOOD)
  _square(axes, 0, 0, size - 1, LINES, fill=False, edgecolor=INK, linewidth=2)
  axes.hlines(range(size), 0, size - 1, INK, linewidth=1.2, zorder=LINES)
  axes.vlines(range(size), 0, size - 1, INK, linewidth=1.2, zorder=LINES)
  for row, column in star_points(size):
    _disc(axes, row, column, 0.1, LINES, facecolor=INK)
  for i in range(size):
    for edge in (-1.08, size + 0.08):
      _label(axes, edge, i, COLUMNS[i], 0.4)
      _label(axes, i, edge, str(size - i), 0.4)
  for text, place in ((title, -1.85), (note, size + 0.7)):
    _label(axes, place, (size - 1) / 2, text, min(0.46, 1.75 * width / max(len(text), 1)))
  return figure, axes


def star_points(size: int) -> list[tuple[int, int]]:
  """Returns (row, column) of the dots of a board, as it is usually printed."""
  edge, middle = (3 if size > 11 else 2), size // 2
  sides = {edge, size - 1 - edge} | ({middle} if size % 2 and size >= 15 else set())
  points = set(itertools.product(sides, sides)) if size >= 7 else set()
  return sorted(points | ({(middle, middle)} if size % 2 and size >= 5 else set()))


def _disc(axes: Axes, row: float, column: float, radius: float, layer: int, **style) -> None:
  axes.add_artist(Circle((column, row), radius, zorder=layer, **style))


def _square(axes: Axes, row: float, column: float, side: float, layer: int, **style) -> None:
  axes.add_artist(Rectangle((column, row), side, side, zorder=layer, **style))


def _label(axes: Axes, row: float, column: float, text: str, size: float, **style: Any) -> None:
  text = notation.printable(text, 1000)  # XML has no control characters
  # Capitals and digits are about 0.72 of the type's size high.
  defaults: dict[str, Any] = {'color': INK, 'zorder': LINES, 'ha': 'center', 'parse_math': False}
  axes.text(column, row + 0.36 * size, text, fontsize=size * CELL, **defaults | style)


def _ownership(axes: Axes, ownership: np.ndarray, stones: np.ndarray) -> None:
  """Draws squares on empty points, and framed ones on stones that are to be lost."""
  for row, column in np.argwhere((abs(ownership) >= 0.05) & (np.sign(ownership) != stones)):
    owner, stone = ownership[row, column], stones[row, column]
    side = (0.36 if stone else 0.62) * abs(owner) ** 0.5
    frame = {'edgecolor': RED, 'linewidth': 2} if stone else {'alpha': 0.75, 'linewidth': 0}
    fill = COLOURS[int(np.sign(owner))][0]
    _square(axes, row - side / 2, column - side / 2, side, MARKS, facecolor=fill, **frame)


def _visits(axes: Axes, share: np.ndarray, stones: np.ndarray, hidden: Sequence[int]) -> None:
  """Draws discs on empty points, with the percentage where it is at least one."""
  highest = share[:-1].max()
  for action in np.flatnonzero((share[:-1] >= 0.001) & (stones.reshape(-1) == 0)).tolist():
    place, part = divmod(action, len(stones)), share[action]
    if part < 0.0095:
      radius = max(0.08, 0.28 * (part / 0.0095) ** 0.5)
      _disc(axes, *place, radius, SHARES, facecolor=BLUE, linewidth=0)
      continue
    alpha = 0.35 + 0.6 * (part / highest) ** 0.5
    _disc(axes, *place, 0.47, SHARES, facecolor=BLUE, alpha=alpha, linewidth=0)
    if action not in hidden:
      _label(axes, *place, f'{100 * part:.0f}', 0.4, color='white', weight='bold', zorder=SHARES)


def _variation(axes: Axes, line: Sequence[int], to_play: int, size: int) -> None:
  """Draws numbered stones; a point that is played again keeps its first number."""
  first = {action: i for i, action in reversed(list(enumerate(line))) if action < size * size}
  for action, i in first.items():
    fill, ink = COLOURS[1 if (to_play + i) % 2 == 0 else -1]
    place, height = divmod(action, size), 0.5 if i < 9 else 0.4
    _disc(axes, *place, 0.44, VARIATION, facecolor=fill, edgecolor=BLUE, linewidth=2.4)
    _label(axes, *place, str(i + 1), height, color=ink, weight='bold', zorder=VARIATION)


def encode(figure: Figure, kind: str = 'png') -> bytes:
  """Returns the picture as a file of this kind, 'png' or 'svg'; the same bytes each time."""
  file = io.BytesIO()
  with matplotlib.rc_context(STYLE):
    figure.savefig(file, format=kind, metadata={'Date': None} if kind == 'svg' else None)
  return file.getvalue()


def save(figure: Figure, path) -> None:
  """Writes the picture as SVG or PNG, by the name's ending; ValueError for another one."""
  path = pathlib.Path(path)
  if path.suffix not in ('.svg', '.png'):
    raise ValueError(f'{str(path)!r}: must end in .svg or .png')
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(encode(figure, path.suffix[1:]))


def main(arguments: Sequence[str] | None = None) -> None:
  """Draws a board of an SGF file, as the command says."""
  parser = argparse.ArgumentParser('python -m mcts.draw', description='Draws a board of a game.')
  parser.add_argument('game', help='an SGF file; of variations the main line')
  parser.add_argument('--move', type=int, help='how many moves to play; all if not given')
  parser.add_argument('--title', help='above the board; players and move if not given')
  parser.add_argument('--output', help='a file, .png or .svg; text on the terminal if not given')
  options = parser.parse_args(arguments)
  try:
    record = sgf.read(options.game)
    count = len(record.moves) if options.move is None else options.move
    if not 0 <= count <= len(record.moves):
      raise ValueError(f'--move={count}: the game has {len(record.moves)} moves')
    stones, last = sgf.stones(record, count), record.moves[count - 1][1] if count else None
    for note in record.notes:
      print(f'mcts.draw: {note}', file=sys.stderr)
    if options.output is None:
      print(notation.render(stones, last))
      return
    names = ' - '.join(notation.printable(name, 40) for name in record.names if name)
    said = ', '.join(filter(None, (names, f'after move {count}')))
    title = said if options.title is None else options.title
    if os.path.exists(options.output):
      raise ValueError(f'--output={options.output}: is there already; give another name')
    _save_quietly(draw(stones, last=last, title=title), options.output)
  except (OSError, ValueError) as error:
    sys.exit(f'mcts.draw: {error}')


def _save_quietly(figure: Figure, path: str) -> None:
  """Saves a picture; says once, not for each of them, that the font lacks characters."""
  with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter('always')
    save(figure, path)
  missing = sum('missing from font' in str(warning.message) for warning in found)
  if missing:
    print(f'mcts.draw: the font lacks {missing} characters of the title', file=sys.stderr)


if __name__ == '__main__':
  main()
