"""The help of launch.py: its verbs, its configs and the options of a verb."""

import ast
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from train.declaration import Option


def overview(verbs: Mapping[str, Callable], folder: str) -> str:
  """Returns all verbs and the configs in `folder`, a line each."""
  firsts = {name: (run.__doc__ or '').splitlines()[0] for name, run in verbs.items()}
  return '\n'.join(
    [
      'usage: python launch.py VERB [--config=NAME] [--workdir=DIR] [--config.section.key=value]',
      *('', 'verbs (VERB --help lists its options):', *columns(firsts)),
      '',
      'configs (train --config=NAME --help lists the keys of one):',
      *columns(configs(folder)),
    ]
  )


def of_verb(
  name: str,
  run: Callable[..., Any],
  own: Iterable[Option],
  by_task: Mapping[str, Iterable[Option]],
) -> str:
  """Returns what the verb does, its own options, and those that tasks declare for it."""
  lines = [f'python launch.py {name}: {run.__doc__}', '', *columns(dict(map(described, own)))]
  groups: dict[tuple[Option, ...], list[str]] = {}
  for task, options in by_task.items():
    groups.setdefault(tuple(options), []).append(task)
  for options, tasks in groups.items():
    lines += ['', f'for a run of task {" or ".join(tasks)}:']
    lines += columns(dict(map(described, options)))
  return '\n'.join(lines)


def described(option: Option) -> tuple[str, str]:
  """Returns an option as it is typed, and its help with its default and choices."""
  shown = f'--[no]{option.name}' if option.default is True else f'--{option.name}'
  choices = f': {", ".join(option.choices)}' if option.choices else ''
  silent = option.default in (None, '', ()) or isinstance(option.default, bool)
  return shown, option.help + choices + ('' if silent else f' [{option.default}]')


def configs(folder: str) -> dict[str, str]:
  """Returns name -> the first line of each config's docstring; nothing is executed."""
  found = {}
  for name in sorted(os.listdir(folder)):
    if name.endswith('.py') and name != '__init__.py':
      found[name.removesuffix('.py')] = _first_line(os.path.join(folder, name))
  return found


def _first_line(path: str) -> str:
  """Returns the first line of a file's docstring; of one that is no Python, why."""
  try:
    with open(path, 'rb') as file:
      document = ast.get_docstring(ast.parse(file.read()))
  except (OSError, SyntaxError, ValueError) as error:
    return f'(cannot be read: {error})'
  return (document or '').partition('\n')[0]


def columns(rows: Mapping[str, str]) -> list[str]:
  """Returns lines with the names on the left and the texts on the right, wrapped."""
  width = max(map(len, rows), default=0)
  return [
    textwrap.fill(
      text, 100, initial_indent=f'  {key:{width}}  ', subsequent_indent=' ' * (width + 4)
    )
    for key, text in rows.items()
  ]
