"""Sets of sentence pairs by name: the embedded numerals, files, folders, and those of TFDS.

A set is {split: ParallelSplit}. Sentences are given as they stand in their files: what training
makes of odd spaces is in `ParallelSplit.side`, and no reference passes through it.
"""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np

from data import pipeline, tfds
from data.checks import printable, shown
from data.remarks import Remarks
from data.text import files
from data.text.datasets import CHUNK, TextSplit
from data.text.parallel import numerals

Pair = tuple[str, str]
Languages = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class ParallelSplit:
  """One split of a set of pairs.

  name: for messages, such as 'multi30k train'.
  size: the number of pairs.
  read: rows -> their sentences (source, target), unchanged.
  files: the sources; tokens are cached for as long as their contents stay. () is no cache.
  recipe: what else the pairs depend on, as JSON.
  """

  name: str
  size: int
  read: Callable[[range], Sequence[Pair]]
  files: tuple[str, ...] = ()
  recipe: tuple = ()

  def side(self, number: int) -> TextSplit:
    """Returns the sources (0) or the targets (1) as networks see them: see `normalised`."""

    def read(rows: range) -> Iterator[str]:
      return (normalised(pair[number]) for pair in self.read(rows))

    return TextSplit(self.name, self.size, read, self.files, (*self.recipe, 'side', number))


def normalised(sentence: str) -> str:
  """Returns the words with a space before each, whatever kind of space stood there or at the ends.

  So the first word of a sentence is the token that it is elsewhere.
  """
  return ''.join(f' {word}' for word in sentence.split())


def load(
  dataset: str, languages: Languages, data_dir: str | None = None, *, val_fraction: float = 0.1
) -> Mapping[str, ParallelSplit]:
  """Returns the splits of 'numerals', of files or a folder, else of a TFDS set.

  Args:
    dataset: 'numerals'; 'A,B', two files with a sentence a line; a file of lines with a tab between
      the sentences; a folder with files SPLIT.LANGUAGE or SPLIT.tsv; or a TFDS set of translations.
      Files may end in .gz.
    languages: source and target, as the names of files or TFDS's features say them.
    data_dir: where TFDS sets lie.
    val_fraction: the share of the pairs of two files, or of one, that is for validation.

  Raises:
    ValueError: on what is not there, does not fit together, or has not the languages.
  """
  source, target = languages
  if source == target:
    raise ValueError(f'data.source and data.target are both {shown(source)}: must be two languages')
  if dataset == 'numerals':
    return _numerals(languages)
  paths = [pathlib.Path(os.path.expanduser(each.strip())) for each in dataset.split(',')]
  if len(paths) == 1 and dataset and os.path.isdir(paths[0]):
    return _folder(paths[0], languages)
  if len(paths) == 2 or os.path.isfile(paths[0]):  # unlike Path's, false for names that cannot be
    if absent := [path for path in paths if not os.path.isfile(path)]:
      raise ValueError(f'data.dataset={shown(dataset)}: no such file: {printable(str(absent[0]))}')
    return _divided(_of_files(dataset, paths, languages), val_fraction)
  if len(paths) > 2 or paths[0].suffix or dataset[0:1] in '/.~':
    raise ValueError(
      f'data.dataset={shown(dataset)}: no such file or folder; choices: numerals, two files with a'
      ' comma between, a file of tab-separated pairs, a folder, the name of a TFDS set'
    )
  return from_tfds(dataset, languages, data_dir)


def _numerals(languages: Languages) -> dict[str, ParallelSplit]:
  _check_languages('numerals', languages, numerals.LANGUAGES)

  def split(name: str, numbers: Sequence[int]) -> ParallelSplit:
    def read(rows: range) -> list[Pair]:
      names = [tuple(numerals.in_words(numbers[row], x) for x in languages) for row in rows]
      return [(source, target) for source, target in names]

    return ParallelSplit(f'numerals {name}', len(numbers), read)

  return {name: split(name, numbers) for name, numbers in numerals.splits().items()}


def _check_languages(where: str, languages: Languages, known: Collection[str]) -> None:
  for key, language in zip(('source', 'target'), languages, strict=True):
    if language not in known:
      raise ValueError(
        f'data.{key}={shown(language)}: {where} has no such language; choices:'
        f' {", ".join(map(printable, sorted(known))) or "none"}'
      )


# -------- files --------


def _folder(root: pathlib.Path, languages: Languages) -> dict[str, ParallelSplit]:
  """Finds SPLIT.LANGUAGE of both languages, and SPLIT.tsv; a file without partner is left out."""
  found: dict[str, dict[str, pathlib.Path]] = {}
  for path in _files_in(root):
    stem, _, ending = path.name.removesuffix('.gz').removesuffix('.txt').rpartition('.')
    found.setdefault(re.sub(r'\W+', '_', stem), {})[ending] = path
  where = printable(str(root))
  splits, alone = {}, Remarks(f'{where}: left out')
  for name, paths in found.items():
    if 'tsv' in paths:
      splits[name] = _of_files(f'{root} {name}', [paths['tsv']], languages)
    elif {*languages} <= paths.keys():
      splits[name] = _of_files(f'{root} {name}', [paths[x] for x in languages], languages)
    elif one := paths.keys() & {*languages}:
      alone.add('files without a partner', printable(paths[min(one)].name))
  if not splits:
    # A split has several files; others, such as a README, are no language's.
    known = {x for paths in found.values() if len(paths) > 1 for x in paths}
    _check_languages(where, languages, known)
    raise ValueError(f'{where}: no split has files of both {" and ".join(languages)}')
  alone.say()
  return splits


