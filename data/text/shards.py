"""Texts as token numbers: encoded once, kept in files, read by mapping these into memory."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np
from absl import logging

from data.images import records
from data.text import tokenizers
from data.text.datasets import Texts
from data.text.tokens import Tokenizer

FORMAT = 1  # raise it when the same texts come out as other tokens
ROWS_AT_ONCE = 64  # between two looks at the clock
CHARACTERS_AT_ONCE = 1 << 22  # encoded in one go
LOG_EVERY = 20.0  # seconds

Parts = Sequence[tuple[Texts, range]]  # which rows of which splits, one after the other
T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class Tokens:
  """The documents of one split, in order.

  stream: uint16 or uint32 [N]. Where the tokenizer has an end of a document, one stands before
    each document and one after the last; else the documents follow each other.
  begins: int64 [D + 1], where the documents begin, each with its end-of-document in front; the last
    entry is where that after the last one stands, or N.
  counts: of the text: `documents`, `characters`, `bytes` (UTF-8), `words` (between spaces) and
    `tokens` (without those between documents).
  """

  stream: np.ndarray
  begins: np.ndarray
  counts: dict[str, int]

  @property
  def spans(self) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 of each document, with the end-of-document before and after: [D], [D]."""
    return self.begins[:-1], self.begins[1:] + (self.begins[-1] < len(self.stream))


def parts(splits, split: str) -> Parts:
  """'train[:90%]' or 'validation+test', as TFDS slices and joins splits."""
  found = [records.part(splits, each.strip()) for each in split.split('+')]
  return [(splits[name], rows) for name, rows in found]


def tokenizer(spec: str, train: Parts, evaluation: Parts) -> Tokenizer:
  """The tokenizer that `spec` names; see `TextData`.

  Characters are those of all parts, for others could not be encoded; a BPE is learnt from `train`
  alone. Both are kept in the cache. Raises ValueError on another spec.
  """
  if (fixed := without_text(spec)) is not None:
    return fixed
  used = train if spec != 'characters' else [*train, *evaluation]

  def write(folder: pathlib.Path) -> None:
    _learn(spec, used).save(folder)

  return _kept('tokenizer', used, [spec], write, tokenizers.load)


def without_text(spec: str) -> Tokenizer | None:
  """As `tokenizer`, or None if `spec` is right and needs texts."""
  kind, _, argument = spec.partition(':')
  if spec == 'bytes':
    return tokenizers.bytes_()
  if kind == 'numbers' and argument.isdecimal() and int(argument):
    return tokenizers.Numbers(int(argument))
  if kind == 'gpt2' and (folder := argument or os.environ.get('GPT2_BPE_DIR')):
    return tokenizers.gpt2(folder)
  if spec == 'gpt2':
    raise ValueError(
      "data.tokenizer='gpt2': write 'gpt2:FOLDER', or set GPT2_BPE_DIR to a folder with GPT-2's "
      'vocab.json and merges.txt (or encoder.json and vocab.bpe)'
    )
  if spec == 'characters' or (kind == 'bpe' and argument.isdecimal() and int(argument) > 256):
    return None
  raise ValueError(
    f'data.tokenizer={spec!r}: unknown; choices: characters, bytes, gpt2:FOLDER, bpe:SIZE (a SIZE '
    'of at least 257), numbers:SIZE'
  )


def kept(spec: str, folder: str | None) -> Tokenizer | None:
  """The tokenizer that a run keeps in `folder`, or None; ValueError unless it is of spec's kind."""
  if folder is None or not tokenizers.is_there(folder):
    return None
  found = tokenizers.load(folder)
  kind, _, size = spec.partition(':')
  name = 'bpe' if found.name == 'gpt2' else found.name
  sizes = {'bpe': range(int(size) + 1), 'numbers': [int(size)]} if size.isdecimal() else {}
  fits = found.vocab_size in sizes.get(kind, [found.vocab_size])  # a BPE may have stopped early
  if name != {'gpt2': 'bpe'}.get(kind, kind) or not fits:
    raise ValueError(
      f'data.tokenizer={spec!r}: {folder} keeps another one, {found.name} of {found.vocab_size}'
      ' tokens, with which this run began; another tokenizer wants another --workdir'
    )
  return found


def keep(by: Tokenizer, folder: str) -> None:
  """Saves it in `folder`, whole or not at all, if that holds none; of several processes, one."""
  if jax.process_index() != 0 or tokenizers.is_there(folder):
    return
  unfinished = f'{folder}.tmp'
  shutil.rmtree(unfinished, ignore_errors=True)
  by.save(unfinished)
  os.replace(unfinished, folder)


def _learn(spec: str, used: Parts) -> Tokenizer:
  if spec != 'characters':
    return tokenizers.train_bpe(_documents(used), int(spec.partition(':')[2]))
  found: set[str] = set()
  for text in _documents(used):
    found.update(text)
  if not found:
    raise _empty(used)
  return tokenizers.characters(''.join(found))


def encode(used: Parts, by: Tokenizer) -> Tokens:
  """The texts as tokens, from the cache where it has them; ValueError if there is no text."""
  key = [tokenizers.fingerprint(by)]
  return _kept('tokens', used, key, lambda path: _write(path, used, by), _read)


