"""Input pipelines that `benchmarks.input` measures: ours, grain's and tf.data's.

Each is a function of the folder that `write_images` and `write_tokens` fill, and yields batches.
"""

import functools
import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from data import pipeline
from data.images import decode, shards
from data.images.source import ImageData
from data.text import corpus, rows, source
from train import mesh

SIZES = ((500, 375), (500, 333), (375, 500), (400, 400), (500, 500))  # of ImageNet, about
SIZE, BATCH = 224, 256
OPS = f'inception_crop({SIZE})|random_flip()'
ROW, ROWS, TOKENS = 1024, 64, 20_000 * 1024

Batches = Iterator[Any]


# -------- what is read --------


def photograph(seed: int) -> Image.Image:
  """Returns noise of all wavelengths, whose JPEG of quality 92 is as large as a photograph's."""
  rng = np.random.default_rng(seed)
  width, height = SIZES[seed % len(SIZES)]
  pixels = np.full((height, width, 3), 127.0)
  for waves in (4, 8, 16, 32, 64, 128, 256):
    grey = rng.normal(size=(max(2, height * waves // 500), max(2, width * waves // 500)))
    small = Image.fromarray(grey.astype(np.float32))
    pixels += 120 / waves**0.5 * np.asarray(small.resize((width, height)))[..., None]
    pixels += 8 * rng.normal(size=3)
  pixels += 6 * rng.normal(size=(height, width, 1))  # what a sensor adds, and most of a file's size
  return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_images(root: pathlib.Path, count: int) -> None:
  """Writes photographs to `root`/photos in shards."""
  for i in range(count):
    folder = root / 'folder' / 'train' / str(i % 10)
    folder.mkdir(parents=True, exist_ok=True)
    photograph(i).save(folder / f'{i}.jpg', quality=92)
  shards.SHARD_BYTES = 1 << 23
  shards.prepare(str(root / 'folder'), root, 'photos', say=lambda line: None)


def write_tokens(root: pathlib.Path) -> None:
  """Writes random tokens, and where documents of some hundreds begin."""
  rng = np.random.default_rng(0)
  rng.integers(0, 50257, TOKENS).astype(np.uint16).tofile(root / 'tokens.bin')
  begins = np.unique([0, *rng.integers(0, TOKENS, TOKENS // 700), TOKENS])
  np.save(root / 'begins.npy', begins.astype(np.int64))


# -------- ours --------


def our_images(root: pathlib.Path, workers: int, processes: int = 0) -> Batches:
  """Yields batches of `data.images`."""
  data = ImageData(
    'photos',
    str(root),
    batch_size=BATCH,
    eval_split='train[:1]',
    decode_train=OPS,
    decode_eval=f'resize({SIZE})',
    workers=workers,
    processes=processes,
  )
  batches = data.train_source(0, mesh.batch_sharding(mesh.make_mesh()))
  for step in range(1 << 31):
    yield batches.next((), step)[1]


def our_rows(root: pathlib.Path, packing: str) -> Batches:
  """Yields batches of `data.text`, packed as 'stream' or 'documents'."""
  stream = np.memmap(root / 'tokens.bin', np.uint16, 'r')
  tokens = corpus.Tokens(stream, np.load(root / 'begins.npy'), {})
  found = source.PACKINGS[packing](tokens, ROW)
  sharding = mesh.batch_sharding(mesh.make_mesh())
  loader = rows.RowLoader(found, sharding, ThreadPoolExecutor(1), prefetch=2)
  batches = pipeline.TrainSource(loader, found.order(0), ROWS, sharding)
  for step in range(1 << 31):
    yield batches.next((), step)[1]


# -------- grain: shuffled over all records, in any order, as ours --------


def grain_images(root: pathlib.Path, workers: int, processes: int = 0) -> Batches:
  """Yields batches of grain around our decoding."""
  import grain

  paths = sorted(map(str, root.glob('photos/*/photos-train*')))
  crop = functools.partial(_crop, _features(root), tuple(decode.parse(OPS, '')))
  records = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(paths))
  batches = records.seed(0).shuffle().repeat().random_map(crop).batch(BATCH)
  if not processes:
    # It reads ahead in records or batches: here batches, in as many threads as we have.
    return iter(batches.to_iter_dataset(grain.ReadOptions(workers, 2 * workers)))
  flags.FLAGS.mark_as_parsed()  # those that Grain has
  options = grain.MultiprocessingOptions(num_workers=processes, per_worker_buffer_size=1)
  return iter(batches.to_iter_dataset(grain.ReadOptions(1, 1)).mp_prefetch(options))


def _features(root: pathlib.Path) -> Any:
  import tensorflow_datasets as tfds

  return tfds.builder_from_directory(root / 'photos' / shards.VERSION).info.features


def _crop(features: Any, ops: tuple, example: bytes, rng: np.random.Generator) -> dict[str, Any]:
  import tensorflow_datasets as tfds

  skip = {'image': tfds.decode.SkipDecoding()}
  found = features.deserialize_example_np(example, decoders=skip)
  return {'image': decode.decode(found['image'], ops, 3, rng), 'label': found['label']}


def grain_rows(root: pathlib.Path, packing: str) -> Batches:
  """Yields batches of grain: windows of the stream, or documents packed by first fit."""
  import grain

  stream = np.memmap(root / 'tokens.bin', np.uint16, 'r')
  if packing == 'stream':
    first = np.arange(0, len(stream) - ROW, ROW)
    windows = Spans(stream, first, first + ROW + 1)
    batches = grain.MapDataset.source(windows).seed(0).shuffle().repeat().batch(ROWS)
    return iter(batches.to_iter_dataset(grain.ReadOptions(1, 2)))
  begins = np.load(root / 'begins.npy')
  documents = Spans(stream, begins[:-1], np.minimum(begins[:-1] + ROW + 1, begins[1:]))
  texts = grain.MapDataset.source(documents).seed(0).shuffle().repeat()
  named = texts.map(lambda tokens: {'tokens': tokens}).to_iter_dataset(grain.ReadOptions(1, 500))
  packed = grain.experimental.FirstFitPackIterDataset(
    named, length_struct={'tokens': ROW + 1}, num_packing_bins=ROWS
  )
  return iter(packed.batch(ROWS))


class Spans:
  """Parts of a stream of tokens by number."""

  def __init__(self, stream: np.ndarray, first: np.ndarray, stop: np.ndarray):
    self._stream, self._first, self._stop = stream, first.tolist(), stop.tolist()

  def __len__(self) -> int:
    return len(self._first)

  def __getitem__(self, number: int) -> np.ndarray:
    return self._stream[self._first[number] : self._stop[number]].astype(np.int32)


# -------- tf.data: shuffled within a buffer --------


def tf_images(root: pathlib.Path, workers: int, antialias: bool = False) -> Batches:
  """Yields batches of tf.data from TFRecord, where the decoder gives the crop alone."""
  import tensorflow as tf

  _tf_threads(tf, workers)
  path = str(root / 'photos.tfrecord')
  _write_tfrecord(tf, root, path)
  features = {'image': tf.io.FixedLenFeature([], tf.string)}
  features['label'] = tf.io.FixedLenFeature([], tf.int64)

  def crop(example: Any) -> tuple[Any, Any]:
    found = tf.io.parse_single_example(example, features)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
      tf.io.extract_jpeg_shape(found['image']),
      tf.zeros([1, 0, 4]),
      aspect_ratio_range=(3 / 4, 4 / 3),
      area_range=(0.08, 1.0),
      max_attempts=10,
      use_image_if_no_bounding_boxes=True,
    )
    window = tf.stack([begin[0], begin[1], size[0], size[1]])
    image = tf.io.decode_and_crop_jpeg(found['image'], window, channels=3)
    image = tf.image.resize(image, [SIZE, SIZE], antialias=antialias)
    return tf.cast(tf.image.random_flip_left_right(image), tf.uint8), found['label']

  records = tf.data.TFRecordDataset(path).repeat().shuffle(256)
  batches = records.map(crop, num_parallel_calls=workers).batch(BATCH, drop_remainder=True)
  return batches.prefetch(2).as_numpy_iterator()


def _write_tfrecord(tf: Any, root: pathlib.Path, path: str) -> None:
  from array_record.python.array_record_module import ArrayRecordReader

  with tf.io.TFRecordWriter(path) as writer:
    for shard in sorted(root.glob('photos/*/photos-train*')):
      for example in ArrayRecordReader(str(shard)).read_all():
        writer.write(example)


def tf_rows(root: pathlib.Path, packing: str) -> Batches:
  """Yields batches of tf.data: windows of the stream; it packs no documents."""
  import tensorflow as tf

  assert packing == 'stream'
  _tf_threads(tf, 1)
  # Windows of one token less than the others', so that a file of tokens serves as it is.
  windows = tf.data.FixedLengthRecordDataset(str(root / 'tokens.bin'), 2 * ROW)
  decoded = windows.repeat().shuffle(4096).batch(ROWS, drop_remainder=True)
  tokens = decoded.map(lambda raw: tf.cast(tf.io.decode_raw(raw, tf.uint16), tf.int32))
  return tokens.prefetch(2).as_numpy_iterator()


def _tf_threads(tf: Any, count: int) -> None:
  tf.config.threading.set_intra_op_parallelism_threads(count)
  tf.config.threading.set_inter_op_parallelism_threads(count)
