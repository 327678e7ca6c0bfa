"""Loaders of image batches: from pixels on the devices, or read and decoded ahead."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from data import pipeline
from data.images.workers import Decoding, Processes, Threads
from data.remarks import Remarks


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
  """Reads and decodes records in threads or processes, `prefetch` batches ahead.

  Record i of a batch is decoded with a generator of (*seed, i), whoever does it.
  """

  def __init__(
    self,
    decoder: Threads | Processes,
    what: Decoding,
    offset: int,
    sharding: NamedSharding,
    prefetch: int,
    remarks: Remarks,
  ):
    """Takes what decodes and what is decoded, and the record of the split that is row 0."""
    self._decoder, self._what, self._offset = decoder, what, offset
    self._sharding, self.prefetch, self._remarks = sharding, prefetch, remarks
    self.fields = fields(what.shape)

  def start(self, rows: np.ndarray, seed: tuple[int, ...]) -> pipeline.Pending:
    mine = pipeline.local_positions(self._sharding, len(rows))
    real = mine[rows[mine] >= 0]  # padding comes last
    these = (rows[real] + self._offset).tolist()
    seeds = [(*seed, i) for i in real.tolist()]
    decoding = self._decoder.start(self._what, these, seeds, len(mine), self._remarks)

    def wait() -> pipeline.Batch:
      images, labels = decoding()
      self._remarks.say(so_far=True)
      index = rows[mine].astype(np.int32)
      mask = (index >= 0).astype(np.float32)
      local = {'image': images, 'label': labels, 'index': index, 'mask': mask}
      return pipeline.to_global(local, mine, self._sharding, len(rows))

    return wait
