"""Checks of others' files: settings that are honoured, tensors that are the network's."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.weights.files import Tensor

Settings = Mapping[str, tuple[Any, ...]]
"""A setting that changes what is computed -> the values that are honoured; the first is what a file
without it means."""


def check_settings(file: Any, config: Mapping[str, Any], honoured: Settings) -> None:
  """Raises ValueError for a setting whose value the network does not honour.

  Args:
    file: the file of the settings, for the message.
    config: the settings.
    honoured: the values that are.
  """
  for name, values in honoured.items():
    if (value := config.get(name, values[0])) not in values:
      choices = ', '.join(map(repr, values))
      raise ValueError(f'{file}: {name}={shown(value)} is not supported, only {choices}')


def check_tensors(
  where: Any, what: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
  """Raises ValueError unless the tensors are those of the network, in name and shape.

  Args:
    where: the file or folder, for the message.
    what: the network, likewise.
    tensors: by name.
    shapes: of the network's.
  """
  if missing := [name for name in shapes if name not in tensors]:
    raise ValueError(f'{where}: lacks {some(missing)} of {what}')
  if unknown := [name for name in tensors if name not in shapes]:
    raise ValueError(f'{where}: holds {some(unknown)}, which {what} has not')
  for name, shape in shapes.items():
    if (found := tensors[name].shape) != shape:
      raise ValueError(f'{where}: {name} is of shape {found}, of {what} it should be {shape}')


def shown(value: Any) -> str:
  """Returns the beginning of a value's repr."""
  return text if len(text := repr(value)) <= 60 else f'{text[:60]}...'


def some(names: Sequence[str]) -> str:
  """Returns the first three names, and how many more there are."""
  more = f' and {len(names) - 3} more' if len(names) > 3 else ''
  return ', '.join(names[:3]) + more
