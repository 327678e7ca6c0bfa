"""What a dataset is here: `Records`, one split of encoded images; and how it becomes pixels."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging
from PIL import Image

from data.images import decode

CACHE_FORMAT = 1  # raise it when the same records and operations come out as other pixels


@dataclasses.dataclass(frozen=True)
class Records:
  """One split of one set, not yet decoded.

  `read(rows)` gives a pair for each row: the image, encoded in bytes (whatever PIL opens) or as
  uint8 [H, W, channels], and the label. It is called from several threads at once.
  """

  name: str  # for messages: 'cifar10/3.0.2 train'
  classes: tuple[str, ...]
  channels: int
  size: int
  read: Callable[[Sequence[int]], list[tuple[bytes | np.ndarray, int]]]
  files: tuple[str, ...] = ()  # the pixels are cached for as long as these stay as they are
  path: Callable[[int], str] | None = None  # the file of a row, where rows have their own


def from_arrays(name: str, images, labels, classes: Sequence[str]) -> Records:
  """Records of `images`, uint8 [N, H, W, C], and `labels`, integers [N]."""

  def read(rows):
    return [(images[row], int(labels[row])) for row in rows]

  return Records(name, tuple(classes), images.shape[-1], len(images), read)


def part(splits: Mapping[str, Records], split: str) -> tuple[str, range]:
  """'train[:90%]' -> ('train', range(0, 54000)), as TFDS slices splits.

  A bound is a record number or a percentage (rounded to the closest record), from the end if
  negative. Raises ValueError on any other form, an absent split or an empty part.
  """
  form = re.fullmatch(r'(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?', split)
  if not form:
    raise ValueError(f"split {split!r}: write 'train', 'train[:90%]' or 'train[1000:2000]'")
  name, low, high = form.groups()
  if name not in splits:
    raise ValueError(f'split {name!r}: not in this set; choices: {", ".join(sorted(splits))}')
  size = splits[name].size

  def bound(text: str | None, default: int) -> int:
    if text is None:
      return default
    number = round(int(text[:-1]) * size / 100) if text.endswith('%') else int(text)
    if abs(number) > size:
      raise ValueError(f'split {split!r}: {text} lies outside the {size} records of {name!r}')
    return number + size if text.startswith('-') else number

  rows = range(bound(low, 0), bound(high, size))
  if not rows:
    raise ValueError(f'split {split!r}: holds none of the {size} records of {name!r}')
  return name, rows


def decode_rows(records: Records, rows: Sequence[int], ops: Sequence, rngs, images, labels):
  """Decodes `rows` into images[i], uint8, and labels[i]; `rngs` is one generator a row.

  Raises ValueError with the set's name, the record's number and the cause.
  """
  for i, (row, (item, label)) in enumerate(zip(rows, _read(records, rows), strict=True)):
    image = _decode(records, row, item, ops, rngs[i])
    if image.shape != images.shape[1:]:
      have, want = (' x '.join(map(str, shape)) for shape in (image.shape, images.shape[1:]))
      raise ValueError(
        f'{_describe(records, row)}: {have} pixels and not {want}; bring all to one shape with '
        'resize(...) or resize_shorter(...)|center_crop(...) in data.decode_*'
      )
    images[i], labels[i] = image, label


def shape_of(records: Records, ops: Sequence) -> tuple[int, int, int]:
  """[H, W, C] of the first record after `ops`, which the others have to match."""
  [(item, _)] = _read(records, [0])
  return _decode(records, 0, item, ops, np.random.default_rng(0)).shape


def format_of(records: Records) -> str:
  """What PIL calls the first record's format; '' where records are pixels."""
  [(item, _)] = _read(records, [0])
  if isinstance(item, np.ndarray):
    return ''
  with Image.open(io.BytesIO(item)) as image:
    return image.format or ''


