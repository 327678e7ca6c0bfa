"""Checks of the numbers and names in the config section `data`, and how messages show values."""

import reprlib
from collections.abc import Collection
from typing import Any

SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 100


def at_least(lowest: int, **values: int) -> None:
  """Raises ValueError if one of the values, named as its config key is, is below `lowest`."""
  for name, value in values.items():
    if value < lowest:
      raise ValueError(f'data.{name}={shown(value)}: must be at least {lowest}')


def share(**values: float) -> None:
  """Raises ValueError unless the values are between 0 and 1, both excluded."""
  for name, value in values.items():
    if not 0 < value < 1:
      raise ValueError(f'data.{name}={value}: must be between 0 and 1')


def choice(choices: Collection[str], **values: str) -> None:
  """Raises ValueError unless the values are among `choices`."""
  for name, value in values.items():
    if value not in choices:
      raise ValueError(f'data.{name}={shown(value)}: unknown; choices: {", ".join(choices)}')


def shown(value: Any) -> str:
  """Returns a value's repr for a message, cut in the middle where it is long."""
  return SHORT.repr(value)


def printable(path: str) -> str:
  """Returns a file's name for a message: as it is, or with line ends and alien bytes escaped."""
  return path if path.isprintable() else repr(path)


def reason(error: BaseException, most: int = 300) -> str:
  """Returns what another library's error says, in one line of bounded length; else its type."""
  return ' '.join(str(error).split())[:most] or type(error).__name__
