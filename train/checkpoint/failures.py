"""What goes wrong while checkpoints are read and written, and who hears of it."""

import contextlib
import errno
import gc
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from train.checkpoint.record import Damaged
from train.errors import shown

# Orbax meets damage with any exception, a bare one among them. These mean something else.
_NOT_DAMAGE = (MemoryError, PermissionError, jax.errors.JaxRuntimeError)

_UNWRITABLE = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES
# What tensorstore says in words; the checkpoint may be whole all the same.
_UNREADABLE = errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE


class NotSaved(OSError):
  """A checkpoint could not be written; those before it are as they were."""


# -------- writing --------


@contextlib.contextmanager
def writing() -> Iterator[None]:
  """Raises NotSaved, in a line, for whatever goes wrong with the files inside."""
  reason = ''
  try:
    yield
  except (NotSaved, MemoryError, jax.errors.JaxRuntimeError):
    raise
  except Exception as error:  # of tensorstore, which has no types, or of the system
    reason = _reason(error)
  if reason:  # not `from error`: its trace goes through the threads of three libraries
    with _quiet_leftovers():
      _collect_leftovers()
    raise NotSaved(f'a checkpoint was not saved: {reason}')


def _reason(error: Exception) -> str:
  """Returns why files were not written, in the system's words where the message has them."""
  number = _told(str(error), _UNWRITABLE)
  return os.strerror(number) if number else shown(str(error), 200)


def _told(text: str, numbers: tuple[int, ...]) -> int:
  """Returns the one of the system's errors whose words are in a message; 0 if none is."""
  return next((number for number in numbers if os.strerror(number) in text), 0)


def hush() -> None:
  """Silences the traces of errors that `writing` is given as well.

  Orbax logs them in each of its threads, and tensorstore finds its event loop gone once for each
  array that was still to be written.
  """
  logging.getLogger('absl').addFilter(_is_news)
  if sys.unraisablehook is sys.__unraisablehook__:
    sys.unraisablehook = _tell


def _is_news(entry: logging.LogRecord) -> bool:
  return not (entry.levelno == logging.ERROR and 'orbax' in entry.pathname)


def _tell(leftover: Any) -> None:
  if str(leftover.exc_value) != 'Event loop is closed':
    sys.__unraisablehook__(leftover)


# -------- reading --------


def together(read: Callable[[], Any]) -> Any:
  """Returns read(); raises Damaged in all processes if it fails in one, so that they agree."""
  with _quiet_leftovers():
    result, reason = _attempt(read)
    if reason:
      _collect_leftovers()
  if not all_agree(not reason):
    raise Damaged(reason or 'another process could not read it')
  return result


def _attempt(read: Callable[[], Any]) -> tuple[Any, str]:
  """Returns (result, '') or (None, reason)."""
  try:
    return read(), ''
  except _NOT_DAMAGE:
    raise
  except Exception as error:
    whole = f'{error} {error.__cause__} {error.__context__}'
    if number := _told(whole, _UNREADABLE):
      path = re.search(r'"(/[^"]*)"', whole)
      raise OSError(number, os.strerror(number), path and path[1]) from None
    return None, str(error).split('\n')[0][:200] or type(error).__name__


def _collect_leftovers() -> None:
  """Waits for orbax' threads to drop what is left, and collects it while it is silenced."""
  time.sleep(0.1)
  gc.collect()


@contextlib.contextmanager
def _quiet_leftovers() -> Iterator[None]:
  """Silences what orbax leaves behind where an array cannot be read or written.

  It drops those of the others half way, and Python would print a traceback for each.
  """
  asyncio_log, hook = logging.getLogger('asyncio'), sys.unraisablehook
  asyncio_log.disabled, sys.unraisablehook = True, lambda leftover: None
  try:
    with warnings.catch_warnings(action='ignore', category=RuntimeWarning):
      yield
  finally:
    asyncio_log.disabled, sys.unraisablehook = False, hook


def all_agree(answer: bool) -> bool:
  """Returns whether the answer of every process is yes."""
  if jax.process_count() == 1:
    return answer
  return bool(np.all(multihost_utils.process_allgather(np.asarray(answer))))
