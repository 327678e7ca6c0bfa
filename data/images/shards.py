"""A folder of images as ArrayRecord shards: the verb `prepare DIR`.

Millions of small files are slow to list and to read at random, above all over a network. Shards are
read at random as fast as in order, by any number of processes. The set is one of TFDS's, opened by
name like any other; TFDS's own writer keeps up to 1 GB in memory and needs TensorFlow for more.
"""

import io
import pathlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from data import cache, fingerprint
from data.checks import reason, shown
from data.images import decode
from data.images.folder import folder
from data.images.records import Records
from data.remarks import Remarks

VERSION = '1.0.0'
SHARD_BYTES = 1 << 28  # about, of a shard
SAMPLE = 1000  # images by which the size of all is judged
CHUNK = 512  # images that are in memory at a time
# A record is read without its neighbours; images are compressed already.
OPTIONS = 'group_size:1,uncompressed'

Say = Callable[[str], None]


def prepare(source: str, root: pathlib.Path, name: str = '', say: Say = print) -> pathlib.Path:
  """Writes a folder of images (`data.images.folder`) as a set of shards; returns the set's folder.

  Files are kept byte by byte, in the order of the folder's records, which spreads every class. What
  cannot be decoded is left out, counted and logged.

  Args:
    source: the folder of images.
    root: where sets lie.
    name: of the set; '' is that of the folder.
    say: is told what is being done, a line each time.

  Raises:
    ValueError: another layout, a name that a set cannot have, one that is there, no room.
  """
  name = name or re.sub(r'\W+', '_', pathlib.Path(source).resolve().name.lower())
  if not re.fullmatch('[a-z][a-z0-9_]*', name):
    raise ValueError(f'name={shown(name)}: must be of a-z, 0-9 and _, with a letter first')
  place = root / name / VERSION
  if place.exists():
    raise ValueError(f'{place}: is there already; remove it, or give another name')
  found = folder(source)
  found = {key: found[key] for key in found if key == 'val' or found[key] is not found.get('val')}
  try:
    with cache.atomic_folder(place) as unfinished:
      _write(unfinished, name, found, say)
  except (OSError, RuntimeError) as error:  # ArrayRecord has the latter for a full disk
    raise ValueError(f'{place}: cannot be written: {reason(error)}') from error
  return place


def _write(out: pathlib.Path, name: str, found: dict[str, Records], say: Say) -> None:
  import tensorflow_datasets as tfds  # half a second

  train = found['train']
  image = tfds.features.Image(shape=(None, None, train.channels))
  label = tfds.features.ClassLabel(names=list(train.classes))
  features = tfds.features.FeaturesDict({'image': image, 'label': label})
  lengths = {split: _write_split(out, name, split, found[split], features, say) for split in found}
  tfds.folder_dataset.write_metadata(
    data_dir=out,
    features=features,
    split_infos=[
      tfds.core.SplitInfo(split, *numbers, tfds.core.ShardedFileTemplate(out))
      for split, numbers in lengths.items()
    ],
    version=VERSION,
    check_data=False,
    supervised_keys=('image', 'label'),
  )


def _write_split(
  out: pathlib.Path, name: str, split: str, records: Records, features: Any, say: Say
) -> tuple[list[int], int]:
  """Writes the shards of a split; returns the number of records in each, and of bytes in all."""
  from array_record.python.array_record_module import ArrayRecordWriter

  left_out = Remarks(f'{records.name}: left out')
  sizes = [len(item) for item, _ in records.read(fingerprint.spread(records.size, SAMPLE))]
  count = -(-records.size * sum(sizes) // len(sizes) // SHARD_BYTES)
  say(f'{split}: {records.size:,} images, shards: {count}')
  lengths, num_bytes = [0] * count, 0
  for shard in range(count):
    writer = ArrayRecordWriter(
      str(out / f'{name}-{split}.array_record-{shard:05}-of-{count:05}'), OPTIONS
    )
    rows = range(shard * records.size // count, (shard + 1) * records.size // count)
    for item, label in _whole(records, rows, left_out):
      example = features.serialize_example({'image': io.BytesIO(item), 'label': label})
      writer.write(example)
      lengths[shard], num_bytes = lengths[shard] + 1, num_bytes + len(example)
    writer.close()
  left_out.say()
  return lengths, num_bytes


def _whole(records: Records, rows: range, left_out: Remarks) -> Iterator[tuple[bytes, int]]:
  """Yields the images that can be decoded, with their labels, in order."""

  def check(row: int) -> list[tuple[bytes, int]]:
    [(item, label)] = records.read([row])
    assert isinstance(item, bytes) and records.path is not None  # files
    try:
      decode.decode(item, [], records.channels)
    except Exception as error:  # PIL raises nearly everything on damaged files
      left_out.add('damaged images', f'{records.path(row)}: {reason(error)}')
      return []
    return [(item, label)]

  with ThreadPoolExecutor() as pool:
    for start in range(rows.start, rows.stop, CHUNK):
      for found in pool.map(check, rows[start - rows.start :][:CHUNK]):
        yield from found
