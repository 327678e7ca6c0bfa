"""Reads the tokenizer of a folder as Hugging Face or OpenAI write it: GPT-2's BPE, of any size.

Beside vocabulary and merges, further files may declare special tokens, and which of them end a
text. What they say is honoured as transformers honours it.
"""

import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data.checks import shown
from data.text.bpe import BPE, EOT, added_token

PAIRS = (('vocab.json', 'merges.txt'), ('encoder.json', 'vocab.bpe'))  # Hugging Face's, OpenAI's
FILES = ('tokenizer.json', *PAIRS[0], *PAIRS[1])

# Files of tokenizers that are not read -> what they are.
OTHERS = {
  'vocab.txt': "a WordPiece vocabulary, as BERT's",
  'spiece.model': 'a SentencePiece model',
  'sentencepiece.bpe.model': 'a SentencePiece model',
  'tokenizer.model': 'a SentencePiece model',
}

MOST_TOKENS = 1 << 20  # ids are below; the table of a damaged one would fill the memory

ROLES = ('bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token')
LISTS = ('additional_special_tokens', 'extra_special_tokens')
# What transformers' classes declare where the files are silent.
CLASS_TOKENS: Mapping[str, Mapping[str, Any]] = {
  'RobertaTokenizer': {'eos_token': '</s>', LISTS[0]: ['<s>', '<unk>', '<pad>', '<mask>']}
}

Token = tuple[str, Mapping[str, Any]]
"""Its content, and its flags as Hugging Face's files have them."""

# Tokens that vocabularies reserve without a merge that makes them.
RESERVED = re.compile(r'<[^<>\s]+>|\[[A-Z0-9_]+\]|madeupword\d+')


def gpt2(folder: str | pathlib.Path) -> BPE:
  """Loads the BPE of a GPT-2 folder, whatever its size.

  Files, in the order in which they are looked for: `tokenizer.json`; `vocab.json` and `merges.txt`
  (Hugging Face's names); `encoder.json` and `vocab.bpe` (OpenAI's).

  Raises:
    ValueError: on a folder without them, on a file that is damaged or cut short, and on settings
      that GPT-2 does not have.
  """
  folder = pathlib.Path(os.path.expanduser(folder))
  if (folder / 'tokenizer.json').exists():
    return _from_json(folder / 'tokenizer.json')
  for pair in PAIRS:
    there = [name for name in pair if (folder / name).exists()]
    if len(there) == 2:
      return _from_pair(*(folder / name for name in pair))
    if there:
      missing = pair[1 - pair.index(there[0])]
      raise ValueError(f'{folder}: holds {there[0]} but no {missing}')
  others = [f'{name}, {kind}, but ' for name, kind in OTHERS.items() if (folder / name).exists()]
  raise ValueError(
    f'{folder}: holds {"".join(others[:1])}no GPT-2 tokenizer; must have tokenizer.json, or '
    'vocab.json and merges.txt, or encoder.json and vocab.bpe'
  )


def _from_json(path: pathlib.Path) -> BPE:
  """Loads Hugging Face's `tokenizer.json`, which could also hold another kind than GPT-2's."""
  spec = _read_json(path)
  model, before = (_object(path, spec, name) for name in ('model', 'pre_tokenizer'))
  expected = {
    'model.type': (model.get('type', 'BPE'), 'BPE'),
    'pre_tokenizer.type': (before.get('type'), 'ByteLevel'),
    'pre_tokenizer.use_regex': (before.get('use_regex', True), True),
    'normalizer': (spec.get('normalizer'), None),
    'model.dropout': (model.get('dropout') or None, None),
    'model.byte_fallback': (model.get('byte_fallback') or False, False),
    'model.ignore_merges': (model.get('ignore_merges') or False, False),
    'model.continuing_subword_prefix': (model.get('continuing_subword_prefix') or '', ''),
    'model.end_of_word_suffix': (model.get('end_of_word_suffix') or '', ''),
  }
  for name, (value, wanted) in expected.items():
    if value != wanted:
      raise ValueError(f'{path}: {name} is {shown(value)}; GPT-2 has {wanted!r}, the only choice')
  added = spec.get('added_tokens') or []
  prefix = bool(before.get('add_prefix_space', True))  # the package's own default
  return _checked_bpe(path, model.get('vocab'), model.get('merges'), added, prefix)


