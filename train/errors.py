"""Errors of the user, told in one line: the value, the rule and the choices."""

import contextlib
import difflib
import enum
from collections.abc import Collection, Iterator
from typing import Any


class Status(enum.IntEnum):
  """What the exit status of launch.py means; docs/scaling.md says what to do about each."""

  FINISHED = 0
  FAILED = 1  # the system's mistake, or training's: a full disk, a loss that is not finite
  USER_ERROR = 2
  PREEMPTED = 75  # a signal, and all is saved: the same command goes on (sysexits.h: EX_TEMPFAIL)
  PEER = 76  # another process of the run stopped, or did not come
  STUCK = 77  # no step for --watchdog seconds
  INTERRUPTED = 130  # Ctrl-C, as shells have it; in `train` all is saved


class UserError(Exception):
  """A mistake of the user's, told in one line without a traceback (exit status 2)."""

  def __str__(self) -> str:
    # What a file or a command line holds may be a line's end, or a command to the terminal.
    return plain(super().__str__())


class PeerError(RuntimeError):
  """Another process of the run is gone or has not come (exit status 76)."""


class Halted(RuntimeError):
  """Training stopped: a loss or gradient is not finite, or the workdir cannot be written to."""


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
  """Turns ValueErrors into UserErrors: for building what a config asks for, not for training it."""
  try:
    yield
  except ValueError as error:
    raise UserError(' '.join(str(error).split())) from error


def shown(value: Any, most: int = 100) -> str:
  """Returns a value's repr for an error message, cut in the middle where it is long."""
  text = repr(value)
  return text if len(text) <= most else f'{text[: most // 2]}...{text[-most // 4 :]}'


def plain(text: str) -> str:
  """Returns a line with its control characters escaped: a file's name must not steer terminals."""
  return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def unknown(where: str, value: str, what: str, choices: Collection[str]) -> UserError:
  """Returns the error for a `value` that is none of the `choices`; `what` says what it is not.

  What was probably meant comes first: the choices may be many.
  """
  lower = {choice.lower(): choice for choice in choices}
  near = difflib.get_close_matches(value[:100].lower(), lower, n=1)
  hint = f' (did you mean {lower[near[0]]}?)' if near and 'did you mean' not in what else ''
  where = where if len(where) <= 200 else f'{where[:100]}...{where[-50:]}'
  return UserError(f'{where}: {what}{hint}; choose from {", ".join(choices) or "nothing"}')
