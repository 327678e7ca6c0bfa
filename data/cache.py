"""The user's cache of decoded images, tokens and parsed games: folders that are whole or not there.

An entry is a folder whose name ends with a digest of everything that its contents depend on: a
changed source file or setting leads to another folder, so nothing in the cache is ever out of date.
An entry keeps the checksums of its files: one whose bytes have changed is made again, and the log
says so. Processes may fill an entry at once: each writes a folder of its own, and one is kept.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from absl import logging

T = TypeVar('T')
Folder = pathlib.Path

CHECKSUMS = 'checksums.json'  # file name -> its size in bytes and its CRC-32
CHUNK = 1 << 22  # bytes read at a time
ABANDONED = 24 * 3600  # seconds since somebody wrote into an unfinished entry

# What reading an entry raises that other code has written, or that is damaged.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)  # NumPy gives no number


def root() -> Folder:
  """Returns the folder of all entries: breakthroughs/data in $XDG_CACHE_HOME or ~/.cache.

  A user without a home, as in some containers, has it in the folder for temporary files.
  """
  cache = os.path.expanduser(os.environ.get('XDG_CACHE_HOME') or '~/.cache')
  home = tempfile.gettempdir() if cache.startswith('~') else cache
  return pathlib.Path(home) / 'breakthroughs' / 'data'


def entry(name: str, key: Any) -> Folder:
  """Returns the folder of an entry, which need not exist.

  Args:
    name: a readable beginning of the folder's name.
    key: everything that the contents depend on, as JSON.
  """
  digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
  return root() / f'{re.sub("[^0-9A-Za-z_]+", "-", name)[-100:]}-{digest}'


def fingerprints(paths: Iterable[str]) -> list[tuple[str, int, int, int]]:
  """Returns path, size in bytes and times in ns of each file, as part of a key.

  The times are that of its contents, which whoever writes the file may set back, and that of its
  entry in the folder (ctime), which nobody may.
  """
  stats = ((path, os.stat(path)) for path in paths)
  return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats]


@contextlib.contextmanager
def atomic_folder(folder: Folder) -> Iterator[Folder]:
  """Gives an empty folder that replaces `folder` once the block ends without an error."""
  unfinished = folder.with_name(f'unfinished-{uuid.uuid4().hex[:12]}')
  unfinished.mkdir(parents=True)
  try:
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    try:
      unfinished.rename(folder)
    except OSError:
      if not folder.is_dir():  # else another process was first
        raise
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)


def load_or_make(
  folder: Folder,
  load: Callable[[Folder], T],
  make: Callable[[], T],
  save: Callable[[T, Folder], object],
) -> T:
  """Returns what `load` finds in an entry; else what `make` returns, which `save` puts there.

  Without space or permission to write, a warning is logged and the value is not kept.
  """
  if found := _find(folder, load):
    return found[0]
  value = make()
  with _unless_full(folder), atomic_folder(folder) as unfinished:
    save(value, unfinished)
    _seal(unfinished)
  return value


def load_or_write(
  folder: Folder | None, load: Callable[[Folder], T], write: Callable[[Folder], object]
) -> T:
  """Returns what `load` finds in an entry, which `write` fills first if it is absent or damaged.

  This is for values that are larger than memory: `load` maps files that `write` streams to disk.
  Where the entry cannot be made, or is None, they go to the system's folder for temporary files,
  where mapped files outlive their names.

  Raises:
    ValueError: there is no room in that folder either.
  """
  if folder is not None:
    if found := _find(folder, load):
      return found[0]
    with _unless_full(folder), atomic_folder(folder) as unfinished:
      write(unfinished)
      _seal(unfinished)
      return load(unfinished)
  try:
    with tempfile.TemporaryDirectory() as place:
      write(pathlib.Path(place))
      return load(pathlib.Path(place))
  except OSError as error:
    if error.errno not in NO_ROOM:
      raise
    place = tempfile.gettempdir()
    raise ValueError(f'{place}: {_words(error)}; set TMPDIR to another disk') from error


def _find(folder: Folder, load: Callable[[Folder], T]) -> tuple[T] | None:
  """Returns what an entry holds; None, with a warning, if it is there and not as it was written."""
  if not folder.is_dir():
    _sweep(folder.parent)
    return None
  try:
    _check(folder)
    return (load(folder),)
  except UNREADABLE as error:
    logging.warning('%s: %s; it is made again', folder, error or type(error).__name__)
    return None


def _sweep(parent: Folder) -> None:
  """Removes what processes have left that were killed while they filled an entry."""
  for path in parent.glob('unfinished-' + 12 * '[0-9a-f]'):
    with contextlib.suppress(OSError):  # another process may do the same
      newest = max(x.stat().st_mtime for x in (path, *path.iterdir()))
      if time.time() - newest > ABANDONED:
        shutil.rmtree(path)


@contextlib.contextmanager
def _unless_full(folder: Folder) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    logging.warning('%s is not cached: %s', folder.name, _words(error))


def _words(error: OSError) -> str:
  return error.strerror or f'no room ({error})'  # NumPy says how many bytes were written alone


def _seal(folder: Folder) -> None:
  """Writes the checksums of the files in a folder."""
  (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder)))


def _check(folder: Folder) -> None:
  """Raises ValueError or OSError unless a folder's files are those that were sealed."""
  try:
    wanted = dict(json.loads((folder / CHECKSUMS).read_text()))
  except (ValueError, TypeError, RecursionError, FileNotFoundError) as error:
    raise ValueError(f'has no {CHECKSUMS} that can be read') from error
  found = _checksums(folder)
  for name in sorted(wanted.keys() | found.keys()):
    if found.get(name) != wanted.get(name):
      raise ValueError(f'{name} is not as it was written')


def _checksums(folder: Folder) -> dict[str, list[int]]:
  return {path.name: _checksum(path) for path in folder.iterdir() if path.name != CHECKSUMS}


def _checksum(path: Folder) -> list[int]:
  """Returns size in bytes and CRC-32."""
  size, crc = 0, 0
  with open(path, 'rb') as file:
    while block := file.read(CHUNK):
      size, crc = size + len(block), zlib.crc32(block, crc)
  return [size, crc]
