"""The table of data sources: a run imports the kind of data that it uses, and no other."""

import pkgutil
import subprocess
import sys

import pytest

from data import SOURCES

KINDS = {'images': 'data.images', 'text': 'data.text', 'go_games': 'data.go'}


@pytest.mark.parametrize('name', KINDS)
def test_a_source_imports_no_other_kind(name):
  code = (
    'import pkgutil, sys; from data import SOURCES; '
    "assert not [x for x in sys.modules if x.startswith('data.')]; "
    f"pkgutil.resolve_name(SOURCES['{name}']); "
    "print([x for x in sys.modules if x.split('.')[0] in ('data', 'mcts', 'models', 'train')])"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  others = [kind for kind in KINDS.values() if kind != KINDS[name]]
  others += [] if name == 'go_games' else ['mcts', 'models']
  wrong = [x for x in eval(done.stdout) if x.startswith(tuple(others))]
  assert KINDS[name] in done.stdout and not wrong


@pytest.mark.parametrize('name', SOURCES)
def test_every_source_says_what_a_network_needs_to_know_without_its_data(name):
  assert callable(pkgutil.resolve_name(SOURCES[name]).metadata)
