"""Folders that get their name when they are complete."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from train.errors import UserError


@contextlib.contextmanager
def new_folder(path: str, what: str) -> Iterator[str]:
  """Yields a folder to fill, which then becomes `path`.

  Raises:
    UserError: `path` holds something already.
  """
  place = pathlib.Path(path).resolve()
  if place.exists() and (not place.is_dir() or any(place.iterdir())):
    raise UserError(f'{path}: holds something already; {what} needs a new or empty folder')
  unfinished = place.with_name(f'.{place.name}.unfinished')
  shutil.rmtree(unfinished, ignore_errors=True)
  unfinished.mkdir(parents=True)
  try:
    yield str(unfinished)
    os.replace(unfinished, place)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)
