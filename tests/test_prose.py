"""How the sources read: docstrings begin with a verb, files are short, keys say what they mean."""

import ast
import pathlib
import re

import pytest

from train import config as config_lib
from train.cli import keys
from train.sections import SECTIONS

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = ('models', 'mcts', 'data', 'train', 'examples')
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob('*.py'))]
SOURCES.append(ROOT / 'launch.py')

LONGEST = 350  # lines
# Words in -s that are no verbs, of which a docstring was once made.
NOUNS = ('this', 'its', 'as', 'images', 'values', 'games', 'positions', 'losses', 'others')


def functions(path):
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef) and not any(map(is_property, node.decorator_list)):
      yield node, ast.get_docstring(node)


def is_property(decorator):
  """What is read as an attribute is described as one."""
  return 'property' in ast.unparse(decorator)


def begins_with_a_verb(text):
  first = re.match(r'[A-Z][a-z]+s\b', text)
  return bool(first) and first[0].lower() not in NOUNS


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_of_functions_begin_with_a_verb(path):
  """In the third person: 'Returns ...', 'Plays ...'."""
  wrong = [
    f'{node.name}: {text.splitlines()[0]}'
    for node, text in functions(path)
    if text and not node.name.startswith('__') and not begins_with_a_verb(text)
  ]
  assert not wrong


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_enough_to_be_read_at_once(path):
  assert len(path.read_text().splitlines()) <= LONGEST


def constructors():
  for section, (table, given) in SECTIONS.items():
    named = table.items() if hasattr(table, 'items') else [('', table)]
    for name, constructor in named:
      yield pytest.param(config_lib.resolve(constructor), given, id=f'{section}.{name}')


def unexplained(constructor, given):
  known, groups = keys.meanings(constructor), config_lib.groups_of(constructor)
  for key in config_lib.parameters_of(constructor):
    if key in groups:
      yield from unexplained(groups[key], ())
    elif key not in known and key not in given:
      yield key


@pytest.mark.parametrize(('constructor', 'given'), [*constructors()])
def test_every_key_of_a_config_says_what_it_means(constructor, given):
  """In the `Args:` or `Attributes:` of its constructor, which `--config=NAME --help` prints."""
  assert not list(unexplained(constructor, given))


def test_a_class_name_means_one_class():
  found: dict[str, list[str]] = {}
  for path in SOURCES:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
        found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
  assert not {name: paths for name, paths in found.items() if len(paths) > 1}
