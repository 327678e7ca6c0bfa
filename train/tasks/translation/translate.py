"""Translates lines: in batches of like length, and back in their order."""

import contextlib
import dataclasses
import gzip
import itertools
import os
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

import numpy as np

from data.remarks import Remarks
from data.text.parallel.source import ParallelText
from models.gpt.generation import NotFiniteError
from models.seq2seq import beam as beam_lib
from models.seq2seq.beam import Beam
from models.seq2seq.contract import EOS, PAD, Seq2Seq
from train import mesh as mesh_lib
from train.errors import UserError
from train.task import Variables

ROWS = 64  # sentences of a batch
CHUNK = 32 * ROWS  # lines that are read before the first of them is written
SMALLEST = 16  # pieces; the lengths that are compiled for grow by half or a third from here on


@dataclasses.dataclass(frozen=True)
class Translated:
  """One translation.

  Attributes:
    text: what it says.
    ids: its pieces, with EOS unless the limit came first.
    score: the log-probability over the length penalty.
  """

  text: str
  ids: tuple[int, ...]
  score: float

  @property
  def ended(self) -> bool:
    """Whether it has an end."""
    return self.ids[-1:] == (EOS,)


class Translator:
  """Translates sentences with a network, on one device.

  Args:
    model: the network.
    variables: its variables.
    data: whose tokenizer it was trained with.
    beam: how to search.
    name: what translates, for the notice of what was cut.
  """

  def __init__(
    self, model: Seq2Seq, variables: Variables, data: ParallelText, beam: Beam, name: str
  ):
    self._model, self._variables, self._data, self._beam = model, variables, data, beam
    self.remarks, self.lines, self.pieces = Remarks(name), 0, 0

  def __call__(self, sentences: Sequence[str]) -> list[Translated]:
    """Returns a translation of each sentence, in order; that of an empty one is empty."""
    ids = self._data.encode_source(sentences, self.remarks, self.lines + 1)
    found = [Translated('', (), 0.0)] * len(sentences)
    order = sorted((i for i in range(len(ids)) if len(ids[i])), key=lambda i: len(ids[i]))
    with mesh_lib.on_one_device(self._variables) as variables:
      for rows in _batched(order, ROWS):
        for row, one in zip(rows, self._search(variables, [ids[i] for i in rows]), strict=True):
          found[row] = one
          if not one.ended:
            self.remarks.add('translations without an end', f'line {self.lines + row + 1}')
    self.lines += len(sentences)
    self.pieces += sum(len(one.ids) for one in found)
    return found

  def _search(self, variables: Variables, ids: Sequence[np.ndarray]) -> list[Translated]:
    source = np.full((_rows(len(ids)), _length(max(map(len, ids)))), PAD, np.int32)
    for place, own in zip(source, ids, strict=False):
      place[: len(own)] = own
    try:
      targets, scores = beam_lib.search(self._model, variables, source, self._beam)
    except NotFiniteError as error:
      raise UserError(f'{self.remarks.name}: {error}') from error
    return [
      Translated(self._data.tokenizer.decode(row), tuple(row[row != PAD].tolist()), float(score))
      for row, score in zip(targets[: len(ids), 0], scores[:, 0], strict=False)
    ]


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
  """Yields the items in lists of `size`, the last of them perhaps shorter."""
  rest = iter(items)
  while batch := list(itertools.islice(rest, size)):
    yield batch


def _rows(count: int) -> int:
  """Returns the batch's rows, a power of two: few shapes are compiled."""
  return 1 << (count - 1).bit_length()


def _length(pieces: int) -> int:
  """Returns the first of 16, 24, 32, 48, 64, 96, ... that is as large."""
  size = SMALLEST
  while size < pieces:
    size += size // 2 if size & (size - 1) == 0 else size // 3
  return size


# -------- what the verb translate does --------


def translate(translator: Translator, lines: Iterable[str], out: TextIO, at_once: int) -> None:
  """Writes the translation of each line to `out`, in order, and the speed to stderr.

  at_once: how many lines are translated together, before the first of them is written.
  """
  start = time.perf_counter()
  for chunk in _batched(lines, at_once):
    # What stands for the end of a line in a translation would shift all lines behind it.
    texts = (' '.join(one.text.splitlines()) for one in translator(chunk))
    out.writelines(f'{text}\n' for text in texts)
    out.flush()
  translator.remarks.say()
  seconds = time.perf_counter() - start
  print(
    f'{translator.lines:,} sentences, {translator.pieces:,} pieces in {seconds:.1f} s,'
    f' {translator.pieces / max(seconds, 1e-9):,.0f} pieces/s with compiling',
    file=sys.stderr,
  )


def read_lines(path: str | None) -> Iterator[str]:
  """Yields the lines of a file, packed if it ends in .gz, as they come and without their ends.

  Args:
    path: of the file; None: stdin.

  Raises:
    UserError: it cannot be read, or a line is not UTF-8.
  """
  name = 'stdin' if path is None else path
  opener: Any = gzip.open if name.endswith('.gz') else open
  with contextlib.ExitStack() as stack:
    try:
      source = sys.stdin.fileno() if path is None else os.path.expanduser(name)
      file = stack.enter_context(opener(source, 'rb'))
    except OSError as error:
      raise UserError(f'{name}: {error.strerror}') from error
    for number in itertools.count(1):
      try:
        line = file.readline()
        text = line.decode('utf-8-sig' if number == 1 else 'utf-8')
      except UnicodeDecodeError as error:
        where = f'{name}, line {number}, byte {error.start + 1}'
        raise UserError(f'{where}: {error.reason}; must be UTF-8') from error
      except (OSError, EOFError, zlib.error) as error:
        raise UserError(f'{name}, line {number}: cannot be read: {error}') from error
      if not line:
        return
      yield text.removesuffix('\n').removesuffix('\r')
