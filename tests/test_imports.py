"""Who may import whom, read from the sources; and what importing must not start."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
OURS = ('benchmarks', 'configs', 'data', 'launch', 'mcts', 'models', 'tests', 'train')
LIBRARIES = ('models', 'mcts', 'data', 'train')

# What of `train` knows the models and the data; all else there is its core.
UPPER = ('train.verbs', 'train.report', 'train.play', 'train.tasks')

SOURCES = [
  path
  for folder in (*LIBRARIES, 'configs', 'benchmarks', 'tests')
  for path in sorted((ROOT / folder).rglob('*.py'))
]


def module_name(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(path):
  """Our own modules that a file imports, anywhere in it, as 'train.config'."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: imports are absolute'
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return {name for name in found if name.split('.')[0] in OURS}


def is_upper(name):
  return any(name == upper or name.startswith(f'{upper}.') for upper in UPPER)


def allowed(importer, imported):
  top, target = importer.split('.')[0], imported.split('.')[0]
  if top == 'data' and imported.startswith('mcts.go.sgf'):
    return True  # games come and go as SGF
  if top == 'mcts' and imported.startswith('models.forms'):
    return True  # what a program is compiled for is said there alone
  if top == 'train' and imported.startswith('models.cpu.order'):
    return True  # about XLA, not about models
  if top in ('models', 'mcts', 'data'):
    return target == top
  if top == 'train' and not is_upper(importer):
    return target == 'train' and not is_upper(imported)
  if top in ('train', 'configs', 'launch'):
    return target in LIBRARIES or top == target == 'configs'  # one may begin from another
  if top == 'benchmarks':
    return target in (*LIBRARIES, 'benchmarks')
  return target in OURS  # tests


def test_the_rule_itself():
  assert allowed('train.loop', 'train.config.UserError')
  assert allowed('train.verbs', 'models.MODELS')
  assert allowed('train.tasks.classify', 'data.images.source')
  assert not allowed('train.loop', 'models.lenet')
  assert not allowed('train.step', 'train.verbs.load_run')
  assert not allowed('models.lenet', 'data.images.source')
  assert not allowed('train.verbs', 'launch')


@pytest.mark.parametrize('path', [*SOURCES, ROOT / 'launch.py'], ids=module_name)
def test_imports_follow_the_design(path):
  wrong = [name for name in sorted(imports(path)) if not allowed(module_name(path), name)]
  assert not wrong, f'{module_name(path)} may not import {wrong}'


def test_no_folder_loses_to_an_installed_package_of_its_name():
  assert all((path.parent / '__init__.py').exists() for path in SOURCES)


def test_importing_starts_no_backend_and_loads_no_tensorflow():
  modules = [module_name(path) for path in SOURCES if module_name(path).split('.')[0] in LIBRARIES]
  code = f"""
import importlib, sys
for name in {modules}:
  importlib.import_module(name)
  from jax._src import xla_bridge
  assert not xla_bridge.backends_are_initialized(), f'importing {{name}} starts a JAX backend'
  assert 'tensorflow' not in sys.modules, f'importing {{name}} loads TensorFlow'
"""
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
