"""Many games of Go as arrays: text files with a game in SGF a line, SGF files, or folders of these.

The arrays are cached.
"""

import dataclasses
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from data import cache
from data.go import files, parsing
from data.go.parsing import ParsedGames
from mcts.go.notation import printable

CACHE_FORMAT = 2  # raise it when the same files come out as other arrays
CHUNK = 1 << 24  # bytes of text that are parsed in one go
NEVER = -1  # what `moves` holds after the end of a game

LINES = ('names', 'broken', 'notes')  # the fields that are text


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
  names: [G], in which file or line each game is.
  broken: a line for each game that is left out: which, and why.
  notes: a line for each thing in a game that is not kept, or not as it is written.
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
  names: tuple[str, ...] = ()
  broken: tuple[str, ...] = ()
  notes: tuple[str, ...] = ()

  def __len__(self) -> int:
    return len(self.lengths)


def load(path: str | os.PathLike) -> Collection:
  """Returns the games of a path, parsed or from the cache.

  A file that ends in `.sgf` may hold several games, others have a game a line; both may be gzipped.
  Of a folder the SGF files are read. Games that cannot be read, or in which a player moves twice in
  a row, are left out; a warning has their number and the first few, `broken` all of them. It also
  has the number of games that are not all as they are written (`notes`) and of other files.

  Raises:
    ValueError: if there is no such path, or a file with a game a line cannot be read to its end.
  """
  path = pathlib.Path(path)
  if not path.exists():
    raise ValueError(f'games {str(path)!r}: no such file or folder')
  paths, others = files.find(path) if path.is_dir() else ([path], [])
  key = [CACHE_FORMAT, cache.fingerprints(str(file.resolve()) for file in paths)]
  entry = cache.entry(path.name.split('.')[0], key)
  games = cache.load_or_make(entry, _load_cached, lambda: _read(path, paths), _save)
  total, parts = len(games) + len(games.broken), []
  if games.broken:
    parts.append(f'{len(games.broken)} of {total} games left out: {_few(games.broken)}')
  if games.notes:
    parts.append(f'{len(games.notes)} remarks on games that are read: {_few(games.notes)}')
  if others:
    parts.append(f'{len(others)} other files are left out: {_few(others)}')
  if not paths:
    parts.append('there is no SGF file')
  if parts:
    logging.warning('%s: %s', printable(path.name or str(path)), '. '.join(parts))
  return games


def _few(lines: Sequence[str]) -> str:
  return '; '.join(lines[:3]) + (' and more' if len(lines) > 3 else '')


def parse(texts: Iterable[tuple[bytes, list[str]]]) -> Collection:
  """Returns the games of texts, each one game a line, with a name for each line."""
  parts = [_collect(parsing.parse(text, names)) for text, names in texts]
  return _join(parts)


# -------- files --------


def _read(path: pathlib.Path, paths: list[pathlib.Path]) -> Collection:
  if path.is_dir() or files.is_sgf(path):
    unread: list[str] = []
    games = parse(_folder(path, paths, unread))
    return dataclasses.replace(games, broken=(*unread, *games.broken))
  try:
    return parse(files.chunks(path, CHUNK))
  except ValueError as error:
    raise ValueError(f'games {str(path)!r}: {error}') from None


def _folder(
  path: pathlib.Path, paths: list[pathlib.Path], unread: list[str]
) -> Iterator[tuple[bytes, list[str]]]:
  """Yields some files, a line each, and their names; why others cannot be read goes to `unread`."""
  for i in range(0, len(paths), 1000):
    texts, names = [], []
    for file in paths[i : i + 1000]:
      name = printable(str(file.relative_to(path)) if path.is_dir() else file.name)
      try:
        texts.append(files.text(file))
        names.append(name)
      except ValueError as error:
        unread.append(f'{name}: {error}')
    yield b'\n'.join(texts), names


def _load_cached(folder: cache.Folder) -> Collection:
  with np.load(folder / 'games.npz', allow_pickle=False) as arrays:
    fields = dict(arrays)
  return Collection(**fields | {name: tuple(map(str, fields[name])) for name in LINES})


def _save(games: Collection, folder: cache.Folder) -> None:
  fields = {f.name: getattr(games, f.name) for f in dataclasses.fields(games)}
  texts = {name: np.array(fields[name], str) for name in LINES}
  np.savez(folder / 'games.npz', **fields | texts)


# -------- arrays --------


def _collect(found: ParsedGames) -> Collection:
  games = found.games
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
    names=tuple(found.names),
    broken=tuple(found.broken),
    notes=tuple(found.notes),
  )


def _stack(boards: Sequence[np.ndarray], side: int) -> np.ndarray:
  """Returns int8 [K, side, side], each board in the upper left."""
  return np.stack([np.pad(b, ((0, side - len(b)),) * 2) for b in boards]).astype(np.int8)


def _join(parts: list[Collection]) -> Collection:
  parts = parts or [_collect(ParsedGames())]
  longest = max(part.moves.shape[1] for part in parts)
  moves, start = [], []
  boards = [parts[0].boards[0]]  # the empty one, which begins each part's
  for part in parts:
    wide = ((0, 0), (0, longest - part.moves.shape[1]))
    moves.append(np.pad(part.moves, wide, constant_values=NEVER))
    start.append(np.where(part.start > 0, part.start + len(boards) - 1, 0).astype(np.int32))
    boards.extend(part.boards[1:])
  joined: dict[str, Any] = {'moves': np.concatenate(moves), 'start': np.concatenate(start)}
  for name in ('lengths', 'size', 'komi', 'result', 'margin', 'first'):
    joined[name] = np.concatenate([getattr(part, name) for part in parts])
  for name in LINES:
    joined[name] = tuple(x for part in parts for x in getattr(part, name))
  side = max(part.boards.shape[1] for part in parts)
  return Collection(**joined, boards=_stack(boards, side))
