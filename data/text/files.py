"""Files of text: which there are in a folder, and what they hold, gzipped or not."""

import codecs
import fnmatch
import gzip
import pathlib
import re
import zlib
from collections.abc import Sequence

from data import folders
from data.checks import printable
from data.remarks import Remarks

HEAD = 1 << 16  # bytes of a file that tell whether it is text

ESCAPES = {'n': '\n', 't': '\t', 'r': '\r', '\\': '\\'}


def find(root: pathlib.Path, pattern: str) -> list[pathlib.Path]:
  """Returns the texts in a folder and its folders, links followed, sorted by path.

  What fits the pattern and is left out is counted and logged; an empty file holds no document, but
  keeps its place, so that the others' splits do not depend on it.
  """
  left_out = Remarks(f'{printable(str(root))}: left out')
  found = []
  for path in folders.walk(root, lambda kind, path: left_out.add(kind, printable(path))):
    if _fits(path.relative_to(root).parts, pattern.split('/')):
      kind = _no_text(path)
      if kind:
        left_out.add(kind, printable(str(path)))
      if kind in ('', 'empty files'):
        found.append(path)
  left_out.say()
  return sorted(found)


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
  """Tells whether a path fits a pattern as `pathlib` has it: '**' is any number of folders."""
  if not pattern:
    return not parts
  if pattern[0] == '**':
    return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
  return bool(parts) and fnmatch.fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _no_text(path: pathlib.Path) -> str:
  """Returns what kind of file this is, by its head; '' for a text, or what `read` has to tell."""
  if not path.is_file():
    return 'broken links' if path.is_symlink() else 'devices and pipes'
  try:
    with gzip.open(path) if path.suffix == '.gz' else open(path, 'rb') as file:
      head = file.read(HEAD)
    codecs.getincrementaldecoder('utf-8')().decode(head)
  except UnicodeDecodeError:
    return 'files that are not UTF-8'
  except (OSError, EOFError, zlib.error):
    return ''
  if b'\0' in head:
    return 'files that are not UTF-8'
  return '' if head else 'empty files'


def read(path: pathlib.Path) -> str:
  """Returns a file of UTF-8, unpacked if it ends with .gz; line breaks stay as they are.

  Raises ValueError if it is not UTF-8, holds a NUL or cannot be read.
  """
  try:
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == '.gz' else raw
    text = raw.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    byte = error.object[error.start]
    wide = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    hint = '; it is UTF-16, which iconv or an editor converts' if wide else ''
    raise ValueError(f'{path}: byte 0x{byte:02x} at {error.start} is not UTF-8{hint}') from error
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'{path}: cannot be read: {error}') from error
  if (nul := text.find('\0')) >= 0:
    raise ValueError(f'{path}: character {nul} is NUL; must be a text in UTF-8, not UTF-16')
  return text


def unescaped(text: str) -> str:
  r"""Returns a text as it was meant: a shell hands over \n, \t, \r and \\ as they are typed."""
  return re.sub(r'\\([ntr\\])', lambda found: ESCAPES[found[1]], text)
