"""Games in SGF, one a line: lines to moves and what else is kept of a game.

Lines in the usual plain form are parsed by NumPy, all moves of some megabytes at once; the others
one by one, by `mcts.go.sgf`, and these may hold several games.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mcts.go import sgf, sgf_syntax

MAX_MOVES = 4096  # of a game; a longer one would make all rows as long

# Everything between the beginning of a plain game and its first move.
HEADER = re.compile(rb'\s*\(\s*;\s*(?:[A-Z]{1,2}(?:\[(?:[^\]\\]|\\.)*\]\s*)+)*')
PROPERTY = re.compile(rb'([A-Z]{1,2})((?:\[(?:[^\]\\]|\\.)*\]\s*)+)')
# A byte of a bracket or a backslash that may be the second of a character.
DOUBLE_BYTE = re.compile(rb'[\x80-\xff][\[\]\\]')
TAGS = b'GM FF CA AP ST SZ KM RE HA RU TM OT PB PW BR WR BT WT DT EV GN GC RO PC SO US CP AN ON C'
PLAIN = frozenset(TAGS.split())


class ParsedGame(NamedTuple):
  """One game; the fields are those of `Collection`."""

  moves: np.ndarray
  size: int
  komi: float
  result: int
  margin: float
  first: int
  board: np.ndarray | None = None


@dataclasses.dataclass
class ParsedGames:
  """What a chunk of text has; the fields are those of `Collection`."""

  games: list[ParsedGame] = dataclasses.field(default_factory=list)
  names: list[str] = dataclasses.field(default_factory=list)
  broken: list[str] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)

  def add(self, name: str, make: Callable[[], ParsedGame]) -> None:
    """Adds a game, or why it is none."""
    try:
      game = make()
      if len(game.moves) > MAX_MOVES:
        raise ValueError(f'{len(game.moves)} moves: must be at most {MAX_MOVES}')
    except ValueError as error:
      self.broken.append(f'{name}: {error}')
    else:
      self.games.append(game)
      self.names.append(name)

  def add_all(self, name: str, raw: bytes) -> None:
    """Adds the games of a line that is not in the plain form, mostly one."""
    text, _ = sgf_syntax.decode(raw)  # names of players are not kept
    for i, found in enumerate(sgf.main_lines(text.encode())):
      where = f'{name}, game {i + 1}' if i else name
      self.add(where, functools.partial(_other_game, found))
      if isinstance(found, sgf.Record) and self.names[-1:] == [where]:
        self.notes.extend(f'{where}: {note}' for note in found.notes)


def parse(text: bytes, names: list[str]) -> ParsedGames:
  """Returns the games of some lines, and what is to be said of them."""
  data = np.frombuffer(text, np.uint8)
  breaks = np.flatnonzero(data == ord('\n'))
  starts = np.concatenate([[0], breaks + 1])
  ends = np.concatenate([breaks, [len(data)]])
  moves, line, plain = _plain_moves(data, starts, ends)
  counts = np.bincount(line, minlength=len(starts))
  begins = np.concatenate([[0], np.cumsum(counts)])
  ends_of_header = np.append(moves, 0)[begins[:-1]]
  found = ParsedGames()
  for i, name in enumerate(names):
    raw = text[starts[i] : ends[i]]
    if not raw.strip():
      continue
    head = _header(raw[: ends_of_header[i] - starts[i]]) if plain[i] and counts[i] else None
    if head is None:
      found.add_all(name, raw)
    else:
      found.add(name, functools.partial(_plain_game, data, moves[begins[i] : begins[i + 1]], head))
  return found


def _plain_moves(
  data: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Finds the moves of all lines at once; a move is ';B[pd]' or ';W[pd]', a pass ';B[]'.

  Args:
    data: uint8 [bytes], the text.
    starts: [lines], where lines begin.
    ends: [lines], where they end.

  Returns:
    Where moves begin, [moves]; the line of each, [moves]; and whether a line is plain, bool
    [lines]: colours alternate, and nothing else stands between the moves and after the last.
  """
  padded = np.concatenate([data, np.zeros(6, np.uint8)])
  at = np.flatnonzero(data == ord(';'))
  colour = padded[at + 1]
  at = at[((colour == ord('B')) | (colour == ord('W'))) & (padded[at + 2] == ord('['))]
  line = np.searchsorted(starts, at, 'right') - 1
  passed = padded[at + 3] == ord(']')
  good = passed | (padded[at + 5] == ord(']'))
  after = at + np.where(passed, 4, 6)
  last = np.append(line[1:] != line[:-1], True)[: len(at)]
  follows = np.append(at[1:], 0)[: len(at)] == after
  turns = np.append(padded[at[1:] + 1] != padded[at[:-1] + 1], True)[: len(at)]
  ending = padded[after] == ord(')')
  good &= np.where(last, ending & _only_space(padded, after + 1, ends[line]), follows & turns)
  plain = np.bincount(line, ~good, len(starts)) == 0
  return at, line, plain