def _from_pair(vocab_path: pathlib.Path, merges_path: pathlib.Path) -> BPE:
  """Loads a vocabulary and merges in two files, and what Hugging Face keeps in others beside."""
  vocab, folder = _read_json(vocab_path), vocab_path.parent
  lines = _read(merges_path).split('\n')
  merges = [line.rstrip('\r') for line in lines[lines[0].startswith('#version') :]]
  special = {EOT: vocab[EOT]} if EOT in vocab else {}
  special |= _read_beside(folder, 'added_tokens.json')
  added = [{'id': number, 'content': token} for token, number in special.items()]
  prefix = bool(_read_beside(folder, 'tokenizer_config.json').get('add_prefix_space'))
  return _checked_bpe(merges_path, vocab, [line for line in merges if line], added, prefix)


# -------- what holds for both --------


def _checked_bpe(path: pathlib.Path, vocab: Any, merges: Any, added: Any, prefix: bool) -> BPE:
  """Returns the BPE; raises ValueError unless every merge makes a token and every token is made."""
  numbers = vocab.values() if isinstance(vocab, dict) else ['none']
  if not isinstance(merges, list) or not all(type(x) is int and x >= 0 for x in numbers):
    raise ValueError(f'{path}: has no numbered vocabulary and merges, as a BPE has')
  tokens = _added_tokens(path, vocab, added)
  added_ids = [(token['content'], token['id']) for token in tokens]
  ends = ends_of(path.parent, {**vocab, **dict(added_ids)})
  try:
    pairs = tuple(_merge(pair) for pair in merges)
    _check_ids([*vocab.items(), *added_ids])
    _check_merges(pairs, vocab, set(dict(added_ids)))
    bpe = BPE(vocab, pairs, tokens, prefix, ends)
    bpe.check()
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return bpe


def _check_ids(tokens: Sequence[tuple[str, int]]) -> None:
  """Raises ValueError unless each token is a text with a number of its own below MOST_TOKENS."""
  taken: dict[int, str] = {}
  for token, number in tokens:
    token.encode()  # raises on half a surrogate pair, which no text has
    if number >= MOST_TOKENS:
      raise ValueError(f'token {shown(token)}: number {number} must be less than {MOST_TOKENS:,}')
    if taken.setdefault(number, token) != token:
      raise ValueError(f'{shown(taken[number])} and {shown(token)} both have the number {number}')


def _check_merges(
  pairs: Sequence[tuple[str, str]], vocab: Mapping[str, int], added: set[str]
) -> None:
  made = {first + second for first, second in pairs}
  if alien := sorted((made | {part for pair in pairs for part in pair}) - vocab.keys()):
    verb = 'makes' if alien[0] in made else 'joins'
    raise ValueError(f'{verb} {shown(alien[0])}, which is not in the vocabulary')
  known = made | added
  lost = [token for token in vocab if len(token) > 1 and token not in known]
  if unmade := [token for token in lost if not RESERVED.fullmatch(token)]:
    raise ValueError(
      f'no merge makes {len(lost)} of the {len(vocab)} tokens, such as {shown(unmade[0])}: cut '
      'short, or of another vocabulary'
    )


def _merge(pair: Any) -> tuple[str, str]:
  """Returns a merge that is written as 'a b' or ['a', 'b']."""
  parts = pair.split(' ') if isinstance(pair, str) else pair
  if not isinstance(parts, list) or len(parts) != 2 or not all(map(_is_text, parts)):
    raise ValueError(f'merge {shown(pair)}: must be two tokens with a space between')
  return parts[0], parts[1]


