"""Slices of splits in the notation of TFDS: 'train[:90%]', 'train[1000:]'."""

import re
from collections.abc import Mapping
from typing import Protocol


class Sized(Protocol):
  """A split of a data set."""

  @property
  def size(self) -> int:
    """Its number of records."""
    ...


def parse(splits: Mapping[str, Sized], split: str) -> tuple[str, range]:
  """Returns name and rows of a slice: 'train[:90%]' -> ('train', range(0, 54000)).

  A bound is a record number or a percentage (rounded to the nearest record), counted from the end
  if negative.

  Raises:
    ValueError: on another form, a split that is not in `splits`, or a slice without records.
  """
  form = re.fullmatch(r'(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?', split)
  if not form:
    raise ValueError(f"split {split!r}: write 'train', 'train[:90%]' or 'train[1000:2000]'")
  name, low, high = form.groups()
  if name not in splits:
    raise ValueError(f'split {name!r}: not in this set; choices: {", ".join(sorted(splits))}')
  size = splits[name].size

  def bound(text: str | None, default: int) -> int:
    if text is None:
      return default
    number = round(int(text[:-1]) * size / 100) if text.endswith('%') else int(text)
    if abs(number) > size:
      raise ValueError(f'split {split!r}: {text} lies outside the {size} records of {name!r}')
    return number + size if text.startswith('-') else number

  rows = range(bound(low, 0), bound(high, size))
  if not rows:
    raise ValueError(f'split {split!r}: holds none of the {size} records of {name!r}')
  return name, rows
