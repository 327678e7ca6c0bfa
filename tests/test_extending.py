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
PAGE = ROOT / 'docs' / 'extending.md'
BLOCK = re.compile(r'(?:`([^`\n]+)`:\n\n)?```(\w+)\n(.*?)```', re.S)

pytestmark = pytest.mark.long


def follow(page: str, root: Path) -> None:
  """Writes the files and applies the diffs of `page` in the folder `root`."""
  for name, kind, text in BLOCK.findall(page):
    if kind == 'diff':
      for place in text.split('@@\n'):
        change(root / name, place)
    elif kind == 'python':
      assert not (root / name).exists()
      (root / name).parent.mkdir(exist_ok=True)
      (root / name).write_text(text)


def change(path: Path, text: str) -> None:
  """Applies a diff without line numbers: what stood there must stand there once."""
  lines = [(line[:1], line[1:]) for line in text.splitlines()]
  old, new = (
    ''.join(f'{line}\n' for mark, line in lines if mark in marks) for marks in (' -', ' +')
  )
  content = path.read_text()
  assert content.count(old) == 1, f'{path.name} has not (or more than once):\n{old}'
  path.write_text(content.replace(old, new))


def commands(page: str) -> dict[str, list[str]]:
  """Returns the commands of each section of `page`."""
  sections = re.split(r'^## (.+)\n', page, flags=re.M)[1:]
  found = {}
  for title, text in zip(sections[::2], sections[1::2], strict=True):
    blocks = [block for _, kind, block in BLOCK.findall(text) if kind == 'sh']
    found[title] = ''.join(blocks).replace('\\\n', ' ').splitlines()
  return found


def run(section: str, root: Path) -> str:
  """Runs the commands of a section in `root`; returns what the last one writes to stdout."""
  environment = {**os.environ, 'XLA_FLAGS': ''}  # one device
  for command in commands(PAGE.read_text())[section]:
    command = re.sub(r'\bpython\b', sys.executable, command, count=1)
    done = subprocess.run(
      command, shell=True, cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f'{command}\n{done.stderr}'
  return done.stdout


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """A copy of the code with everything that the page adds."""
  root = tmp_path_factory.mktemp('extended')
  for name in ('models', 'mcts', 'data', 'train', 'configs'):
    shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns('__pycache__'))
  shutil.copy(ROOT / 'launch.py', root)
  follow(PAGE.read_text(), root)
  return root


def read(path: Path):
  return json.loads(path.read_text())


def metrics(workdir: Path) -> dict[str, float]:
  lines = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
  return {name: value for line in lines for name, value in line.items()}


def test_every_section_with_commands_is_run_here():
  tested = Path(__file__).read_text()
  for section, found in commands(PAGE.read_text()).items():
    assert not found or f"run('{section}', root)" in tested


def test_a_network_a_data_set_and_a_loss_train_together(root):
  run('An experiment', root)
  workdir = root / 'runs' / 'stripes'
  config = read(workdir / 'config.json')
  assert config['model'] == {'name': 'mlp', 'hidden': [32], 'dtype': 'float32'}
  assert config['task']['loss'] == 'focal'
  evaluation = read(workdir / 'eval.json')
  assert evaluation['classes'] == ['vertical', 'horizontal']
  assert evaluation['metrics']['test/error'] < 0.2  # guessing: 0.5
  assert 'mlp on stripes' in (workdir / 'report.html').read_text()


def test_a_game_trains_and_is_played_by_hand(root):
  shown = run('A game', root)
  assert shown.startswith(f'\n{"o" * 12}\nX to move (1 2 3; q quits): ')
  assert 'O plays ' in shown and shown.endswith(('no stones\nX wins\n', 'no stones\nO wins\n'))
  found = metrics(root / 'runs' / 'nim')
  assert 4 <= found['train/play_length'] <= 12
  assert found['raw/share'] > 0.75  # the network without search, against random play


def test_an_environment_trains_and_is_shown(root):
  shown = run('An environment', root)
  assert 'episode.png: return 1 in 7 steps, epsilon 0' in shown
  assert metrics(root / 'runs' / 'catch')['eval/return'] > 0.9  # at random: 0.2
  assert 'dqn_mlp on catch' in (root / 'runs' / 'catch' / 'report.html').read_text()


def test_a_process_and_a_sampler_train_and_sample(root):
  shown = run('A sampler', root)
  workdir = root / 'runs' / 'trigonometric'
  assert read(workdir / 'config.json')['task']['process'] == 'trigonometric'
  files = shown.split()
  assert files and all((root / name).read_bytes().startswith(b'\x89PNG') for name in files)


def test_a_variant_of_gpt_trains_and_writes(root):
  shown = run('A language model', root)
  workdir = root / 'runs' / 'scaled'
  assert read(workdir / 'config.json')['model']['embedding_scale'] == 8
  assert read(workdir / 'eval.json')['metrics']['val/loss'] < 5  # guessing: log(256) = 5.5
  assert shown.startswith('def ')


def test_a_task_trains_and_is_evaluated_sampled_and_reported(root):
  run('A task', root)
  workdir = root / 'runs' / 'autoencoder'
  loss = read(workdir / 'eval.json')['metrics']['test/loss']
  assert loss < 165  # nats; all pixels with probability 1/2: 256 log 2 = 177.4
  assert (workdir / 'samples' / 'grid.png').read_bytes().startswith(b'\x89PNG')
  assert 'autoencoder' in (workdir / 'report.html').read_text()
