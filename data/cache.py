"""The user's cache of decoded images, tokens and parsed games: folders that are whole or not there.

An entry is a folder whose name ends with a digest of everything that its contents depend on: a
changed source file or setting leads to another folder, so nothing in the cache is ever out of date.
Processes may fill an entry at once: each writes a folder of its own, and one of them is kept.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from absl import logging

T = TypeVar('T')
Folder = pathlib.Path

# What reading an entry raises that is absent, cut short or damaged.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


def root() -> Folder:
  """Returns the folder of all entries: breakthroughs/data in $XDG_CACHE_HOME or ~/.cache."""
  cache = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
  return cache / 'breakthroughs' / 'data'


def entry(name: str, key: Any) -> Folder:
  """Returns the folder of an entry, which need not exist.

  Args:
    name: a readable beginning of the folder's name.
    key: everything that the contents depend on, as JSON.
  """
  digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
  return root() / f'{re.sub("[^0-9A-Za-z_]+", "-", name)}-{digest}'


def fingerprints(paths: Iterable[str]) -> list[tuple[str, int, int]]:
  """Returns path, size in bytes and time of change in ns of each file, as part of a key."""
  return [(path, (stat := os.stat(path)).st_size, stat.st_mtime_ns) for path in paths]


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
  with contextlib.suppress(*UNREADABLE):
    return load(folder)
  value = make()
  try:
    with atomic_folder(folder) as unfinished:
      save(value, unfinished)
  except OSError as error:
    logging.warning('%s is not cached: %s', folder.name, error)
  return value


def load_or_write(
  folder: Folder | None, load: Callable[[Folder], T], write: Callable[[Folder], object]
) -> T:
  """Returns what `load` finds in an entry, which `write` fills first if it is absent or damaged.

  This is for values that are larger than memory: `load` maps files that `write` streams to disk.
  Where the entry cannot be made, or is None, they go to the system's folder for temporary files,
  where mapped files outlive their names.
  """
  if folder is not None:
    with contextlib.suppress(*UNREADABLE):
      return load(folder)
  with contextlib.ExitStack() as stack:
    unfinished = _workplace(stack, folder)
    write(unfinished)
    return load(unfinished)


def _workplace(stack: contextlib.ExitStack, folder: Folder | None) -> Folder:
  if folder is not None:
    try:
      return stack.enter_context(atomic_folder(folder))
    except OSError as error:
      logging.warning('%s is not cached: %s', folder.name, error)
  return pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
