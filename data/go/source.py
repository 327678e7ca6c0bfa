"""Positions of recorded games of Go for the training loop, and for its evaluations."""

import dataclasses
import functools
import hashlib
import logging
import pathlib
import re

import numpy as np
from jax.sharding import NamedSharding

from data import pipeline
from data.go import collection, replay
from data.go.collection import Collection
from data.go.replay import NEVER, Games

POSITIONS = ('all', 'one')
SPLITS = ('train', 'test')
ALIKE = 60  # games with so many equal moves are one game, for the division into splits


@dataclasses.dataclass(frozen=True)
class Outline:
  """What a task has to know of games that nobody reads."""

  size: int
  batch_size: int


@dataclasses.dataclass(frozen=True)
class Recorded:
  """The games of one split. Of each: `games`, `gone` (see `go_replay`), lengths int32 `[G]` in
  entries, result int8 `[G]`, 1 if black won, -1 if white, 0 for a draw and where it is not known.

  places: int32 `[P]`, game * E + entry of each move that is to be predicted; games in order.
  begins: int32 `[G + 1]`, where each game's places begin.
  """

  games: Games
  gone: np.ndarray
  lengths: np.ndarray
  result: np.ndarray
  places: np.ndarray
  begins: np.ndarray


class GoGames:
  """The config section of `data=dict(name='go_games', ...)`.

  `dataset` is one or more paths with commas between: text files (`.gz` or not) with a game in SGF a
  line, folders of SGF files, or single ones; games on another board than `size`, and illegal or
  damaged ones, are left out, and the log says how many. A record keeps no dates, so games are
  divided into train and test by their first moves: `held_out` is the share of the test's. Of its
  positions `eval_positions` are seen, spread evenly, or all (0).

  `positions` is 'all', or 'one': an epoch has one of each game, drawn anew (Silver et al. 2016,
  where a value network learnt whole games by heart otherwise). With `with_result` only games are
  read that say who won. With `symmetries` each training position is turned or mirrored at random.
  Passes are not to be predicted. `eval_batch_size` 0 is `batch_size`. With `read=False` nothing is
  read until it is needed. Raises ValueError on what does not fit together or is not there.

  Batches are global arrays, sharded over axis 0, of what `mcts.go.recorded` makes states from:

    {'points', 'gone': uint16 [B, E], 'count', 'start', 'blacks', 'first': int32 [B],
     'move': int32 [B] what was played, 'result': float32 [B] 1 if who is to move won, else -1,
     'index': int32 [B] the position's number or -1, 'mask': float32 [B] 0 for padding}
  """

  def __init__(
    self,
    dataset: str = '',
    size: int = 19,
    batch_size: int = 128,
    eval_batch_size: int = 0,
    held_out: float = 0.1,
    eval_positions: int = 0,
    positions: str = 'all',
    with_result: bool = False,
    symmetries: bool = True,
    *,
    read: bool = True,
  ):
    least = {'size': (size, 2), 'batch_size': (batch_size, 1)}
    least |= {'eval_batch_size': (eval_batch_size, 0), 'eval_positions': (eval_positions, 0)}
    for name, (value, lowest) in least.items():
      if value < lowest:
        raise ValueError(f'data.{name}={value}: must be at least {lowest}')
    if not 0 < held_out < 1:
      raise ValueError(f'data.held_out={held_out}: must be between 0 and 1')
    if positions not in POSITIONS:
      raise ValueError(f'data.positions={positions!r}: choose from {", ".join(POSITIONS)}')
    self.dataset, self.size, self.held_out = dataset, size, held_out
    self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
    self.eval_positions, self.one, self.with_result = (
      eval_positions,
      positions == 'one',
      with_result,
    )
    self.symmetries = symmetries
    if read:
      self._splits  # noqa: B018  what is wrong with the games should show at once

  @classmethod
  def outline(cls, size: int = 19, batch_size: int = 128, **rest) -> Outline:
    del rest
    return Outline(size, batch_size)

  @property
  def entries(self) -> int:
    """E, as many as the longest game has."""
    return self._splits['train'].games.points.shape[1]

  def num_positions(self, split: str) -> int:
    """To be predicted in an epoch of `split`."""
    found = self.split(split)
    return len(found.games.points) if self.one else len(found.places)

  def split(self, split: str) -> Recorded:
    if split not in SPLITS:
      raise ValueError(f'split {split!r}: choose from {", ".join(SPLITS)}')
    return self._splits[split]

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.TrainSource:
    """Shuffled batches without end; that of a step depends on `seed` and the step alone."""
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    if seed < 0:
      raise ValueError(f'seed={seed}: must be at least 0')
    feeder = Reader(self.split('train'), self.size, sharding, self.one, self.symmetries)
    order = pipeline.Order(seed, self.num_positions('train'))
    return pipeline.TrainSource(feeder, order, self.batch_size)

  def eval_batches(self, split: str, sharding: NamedSharding) -> pipeline.EvalBatches:
    """Positions of `split`, each once, in order; can be iterated again."""
    pipeline.check_divisible('eval_batch_size', self.eval_batch_size, sharding)
    total = self.num_positions(split)
    size = min(self.eval_positions or total, total)
    chosen = np.linspace(0, total - 1, size).astype(np.int32)
    feeder = Reader(self.split(split), self.size, sharding, self.one, chosen=chosen)
    return pipeline.EvalBatches(feeder, size, self.eval_batch_size)

  def close(self) -> None:
    """Nothing runs in the background."""

  @functools.cached_property
  def _splits(self) -> dict[str, Recorded]:
    games = _joined([_read(path, self.size) for path in _paths(self.dataset)])
    games = _legal(games, self.size, self.dataset)
    known = (games['result'] != 0) | games['drawn'] if self.with_result else games['lengths'] > 0
    tests = _digests(games['points']) < self.held_out * 2**32
    splits = {name: known & (tests == (name == 'test')) for name in SPLITS}
    for name, chosen in splits.items():
      if not chosen.any():
        raise ValueError(
          f'data.dataset={self.dataset!r}: leaves no game for the split {name!r}; there are'
          f' {int(known.sum())}, of which a share of data.held_out={self.held_out} is for the test'
        )
    return {name: _recorded(games, chosen, self.size) for name, chosen in splits.items()}