def _decode(records: Records, row: int, item, ops: Sequence, rng) -> np.ndarray:
  try:
    if records.path and isinstance(item, bytes):
      _note_colours(records, row, item)
    return decode.decode(item, ops, records.channels, rng)
  except Exception as error:  # PIL raises nearly everything on damaged files
    raise ValueError(f'{_describe(records, row)}: {error or type(error).__name__}') from error


def _note_colours(records: Records, row: int, item: bytes) -> None:
  """Says of a file, of the first few, that it is grey among images in colour, or the reverse."""
  with Image.open(io.BytesIO(item)) as image:
    grey = decode.is_grey(image.mode)
  if grey != (records.channels == 1):
    words = ('grey', 'colour', 'RGB') if grey else ('in colour', 'grey', 'grey')
    note = '%s: is %s among %s images; it is taken as %s'
    logging.log_first_n(logging.WARNING, note, 5, _describe(records, row), *words)


def _read(records: Records, rows: Sequence[int]) -> list:
  """All rows at once; if that fails, one by one, to name the one that is to blame."""
  try:
    return records.read(rows)
  except Exception:
    for row in rows:
      try:
        records.read([row])
      except Exception as error:
        raise ValueError(f'{_describe(records, row)}: cannot be read: {error}') from error
    raise


def _describe(records: Records, row: int) -> str:
  path = f' ({records.path(row)})' if records.path else ''
  return f'{records.name}, record {row}{path}'


def decoded(records: Records, ops: Sequence, shape, pool: ThreadPoolExecutor):
  """All of a split: (uint8 [N, H, W, C], int32 [N]), from the cache where it has them.

  `shape` is (H, W, C) after `ops`.
  """
  if not records.files:
    return _decode_all(records, ops, shape, pool)
  folder = _cache_folder(records, ops)
  try:
    images = np.load(folder / 'images.npy', mmap_mode='r')
    labels = np.load(folder / 'labels.npy')
    if images.shape == (records.size, *shape) and labels.shape == (records.size,):
      return images, labels
  except (OSError, ValueError):  # absent or cut short: decode again
    pass
  images, labels = _decode_all(records, ops, shape, pool)
  _write_cache(folder, images=images, labels=labels)
  return images, labels


def _decode_all(records: Records, ops: Sequence, shape, pool: ThreadPoolExecutor):
  logging.info('%s: decoding %d records once', records.name, records.size)
  images = np.empty((records.size, *shape), np.uint8)
  labels = np.empty(records.size, np.int32)

  def chunk(start):
    rows = range(start, min(start + 256, records.size))
    here = slice(start, rows.stop)
    decode_rows(records, rows, ops, [None] * len(rows), images[here], labels[here])

  # Threads that decode images this small would mostly wait for each other's turn in Python.
  run = map if np.prod(shape) <= 64 * 64 * 3 else pool.map
  for _ in run(chunk, range(0, records.size, 256)):
    pass
  return images, labels


def _cache_folder(records: Records, ops: Sequence) -> pathlib.Path:
  """Named by all that the pixels depend on; a changed source file gives another name."""
  stats = [(path, os.stat(path)) for path in records.files]
  files = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
  steps = [(op.func.__name__, op.keywords) for op in ops]
  key = [CACHE_FORMAT, records.name, records.channels, records.size, steps, files]
  digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
  name = re.sub(r'\W+', '-', records.name)
  root = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
  return root / 'breakthroughs' / 'data' / f'{name}-{digest}'


def _write_cache(folder: pathlib.Path, **arrays: np.ndarray) -> None:
  """Written beside and renamed, so that it is there whole or not at all; may fail in peace."""
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tempfile.mkdtemp(prefix='unfinished-', dir=folder.parent)
    try:
      for name, array in arrays.items():
        np.save(os.path.join(unfinished, name + '.npy'), array)
      shutil.rmtree(folder, ignore_errors=True)  # one that was cut short
      os.rename(unfinished, folder)
    finally:
      shutil.rmtree(unfinished, ignore_errors=True)
  except OSError as error:
    logging.warning('the decoded %s is not cached: %s', folder.name, error)
