"""The kinds of tokenizers: characters, bytes, GPT-2's BPE, others' BPE, and one of one's own text.

Where no tokenizer is known, `Numbers` takes and gives the token ids themselves.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from data.checks import shown
from data.text import tokenizer_json
from data.text.bpe import BPE, byte_bpe, save_characters, train_bpe
from data.text.tokenizer import (
  KIND_FILE,
  Codec,
  IncrementalDecoder,
  Tokenizer,
  UnknownTextError,
  checked,
  unknown_character,
)
from data.text.tokenizer_folder import FILES, OTHERS, gpt2
from data.text.tokenizer_json import TokenizerJson

__all__ = [
  'BPE',
  'Bytes',
  'Characters',
  'IncrementalDecoder',
  'Numbers',
  'Tokenizer',
  'TokenizerJson',
  'UnknownTextError',
  'characters',
  'fingerprint',
  'gpt2',
  'holds_tokenizer',
  'load',
  'train_bpe',
]


def holds_tokenizer(folder: str | pathlib.Path) -> bool:
  """Tells whether a folder holds a tokenizer, a part of one, or one that `load` refuses."""
  return any((pathlib.Path(folder) / name).exists() for name in (KIND_FILE, *FILES, *OTHERS))


def load(folder: str | pathlib.Path) -> Tokenizer:
  """Loads the tokenizer that `save` wrote, or that of a folder of transformers'.

  Raises ValueError if there is none, or if it is damaged.
  """
  path = pathlib.Path(folder) / KIND_FILE
  if not path.exists():
    return tokenizer_json.load(folder) if tokenizer_json.recognises(folder) else gpt2(folder)
  try:
    saved = json.loads(path.read_text('utf-8'))
    kinds: dict[str, Any] = {'characters': Characters, 'bytes': Bytes, 'numbers': Numbers}
    return kinds[saved.pop('kind')](**saved)
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
    raise ValueError(f'{path}: not what save writes: {error}') from error


def fingerprint(tokenizer: Tokenizer) -> str:
  """Returns a digest that is equal for tokenizers that give every text the same ids.

  They are dataclasses, and their fields are JSON.
  """
  fields: Any = tokenizer
  facts = [tokenizer.name, {x.name: getattr(fields, x.name) for x in dataclasses.fields(fields)}]
  return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def characters(text: str) -> 'Characters':
  """Returns a tokenizer of the characters that the text has."""
  return Characters(''.join(sorted(set(text))))


@dataclasses.dataclass(frozen=True)
class Characters(Codec):
  """A token for each character.

  characters: each once, in the order of code points; token i is the i-th of them.
  """

  characters: str
  name: ClassVar[str] = 'characters'
  eot: ClassVar[None] = None
  ends: ClassVar[tuple[int, ...]] = ()

  def __post_init__(self):
    self.characters.encode()  # raises on half a surrogate pair, which no text has
    if not self.characters or list(self.characters) != sorted(set(self.characters)):
      raise ValueError(
        f'characters={self.characters[:40]!r}: must be at least one, each once, in order'
      )

  @property
  def vocab_size(self) -> int:
    return len(self.characters)

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [self._encode(text) for text in texts]

  def _encode(self, text: str) -> np.ndarray:
    table, codes = _code_points(self.characters), _code_points(text)
    ids = np.minimum(np.searchsorted(table, codes), len(table) - 1)
    wrong = np.flatnonzero(table[ids] != codes)
    if len(wrong):
      raise unknown_character(text, int(wrong[0]), f'the {len(table)} characters of the vocabulary')
    return ids.astype(np.uint32)

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    return ''.join(self.characters[i] for i in checked(ids, self.vocab_size)).encode()

  def save(self, folder: str | pathlib.Path) -> None:
    _write_kind(folder, {'kind': self.name, 'characters': self.characters})

  def save_for_transformers(self, folder: str | pathlib.Path) -> bool:
    save_characters(self.characters, folder)
    return super().save_for_transformers(folder)


@dataclasses.dataclass(frozen=True)
class Bytes(Codec):
  """The bytes of UTF-8, and token 256 for the end of a text, which decodes to nothing."""

  name: ClassVar[str] = 'bytes'
  vocab_size: ClassVar[int] = 257
  eot: ClassVar[int] = 256
  ends: ClassVar[tuple[int, ...]] = (256,)

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    return bytes(i for i in checked(ids, self.vocab_size) if i != self.eot)

  def save(self, folder: str | pathlib.Path) -> None:
    _write_kind(folder, {'kind': self.name})

  def save_for_transformers(self, folder: str | pathlib.Path) -> bool:
    byte_bpe().save(folder)
    return super().save_for_transformers(folder)


@dataclasses.dataclass(frozen=True)
class Numbers(Codec):
  """Token ids as they are: the text is decimal numbers between spaces or line breaks.

  The decoded text has a space behind each. `ends` are the ids at which a text ends.
  """

  vocab_size: int
  ends: Sequence[int] = ()
  name: ClassVar[str] = 'numbers'

  def __post_init__(self):
    if not isinstance(self.vocab_size, int) or self.vocab_size < 1:
      raise ValueError(f'vocab_size={self.vocab_size!r}: must be a whole number of at least 1')
    object.__setattr__(self, 'ends', tuple(checked(self.ends, self.vocab_size)))

  @property
  def eot(self) -> int | None:
    return self.ends[0] if self.ends else None

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [self._encode(text.split()) for text in texts]

  def _encode(self, words: Sequence[str]) -> np.ndarray:
    for where, word in enumerate(words):
      if not (word.isascii() and word.isdecimal() and int(word) < self.vocab_size):
        known = f'the numbers from 0 to {self.vocab_size - 1}'
        raise UnknownTextError(f'{shown(word)}, word {where} of the text: not among {known}')
    return np.array(list(map(int, words)), np.uint32)

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    return b''.join(b'%d ' % i for i in checked(ids, self.vocab_size))

  def save(self, folder: str | pathlib.Path) -> None:
    _write_kind(folder, {'kind': self.name, 'vocab_size': self.vocab_size, 'ends': self.ends})

  def save_for_transformers(self, folder: str | pathlib.Path) -> bool:
    self.save(folder)
    return False


def _code_points(text: str) -> np.ndarray:
  """Returns uint32 [characters]."""
  return np.frombuffer(text.encode('utf-32-le', 'surrogatepass'), np.uint32)


def _write_kind(folder: str | pathlib.Path, facts: dict[str, Any]) -> None:
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / KIND_FILE).write_text(json.dumps(facts) + '\n', 'utf-8')
