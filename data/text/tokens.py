"""What a tokenizer is, and text out of tokens that come one by one."""

import codecs
import pathlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

KIND = 'tokenizer_kind.json'  # what `save` writes where Hugging Face has no file for it


class Tokenizer(Protocol):
  """name: characters, bytes, gpt2, bpe or numbers. eot: the token that ends a document, or None."""

  name: str
  vocab_size: int
  eot: int | None

  def encode(self, text: str) -> list[int]:
    """Raises ValueError on a character that no token stands for; '' is []."""
    return self.encode_many([text])[0].tolist()

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    """uint32 [tokens] of each text; on all cores, where that helps."""
    ...

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    """The UTF-8 of the tokens, which may begin and end within a character."""
    ...

  def decode(self, ids: Iterable[int]) -> str:
    """What is not UTF-8, such as half a character, becomes U+FFFD."""
    return self.to_bytes(ids).decode('utf-8', 'replace')

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes what `load` reads."""
    ...


class Stream:
  """Decodes tokens as they come; a character is held back until its last byte is there."""

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._decoder = codecs.getincrementaldecoder('utf-8')('replace')

  def push(self, ids: Iterable[int]) -> str:
    """The characters that these tokens complete."""
    return self._decoder.decode(self._tokenizer.to_bytes(ids))

  def end(self) -> str:
    """What was held back; with it, all that `push` gave is what `decode` gives at once."""
    return self._decoder.decode(b'', final=True)


class Unknown(ValueError):
  """A text holds something that no token stands for."""


def unknown(text: str, where: int, known: str) -> Unknown:
  character = text[where]
  return Unknown(
    f'character {character!r} (U+{ord(character):04X}) at {where} of the text: not among {known}'
  )


def checked(ids: Iterable[int], vocab_size: int) -> list[int]:
  ids = [int(i) for i in ids]
  if wrong := [i for i in ids if not 0 <= i < vocab_size]:
    raise ValueError(f'token {wrong[0]}: must be at least 0 and less than {vocab_size}')
  return ids