def _added_tokens(
  path: pathlib.Path, vocab: Mapping[str, int], listed: Any
) -> tuple[dict[str, Any], ...]:
  """Returns the tokens that are found in a text before merging, each once.

  They are those that are listed with their numbers, and those of the vocabulary that the files
  beside it declare to be special.
  """
  numbered = _read_beside(path.parent, 'tokenizer_config.json').get('added_tokens_decoder') or {}
  if not isinstance(listed, list) or not isinstance(numbered, dict):
    wrong = shown(numbered if isinstance(listed, list) else listed)
    raise ValueError(f'{path}: added tokens must be a list of objects, got {wrong}')
  found: dict[tuple[str, int], dict[str, Any]] = {}
  for token in [*listed, *(_numbered(*item) for item in numbered.items())]:
    how = token if isinstance(token, dict) else {}
    if type(how.get('id')) is not int or how['id'] < 0 or not _is_text(how.get('content')):
      raise ValueError(f'{path}: added token {shown(token)}: must have an id and a content')
    found.setdefault((how['content'], how['id']), added_token(how['id'], how['content'], how))
  contents = {content for content, _ in found}
  for content, flags in _declared(path.parent):
    if content in vocab and content not in contents:
      found.setdefault((content, vocab[content]), added_token(vocab[content], content, flags))
  return tuple(sorted(found.values(), key=lambda token: token['id']))


def _numbered(number: str, token: Any) -> Any:
  """Returns an entry of `added_tokens_decoder` as `added_tokens` has it."""
  is_number = number.isascii() and number.isdecimal() and len(number) < 10
  return {**token, 'id': int(number)} if isinstance(token, dict) and is_number else token


def _declared(folder: pathlib.Path, roles: Sequence[str] = (*ROLES, *LISTS)) -> Iterator[Token]:
  """Yields content and flags of each special token that the files beside a vocabulary declare."""
  config = _read_beside(folder, 'tokenizer_config.json')
  kind = str(config.get('tokenizer_class')).removesuffix('Fast')
  said = {**CLASS_TOKENS.get(kind, {}), **config, **_read_beside(folder, 'special_tokens_map.json')}
  for role in roles:
    value = said.get(role)
    values = [*value.values()] if role in LISTS and isinstance(value, dict) else value
    for token in values if isinstance(values, list) else [values]:
      how: Any = token if isinstance(token, dict) else {'content': token}
      if token is not None and not _is_text(how.get('content')):
        raise ValueError(f'{folder}: {role} {shown(token)}: must be a token')
      if token is not None:
        yield how['content'], how


def ends_of(folder: pathlib.Path, ids: Mapping[str, int]) -> tuple[int, ...]:
  """Returns the ids at which a text ends, the one that stands between documents first.

  They are the tokenizer's `eos_token` and the `eos_token_id` of the model, at which transformers
  stops; if neither is said, GPT-2's token or that of RoBERTa.
  """
  named = [ids[token] for token, _ in _declared(folder, ('eos_token',)) if token in ids][:1]
  said = [number for number in end_ids(folder) if number in ids.values()]
  usual = [ids[token] for token in (EOT, '</s>') if token in ids][:1]
  return tuple(dict.fromkeys([*named, *said] or usual))


def end_ids(folder: pathlib.Path) -> list[int]:
  """Returns the ids at which the model of a folder ends a text, as its files say; [] of none."""
  for name in ('generation_config.json', 'config.json'):
    value: Any = _read_beside(folder, name).get('eos_token_id')
    numbers = value if isinstance(value, list) else [value]
    if value is not None and not all(type(x) is int and x >= 0 for x in numbers):
      raise ValueError(f'{folder / name}: eos_token_id {shown(value)}: must be a number of a token')
    if value is not None:
      return numbers
  return []


# -------- reading --------


def _read_beside(folder: pathlib.Path, name: str) -> dict:
  return _read_json(folder / name) if (folder / name).exists() else {}


def _object(path: pathlib.Path, spec: Mapping[str, Any], name: str) -> dict:
  found = spec.get(name) or {}
  if not isinstance(found, dict):
    raise ValueError(f'{path}: {name} must be a JSON object, got {shown(found)}')
  return found


def _read_json(path: pathlib.Path) -> dict:
  try:
    found = json.loads(_read(path))
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(f'{path}: not JSON, or cut short: {error}') from error
  if not isinstance(found, dict):
    raise ValueError(f'{path}: must be a JSON object, got {shown(found)}')
  return found


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text('utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path}: not UTF-8, or cut short: {error}') from error
  except OSError as error:
    raise ValueError(f'{path}: cannot be read: {error}') from error


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and value != ''
