"""Which records make up a batch, and how they reach the devices.

A training batch is a pure function of (seed, step): there is no iterator whose state could be
lost. Two feeders turn record numbers into a batch: `Memory` gathers from decoded images that every
device holds, `Stream` reads and decodes ahead of time in threads. Both give

  {'image': uint8 [B, H, W, C], 'label': int32 [B], 'index': int32 [B] the record's number in the
   split or -1, 'mask': float32 [B] 1 for a record and 0 for padding}

as global arrays, sharded over axis 0; a process reads only the rows of its own devices.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from data.images.records import Records, decode_rows

ROWS_PER_TASK = 8  # decoded by one thread in one go

Batch = dict[str, jax.Array]
Ready = Callable[[], Batch]  # waits for a batch that was started


class Feeder(Protocol):
  prefetch: int  # batches worth starting ahead of the one that is wanted

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> Ready:
    """Begins the batch of `rows` [B], record numbers or -1; `seed` is for random decoding."""


class Order:
  """The endless sequence of records: a permutation of all of them for each epoch.

  Position p holds record permutation(seed, p // size)[p % size]: no record is dropped at the end
  of an epoch, a batch may reach into the next one, or be larger than the set.
  """

  def __init__(self, seed: int, size: int):
    self.seed, self.size = seed, size
    self._epochs: dict[int, np.ndarray] = {}

  def rows(self, step: int, batch_size: int) -> np.ndarray:
    """int32 [batch_size], the records of a step."""
    positions = step * batch_size + np.arange(batch_size)
    epochs = positions // self.size
    needed = range(int(epochs[0]), int(epochs[-1]) + 1)
    self._epochs = {epoch: self._permutation(epoch) for epoch in needed}
    rows = np.empty(batch_size, np.int32)
    for epoch, permutation in self._epochs.items():
      here = epochs == epoch
      rows[here] = permutation[positions[here] % self.size]
    return rows

  def _permutation(self, epoch: int) -> np.ndarray:
    if epoch in self._epochs:
      return self._epochs[epoch]
    return np.random.default_rng((self.seed, epoch)).permutation(self.size).astype(np.int32)


class TrainSource:
  """The Source of the training loop: `next` never waits for a device."""

  def __init__(self, feeder: Feeder, order: Order, batch_size: int):
    self._feeder, self._order, self._batch_size = feeder, order, batch_size
    self._ahead: dict[int, Ready] = {}  # step -> a batch in the making

  def init(self, key) -> tuple:
    """Nothing is carried from batch to batch."""
    del key
    return ()

  def next(self, carry: tuple, step: int, variables=None) -> tuple[tuple, Batch]:
    """The batch of `step`; those of the steps that follow are begun."""
    del variables
    wanted = range(int(step), int(step) + 1 + self._feeder.prefetch)
    self._ahead = {s: self._ahead.get(s) or self._start(s) for s in wanted}
    return carry, self._ahead.pop(wanted[0])()

  def _start(self, step: int) -> Ready:
    rows = self._order.rows(step, self._batch_size)
    return self._feeder.start(rows, (self._order.seed, step))


class EvalBatches:
  """All records once, in order; the last batch is filled up with rows of mask 0."""

  def __init__(self, feeder: Feeder, size: int, batch_size: int):
    self._feeder, self._size, self._batch_size = feeder, size, batch_size

  def __len__(self) -> int:
    return -(-self._size // self._batch_size)

  def __iter__(self) -> Iterator[Batch]:
    ahead: list[Ready] = []
    for number in range(len(self)):
      rows = number * self._batch_size + np.arange(self._batch_size, dtype=np.int32)
      ahead.append(self._feeder.start(np.where(rows < self._size, rows, -1), (0, number)))
      if len(ahead) > self._feeder.prefetch:
        yield ahead.pop(0)()
    for ready in ahead:
      yield ready()


class Memory:
  """Images on every device; a batch is one compiled gather, without communication."""

  prefetch = 0

  def __init__(self, images: np.ndarray, labels: np.ndarray, sharding: NamedSharding):
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    self._sharding = sharding
    self._images, self._labels = (
      jax.make_array_from_callback(x.shape, everywhere, lambda index, x=x: x[index])
      for x in (images, labels)
    )
    self._gather = jax.jit(_gather, out_shardings=sharding)

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> Ready:
    del seed
    rows = rows.astype(np.int32)
    index = jax.make_array_from_callback(rows.shape, self._sharding, lambda part: rows[part])
    return lambda: self._gather(self._images, self._labels, index)


def _gather(images: jax.Array, labels: jax.Array, index: jax.Array) -> Batch:
  """[N, H, W, C], [N], [B] -> the batch; an index of -1 gives zeros."""
  real = index >= 0
  image = jnp.where(real[:, None, None, None], images[index], 0)
  label = jnp.where(real, labels[index], 0)
  return {'image': image, 'label': label, 'index': index, 'mask': real.astype(jnp.float32)}


class Stream:
  """Records read and decoded by threads, `prefetch` batches ahead."""

  def __init__(
    self,
    records: Records,
    offset: int,
    ops: Sequence,
    shape: tuple[int, int, int],
    sharding: NamedSharding,
    pool: ThreadPoolExecutor,
    prefetch: int,
  ):
    """Row 0 is record `offset`; `shape` is an image's, [H, W, C], after `ops`."""
    self._records, self._offset, self._ops, self._shape = records, offset, ops, shape
    self._sharding, self._pool, self.prefetch = sharding, pool, prefetch

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> Ready:
    """Record i of the batch is decoded with the generator of (*seed, i)."""
    mine = local_positions(self._sharding, len(rows))
    images = np.zeros((len(mine), *self._shape), np.uint8)
    labels = np.zeros(len(mine), np.int32)
    real = np.flatnonzero(rows[mine] >= 0)  # padding comes last, so these are 0, 1, ...

    def task(here: np.ndarray) -> None:
      rngs = [np.random.default_rng((*seed, int(i))) for i in mine[here]]
      these = [int(row) + self._offset for row in rows[mine[here]]]
      part = slice(here[0], here[-1] + 1)
      decode_rows(self._records, these, self._ops, rngs, images[part], labels[part])

    tasks = [
      self._pool.submit(task, real[i : i + ROWS_PER_TASK])
      for i in range(0, len(real), ROWS_PER_TASK)
    ]

    def ready() -> Batch:
      for each in tasks:
        each.result()
      index = rows[mine].astype(np.int32)
      mask = (index >= 0).astype(np.float32)
      local = {'image': images, 'label': labels, 'index': index, 'mask': mask}
      return {k: to_global(x, mine, self._sharding, len(rows)) for k, x in local.items()}

    return ready


def local_positions(sharding: NamedSharding, batch_size: int) -> np.ndarray:
  """The positions in the batch, ascending, that this process' devices hold."""
  parts = sharding.addressable_devices_indices_map((batch_size,)).values()
  return np.unique(np.concatenate([np.arange(batch_size)[part] for part in parts]))


def to_global(local, positions: np.ndarray, sharding: NamedSharding, batch_size: int) -> jax.Array:
  """[len(positions), ...], this process' rows of a batch -> the global [batch_size, ...]."""

  def shard(index: tuple[slice, ...]):
    held = np.arange(batch_size)[index[0]]
    first = int(np.searchsorted(positions, held[0]))
    return local[first : first + len(held)]

  return jax.make_array_from_callback((batch_size, *local.shape[1:]), sharding, shard)


def num_shards(sharding: NamedSharding) -> int:
  """Into how many parts axis 0 is cut."""
  axes = sharding.spec[0] if sharding.spec else None
  names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
  return int(np.prod([sharding.mesh.shape[name] for name in names], dtype=int))


def check_divisible(name: str, batch_size: int, sharding: NamedSharding) -> None:
  """Raises ValueError where the setting `data.NAME` does not share out evenly."""
  shards = num_shards(sharding)
  if batch_size % shards:
    below = batch_size // shards * shards
    nearest = [str(n) for n in (below, below + shards) if n]
    raise ValueError(
      f'data.{name}={batch_size}: must be divisible by the {shards} parts that the mesh cuts a '
      f'batch into; nearest: {" or ".join(nearest)}'
    )
