"""The run folder: one writer at a time, and files that are there whole or not at all."""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from train.errors import UserError, shown

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # as NFS or Lustre may be mounted


def folder(text: str) -> str:
  """Returns the path of a run folder as a user gives it: `~` is the home.

  Raises:
    UserError: it is no path of a file system, or there is a file.
  """
  if re.match(r'\w+://', text):
    raise UserError(
      f'workdir {shown(text)}: a run folder lies in a file system; mount the bucket, with gcsfuse'
      ' or s3fs, and give the path there'
    )
  if not text or not text.isprintable():
    raise UserError(f'workdir {shown(text)}: must be a path of printable characters')
  path = os.path.expanduser(text)
  if os.path.lexists(path) and not os.path.isdir(path):
    raise UserError(f'workdir {shown(text)}: is no folder')
  return path


@contextlib.contextmanager
def lock(workdir: str) -> Iterator[Callable[[], None]]:
  """Holds the workdir, made if absent, for this run; the system lets go when the process ends.

  Gives a function that raises FileNotFoundError if the folder has been removed since.

  Raises:
    UserError: another run holds it.
  """
  import jax  # not at the top: whoever writes a page about a run needs none

  os.makedirs(workdir, exist_ok=True)
  if jax.process_index() != 0:  # one process holds it for all of the run
    yield lambda: None
    return
  path = os.path.join(workdir, '.lock')
  with open(path, 'a+') as file:
    _hold(file, workdir)

    def check() -> None:
      if not (os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(file.fileno()))):
        raise FileNotFoundError(errno.ENOENT, 'the folder was moved or removed while it trained')

    yield check


def _hold(file: Any, workdir: str) -> None:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    raise UserError(
      f'workdir {workdir!r} is in use by {file.read() or "another process"}: one run writes to'
      ' a workdir at a time; stop that one or choose another --workdir'
    ) from None
  except OSError as error:
    if error.errno not in WITHOUT_LOCKS:
      raise
    print(f'{workdir}: its file system has no locks; train it once at a time', file=sys.stderr)
  file.truncate(0)
  file.write(f'process {os.getpid()} on {socket.gethostname()}')
  file.flush()


def free_path(path: str) -> str:
  """Returns the path, or the first of NAME-2.EXT, NAME-3.EXT, ... (a folder: NAME-2) not taken."""
  path = path.rstrip('/') or path
  stem, extension = (path, '') if os.path.isdir(path) else os.path.splitext(path)
  names = (f'{stem}-{number}{extension}' for number in itertools.count(2))
  return next(name for name in itertools.chain([path], names) if not os.path.lexists(name))


def ours_or_free(path: str, mark: str) -> str:
  """Returns the path if nothing lies there or a file of ours, which has `mark` near its beginning.

  Else `free_path`: what a user keeps there stays.
  """
  try:
    with open(path, 'rb') as file:
      return path if mark.encode() in file.read(1024) else free_path(path)
  except FileNotFoundError:
    return path
  except OSError:  # a folder, or unreadable
    return free_path(path)


def write_between(path: str, markers: tuple[str, str], text: str) -> bool:
  """Replaces the lines between two markers of a page; returns whether that changed it.

  Raises:
    UserError: the page lacks one of them.
  """
  with open(path, encoding='utf-8') as file:
    page = file.read()
  before, opening, rest = page.partition(markers[0])
  _, closing, after = rest.partition(markers[1])
  if not closing:
    raise UserError(f'{path}: has no {" ... ".join(markers)} to write between')
  new = f'{before}{opening}\n{text}\n{closing}{after}'
  write_text(path, new)
  return new != page


def write_text(path: str, text: str) -> None:
  """Replaces the file by a text, as `write_bytes`."""
  write_bytes(path, text.encode())


def write_bytes(path: str, contents: bytes) -> None:
  """Replaces the file at once and durably: a reader finds the old contents or the new.

  Raises:
    OSError: it could not be written; the old contents stay.
  """
  temporary = f'{path}.tmp'
  try:
    with open(temporary, 'wb') as file:
      file.write(contents)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:
    with contextlib.suppress(OSError):
      os.remove(temporary)
    raise OSError(error.errno, error.strerror, path) from error


def write_json(path: str, value: Any) -> None:
  """Replaces the file by a value as indented JSON, as `write_bytes`."""
  write_text(path, json.dumps(value, indent=2) + '\n')


def portable(words: Sequence[str]) -> str:
  """Returns a command for other machines: of absolute paths the last part alone."""
  return shlex.join(re.sub(r'(?:^|(?<=[=,]))/[^,]*/(?=[^/,])', '', word) for word in words)
