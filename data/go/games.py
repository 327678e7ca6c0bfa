"""The games of a data set that are legal on one board, divided into training and test games."""

import dataclasses
import hashlib
import logging
import os
import pathlib

import numpy as np

from data.go import collection, replay
from data.go.collection import Collection
from data.go.replay import NEVER, Games

SPLITS = ('train', 'test')
PREFIX = 60  # games with so many equal moves are one game, for the division into splits

Columns = dict[str, np.ndarray]  # the fields of `Games` and others, one row for each game


@dataclasses.dataclass(frozen=True)
class GameSplit:
  """The G games of one split.

  games: their entries (stones set up, then turns), [G, E].
  gone: uint16 [G, E], the position at which an entry's stone is captured, 0 for never.
  lengths: int32 [G], the number of entries.
  result: int8 [G], 1 if black won, -1 if white, 0 for a draw and where it is not known.
  targets: int32 [P], game * E + entry of each move that is to be predicted; games in order.
  first_target: int32 [G + 1], where each game's targets begin.
  """

  games: Games
  gone: np.ndarray
  lengths: np.ndarray
  result: np.ndarray
  targets: np.ndarray
  first_target: np.ndarray


def load(dataset: str, size: int, test_fraction: float, with_result: bool) -> dict[str, GameSplit]:
  """Reads games and divides them, by their first moves, into 'train' and 'test'.

  Games on another board than `size` x `size`, and illegal or damaged ones, are left out; the log
  says how many.

  Args:
    dataset: paths with commas between, as `data.go.source.GoGames` takes them.
    size: N, the side of the board.
    test_fraction: the share of the games that is for the test.
    with_result: whether games must say who won.

  Raises:
    ValueError: on a path that is not there, or a split without games.
  """
  parts = [collection.load(path) for path in _paths(dataset)]
  games = _keep_legal(_join(parts), size, dataset, parts)
  known = _usable(games, size, with_result, dataset)
  tests = _digests(games['points']) < test_fraction * 2**32
  splits = {name: known & (tests == (name == 'test')) for name in SPLITS}
  for name, chosen in splits.items():
    if not chosen.any():
      raise ValueError(
        f'data.dataset={dataset!r}: leaves no game for the split {name!r}; there are'
        f' {int(known.sum())}, of which data.test_fraction={test_fraction} are for the test'
      )
  return {name: _split(games, chosen, size) for name, chosen in splits.items()}


# -------- reading --------


def _paths(dataset: str) -> list[pathlib.Path]:
  paths = [pathlib.Path(os.path.expanduser(x.strip())) for x in dataset.split(',') if x.strip()]
  if not paths:
    raise ValueError(
      f'data.dataset={dataset!r}: give FILE[,FILE], files with a game in SGF a line (.gz or not),'
      ' or folders of SGF files'
    )
  for path in paths:
    if not path.exists():
      raise ValueError(f'data.dataset={dataset!r}: there is no {path}')
  return paths


def _join(parts: list[Collection]) -> Columns:
  """Returns the games of all parts: the fields of `Games`, and some of `Collection`."""
  games = [_columns(part) for part in parts]
  longest = max(part['points'].shape[1] for part in games)
  for part in games:
    wide = ((0, 0), (0, longest - part['points'].shape[1]))
    part['points'] = np.pad(part['points'], wide, constant_values=NEVER)
  return {name: np.concatenate([part[name] for part in games]) for name in games[0]}


def _columns(part: Collection) -> Columns:
  moves = np.where(part.moves < 0, np.uint16(NEVER), part.moves.astype(np.uint16))
  size, first = part.size.astype(np.int32), part.first.astype(np.int32)
  start, blacks = np.zeros_like(size), np.zeros_like(size)
  rows = [_trim(row, n * n) for row, n in zip(moves, size, strict=True)]
  trimmed = np.array([len(row) for row in rows], np.int32) < part.lengths
  # Stones set up are the first entries, black's before white's.
  for game in np.flatnonzero(part.start):
    board = part.boards[part.start[game], : size[game], : size[game]].ravel()
    stones = [np.flatnonzero(board == colour).astype(np.uint16) for colour in (1, -1)]
    blacks[game], start[game] = len(stones[0]), len(stones[0]) + len(stones[1])
    rows[game] = np.concatenate([*stones, rows[game]])
  lengths = np.array([len(row) for row in rows], np.int32)
  points = np.full((len(rows), max(lengths, default=0)), NEVER, np.uint16)
  for number, row in enumerate(rows):
    points[number, : len(row)] = row
  fields = {'points': points, 'start': start, 'blacks': blacks, 'first': first, 'size': size}
  drawn = (part.result == 0) & (part.margin == 0)
  known = {'lengths': lengths, 'result': part.result, 'drawn': drawn, 'komi': part.komi}
  return {**fields, **known, 'trimmed': trimmed}


