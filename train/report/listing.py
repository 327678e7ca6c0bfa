"""Lists run folders: what each is, how far it got, and its headline metric."""

import fcntl
import os
from collections.abc import Iterator, Sequence

from train.errors import UserError, plain
from train.report import numbers
from train.report.folder import Folder, read

HEAD = 'run', 'config', 'step', 'seed', 'metric', 'value', 'paper', 'state'
DAMAGE = AttributeError, KeyError, TypeError, ValueError
OWN = {'checkpoints', 'damaged', 'nan', 'profile', 'samples', 'tokenizer'}  # folders of a run


def table(folder: str, columns: int | None = None) -> str:
  """Returns a table of the run folders in a folder, at any depth, newest last.

  Args:
    folder: where to look; links are followed.
    columns: of the terminal: a wider table has the cells of a run below its name. None: any width.

  Raises:
    UserError: there are none.
  """
  rows = [_row(path) for path in sorted(_runs(folder), key=_changed)]
  if not rows:
    what = 'holds no run' if os.path.isdir(folder) else 'no such folder'
    raise UserError(f'--folder={folder}: {what}; `launch.py train` makes them in runs/')
  rows = [tuple(plain(str(cell)) for cell in row) for row in (HEAD, *rows)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  if columns is None or sum(widths[:-1]) + 2 * len(widths[:-1]) <= columns:
    return '\n'.join(_line(row, widths) for row in rows)
  return '\n'.join(f'{name}\n  {"  ".join(filter(None, rest))}' for name, *rest in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
  cells = (f'{cell:{width}}' for cell, width in zip(row, widths, strict=True))
  return '  '.join(cells).rstrip()


def _runs(folder: str) -> Iterator[str]:
  """Yields the folders with a config.json; each once, though links may lead around in a circle."""
  seen: set[str] = set()
  for path, folders, files in os.walk(folder, followlinks=True):
    known = os.path.realpath(path) in seen
    seen.add(os.path.realpath(path))
    if 'config.json' in files and not known:
      yield path
    folders[:] = [] if known else sorted(set(folders) - OWN)


def _changed(path: str) -> float:
  """Returns when a run last wrote; 0 for a link that leads nowhere."""
  files = (os.path.join(path, name) for name in ('metrics.jsonl', 'config.json'))
  return max((os.path.getmtime(file) for file in files if os.path.exists(file)), default=0.0)


def _row(path: str) -> tuple[str, ...]:
  """Returns a run's cells; of one that cannot be read, why."""
  try:
    return _cells(read(path))
  except (UserError, OSError) as error:
    return (path, *[''] * 6, str(error))
  except DAMAGE:  # a list stands for an object, say, in a file that is JSON
    return (path, *[''] * 6, 'config.json or run.json is damaged, or of another program')


def _cells(run: Folder) -> tuple[str, ...]:
  found = numbers.number([run])
  state = ['running'] if _is_locked(run.path) else []
  return (
    run.path,
    _config(run),
    f'{run.step}/{run.steps or "?"}',
    str(run.seed),
    found.metric,
    numbers.shown(found.metric, found.mean),
    numbers.shown(found.metric, found.paper),
    ', '.join([*state, *run.broken]),
  )


def _config(run: Folder) -> str:
  """Returns the name of the config that a run was begun with; of an imported one its task."""
  for start in run.starts:  # a resumption may be by --workdir alone
    for word in start.get('command', '').split():
      option, _, value = word.partition('=')
      if option == '--config' and value:
        return os.path.basename(value).removesuffix('.py')
  return str((run.config.get('task') or {}).get('name', ''))


def _is_locked(path: str) -> bool:
  """Returns whether a process trains there (`train.workdir.lock`)."""
  try:
    with open(os.path.join(path, '.lock')) as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:
    pass
  return False
