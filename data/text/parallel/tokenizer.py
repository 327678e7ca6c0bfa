"""Sentences as ids: those of a tokenizer of `data.text`, and in front of them three of our own.

Ids are a tokenizer's plus 3, so that no text, not even one that has '</s>' in it, can be taken for
padding, beginning or end.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from data.text.tokenizer import Tokenizer

PAD, BOS, EOS = 0, 1, 2
RESERVED = 3  # ids that are no pieces


@dataclasses.dataclass(frozen=True)
class PieceTokenizer:
  """The joint vocabulary of two languages; `pieces` encodes sentences with a space in front."""

  pieces: Tokenizer

  @property
  def vocab_size(self) -> int:
    """The number of ids; the last may be of no piece (`padded_size`)."""
    return padded_size(RESERVED + self.pieces.vocab_size)

  def encode(self, sentence: str) -> list[int]:
    """Returns the ids of a sentence, without that of the end; `decode` gives the very sentence."""
    return [i + RESERVED for i in self.pieces.encode(f' {sentence}')]

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of ids up to the first EOS; what is no piece adds nothing."""
    return self.pieces.decode(_pieces(ids, self.pieces.vocab_size)).removeprefix(' ')

  def each(self, ids: Iterable[int]) -> list[str]:
    """Returns the text of each piece up to the first EOS, a space as it is: for pictures."""
    return [self.pieces.decode([i]) for i in _pieces(ids, self.pieces.vocab_size)]


def padded_size(vocab_size: int) -> int:
  """Returns the next multiple of 8, which the devices of a mesh can share."""
  return -(-vocab_size // 8) * 8


def ended(pieces: np.ndarray) -> np.ndarray:
  """Returns int32 ids of a tokenizer's pieces, with EOS behind them."""
  return np.append(pieces.astype(np.int32) + RESERVED, np.int32(EOS))


def _pieces(ids: Iterable[int], vocab_size: int) -> list[int]:
  found = [int(i) for i in ids]
  end = found.index(EOS) if EOS in found else len(found)
  return [i - RESERVED for i in found[:end] if RESERVED <= i < RESERVED + vocab_size]
