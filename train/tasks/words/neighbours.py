"""Which words are near others: cosines between vectors, sums of words, the verb sample."""

import dataclasses
import difflib
import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from data.text.words.vocabulary import Vocabulary
from train.errors import UserError, shown
from train.task import Variables

FILE = 'neighbours.txt'


@dataclasses.dataclass(frozen=True)
class Vectors:
  """Vectors of a vocabulary's words, each of length 1.

  Attributes:
    vocabulary: V words.
    rows: float32 `[V, D]`.
    lower: whether words that are asked for are made lower case.
  """

  vocabulary: Vocabulary
  rows: np.ndarray
  lower: bool = True

  def number(self, word: str, option: str) -> int:
    """Returns a word's place.

    Raises:
      UserError: it is not in the vocabulary; the nearest spellings are named.
    """
    word = word.lower() if self.lower else word
    numbers = self.vocabulary.numbers
    if word not in numbers:
      near = difflib.get_close_matches(word[:100], self.vocabulary.words, n=3)
      hint = f'; near spellings: {", ".join(near)}' if near else ''
      raise UserError(
        f'{option}={shown(word)}: is not among the {len(numbers):,} words of the vocabulary{hint}'
      )
    return numbers[word]

  def near(self, plus: Sequence[int], minus: Sequence[int], count: int) -> list[tuple[str, float]]:
    """Returns the words nearest to the sum of some less others, with cosines; not these words."""
    target = self.rows[list(plus)].sum(0) - self.rows[list(minus)].sum(0)
    cosines = self.rows @ (target / max(float(np.linalg.norm(target)), 1e-30))
    cosines[[*plus, *minus]] = -np.inf
    order = np.argsort(-cosines, kind='stable')[: min(count, len(cosines) - len({*plus, *minus}))]
    return [(self.vocabulary.words[i], float(cosines[i])) for i in order.tolist()]


def table_of(variables: Variables) -> np.ndarray:
  """Returns the vectors of a model's words, float32 [V, D]: its input table, wherever it lies."""
  table = variables['params']['input']
  if isinstance(table, jax.Array) and not table.is_fully_addressable:
    table = multihost_utils.process_allgather(table, tiled=True)
  return np.asarray(table, np.float32)


def of(variables: Variables, vocabulary: Vocabulary, *, lower: bool) -> Vectors:
  """Returns the vectors of a model's words, each made of length 1."""
  rows = table_of(variables)
  return Vectors(vocabulary, rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-30)[:, None], lower)


def known(vectors: Vectors, words: Sequence[str]) -> list[str]:
  """Returns those of the words that the vocabulary has."""
  words = [word.lower() for word in words] if vectors.lower else list(words)
  return [word for word in dict.fromkeys(words) if word in vectors.vocabulary.numbers]


def listing(
  vectors: Vectors, plus: Sequence[str], minus: Sequence[str] = (), count: int = 10
) -> str:
  """Returns lines: what was asked, then the nearest words with their cosines.

  Raises:
    UserError: a word is not in the vocabulary.
  """
  added = [vectors.number(word, '--word') for word in plus]
  taken = [vectors.number(word, '--minus') for word in minus]
  head = ' + '.join(plus) + ''.join(f' - {word}' for word in minus)
  lines = (f'  {cosine:.3f}  {word}' for word, cosine in vectors.near(added, taken, count))
  return '\n'.join([head, *lines]) + '\n'


def table(vectors: Vectors, words: Sequence[str], count: int = 6) -> str:
  """Returns a line for each word: it and its nearest."""
  width = max(map(len, words), default=0)
  return ''.join(
    f'{word:<{width}}  {", ".join(near for near, _ in found)}\n'
    for word in words
    for found in [vectors.near([vectors.vocabulary.numbers[word]], [], count)]
  )


def keep(folder: str, text: str) -> str:
  """Adds a text to the file of a run's lists, and returns its path."""
  os.makedirs(folder, exist_ok=True)
  path = os.path.join(folder, FILE)
  with open(path, 'a', encoding='utf-8') as file:
    file.write(text)
  return path
