"""Images from a user's files while they are read: which one is damaged is the user's error."""

from collections.abc import Iterable, Iterator
from typing import Any

from jax import Array

from train.config import user_errors
from train.task import Batch, Source, Variables


class UsersImages:
  """A source of images whose files may be damaged: which one is, is a user's error."""

  def __init__(self, source: Source):
    self._source = source

  def init(self, key: Array) -> Any:
    return self._source.init(key)

  def next(self, carry: Any, step: int, variables: Variables) -> tuple[Any, Batch]:
    with user_errors():
      return self._source.next(carry, step, variables)


def readable(batches: Iterable[Batch]) -> Iterator[Batch]:
  """The batches; a file that cannot be read is a user's error."""
  with user_errors():
    yield from batches
