"""Many Go games as arrays: a text file with one game in SGF a line, or a folder of SGF files.

Lines in the usual plain form are read by NumPy, all moves of some megabytes at once; the others one
by one. The arrays are cached.
"""

import dataclasses
import functools
import gzip
import hashlib
import json
import logging
import os
import pathlib
import re
import tempfile
import zipfile
from collections.abc import Iterator

import numpy as np

from mcts.go import sgf

CACHE_FORMAT = 1  # raise it when the same files come out as other arrays
CHUNK = 1 << 24  # bytes of text at once
NEVER = -1  # what `moves` holds after the end of a game

# All that may stand between the beginning of a plain game and its first move.
HEADER = re.compile(rb'\s*\(\s*;\s*(?:[A-Z]{1,2}(?:\[(?:[^\]\\]|\\.)*\]\s*)+)*')
PROPERTY = re.compile(rb'([A-Z]{1,2})((?:\[(?:[^\]\\]|\\.)*\]\s*)+)')
TAGS = b'GM FF CA AP ST SZ KM RE HA RU TM OT PB PW BR WR BT WT DT EV GN GC RO PC SO US CP AN ON C'
PLAIN = frozenset(TAGS.split())


@dataclasses.dataclass(frozen=True)
class Collection:
  """G games; colours alternate from `first` on.

  moves: int16 `[G, longest]`, row * N + column with row 0 at the top, N^2 a pass, -1 after the end.
  lengths: int32 `[G]`.
  size: int8 `[G]`, N.
  komi: float32 `[G]`.
  result: int8 `[G]`, 1 if black won, -1 if white, 0 for a draw and where it is not known.
  margin: float32 `[G]`, by how many points; NaN if not counted.
  first: int8 `[G]`, who moves first, 0 black or 1 white.
  start: int32 `[G]`, which of `boards` the game begins from.
  boards: int8 `[K, M, M]`, 1 black, -1 white; the first is empty, and of a smaller board the upper
    left N x N holds.
  broken: a line for each game that was left out: which, and why.
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

  def record(self, game: int) -> sgf.Record:
    """One game, as `mcts.go.sgf` has it."""
    size, first = int(self.size[game]), int(self.first[game])
    moves = self.moves[game, : self.lengths[game]].tolist()
    board = self.boards[self.start[game], :size, :size] if self.start[game] else None
    moves = [((first + i) % 2, action) for i, action in enumerate(moves)]
    return sgf.Record(size, float(self.komi[game]), board, first, moves, _result(self, game))


def _result(games: Collection, game: int) -> str:
  winner, margin = games.result[game], games.margin[game]
  if winner == 0:
    return '0' if margin == 0 else ''
  return f'{"B" if winner > 0 else "W"}+' + ('' if np.isnan(margin) else f'{margin:g}')


def load(path: str | os.PathLike, cache: str | os.PathLike | None = None) -> Collection:
  """The games of a text file (`.gz` or not) or of a folder, from the cache where it has them.

  Games that cannot be read, or in which a player moves twice in a row, are left out; a warning has
  their number and the first few, `broken` all of them. `cache` is a folder, the user's if None.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise ValueError(f'games {str(path)!r}: no such file or folder')
  stored = _cache_file(path, cache)
  games = _read_cache(stored)
  if games is None:
    games = parse(_texts(path))
    _write_cache(stored, games)
  if games.broken:
    few = '; '.join(games.broken[:3]) + ('; ...' if len(games.broken) > 3 else '')
    total = len(games) + len(games.broken)
    logging.warning('%s: %d of %d games left out: %s', path.name, len(games.broken), total, few)
  return games


def parse(texts) -> Collection:
  """The games of an iterable of (bytes with one game a line, a name for each line)."""
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


def _cache_file(path: pathlib.Path, folder) -> pathlib.Path:
  """Named by path, size and time of the files; a changed file gives another name."""
  files = sorted(path.rglob('*.sgf')) if path.is_dir() else [path]
  stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
  digest = hashlib.sha256(json.dumps([CACHE_FORMAT, stats]).encode()).hexdigest()[:16]
  if folder is None:
    root = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
    folder = root / 'breakthroughs' / 'data'
  return pathlib.Path(folder) / f'{path.name.split(".")[0]}-{digest}.npz'


def _read_cache(path: pathlib.Path) -> Collection | None:
  try:
    with np.load(path, allow_pickle=False) as arrays:
      fields = dict(arrays)
    return Collection(**fields | {'broken': tuple(map(str, fields['broken']))})
  except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
    return None  # absent or damaged: read again


