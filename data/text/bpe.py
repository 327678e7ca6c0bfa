"""Byte-pair encoding over bytes, as in GPT-2; the package `tokenizers` does the merging."""

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data.text.tokenizer import KIND_FILE, Codec, checked, unknown_character

EOT = '<|endoftext|>'  # GPT-2's name of the end-of-text token

# Long texts are cut before they are encoded, so that all cores have work. The cuts change no token:
# GPT-2 splits words after a line break that stands alone between two visible characters.
CUT = re.compile(r'(?<=[!-~])\n(?=[!-~])')
CUT_EVERY = 1 << 15  # characters


def train_bpe(texts: Iterable[str], vocab_size: int) -> 'BPE':
  """Learns a byte-level BPE of GPT-2's form from `texts` (Sennrich et al. 2016, section 3.2).

  `vocab_size`, at least 257, counts the 256 bytes and the end-of-text token; a small text gives
  fewer tokens.
  """
  from tokenizers import Tokenizer as Library
  from tokenizers import models, pre_tokenizers, trainers

  if vocab_size < 257:
    raise ValueError(f'vocab_size={vocab_size}: must be at least 257, the bytes and {EOT}')
  library = Library(models.BPE())
  library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  trainer = trainers.BpeTrainer(
    vocab_size=vocab_size,
    special_tokens=[EOT],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  library.train_from_iterator((piece for text in texts for piece in _pieces(text)), trainer)
  model = json.loads(library.to_str())['model']
  end = model['vocab'][EOT]
  merges = tuple((first, second) for first, second in model['merges'])
  return BPE(model['vocab'], merges, (added_token(end, EOT),), ends=(end,))


def byte_bpe() -> 'BPE':
  """Returns a BPE without merges: a token for each byte, and 256 for the end of a text."""
  return BPE(byte_symbols(), (), (added_token(256, EOT),), ends=(256,))


def save_characters(characters: str, folder: str | pathlib.Path) -> None:
  """Writes files for transformers: a token for each of the `characters`, in their order.

  Where a text has others, transformers leaves them out silently.
  """
  from tokenizers import Tokenizer as Library
  from tokenizers import decoders, models

  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  library = Library(models.BPE({character: i for i, character in enumerate(characters)}, []))
  library.decoder = decoders.Fuse()
  library.save(str(folder / 'tokenizer.json'))
  config = {'tokenizer_class': 'PreTrainedTokenizerFast', 'clean_up_tokenization_spaces': False}
  (folder / 'tokenizer_config.json').write_text(json.dumps(config, indent=2) + '\n', 'utf-8')


def added_token(number: int, content: str, how: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """Returns an added token as `BPE.added` has it; `how` is as Hugging Face's files have it."""
  flags = ('single_word', 'lstrip', 'rstrip', 'normalized')
  return {'id': number, 'content': content, **{x: bool((how or {}).get(x)) for x in flags}}


@dataclasses.dataclass(frozen=True)
class BPE(Codec):
  """Byte-pair encoding over bytes, within the words of GPT-2 (Radford et al. 2019, section 2.2).

  vocab: token -> id; bytes are written as `byte_symbols` says.
  merges: pairs that are joined, in the order of precedence.
  added: tokens that are found in a text before merging, such as end-of-text: `id`, `content` and
    the flags of Hugging Face's `added_tokens`.
  prefix_space: whether a text is read (and given back) as if a space stood before it.
  ends: ids of the tokens at which a text ends; the first stands between documents.
  """

  vocab: Mapping[str, int]
  merges: tuple[tuple[str, str], ...]
  added: tuple[Mapping[str, Any], ...] = ()
  prefix_space: bool = False
  ends: tuple[int, ...] = ()

  @property
  def name(self) -> str:
    return 'gpt2' if (self.vocab_size, self.eot) == (50257, 50256) else 'bpe'

  @functools.cached_property
  def vocab_size(self) -> int:
    return len(self._bytes)

  @property
  def eot(self) -> int | None:
    return self.ends[0] if self.ends else None

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    for text in texts if self._missing else ():
      self._check(text)
    for text in texts:
      text.encode()  # raises on half a surrogate pair, for which the package has no clear message
    pieces = [_pieces(text) if self._can_be_cut else [text] for text in texts]
    flat = [piece for each in pieces for piece in each]
    encoded = iter(self._library.encode_batch_fast(flat, add_special_tokens=False))
    parts = [[np.array(next(encoded).ids, np.uint32) for _ in each] for each in pieces]
    return [np.concatenate(each) if each else np.zeros(0, np.uint32) for each in parts]

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    return b''.join(self._bytes[i] for i in checked(ids, self.vocab_size))

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes the files of a Hugging Face folder: tokenizer.json, and vocab.json with merges.txt."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KIND_FILE).unlink(missing_ok=True)
    self._library.save(str(folder / 'tokenizer.json'))
    lines = ['#version: 0.2', *(' '.join(pair) for pair in self.merges)]
    (folder / 'merges.txt').write_text('\n'.join(lines) + '\n', 'utf-8', newline='\n')
    ordered = dict(sorted(self.vocab.items(), key=lambda item: item[1]))
    (folder / 'vocab.json').write_text(json.dumps(ordered, ensure_ascii=False), 'utf-8')
    _write_json(folder / 'tokenizer_config.json', self._config)
    if self.ends:
      _write_json(folder / 'generation_config.json', {'eos_token_id': list(self.ends)})

  @property
  def _config(self) -> dict[str, Any]:
    config = {'tokenizer_class': 'GPT2Tokenizer', 'add_prefix_space': self.prefix_space}
    names = [token['content'] for token in self.added if token['id'] == self.eot]
    return config | {role: names[0] for role in ('bos_token', 'eos_token', 'unk_token') if names}

  def check(self) -> None:
    """Raises ValueError if the package would number the added tokens otherwise."""
    _ = self._library

  @functools.cached_property
  def _library(self) -> Any:
    """The same tokenizer in the package `tokenizers`."""
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    library = Library(models.BPE(dict(self.vocab), list(self.merges)))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=self.prefix_space)
    library.decoder = decoders.ByteLevel()
    for token in sorted(self.added, key=lambda token: token['id']):
      how = {name: value for name, value in token.items() if name != 'id'}
      library.add_special_tokens([AddedToken(special=True, **how)])
      if library.token_to_id(token['content']) != token['id']:
        raise ValueError(f'token {token["content"]!r}: its number {token["id"]} leaves a gap')
    return library

  @functools.cached_property
  def _bytes(self) -> list[bytes]:
    """The bytes of each token, by id; b'' where an id is not taken."""
    table = byte_symbols()
    found = {token['id']: token['content'].encode() for token in self.added}
    for token, number in self.vocab.items():
      inside = all(symbol in table for symbol in token)
      found.setdefault(number, bytes(table[x] for x in token) if inside else token.encode())
    return [found.get(number, b'') for number in range(max(found) + 1)]

  @functools.cached_property
  def _can_be_cut(self) -> bool:
    """Whether no token looks beyond a line break, so that texts may be cut there."""
    wide = [x for x in self.added if x['lstrip'] or x['rstrip'] or '\n' in x['content']]
    return not (self.prefix_space or wide)

  @functools.cached_property
  def _missing(self) -> frozenset[int]:
    """Bytes without a token, which the package would leave out silently."""
    return frozenset(byte for symbol, byte in byte_symbols().items() if symbol not in self.vocab)

  def _check(self, text: str) -> None:
    for where, character in enumerate(text):
      if not self._missing.isdisjoint(character.encode()):
        raise unknown_character(
          text, where, f'what the {self.vocab_size} tokens of the vocabulary can say'
        )


def _write_json(path: pathlib.Path, value: Any) -> None:
  path.write_text(json.dumps(value, indent=2) + '\n', 'utf-8')


def byte_symbols() -> dict[str, int]:
  """Returns the visible character that stands for each byte in GPT-2's files -> the byte.

  Bytes that Latin-1 shows stand for themselves; the others take U+0100, U+0101, ... in turn.
  """
  shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
  others = [byte for byte in range(256) if byte not in shown]
  return {chr(x): x for x in shown} | {chr(256 + i): x for i, x in enumerate(others)}


def _pieces(text: str) -> list[str]:
  """Cuts a text into parts that encode to the same tokens as the whole."""
  cuts = [0]
  while found := CUT.search(text, cuts[-1] + CUT_EVERY):
    cuts.append(found.end())
  return [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True) if a < b]
