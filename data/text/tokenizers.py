"""From text to token numbers and back: characters, bytes, GPT-2's BPE, and a BPE of one's own text.

Every tokenizer gives back the text that it was given; `Stream` does so as the tokens come. Where no
tokenizer is known, `Numbers` takes and gives the tokens themselves.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from data.text.bpe import BPE, gpt2, of_bytes, save_characters, train_bpe
from data.text.tokens import KIND, Stream, Tokenizer, Unknown, checked, unknown

# What a folder that holds a tokenizer has at least one of.
FILES = (KIND, 'tokenizer.json', 'vocab.json', 'merges.txt', 'encoder.json', 'vocab.bpe')

__all__ = [
  'BPE',
  'Bytes',
  'Characters',
  'Numbers',
  'Stream',
  'Tokenizer',
  'Unknown',
  'bytes_',
  'characters',
  'fingerprint',
  'gpt2',
  'is_there',
  'load',
  'save_for_transformers',
  'train_bpe',
]


def is_there(folder: str | pathlib.Path) -> bool:
  """Whether a folder holds a tokenizer, or a part of one."""
  return any((pathlib.Path(folder) / name).exists() for name in FILES)


def load(folder: str | pathlib.Path) -> Tokenizer:
  """The tokenizer that `save` wrote, or that of a GPT-2 folder; ValueError where there is none."""
  path = pathlib.Path(folder) / KIND
  if not path.exists():
    return gpt2(folder)
  try:
    saved = json.loads(path.read_text('utf-8'))
    kinds = {'characters': Characters, 'bytes': Bytes, 'numbers': Numbers}
    return kinds[saved.pop('kind')](**saved)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path}: not what save writes: {error}') from error


def save_for_transformers(tokenizer: Tokenizer, folder: str | pathlib.Path) -> bool:
  """Saves it so that both `load` and transformers' AutoTokenizer load it; False if only `load`.

  Bytes become a BPE without merges, and so do characters.
  """
  if isinstance(tokenizer, Bytes):
    of_bytes().save(folder)
  if isinstance(tokenizer, Characters):
    save_characters(tokenizer.characters, folder)
  tokenizer.save(folder)
  return not isinstance(tokenizer, Numbers)


def fingerprint(tokenizer: Tokenizer) -> str:
  """Equal for tokenizers that give every text the same numbers."""
  facts = [
    tokenizer.name,
    {x.name: getattr(tokenizer, x.name) for x in dataclasses.fields(tokenizer)},
  ]
  return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def characters(text: str) -> 'Characters':
  """A token for each character that the text has, in the order of their code points."""
  return Characters(''.join(sorted(set(text))))


@dataclasses.dataclass(frozen=True)
class Characters(Tokenizer):
  """`characters`: distinct and in the order of code points; token i is the i-th of them."""

  characters: str
  name = 'characters'
  eot = None

  def __post_init__(self):
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
      raise unknown(text, int(wrong[0]), f'the {len(table)} characters of the vocabulary')
    return ids.astype(np.uint32)

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    return ''.join(self.characters[i] for i in checked(ids, self.vocab_size)).encode()

  def save(self, folder: str | pathlib.Path) -> None:
    _write_kind(folder, {'kind': self.name, 'characters': self.characters})


@dataclasses.dataclass(frozen=True)
class Bytes(Tokenizer):
  """The bytes of UTF-8, and token 256 for the end of a document, which decodes to nothing."""

  name = 'bytes'
  vocab_size = 257
  eot = 256

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    return bytes(i for i in checked(ids, self.vocab_size) if i != self.eot)

  def save(self, folder: str | pathlib.Path) -> None:
    _write_kind(folder, {'kind': self.name})


def bytes_() -> Bytes:
  return Bytes()


@dataclasses.dataclass(frozen=True)
class Numbers(Tokenizer):
  """Tokens as they are: the text is their numbers, with a space or a line break between.

  What comes back has a space behind each.
  """

  vocab_size: int
  name = 'numbers'
  eot = None

  def __post_init__(self):
    if not isinstance(self.vocab_size, int) or self.vocab_size < 1:
      raise ValueError(f'vocab_size={self.vocab_size!r}: must be a whole number of at least 1')

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [self._encode(text.split()) for text in texts]

  def _encode(self, words: Sequence[str]) -> np.ndarray:
    for where, word in enumerate(words):
      if not (word.isascii() and word.isdecimal() and int(word) < self.vocab_size):
        known = f'the numbers from 0 to {self.vocab_size - 1}'
        raise Unknown(f'{word!r}, word {where} of the text: not among {known}')
    return np.array(list(map(int, words)), np.uint32)

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    return b''.join(b'%d ' % i for i in checked(ids, self.vocab_size))

  def save(self, folder: str | pathlib.Path) -> None:
    _write_kind(folder, {'kind': self.name, 'vocab_size': self.vocab_size})


def _code_points(text: str) -> np.ndarray:
  """uint32 [characters]."""
  return np.frombuffer(text.encode('utf-32-le', 'surrogatepass'), np.uint32)


def _write_kind(folder: str | pathlib.Path, facts: dict[str, Any]) -> None:
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / KIND).write_text(json.dumps(facts) + '\n', 'utf-8')
