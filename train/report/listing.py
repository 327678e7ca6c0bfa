"""Lists run folders: what each is, how far it got, and its headline metric."""

import pathlib

from train.errors import UserError
from train.report import numbers
from train.report.folder import read

HEAD = 'run', 'task', 'step', 'seed', 'metric', 'value', 'paper'


def table(folder: str) -> str:
  """Returns a table of the run folders in a folder, at any depth, newest last.

  Raises:
    UserError: there are none.
  """
  paths = sorted(pathlib.Path(folder).rglob('config.json'), key=lambda path: path.stat().st_mtime)
  rows = [_row(path.parent) for path in paths]
  if not rows:
    raise UserError(f'--folder={folder}: holds no run; `launch.py train` makes them in runs/')
  widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
  lines = (
    '  '.join(f'{cell:{width}}' for cell, width in zip(row, widths, strict=True))
    for row in (HEAD, *rows)
  )
  return '\n'.join(line.rstrip() for line in lines)


def _row(path: pathlib.Path) -> tuple[str, ...]:
  """Returns a run's cells; of one that cannot be read, why."""
  try:
    run = read(str(path))
  except UserError as error:
    return (str(path), *[''] * 5, str(error))
  found = numbers.number([run])
  return (
    str(path),
    (run.config.get('task') or {}).get('name', ''),
    f'{run.step}/{run.steps or "?"}',
    str(run.seed),
    found.metric,
    numbers.shown(found.metric, found.mean),
    numbers.shown(found.metric, found.paper),
  )
