"""Labelled images for the training loop and its evaluations."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jax.sharding import NamedSharding

from data import pipeline
from data.images import datasets, decode, records

IN_MEMORY_BYTES = 1 << 30  # decoded; the largest split that in_memory='auto' holds on the devices


@dataclasses.dataclass(frozen=True)
class Outline:
  """Classes and the shape [H, W, C] of an image, of data that nobody reads."""

  classes: tuple[str, ...]
  image_shape: tuple[int, int, int]


class ImageData:
  """The config section of `data=dict(name='images', ...)`.

  `dataset` is 'digits', 'folder' or a TFDS name; splits are sliced as in TFDS, 'train[:90%]'.
  `decode_train` and `decode_eval` are specs of `data/images/decode.py` that bring every image to
  one
  shape; '' leaves images as they are. `in_memory` ('auto', 'yes', 'no') decodes once and keeps the
  pixels on the devices; a spec with randomness cannot. `eval_batch_size` 0 is `batch_size`,
  `workers` 0 a thread for each core, `prefetch` counts batches. Raises ValueError on what does
  not fit together or is not there.
  """

  def __init__(
    self,
    dataset: str = 'digits',
    data_dir: str | None = None,
    batch_size: int = 128,
    eval_batch_size: int = 0,
    train_split: str = 'train',
    eval_split: str = 'test',
    decode_train: str = '',
    decode_eval: str = '',
    in_memory: str = 'auto',
    workers: int = 0,
    prefetch: int = 2,
  ):
    if in_memory not in ('auto', 'yes', 'no'):
      raise ValueError(f'data.in_memory={in_memory!r}: unknown; choices: auto, yes, no')
    counts = {'eval_batch_size': eval_batch_size, 'workers': workers, 'prefetch': prefetch}
    for name, value, least in [('batch_size', batch_size, 1), *((*x, 0) for x in counts.items())]:
      if value < least:
        raise ValueError(f'data.{name}={value}: must be at least {least}')
    self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
    self.train_split, self.eval_split, self.prefetch = train_split, eval_split, prefetch
    self._in_memory = in_memory
    self._ops_train = decode.parse(decode_train, 'data.decode_train')
    self._ops_eval = decode.parse(decode_eval, 'data.decode_eval')
    if in_memory == 'yes' and decode.is_random(self._ops_train):
      raise ValueError(f"data.in_memory='yes': data.decode_train={decode_train!r} is random")
    if decode.is_random(self._ops_eval):
      raise ValueError(f'data.decode_eval={decode_eval!r}: must not be random')
    self._splits = datasets.load(dataset, data_dir)
    self._pool = ThreadPoolExecutor(workers or _cores(), 'decode')
    self._decoded: dict = {}  # (split, spec) -> its pixels, for slices of one split to share
    self._feeders: dict = {}
    self.num_examples(eval_split)  # a misspelt split should fail now, not at the first evaluation
    self.image_shape = records.shape_of(self._whole(train_split), self._ops_train)

  @classmethod
  def outline(
    cls, dataset: str = 'digits', decode_train: str = '', **rest
  ) -> 'Outline | ImageData':
    """What a network has to know of the data; a published set need not be there for that."""
    if dataset not in datasets.PUBLISHED:
      return cls(dataset=dataset, decode_train=decode_train, **rest)
    classes, shape = datasets.PUBLISHED[dataset]
    ops = decode.parse(decode_train, 'data.decode_train')
    image = decode.decode(np.zeros(shape, np.uint8), ops, shape[-1], np.random.default_rng(0))
    return Outline(tuple(map(str, range(classes))), image.shape)

  @property
  def classes(self) -> tuple[str, ...]:
    return self._whole(self.train_split).classes

  def num_examples(self, split: str) -> int:
    return len(records.part(self._splits, split)[1])

  def stored_as(self, split: str) -> str:
    """The format of a split's images, such as 'JPEG', by the first; '' where they are pixels."""
    return records.format_of(self._whole(split))

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.TrainSource:
    """Shuffled batches without end, as global arrays of `sharding`, which cuts axis 0."""
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    if seed < 0:
      raise ValueError(f'seed={seed}: must be at least 0')
    feeder = self._feeder(self.train_split, self._ops_train, sharding)
    order = pipeline.Order(seed, self.num_examples(self.train_split))
    return pipeline.TrainSource(feeder, order, self.batch_size)

  def eval_batches(self, split: str, sharding: NamedSharding) -> pipeline.EvalBatches:
    """Every record of `split` once, in order; can be iterated again."""
    pipeline.check_divisible('eval_batch_size', self.eval_batch_size, sharding)
    feeder = self._feeder(split, self._ops_eval, sharding)
    return pipeline.EvalBatches(feeder, self.num_examples(split), self.eval_batch_size)

  def close(self) -> None:
    """Drops what was decoded ahead; the batches handed out stay good."""
    self._pool.shutdown(wait=True, cancel_futures=True)

  def _whole(self, split: str) -> records.Records:
    """The split that `split` may be a slice of."""
    return self._splits[records.part(self._splits, split)[0]]

  def _feeder(self, split: str, ops, sharding: NamedSharding) -> pipeline.Feeder:
    key = split, str(ops), sharding
    if key not in self._feeders:
      self._feeders[key] = self._new_feeder(split, ops, sharding)
    return self._feeders[key]

  def _new_feeder(self, split: str, ops, sharding: NamedSharding) -> pipeline.Feeder:
    source, (name, rows) = self._whole(split), records.part(self._splits, split)
    shape = records.shape_of(source, ops)
    small = source.size * int(np.prod(shape)) <= IN_MEMORY_BYTES and not decode.is_random(ops)
    if self._in_memory == 'no' or not (small or self._in_memory == 'yes'):
      first = rows.start
      return pipeline.Stream(source, first, ops, shape, sharding, self._pool, self.prefetch)
    if (name, str(ops)) not in self._decoded:
      self._decoded[name, str(ops)] = records.decoded(source, ops, shape, self._pool)
    images, labels = self._decoded[name, str(ops)]
    here = slice(rows.start, rows.stop)
    return pipeline.Memory(images[here], labels[here], sharding)


def _cores() -> int:
  """Those that this process may use, where the system tells."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
