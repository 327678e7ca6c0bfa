"""The help of launch.py: its verbs, its configs and the flags of a verb."""

import ast
import os
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from absl import flags


def overview(verbs: Mapping[str, Any], folder: str) -> str:
  """All verbs and the configs in `folder`, a line each."""
  firsts = {name: (verb.run.__doc__ or '').splitlines()[0] for name, verb in verbs.items()}
  return '\n'.join(
    [
      'usage: python launch.py VERB [--config=NAME] [--workdir=DIR] [--config.section.key=value]',
      *('', 'verbs (VERB --help tells its flags):', *columns(firsts)),
      *('', 'configs:', *columns(configs(folder))),
    ]
  )


def of_verb(name: str, verb: Any, values: flags.FlagValues) -> str:
  """What the verb does, and its flags with their defaults."""
  texts = {}
  for key in (*verb.flags, 'traceback'):
    flag = values[key]
    shown = f'--[no]{key}' if flag.boolean and flag.default else f'--{key}'
    default = f' [{flag.default}]' if flag.default not in (None, [], '', False, True) else ''
    texts[shown] = re.split(r';\s+repeat', flag.help)[0] + default
  return '\n'.join([f'python launch.py {name}: {verb.run.__doc__}', '', *columns(texts)])


def configs(folder: str) -> dict[str, str]:
  """Name -> what it is, the first line of each config's docstring; nothing is executed."""
  found = {}
  for name in sorted(os.listdir(folder)):
    if name.endswith('.py') and name != '__init__.py':
      with open(os.path.join(folder, name), encoding='utf-8') as file:
        lines = (ast.get_docstring(ast.parse(file.read())) or '').splitlines()
      found[name.removesuffix('.py')] = lines[0] if lines else ''
  return found


def columns(rows: Mapping[str, str]) -> list[str]:
  """Names on the left, texts on the right, wrapped."""
  width = max(map(len, rows), default=0)
  return [
    textwrap.fill(
      text, 100, initial_indent=f'  {key:{width}}  ', subsequent_indent=' ' * (width + 4)
    )
    for key, text in rows.items()
  ]
