"""Which words of a text count, and what training needs to know of each."""

import collections
import dataclasses
import functools
import heapq
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from data.checks import shown
from data.text.words.reading import LINE_END

FILE = 'vocabulary.txt'
MOST = 20_000_000  # different words that are counted at once; then the rarest are forgotten
POWER = 0.75  # of counts, with which negatives are drawn (Mikolov 2013b, section 2.2)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Words by falling count, those of one count in the order in which the text has them.

  Attributes:
    words: V of them.
    counts: int64 `[V]`.
  """

  words: Sequence[str]
  counts: np.ndarray

  @functools.cached_property
  def numbers(self) -> dict[str, int]:
    """Word -> its place, from 0."""
    return {word: i for i, word in enumerate(self.words)}

  @property
  def total(self) -> int:
    """How many words the text has that count."""
    return int(self.counts.sum())

  def keep(self, sample: float) -> np.ndarray:
    """Returns float64 [V]: the chance that a word is read where it stands.

    It is sqrt(t / f) + t / f of its frequency f, as in word2vec.c; Mikolov 2013b (equation 5) has
    another formula. t = `sample`; 0: all are kept.
    """
    if not sample:
      return np.ones(len(self.counts))
    ratio = sample * self.total / np.maximum(self.counts, 1)
    return np.minimum(1, np.sqrt(ratio) + ratio)

  def negatives(self) -> np.ndarray:
    """Returns uint32 [V]: cumulative probabilities of negatives, times 2**32."""
    share = np.cumsum(np.maximum(self.counts, 1).astype(np.float64) ** POWER)
    return np.minimum(share / share[-1] * 2**32, 2**32 - 1).astype(np.uint32)

  def huffman(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns `nodes` int32 and `codes` bool [V, L], from the root to each word; -1 behind.

    The two rarest of what is left become one, until one is left (Mikolov 2013a, section 3.1).
    """
    size = len(self.words)
    heap = [(int(count), -i) for i, count in enumerate(self.counts)]  # of equals, the later word
    heapq.heapify(heap)
    parent, turn = np.zeros(2 * size - 1, np.int32), np.zeros(2 * size - 1, bool)
    for new in range(size, 2 * size - 1):
      (a, left), (b, right) = heapq.heappop(heap), heapq.heappop(heap)
      parent[-left] = parent[-right] = new
      turn[-right] = True
      heapq.heappush(heap, (a + b, -new))
    return _paths(parent, turn, size)

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes FILE, as word2vec.c's -save-vocab does: a word and its count a line."""
    lines = (f'{word} {count}\n' for word, count in zip(self.words, self.counts, strict=True))
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    with open(pathlib.Path(folder, FILE), 'w', encoding='utf-8') as file:
      file.writelines(lines)


def _paths(parent: np.ndarray, turn: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns the paths of a tree, of whose nodes the first `size` are leaves and the last the root.

  Inner nodes are numbered from 0.
  """
  root, at, steps = len(parent) - 1, np.arange(size), []
  while (going := at != root).any():
    up = np.where(going, parent[at], root)
    steps.append((np.where(going, up - size, -1), turn[at] & going))
    at = up
  columns = [np.stack(x, axis=1) for x in zip(*steps, strict=True)] if steps else []
  nodes, codes = columns or (np.zeros((size, 0), int), np.zeros((size, 0), bool))
  # From the leaves up, padded behind, to from the root down, padded behind.
  depth = (nodes >= 0).sum(1, keepdims=True)
  order = (depth - 1 - np.arange(nodes.shape[1])) % max(nodes.shape[1], 1)
  return (
    np.take_along_axis(nodes, order, 1).astype(np.int32),
    np.take_along_axis(codes, order, 1),
  )


def load(folder: str | pathlib.Path) -> Vocabulary:
  """Returns the vocabulary that `save` wrote.

  Raises:
    ValueError: the file is damaged.
  """
  path, found = pathlib.Path(folder, FILE), {}
  try:
    with open(path, encoding='utf-8', newline='\n') as file:
      for number, line in enumerate(file, 1):
        word, _, count = line.rstrip('\n').rpartition(' ')
        if not word or not count.isdecimal() or word in found or int(count) >= 2**62:
          raise ValueError(f'line {number} is {shown(line)}, not a new word and its count')
        found[word] = int(count)
  except (OSError, ValueError) as error:
    raise ValueError(f'{path}: damaged: {error}') from error
  return Vocabulary(list(found), np.array(list(found.values()), np.int64))


def holds(folder: str | pathlib.Path | None) -> bool:
  """Returns whether a folder holds a vocabulary."""
  return folder is not None and pathlib.Path(folder, FILE).is_file()


def count(pieces: Iterable[list[str]], min_count: int, max_size: int = 0) -> Vocabulary:
  """Returns the words that are there `min_count` times or more; of these the first `max_size`.

  Of a text of more than MOST different words the rarest are forgotten on the way, as in
  word2vec.c, so that memory is bounded.
  """
  counts: collections.Counter[str] = collections.Counter()
  least = 1
  for words in pieces:
    counts.update(words)
    while len(counts) > MOST:
      least += 1
      counts = collections.Counter({x: n for x, n in counts.items() if n >= least})
  del counts[LINE_END]
  # A stable sort: words of one count stay as they were seen.
  words = sorted((x for x, n in counts.items() if n >= min_count), key=lambda x: -counts[x])
  words = words[: max_size or None]
  return Vocabulary(words, np.array([counts[x] for x in words], np.int64))