def _write_cache(path: pathlib.Path, games: Collection) -> None:
  """Written beside and renamed, so that it is there whole or not at all; may fail in peace."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix='.npz', delete=False) as file:
      fields = {f.name: getattr(games, f.name) for f in dataclasses.fields(games)}
      np.savez(file, **fields | {'broken': np.array(games.broken, str)})
    os.replace(file.name, path)
  except OSError as error:
    logging.warning('the games of %s are not cached: %s', path.stem, error)


# -------- one piece of text --------


def _parse_chunk(text: bytes, names: list[str]) -> tuple[Collection, list[str]]:
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


def _plain_moves(data, starts, ends):
  """Where moves begin, in which line, and bool `[lines]`: nothing else stands between and after.

  A move is `;B[pd]` or `;W[pd]`, a pass `;B[]`; the colours alternate.
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


def _only_space(data, start, end):
  """Whether from `start` to `end` there is at most a carriage return."""
  return (start >= end) | ((start == end - 1) & (data[start] == ord('\r')))


class _Broken(ValueError):
  pass


@functools.lru_cache(maxsize=4096)
def _header(text: bytes):
  """(size, komi, result, margin) of what precedes the first move; None if it is not plain."""
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
  komi = sgf.komi(found.get(b'KM', b'').decode('latin-1'))
  return int(size), komi, sgf.winner(result), sgf.margin(result)


def _plain_game(data, at, head):
  size = head[0]
  column, row = (data[np.minimum(at + i, len(data) - 1)] - np.int16(ord('a')) for i in (3, 4))
  passed = data[at + 3] == ord(']')
  if size <= 19:
    passed |= (column == 19) & (row == 19)
  inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
  if not (inside | passed).all():
    turn = int(np.argmin(inside | passed))
    raise _Broken(f'move {turn + 1}: not on a board of size {size}')
  moves = np.where(passed, np.int16(size * size), row * np.int16(size) + column)
  return [moves.astype(np.int16), *head, int(data[at[0] + 1] == ord('W')), None]


def _other_game(record: sgf.Record):
  players = [player for player, _ in record.moves]
  for turn, player in enumerate(players):
    if player != (record.to_play + turn) % 2:
      raise _Broken(f'move {turn + 1}: {("black", "white")[player]} moves twice in a row')
  moves = np.array([action for _, action in record.moves], np.int16)
  result = (sgf.winner(record.result), sgf.margin(record.result))
  return [moves, record.size, record.komi, *result, record.to_play, record.board]


# -------- arrays --------


def _collect(games: list) -> Collection:
  lengths = np.array([len(game[0]) for game in games], np.int32)
  moves = np.full((len(games), max(lengths, default=0)), NEVER, np.int16)
  filled = np.arange(moves.shape[1])[None] < lengths[:, None]
  moves[filled] = np.concatenate([game[0] for game in games]) if games else []
  columns = list(zip(*(game[1:6] for game in games), strict=True)) or [()] * 5
  kinds = (np.int8, np.float32, np.int8, np.float32, np.int8)
  columns = [np.array(x, kind) for x, kind in zip(columns, kinds, strict=True)]
  start = np.zeros(len(games), np.int32)
  boards = [np.zeros((0, 0), np.int8)]
  for i, game in enumerate(games):
    if game[6] is not None:
      start[i] = len(boards)
      boards.append(game[6])
  return Collection(moves, lengths, *columns, start, _stack(boards, columns[0]))


def _stack(boards, sizes):
  side = max(sizes, default=19)
  return np.stack([np.pad(b, ((0, side - len(b)),) * 2) for b in boards]).astype(np.int8)


def _join(parts: list[Collection], broken: tuple[str, ...]) -> Collection:
  if not parts:
    parts = [_collect([])]
  longest = max(part.moves.shape[1] for part in parts)
  side = max(part.boards.shape[1] for part in parts)
  fields = {f.name: [] for f in dataclasses.fields(Collection)}
  count = 0
  for part in parts:
    wide = ((0, 0), (0, longest - part.moves.shape[1]))
    room = ((0, 0),) + ((0, side - part.boards.shape[1]),) * 2
    moves = np.pad(part.moves, wide, constant_values=NEVER)
    own = part.boards if not count else part.boards[1:]
    start = np.where(part.start > 0, part.start + max(count - 1, 0), 0).astype(np.int32)
    for name in fields.keys() - {'broken'}:
      fields[name].append(getattr(part, name))
    fields['moves'][-1], fields['start'][-1] = moves, start
    fields['boards'][-1] = np.pad(own, room)
    count += len(own)
  arrays = {name: np.concatenate(x) for name, x in fields.items() if name != 'broken'}
  return Collection(**arrays, broken=broken)