def _trim(moves: np.ndarray, passing: int) -> np.ndarray:
  """Returns the moves until the second of two passes, after which the game is over."""
  moves = moves[moves != NEVER]
  twice = np.flatnonzero((moves[:-1] == passing) & (moves[1:] == passing))
  return moves[: twice[0] + 2] if len(twice) else moves


def _games(columns: Columns) -> Games:
  return Games(*(columns[field] for field in Games._fields))


def _keep_legal(games: Columns, size: int, name: str, parts: list[Collection]) -> Columns:
  """Returns the games on this board that are legal, with `gone`; logs the others."""
  here = np.flatnonzero(games['size'] == size)
  if others := len(games['size']) - len(here):
    logging.warning('%s: %d games on other boards than %d are left out', name, others, size)
  games = {key: x[here] for key, x in games.items()}
  played = replay.play(_games(games), size)
  if played.why:
    names = [name for part in parts for name in part.names]
    game, why = next(iter(played.why.items()))
    turn = played.illegal[game] - games['start'][game] + 1
    logging.warning(
      '%s: %d of %d games are left out, the first of them game %d: move %d: %s (%s)',
      *(name, len(played.why), len(here), here[game] + 1, turn, why, names[here[game]]),
    )
  legal = played.illegal < 0
  return {**{key: x[legal] for key, x in games.items()}, 'gone': played.gone[legal]}


def _usable(games: Columns, size: int, with_result: bool, name: str) -> np.ndarray:
  """Returns bool [G], which games there is something to learn from; logs the others."""
  moves = _targets(_games(games), size).any(1)
  known = (games['result'] != 0) | games['drawn'] if with_result else np.ones_like(moves)
  said = [
    (~moves, 'games are left out, as they have no move but passes'),
    (moves & ~known, 'games are left out, as they do not say who won'),
    (games['trimmed'], 'games end at two passes, though moves follow'),
  ]
  if with_result and len(games['komi']):
    values, counts = np.unique(games['komi'][known], return_counts=True)
    if len(values) > 1:
      usual = values[np.argmax(counts)]
      said.append((known & (games['komi'] != usual), f'results are by another komi than {usual:g}'))
  for which, text in said:
    if which.any():
      logging.warning('%s: %d %s', name, which.sum(), text)
  return moves & known


# -------- splits --------


def _digests(points: np.ndarray) -> np.ndarray:
  """Returns uint32 [G] of each game's beginning: the same wherever and how often it occurs."""
  begins = (row[row != NEVER][:PREFIX] for row in points)
  found = [hashlib.blake2b(row.tobytes(), digest_size=4).digest() for row in begins]
  return np.array([int.from_bytes(x, 'little') for x in found], np.uint32)


def _targets(games: Games, size: int) -> np.ndarray:
  """Returns bool [G, E]: the entries that are to be predicted, moves other than passes."""
  entry = np.arange(games.points.shape[1])[None]
  return (games.points < size * size) & (entry >= games.start[:, None])


def _split(games: Columns, chosen: np.ndarray, size: int) -> GameSplit:
  columns = {key: x[chosen] for key, x in games.items()}
  points, is_target = columns['points'], _targets(_games(columns), size)
  if points.size > 2**31 - 1:
    raise ValueError(f'{len(points)} games of up to {points.shape[1]} moves: too many to number')
  return GameSplit(
    games=_games(columns),
    gone=columns['gone'],
    lengths=columns['lengths'],
    result=columns['result'],
    targets=np.flatnonzero(is_target).astype(np.int32),
    first_target=np.concatenate([[0], np.cumsum(is_target.sum(1))]).astype(np.int32),
  )
