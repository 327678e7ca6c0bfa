"""Which records make up a batch, and how they reach the devices.

**A training batch is a pure function of (seed, step).** No iterator has a state that could be lost,
so a resumed run sees the same bytes in the same order, on any number of devices and processes.

A batch is a dict of global arrays whose axis 0, B, is cut over the devices; a process reads only
the rows of its own devices. Every source gives

  index: int32 [B], the record's number in its split (or epoch), -1 for padding.
  mask: float32, 1 for what counts in losses and metrics and 0 for padding; [B], of text [B, T].

and, by its kind,

  images    image: uint8 [B, H, W, C], label: int32 [B].
  text      tokens: int32 [B, T + 1], of which the last T are to be predicted, where mask [B, T]
            has 1; with packing='documents' also segments: int32 [B, T + 1], 1, 2, ... for the
            documents of a row and 0 for padding.
  parallel  source, target: int32 [B, L], pieces of a joint vocabulary with EOS (2) behind them and
            0 for padding; B and L are those of a bucket (`data.text.parallel.buckets`).
  go_games  points, gone: uint16 [B, E], count, start, blacks, first: int32 [B], the record of a
            position, from which `mcts.go.recorded` makes a state; move: int32 [B], what was played
            in it, row * N + column; result: float32 [B], 1 if the player to move won, else -1 (0
            for a draw).

A source is made of two parts: an order says which records a step has, and a `Loader`, one for each
kind of data, reads and decodes them.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import NamedSharding

from data import permutation

Batch = dict[str, jax.Array]
Pending = Callable[[], Batch]  # waits for a batch whose loading has begun
Fields = dict[str, jax.ShapeDtypeStruct]  # name -> shape and dtype in a batch, without its axis B

# The most records of which an epoch's permutation is kept, at 4 bytes each and 20 times the speed
# of one that is computed.
LARGEST_TABLE = 1 << 24


class Loader(Protocol):
  """Loads batches of given records."""

  @property
  def prefetch(self) -> int:
    """The number of batches worth starting ahead of the one that is wanted."""
    ...

  @property
  def fields(self) -> Fields:
    """What a batch holds of each record."""
    ...

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> Pending:
    """Begins to load a batch.

    Args:
      rows: [B] record numbers, -1 for padding, which comes last.
      seed: of what is drawn while decoding.
    """
    ...


class EpochOrder:
  """The endless sequence of records: a permutation of all of them for each epoch.

  Position p holds record permutation(seed, p // size)[p % size]: no record is dropped at the end
  of an epoch, a batch may reach into the next one, or be larger than the set.
  """

  def __init__(self, seed: int, size: int):
    if seed < 0:
      raise ValueError(f'seed={seed}: must be at least 0')
    self.seed, self.size = seed, size
    self._epochs: dict[int, np.ndarray] = {}  # a cache: no state that a batch depends on

  def rows(self, step: int, batch_size: int) -> np.ndarray:
    """Returns int32 [batch_size], the records of a step."""
    positions = step * batch_size + np.arange(batch_size)
    epochs = positions // self.size
    # One permutation, or two where the batch reaches into the next epoch; older ones are dropped.
    needed = range(int(epochs[0]), int(epochs[-1]) + 1)
    if self.size <= LARGEST_TABLE:
      self._epochs = {epoch: self._permutation(epoch) for epoch in needed}
    rows = np.empty(batch_size, np.int32)
    for epoch in needed:
      here = epochs == epoch
      rows[here] = self._records(epoch, positions[here] % self.size)  # each record once an epoch
    return rows

  def _records(self, epoch: int, positions: np.ndarray) -> np.ndarray:
    if self.size <= LARGEST_TABLE:
      return self._epochs[epoch][positions]
    return permutation.permuted(positions, self.size, (self.seed, epoch))

  def _permutation(self, epoch: int) -> np.ndarray:
    if epoch in self._epochs:
      return self._epochs[epoch]
    # A generator an epoch, so that a resumed run need not replay those before.
    return np.random.default_rng((self.seed, epoch)).permutation(self.size).astype(np.int32)


class AbstractSource:
  """What a batch will look like; of data that need not be there, for a program to be compiled."""

  def __init__(self, fields: Fields, batch_size: int, sharding: NamedSharding):
    self._fields, self._batch_size, self._sharding = fields, batch_size, sharding

  def trace(self, variables: Any) -> tuple[dict[str, Any], Batch]:
    """Returns no program, since reading is the host's work, and the abstract batch."""
    del variables

    def rows(field: jax.ShapeDtypeStruct) -> Any:
      shape = (self._batch_size, *field.shape)
      return jax.ShapeDtypeStruct(shape, field.dtype, sharding=self._sharding)

    return {}, {name: rows(field) for name, field in self._fields.items()}


class TrainSource(AbstractSource):
  """Shuffled batches without end, as `train.task.Source`; `next` never waits for a device."""

  def __init__(self, loader: Loader, order: EpochOrder, batch_size: int, sharding: NamedSharding):
    super().__init__(loader.fields, batch_size, sharding)
    self._loader, self._order = loader, order
    self._ahead: dict[int, Pending] = {}  # by step

  def init(self, key: jax.Array) -> tuple:
    """Returns the carry, which is empty: a batch depends on no other."""
    del key
    return ()

  def next(self, carry: tuple, step: int, variables=None) -> tuple[tuple, Batch]:
    """Returns the batch of `step`, and begins to load those of the steps that follow."""
    del variables
    wanted = range(int(step), int(step) + 1 + self._loader.prefetch)
    # Anew from the wanted steps: what was begun for steps that are not asked for is let go.
    self._ahead = {s: self._ahead.get(s) or self._start(s) for s in wanted}
    return carry, self._ahead.pop(wanted[0])()  # waits for the loader, not for a device

  def _start(self, step: int) -> Pending:
    rows = self._order.rows(step, self._batch_size)
    # What is drawn while decoding is a function of the seed and the step, like the rows.
    return self._loader.start(rows, (self._order.seed, step))


class EvalBatches:
  """Every record once, in order, or those of `rows`; the last batch is filled up with mask 0."""

  def __init__(self, loader: Loader, size: int, batch_size: int, rows: np.ndarray | None = None):
    self._loader, self._batch_size = loader, batch_size
    self._rows = np.arange(size) if rows is None else rows

  def __len__(self) -> int:
    return -(-len(self._rows) // self._batch_size)

  def __iter__(self) -> Iterator[Batch]:
    ahead: list[Pending] = []
    # Batches of one size to the end, so that evaluation compiles once.
    padded = np.full(len(self) * self._batch_size, -1, np.int32)
    padded[: len(self._rows)] = self._rows
    for number, rows in enumerate(padded.reshape(-1, self._batch_size)):
      ahead.append(self._loader.start(rows, (0, number)))
      if len(ahead) > self._loader.prefetch:  # full: now wait for the first
        yield ahead.pop(0)()
    for pending in ahead:
      yield pending()


def even_rows(count: int, size: int) -> np.ndarray:
  """Returns `count` record numbers of `size`, ascending, that stand for all of them.

  One is drawn of each of `count` parts of equal length, always the same one. So a split that is
  sorted by class gives each class its share, and no period in the order of the records meets one
  in the draw. 0, or more than there are, is all.
  """
  if not 0 < count < size:
    return np.arange(size)
  ends = np.arange(count + 1) * size // count
  return np.random.default_rng(0).integers(ends[:-1], ends[1:])


def local_positions(sharding: NamedSharding, batch_size: int) -> np.ndarray:
  """Returns the positions in the batch, ascending, that this process' devices hold."""
  # A set: devices that replicate a part hold the same rows, which are read once.
  parts = sharding.addressable_devices_indices_map((batch_size,)).values()
  return np.unique(np.concatenate([np.arange(batch_size)[part] for part in parts]))


def to_global(
  local: dict[str, np.ndarray], positions: np.ndarray, sharding: NamedSharding, batch_size: int
) -> Batch:
  """Returns this process' rows of a batch, [len(positions), ...], as global [batch_size, ...]."""

  def array(values: np.ndarray) -> jax.Array:
    def shard(index: Any) -> np.ndarray:
      held = np.arange(batch_size)[index[0]]  # the shard's rows of the batch
      # A shard's rows are consecutive in the batch, and so they are among this process' own.
      first = int(np.searchsorted(positions, held[0]))
      return values[first : first + len(held)]

    return jax.make_array_from_callback((batch_size, *values.shape[1:]), sharding, shard)

  return {name: array(values) for name, values in local.items()}


def record_fields(**own: tuple[tuple[int, ...], Any]) -> Fields:
  """Returns what every batch holds of a record, and what this kind does.

  own: name -> shape and dtype of one record.
  """
  fields = {'index': ((), np.int32), 'mask': ((), np.float32), **own}
  return {name: jax.ShapeDtypeStruct(*field) for name, field in fields.items()}


def num_shards(sharding: NamedSharding) -> int:
  """Returns the number of parts into which axis 0 is cut."""
  axes = sharding.spec[0] if sharding.spec else None
  names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
  return int(np.prod([sharding.mesh.shape[name] for name in names], dtype=int))


def check_divisible(name: str, batch_size: int, sharding: NamedSharding) -> None:
  """Raises ValueError if the batch size `data.NAME` is no multiple of the number of shards."""
  shards = num_shards(sharding)
  if batch_size % shards:
    below = batch_size // shards * shards
    nearest = [str(n) for n in (below, below + shards) if n]
    raise ValueError(
      f'data.{name}={batch_size}: must be divisible by the {shards} parts that the mesh cuts a '
      f'batch into; nearest: {" or ".join(nearest)}'
    )
