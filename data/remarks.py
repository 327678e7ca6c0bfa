"""What is left out or changed of a user's data: counted by kind and said once, with examples."""

import threading
from collections.abc import Iterable

from absl import logging

EXAMPLES = 2


class Remarks:
  """Counts of what a user may not expect of a set, by kind.

  name: of the set, with which the line in the log begins.
  found: kind -> number and the first examples.
  """

  def __init__(self, name: str):
    self.name = name
    self.found: dict[str, tuple[int, list[str]]] = {}
    self._said: set[str] = set()
    self._lock = threading.Lock()  # records are decoded in several threads

  def add(self, kind: str, *where: str, count: int = 1) -> None:
    """Counts `count` more of a kind, such as 'empty files'; `where` are examples."""
    with self._lock:
      before, examples = self.found.get(kind, (0, []))
      self.found[kind] = before + count, [*examples, *where][:EXAMPLES]

  def say(self, so_far: bool = False) -> None:
    """Logs the kinds that were not said before, in one line; their counts may go up if `so_far`."""
    with self._lock:
      new = [kind for kind in self.found if kind not in self._said]
      self._said.update(new)
      text = self.text(new, ' so far' if so_far else '')
    if new:
      logging.warning('%s: %s', self.name, text)

  def text(self, kinds: Iterable[str] = (), so_far: str = '') -> str:
    """Returns kinds, all unless some are given, with their counts and examples."""
    return '; '.join(_part(kind, *self.found[kind], so_far) for kind in kinds or self.found)


def _part(kind: str, count: int, examples: list[str], so_far: str) -> str:
  such_as = 'such as ' if count > len(examples) else ''
  return f'{kind}: {count}{so_far} ({such_as}{", ".join(examples)})'
