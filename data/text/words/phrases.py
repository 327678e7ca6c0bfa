"""Phrases: pairs of words that stand together more often than chance has it, joined by "_".

Mikolov et al. 2013b, section 4; the score is that of word2phrase.c, so times the number of words.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

from data.text.words.reading import LINE_END

MOST = 20_000_000  # pairs that are counted at once; then the rarest are forgotten

Pieces = Callable[[], Iterator[list[str]]]


@dataclasses.dataclass(frozen=True)
class Phrases:
  """How phrases are found: the group `data.phrases`.

  Attributes:
    passes: how often pairs are joined, 0: never; two make phrases of up to four words.
    threshold: of the score in the first pass, (count(ab) - delta) N / (count(a) count(b)); halved
      for each pass that follows.
    delta: pairs that are there so often or less are no phrases.
  """

  passes: int = 0
  threshold: float = 100.0
  delta: int = 5


def find(pieces: Pieces, how: Phrases) -> Pieces:
  """Returns the text with its phrases joined; it is read once for each pass."""
  for number in range(how.passes):
    joined = _choose(pieces, how.threshold / 2**number, how.delta)
    pieces = functools.partial(_join, pieces, joined)
  return pieces


def _choose(pieces: Pieces, threshold: float, delta: int) -> frozenset[tuple[str, str]]:
  """Returns the pairs whose score is above the threshold."""
  words: collections.Counter[str] = collections.Counter()
  pairs: collections.Counter[tuple[str, str]] = collections.Counter()
  least = 1
  for piece in pieces():
    words.update(piece)
    pairs.update(itertools.pairwise(piece))
    while max(len(pairs), len(words)) > MOST:
      least += 1
      pairs = collections.Counter({x: n for x, n in pairs.items() if n >= least})
      words = collections.Counter({x: n for x, n in words.items() if n >= least})
  del words[LINE_END]
  total = words.total()
  return frozenset(
    (a, b)
    for (a, b), n in pairs.items()
    if n > delta and words[a] and words[b]
    if (n - delta) * total > threshold * words[a] * words[b]
  )


def _join(pieces: Pieces, joined: frozenset[tuple[str, str]]) -> Iterator[list[str]]:
  for piece in pieces():
    found: list[str] = []
    left = None  # a word that may begin a phrase
    for word in piece:
      if left is not None and (left, word) in joined:
        found[-1] = f'{left}_{word}'
        left = None  # no word is of two phrases in one pass
      else:
        found.append(word)
        left = word
    yield found
