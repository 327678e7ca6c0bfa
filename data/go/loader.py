"""Batches of positions of recorded games, each a record from which a state is made."""

import dataclasses
import functools

import numpy as np
from jax.sharding import NamedSharding

from data import pipeline
from data.go.games import GameSplit


def fields(entries: int) -> pipeline.Fields:
  """Returns what a batch holds of a position in a game of up to `entries` entries."""
  numbers = {name: ((), np.int32) for name in ('count', 'start', 'blacks', 'first', 'move')}
  entry = ((entries,), np.uint16)
  return pipeline.record_fields(points=entry, gone=entry, result=((), np.float32), **numbers)


@dataclasses.dataclass(frozen=True)
class PositionLoader:
  """A `pipeline.Loader` of positions; a gather is so little work that none is begun ahead.

  split: the games.
  size: N, the side of the board.
  sharding: of the batch.
  one_per_game: whether rows are games, of each of which a position is drawn.
  symmetries: whether positions are rotated or mirrored at random.
  chosen: int32 [R], the numbers of the positions that rows mean; None is all.
  """

  split: GameSplit
  size: int
  sharding: NamedSharding
  one_per_game: bool = False
  symmetries: bool = False
  chosen: np.ndarray | None = None
  prefetch: int = 0

  @property
  def fields(self) -> pipeline.Fields:
    return fields(self.split.games.points.shape[1])

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> pipeline.Pending:
    mine, rng = pipeline.local_positions(self.sharding, len(rows)), np.random.default_rng(seed)
    numbers = np.where(rows >= 0, rows, 0)
    numbers = numbers if self.chosen is None else self.chosen[numbers]
    # Drawn for the whole batch, whichever part is this process's: so it depends on no layout.
    chance, symmetry = rng.random(len(rows)), rng.integers(8, size=len(rows))
    if self.one_per_game:
      numbers = self._draw(numbers, chance)
    local = self._positions(numbers[mine], symmetry[mine] * self.symmetries)
    real = rows[mine] >= 0
    local['index'] = np.where(real, numbers[mine], -1).astype(np.int32)
    local['mask'] = real.astype(np.float32)
    return lambda: pipeline.to_global(local, mine, self.sharding, len(rows))

  def _draw(self, games: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Returns the number of one position of each game, all with equal chances."""
    first = self.split.first_target
    return first[games] + (chance * (first[games + 1] - first[games])).astype(np.int32)

  def _positions(self, numbers: np.ndarray, symmetry: np.ndarray) -> dict[str, np.ndarray]:
    split, games = self.split, self.split.games
    game, entry = np.divmod(split.targets[numbers], games.points.shape[1])
    on_board = np.minimum(games.points[game], self.size**2)  # also after the game's end
    points = symmetry_table(self.size)[symmetry[:, None], on_board]
    start, first = games.start[game], games.first[game]
    black_to_play = (entry - start + first) % 2 == 0
    result = split.result[game].astype(np.float32)
    return {
      'points': points,
      'gone': split.gone[game],
      'count': entry.astype(np.int32),
      'start': start,
      'blacks': games.blacks[game],
      'first': first,
      'move': points[np.arange(len(entry)), entry].astype(np.int32),
      'result': np.where(black_to_play, result, -result),
    }


@functools.cache
def symmetry_table(size: int) -> np.ndarray:
  """Returns where each of the 8 symmetries moves a point: uint16 [8, N^2 + 1].

  The first is the identity; N^2, a pass, stays a pass.
  """
  points = np.arange(size * size, dtype=np.uint16).reshape(size, size)
  boards = [np.rot90(x, k) for x in (points, points.T) for k in range(4)]
  return np.stack([np.append(x.ravel(), np.uint16(size * size)) for x in boards])