def _only_space(data: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
  """Tells whether from `start` to `end` there is at most a carriage return."""
  return (start >= end) | ((start == end - 1) & (data[start] == ord('\r')))


@functools.lru_cache(maxsize=4096)
def _header(text: bytes) -> tuple[int, float, int, float] | None:
  """Returns size, komi, result and margin of the text before the first move; None if not plain."""
  if not HEADER.fullmatch(text) or (DOUBLE_BYTE.search(text) and not _is_certain(text)):
    return None
  properties = PROPERTY.findall(text)
  found = {key: value.strip()[1:-1] for key, value in properties}
  if not found.keys() <= PLAIN or len(found) < len(properties):
    return None
  if found.get(b'HA', b'') not in (b'', b'0', b'1'):
    return None
  size = found.get(b'SZ', b'19')
  if found.get(b'GM', b'1') != b'1' or not re.fullmatch(rb'\d{1,2}', size):
    return None
  if int(size) not in sgf.SIZES:
    return None
  result = found.get(b'RE', b'').decode('latin-1')
  komi = found.get(b'KM', b'0')
  if not re.fullmatch(rb'-?\d{1,4}(\.\d{1,6})?', komi):
    return None
  return int(size), float(komi), sgf.winner(result), sgf.margin(result)


def _is_certain(text: bytes) -> bool:
  """Tells whether brackets are brackets after all, as in UTF-8 and in GB 2312."""
  try:
    return bool(text.decode())
  except UnicodeDecodeError:
    return bool(sgf_syntax.GB2312.fullmatch(text))


def _plain_game(
  data: np.ndarray, at: np.ndarray, head: tuple[int, float, int, float]
) -> ParsedGame:
  size = head[0]
  column, row = (data[np.minimum(at + i, len(data) - 1)] - np.int16(ord('a')) for i in (3, 4))
  passed = data[at + 3] == ord(']')
  if size <= 19:
    passed |= (column == 19) & (row == 19)
  inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
  if not (inside | passed).all():
    turn = int(np.argmin(inside | passed))
    raise ValueError(f'move {turn + 1}: not on a board of size {size}')
  moves = np.where(passed, np.int16(size * size), row * np.int16(size) + column)
  return ParsedGame(moves.astype(np.int16), *head, first=int(data[at[0] + 1] == ord('W')))


def _other_game(record: sgf.Record | ValueError) -> ParsedGame:
  if isinstance(record, ValueError):
    raise record
  if record.handicap > 1 and record.board is None:
    raise ValueError(f'HA[{record.handicap}], but no stones are set up')
  players = [player for player, _ in record.moves]
  for turn, player in enumerate(players):
    if player != (record.to_play + turn) % 2:
      raise ValueError(f'move {turn + 1}: {("black", "white")[player]} moves twice in a row')
  moves = np.array([action for _, action in record.moves], np.int16)
  winner, margin = sgf.winner(record.result), sgf.margin(record.result)
  return ParsedGame(moves, record.size, record.komi, winner, margin, record.to_play, record.board)
