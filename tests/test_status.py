"""What the exit status of launch.py says to who started it."""

import signal
import subprocess
import sys
import time

import pytest

from tests.test_launch import ROOT

TRAIN = [sys.executable, 'launch.py', 'train']
SMALL = [
  '--config=lenet_digits',
  '--config.train.log_every=1',
  '--config.optimizer.schedule=constant',
]


def asked_to_stop(workdir, number):
  """Starts a long run, sends the signal once it trains, and returns (status, stderr)."""
  command = [*TRAIN, *SMALL, f'--workdir={workdir}', '--config.train.steps=1000000']
  with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
    while not ((workdir / 'metrics.jsonl').exists() or process.poll() is not None):
      time.sleep(0.1)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
  return process.returncode, error


@pytest.mark.long
@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_run_that_was_asked_to_stop_is_no_finished_one(tmp_path, number, status):
  """A cluster starts it again after 75; whoever pressed Ctrl-C wants it stopped."""
  ended, error = asked_to_stop(tmp_path, number)
  assert (ended, 'Traceback' in error) == (status, False), error
  assert 'asked to stop: saved step' in error
  [step] = [path.name for path in (tmp_path / 'checkpoints').iterdir()]
  rest = [f'--workdir={tmp_path}', f'--config.train.steps={int(step) + 1}']
  done = subprocess.run([*TRAIN, *rest], cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
