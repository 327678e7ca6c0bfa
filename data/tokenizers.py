"""From text to token numbers and back: characters, bytes, GPT-2's BPE, and a BPE of one's own text.

Every tokenizer gives back the text that it was given; `Stream` does so as the tokens come.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from data.bpe import BPE, gpt2, train_bpe
from data.tokens import KIND, Stream, Tokenizer, checked, unknown

__all__ = [
  'BPE',
  'Bytes',
  'Characters',
  'Stream',
  'Tokenizer',
  'bytes_',
  'characters',
  'fingerprint',
  'gpt2',
  'load',
  'train_bpe',
]


def load(folder: str | pathlib.Path) -> Tokenizer:
  """The tokenizer that `save` wrote, or that of a GPT-2 folder; ValueError where there is none."""
  path = pathlib.Path(folder) / KIND
  if not path.exists():
    return gpt2(folder)
  try:
    saved = json.loads(path.read_text('utf-8'))
    return {'characters': Characters, 'bytes': Bytes}[saved.pop('kind')](**saved)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path}: not what save writes: {error}') from error


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


def _code_points(text: str) -> np.ndarray:
  """uint32 [characters]."""
  return np.frombuffer(text.encode('utf-32-le', 'surrogatepass'), np.uint32)


def _write_kind(folder: str | pathlib.Path, facts: dict[str, str]) -> None:
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / KIND).write_text(json.dumps(facts) + '\n', 'utf-8')
