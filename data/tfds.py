"""Sets that TensorFlow Datasets has prepared, opened by name without TensorFlow.

They must be stored as ArrayRecord, which `tfds.data_source` reads at random without TensorFlow.
"""

import bisect
import contextlib
import dataclasses
import itertools
import logging as python_logging
import os
import pathlib
import re
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging

from data import checks, published


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a prepared set.

  name: for messages, such as 'cifar10 3.0.2 train'.
  size: the number of examples.
  files: where they are stored.
  lengths: how many are in each file.
  read: rows -> their examples, {feature: value}.
  """

  name: str
  size: int
  files: tuple[str, ...]
  lengths: tuple[int, ...]
  read: Callable[[Sequence[int]], Sequence[dict[str, Any]]]

  def path(self, row: int) -> str:
    """Returns where an example is stored, as FILE[NUMBER]."""
    ends = list(itertools.accumulate(self.lengths))
    file = bisect.bisect_right(ends, row)
    return f'{self.files[file]}[{row - ends[file] + self.lengths[file]}]'


@dataclasses.dataclass(frozen=True)
class PreparedSet:
  """A set on disk: its name in the config, its folder, and TFDS's builder."""

  dataset: str
  folder: pathlib.Path
  builder: Any

  @property
  def features(self) -> Mapping[str, Any]:
    """TFDS's features by name."""
    return self.builder.info.features

  def find_feature(self, kind: str, name: str) -> str:
    """Returns the name of the feature of a kind that is supervised, or named so, or alone.

    Args:
      kind: the name of a class in `tfds.features`.
      name: the one of several features.

    Raises:
      ValueError: if there is none, or several that are not named so.
    """
    import tensorflow_datasets as tfds

    of_kind = getattr(tfds.features, kind)
    found = [key for key, feature in self.features.items() if isinstance(feature, of_kind)]
    supervised = self.builder.info.supervised_keys or (name,)
    named = [key for key in supervised if key in found] or found
    if len(named) == 1 or name in named:
      return name if name in named else named[0]
    kinds = {key: type(value).__name__ for key, value in self.features.items()}
    listed = ', '.join(f'{key}: {kinds[key]}' for key in sorted(kinds))
    raise ValueError(
      f'data.dataset={self.dataset!r}: has no feature named {name} and not one {kind} alone; its '
      f'features are {listed}'
    )

  def splits(self) -> dict[str, Split]:
    """Returns the splits by name; images stay encoded."""
    return {name: self._split(name) for name in self.builder.info.splits}

  def check(self) -> None:
    """Raises ValueError if one of the files is absent or lacks records."""
    for info in self.builder.info.splits.values():
      _check_shards(info)

  def _split(self, name: str) -> Split:
    info = self.builder.info.splits[name]
    return Split(
      name=f'{self.dataset} {self.builder.info.version} {name}',
      size=info.num_examples,
      files=tuple(str(path) for path in info.filepaths),
      lengths=tuple(info.shard_lengths),
      read=SplitReader(self.dataset, self.folder, name),
    )


class SplitReader:
  """Reads examples of a split; another process that it is sent to opens the files anew."""

  def __init__(self, dataset: str, folder: pathlib.Path, split: str):
    self._place = dataset, folder, split
    self._source: Any = None

  def __reduce__(self) -> tuple:
    return SplitReader, self._place

  def __call__(self, rows: Sequence[int]) -> Sequence[dict[str, Any]]:
    if self._source is None:  # opens files: not before the first record is wanted
      self._source = self._open()
    return self._source.__getitems__(list(rows))

  def _open(self) -> Any:
    import tensorflow_datasets as tfds

    dataset, folder, split = self._place
    found = open_folder(dataset, folder)
    image, skip = tfds.features.Image, tfds.decode.SkipDecoding()
    decoders = {key: skip for key, value in found.features.items() if isinstance(value, image)}
    # ImageNet has 1,024 shards, which stay open: as many files as most systems allow at first.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # macOS has no limit there, and does not take it
      resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _check_shards(found.builder.info.splits[split])
    return found.builder.as_data_source(split, decoders=decoders)


def _check_shards(info: Any) -> None:
  """Raises ValueError unless a split's files have as many records as the set says."""
  from array_record.python.array_record_module import ArrayRecordReader

  for path, size in zip(map(str, info.filepaths), info.shard_lengths, strict=True):
    try:
      found = ArrayRecordReader(path).num_records()
    except Exception as error:
      raise ValueError(f'{path}: {checks.reason(error)}') from error
    if found != size:
      raise ValueError(f'{path}: holds {found} records where {size} are expected')


