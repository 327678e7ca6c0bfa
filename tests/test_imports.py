"""Who may import whom: a table without exceptions; no circle; and what importing must not start."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LIBRARIES = ('models', 'mcts', 'data', 'train')
OURS = ('benchmarks', 'configs', 'examples', 'launch', 'tests', *LIBRARIES)

# What the networks stand on: layers and operations, and the one seam to what XLA on a CPU wants.
BASE = (
  *('models.layers', 'models.ops', 'models.attention', 'models.transformer'),
  *('models.axes', 'models.forms'),
)
CORE = (
  *('train.checkpoint', 'train.config', 'train.config_types', 'train.errors', 'train.logging'),
  *(
    'train.gradients',
    'train.loop',
    'train.mesh',
    'train.muon',
    'train.optim',
    'train.optim_checks',
    'train.schedules',
  ),
  'train.optim_adversarial',
  *('train.run', 'train.runtime', 'train.step', 'train.task', 'train.workdir'),
)
LAUNCHER = (
  *('train.aot', 'train.cli', 'train.play', 'train.convert', 'train.verbs'),
  *('train.sections', 'train.provenance', 'train.compatibility'),
  *('train.console', 'train.warm_start'),
)

# Package or module -> what it may import, beside its own room. The longest name that fits counts.
ARROWS = {
  'models': ('models',),
  'models.axes': (),
  'models.forms': ('models.axes',),
  'models.cpu': ('models.axes', 'models.forms'),
  **dict.fromkeys(
    ('models.layers', 'models.ops', 'models.attention', 'models.transformer'),
    ('models.cpu', *BASE),
  ),
  'models.gpt': ('models.cpu', 'models.weights', *BASE),
  'models.diffusion': ('models.gpt', *BASE),
  'models.gan': BASE,
  'mcts': ('mcts',),
  'mcts.symmetry': (),
  'mcts.game': ('mcts.symmetry',),
  'mcts.search': ('mcts.game',),
  'mcts.games': ('mcts.game', 'mcts.symmetry'),
  'mcts.go': ('mcts.game', 'mcts.symmetry', 'mcts.search', 'models.forms', 'models.cpu'),
  'mcts.selfplay': ('mcts.game', 'mcts.search'),
  'mcts.alphago': ('mcts.game', 'mcts.go', 'mcts.search', 'models.forms', 'models.cpu'),
  'mcts.engines': ('mcts.game', 'mcts.go', 'mcts.search'),
  **dict.fromkeys(
    ('mcts.gtp', 'mcts.match', 'mcts.draw'),
    ('mcts.engines', 'mcts.game', 'mcts.go', 'mcts.search'),
  ),
  'data': ('data',),
  'data.images': ('data',),
  'data.text': ('data',),
  'data.go': ('data', 'mcts.go'),
  **dict.fromkeys(CORE, CORE),
  **dict.fromkeys(
    ('train.gradients', 'train.step'), (*CORE, 'models.axes', 'models.cpu', 'models.forms')
  ),
  'train.declaration': (),
  'train.cli.arguments': ('train.cli', 'train.errors', 'train.workdir'),
  'train.cli.usage': ('train.cli', 'train.declaration'),
  'train.cli.keys': ('train.config',),
  'train.report': (*CORE, 'models', 'train.declaration', 'train.tasks'),
  'train.tasks': ('train.declaration', *CORE, 'models', 'mcts', 'data'),
  **dict.fromkeys(LAUNCHER, ('train', *LIBRARIES)),
  'launch': ('train.cli', 'train.declaration', 'train.errors', 'train.runtime.peers'),
  'configs': ('configs', 'data', 'mcts', 'models'),
  'benchmarks': ('benchmarks', *LIBRARIES),
  'examples': LIBRARIES,
  'tests': OURS,
}
# Rooms of one package that do not know one another.
STRANGERS = (
  ('data.images', 'data.text', 'data.go'),
  (
    'train.tasks.classify',
    *(f'train.tasks.{path.parent.name}' for path in ROOT.glob('train/tasks/*/declaration.py')),
  ),
)

SOURCES = [path for folder in OURS for path in sorted((ROOT / folder).rglob('*.py'))] + [
  ROOT / 'launch.py'
]


def module_name(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_name(path): path for path in SOURCES}


def in_room(name, room):
  return name == room or name.startswith(f'{room}.')


@functools.cache
def imports(module):
  """Our own modules that a module imports, anywhere in it."""
  found = set()
  for node in ast.walk(ast.parse(MODULES[module].read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{module}: imports are absolute'
      names = [f'{node.module}.{alias.name}' for alias in node.names]
      found |= {name if name in MODULES else node.module for name in names}
  return {name for name in found if name in MODULES}


def allowed(importer, imported):
  rooms = [room for room in ARROWS if in_room(importer, room)]
  room = max(rooms, key=len)
  for strangers in STRANGERS:
    mine = [x for x in strangers if in_room(importer, x)]
    theirs = [x for x in strangers if in_room(imported, x)]
    if mine and theirs and mine != theirs:
      return False
  return in_room(imported, room) or any(in_room(imported, target) for target in ARROWS[room])


def test_the_table_says_what_it_means():
  assert allowed('train.loop', 'train.config')
  assert allowed('train.verbs', 'models')
  assert allowed('models.alexnet', 'models.layers')
  assert not allowed('train.loop', 'models.lenet')
  assert not allowed('train.step', 'train.verbs')
  assert not allowed('train.tasks.language.task', 'train.tasks.diffusion.task')
  assert not allowed('models.cpu.text', 'models.gpt.model')
  assert not allowed('mcts.go.game', 'data.go.source')
  assert not allowed('mcts.search.tree', 'mcts.go')


@pytest.mark.parametrize('module', MODULES)
def test_imports_follow_the_table(module):
  wrong = [name for name in sorted(imports(module)) if not allowed(module, name)]
  assert not wrong, f'{module} may not import {wrong}'


def test_no_files_import_one_another_in_a_circle():
  """Imports within functions count: one that hides a circle is none the better for it."""
  done, path = set(), []

  def visit(module):
    assert module not in path, ' -> '.join([*path[path.index(module) :], module])
    if module in done:
      return
    path.append(module)
    for target in sorted(imports(module)):
      visit(target)
    done.add(path.pop())

  for module in MODULES:
    visit(module)


def test_no_folder_loses_to_an_installed_package_of_its_name():
  assert all((path.parent / '__init__.py').exists() for path in SOURCES if path.parent != ROOT)


def test_importing_starts_no_backend_and_loads_no_tensorflow():
  modules = [name for name in MODULES if name.split('.')[0] in LIBRARIES]
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