# -------- reading --------


def _paths(dataset: str) -> list[pathlib.Path]:
  paths = [pathlib.Path(x.strip()).expanduser() for x in dataset.split(',') if x.strip()]
  if not paths:
    raise ValueError(
      f'data.dataset={dataset!r}: give FILE[,FILE], files with a game in SGF a line (.gz or not),'
      ' or folders of SGF files'
    )
  for path in paths:
    if not path.exists():
      raise ValueError(f'data.dataset={dataset!r}: there is no {path}')
  return paths


def _read(path: pathlib.Path, size: int) -> Collection:
  if path.is_file() and path.suffix == '.sgf':
    text = re.sub(rb'[\r\n]+', b' ', path.read_bytes())
    return collection.parse([(text, [path.name])])
  return collection.load(path)


def _joined(parts: list[Collection]) -> dict[str, np.ndarray]:
  """The games of all parts: the fields of `Games`, and size, lengths, result, drawn."""
  games = [_entries(part) for part in parts]
  longest = max(part['points'].shape[1] for part in games)
  for part in games:
    wide = ((0, 0), (0, longest - part['points'].shape[1]))
    part['points'] = np.pad(part['points'], wide, constant_values=NEVER)
  return {name: np.concatenate([part[name] for part in games]) for name in games[0]}


def _entries(part: Collection) -> dict[str, np.ndarray]:
  """Stones set up are the first entries, black's before white's."""
  moves = np.where(part.moves < 0, np.uint16(NEVER), part.moves.astype(np.uint16))
  size, first = part.size.astype(np.int32), part.first.astype(np.int32)
  start, blacks = np.zeros_like(size), np.zeros_like(size)
  rows = [_trimmed(row, n * n) for row, n in zip(moves, size, strict=True)]
  for game in np.flatnonzero(part.start):
    board = part.boards[part.start[game], : size[game], : size[game]].ravel()
    stones = [np.flatnonzero(board == colour).astype(np.uint16) for colour in (1, -1)]
    blacks[game], start[game] = len(stones[0]), len(stones[0]) + len(stones[1])
    rows[game] = np.concatenate([*stones, rows[game]])
  lengths = np.array([len(row) for row in rows], np.int32)
  points = np.full((len(rows), max(lengths, default=0)), NEVER, np.uint16)
  for row, game in zip(points, rows, strict=True):
    row[: len(game)] = game
  fields = {'points': points, 'start': start, 'blacks': blacks, 'first': first, 'size': size}
  drawn = (part.result == 0) & (part.margin == 0)
  return {**fields, 'lengths': lengths, 'result': part.result, 'drawn': drawn}


def _trimmed(moves: np.ndarray, passing: int) -> np.ndarray:
  """Until the second of two passes, after which the game is over."""
  moves = moves[moves != NEVER]
  twice = np.flatnonzero((moves[:-1] == passing) & (moves[1:] == passing))
  return moves[: twice[0] + 2] if len(twice) else moves


