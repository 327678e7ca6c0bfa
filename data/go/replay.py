"""Recorded games of Go played through in NumPy, thousands at once: when each stone is captured.

With that, and the moves, any position of a game is known without a replay: the stones played before
it and not yet captured. It is also all of the past that the rules need, superko included.

A game is a row of E entries: stones set up, then turns. Entry e leads from position e to e + 1.
Points are row * N + column with row 0 at the top, and N^2 is a pass.
"""

from typing import NamedTuple

import numpy as np

Ints = np.ndarray  # integers [R], one for each of the games that are meant

NEVER = 2**16 - 1  # in `points`, after the end of a game
CHUNK = 4096  # games in lockstep, some 30 MB
SEED = 19  # of the Zobrist keys, 64 bits each, by which positions are compared


class Games(NamedTuple):
  """G games on boards of one size N, with at most E entries.

  points: uint16 [G, E], where each entry plays, then NEVER.
  start: int32 [G], the number of entries that are stones set up.
  blacks: int32 [G], the number of black ones among these, which come first.
  first: int32 [G], who takes the first turn, 0 black or 1 white.
  """

  points: np.ndarray
  start: np.ndarray
  blacks: np.ndarray
  first: np.ndarray

  def colours(self) -> np.ndarray:
    """Returns who plays each entry: int8 [G, E], 1 black, -1 white."""
    entry = np.arange(self.points.shape[1])[None]
    white = (entry - self.start[:, None] + self.first[:, None]) % 2
    white = np.where(entry < self.start[:, None], entry >= self.blacks[:, None], white)
    return (1 - 2 * white).astype(np.int8)


class Played(NamedTuple):
  """What became of G games.

  gone: uint16 [G, E], the position at which an entry's stone is captured, 0 for never.
  illegal: int32 [G], the first entry that is illegal under positional superko without suicide, -1
    where none is.
  why: number of a game with an illegal entry -> the reason.
  """

  gone: np.ndarray
  illegal: np.ndarray
  why: dict[int, str]


def play(games: Games, size: int) -> Played:
  """Plays games on boards of `size` x `size` until their ends or first illegal entries."""
  parts = []
  for begin in range(0, len(games.points), CHUNK):
    part = Games(*(x[begin : begin + CHUNK] for x in games))
    parts.append(_Boards(part, size).play())
  if not parts:
    return Played(np.zeros_like(games.points), np.zeros(0, np.int32), {})
  why = {CHUNK * i + row: text for i, part in enumerate(parts) for row, text in part.why.items()}
  gone, illegal = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
  return Played(gone, illegal, why)


