"""Which pairs make up a batch: of like length, so that few of its places are padding.

A pair belongs to the first bucket that both of its sides fit into; a batch is of one bucket, and
has as many rows as its length leaves room for in `batch_tokens`. So a step is compiled once for
each bucket, and a batch is still a function of seed and step alone.
"""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jax.sharding import NamedSharding

from data import pipeline
from data.text.corpus import Tokens
from data.text.parallel.tokenizer import ended


class Side:
  """The sentences of one language of a split, as ids.

  lengths: int64 [N], ids of each sentence with EOS.
  """

  def __init__(self, tokens: Tokens):
    self._stream, self._begins = np.asarray(tokens.stream), tokens.begins
    # Where a tokenizer has an end-of-text token, one stands in front of each sentence.
    self._front = int(tokens.begins[-1] < len(tokens.stream))
    self.lengths = np.diff(tokens.begins) - self._front + 1

  def read(self, rows: np.ndarray, length: int) -> np.ndarray:
    """Returns int32 [rows, length], padded with 0; a longer sentence is cut, and keeps its EOS."""
    ids = np.zeros((len(rows), length), np.int32)
    for place, row in zip(ids, rows, strict=True):
      first = self._begins[row] + self._front
      found = ended(self._stream[first : first + min(self.lengths[row], length) - 1])
      place[: len(found)] = found
    return ids


@dataclasses.dataclass(frozen=True)
class Bucket:
  """The pairs of one range of lengths: batches of `batch_size` rows, [batch_size, length] a side.

  rows: int64 [N], numbers of the pairs in their split.
  """

  length: int
  batch_size: int
  rows: np.ndarray


def make_buckets(
  sizes: dict[int, int], longest: np.ndarray, rows: np.ndarray, *, cut: bool = False
) -> list[Bucket]:
  """Divides pairs into buckets; empty ones are left out.

  Args:
    sizes: length of each bucket, ascending -> its rows in a batch.
    longest: [N], ids of the longer side of every pair of the split.
    rows: the pairs to divide.
    cut: whether what is longer than the last bucket belongs to it all the same.
  """
  lengths = list(sizes)
  number = np.searchsorted(lengths, longest[rows])
  number = np.minimum(number, len(lengths) - 1) if cut else number
  buckets = [Bucket(x, sizes[x], rows[number == i]) for i, x in enumerate(lengths)]
  return [bucket for bucket in buckets if len(bucket.rows)]


class BucketOrder(pipeline.EpochOrder):
  """The endless sequence of batches: those of all buckets, mixed anew in each epoch.

  Each bucket goes through its pairs in the order of `pipeline.EpochOrder`. Of its batches epoch e
  has number floor(e N / B) up to floor((e + 1) N / B), so that no bucket gets ahead of its share
  and no pair is dropped where a batch is not filled at the end of an epoch.
  """

  def __init__(self, seed: int, buckets: Sequence[Bucket]):
    super().__init__(seed, sum(len(bucket.rows) for bucket in buckets))
    self.buckets = buckets
    self._orders = [pipeline.EpochOrder(seed, len(bucket.rows)) for bucket in buckets]
    self._mixed: tuple[int, np.ndarray] = (-1, np.zeros(0, int))  # a cache: no state

  def rows(self, step: int, batch_size: int = 0) -> np.ndarray:
    """Returns int64 [B], the pairs of a step; B is their bucket's, whatever `batch_size` is."""
    epoch = self._epoch(step)
    before = self._begun(epoch)
    mixed, place = self._mix(epoch), step - int(before.sum())
    which = int(mixed[place])
    bucket, number = self.buckets[which], before[which] + np.sum(mixed[:place] == which)
    return bucket.rows[self._orders[which].rows(int(number), bucket.batch_size)]

  def _begun(self, epoch: int) -> np.ndarray:
    """Returns how many batches of each bucket are before an epoch."""
    return np.array([epoch * len(x.rows) // x.batch_size for x in self.buckets], np.int64)

  def _epoch(self, step: int) -> int:
    """Returns the epoch of a step; an epoch of a tiny set may have no batch at all."""
    epoch = int(step / sum(len(x.rows) / x.batch_size for x in self.buckets))
    while self._begun(epoch).sum() > step:
      epoch -= 1
    while self._begun(epoch + 1).sum() <= step:
      epoch += 1
    return epoch

  def _mix(self, epoch: int) -> np.ndarray:
    """Returns the bucket of each batch of an epoch."""
    if self._mixed[0] != epoch:
      counts = self._begun(epoch + 1) - self._begun(epoch)
      order = np.repeat(np.arange(len(counts)), counts)
      self._mixed = epoch, np.random.default_rng((self.seed, epoch, 2)).permutation(order)
    return self._mixed[1]


def in_batches(buckets: Sequence[Bucket]) -> np.ndarray:
  """Returns every pair once, bucket by bucket, each filled up with -1 to whole batches."""
  filled = []
  for bucket in buckets:
    missing = -len(bucket.rows) % bucket.batch_size
    filled.append(np.append(bucket.rows, np.full(missing, -1)))
  return np.concatenate(filled)


class PairLoader:
  """Reads pairs in a thread, `prefetch` batches ahead; a process reads its own rows only.

  lengths: of the buckets, ascending. A batch has the first that all of its pairs fit into, and the
    last if none is: sentences are then cut.
  """

  def __init__(
    self,
    sides: tuple[Side, Side],
    lengths: Sequence[int],
    sharding: NamedSharding,
    pool: ThreadPoolExecutor,
    prefetch: int,
  ):
    self._sides, self._lengths, self._sharding = sides, lengths, sharding
    self._pool, self.prefetch = pool, prefetch
    self.fields = fields(lengths[-1])

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> pipeline.Pending:
    """Begins to load pairs [B], -1 for padding; nothing is drawn."""
    del seed
    mine = pipeline.local_positions(self._sharding, len(rows))
    reading = self._pool.submit(self._read, rows[mine], self._length(rows[rows >= 0]))
    return lambda: pipeline.to_global(reading.result(), mine, self._sharding, len(rows))

  def _length(self, rows: np.ndarray) -> int:
    longest = max(int(side.lengths[rows].max()) for side in self._sides)
    return next((length for length in self._lengths if length >= longest), self._lengths[-1])

  def _read(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
    real = rows >= 0
    source, target = (side.read(np.where(real, rows, 0), length) for side in self._sides)
    index, mask = rows.astype(np.int32), real.astype(np.float32)
    return {'index': index, 'mask': mask, 'source': source, 'target': target}


def fields(length: int) -> pipeline.Fields:
  """Returns what a batch holds of a pair in the bucket of a length."""
  return pipeline.record_fields(source=((length,), np.int32), target=((length,), np.int32))