def _write(folder: pathlib.Path, used: Parts, by: Tokenizer) -> None:
  """tokens.bin (the stream), begins.npy and tokens.json (counts and the type of a token)."""
  form = np.dtype('<u2' if by.vocab_size <= 1 << 16 else '<u4')
  between = np.array([by.eot] if by.eot is not None else [], form)
  counts = dict.fromkeys(('documents', 'characters', 'bytes', 'words', 'tokens'), 0)
  begins, place = [], 0
  with open(folder / 'tokens.bin', 'wb') as file:
    for texts in _together(_told(used, counts)):
      for text, ids in zip(texts, by.encode_many(texts), strict=True):
        begins.append(place)
        file.write(between.tobytes() + ids.astype(form).tobytes())
        place += len(between) + len(ids)
        sizes = (1, len(text), len(text.encode()), len(text.split()), len(ids))
        counts.update({name: counts[name] + n for name, n in zip(counts, sizes, strict=True)})
    if not counts['tokens']:
      raise _empty(used)
    file.write(between.tobytes())
  np.save(folder / 'begins.npy', np.array([*begins, place], np.int64))
  facts = {'dtype': form.str, 'length': place + len(between), 'counts': counts}
  (folder / 'tokens.json').write_text(json.dumps(facts))


def _read(folder: pathlib.Path) -> Tokens:
  """Raises ValueError, OSError or KeyError unless all is there in full length."""
  facts = json.loads((folder / 'tokens.json').read_text())
  stream = np.memmap(folder / 'tokens.bin', facts['dtype'], 'r')
  begins = np.load(folder / 'begins.npy')
  if len(stream) != facts['length'] or len(begins) != facts['counts']['documents'] + 1:
    raise ValueError(f'{folder}: cut short')
  return Tokens(stream, begins, facts['counts'])


# -------- documents --------


def _documents(used: Parts) -> Iterator[str]:
  for texts, rows in used:
    yield from texts.read(rows)


def _told(used: Parts, counts: dict[str, int]) -> Iterator[str]:
  """All documents; the log says how far it is and when it will be done."""
  total, done = sum(len(rows) for _, rows in used), 0
  begun = told = time.monotonic()
  logging.info('%s: encoding %d files or records once', _name(used), total)
  for texts, rows in used:
    for start in range(rows.start, rows.stop, ROWS_AT_ONCE):
      here = range(start, min(start + ROWS_AT_ONCE, rows.stop))
      yield from texts.read(here)
      done, now = done + len(here), time.monotonic()
      if now - told > LOG_EVERY:
        told, spent = now, now - begun
        facts = 100 * done // total, counts['tokens'] / spent, spent * (total - done) / done
        logging.info('%s: %d %%, %.3g tokens/s, %.0f s left', _name(used), *facts)


def _together(texts: Iterator[str]) -> Iterator[list[str]]:
  """Lists of documents, each as long as can be encoded in one go, or of one document."""
  waiting: list[str] = []
  size = 0
  for text in texts:
    waiting.append(text)
    size += len(text)
    if size >= CHARACTERS_AT_ONCE:
      yield waiting
      waiting, size = [], 0
  if waiting:
    yield waiting


def _name(used: Parts) -> str:
  return ' + '.join(texts.name for texts, _ in used)


def _empty(used: Parts) -> ValueError:
  return ValueError(f'{_name(used)}: holds no text')


# -------- the cache --------


def _kept(
  what: str,
  used: Parts,
  key: list,
  write: Callable[[pathlib.Path], object],
  read: Callable[[pathlib.Path], T],
) -> T:
  """What `read` finds in a folder of the cache, which `write` fills if it cannot.

  The folder's name holds all that its content depends on, so a changed file has another one.
  """
  name = re.sub(r'\W+', '-', f'{what} {pathlib.Path(used[0][0].name).name}')
  root = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
  folder = root / 'breakthroughs' / 'data' / f'{name}-{_digest([what, *key], used)}'
  try:
    return read(folder)
  except (OSError, ValueError, KeyError, TypeError):  # absent or cut short
    pass
  kept = all(texts.files for texts, _ in used)
  with _workplace(folder.parent if kept else None) as unfinished:
    write(unfinished)
    found = read(unfinished)  # its files live on while they are mapped, whatever becomes of them
    if unfinished.parent == folder.parent:
      shutil.rmtree(folder, ignore_errors=True)  # one that was cut short
      with contextlib.suppress(OSError):  # another process was first
        os.rename(unfinished, folder)
  return found


@contextlib.contextmanager
def _workplace(parent: pathlib.Path | None) -> Iterator[pathlib.Path]:
  """A new folder in `parent`, or elsewhere if nothing can be written there; removed at the end."""
  try:
    if parent is not None:
      parent.mkdir(parents=True, exist_ok=True)
    made = tempfile.mkdtemp(prefix='unfinished-', dir=parent)
  except OSError as error:
    logging.warning('the tokens are not cached: %s', error)
    made = tempfile.mkdtemp(prefix='unfinished-')
  try:
    yield pathlib.Path(made)
  finally:
    shutil.rmtree(made, ignore_errors=True)


def _digest(key: list, used: Parts) -> str:
  def facts(texts: Texts, rows: range) -> list:
    stats = [(path, os.stat(path)) for path in texts.files]
    files = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return [texts.name, texts.size, texts.recipe, rows.start, rows.stop, files]

  whole = [FORMAT, *key, [facts(texts, rows) for texts, rows in used]]
  return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]
