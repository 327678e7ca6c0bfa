"""TFDS's image classification sets by name.

Images stay encoded until `data.images.decode`, which has a JPEG shrunk by its decoder and spares
what a crop leaves out.
"""

from collections.abc import Sequence

import numpy as np

from data import tfds
from data.images.decode import MODES
from data.images.records import Records


def load(
  dataset: str, data_dir: str | None = None, others: Sequence[str] = ()
) -> dict[str, Records]:
  """Returns the splits of a set; arguments and errors are those of `data.tfds.open_set`."""
  found = tfds.open_set(dataset, data_dir, others)
  image, label = found.find_feature('Image', 'image'), found.find_feature('ClassLabel', 'label')
  feature, classes = found.features[image], tuple(found.features[label].names)
  if feature.np_dtype != np.uint8 or feature.shape[-1] not in MODES:
    raise ValueError(
      f'data.dataset={dataset!r}: images of {feature.np_dtype} with {feature.shape[-1]} channels; '
      'must be uint8 with 1, 3 or 4'
    )

  def records(split: tfds.Split) -> Records:
    def read(rows: Sequence[int]) -> list[tuple[bytes, int]]:
      return [(example[image], int(example[label])) for example in split.read(rows)]

    return Records(split.name, classes, feature.shape[-1], split.size, read, split.files)

  return {name: records(split) for name, split in found.splits().items()}
