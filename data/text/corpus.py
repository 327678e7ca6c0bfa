"""Splits as streams of token ids: encoded once, kept in the cache, and mapped into memory."""

import dataclasses
import json
import time
from collections.abc import Iterator

import numpy as np
from absl import logging

from data import cache
from data.text import tokenizers
from data.text.datasets import Selection
from data.text.tokenizer import Tokenizer

ROWS_PER_REPORT = 64  # between two looks at the clock
CHARACTERS_PER_BATCH = 1 << 22  # encoded in one go
LOG_EVERY = 20.0  # seconds


@dataclasses.dataclass(frozen=True)
class Tokens:
  """The documents of a selection, in order, as token ids.

  stream: uint16 or uint32 [N]. If the tokenizer has an end-of-text token, one stands before each
    document and one after the last; else the documents follow each other.
  begins: int64 [D + 1], where the documents begin, each with its end-of-text token in front; the
    last entry is where the one after the last document stands, or N.
  counts: `documents`, `characters`, `bytes` (UTF-8), `words` (between spaces) and `tokens`
    (without those of end-of-text).
  """

  stream: np.ndarray
  begins: np.ndarray
  counts: dict[str, int]

  @property
  def spans(self) -> tuple[np.ndarray, np.ndarray]:
    """First and last + 1 of each document, [D] and [D], with the end-of-text before and after."""
    return self.begins[:-1], self.begins[1:] + (self.begins[-1] < len(self.stream))


def encode(selection: Selection, tokenizer: Tokenizer) -> Tokens:
  """Returns the tokens of a selection, from the cache where it has them.

  Raises:
    ValueError: if there is no text, or a part of it that no token stands for.
  """
  folder = selection.cache_entry('tokens', tokenizers.fingerprint(tokenizer))
  return cache.load_or_write(folder, _load, lambda path: _write(path, selection, tokenizer))


def _write(folder: cache.Folder, selection: Selection, tokenizer: Tokenizer) -> None:
  """Writes tokens.bin (the stream), begins.npy and tokens.json (counts and a token's type)."""
  dtype = np.dtype('<u2' if tokenizer.vocab_size <= 1 << 16 else '<u4')
  separator = np.array([tokenizer.eot] if tokenizer.eot is not None else [], dtype)
  counts = dict.fromkeys(('documents', 'characters', 'bytes', 'words', 'tokens'), 0)
  begins, place = [], 0
  with open(folder / 'tokens.bin', 'wb') as file:
    for texts in _batches(_with_progress(selection, counts)):
      for text, ids in zip(texts, tokenizer.encode_many(texts), strict=True):
        begins.append(place)
        file.write(separator.tobytes() + ids.astype(dtype).tobytes())
        place += len(separator) + len(ids)
        sizes = (1, len(text), len(text.encode()), len(text.split()), len(ids))
        counts.update({name: counts[name] + n for name, n in zip(counts, sizes, strict=True)})
    if not counts['tokens']:
      raise selection.empty()
    file.write(separator.tobytes())
  np.save(folder / 'begins.npy', np.array([*begins, place], np.int64))
  metadata = {'dtype': dtype.str, 'length': place + len(separator), 'counts': counts}
  (folder / 'tokens.json').write_text(json.dumps(metadata))


def _load(folder: cache.Folder) -> Tokens:
  metadata = json.loads((folder / 'tokens.json').read_text())
  stream = np.memmap(folder / 'tokens.bin', metadata['dtype'], 'r')
  begins = np.load(folder / 'begins.npy')
  if len(stream) != metadata['length'] or len(begins) != metadata['counts']['documents'] + 1:
    raise ValueError(f'{folder}: cut short')
  return Tokens(stream, begins, metadata['counts'])


def _with_progress(selection: Selection, counts: dict[str, int]) -> Iterator[str]:
  """Yields all documents, and logs progress, speed and the time that is left."""
  total, done = selection.num_rows, 0
  begun = reported = time.monotonic()
  logging.info('%s: encoding %d files or records once', selection.name, total)
  for texts, rows in selection.parts:
    for start in range(rows.start, rows.stop, ROWS_PER_REPORT):
      here = range(start, min(start + ROWS_PER_REPORT, rows.stop))
      yield from texts.read(here)
      done, now = done + len(here), time.monotonic()
      if now - reported > LOG_EVERY:
        reported, spent = now, now - begun
        figures = 100 * done // total, counts['tokens'] / spent, spent * (total - done) / done
        logging.info('%s: %d %%, %.3g tokens/s, %.0f s left', selection.name, *figures)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
  """Yields lists of documents, as many as are encoded in one go."""
  waiting: list[str] = []
  size = 0
  for text in texts:
    waiting.append(text)
    size += len(text)
    if size >= CHARACTERS_PER_BATCH:
      yield waiting
      waiting, size = [], 0
  if waiting:
    yield waiting
