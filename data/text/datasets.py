"""The sets of texts by name: the interpreter's own source, files and folders, and TFDS's sets.

A set is {split: Texts}. A new one is a function of the share for validation and a line in TEXTS.
"""

import dataclasses
import functools
import gzip
import pathlib
import sysconfig
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from data.images import tfds_records

# Of the standard library: tests and generated tables, and what is installed beside it.
LEFT_OUT = {'test', 'tests', 'idle_test', 'encodings', 'pydoc_data', 'site-packages'}
LEFT_OUT |= {'dist-packages', '__pycache__'}
AT_ONCE = 256  # records of a TFDS set


@dataclasses.dataclass(frozen=True)
class Texts:
  """One split of one set: `size` rows, each of which holds documents.

  `read(rows)` gives the documents of a range of rows in order; a row may hold none or many.
  """

  name: str  # for messages: 'wiki40b/en/1.3.0 train'
  size: int
  read: Callable[[range], Iterator[str]]
  files: tuple[str, ...] = ()  # the tokens are cached for as long as these stay as they are
  recipe: tuple = ()  # what else the documents depend on; JSON


def python(val_fraction: float) -> dict[str, Texts]:
  """The source of the running interpreter's standard library, without tests, tables and packages.

  Files in the order of their paths, each a document; one that is not UTF-8 is left out. With
  `val_fraction=0.1` every tenth is for validation. CPython 3.11.7 has 608 files, 9,946,901 bytes or
  9,946,644 characters, of 215 kinds.
  """
  root = pathlib.Path(sysconfig.get_paths()['stdlib'])
  folders = [x for x in root.iterdir() if x.is_dir() and x.name not in LEFT_OUT]
  found = [*root.glob('*.py'), *(path for folder in folders for path in folder.rglob('*.py'))]
  inside = [path for path in found if not LEFT_OUT & {*path.relative_to(root).parts}]
  paths = sorted(path for path in inside if _is_utf8(path))
  if len(paths) < 2:
    raise ValueError(f"data.dataset='python': {root} holds no source, only compiled files")
  return _by_file('python', paths, val_fraction, '')


TEXTS = {'python': python}


def load(
  dataset: str,
  data_dir: str | None = None,
  *,
  val_fraction: float = 0.1,
  separator: str = '',
  pattern: str = '**/*',
) -> Mapping[str, Texts]:
  """{split: Texts} of a name in TEXTS, of a file or a folder, else of a TFDS set.

  A file is split by characters, the first of them for training; a folder's files are spread evenly.
  `separator` is what stands between the documents of a file, '' for a file that is one document;
  `pattern` chooses a folder's files. Raises ValueError on what is not there or holds no text.
  """
  if dataset in TEXTS:
    return TEXTS[dataset](val_fraction)
  path = pathlib.Path(dataset).expanduser()
  if path.is_dir():
    found = sorted(x for x in path.glob(pattern) if x.is_file() and not _hidden(x, path))
    if not found:
      raise ValueError(f'data.dataset={dataset!r}: the folder has no files like {pattern!r}')
    if len(found) > 1:
      return _by_file(str(path), found, val_fraction, separator)
    path = found[0]
  if path.is_file():
    return _by_characters(path, val_fraction, separator)
  if path.suffix or dataset[0:1] in '/.~':
    choices = ', '.join([*TEXTS, 'a file', 'a folder', 'the name of a TFDS set'])
    raise ValueError(f'data.dataset={dataset!r}: no such file or folder; choices: {choices}')
  return from_tfds(dataset, data_dir)


# -------- files --------


