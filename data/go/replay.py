"""Recorded games of Go played through in NumPy, thousands at once: when each stone was captured.

With that, and the moves, any position of a game is known without a replay: the stones played before
it and not yet captured. It is also what the rules want of the past, superko included.

A game is a row of entries: stones set up, then turns. Entry e leads from position e to e + 1.
"""

from typing import NamedTuple

import numpy as np

NEVER = 2**16 - 1  # in `points`, after the end of a game
AT_ONCE = 4096  # games in lockstep, some 30 MB
SEED = 19  # of the keys by which positions are compared; 64 bits each


class Games(NamedTuple):
  """G games on boards of one size N, with E entries at most.

  points: uint16 `[G, E]`, row * N + column with row 0 at the top, N^2 for a pass, then NEVER.
  start: int32 `[G]`, entries that are stones set up; the first `blacks` `[G]` of them are black.
  first: int32 `[G]`, who takes the first turn, 0 black or 1 white.
  """

  points: np.ndarray
  start: np.ndarray
  blacks: np.ndarray
  first: np.ndarray

  def colours(self) -> np.ndarray:
    """int8 `[G, E]`: 1 black, -1 white."""
    entry = np.arange(self.points.shape[1])[None]
    white = (entry - self.start[:, None] + self.first[:, None]) % 2
    white = np.where(entry < self.start[:, None], entry >= self.blacks[:, None], white)
    return (1 - 2 * white).astype(np.int8)


class Played(NamedTuple):
  """gone: uint16 `[G, E]`, the position at which an entry's stone was gone, 0 for never.

  wrong: int32 `[G]`, the first entry that is illegal under positional superko without suicide, -1
    where none is. why: of each such game's number, what it does.
  """

  gone: np.ndarray
  wrong: np.ndarray
  why: dict[int, str]


def play(games: Games, size: int) -> Played:
  parts = []
  for begin in range(0, len(games.points), AT_ONCE):
    part = Games(*(x[begin : begin + AT_ONCE] for x in games))
    parts.append(_Boards(part, size).play())
  if not parts:
    return Played(np.zeros_like(games.points), np.zeros(0, np.int32), {})
  why = {AT_ONCE * i + row: text for i, part in enumerate(parts) for row, text in part.why.items()}
  return Played(*(np.concatenate([p[i] for p in parts]) for i in (0, 1)), why)


