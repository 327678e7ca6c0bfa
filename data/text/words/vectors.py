"""word2vec's files of vectors, text and binary.

Both begin with a line 'V D'. A row is the word, a space and D numbers: in a text file in decimals
up to the line's end, in a binary one float32, little-endian, perhaps with a line end behind them.
"""

import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from data.checks import shown

HEAD = 100  # bytes within which the first line ends
LONGEST = 10_000  # bytes of a word
AT_ONCE = 4096  # rows written at a time
LARGEST = 2**31


class Misfit(ValueError):
  """A file that is no file of vectors, or a damaged one."""


def is_vectors(path: pathlib.Path) -> bool:
  """Returns whether a file begins as a file of vectors does, whole or not."""
  try:
    with path.open('rb') as file:
      _sizes(path, file)
  except (OSError, ValueError):
    return False
  return True


def read(path: pathlib.Path) -> tuple[list[str], np.ndarray]:
  """Returns the words, and their vectors float32 [V, D]; a word that comes again is left out.

  Whether the file is binary is told by its content.

  Raises:
    ValueError: it is cut short or damaged; the row is named.
  """
  try:
    with path.open('rb') as file:
      count, width = _sizes(path, file)
      _check_size(path, count, width)
      start = file.tell()
      is_text = _is_text(file.readline(LONGEST + 40 * width), width)
      file.seek(start)
      rows = _text_rows if is_text else _binary_rows
      return _collect(path, rows(path, file, count, width), count, width)
  except OSError as error:
    raise ValueError(f'{path}: cannot be read: {error.strerror}') from error


def _sizes(path: pathlib.Path, file: BinaryIO) -> tuple[int, int]:
  """Returns V and D of the first line."""
  line = file.readline(HEAD)
  parts = line.split()
  if len(parts) != 2 or not line.endswith(b'\n') or not all(x.isdigit() for x in parts):
    raise Misfit(f"{path}: begins with {shown(line)}, not with a line 'words dimension'")
  count, width = map(int, parts)
  if not (0 < count < LARGEST and 0 < width < LARGEST):
    raise Misfit(f'{path}: says that it has {count} words of {width} dimensions')
  return count, width


def _check_size(path: pathlib.Path, count: int, width: int) -> None:
  """Raises Misfit if a file is too short for what it says it has, before memory is asked for."""
  size = path.stat().st_size
  if count * 2 * width > size:  # a number has two bytes or more
    raise Misfit(
      f'{path}: cut short: {size:,} bytes are too few for the {count:,} words of {width} dimensions'
      ' that it says it has'
    )


def _is_text(line: bytes, width: int) -> bool:
  parts = line.split()
  try:
    return len(parts) == width + 1 and all(
      len(part) < 40 and float(part) < 1e39 for part in parts[1:]
    )
  except ValueError:
    return False


def _text_rows(
  path: pathlib.Path, file: BinaryIO, count: int, width: int
) -> Iterator[tuple[bytes, np.ndarray]]:
  for number in range(1, count + 1):
    line = file.readline(LONGEST + 40 * width)
    word, *numbers = line.split(b' ') if line.strip() else [b'']
    try:
      row = np.array(b' '.join(numbers).split(), np.float32)
    except ValueError:
      raise Misfit(f'{path}: row {number} has no numbers: {shown(line[:60])}') from None
    if len(row) != width:
      raise Misfit(
        f'{path}: row {number} of {count:,} has {len(row)} numbers, not {width}'
        + ('; the file is cut short' if not line.endswith(b'\n') else '')
      )
    yield word, row


def _binary_rows(
  path: pathlib.Path, file: BinaryIO, count: int, width: int
) -> Iterator[tuple[bytes, np.ndarray]]:
  reader = io.BufferedReader(file, 1 << 16) if isinstance(file, io.RawIOBase) else file
  for number in range(1, count + 1):
    word = bytearray()
    while (letter := reader.read(1)) not in (b' ', b''):
      word += letter
      if len(word) > LONGEST:
        raise Misfit(f'{path}: row {number} has a word of more than {LONGEST:,} bytes')
    values = reader.read(4 * width)
    if len(values) < 4 * width:
      raise Misfit(f'{path}: cut short in row {number} of {count:,}')
    yield bytes(word).lstrip(b'\n'), np.frombuffer(values, '<f4')


def _collect(
  path: pathlib.Path, rows: Iterator[tuple[bytes, np.ndarray]], count: int, width: int
) -> tuple[list[str], np.ndarray]:
  found: dict[str, int] = {}
  vectors = np.empty((count, width), np.float32)
  for number, (raw, row) in enumerate(rows, 1):
    word = raw.decode('utf-8', 'replace')
    if not word or any(letter.isspace() for letter in word):
      raise Misfit(f'{path}: row {number} has no word: {shown(word)}')
    if not np.isfinite(row).all():
      raise Misfit(f'{path}: row {number}, of {shown(word)}, has numbers that are not finite')
    if word not in found:
      vectors[len(found)] = row
      found[word] = len(found)
  return list(found), vectors[: len(found)]


def write(path: pathlib.Path, words: Sequence[str], vectors: np.ndarray, *, binary: bool) -> None:
  """Writes a file of vectors; numbers of a text file are read back to the bit."""
  with path.open('wb') as file:
    file.write(f'{len(words)} {vectors.shape[1]}\n'.encode())
    for start in range(0, len(words), AT_ONCE):
      some = slice(start, start + AT_ONCE)
      pairs = zip(words[some], np.asarray(vectors[some], '<f4'), strict=True)
      file.write(b''.join(_row(word, row, binary) for word, row in pairs))


def _row(word: str, row: np.ndarray, binary: bool) -> bytes:
  # float32's own repr is the shortest that reads back to the same bits.
  numbers = row.tobytes() if binary else ' '.join(map(str, row)).encode()
  return word.encode() + b' ' + numbers + b'\n'
