"""Slices of splits in the notation of TFDS: 'train[:90%]', 'train[1000:]'."""

import re
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from data import checks


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
  form = re.fullmatch(r'(\w+)(?:\[(-?\d{1,15}%?)?:(-?\d{1,15}%?)?\])?', split)
  if not form:
    raise ValueError(
      f"split {checks.shown(split)}: write 'train', 'train[:90%]' or 'train[1000:2000]'"
    )
  name, low, high = form.groups()
  shown = checks.shown(split)
  if name not in splits:
    choices = ', '.join(map(checks.printable, sorted(splits))) or 'none'
    raise ValueError(f'split {checks.shown(name)}: not in this set; choices: {choices}')
  size = splits[name].size

  def bound(text: str | None, default: int) -> int:
    if text is None:
      return default
    number = round(int(text[:-1]) * size / 100) if text.endswith('%') else int(text)
    if abs(number) > size:
      raise ValueError(f'split {shown}: {text} lies outside the {size} records of {name!r}')
    return number + size if text.startswith('-') else number

  rows = range(bound(low, 0), bound(high, size))
  if not rows:
    raise ValueError(f'split {shown}: holds none of the {size} records of {name!r}')
  return name, rows


def even_order(labels: np.ndarray) -> np.ndarray:
  """Returns a fixed order [N] of labelled records in which every slice holds all classes evenly.

  The records of a class are shuffled and then spread over the whole, the k-th of n at a random
  place of [k / n, (k + 1) / n), so that neither a block nor every tenth record misses a class.
  """
  rng, places = np.random.default_rng(0), np.empty(len(labels))
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    places[rng.permutation(rows)] = (np.arange(len(rows)) + rng.random(len(rows))) / len(rows)
  return np.argsort(places, kind='stable')