def _files_in(root: pathlib.Path) -> list[pathlib.Path]:
  try:
    return sorted(path for path in root.iterdir() if path.is_file())
  except OSError as error:
    raise ValueError(f'{printable(str(root))}: cannot be read: {error.strerror}') from error


def _of_files(name: str, paths: Sequence[pathlib.Path], languages: Languages) -> ParallelSplit:
  """Returns the pairs of two files, line by line, or those of one with tabs."""
  recipe = () if len(paths) == 2 else ('tabs', *languages)
  text = functools.cache(lambda: _pairs(paths, languages))  # read once for both sides

  def read(rows: range) -> Sequence[Pair]:
    return text()[rows.start : rows.stop]

  return ParallelSplit(name, len(text()), read, tuple(map(str, paths)), recipe)


def _pairs(paths: Sequence[pathlib.Path], languages: Languages) -> list[Pair]:
  if len(paths) == 1:
    return _tabbed(paths[0], languages)
  sides = [lines(path) for path in paths]
  counts = [len(side) for side in sides]
  if counts[0] != counts[1]:
    longer = counts.index(max(counts))
    raise ValueError(
      f'{printable(str(paths[longer]))}, line {min(counts) + 1}: has no translation, since'
      f' {printable(str(paths[1 - longer]))} has only {min(counts):,} lines and this'
      f' {max(counts):,}; must be equally many'
    )
  return list(zip(*sides, strict=True))


def lines(path: pathlib.Path) -> list[str]:
  r"""Returns the lines of a file, without their ends '\n' or '\r\n'.

  Unlike `str.splitlines` it does not take U+2028, U+0085 and others for the end of a line, which
  would shift all that follow.
  """
  text = files.read(path)
  if not text:
    raise ValueError(f'{printable(str(path))}: is empty')
  return [line.removesuffix('\r') for line in text.removesuffix('\n').split('\n')]


def _tabbed(path: pathlib.Path, languages: Languages) -> list[Pair]:
  """Returns the first two columns; of a file whose first line names them, the languages'."""
  rows = [line.split('\t') for line in lines(path)]
  named = {*languages} <= {*rows[0]}
  one, two = (rows[0].index(x) for x in languages) if named else (0, 1)
  for number, row in enumerate(rows, 1):
    if len(row) <= max(one, two):
      raise ValueError(
        f'{printable(str(path))}, line {number}: {shown(chr(9).join(row))} has'
        f' {len(row) - 1} tabs; must have {max(one, two)} at least, between the sentences of a pair'
      )
  return [(row[one], row[two]) for row in (rows[1:] if named else rows)]


def _divided(whole: ParallelSplit, val_fraction: float) -> dict[str, ParallelSplit]:
  """Divides pairs into 'train' and 'validation', which is drawn evenly from all of them."""
  held_out = pipeline.even_rows(max(1, round(whole.size * val_fraction)), whole.size)
  rest = np.setdiff1d(np.arange(whole.size), held_out)
  if not len(rest):
    raise ValueError(f'{whole.name}: has {whole.size} pairs; must have one to train on as well')

  def part(name: str, mine: np.ndarray) -> ParallelSplit:
    def read(rows: range) -> list[Pair]:
      return [whole.read(range(row, row + 1))[0] for row in mine[rows.start : rows.stop].tolist()]

    recipe = (*whole.recipe, name, val_fraction)
    return ParallelSplit(f'{whole.name} {name}', len(mine), read, whole.files, recipe)

  return {'train': part('train', rest), 'validation': part('validation', held_out)}


# -------- TFDS --------


def from_tfds(
  dataset: str, languages: Languages, data_dir: str | None = None
) -> dict[str, ParallelSplit]:
  """Returns the splits of a TFDS set of translations; errors are those of `data.tfds.open_set`."""
  found = tfds.open_set(dataset, data_dir, ('numerals', 'two files', 'a folder'))
  _check_languages(f'the set {dataset}', languages, found.features)

  def pairs(split: tfds.Split) -> ParallelSplit:
    def read(rows: range) -> list[Pair]:
      starts = range(rows.start, rows.stop, CHUNK)
      parts = (split.read(range(start, min(start + CHUNK, rows.stop))) for start in starts)
      examples = (example for part in parts for example in part)
      return [(x[languages[0]].decode(), x[languages[1]].decode()) for x in examples]

    return ParallelSplit(split.name, split.size, read, split.files, languages)

  return {name: pairs(split) for name, split in found.splits().items()}
