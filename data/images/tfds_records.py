"""TFDS's image classification sets by name.

Images stay encoded until `data.images.decode`, which has a JPEG shrunk by its decoder and spares
what a crop leaves out.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from data import tfds
from data.images.modes import CHANNELS
from data.images.records import Records

MOST_CLASSES = 1 << 20  # more come of a damaged file


def load(
  dataset: str, data_dir: str | None = None, others: Sequence[str] = ()
) -> dict[str, Records]:
  """Returns the splits of a set; arguments and errors are those of `data.tfds.open_set`."""
  found = tfds.open_set(dataset, data_dir, others)
  image, label = found.find_feature('Image', 'image'), found.find_feature('ClassLabel', 'label')
  feature, classes = found.features[image], _classes(found, label)
  if feature.np_dtype != np.uint8 or feature.shape[-1] not in CHANNELS:
    raise ValueError(
      f'data.dataset={dataset!r}: images of {feature.np_dtype} with {feature.shape[-1]} channels; '
      'must be uint8 with 1, 3 or 4'
    )

  def records(split: tfds.Split) -> Records:
    read = functools.partial(_read, split, image, label, len(classes))
    return Records(
      split.name, classes, feature.shape[-1], split.size, read, split.files, split.path
    )

  return {name: records(split) for name, split in found.splits().items()}


def _read(
  split: tfds.Split, image: str, label: str, num_classes: int, rows: Sequence[int]
) -> list[tuple[bytes, int]]:
  return [_item(example[image], example[label], num_classes) for example in split.read(rows)]


def _item(image: bytes, label: Any, num_classes: int) -> tuple[bytes, int]:
  if not 0 <= label < num_classes:
    raise ValueError(f'label {label} is no class; must be from 0 to {num_classes - 1}')
  return image, int(label)


def _classes(found: tfds.PreparedSet, label: str) -> tuple[str, ...]:
  """Returns the names of the classes; raises ValueError if they are not as many as the classes."""
  feature = found.features[label]
  number, path = feature.num_classes, feature.get_names_filepath(found.folder, label)
  if not 0 < number <= MOST_CLASSES:
    raise ValueError(f'{found.folder}: {number} classes; must be from 1 to {MOST_CLASSES}')
  if not path.exists():
    return tuple(map(str, range(number)))
  # Read here, because TFDS takes numbers for names where it cannot read them.
  names = tuple(filter(None, map(str.strip, tfds.read_text(path).split('\n'))))
  if not len(set(names)) == len(names) == number:
    raise ValueError(f'{path}: {len(set(names))} names for {number} classes')
  return names
