"""Describes the keys of a config: value, and meaning from the docstring of its constructor."""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from train import config as config_lib

ENTRY = re.compile(r'(?P<names>\w+(?:, \w+)*)(?: \([^)]*\))?: (?P<text>.+)')


def describe(
  config: Mapping[str, Any], sections: Mapping[str, Any], settings: Callable[..., Any]
) -> str:
  """Returns a completed config, a line a key: `section.key=value  meaning`.

  Args:
    config: with all defaults filled in.
    sections: section -> (table, parameters that the code hands in), as `train.sections.SECTIONS`.
    settings: its signature and docstring say the keys outside of sections.
  """
  lines, outside = [], meanings(settings)
  for key, value in config.items():
    if key not in sections:
      lines += ['', *entry(f'{key}={value!r}', outside.get(key, ''))]
      continue
    constructor = config_lib.constructor_of(value, sections[key][0], key)
    lines += ['', *section_lines(key, value, constructor)]
  return '\n'.join(lines[1:])


def section_lines(
  where: str, section: Mapping[str, Any], constructor: Callable[..., Any]
) -> Iterator[str]:
  """Yields the lines of a section and of the groups in it."""
  known, groups = meanings(constructor), config_lib.groups_of(constructor)
  for key, value in section.items():
    if key in groups:
      group = config_lib.constructor_of(value, groups[key], f'{where}.{key}')
      yield from section_lines(f'{where}.{key}', value, group)
    else:
      yield from entry(f'{where}.{key}={value!r}', known.get(key, ''))


def entry(setting: str, meaning: str) -> Iterator[str]:
  """Yields a setting, and its meaning beside or below it."""
  lines = textwrap.wrap(meaning, 96 - 36) or ['']
  if len(setting) > 34:
    yield setting
  else:
    yield f'{setting:34}  {lines.pop(0)}'.rstrip()
  yield from (f'{"":36}{line}' for line in lines if line)


def meanings(constructor: Callable[..., Any]) -> dict[str, str]:
  """Returns argument -> its meaning, from the lines `name: text` of the docstrings.

  A subclass's docstring goes before those of its bases; lines about anything else than an argument
  are passed over.
  """
  function = getattr(constructor, 'func', constructor)
  names = config_lib.parameters_of(constructor)
  documents = [function, *getattr(function, '__mro__', ())[1:], getattr(function, '__init__', None)]
  found: dict[str, str] = {}
  for document in reversed(documents):
    found |= {
      name: text for name, text in _entries(inspect.getdoc(document) or '') if name in names
    }
  return found


def _entries(text: str) -> Iterator[tuple[str, str]]:
  """Yields the names and texts of the lines `name, name: text`, with their continuations."""
  names, words, depth = '', [], 0
  for line in [*text.splitlines(), 'end: .']:
    indent, match = len(line) - len(line.lstrip()), ENTRY.fullmatch(line.strip())
    if names and line.strip() and indent > depth and not (match and indent <= depth):
      words.append(line.strip())
      continue
    yield from ((name, ' '.join(words)) for name in names.split(', ') if name)
    names, words, depth = (match['names'], [match['text']], indent) if match else ('', [], 0)
