"""A text as numbers of words: written once, kept in the cache, and mapped into memory."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data import cache
from data.text import datasets
from data.text.words import phrases as phrases_lib
from data.text.words import vocabulary as vocabulary_lib
from data.text.words.reading import LINE_END, Text
from data.text.words.vocabulary import Vocabulary

FORMAT = 1  # raise it when the same text comes out as other numbers
END = -1  # of a sentence, in a stream
UNKNOWN = -2


@dataclasses.dataclass(frozen=True)
class Corpus:
  """A text's vocabulary, and its words as a stream.

  Attributes:
    vocabulary: of the words that count.
    stream: int32 `[N]`: numbers of words, END behind each sentence; others are left out.
  """

  vocabulary: Vocabulary
  stream: np.ndarray


def build(text: Text, how: phrases_lib.Phrases, min_count: int, max_vocab: int) -> Corpus:
  """Returns the corpus of a text, from the cache where it has it.

  Raises:
    ValueError: a file cannot be read, or no word is there often enough.
  """
  made_of: list[Any] = [FORMAT, text.words, text.lower, min_count, max_vocab]
  key = [*made_of, list(dataclasses.astuple(how)), datasets.contents(text.paths)]
  folder = cache.entry(f'words {pathlib.Path(text.name).name}', key) if text.paths else None
  # The embedded text has no files that tell whether it is the same: it is read anew, in seconds.

  def write(folder: cache.Folder) -> None:
    _write(folder, text, how, min_count, max_vocab)

  return cache.load_or_write(folder, _load, write)


def _write(
  folder: cache.Folder, text: Text, how: phrases_lib.Phrases, min_count: int, max_vocab: int
) -> None:
  pieces: Callable[[], Iterator[list[str]]] = phrases_lib.find(text.pieces, how)
  vocabulary = vocabulary_lib.count(pieces(), min_count, max_vocab)
  if len(vocabulary.words) < 2:
    raise ValueError(
      f'{text.name}: fewer than two different words are there data.min_count={min_count} times'
    )
  vocabulary.save(folder)
  length, place = 0, {**vocabulary.numbers, LINE_END: END}
  with open(folder / 'words.bin', 'wb') as file:
    for words in pieces():
      numbers = np.array([place.get(word, UNKNOWN) for word in words], '<i4')
      numbers = numbers[numbers != UNKNOWN]
      file.write(numbers.tobytes())
      length += len(numbers)
  (folder / 'words.json').write_text(json.dumps({'length': length}))


def _load(folder: cache.Folder) -> Corpus:
  stream = np.memmap(folder / 'words.bin', '<i4', 'r')
  if len(stream) != json.loads((folder / 'words.json').read_text())['length']:
    raise ValueError(f'{folder}: cut short')
  return Corpus(vocabulary_lib.load(folder), stream)
