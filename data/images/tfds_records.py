"""TFDS's image classification sets by name, read from ArrayRecord with no TensorFlow.

TFDS gives bytes and unpacks them; decoding is `data/images/decode.py`'s, which is faster than
TFDS's.
"""

import functools
import logging as python_logging
import os
import pathlib
import re

import numpy as np
from absl import logging

from data.images.decode import MODES
from data.images.records import Records


def load(dataset: str, data_dir: str | None = None, others: tuple = ()) -> dict[str, Records]:
  """{split: Records} of a set, which is found and refused as by `open_set`."""
  builder = open_set(dataset, data_dir, others)
  image, label = _keys(dataset, builder.info)
  return {split: _records(dataset, split, builder, image, label) for split in builder.info.splits}


def open_set(dataset: str, data_dir: str | None = None, others: tuple = ()):
  """TFDS's builder of the set 'NAME', 'NAME/CONFIG' or either with ':VERSION'.

  It is looked for in `data_dir`, else $TFDS_DATA_DIR, else where TFDS itself puts sets. Raises
  ValueError, with what to do, on a set that is not there or that cannot be read here; `others`
  are the names that its message offers besides those found.
  """
  folder = _find(dataset, data_dir, others)
  import tensorflow_datasets as tfds  # half a second

  try:
    builder = tfds.builder_from_directory(folder)
    form = builder.info.file_format
  except Exception as error:
    raise ValueError(f'{folder}: TFDS cannot read it: {error}') from error
  if form != tfds.core.FileFormat.ARRAY_RECORD:
    raise ValueError(_wrong_format(folder, form.value))
  logging.get_absl_logger().addFilter(_not_about_groups)
  return builder


def _records(dataset: str, split: str, builder, image: str, label: str) -> Records:
  """One split; `image` and `label` are the names of the two features that are read."""
  import tensorflow_datasets as tfds

  raw = tfds.decode.DeserializeMethod.RAW_BYTES
  skip = {image: tfds.decode.SkipDecoding()}
  features = {key: builder.info.features[key] for key in (image, label)}
  parser = tfds.features.FeaturesDict(features)

  @functools.cache
  def source():  # opens files: not before the first record is wanted
    return builder.as_data_source(split, deserialize_method=raw)

  def read(rows):
    examples = source().__getitems__(list(rows))
    examples = [parser.deserialize_example_np(example, decoders=skip) for example in examples]
    return [(example[image], int(example[label])) for example in examples]

  info = builder.info.splits[split]
  return Records(
    name=f'{dataset} {builder.info.version} {split}',
    classes=tuple(features[label].names),
    channels=features[image].shape[-1],
    size=info.num_examples,
    read=read,
    files=tuple(str(path) for path in info.filepaths),
  )


def _not_about_groups(record: python_logging.LogRecord) -> bool:
  """ArrayRecord calls groups of several records an error; here they read as fast as single ones."""
  return 'was created with group size' not in str(record.msg)


def _keys(dataset: str, info) -> tuple[str, str]:
  """The names of the image and the label, from the features' types, not from their names."""
  import tensorflow_datasets as tfds

  def of(kind, name):
    found = [key for key, feature in info.features.items() if isinstance(feature, kind)]
    named = [key for key in info.supervised_keys or (name,) if key in found] or found
    if len(named) == 1 or name in named:
      return name if name in named else named[0]
    listed = ', '.join(f'{key}: {type(value).__name__}' for key, value in info.features.items())
    raise ValueError(
      f'data.dataset={dataset!r}: not image classification, which has one Image and one '
      f'ClassLabel; its features are {listed}'
    )

  image, label = of(tfds.features.Image, 'image'), of(tfds.features.ClassLabel, 'label')
  feature = info.features[image]
  if feature.np_dtype != np.uint8 or feature.shape[-1] not in MODES:
    raise ValueError(
      f'data.dataset={dataset!r}: images of {feature.np_dtype} with {feature.shape[-1]} channels; '
      'must be uint8 with 1, 3 or 4'
    )
  return image, label


def _wrong_format(folder: pathlib.Path, found: str) -> str:
  return (
    f'{folder}: is stored as {found}, which only TensorFlow reads; convert it once, where '
    f'TensorFlow is installed: tfds convert_format --dataset_version_dir={folder} '
    '--out_file_format=array_record --out_dir=NEW_FOLDER'
  )


def _find(dataset: str, data_dir: str | None, others: tuple) -> pathlib.Path:
  """The folder of the newest (or the named) version."""
  form = re.fullmatch(r'([\w.-]+(?:/[\w.-]+)?)(?::([\d.]+))?', dataset)
  if not form:
    raise ValueError(f"data.dataset={dataset!r}: write 'NAME', 'NAME/CONFIG' or 'NAME:VERSION'")
  given = data_dir or os.environ.get('TFDS_DATA_DIR')
  root = pathlib.Path(given or '~/tensorflow_datasets').expanduser()
  name, version = form.groups()
  versions = _versions(root / name)
  if versions and version in (None, *versions):
    return root / name / (version or versions[-1])
  place = f'{root}' if given else f'{root} (data.data_dir and TFDS_DATA_DIR are not set)'
  if versions:
    raise ValueError(f'data.dataset={dataset!r}: {place} has only {", ".join(versions)}')
  choices = ', '.join([*others, *_prepared(root)])
  command = (
    'python -c "import tensorflow_datasets as tfds; tfds.builder('
    f"'{name}', data_dir='{root}', file_format='array_record').download_and_prepare()\""
  )
  raise ValueError(
    f'data.dataset={dataset!r}: not found in {place}; choices there: {choices}. To prepare it, on '
    f'a machine with a network, TensorFlow and importlib_resources: {command}'
  )


def _versions(folder: pathlib.Path) -> list[str]:
  """The versions in a set's folder, oldest first."""
  found = [path.parent.name for path in folder.glob('*/dataset_info.json')]
  return sorted(
    (name for name in found if re.fullmatch(r'\d+(\.\d+)*', name)),
    key=lambda name: tuple(map(int, name.split('.'))),
  )


def _prepared(root: pathlib.Path) -> list[str]:
  """The names of the sets, with their configs, that stand in `root`."""
  paths = [*root.glob('*/*/dataset_info.json'), *root.glob('*/*/*/dataset_info.json')]
  return sorted({path.parent.parent.relative_to(root).as_posix() for path in paths})