class _Boards:
  """All boards after so many entries; row g of each array is game g's.

  chains: int16 `[G, N^2 + 1]`, names as in `mcts.go.chains`, 0 for an empty point and beyond the
  edge.
  free: int16 `[G, N^2 + 1]`, by a chain's name its pseudo-liberties: each liberty counts once for
    every stone of the chain that it touches.
  entry: uint16 `[G, N^2]`, which entry placed the stone.
  """

  def __init__(self, games: Games, size: int):
    self.games, self.size, self.points = games, size, size * size
    count = len(games.points)
    self.beside = _beside(size)
    self.chains = np.zeros((count, self.points + 1), np.int16)
    self.free = np.zeros((count, self.points + 1), np.int16)
    self.entry = np.zeros((count, self.points), np.uint16)
    self.gone = np.zeros_like(games.points)
    self.position = np.zeros(count, np.uint64)
    keys = np.random.default_rng(SEED).integers(2**64, size=(2, self.points), dtype=np.uint64)
    self.keys = keys  # of black's and of white's stones
    self.wrong = np.full(count, -1, np.int32)
    self.why: dict[int, str] = {}

  def play(self) -> Played:
    colours = self.games.colours()
    past = np.zeros((self.games.points.shape[1] + 1, len(self.wrong)), np.uint64)
    for now in range(self.games.points.shape[1]):
      there = (self.games.points[:, now] < self.points) & (self.wrong < 0)
      rows = np.flatnonzero(there).astype(np.int32)
      points = self.games.points[rows, now].astype(np.int32)
      self._blame(rows, self.chains[rows, points] != 0, now, 'there is a stone')
      fine = self.wrong[rows] < 0
      self._place(rows[fine], points[fine], colours[rows[fine], now], now)
      past[now + 1] = self.position
    self._find_repeats(past)
    return Played(self.gone, self.wrong, self.why)

  def _blame(self, rows, guilty, now: int, text: str) -> None:
    for row in rows[guilty]:
      self.wrong[row], self.why[int(row)] = now, text

  def _place(self, rows, points, sign, now: int) -> None:
    around = self.beside[points]  # [R, 4]
    names = self.chains[rows[:, None], around]
    for side in names.T:
      self.free[rows, np.abs(side)] -= 1
    new = self._join(rows, points, names, sign)
    self.free[rows, np.abs(new)] += ((names == 0) & (around < self.points)).sum(1)
    self.entry[rows, points] = now
    self.position[rows] ^= self.keys[(sign < 0).astype(int), points]
    for side in names.T:  # a chain on two sides is gone when its second side is looked at
      dead = (side * sign < 0) & (self.free[rows, np.abs(side)] == 0)
      self._remove(rows[dead], side[dead], now)
    self._blame(rows, self.free[rows, np.abs(new)] == 0, now, 'a suicide')

  def _join(self, rows, points, names, sign) -> np.ndarray:
    """The name of the chain with the new stone: that of one own chain beside it, or its own."""
    new = (sign * (points + 1)).astype(np.int16)
    fresh = np.ones(len(rows), bool)
    for side in names.T:
      own = (side * sign > 0) & (side != new)
      first, more = own & fresh, np.flatnonzero(own & ~fresh)
      new = np.where(first, side, new)
      fresh &= ~first
      self._rename(rows[more], side[more], new[more])
    self.free[rows[fresh], np.abs(new[fresh])] = 0  # what an older chain of this name has left
    self.chains[rows, points] = new
    return new

  def _rename(self, rows, old, new) -> None:
    board = self.chains[rows]
    # One that touches the stone twice has its new name already, and nothing more to give.
    self.free[rows, np.abs(new)] += (
      np.where((board == old[:, None]).any(1), 1, 0) * (self.free[rows, np.abs(old)])
    )
    self.chains[rows] = np.where(board == old[:, None], new[:, None], board)

  def _remove(self, rows, names, now: int) -> None:
    which, points = np.nonzero(self.chains[rows] == names[:, None])
    rows, sign = rows[which], np.sign(names[which])
    self.chains[rows, points] = 0
    self.gone[rows, self.entry[rows, points]] = now + 1
    np.bitwise_xor.at(self.position, rows, self.keys[(sign < 0).astype(int), points])
    around = self.beside[points]
    names = np.abs(self.chains[rows[:, None], around])
    np.add.at(self.free, (rows[:, None], names), 1)

  def _find_repeats(self, past: np.ndarray) -> None:
    """Blames the first move of each game that makes a board that was there before."""
    entry = np.arange(len(past) - 1)[:, None]
    turn = (self.games.points < self.points).transpose() & (entry >= self.games.start[None])
    end = np.where(self.wrong < 0, len(past), self.wrong)
    for row in range(len(self.wrong)):
      made = 1 + np.flatnonzero(turn[: end[row], row])
      times = np.concatenate([self.games.start[row : row + 1], made])
      _, firsts = np.unique(past[times, row], return_index=True)
      if len(firsts) < len(times):
        repeat = np.setdiff1d(np.arange(len(times)), firsts)[0]
        self.wrong[row], self.why[row] = times[repeat] - 1, 'a board that was there before'


def _beside(size: int) -> np.ndarray:
  """int32 `[N^2, 4]`: the points above, below, left and right of each, N^2 beyond the edge."""
  padded = np.full((size + 2, size + 2), size * size, np.int32)
  padded[1:-1, 1:-1] = np.arange(size * size).reshape(size, size)
  sides = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
  return np.stack([x.ravel() for x in sides], -1)
