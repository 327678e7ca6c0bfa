"""TFDS's image classification sets by name.

`tfds.data_source` reads and parses the records. Images stay encoded until `data.images.decode`,
which has a JPEG shrunk by its decoder and spares what a crop leaves out.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from data import tfds as tfds_lib
from data.images.decode import MODES
from data.images.records import Records


def load(
  dataset: str, data_dir: str | None = None, others: Sequence[str] = ()
) -> dict[str, Records]:
  """Returns the splits of a set; arguments and errors are those of `data.tfds.open_builder`."""
  builder = tfds_lib.open_builder(dataset, data_dir, others)
  image, label = _features(dataset, builder.info)
  return {split: _records(dataset, split, builder, image, label) for split in builder.info.splits}


def _records(dataset: str, split: str, builder: Any, image: str, label: str) -> Records:
  """Returns one split; `image` and `label` are the names of the two features that are read."""
  import tensorflow_datasets as tfds

  features = builder.info.features
  images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
  encoded = dict.fromkeys(images, tfds.decode.SkipDecoding())

  @functools.cache
  def source():  # opens files: not before the first record is wanted
    return builder.as_data_source(split, decoders=encoded)

  def read(rows: Sequence[int]) -> list[tuple[bytes, int]]:
    return [(example[image], int(example[label])) for example in source().__getitems__(list(rows))]

  info = builder.info.splits[split]
  return Records(
    name=f'{dataset} {builder.info.version} {split}',
    classes=tuple(features[label].names),
    channels=features[image].shape[-1],
    size=info.num_examples,
    read=read,
    files=tuple(str(path) for path in info.filepaths),
  )


def _features(dataset: str, info: Any) -> tuple[str, str]:
  """Returns the names of the image and the label, found by the types of the features."""
  import tensorflow_datasets as tfds

  def find(kind: type, name: str) -> str:
    found = [key for key, feature in info.features.items() if isinstance(feature, kind)]
    named = [key for key in info.supervised_keys or (name,) if key in found] or found
    if len(named) == 1 or name in named:
      return name if name in named else named[0]
    listed = ', '.join(f'{key}: {type(value).__name__}' for key, value in info.features.items())
    raise ValueError(
      f'data.dataset={dataset!r}: not image classification, which has one Image and one '
      f'ClassLabel; its features are {listed}'
    )

  image, label = find(tfds.features.Image, 'image'), find(tfds.features.ClassLabel, 'label')
  feature = info.features[image]
  if feature.np_dtype != np.uint8 or feature.shape[-1] not in MODES:
    raise ValueError(
      f'data.dataset={dataset!r}: images of {feature.np_dtype} with {feature.shape[-1]} channels; '
      'must be uint8 with 1, 3 or 4'
    )
  return image, label