def _legal(games: dict[str, np.ndarray], size: int, name: str) -> dict[str, np.ndarray]:
  """The games on this board that are legal, with `gone`; the log has the others."""
  here = np.flatnonzero(games['size'] == size)
  if others := len(games['size']) - len(here):
    logging.warning('%s: %d games on other boards than %d are left out', name, others, size)
  games = {key: x[here] for key, x in games.items()}
  played = replay.play(Games(*(games[field] for field in Games._fields)), size)
  if played.why:
    game, why = next(iter(played.why.items()))
    turn = played.wrong[game] - games['start'][game] + 1
    logging.warning(
      '%s: %d of %d games are left out, the first of them game %d: move %d: %s',
      *(name, len(played.why), len(here), here[game] + 1, turn, why),
    )
  fine = played.wrong < 0
  return {**{key: x[fine] for key, x in games.items()}, 'gone': played.gone[fine]}


# -------- splits --------


def _digests(points: np.ndarray) -> np.ndarray:
  """uint32 `[G]`, of a game's beginning: the same wherever and how often the game is."""
  begins = (row[row != NEVER][:ALIKE] for row in points)
  found = [hashlib.blake2b(row.tobytes(), digest_size=4).digest() for row in begins]
  return np.array([int.from_bytes(x, 'little') for x in found], np.uint32)


def _recorded(games: dict[str, np.ndarray], chosen: np.ndarray, size: int) -> Recorded:
  fields = {key: x[chosen] for key, x in games.items()}
  points, entry = fields['points'], np.arange(fields['points'].shape[1])[None]
  targets = (points < size * size) & (entry >= fields['start'][:, None])
  places = np.flatnonzero(targets)
  if points.size > 2**31 - 1:
    raise ValueError(f'{len(points)} games of up to {points.shape[1]} moves: too many to number')
  begins = np.concatenate([[0], np.cumsum(targets.sum(1))])
  numbers = (places.astype(np.int32), begins.astype(np.int32))
  kept = Games(*(fields[field] for field in Games._fields))
  return Recorded(kept, fields['gone'], fields['lengths'], fields['result'], *numbers)


@dataclasses.dataclass(frozen=True)
class Reader:
  """A `pipeline.Feeder` of positions; a gather is so little work that none is begun ahead.

  one: rows are games, of each of which a position is drawn. symmetries: games are turned or
  mirrored at random. chosen: rows are numbers of these.
  """

  recorded: Recorded
  size: int
  sharding: NamedSharding
  one: bool = False
  symmetries: bool = False
  chosen: np.ndarray | None = None
  prefetch: int = 0

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> pipeline.Ready:
    mine, rng = pipeline.local_positions(self.sharding, len(rows)), np.random.default_rng(seed)
    numbers = np.where(rows >= 0, rows, 0)
    numbers = numbers if self.chosen is None else self.chosen[numbers]
    # All of the batch is drawn, whichever part is this process's.
    chance, turns = rng.random(len(rows)), rng.integers(8, size=len(rows))
    if self.one:
      numbers = self._draw(numbers, chance)
    local = self._positions(numbers[mine], turns[mine] * self.symmetries)
    real = rows[mine] >= 0
    local['index'] = np.where(real, numbers[mine], -1).astype(np.int32)
    local['mask'] = real.astype(np.float32)

    def ready() -> pipeline.Batch:
      put = functools.partial(pipeline.to_global, sharding=self.sharding, batch_size=len(rows))
      return {name: put(x, mine) for name, x in local.items()}

    return ready

  def _draw(self, games: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Of each game the number of one of its positions, all with equal chances."""
    begins = self.recorded.begins
    return begins[games] + (chance * (begins[games + 1] - begins[games])).astype(np.int32)

  def _positions(self, numbers: np.ndarray, turns: np.ndarray) -> dict[str, np.ndarray]:
    recorded, games = self.recorded, self.recorded.games
    game, entry = np.divmod(recorded.places[numbers], games.points.shape[1])
    points = games.points[game]
    there = np.minimum(points, self.size**2)  # after the end too
    points = turned(self.size)[turns[:, None], there]
    start, first = games.start[game], games.first[game]
    black = (entry - start + first) % 2 == 0
    result = recorded.result[game].astype(np.float32)
    return {
      'points': points,
      'gone': recorded.gone[game],
      'count': entry.astype(np.int32),
      'start': start,
      'blacks': games.blacks[game],
      'first': first,
      'move': points[np.arange(len(entry)), entry].astype(np.int32),
      'result': np.where(black, result, -result),
    }


@functools.cache
def turned(size: int) -> np.ndarray:
  """uint16 `[8, N^2 + 1]`: where a point comes to lie, the first unmoved; a pass stays one."""
  points = np.arange(size * size, dtype=np.uint16).reshape(size, size)
  boards = [np.rot90(x, k) for x in (points, points.T) for k in range(4)]
  return np.stack([np.append(x.ravel(), np.uint16(size * size)) for x in boards])
