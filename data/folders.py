"""Walks folders that users fill: what systems drop there is skipped, links are followed once."""

import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

HIDDEN = 'hidden files and folders'
CLOSED = 'folders that cannot be read'

# What systems and programs drop into folders: never a class, a text, a game or an image.
_DROPPINGS = re.compile(
  r'\._.*|\.ds_store|\.spotlight-v100|\.trashes|\.trash-\d+|\.fseventsd|\.temporaryitems'
  r'|\.apple(double|db|desktop)|__macosx|icon\r'  # macOS
  r'|thumbs\.db|ehthumbs\.db|desktop\.ini|\$recycle\.bin|recycler|system volume information'
  r'|@eadir|@tmp|@recycle|@__thumb|#recycle|#snapshot|\.snapshot|lost\+found'  # stores and disks
  r'|\.ipynb_checkpoints|__pycache__|\.git|\.gitkeep|\.gitignore|\.thumbnails|\.directory',
  re.IGNORECASE,
)


def is_dropping(name: str) -> bool:
  """Returns whether a file or folder of this name is a system's, of which nothing need be said."""
  return _DROPPINGS.fullmatch(name) is not None


def walk(root: pathlib.Path, leave_out: Callable[[str, str], None]) -> Iterator[pathlib.Path]:
  """Yields what is no folder in `root` and its folders, neither hidden nor a dropping.

  Args:
    root: where to begin.
    leave_out: called with HIDDEN or CLOSED and the path of what is left out for that.
  """
  seen = set()

  def keep(place: str, names: Sequence[str]) -> Iterator[str]:
    for name in sorted(names):
      if is_dropping(name):
        continue
      if name[0] == '.':
        leave_out(HIDDEN, os.path.join(place, name))
      else:
        yield name

  def closed(error: OSError) -> None:
    leave_out(CLOSED, os.fsdecode(error.filename))

  for place, folders, names in os.walk(root, followlinks=True, onerror=closed):
    facts = os.stat(place)
    if (facts.st_dev, facts.st_ino) in seen:  # a link that leads back
      folders.clear()
      continue
    seen.add((facts.st_dev, facts.st_ino))
    folders[:] = keep(place, folders)
    yield from (pathlib.Path(place, name) for name in keep(place, names))
