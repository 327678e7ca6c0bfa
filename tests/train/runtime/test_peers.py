"""Whatever stops one of two processes stops the other, within a minute, with one line."""

import os
import signal
import subprocess
import sys

import pytest

from tests.train.runtime.test_host import ROOT
from tests.train.test_multiprocess import free_port

SILENT = 'stopped without a word: killed, or its node lost or without network'


def start(deed, cwd, indices=(0, 1)):
  """Returns each process' (status, lines of stderr)."""
  address = f'127.0.0.1:{free_port()}'
  command = [sys.executable, '-m', 'tests.train.runtime.together', address, '2']
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'}
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
  processes = [
    subprocess.Popen([*command, str(index), deed], cwd=cwd, env=environment, **pipes)
    for index in indices
  ]
  if deed.startswith('SIGSTOP'):
    stopped = processes.pop(int(deed[-1]))
    ended = [follow(process) for process in processes]
    stopped.send_signal(signal.SIGCONT)
    return [*ended, follow(stopped)]
  return [follow(process) for process in processes]


def follow(process):
  error = process.communicate(timeout=60)[1]  # the contract
  return process.returncode, error.splitlines()


@pytest.mark.long
@pytest.mark.parametrize('index', [0, 1])
def test_a_process_that_is_killed(tmp_path, index):
  """Process 0 has JAX's coordinator, with which it goes."""
  ended = start(f'SIGKILL{index}', tmp_path)
  assert ended[index] == (-9, [])
  assert ended[1 - index] == (76, [f'launch.py: process {index} of 2 {SILENT}'])


@pytest.mark.long
@pytest.mark.parametrize('index', [0, 1])
def test_a_process_that_is_alive_and_silent(tmp_path, index):
  """It goes down, too, when it goes on."""
  other, stopped = start(f'SIGSTOP{index}', tmp_path)
  assert other == (76, [f'launch.py: process {index} of 2 {SILENT}'])
  status, lines = stopped
  assert (status, len(lines)) == (76, 1)
  assert lines[0].startswith('launch.py: process ')


@pytest.mark.long
@pytest.mark.parametrize('index', [0, 1])
def test_a_mistake_in_one_is_told_by_all(tmp_path, index):
  ended = start(f'mistake{index}', tmp_path)
  assert ended[index] == (2, ['launch.py: no data here'])
  assert ended[1 - index] == (76, [f'launch.py: process {index} of 2 stopped: no data here'])


@pytest.mark.long
@pytest.mark.parametrize(
  ('deed', 'status', 'last', 'reason'),
  [
    ('bug', 1, 'ZeroDivisionError: 1 / 0', 'ZeroDivisionError: 1 / 0'),
    ('interrupt', 130, None, 'it was interrupted'),
  ],
)
def test_an_error_without_a_line_of_its_own(tmp_path, deed, status, last, reason):
  other, ended = start(deed, tmp_path)
  assert ended[0] == status
  assert (ended[1] or [None])[-1] == last
  assert other == (76, [f'launch.py: process 1 of 2 stopped: {reason}'])


@pytest.mark.long
def test_a_mistake_in_all_is_everyone_s_own(tmp_path):
  lines = [f'launch.py: a mistake in process {index}' for index in (0, 1)]
  assert start('own', tmp_path) == [(2, [line]) for line in lines]


@pytest.mark.long
def test_a_step_that_never_returns(tmp_path):
  """All wait for the one that is stuck; the stacks say which that is."""
  for index, (status, [line]) in enumerate(start('stuck', tmp_path)):
    assert status == 77
    assert 'no step for 2 s (--watchdog); the stacks of its threads are in ' in line
    assert 'time.sleep(120)' in (tmp_path / f'stuck-{index}.txt').read_text()


@pytest.mark.long
def test_a_process_that_does_not_come_to_a_barrier(tmp_path):
  line = "not all of the 2 processes have come to the barrier 'start' in 3 s"
  waited, late = start('late', tmp_path)
  assert waited == (76, [f'launch.py: {line}'])
  assert late == (76, [f'launch.py: process 0 of 2 stopped: {line}'])


@pytest.mark.slow
def test_a_process_that_does_not_come(tmp_path):
  [(status, lines)] = start('absent', tmp_path, [0])
  assert status == 76
  assert lines[-1].startswith('launch.py: process 1 of 2 has not come to 127.0.0.1:')
  [(status, lines)] = start('absent', tmp_path, [1])
  assert status == 76
  assert 'waits for process 0' in lines[0]
  assert lines[1].startswith('launch.py: process 0 of 2 does not listen at 127.0.0.1:')
  assert 'Connection refused' in lines[1]


@pytest.mark.long
def test_a_run_that_finishes(tmp_path):
  assert start('finish', tmp_path) == [(0, []), (0, [])]


@pytest.mark.long
def test_what_c_plus_plus_says_otherwise_is_shown(tmp_path):
  ended = start('abort', tmp_path)[1]
  assert ended == (-6, ['last words of C++'])
  assert start('SIGABRT', tmp_path)[1] == (-6, [])
