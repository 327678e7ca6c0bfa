"""What a tokenizer is, and decoding of tokens that come one by one."""

import abc
import codecs
import pathlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

KIND_FILE = 'tokenizer_kind.json'  # what `save` writes where Hugging Face has no file for it


class Tokenizer(Protocol):
  """A text as token ids and back; every text that can be encoded is decoded unchanged."""

  @property
  def name(self) -> str:
    """One of characters, bytes, gpt2, bpe, huggingface and numbers."""
    ...

  @property
  def vocab_size(self) -> int:
    """The number of tokens; their ids are 0 to vocab_size - 1."""
    ...

  @property
  def eot(self) -> int | None:
    """The id of the end-of-text token, which separates documents, or None."""
    ...

  @property
  def bos(self) -> int | None:
    """The id that a model wants in front of every text, or None."""
    ...

  @property
  def ends(self) -> Sequence[int]:
    """The ids at which a text ends that a model writes: `eot`, and perhaps others."""
    ...

  def encode(self, text: str) -> list[int]:
    """Returns the ids of a text; raises UnknownTextError if no token stands for a part of it."""
    ...

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns ids, uint32 [tokens], of each text; uses all cores where that helps."""
    ...

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    """Returns the UTF-8 of the tokens, which may begin and end within a character."""
    ...

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text; what is not UTF-8, such as half a character, becomes U+FFFD."""
    ...

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes what `data.text.tokenizers.load` reads."""
    ...

  def save_for_transformers(self, folder: str | pathlib.Path) -> bool:
    """Writes that and what transformers' AutoTokenizer reads; returns False if it has no such one.

    Bytes become a BPE without merges, and so do characters.
    """
    ...


class Codec(abc.ABC):
  """The methods of a `Tokenizer` that the others make up."""

  @property
  def bos(self) -> int | None:
    return None

  @abc.abstractmethod
  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]: ...

  @abc.abstractmethod
  def to_bytes(self, ids: Iterable[int]) -> bytes: ...

  @abc.abstractmethod
  def save(self, folder: str | pathlib.Path) -> None: ...

  def encode(self, text: str) -> list[int]:
    return self.encode_many([text])[0].tolist()

  def decode(self, ids: Iterable[int]) -> str:
    return self.to_bytes(ids).decode('utf-8', 'replace')

  def save_for_transformers(self, folder: str | pathlib.Path) -> bool:
    self.save(folder)
    return True


class IncrementalDecoder:
  """Decodes tokens as they come; a character is held back until its last byte is there."""

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._decoder = codecs.getincrementaldecoder('utf-8')('replace')

  def push(self, ids: Iterable[int]) -> str:
    """Returns the characters that these tokens complete."""
    return self._decoder.decode(self._tokenizer.to_bytes(ids))

  def end(self) -> str:
    """Returns what was held back; with it, all that `push` gave is what `decode` gives at once."""
    return self._decoder.decode(b'', final=True)


class UnknownTextError(ValueError):
  """A text holds something that no token stands for."""


def unknown_character(text: str, where: int, known: str) -> UnknownTextError:
  """Returns the error for the character at `where`, which is not among `known`."""
  character = text[where]
  return UnknownTextError(
    f'character {character!r} (U+{ord(character):04X}) at {where} of the text: not among {known}'
  )


def checked(ids: Iterable[int], vocab_size: int) -> list[int]:
  """Returns the ids; raises ValueError if one is not from 0 to vocab_size - 1."""
  ids = [int(i) for i in ids]
  if wrong := [i for i in ids if not 0 <= i < vocab_size]:
    raise ValueError(f'token {wrong[0]}: must be at least 0 and less than {vocab_size}')
  return ids
