"""docs/extending.md, followed word for word in a copy of the code."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r'(?:`([^`\n]+)`:\n\n)?```(\w+)\n(.*?)```', re.S)


def follow(page: str, root: Path) -> list[str]:
  """Does what the blocks of `page` say in the folder `root`; returns the commands that remain."""
  commands = []
  for name, kind, text in BLOCK.findall(page):
    if kind == 'sh':
      commands += text.splitlines()
    elif kind == 'diff':
      change(root / name, text)
    else:
      assert not (root / name).exists()
      (root / name).write_text(text)
  return commands


def change(path: Path, text: str) -> None:
  """Applies a diff without line numbers: what stood there must stand there once."""
  lines = [(line[:1], line[1:]) for line in text.splitlines()]
  old, new = (
    ''.join(f'{line}\n' for mark, line in lines if mark in marks) for marks in (' -', ' +')
  )
  content = path.read_text()
  assert content.count(old) == 1, f'{path.name} has not (or more than once):\n{old}'
  path.write_text(content.replace(old, new))


def run(command: str, root: Path) -> None:
  python, *words = command.split()
  assert python == 'python'
  environment = {**os.environ, 'XLA_FLAGS': ''}  # one device
  done = subprocess.run(
    [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_network_a_data_set_and_a_loss_are_added_as_the_page_says(tmp_path):
  for name in ('models', 'mcts', 'data', 'train', 'configs'):
    shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))
  shutil.copy(ROOT / 'launch.py', tmp_path)
  commands = follow((ROOT / 'docs' / 'extending.md').read_text(), tmp_path)
  for command in commands:
    run(command, tmp_path)
  workdir = tmp_path / 'runs' / 'stripes'
  config = json.loads((workdir / 'config.json').read_text())
  assert config['model'] == {'name': 'mlp', 'hidden': [32], 'dtype': 'float32'}
  assert config['task']['loss'] == 'focal'
  evaluation = json.loads((workdir / 'eval.json').read_text())
  assert evaluation['classes'] == ['upright', 'level']
  assert evaluation['metrics']['test/error'] < 0.2  # guessing: 0.5
  assert 'mlp on stripes' in (workdir / 'report.html').read_text()
