"""Tokenizers of other models than GPT-2: what `tokenizer.json` says, run by `tokenizers`.

Llama's, SmolLM's and Qwen's are byte-pair encodings too, with another division into words, a form
of Unicode, or bytes as tokens of their own for what no merge makes.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from data.text.bpe import byte_symbols
from data.text.tokenizer import KIND_FILE, Codec, checked
from data.text.tokenizer_folder import MOST_TOKENS, ends_of

FILE = 'tokenizer.json'
SPACE = '\N{LOWER ONE EIGHTH BLOCK}'  # as SentencePiece writes it


@dataclasses.dataclass(frozen=True)
class TokenizerJson(Codec):
  """A byte-pair encoding as its file describes it.

  A text comes back with what the file's normalizer did to it, such as Llama's space in front.

  spec: the text of the file.
  ends: ids of the tokens at which a text ends; the first stands between documents.
  """

  spec: str
  ends: tuple[int, ...] = ()
  name: ClassVar[str] = 'huggingface'

  @property
  def vocab_size(self) -> int:
    return len(self._bytes)

  @property
  def eot(self) -> int | None:
    return self.ends[0] if self.ends else None

  @functools.cached_property
  def bos(self) -> int | None:
    found = self._library.encode('a')
    is_added = found.special_tokens_mask[:1] == [1]  # by the file's post-processor
    return found.ids[0] if is_added and found.ids[0] not in self.ends else None

  def encode_many(self, texts: Sequence[str]) -> list[np.ndarray]:
    for text in texts:
      text.encode()  # raises on half a surrogate pair
    encoded = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(each.ids, np.uint32) for each in encoded]

  def to_bytes(self, ids: Iterable[int]) -> bytes:
    return b''.join(self._bytes[i] for i in checked(ids, self.vocab_size))

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes tokenizer.json, and beside it what transformers reads of the special tokens."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KIND_FILE).unlink(missing_ok=True)
    (folder / FILE).write_text(self.spec, 'utf-8')
    roles = {'bos_token': self.bos, 'eos_token': self.eot}
    named = {role: self._library.id_to_token(i) for role, i in roles.items() if i is not None}
    config = {'tokenizer_class': 'PreTrainedTokenizerFast', **named}
    (folder / 'tokenizer_config.json').write_text(json.dumps(config, indent=2) + '\n', 'utf-8')
    if self.ends:
      ends = json.dumps({'eos_token_id': list(self.ends)})
      (folder / 'generation_config.json').write_text(ends + '\n', 'utf-8')

  @functools.cached_property
  def _library(self) -> Any:
    from tokenizers import Tokenizer as Library

    library = Library.from_str(self.spec)
    library.no_truncation()
    library.no_padding()
    return library

  @functools.cached_property
  def _bytes(self) -> list[bytes]:
    """The bytes of each token, by id; b'' where an id is not taken."""
    vocab, spec = self._library.get_vocab(with_added_tokens=True), json.loads(self.spec)
    added = {token['content'] for token in spec.get('added_tokens') or []}
    by_id = {number: token for token, number in vocab.items()}
    table = byte_symbols() if 'ByteLevel' in kinds(spec.get('decoder')) else None
    found = [by_id.get(number, '') for number in range(max(by_id, default=-1) + 1)]
    return [x.encode() if x in added else token_bytes(x, table) for x in found]


def token_bytes(token: str, table: Mapping[str, int] | None) -> bytes:
  """Returns the bytes of a token.

  Args:
    token: as the vocabulary writes it.
    table: the bytes of symbols, where these stand for bytes as in GPT-2; None: spaces are SPACE,
      and '<0x0A>' is a byte.
  """
  if table is not None and all(symbol in table for symbol in token):
    return bytes(table[symbol] for symbol in token)
  if table is None and len(token) == 6 and token.startswith('<0x') and token.endswith('>'):
    return bytes([int(token[3:5], 16)])
  return token.replace(SPACE, ' ').encode() if table is None else token.encode()


def kinds(part: Any) -> list[str]:
  """Returns the types of a part of the file, which may be a sequence of others."""
  if not isinstance(part, dict):
    return []
  inner = [x for name in ('decoders', 'pretokenizers', 'normalizers') for x in part.get(name) or []]
  return [str(part.get('type')), *(kind for each in inner for kind in kinds(each))]


# -------- folders --------


def recognises(folder: str | pathlib.Path) -> bool:
  """Returns whether a folder has a byte-pair encoding that is not GPT-2's."""
  try:
    spec = json.loads((pathlib.Path(folder) / FILE).read_text('utf-8'))
    model, before = spec['model'], spec.get('pre_tokenizer') or {}
    if model.get('type', 'BPE') != 'BPE' or not model.get('vocab'):
      return False
    fallback, ignore = model.get('byte_fallback'), model.get('ignore_merges')
    words = before.get('type') != 'ByteLevel' or not before.get('use_regex', True)
  except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return False  # another reader says what is wrong with it
  return bool(words or fallback or ignore or spec.get('normalizer'))


def load(folder: str | pathlib.Path) -> TokenizerJson:
  """Loads the tokenizer of such a folder.

  Raises:
    ValueError: it is damaged, or has no tokens for all bytes.
  """
  path = pathlib.Path(folder) / FILE
  spec = path.read_text('utf-8')
  try:
    found = TokenizerJson(spec)
    vocab = found._library.get_vocab(with_added_tokens=True)
    if (most := max(vocab.values(), default=0)) >= MOST_TOKENS:
      raise ValueError(f'number {most} of a token must be less than {MOST_TOKENS:,}')
    check_bytes(json.loads(spec), found.vocab_size, vocab)
  except Exception as error:  # the package raises no more special one
    raise ValueError(f'{path}: {" ".join(str(error).split())[:200]}') from None
  return TokenizerJson(spec, ends_of(path.parent, vocab))


def check_bytes(spec: Any, size: int, vocab: Mapping[str, int]) -> None:
  """Raises ValueError where a byte has no token, so that texts would lose characters."""
  if 'ByteLevel' in kinds(spec.get('decoder')):
    wanted = list(byte_symbols())
  elif spec['model'].get('byte_fallback'):
    wanted = [f'<0x{byte:02X}>' for byte in range(256)]
  else:
    raise ValueError('neither of bytes (ByteLevel) nor with byte_fallback; no other is read')
  if missing := [token for token in wanted if token not in vocab]:
    raise ValueError(f'{len(missing)} of {size} tokens for bytes are missing, as {missing[0]!r}')