def _by_file(
  name: str, paths: Sequence[pathlib.Path], val_fraction: float, separator: str
) -> dict[str, Texts]:
  """File i is for validation where (i + 1) * val_fraction passes a whole number."""
  passed = [int(i * val_fraction + 1e-9) for i in range(len(paths) + 1)]
  held_out = {i for i in range(len(paths)) if passed[i + 1] > passed[i]} or {
    len(paths) - 1
  }  # never the first
  parts = {
    'train': [path for i, path in enumerate(paths) if i not in held_out],
    'validation': [path for i, path in enumerate(paths) if i in held_out],
  }

  def texts(split: str, mine: Sequence[pathlib.Path]) -> Texts:
    def read(rows: range) -> Iterator[str]:
      for row in rows:
        yield from _documents(read_file(mine[row]), separator)

    files = tuple(map(str, mine))
    return Texts(f'{name} {split}', len(mine), read, files, (split, separator))

  return {split: texts(split, mine) for split, mine in parts.items()}


def _by_characters(path: pathlib.Path, val_fraction: float, separator: str) -> dict[str, Texts]:
  """One file, the first 1 - val_fraction of its characters for training."""

  def texts(split: str) -> Texts:
    def read(rows: range) -> Iterator[str]:
      text = read_file(path) if rows else ''
      cut = int(len(text) * (1 - val_fraction))
      yield from _documents(text[:cut] if split == 'train' else text[cut:], separator)

    recipe = (split, val_fraction, separator)
    return Texts(f'{path} {split}', 1, read, (str(path),), recipe)

  return {split: texts(split) for split in ('train', 'validation')}


def _documents(text: str, separator: str) -> list[str]:
  return [part for part in (text.split(separator) if separator else [text]) if part]


def read_file(path: pathlib.Path) -> str:
  """The whole of a file of UTF-8, unpacked if it ends with .gz; line breaks stay as they are."""
  try:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == '.gz' else raw).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    byte = error.object[error.start]
    raise ValueError(f'{path}: byte 0x{byte:02x} at {error.start} is not UTF-8') from error
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'{path}: cannot be read: {error}') from error


def _is_utf8(path: pathlib.Path) -> bool:
  try:
    return bool(read_file(path))
  except ValueError:
    return False


def _hidden(path: pathlib.Path, root: pathlib.Path) -> bool:
  return any(part[0] == '.' for part in path.relative_to(root).parts)


# -------- TFDS --------


def from_tfds(dataset: str, data_dir: str | None = None) -> dict[str, Texts]:
  """The set 'NAME', 'NAME/CONFIG' or either with ':VERSION', read from ArrayRecord."""
  builder = tfds_records.open_set(dataset, data_dir, (*TEXTS, 'a file', 'a folder'))
  key = _text_feature(dataset, builder.info)
  return {split: _from_split(dataset, split, builder, key) for split in builder.info.splits}


def _from_split(dataset: str, split: str, builder, key: str) -> Texts:
  import tensorflow_datasets as tfds

  raw = tfds.decode.DeserializeMethod.RAW_BYTES
  parser = tfds.features.FeaturesDict({key: builder.info.features[key]})

  @functools.cache
  def source():  # opens files: not before the first record is wanted
    return builder.as_data_source(split, deserialize_method=raw)

  def read(rows: range) -> Iterator[str]:
    for start in range(rows.start, rows.stop, AT_ONCE):
      these = range(start, min(start + AT_ONCE, rows.stop))
      for example in source().__getitems__(list(these)):
        if text := parser.deserialize_example_np(example)[key]:
          yield text.decode()

  info = builder.info.splits[split]
  files = tuple(str(path) for path in info.filepaths)
  return Texts(f'{dataset} {builder.info.version} {split}', info.num_examples, read, files, (key,))


def _text_feature(dataset: str, info) -> str:
  """The name of the feature that is the text."""
  import tensorflow_datasets as tfds

  found = [k for k, feature in info.features.items() if isinstance(feature, tfds.features.Text)]
  if 'text' in found or len(found) == 1:
    return 'text' if 'text' in found else found[0]
  kinds = {key: type(value).__name__ for key, value in info.features.items()}
  listed = ', '.join(f'{key}: {kinds[key]}' for key in sorted(kinds))
  raise ValueError(
    f'data.dataset={dataset!r}: has no feature named text and not one Text alone; its features are '
    f'{listed}'
  )
