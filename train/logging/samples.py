"""What tasks draw while they train: files `samples/STEP-NAME` in the run folder."""

import os
from collections.abc import Mapping

import numpy as np

from train.workdir import write_bytes

FOLDER = 'samples'
EXCERPT = 100  # characters


def write(workdir: str, step: int, files: Mapping[str, bytes]) -> None:
  """Writes name -> contents; a file is there whole or not at all."""
  folder = os.path.join(workdir, FOLDER)
  os.makedirs(folder, exist_ok=True)
  for name, contents in files.items():
    write_bytes(os.path.join(folder, f'{step:08}-{name}'), contents)


def newest(workdir: str) -> tuple[int, dict[str, bytes]]:
  """Returns the last step that has files, and name -> contents; (0, {}) if there are none."""
  found = _found(workdir)
  last = max(found, default=0)
  return last, {name: _read(path) for name, path in found.get(last, {}).items()}


def earlier(workdir: str, name: str, count: int) -> dict[int, bytes]:
  """Returns step -> contents of `name`, of at most `count` steps before the last one, rising.

  They are spread evenly over the steps that have that file, the first of them included.
  """
  steps = [step for step, files in sorted(_found(workdir).items()) if name in files][:-1]
  rows = np.linspace(0, len(steps) - 1, min(count, len(steps))).round().astype(int)
  return {steps[i]: _read(_found(workdir)[steps[i]][name]) for i in rows}


def _found(workdir: str) -> dict[int, dict[str, str]]:
  """Returns step -> name -> path of all files."""
  folder = os.path.join(workdir, FOLDER)
  found: dict[int, dict[str, str]] = {}
  for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
    step, dash, name = file.partition('-')
    numbered = dash and step.isascii() and step.isdecimal() and len(step) < 20
    path = os.path.join(folder, file)
    if numbered and not name.endswith('.tmp') and os.path.isfile(path):
      found.setdefault(int(step), {})[name] = path
  return found


def _read(path: str) -> bytes:
  with open(path, 'rb') as file:
    return file.read()


def excerpt(contents: bytes) -> str:
  """Returns the beginning of a text in one line, of what a terminal can show."""
  text = contents.decode('utf-8', 'replace')
  words = ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())
  return words if len(words) <= EXCERPT else f'{words[: EXCERPT - 3]}...'
