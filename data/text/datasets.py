"""Sets of texts by name: the interpreter's own source, files and folders, and those of TFDS.

A set is {split: TextSplit}. A new one is a function of the share that is for validation, and a line
in DATASETS.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
import pathlib
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from data import cache, published, tfds
from data import splits as splits_lib
from data.checks import shown
from data.text import files

CACHE_FORMAT = 2  # raise it when the same texts come out as other tokens

# Folders of the standard library that `python` leaves out: tests, generated tables, packages.
EXCLUDED = {'test', 'tests', 'idle_test', 'encodings', 'pydoc_data', 'site-packages'}
EXCLUDED |= {'dist-packages', '__pycache__'}
CHUNK = 256  # records of a TFDS set that are read in one go


@dataclasses.dataclass(frozen=True)
class TextSplit:
  """One split of a set: rows (files or records), each of which holds documents.

  name: for messages, such as 'wiki40b/en 1.3.0 train'.
  size: the number of rows.
  read: rows -> their documents in order; a row may hold none or many.
  files: the sources; tokens are cached for as long as their contents stay. () is no cache.
  recipe: what else the documents depend on, as JSON.
  """

  name: str
  size: int
  read: Callable[[range], Iterator[str]]
  files: tuple[str, ...] = ()
  recipe: tuple = ()


@dataclasses.dataclass(frozen=True)
class Selection:
  """Rows of splits, one after the other, such as 'train[:90%]+test'."""

  parts: tuple[tuple[TextSplit, range], ...]

  @property
  def name(self) -> str:
    """For messages."""
    return ' + '.join(split.name for split, _ in self.parts)

  @property
  def num_rows(self) -> int:
    """The number of files or records."""
    return sum(len(rows) for _, rows in self.parts)

  def documents(self) -> Iterator[str]:
    """Yields all documents in order."""
    for split, rows in self.parts:
      yield from split.read(rows)

  def empty(self) -> ValueError:
    """Returns the error for a selection in which there is no text."""
    return ValueError(f'{self.name}: holds no text')

  def cache_entry(self, what: str, *key: Any) -> cache.Folder | None:
    """Returns the entry of what is made of the documents and `key`; None if not cached."""
    if not all(split.files for split, _ in self.parts):
      return None
    facts = [
      [split.size, split.recipe, rows.start, rows.stop, contents(split.files)]
      for split, rows in self.parts
    ]
    name = f'{what} {pathlib.Path(self.parts[0][0].name).name}'
    return cache.entry(name, [CACHE_FORMAT, what, *key, facts])


def contents(paths: Sequence[str]) -> list[str]:
  """Returns the SHA-256 of each file: neither sizes nor times tell that a text is another.

  Raises ValueError if one cannot be read.
  """
  with concurrent.futures.ThreadPoolExecutor() as pool:
    return list(pool.map(_content, paths))


def _content(path: str) -> str:
  try:
    facts = os.stat(path)
    return _digest(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
  except OSError as error:
    raise ValueError(f'{path}: cannot be read: {error.strerror}') from error


@functools.lru_cache(1 << 16)
def _digest(path: str, *facts: int) -> str:
  del facts  # what is the same within one process need not be read again
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def select(splits: Mapping[str, TextSplit], split: str) -> Selection:
  """Returns the rows of 'train[:90%]' or 'validation+test', as TFDS slices and joins splits."""
  found = [splits_lib.parse(splits, each.strip()) for each in split.split('+')]
  return Selection(tuple((splits[name], rows) for name, rows in found))


def python(val_fraction: float) -> dict[str, TextSplit]:
  """Returns the source of the running interpreter's standard library, a document for each file.

  Files are in the order of their paths, without tests, tables and packages; one that is not UTF-8
  is left out. With `val_fraction=0.1` every tenth is for validation. CPython 3.11.7 has 608 files,
  9,946,901 bytes or 9,946,644 characters, of 215 kinds.
  """
  root = pathlib.Path(sysconfig.get_paths()['stdlib'])
  folders = [x for x in root.iterdir() if x.is_dir() and x.name not in EXCLUDED]
  found = [*root.glob('*.py'), *(path for folder in folders for path in folder.rglob('*.py'))]
  inside = [path for path in found if not EXCLUDED & {*path.relative_to(root).parts}]
  paths = sorted(path for path in inside if _is_utf8(path))
  if len(paths) < 2:
    raise ValueError(f"data.dataset='python': {root} holds no source, only compiled files")
  return _by_file('python', paths, val_fraction, '')


DATASETS = {'python': python}


def load(
  dataset: str,
  data_dir: str | None = None,
  *,
  val_fraction: float = 0.1,
  separator: str = '',
  pattern: str = '**/*',
) -> Mapping[str, TextSplit]:
  """Returns the splits of a name in DATASETS, of a file or a folder, else of a TFDS set.

  A file is split by characters, the first of them for training; of a folder, the files for
  validation are spread evenly.

  Args:
    dataset: a name, a path, or 'NAME', 'NAME/CONFIG' and either with ':VERSION' of TFDS.
    data_dir: where TFDS sets lie.
    val_fraction: the share of files or characters that is for validation.
    separator: what stands between the documents of a file; '' for a file that is one document.
      A backslash with n, t, r or another is read as in Python.
    pattern: which files of a folder are read.

  Raises:
    ValueError: on what is not there or holds no text.
  """
  path, separator = pathlib.Path(os.path.expanduser(dataset)), files.unescaped(separator)
  prepared = published.root(data_dir) / f'{dataset}.txt'
  if dataset in published.FILES and prepared.is_file() and not prepared.with_suffix('').exists():
    path = prepared
  if os.path.isdir(path) and dataset not in DATASETS:
    found = files.find(path, pattern)
    if not found:
      raise ValueError(
        f'data.dataset={shown(dataset)}: the folder has no files like {shown(pattern)}'
      )
    if len(found) > 1:
      return _by_file(str(path), found, val_fraction, separator)
    path = found[0]
  if os.path.isfile(path) and dataset not in DATASETS:
    return _by_characters(path, val_fraction, separator)
  if separator:
    raise ValueError(
      f'data.separator={shown(separator)}: is of files and folders, not of {dataset}'
    )
  if dataset in DATASETS:
    return DATASETS[dataset](val_fraction)
  if path.suffix or dataset[0:1] in '/.~':
    choices = ', '.join([*DATASETS, 'a file', 'a folder', 'the name of a TFDS set'])
    raise ValueError(f'data.dataset={shown(dataset)}: no such file or folder; choices: {choices}')
  return from_tfds(dataset, data_dir)


def check_separator(selection: Selection, separator: str) -> None:
  """Raises ValueError if a separator stands in none of the files: all would be one document."""
  separator = files.unescaped(separator)
  paths = [pathlib.Path(path) for split, _ in selection.parts for path in split.files]
  texts = (files.read(path) for path in paths)
  if not separator or any(separator in text for text in texts):
    return
  windows = '\n' in separator and any('\r\n' in files.read(path) for path in paths)
  hint = r"; its lines end with '\r\n'" if windows else ''
  raise ValueError(f'data.separator={shown(separator)}: does not occur in {selection.name}{hint}')


# -------- files --------


def _by_file(
  name: str, paths: Sequence[pathlib.Path], val_fraction: float, separator: str
) -> dict[str, TextSplit]:
  """Puts file i into validation where (i + 1) * val_fraction passes a whole number."""
  passed = [int(i * val_fraction + 1e-9) for i in range(len(paths) + 1)]
  last = {len(paths) - 1}
  held_out = {i for i in range(len(paths)) if passed[i + 1] > passed[i]} or last  # never the first
  parts = {
    'train': [path for i, path in enumerate(paths) if i not in held_out],
    'validation': [path for i, path in enumerate(paths) if i in held_out],
  }

  def texts(split: str, mine: Sequence[pathlib.Path]) -> TextSplit:
    def read(rows: range) -> Iterator[str]:
      for row in rows:
        yield from _documents(files.read(mine[row]), separator)

    sources = tuple(map(str, mine))
    return TextSplit(f'{name} {split}', len(mine), read, sources, (split, separator))

  return {split: texts(split, mine) for split, mine in parts.items()}


def _by_characters(path: pathlib.Path, val_fraction: float, separator: str) -> dict[str, TextSplit]:
  """Splits one file: the first 1 - val_fraction of its characters are for training."""

  def texts(split: str) -> TextSplit:
    def read(rows: range) -> Iterator[str]:
      text = files.read(path) if rows else ''
      cut = int(len(text) * (1 - val_fraction))
      yield from _documents(text[:cut] if split == 'train' else text[cut:], separator)

    recipe = (split, val_fraction, separator)
    return TextSplit(f'{path} {split}', 1, read, (str(path),), recipe)

  return {split: texts(split) for split in ('train', 'validation')}


def _documents(text: str, separator: str) -> list[str]:
  return [part for part in (text.split(separator) if separator else [text]) if part]


def _is_utf8(path: pathlib.Path) -> bool:
  try:
    return bool(files.read(path))
  except ValueError:
    return False


# -------- TFDS --------


def from_tfds(dataset: str, data_dir: str | None = None) -> dict[str, TextSplit]:
  """Returns the splits of a TFDS set; errors are those of `data.tfds.open_set`."""
  found = tfds.open_set(dataset, data_dir, (*DATASETS, 'a file', 'a folder'))
  key = found.find_feature('Text', 'text')

  def texts(split: tfds.Split) -> TextSplit:
    def read(rows: range) -> Iterator[str]:
      for start in range(rows.start, rows.stop, CHUNK):
        for example in split.read(range(start, min(start + CHUNK, rows.stop))):
          if text := example[key]:
            yield text.decode()

    return TextSplit(split.name, split.size, read, split.files, (key,))

  return {name: texts(split) for name, split in found.splits().items()}
