"""Checks of the numbers and names in the config section `data`."""

from collections.abc import Collection


def at_least(lowest: int, **values: int) -> None:
  """Raises ValueError if one of the values, named as its config key is, is below `lowest`."""
  for name, value in values.items():
    if value < lowest:
      raise ValueError(f'data.{name}={value}: must be at least {lowest}')


def share(**values: float) -> None:
  """Raises ValueError unless the values are between 0 and 1, both excluded."""
  for name, value in values.items():
    if not 0 < value < 1:
      raise ValueError(f'data.{name}={value}: must be between 0 and 1')


def choice(choices: Collection[str], **values: str) -> None:
  """Raises ValueError unless the values are among `choices`."""
  for name, value in values.items():
    if value not in choices:
      raise ValueError(f'data.{name}={value!r}: unknown; choices: {", ".join(choices)}')
