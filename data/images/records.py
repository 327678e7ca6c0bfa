"""One split of encoded images (`Records`), and how it becomes pixels."""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging

from data import cache, checks, fingerprint
from data.images import decode, modes
from data.images.decode import Item, Op
from data.remarks import Remarks

CACHE_FORMAT = 2  # raise it when the same records and operations come out as other pixels
CHUNK = 256  # records that are decoded in one go

Items = Sequence[tuple[Item, int]]  # images with their labels
Read = Callable[[Sequence[int]], Items]
Pixels = tuple[np.ndarray, np.ndarray]  # images, uint8 [N, H, W, C], and labels, int32 [N]


@dataclasses.dataclass(frozen=True)
class Records:
  """One split of a set of labelled images, not yet decoded.

  It can be pickled, and then read in another process.

  name: for messages, such as 'cifar10 3.0.2 train'.
  classes: their names; a label is a number in them.
  channels: C, to which every image is converted: 1, 3 or 4.
  size: the number of records.
  read: rows -> (image, label) of each; it is called from several threads at once.
  files: the sources; pixels are cached for as long as these stay as they are. () is no cache.
  path: row -> where it is stored, if in files, for messages.
  labels: integers [N], where they are known without reading.
  """

  name: str
  classes: tuple[str, ...]
  channels: int
  size: int
  read: Read
  files: tuple[str, ...] = ()
  path: Callable[[int], str] | None = None
  labels: np.ndarray | None = None


def part(records: Records, name: str, rows: range) -> Records:
  """Returns consecutive rows of records that have files and labels of their own as a split."""
  files = records.files[rows.start : rows.stop]
  assert records.labels is not None
  return dataclasses.replace(
    records,
    name=f'{records.name} {name}',
    size=len(rows),
    read=functools.partial(_read_shifted, records.read, rows.start),
    files=files,
    path=files.__getitem__,
    labels=records.labels[rows.start : rows.stop],
  )


def _read_shifted(read: Read, first: int, rows: Sequence[int]) -> Items:
  return read([first + row for row in rows])


def from_arrays(
  name: str, images: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> Records:
  """Returns Records of images and labels that are in memory.

  Args:
    name: for messages.
    images: uint8 `[N, H, W, C]`, C of 1, 3 or 4.
    labels: integers `[N]`, in [0, len(classes)).
    classes: names.

  Raises:
    ValueError: another dtype, shape or number, or a label that is no class.
  """
  images, labels = np.asarray(images), np.asarray(labels)
  if not len(classes) or len(set(classes)) < len(classes):
    raise ValueError(f'{name}: classes={checks.shown(classes)}: must be different names')
  _check_images(name, images)
  _check_labels(name, labels, len(images), len(classes))

  read = functools.partial(_read_arrays, images, labels)
  return Records(name, tuple(classes), images.shape[-1], len(images), read, labels=labels)


def _read_arrays(images: np.ndarray, labels: np.ndarray, rows: Sequence[int]) -> Items:
  return [(images[row], int(labels[row])) for row in rows]


def _check_images(name: str, images: np.ndarray) -> None:
  if images.dtype != np.uint8:
    raise ValueError(
      f'{name}: images of {images.dtype}; must be uint8 from 0 to 255, for floats in [0, 1]'
      ' (255 * images).round().astype(np.uint8)'
    )
  if images.ndim != 4 or images.shape[-1] not in modes.CHANNELS or not images.size:
    channels = ', '.join(map(str, modes.CHANNELS))
    raise ValueError(
      f'{name}: images of shape {images.shape}; must be [N, H, W, C] with C of {channels}, and not'
      ' empty'
    )


def _check_labels(name: str, labels: np.ndarray, size: int, num_classes: int) -> None:
  if labels.shape != (size,) or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f'{name}: labels of {labels.dtype} {labels.shape} for {size} images; must be integers'
      f' of shape {(size,)}'
    )
  wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
  if len(wrong):
    raise ValueError(
      f'{name}: label {labels[wrong[0]]} of image {wrong[0]} and {len(wrong)} in all are no class;'
      f' must be from 0 to {num_classes - 1}'
    )


def with_classes(records: Records, classes: Sequence[str]) -> Records:
  """Returns the records with labels that are numbers in `classes`, matched by name.

  Classes that the records lack are kept, so a network of all of them fits.

  Raises:
    ValueError: a class of the records is not among them.
  """
  if unknown := [name for name in records.classes if name not in classes]:
    more = f' and {len(classes) - 10} more' if len(classes) > 10 else ''
    raise ValueError(
      f'{records.name}: {len(unknown)} of its {len(records.classes)} classes, such as'
      f' {unknown[0]!r}, are none of those that the network was trained on: '
      f'{", ".join(classes[:10])}{more}'
    )
  numbers = [classes.index(name) for name in records.classes]

  read = functools.partial(_read_renumbered, records.read, numbers)
  known = None if records.labels is None else np.array(numbers)[records.labels]
  return dataclasses.replace(records, classes=tuple(classes), read=read, labels=known)


def _read_renumbered(read: Read, numbers: Sequence[int], rows: Sequence[int]) -> Items:
  return [(item, numbers[label]) for item, label in read(rows)]


