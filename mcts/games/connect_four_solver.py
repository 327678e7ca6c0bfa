"""An exact solver of Connect Four in plain Python: which moves of a position are best.

A position is two bitboards of 49 bits, column by column from the left, each of 6 cells from below
and an empty one above them: the stones of the player to move, and all stones. Alpha-beta finds a
win, a draw or a loss: in seconds with 12 stones, in less than 0.1 s with 18 or more.

`python -m mcts.games.connect_four_solver --positions=500 --output=FILE` writes positions of random
play, one a line: the columns that were played, and which columns are best.
"""

import argparse
import os
import random
import sys
from collections.abc import Iterable, Iterator, Sequence

ROWS, COLUMNS, HEIGHT = 6, 7, 7  # HEIGHT: bits a column
CELLS = ROWS * COLUMNS
BOTTOM = sum(1 << (HEIGHT * column) for column in range(COLUMNS))
BOARD = BOTTOM * ((1 << ROWS) - 1)
FILES = [((1 << ROWS) - 1) << (HEIGHT * column) for column in range(COLUMNS)]
CENTRE_FIRST = sorted(range(COLUMNS), key=lambda column: abs(column - COLUMNS // 2))
STONES = 12, 32  # of the positions that are generated

Position = tuple[int, int]
"""The stones of the player to move, and all stones."""


def play(position: Position, column: int) -> Position:
  """Returns the position after a stone in a column that is not full."""
  own, mask = position
  return own ^ mask, mask | (mask + (1 << (HEIGHT * column)))


def place(columns: Iterable[int]) -> Position:
  """Returns the position after these moves.

  Raises ValueError for a full column, and for a move after the end of the game.
  """
  position = 0, 0
  for column in columns:
    if won(position):
      raise ValueError(f'column {column}: the game is over')
    if not 0 <= column < COLUMNS or not FILES[column] & ~position[1]:
      raise ValueError(f'column {column}: must be one of 0..{COLUMNS - 1} that is not full')
    position = play(position, column)
  return position


def won(position: Position) -> bool:
  """Returns whether the player who moved last has four in a row."""
  stones = position[0] ^ position[1]
  for step in (1, HEIGHT, HEIGHT - 1, HEIGHT + 1):
    pairs = stones & (stones >> step)
    if pairs & (pairs >> 2 * step):
      return True
  return False


def threats(stones: int, mask: int) -> int:
  """Returns the bits of the empty cells that would complete four in a row of `stones`."""
  found = (stones << 1) & (stones << 2) & (stones << 3)  # above three
  for step in (HEIGHT, HEIGHT - 1, HEIGHT + 1):
    pairs = (stones << step) & (stones << 2 * step)
    found |= pairs & (stones << 3 * step)
    found |= pairs & (stones >> step)
    pairs = (stones >> step) & (stones >> 2 * step)
    found |= pairs & (stones << step)
    found |= pairs & (stones >> 3 * step)
  return found & (BOARD ^ mask)


class Solver:
  """An alpha-beta search with a transposition table.

  Values are 1, 0 or -1 as the player to move wins, draws or loses.
  """

  def __init__(self) -> None:
    self.known: dict[int, tuple[int, int]] = {}  # lowest and highest value

  def value(self, position: Position) -> int:
    """Returns the exact value for the player to move."""
    if won(position):
      return -1
    own, mask = position
    if threats(own, mask) & (mask + BOTTOM):
      return 1
    return self._search(own, mask, -1, 1)

  def best(self, position: Position) -> list[int]:
    """Returns the columns that keep the position's value, from the left; none after the end."""
    if won(position):
      return []
    free = [column for column in range(COLUMNS) if FILES[column] & ~position[1]]
    values = {column: -self.value(play(position, column)) for column in free}
    return [column for column in free if values[column] == max(values.values())]

  def _search(self, own: int, mask: int, low: int, high: int) -> int:
    """Returns the value if it lies in (low, high), else a bound of it.

    The player to move must not be able to win at once.
    """
    cells = self._sensible(own, mask)
    if not cells:
      return -1 if mask != BOARD else 0
    key = own + mask + BOTTOM  # a different number for each position
    least, most = self.known.get(key, (-1, 1))
    low, high = max(low, least), min(high, most)
    if low >= high:
      return low if low == least else high
    value, alpha = -1, low
    for cell in self._ordered(own, mask, cells):
      value = max(value, -self._search(own ^ mask, mask | cell, -high, -alpha))
      alpha = max(alpha, value)
      if alpha >= high:
        break
    bounds = (value, most) if value >= high else (least, value) if value <= low else (value, value)
    self.known[key] = bounds
    return value

  def _sensible(self, own: int, mask: int) -> int:
    """Returns the cells to play after which the other player cannot win at once."""
    cells, danger = (mask + BOTTOM) & BOARD, threats(own ^ mask, mask)
    forced = cells & danger
    if forced:
      if forced & (forced - 1):
        return 0  # two threats cannot be stopped by one stone
      cells = forced
    return cells & ~(danger >> 1)  # not below a cell where the other would win

  def _ordered(self, own: int, mask: int, cells: int) -> list[int]:
    """Returns the cells one by one: those that make most threats first, then from the centre."""
    moves = [cells & FILES[column] for column in CENTRE_FIRST]
    moves = [cell for cell in moves if cell]
    return sorted(moves, key=lambda cell: -threats(own | cell, mask).bit_count())


# -------- a set of positions --------


def positions(count: int, seed: int = 0, stones: tuple[int, int] = STONES) -> Iterator[list[int]]:
  """Yields distinct positions of random play that are not over, nor won at once.

  Args:
    count: how many.
    seed: of the random play.
    stones: the fewest and the most on the board.

  Yields:
    The columns that were played.
  """
  rng, seen = random.Random(seed), set[Position]()
  while len(seen) < count:
    columns, position = [], (0, 0)
    for _ in range(rng.randint(*stones)):
      free = [column for column in range(COLUMNS) if FILES[column] & ~position[1]]
      columns.append(rng.choice(free))
      position = play(position, columns[-1])
      if won(position):
        break
    own, mask = position
    dull = won(position) or mask == BOARD or threats(own, mask) & (mask + BOTTOM)
    if not dull and position not in seen:
      seen.add(position)
      yield columns


def line(columns: Sequence[int], best: Sequence[int]) -> str:
  """Returns a line of the file: the columns played, and the best ones."""
  return f'{"".join(map(str, columns))} {"".join(map(str, best))}'


def read(text: str) -> list[tuple[list[int], list[int]]]:
  """Returns (columns played, best columns) of each line. Raises ValueError if there is none."""
  pairs = [row.split() for row in text.splitlines() if row.strip()]
  if not pairs:
    raise ValueError('it has no positions')
  return [([int(x) for x in played], [int(x) for x in best]) for played, best in pairs]


def main() -> None:
  """Writes solved positions to a file, as the command line says."""
  parser = argparse.ArgumentParser(prog='python -m mcts.games.connect_four_solver')
  parser.add_argument('--positions', type=int, default=500, help='how many; %(default)s')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', required=True, help='a file for them')
  options = parser.parse_args()
  if os.path.exists(options.output):
    parser.error(f'--output={options.output}: is there already; give another name')
  with open(options.output, 'w', buffering=1, encoding='ascii') as file:  # line by line
    for number, columns in enumerate(positions(options.positions, options.seed), 1):
      # A fresh table for each: what is known of one position is of little use for another.
      file.write(line(columns, Solver().best(place(columns))) + '\n')
      print(f'\r{number} of {options.positions}', end='', file=sys.stderr, flush=True)
  print(file=sys.stderr)


if __name__ == '__main__':
  main()
