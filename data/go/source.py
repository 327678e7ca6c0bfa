"""The config section `data=dict(name='go_games', ...)`: positions of recorded games of Go."""

import dataclasses
import functools

import numpy as np
from jax.sharding import NamedSharding

from data import checks, fingerprint, pipeline
from data.go import games
from data.go.games import GameSplit
from data.go.loader import PositionLoader, fields

POSITIONS = ('all', 'one')


@dataclasses.dataclass(frozen=True)
class GoMetadata:
  """What programs are built from: the side of the board, and the batch size."""

  size: int
  batch_size: int

  @property
  def entries(self) -> int:
    """E, which records of games decide; here as many as rules allow moves in self-play."""
    return 2 * self.size**2

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.AbstractSource:
    """Returns what training batches look like."""
    del seed
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    return pipeline.AbstractSource(fields(self.entries), self.batch_size, sharding)


class GoGames:
  """Positions of recorded games in batches; what a batch holds is said in `data.pipeline`.

  Games on another board, illegal or damaged ones, those without a move and (`with_result`) those
  that do not say who won are left out, and what follows two passes; the log counts and names them.
  A record keeps no dates, so games are divided into train and test by their first moves. Passes are
  not to be predicted.

  Args:
    dataset: one or more paths with commas between: text files with a game in SGF a line, folders of
      SGF files, or single ones, which may hold several games; all of these gzipped or not.
    size: N, the side of the board.
    batch_size: B of training.
    eval_batch_size: B of evaluations; 0 is `batch_size`.
    test_fraction: the share of the games that is for the test.
    eval_positions: positions of a split that an evaluation sees, spread evenly; 0 is all.
    positions: 'all', or 'one': an epoch has one position of each game, drawn anew (Silver et al.
      2016, "Training the value network": otherwise it learns whole games by heart).
    with_result: whether only games are read that say who won.
    symmetries: whether training positions are rotated or mirrored at random.
    read: whether games are read, and mistakes show, at once; else when they are needed.

  Raises:
    ValueError: on what does not fit together or is not there.
  """

  def __init__(
    self,
    dataset: str = '',
    size: int = 19,
    batch_size: int = 128,
    eval_batch_size: int = 0,
    test_fraction: float = 0.1,
    eval_positions: int = 0,
    positions: str = 'all',
    with_result: bool = False,
    symmetries: bool = True,
    *,
    read: bool = True,
  ):
    checks.at_least(2, size=size)
    checks.at_least(1, batch_size=batch_size)
    checks.at_least(0, eval_batch_size=eval_batch_size, eval_positions=eval_positions)
    checks.share(test_fraction=test_fraction)
    checks.choice(POSITIONS, positions=positions)
    self.dataset, self.size, self.test_fraction = dataset, size, test_fraction
    self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
    self.eval_positions, self.one_per_game = eval_positions, positions == 'one'
    self.with_result, self.symmetries = with_result, symmetries
    if read:
      self._splits  # noqa: B018  what is wrong with the games should show at once

  @classmethod
  def metadata(cls, size: int = 19, batch_size: int = 128, **rest) -> GoMetadata:
    """Returns what programs are built from; no game is read."""
    del rest
    return GoMetadata(size, batch_size)

  def describe(self) -> str:
    """Returns the games and their positions in a line."""
    train, test = (self.split(split) for split in games.SPLITS)
    return (
      f'{self.dataset}, {len(train.lengths):,} games of {len(train.targets):,} positions to train'
      f' on, {len(test.lengths):,} games of {len(test.targets):,} positions to evaluate, on'
      f' {self.size} x {self.size}'
    )

  @property
  def entries(self) -> int:
    """E, the number of entries (stones set up, and turns) of the longest game."""
    return self._splits['train'].games.points.shape[1]

  def num_positions(self, split: str) -> int:
    """Returns the number of positions in an epoch of `split`."""
    found = self.split(split)
    return len(found.games.points) if self.one_per_game else len(found.targets)

  def split(self, split: str) -> GameSplit:
    """Returns the games of 'train' or 'test'."""
    if split not in games.SPLITS:
      raise ValueError(f'split {split!r}: choose from {", ".join(games.SPLITS)}')
    return self._splits[split]

  def fingerprints(self) -> dict[str, str]:
    """Returns split -> a hash of its games (`data.fingerprint`); {} until they are read."""
    read = self._splits if '_splits' in vars(self) else {}
    return {name: fingerprint.of_arrays(*split.games, split.result) for name, split in read.items()}

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.TrainSource:
    """Returns shuffled batches without end, cut over axis 0 as `sharding` says."""
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    order = pipeline.EpochOrder(seed, self.num_positions('train'))
    split = self.split('train')
    loader = PositionLoader(split, self.size, sharding, self.one_per_game, self.symmetries)
    return pipeline.TrainSource(loader, order, self.batch_size, sharding)

  def eval_batches(self, split: str, sharding: NamedSharding) -> pipeline.EvalBatches:
    """Returns batches of positions of `split`, each once, in order; can be iterated again."""
    pipeline.check_divisible('eval_batch_size', self.eval_batch_size, sharding)
    total = self.num_positions(split)
    size = min(self.eval_positions or total, total)
    chosen = np.linspace(0, total - 1, size).astype(np.int32)
    loader = PositionLoader(
      self.split(split), self.size, sharding, self.one_per_game, chosen=chosen
    )
    return pipeline.EvalBatches(loader, size, self.eval_batch_size)

  def close(self) -> None:
    """Does nothing: no thread was started."""

  @functools.cached_property
  def _splits(self) -> dict[str, GameSplit]:
    return games.load(self.dataset, self.size, self.test_fraction, self.with_result)
