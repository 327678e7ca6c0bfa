"""Many games of Go as arrays: a text file with one game in SGF a line, or a folder of SGF files.

Lines in the usual plain form are parsed by NumPy, all moves of some megabytes at once; the others
one by one, by `mcts.go.sgf`. The arrays are cached.
"""

import dataclasses
import functools
import gzip
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data import cache
from mcts.go import sgf

CACHE_FORMAT = 1  # raise it when the same files come out as other arrays
CHUNK = 1 << 24  # bytes of text that are parsed in one go
NEVER = -1  # what `moves` holds after the end of a game

# Everything between the beginning of a plain game and its first move.
HEADER = re.compile(rb'\s*\(\s*;\s*(?:[A-Z]{1,2}(?:\[(?:[^\]\\]|\\.)*\]\s*)+)*')
PROPERTY = re.compile(rb'([A-Z]{1,2})((?:\[(?:[^\]\\]|\\.)*\]\s*)+)')
TAGS = b'GM FF CA AP ST SZ KM RE HA RU TM OT PB PW BR WR BT WT DT EV GN GC RO PC SO US CP AN ON C'
PLAIN = frozenset(TAGS.split())


@dataclasses.dataclass(frozen=True)
class Collection:
  """G games; colours alternate from `first` on.

  moves: int16 [G, longest], row * N + column with row 0 at the top, N^2 a pass, -1 after the end.
  lengths: int32 [G].
  size: int8 [G], N.
  komi: float32 [G].
  result: int8 [G], 1 if black won, -1 if white, 0 for a draw and where it is not known.
  margin: float32 [G], by how many points; NaN if not counted.
  first: int8 [G], who moves first, 0 black or 1 white.
  start: int32 [G], the number of the game's first position in `boards`.
  boards: int8 [K, M, M], 1 black, -1 white; the first is empty, and a smaller board is in the
    upper left N x N.
  broken: a line for each game that is left out: which, and why.
  """

  moves: np.ndarray
  lengths: np.ndarray
  size: np.ndarray
  komi: np.ndarray
  result: np.ndarray
  margin: np.ndarray
  first: np.ndarray
  start: np.ndarray
  boards: np.ndarray
  broken: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.lengths)


