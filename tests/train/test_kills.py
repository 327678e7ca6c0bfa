"""A run killed at any of its file operations ends, given the same command, in the same bits."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from train import run

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 16
TRAIN = """
import os, signal, sys

workdir, left = sys.argv[1], int(sys.argv[2])
EVENTS = 'open', 'os.rename', 'os.remove', 'os.rmdir', 'os.mkdir', 'os.truncate', 'os.listdir'
happened = 0

def hook(event, arguments):
  global happened
  if event in EVENTS and str(arguments[0]).startswith(workdir):
    happened += 1
    if happened == left:
      os.kill(os.getpid(), signal.SIGKILL)

from train import config, verbs
settings = config.load('configs/lenet_digits.py')
settings['train'] |= dict(steps=12, log_every=5, eval_every=4, checkpoint_every=3, ema_decay=0.5)
sys.addaudithook(hook)
verbs.train(verbs.complete_config(settings), workdir)
print(happened)
"""


def train(workdir, kill_at=0):
  """Trains in a process of its own, which is killed at a file operation; 0: not at all."""
  command = [sys.executable, '-c', TRAIN, str(workdir), str(kill_at)]
  environment = {**os.environ, 'XLA_FLAGS': ''}
  return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def lines(workdir):
  found = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
  return [{k: v for k, v in line.items() if not k.startswith('time/')} for line in found]


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
  """The folder of a run that nothing happened to, and its number of file operations."""
  workdir = tmp_path_factory.mktemp('unbroken') / 'run'
  done = train(workdir)
  assert done.returncode == 0, done.stderr
  return workdir, int(done.stdout)


@pytest.mark.parametrize('part', np.linspace(0, 1, KILLS).round(3))
def test_a_killed_run_resumes_to_the_same_bits(unbroken, tmp_path, part):
  whole, operations = unbroken
  workdir = tmp_path / 'run'
  killed = train(workdir, kill_at=1 + int(part * (operations - 1)))
  # The last operations may come in another order: a run that was over is as good a case.
  assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
  resumed = train(workdir)
  assert resumed.returncode == 0, resumed.stderr
  assert lines(workdir) == lines(whole)
  ours, theirs = (run.load_weights(str(folder)) for folder in (workdir, whole))
  assert ours.step == theirs.step == 12
  jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
  assert not list(workdir.rglob('*tmp*'))
