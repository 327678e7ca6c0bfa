"""The config section `data=dict(name='images', ...)`: labelled images."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging
from jax.sharding import NamedSharding

from data import checks, pipeline, splits
from data.images import datasets, decode, records
from data.images.decode import Op
from data.images.loaders import InMemoryLoader, StreamingLoader, fields
from data.images.workers import Decoding, Processes, Threads
from data.remarks import Remarks

IN_MEMORY_BYTES = 1 << 30  # decoded; the largest split that in_memory='auto' holds on the devices


@dataclasses.dataclass(frozen=True)
class ImageMetadata:
  """What programs are built from: the classes, the shape [H, W, C] of an image, the batch size."""

  classes: tuple[str, ...]
  image_shape: tuple[int, int, int]
  batch_size: int = 128

  def train_source(self, seed: int, sharding: NamedSharding) -> pipeline.AbstractSource:
    """Returns what training batches look like."""
    del seed
    pipeline.check_divisible('batch_size', self.batch_size, sharding)
    return pipeline.AbstractSource(fields(self.image_shape), self.batch_size, sharding)

  def mean_image(self, sharding: NamedSharding) -> np.ndarray:
    """Returns zeros `[H, W, C]`: nothing is read."""
    del sharding
    return np.zeros(self.image_shape, np.float32)


class ImageData:
  """Labelled images in batches; what a batch holds is said in `data.pipeline`.

  Args:
    dataset: 'digits', 'folder' or the name of a TFDS set.
    data_dir: the folder of images, or where TFDS sets lie (else $TFDS_DATA_DIR).
    batch_size: B of training.
    eval_batch_size: B of evaluations; 0 is `batch_size`.
    train_split: sliced as in TFDS, 'train[:90%]'.
    eval_split: likewise.
    decode_train: operations of `data.images.decode` that bring every image to one shape, such as
      'resize_shorter(256)|random_crop(224)'; '' leaves images as they are.
    decode_eval: likewise, without randomness.
    in_memory: 'yes' decodes once and keeps the pixels on the devices, which a random
      `decode_train` rules out; 'no' decodes for each batch; 'auto' chooses by size.
    workers: threads that decode; 0 is one for each core.
    processes: processes that decode in their place, which more than about ten cores are worth; 0 is
      none. Batches are the same.
    prefetch: batches that are decoded ahead.
    classes: the names in the order of the scores of a network that was trained before; labels
      become their numbers in it. () for the data's own names and order.
    image_shape: [H, W, C] of the images of such a network, which can then be used where its set is
      not there; whoever asks for images gets the error.

  Raises:
    ValueError: on what does not fit together or is not there.
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
    processes: int = 0,
    prefetch: int = 2,
    *,
    classes: Sequence[str] = (),
    image_shape: Sequence[int] = (),
  ):
    checks.choice(('auto', 'yes', 'no'), in_memory=in_memory)
    checks.at_least(1, batch_size=batch_size)
    checks.at_least(0, eval_batch_size=eval_batch_size, workers=workers)
    checks.at_least(0, processes=processes, prefetch=prefetch)
    self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
    self.train_split, self.eval_split, self.prefetch = train_split, eval_split, prefetch
    self._in_memory = in_memory
    self._ops_train = decode.parse(decode_train, 'data.decode_train')
    self._ops_eval = decode.parse(decode_eval, 'data.decode_eval')
    if in_memory == 'yes' and decode.is_random(self._ops_train):
      raise ValueError(f"data.in_memory='yes': data.decode_train={decode_train!r} is random")
    if decode.is_random(self._ops_eval):
      raise ValueError(f'data.decode_eval={decode_eval!r}: must not be random')
    self._name = dataset if dataset != 'folder' else str(data_dir)
    self._decoded: dict[tuple, records.Pixels] = {}  # slices of one split share its pixels
    self._loaders: dict[tuple, pipeline.Loader] = {}
    self._classes = tuple(classes)
    self._missing: ValueError | None = None
    found: Mapping[str, records.Records] = {}
    try:
      found = datasets.load(dataset, data_dir)
    except ValueError as error:
      if not image_shape:
        raise
      self._missing = error
    self._own_classes = {name: split.classes for name, split in found.items()}
    self._found = {
      name: records.with_classes(split, classes) if classes else split
      for name, split in found.items()
    }
    self._threads = Threads(self._found, workers or _num_cores())
    self._processes = Processes(self._found, processes) if processes and found else None
    if self._missing:
      self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
      return
    if image_shape and train_split == 'train' and train_split not in found:
      self.train_split = eval_split  # a trained network is evaluated without the other
    else:
      self._check_splits()  # a misspelt one should fail now, not at the first evaluation
    self.image_shape = records.shape_of(self._records(self.train_split), self._ops_train)

  @classmethod
  def metadata(
    cls, dataset: str = 'digits', decode_train: str = '', batch_size: int = 128, **rest
  ) -> ImageMetadata:
    """Returns what programs are built from; a published set need not be there for that."""
    if dataset not in datasets.PUBLISHED:
      data = cls(dataset=dataset, decode_train=decode_train, batch_size=batch_size, **rest)
      data.close()
      return ImageMetadata(data.classes, data.image_shape, batch_size)
    classes, shape = datasets.PUBLISHED[dataset]
    ops = decode.parse(decode_train, 'data.decode_train')
    image = decode.decode(np.zeros(shape, np.uint8), ops, shape[-1], np.random.default_rng(0))
    shape = (*image.shape[:2], shape[-1])
    return ImageMetadata(tuple(map(str, range(classes))), shape, batch_size)

  @property
  def classes(self) -> tuple[str, ...]:
    """The names of the classes, in the order of their labels."""
    return self._classes or self._records(self.train_split).classes

  @property
  def eval_image_shape(self) -> tuple[int, int, int]:
    """The shape [H, W, C] of the images of evaluation."""
    return records.shape_of(self._records(self.eval_split), self._ops_eval)

  def num_examples(self, split: str) -> int:
    """Returns the number of records in a split or a slice of one."""
    return len(splits.parse(self._splits, split)[1])

  def describe(self) -> str:
    """Returns the set, its sizes and classes in a line."""
    train, test = (self.num_examples(split) for split in (self.train_split, self.eval_split))
    height, width, channels = self.image_shape
    return (
      f'{self._name}, {train:,} images to train on, {test:,} to evaluate, of {len(self.classes):,}'
      f' classes, {height} x {width} x {channels}'
    )

  def stored_as(self, split: str) -> str:
    """Returns the format of a split's images, such as 'JPEG', by the first; '' for pixels."""
    return records.format_of(self._records(split))

  def fingerprints(self) -> dict[str, str]:
    """Returns split -> a hash of its files (`data.fingerprint`), of those that were read."""
    read = {split for split, _, _ in self._loaders}
    return {split: records.fingerprint_of(self._records(split)) for split in sorted(read)}

  def train_source(
    self,
    seed: int,
    sharding: NamedSharding,
    order: pipeline.EpochOrder | None = None,
    batch_size: int = 0,
  ) -> pipeline.TrainSource:
    """Returns endless batches, shuffled or in `order`, cut over axis 0 as `sharding` says."""
    batch_size = batch_size or self.batch_size  # of the config
    pipeline.check_divisible('batch_size', batch_size, sharding)
    self._check_classes()
    order = order or pipeline.EpochOrder(seed, self.num_examples(self.train_split))
    loader = self._loader(self.train_split, self._ops_train, sharding)
    return pipeline.TrainSource(loader, order, batch_size, sharding)

  def eval_batches(
    self, split: str, sharding: NamedSharding, rows: np.ndarray | None = None
  ) -> pipeline.EvalBatches:
    """Returns batches of every record of `split` once, in order, or of the records `rows`.

    They can be iterated again.
    """
    pipeline.check_divisible('eval_batch_size', self.eval_batch_size, sharding)
    loader = self._loader(split, self._ops_eval, sharding)
    return pipeline.EvalBatches(loader, self.num_examples(split), self.eval_batch_size, rows)

  def mean_image(self, sharding: NamedSharding, count: int = 10_000) -> np.ndarray:
    """Returns the mean of `count` training images, float32 `[H, W, C]` in [0, 1].

    They are read onto the devices of `sharding`. Zeros where the set is not there.
    """
    if self._missing:
      return np.zeros(self.image_shape, np.float32)
    rows = pipeline.even_rows(count, self.num_examples(self.train_split))
    total = np.zeros(self.image_shape)
    for batch in self.eval_batches(self.train_split, sharding, rows):
      total += np.asarray(batch['image'])[np.asarray(batch['mask']) > 0].sum(0, dtype=np.float64)
    return (total / (255 * len(rows))).astype(np.float32)

  def close(self) -> None:
    """Ends threads and processes, and drops what was decoded ahead; batches handed out stay."""
    self._threads.close()
    if self._processes:
      self._processes.close()

  @property
  def _splits(self) -> Mapping[str, records.Records]:
    """The splits by name; raises the error of a set that is not there."""
    if self._missing:
      raise self._missing
    return self._found

  def _check_classes(self) -> None:
    """Raises ValueError if a class of a network that is trained on has no name in the data."""
    own = self._own_classes[splits.parse(self._splits, self.train_split)[0]]
    if missing := [name for name in self.classes if name not in own]:
      raise ValueError(
        f'data.train_split={self.train_split!r}: lacks {len(missing)} of the {len(self.classes)}'
        f' classes that the network was trained on, such as {missing[0]!r}'
      )

  def _check_splits(self) -> None:
    """Warns of records that are both trained and evaluated on, and of slices that miss classes."""
    (train, here), (test, there) = (
      splits.parse(self._splits, split) for split in (self.train_split, self.eval_split)
    )
    both = len(range(max(here.start, there.start), min(here.stop, there.stop)))
    one, other = self._splits[train], self._splits[test]  # two names may stand for the same files
    if both and (train == test or (one.files and one.files == other.files)):
      note = 'data.train_split=%r and data.eval_split=%r have %d records in common'
      logging.warning(note, self.train_split, self.eval_split, both)
    for split in (self.train_split, self.eval_split):
      if (labels := self._records(split).labels) is not None:
        self._warn_of_missing_classes(split, labels)

  def _warn_of_missing_classes(self, split: str, labels: np.ndarray) -> None:
    """Warns of a slice in which classes are missing; `labels` [N] are those of the whole split."""
    name, rows = splits.parse(self._splits, split)
    found, whole = (len(np.unique(x)) for x in (labels[rows.start : rows.stop], labels))
    if found < whole:
      note = 'split %r holds %d of the %d classes of %r: slices are taken in the order of the set'
      logging.warning(note, split, found, whole, name)

  def _records(self, split: str) -> records.Records:
    """Returns the whole split that `split` may be a slice of."""
    return self._splits[splits.parse(self._splits, split)[0]]

  def _loader(self, split: str, ops: Sequence[Op], sharding: NamedSharding) -> pipeline.Loader:
    key = split, str(ops), sharding
    if key not in self._loaders:
      self._loaders[key] = self._new_loader(split, ops, sharding)
    return self._loaders[key]

  def _new_loader(self, split: str, ops: Sequence[Op], sharding: NamedSharding) -> pipeline.Loader:
    source, (name, rows) = self._records(split), splits.parse(self._splits, split)
    shape = records.shape_of(source, ops)
    small = source.size * int(np.prod(shape)) <= IN_MEMORY_BYTES and not decode.is_random(ops)
    if self._in_memory == 'no' or not (small or self._in_memory == 'yes'):
      decoder, what = self._processes or self._threads, Decoding(name, ops, shape)
      return StreamingLoader(
        decoder, what, rows.start, sharding, self.prefetch, Remarks(source.name)
      )
    if (name, str(ops)) not in self._decoded:
      self._decoded[name, str(ops)] = records.decoded(source, ops, shape, self._threads.pool)
    images, labels = self._decoded[name, str(ops)]
    if source.labels is None:  # until now
      self._warn_of_missing_classes(split, labels)
    here = slice(rows.start, rows.stop)
    return InMemoryLoader(images[here], labels[here], sharding)


def _num_cores() -> int:
  """Returns the number of cores that this process may use, where the system tells."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
