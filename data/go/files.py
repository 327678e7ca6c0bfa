"""Files of games: which there are in a folder, and what they hold, gzipped or not."""

import contextlib
import gzip
import os
import pathlib
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from data import folders
from mcts.go import sgf_syntax
from mcts.go.notation import printable

ENDINGS = ('.sgf', '.sgf.gz')


def is_sgf(path: pathlib.Path) -> bool:
  """Returns whether a file is SGF by its name; else it has a game a line."""
  return path.name.lower().endswith(ENDINGS)


def find(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
  """Returns the SGF files in a folder and its folders, links followed, and what else is there.

  What systems leave behind is in neither list; hidden files and folders are in the second.
  """
  games: list[pathlib.Path] = []
  others: list[str] = []

  def leave_out(kind: str, path: str) -> None:
    why = ': cannot be read' if kind == folders.CLOSED else ''
    others.append(printable(os.path.relpath(path, folder)) + why)

  for path in folders.walk(folder, leave_out):
    if is_sgf(path) and path.is_file():
      games.append(path)
    else:
      leave_out('', str(path))
  return sorted(games), sorted(others)


def text(path: pathlib.Path) -> bytes:
  """Returns a whole SGF file as UTF-8 in one line.

  Raises:
    ValueError: if it is empty, too large, cut or cannot be read.
  """
  with _readable(path) as file:
    data = file.read(sgf_syntax.MAX_BYTES + 1)
  if len(data) > sgf_syntax.MAX_BYTES:
    raise ValueError(f'must be at most {sgf_syntax.MAX_BYTES >> 20} MiB')
  # Line breaks in SGF say nothing, but in comments, of which nothing is kept.
  line = re.sub(r'[\r\n]+', ' ', sgf_syntax.decode(data)[0])
  if not line.strip():
    raise ValueError('it is empty')
  return line.encode()


def chunks(path: pathlib.Path, size: int) -> Iterator[tuple[bytes, list[str]]]:
  """Yields whole lines of a file, some `size` bytes at once, and a name for each line.

  Raises:
    ValueError: if it is no text, is cut or cannot be read.
  """
  line, rest = 1, b''
  with _readable(path) as file:
    while data := file.read(size):
      if line == 1 and b'\0' in data[:4096]:
        raise ValueError('it is no text; an archive has to be unpacked')
      lines, newline, rest = (rest + data).rpartition(b'\n')
      if len(rest) > sgf_syntax.MAX_BYTES:
        raise ValueError(f'line {line} is longer than {sgf_syntax.MAX_BYTES >> 20} MiB')
      if newline:
        count = lines.count(b'\n') + 1
        yield lines, [f'line {line + i}' for i in range(count)]
        line += count
  if rest:
    yield rest, [f'line {line}']


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[BinaryIO | gzip.GzipFile]:
  """Opens a file, gzipped or not; what goes wrong while it is read are ValueErrors."""
  try:
    sgf_syntax.file_size(path)
    with open(path, 'rb') as file:
      zipped = file.read(2) == b'\x1f\x8b'
      file.seek(0)
      yield gzip.GzipFile(fileobj=file) if zipped else file
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise ValueError(f'the gzip file is cut or damaged: {error}') from None
  except OSError as error:
    raise ValueError(error.strerror or str(error)) from None
