"""What the exit status of launch.py says to who started it."""

import signal
import subprocess
import sys
import time

import pytest

from tests.test_launch import ROOT
from tests.train.test_multiprocess import free_port

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_of_two_processes_each_ends_with_its_own_status(tmp_path):
  """Asked to stop, without its data, killed: as in the table of docs/scaling.md."""
  absent = ['--config.data.dataset=mnist', f'--config.data.data_dir={tmp_path / "nowhere"}']
  ended = two(tmp_path / 'absent', others=absent)
  line = "process 1 of 2 stopped: data.dataset='mnist': not found in "
  assert [status for status, _ in ended] == [76, 2], ended
  assert ended[0][1].splitlines()[-1].startswith(f'launch.py: {line}')

  ended = two(tmp_path / 'run', number=signal.SIGTERM)
  assert [status for status, _ in ended] == [75, 75], ended
  assert 'the same command resumes' in ended[0][1]

  ended = two(tmp_path / 'run', number=signal.SIGKILL)
  assert [status for status, _ in ended] == [76, -9], ended
  last = ended[0][1].splitlines()[-1]
  assert last.startswith('launch.py: process 1 of 2 stopped without a word')
  assert 'Traceback' not in ended[0][1]


def two(workdir, number=None, others=()):
  """Trains in two processes, of which process 1 is sent a signal; returns each (status, stderr)."""
  address = f'--coordinator_address=127.0.0.1:{free_port()}'
  common = [*TRAIN, *SMALL, f'--workdir={workdir}', '--config.train.steps=1000000', address]
  lines = workdir / 'metrics.jsonl'
  before = lines.stat().st_size if lines.exists() else 0
  pipes = {'cwd': ROOT, 'stderr': subprocess.PIPE, 'text': True}
  processes = [
    subprocess.Popen([*common, '--num_processes=2', f'--process_id={index}', *own], **pipes)
    for index, own in enumerate([[], others])
  ]
  if number:
    while not (lines.exists() and lines.stat().st_size > before):
      assert all(process.poll() is None for process in processes)
      time.sleep(0.1)
    processes[1].send_signal(number)
  errors = [process.communicate(timeout=90)[1] for process in processes]
  return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]