class _Boards:
  """The boards of all games after equally many entries; row g of each array is game g's.

  chains: int16 [G, N^2 + 1], the id of the chain on each point: 1 + a point of it, negative for
    white; 0 for an empty point and beyond the edge.
  liberties: int16 [G, N^2 + 1], by a chain's |id| its pseudo-liberties: each liberty counts once
    for every stone of the chain that it touches, so that they are 0 with the liberties.
  entry: uint16 [G, N^2], which entry placed the stone on a point.
  position: uint64 [G], the Zobrist hash of the board.
  """

  def __init__(self, games: Games, size: int):
    self.games, self.size, self.points = games, size, size * size
    count = len(games.points)
    self.neighbours = _neighbours(size)
    self.chains = np.zeros((count, self.points + 1), np.int16)
    self.liberties = np.zeros((count, self.points + 1), np.int16)
    self.entry = np.zeros((count, self.points), np.uint16)
    self.gone = np.zeros_like(games.points)
    self.position = np.zeros(count, np.uint64)
    keys = np.random.default_rng(SEED).integers(2**64, size=(2, self.points), dtype=np.uint64)
    self.keys = keys  # [2, N^2], of black's and of white's stones
    self.illegal = np.full(count, -1, np.int32)
    self.why: dict[int, str] = {}

  def play(self) -> Played:
    """Plays all entries."""
    colours = self.games.colours()
    past = np.zeros((self.games.points.shape[1] + 1, len(self.illegal)), np.uint64)
    for now in range(self.games.points.shape[1]):
      there = (self.games.points[:, now] < self.points) & (self.illegal < 0)
      rows = np.flatnonzero(there).astype(np.int32)
      points = self.games.points[rows, now].astype(np.int32)
      self._mark_illegal(rows, self.chains[rows, points] != 0, now, 'the point is occupied')
      fine = self.illegal[rows] < 0
      self._place(rows[fine], points[fine], colours[rows[fine], now], now)
      past[now + 1] = self.position
    self._find_repeats(past)
    return Played(self.gone, self.illegal, self.why)

  def _mark_illegal(self, rows: Ints, which: np.ndarray, now: int, text: str) -> None:
    for row in rows[which]:
      self.illegal[row], self.why[int(row)] = now, text

  def _place(self, rows: Ints, points: Ints, sign: Ints, now: int) -> None:
    """Places a stone of colour `sign` in each of the games `rows`, all [R], and captures."""
    around = self.neighbours[points]  # [R, 4]
    ids = self.chains[rows[:, None], around]
    for side in ids.T:
      self.liberties[rows, np.abs(side)] -= 1
    new = self._join(rows, points, ids, sign)
    self.liberties[rows, np.abs(new)] += ((ids == 0) & (around < self.points)).sum(1)
    self.entry[rows, points] = now
    self.position[rows] ^= self.keys[(sign < 0).astype(int), points]
    for side in ids.T:  # of a chain on two sides nothing is left at the second
      dead = (side * sign < 0) & (self.liberties[rows, np.abs(side)] == 0)
      self._remove(rows[dead], side[dead], now)
    self._mark_illegal(rows, self.liberties[rows, np.abs(new)] == 0, now, 'suicide')

  def _join(self, rows: Ints, points: Ints, ids: Ints, sign: Ints) -> Ints:
    """Returns the id of the new stone's chain: that of one own chain beside it, or a new one."""
    new = (sign * (points + 1)).astype(np.int16)
    fresh = np.ones(len(rows), bool)
    for side in ids.T:
      own = (side * sign > 0) & (side != new)
      first, more = own & fresh, np.flatnonzero(own & ~fresh)
      new = np.where(first, side, new)
      fresh &= ~first
      self._rename(rows[more], side[more], new[more])
    self.liberties[rows[fresh], np.abs(new[fresh])] = 0  # left by an older chain of this id
    self.chains[rows, points] = new
    return new

  def _rename(self, rows: Ints, old: Ints, new: Ints) -> None:
    board = self.chains[rows]
    # A chain that touches the stone twice has its new id already, and no liberties to add.
    self.liberties[rows, np.abs(new)] += (
      np.where((board == old[:, None]).any(1), 1, 0) * (self.liberties[rows, np.abs(old)])
    )
    self.chains[rows] = np.where(board == old[:, None], new[:, None], board)

  def _remove(self, rows: Ints, ids: Ints, now: int) -> None:
    which, points = np.nonzero(self.chains[rows] == ids[:, None])
    rows, sign = rows[which], np.sign(ids[which])
    self.chains[rows, points] = 0
    self.gone[rows, self.entry[rows, points]] = now + 1
    np.bitwise_xor.at(self.position, rows, self.keys[(sign < 0).astype(int), points])
    around = self.neighbours[points]
    ids = np.abs(self.chains[rows[:, None], around])
    np.add.at(self.liberties, (rows[:, None], ids), 1)

  def _find_repeats(self, past: np.ndarray) -> None:
    """Marks the first move of each game that repeats a board; `past` is uint64 [E + 1, G]."""
    entry = np.arange(len(past) - 1)[:, None]
    turn = (self.games.points < self.points).transpose() & (entry >= self.games.start[None])
    end = np.where(self.illegal < 0, len(past), self.illegal)
    for row in range(len(self.illegal)):
      made = 1 + np.flatnonzero(turn[: end[row], row])
      times = np.concatenate([self.games.start[row : row + 1], made])
      _, firsts = np.unique(past[times, row], return_index=True)
      if len(firsts) < len(times):
        repeat = np.setdiff1d(np.arange(len(times)), firsts)[0]
        self.illegal[row], self.why[row] = times[repeat] - 1, 'the board repeats an earlier one'


def _neighbours(size: int) -> np.ndarray:
  """Returns int32 [N^2, 4]: the points above, below, left and right, N^2 beyond the edge."""
  padded = np.full((size + 2, size + 2), size * size, np.int32)
  padded[1:-1, 1:-1] = np.arange(size * size).reshape(size, size)
  sides = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
  return np.stack([x.ravel() for x in sides], -1)