def decode_rows(
  records: Records,
  rows: Sequence[int],
  ops: Sequence[Op],
  rngs: Sequence[np.random.Generator | None],
  images: np.ndarray,
  labels: np.ndarray,
  remarks: Remarks,
) -> None:
  """Decodes `rows` into images[i], uint8 [H, W, C], and labels[i]; `rngs` has one for each row.

  What a user may not expect of the files is added to `remarks`.

  Raises:
    ValueError: with the set's name, the record's number and the cause.
  """
  for i, (row, (item, label)) in enumerate(zip(rows, _read(records, rows), strict=True)):
    image = _decode(records, row, item, ops, rngs[i], remarks)
    if image.shape != images.shape[1:]:
      have, want = (' x '.join(map(str, shape)) for shape in (image.shape, images.shape[1:]))
      raise ValueError(
        f'{_describe(records, row)}: {have} pixels and not {want}; bring all to one shape with '
        'resize(...) or resize_shorter(...)|center_crop(...) in data.decode_*'
      )
    if not (isinstance(label, int | np.integer) and 0 <= label < len(records.classes)):
      last = len(records.classes) - 1
      raise ValueError(f'{_describe(records, row)}: label {label} is no class from 0 to {last}')
    images[i], labels[i] = image, label


def shape_of(records: Records, ops: Sequence[Op]) -> tuple[int, int, int]:
  """Returns [H, W, C] of the first record after `ops`, which the others have to match."""
  [(item, _)] = _read(records, [0])
  rng, unsaid = np.random.default_rng(0), Remarks(records.name)
  height, width, channels = _decode(records, 0, item, ops, rng, unsaid).shape
  return height, width, channels


def format_of(records: Records) -> str:
  """Returns PIL's name for the first record's format, such as 'JPEG'; '' for pixels."""
  [(item, _)] = _read(records, [0])
  return '' if isinstance(item, np.ndarray) else modes.open_image(item).format or ''


def fingerprint_of(records: Records) -> str:
  """Returns a hash of a split's files, or of its images and labels where it has none."""
  if records.files:
    return fingerprint.of_files(records.files)
  some = _read(records, fingerprint.spread(records.size, fingerprint.FILES))
  items = [x if isinstance(x, np.ndarray) else np.frombuffer(x, np.uint8) for x, _ in some]
  labels = np.array([label for _, label in some])
  return fingerprint.of_arrays(*map(np.ascontiguousarray, items), labels)


def decoded(
  records: Records, ops: Sequence[Op], shape: tuple[int, int, int], pool: ThreadPoolExecutor
) -> Pixels:
  """Returns all of a split, decoded or from the cache; `shape` is [H, W, C] after `ops`."""
  remarks = Remarks(records.name)

  def make() -> Pixels:
    return _decode_all(records, ops, shape, pool, remarks)

  def load(folder: cache.Folder) -> Pixels:
    images = np.load(folder / 'images.npy', mmap_mode='r')
    labels = np.load(folder / 'labels.npy')
    remarks.found = json.loads((folder / 'remarks.json').read_text())
    return images, labels

  def save(pixels: Pixels, folder: cache.Folder) -> None:
    for name, array in zip(('images', 'labels'), pixels, strict=True):
      np.save(folder / f'{name}.npy', array)
    (folder / 'remarks.json').write_text(json.dumps(remarks.found))

  pixels = cache.load_or_make(_entry(records, ops), load, make, save) if records.files else make()
  remarks.say()
  return pixels


def _entry(records: Records, ops: Sequence[Op]) -> cache.Folder:
  steps = [(op.func.__name__, op.keywords) for op in ops]
  files = cache.fingerprints(records.files)
  about = records.name, records.classes, records.channels, records.size
  return cache.entry(records.name, [CACHE_FORMAT, *about, steps, files])


def _decode_all(
  records: Records,
  ops: Sequence[Op],
  shape: tuple[int, int, int],
  pool: ThreadPoolExecutor,
  remarks: Remarks,
) -> Pixels:
  logging.info('%s: decoding %d records once', records.name, records.size)
  images = np.empty((records.size, *shape), np.uint8)
  labels = np.empty(records.size, np.int32)

  def decode_chunk(start: int) -> None:
    rows = range(start, min(start + CHUNK, records.size))
    here = slice(start, rows.stop)
    decode_rows(records, rows, ops, [None] * len(rows), images[here], labels[here], remarks)

  # Threads that decode images this small would mostly wait for each other's turn in Python.
  run = map if np.prod(shape) <= 64 * 64 * 3 else pool.map
  for _ in run(decode_chunk, range(0, records.size, CHUNK)):
    pass
  return images, labels


def _decode(
  records: Records,
  row: int,
  item: Item,
  ops: Sequence[Op],
  rng: np.random.Generator | None,
  remarks: Remarks,
) -> np.ndarray:
  try:
    if isinstance(item, np.ndarray):
      if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != records.channels:
        shape = f'must be uint8 [H, W, {records.channels}]'
        raise ValueError(f'an array of {item.dtype} {item.shape}; {shape}')
      return decode.decode(item, ops, records.channels, rng)
    image = modes.open_image(item)
    for kind in modes.remarks(image, records.channels):
      remarks.add(kind, checks.printable(records.path(row)) if records.path else f'record {row}')
    return decode.decode(image, ops, records.channels, rng)
  except Exception as error:  # PIL raises nearly everything on damaged files
    raise ValueError(f'{_describe(records, row)}: {checks.reason(error)}') from error


def _read(records: Records, rows: Sequence[int]) -> Items:
  """Reads all rows at once; if that fails, one by one, to name the one that is to blame."""
  try:
    found = records.read(rows)
  except Exception:
    for row in rows:
      try:
        records.read([row])
      except Exception as error:
        raise ValueError(
          f'{_describe(records, row)}: cannot be read: {checks.reason(error)}'
        ) from error
    raise
  if len(found) != len(rows):
    raise ValueError(f'{records.name}: {len(found)} records are read where {len(rows)} are asked')
  return found


def _describe(records: Records, row: int) -> str:
  path = f' ({checks.printable(records.path(row))})' if records.path else ''
  return f'{records.name}, record {row}{path}'