def load(path: str | os.PathLike) -> Collection:
  """Returns the games of a text file (`.gz` or not) or of a folder, parsed or from the cache.

  Games that cannot be read, or in which a player moves twice in a row, are left out; a warning has
  their number and the first few, `broken` all of them. Raises ValueError if there is no such path.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise ValueError(f'games {str(path)!r}: no such file or folder')
  files = sorted(path.rglob('*.sgf')) if path.is_dir() else [path]
  key = [CACHE_FORMAT, cache.fingerprints(str(file.resolve()) for file in files)]
  entry = cache.entry(path.name.split('.')[0], key)
  games = cache.load_or_make(entry, _load_cached, lambda: parse(_texts(path)), _save)
  if games.broken:
    few = '; '.join(games.broken[:3]) + ('; ...' if len(games.broken) > 3 else '')
    total = len(games) + len(games.broken)
    logging.warning('%s: %d of %d games left out: %s', path.name, len(games.broken), total, few)
  return games


def parse(texts: Iterable[tuple[bytes, list[str]]]) -> Collection:
  """Returns the games of texts, each one game a line, with a name for each line."""
  parts = [_parse_chunk(text, names) for text, names in texts]
  return _join([part for part, _ in parts], tuple(x for _, broken in parts for x in broken))


# -------- files --------


def _texts(path: pathlib.Path) -> Iterator[tuple[bytes, list[str]]]:
  if path.is_dir():
    files = sorted(path.rglob('*.sgf'))
    for i in range(0, len(files), 1000):
      few = files[i : i + 1000]
      # Line breaks in SGF say nothing, but in comments, of which nothing is kept.
      texts = [re.sub(rb'[\r\n]+', b' ', file.read_bytes()) for file in few]
      yield b'\n'.join(texts), [str(file.relative_to(path)) for file in few]
    return
  with gzip.open(path) if path.suffix == '.gz' else open(path, 'rb') as file:
    line, rest = 1, b''
    while data := file.read(CHUNK):
      text, newline, rest = (rest + data).rpartition(b'\n')
      if newline:
        count = text.count(b'\n') + 1
        yield text, [f'line {line + i}' for i in range(count)]
        line += count
    if rest:
      yield rest, [f'line {line}']


def _load_cached(folder: cache.Folder) -> Collection:
  with np.load(folder / 'games.npz', allow_pickle=False) as arrays:
    fields = dict(arrays)
  return Collection(**fields | {'broken': tuple(map(str, fields['broken']))})


def _save(games: Collection, folder: cache.Folder) -> None:
  fields = {f.name: getattr(games, f.name) for f in dataclasses.fields(games)}
  np.savez(folder / 'games.npz', **fields | {'broken': np.array(games.broken, str)})


# -------- a chunk of text --------


class _Game(NamedTuple):
  """One game; the fields are those of `Collection`."""

  moves: np.ndarray
  size: int
  komi: float
  result: int
  margin: float
  first: int
  board: np.ndarray | None = None


def _parse_chunk(text: bytes, names: list[str]) -> tuple[Collection, list[str]]:
  """Returns the games of some lines, and a line for each broken one."""
  data = np.frombuffer(text, np.uint8)
  breaks = np.flatnonzero(data == ord('\n'))
  starts = np.concatenate([[0], breaks + 1])
  ends = np.concatenate([breaks, [len(data)]])
  moves, line, plain = _plain_moves(data, starts, ends)
  counts = np.bincount(line, minlength=len(starts))
  begins = np.concatenate([[0], np.cumsum(counts)])
  ends_of_header = np.append(moves, 0)[begins[:-1]]
  games, broken = [], []
  for i, name in enumerate(names):
    raw = text[starts[i] : ends[i]]
    if not raw.strip():
      continue
    head = _header(raw[: ends_of_header[i] - starts[i]]) if plain[i] and counts[i] else None
    try:
      if head is not None:
        games.append(_plain_game(data, moves[begins[i] : begins[i + 1]], head))
      else:
        games.append(_other_game(sgf.read(raw)))
    except Exception as error:
      broken.append(f'{name}: {error}')
  return _collect(games), broken


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
  if not HEADER.fullmatch(text):
    return None
  found = {key: value.strip()[1:-1] for key, value in PROPERTY.findall(text)}
  if not found.keys() <= PLAIN or len(found.get(b'HA', b'0')) != 1:
    return None
  size = found.get(b'SZ', b'19')
  if found.get(b'GM', b'1') != b'1' or not re.fullmatch(rb'\d{1,2}', size):
    return None
  if int(size) not in sgf.SIZES:
    return None
  result = found.get(b'RE', b'').decode('latin-1')
  komi = sgf.komi_in_points(sgf.komi(found.get(b'KM', b'').decode('latin-1')))
  return int(size), komi, sgf.winner(result), sgf.margin(result)


def _plain_game(data: np.ndarray, at: np.ndarray, head: tuple[int, float, int, float]) -> _Game:
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
  return _Game(moves.astype(np.int16), *head, first=int(data[at[0] + 1] == ord('W')))


def _other_game(record: sgf.Record) -> _Game:
  players = [player for player, _ in record.moves]
  for turn, player in enumerate(players):
    if player != (record.to_play + turn) % 2:
      raise ValueError(f'move {turn + 1}: {("black", "white")[player]} moves twice in a row')
  moves = np.array([action for _, action in record.moves], np.int16)
  winner, margin = sgf.winner(record.result), sgf.margin(record.result)
  komi = sgf.komi_in_points(record.komi)
  return _Game(moves, record.size, komi, winner, margin, record.to_play, record.board)


# -------- arrays --------


def _collect(games: list[_Game]) -> Collection:
  lengths = np.array([len(game.moves) for game in games], np.int32)
  moves = np.full((len(games), max(lengths, default=0)), NEVER, np.int16)
  start = np.zeros(len(games), np.int32)
  boards = [np.zeros((0, 0), np.int8)]
  for i, game in enumerate(games):
    moves[i, : lengths[i]] = game.moves
    if game.board is not None:
      start[i] = len(boards)
      boards.append(game.board)
  return Collection(
    moves=moves,
    lengths=lengths,
    size=np.array([game.size for game in games], np.int8),
    komi=np.array([game.komi for game in games], np.float32),
    result=np.array([game.result for game in games], np.int8),
    margin=np.array([game.margin for game in games], np.float32),
    first=np.array([game.first for game in games], np.int8),
    start=start,
    boards=_stack(boards, max((game.size for game in games), default=19)),
  )


def _stack(boards: Sequence[np.ndarray], side: int) -> np.ndarray:
  """Returns int8 [K, side, side], each board in the upper left."""
  return np.stack([np.pad(b, ((0, side - len(b)),) * 2) for b in boards]).astype(np.int8)


def _join(parts: list[Collection], broken: tuple[str, ...]) -> Collection:
  parts = parts or [_collect([])]
  longest = max(part.moves.shape[1] for part in parts)
  moves, start = [], []
  boards = [parts[0].boards[0]]  # the empty one, which begins each part's
  for part in parts:
    wide = ((0, 0), (0, longest - part.moves.shape[1]))
    moves.append(np.pad(part.moves, wide, constant_values=NEVER))
    start.append(np.where(part.start > 0, part.start + len(boards) - 1, 0).astype(np.int32))
    boards.extend(part.boards[1:])
  joined = {'moves': np.concatenate(moves), 'start': np.concatenate(start)}
  for name in ('lengths', 'size', 'komi', 'result', 'margin', 'first'):
    joined[name] = np.concatenate([getattr(part, name) for part in parts])
  side = max(part.boards.shape[1] for part in parts)
  return Collection(**joined, boards=_stack(boards, side), broken=broken)
