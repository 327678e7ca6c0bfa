"""The table of data sources: a run imports the kind of data that it uses, and no other."""

import subprocess
import sys

import pytest

from data import SOURCES

KINDS = {'images': 'data.images', 'text': 'data.text', 'go_games': 'data.go'}


@pytest.mark.parametrize('name', KINDS)
def test_a_source_imports_no_other_kind(name):
  code = (
    f"import sys; from data import SOURCES; assert '{name}' in SOURCES; "
    f"assert not [x for x in sys.modules if x.startswith('data.')]; SOURCES['{name}']; "
    "print([x for x in sys.modules if x.split('.')[0] in ('data', 'mcts', 'models', 'train')])"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  others = [kind for kind in KINDS.values() if kind != KINDS[name]]
  if name != 'go_games':
    others.append('mcts')
  wrong = [x for x in eval(done.stdout) if x.startswith(tuple(others)) or x.startswith('models')]
  assert KINDS[name] in done.stdout and not wrong


def test_the_table_is_a_mapping_of_constructors():
  assert list(SOURCES) == ['images', 'text', 'selfplay', 'go_games'] and len(SOURCES) == 4
  assert 'imagse' not in SOURCES and 'text' in SOURCES
  assert all(hasattr(source, 'metadata') for source in SOURCES.values())
  with pytest.raises(KeyError):
    SOURCES['imagse']
