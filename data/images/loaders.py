"""Loaders of image batches: from pixels on the devices, or read and decoded ahead in threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from data import pipeline
from data.images.decode import Op
from data.images.records import Records, decode_rows
from data.remarks import Remarks

RECORDS_PER_TASK = 8  # decoded by one thread in one go


def fields(shape: tuple[int, ...]) -> pipeline.Fields:
  """Returns what a batch holds of an image of a shape [H, W, C]."""
  return pipeline.record_fields(image=(shape, np.uint8), label=((), np.int32))


class InMemoryLoader:
  """Gathers from images that every device holds; the compiled gather communicates nothing."""

  prefetch = 0

  def __init__(self, images: np.ndarray, labels: np.ndarray, sharding: NamedSharding):
    """Places images, uint8 [N, H, W, C], and labels, int32 [N], on all devices."""
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())

    def place(values: np.ndarray) -> jax.Array:
      return jax.make_array_from_callback(values.shape, everywhere, lambda index: values[index])

    self._sharding = sharding
    self._images, self._labels = place(images), place(labels)
    self.fields = fields(images.shape[1:])
    self._gather = jax.jit(_gather, out_shardings=sharding)

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> pipeline.Pending:
    del seed
    rows = rows.astype(np.int32)
    index = jax.make_array_from_callback(rows.shape, self._sharding, lambda part: rows[part])
    return lambda: self._gather(self._images, self._labels, index)


def _gather(images: jax.Array, labels: jax.Array, index: jax.Array) -> pipeline.Batch:
  """Returns the batch of images [N, H, W, C] and labels [N] at index [B]; zeros at -1."""
  real = index >= 0
  image = jnp.where(real[:, None, None, None], images[index], 0)
  label = jnp.where(real, labels[index], 0)
  return {'image': image, 'label': label, 'index': index, 'mask': real.astype(jnp.float32)}


class StreamingLoader:
  """Reads and decodes records in threads, `prefetch` batches ahead.

  Record i of a batch is decoded with a generator of (*seed, i), whichever process does it.
  """

  def __init__(
    self,
    records: Records,
    offset: int,
    ops: Sequence[Op],
    shape: tuple[int, int, int],
    sharding: NamedSharding,
    pool: ThreadPoolExecutor,
    prefetch: int,
  ):
    """Takes the record that is row 0, `offset`, and an image's shape [H, W, C] after `ops`."""
    self._records, self._offset, self._ops, self._shape = records, offset, ops, shape
    self._sharding, self._pool, self.prefetch = sharding, pool, prefetch
    self.fields = fields(shape)
    self._remarks = Remarks(records.name)

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> pipeline.Pending:
    mine = pipeline.local_positions(self._sharding, len(rows))
    images = np.zeros((len(mine), *self._shape), np.uint8)
    labels = np.zeros(len(mine), np.int32)
    real = np.flatnonzero(rows[mine] >= 0)  # padding comes last, so these are 0, 1, ...

    def decode(here: np.ndarray) -> None:
      rngs = [np.random.default_rng((*seed, int(i))) for i in mine[here]]
      these = [int(row) + self._offset for row in rows[mine[here]]]
      part = slice(here[0], here[-1] + 1)
      into = images[part], labels[part]
      decode_rows(self._records, these, self._ops, rngs, *into, self._remarks)

    tasks = [
      self._pool.submit(decode, real[i : i + RECORDS_PER_TASK])
      for i in range(0, len(real), RECORDS_PER_TASK)
    ]

    def wait() -> pipeline.Batch:
      for task in tasks:
        task.result()
      self._remarks.say(so_far=True)
      index = rows[mine].astype(np.int32)
      mask = (index >= 0).astype(np.float32)
      local = {'image': images, 'label': labels, 'index': index, 'mask': mask}
      return pipeline.to_global(local, mine, self._sharding, len(rows))

    return wait