def read_text(path: pathlib.Path) -> str:
  """Returns a file's text; raises ValueError if it is not UTF-8."""
  try:
    return path.read_text(encoding='utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: is not UTF-8: {error}') from error


def open_set(dataset: str, data_dir: str | None = None, others: Sequence[str] = ()) -> PreparedSet:
  """Opens a set.

  Args:
    dataset: 'NAME', 'NAME/CONFIG' or either with ':VERSION'; else the newest version.
    data_dir: where sets lie; else $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    others: names that the message about an absent set offers besides those in that folder.

  Raises:
    ValueError: with what to do, on a set that is not there or that cannot be read without
      TensorFlow.
  """
  return open_folder(dataset, _find(dataset, data_dir, others))


def open_folder(dataset: str, folder: pathlib.Path) -> PreparedSet:
  """Opens the set in a folder; raises ValueError on one that cannot be read without TensorFlow."""
  import tensorflow_datasets as tfds  # half a second

  try:
    builder = tfds.builder_from_directory(folder)
    form, _, _ = builder.info.file_format, builder.info.features, builder.info.splits
  except Exception as error:  # nearly any, where one of its files is damaged
    raise ValueError(f'{folder}: TFDS cannot read it: {checks.reason(error)}') from error
  if form != tfds.core.FileFormat.ARRAY_RECORD:
    raise ValueError(_wrong_format(folder, form.value))
  logging.get_absl_logger().addFilter(_not_about_groups)
  return PreparedSet(dataset, folder, builder)


def _not_about_groups(record: python_logging.LogRecord) -> bool:
  # ArrayRecord calls groups of several records an error; here they read as fast as single ones.
  return 'was created with group size' not in str(record.msg)


def _wrong_format(folder: pathlib.Path, found: str) -> str:
  return (
    f'{folder}: is stored as {found}, which only TensorFlow reads; convert it once, where '
    f'TensorFlow is installed: tfds convert_format --dataset_version_dir={folder} '
    '--out_file_format=array_record --out_dir=NEW_FOLDER'
  )


def _find(dataset: str, data_dir: str | None, others: Sequence[str]) -> pathlib.Path:
  form = re.fullmatch(r'([\w.-]+(?:/[\w.-]+)?)(?::([\d.]+))?', dataset)
  if not form:
    raise ValueError(
      f"data.dataset={checks.shown(dataset)}: write 'NAME', 'NAME/CONFIG' or 'NAME:VERSION'"
    )
  given = data_dir or os.environ.get('TFDS_DATA_DIR')
  root = published.root(data_dir)
  name, version = form.groups()
  versions = _versions(root / name)
  if versions and version in (None, *versions):
    return root / name / (version or versions[-1])
  place = f'{root}' if given else f'{root} (data.data_dir and TFDS_DATA_DIR are not set)'
  if versions:
    raise ValueError(f'data.dataset={dataset!r}: {place} has only {", ".join(versions)}')
  choices = ', '.join([*others, *_prepared(root)])
  absent = (
    f'data.dataset={dataset!r}: not found in {place}; choices there: {choices}. To prepare it'
  )
  if name in published.FILES:
    raise ValueError(f'{absent}: python launch.py prepare {name} --data_dir={root}')
  command = (
    'python -c "import tensorflow_datasets as tfds; tfds.builder('
    f"'{name}', data_dir='{root}', file_format='array_record').download_and_prepare()\""
  )
  raise ValueError(
    f'{absent}, on a machine with a network, TensorFlow and importlib_resources: {command}'
  )


def _versions(folder: pathlib.Path) -> list[str]:
  """Returns the versions in a set's folder, oldest first."""
  found = [path.parent.name for path in folder.glob('*/dataset_info.json')]
  return sorted(
    (name for name in found if re.fullmatch(r'\d+(\.\d+)*', name)),
    key=lambda name: tuple(map(int, name.split('.'))),
  )


def _prepared(root: pathlib.Path) -> list[str]:
  """Returns the names of the sets, with their configs, in `root`."""
  paths = [*root.glob('*/*/dataset_info.json'), *root.glob('*/*/*/dataset_info.json')]
  return sorted({path.parent.parent.relative_to(root).as_posix() for path in paths})
