"""Two processes (gloo between them) train, save, stop, resume and end as one process does."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.train.test_loop import ROOT, metrics, params, same

SETTINGS = {'steps': 16, 'log_every': 3, 'eval_every': 4}


def free_port():
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    return probe.getsockname()[1]


def start(workdir, count, **arguments):
  """Runs the toy in `count` processes that share 4 devices; returns each one's (status, stderr)."""
  address, processes = f'localhost:{free_port()}', []
  for number in range(count):
    distributed = {
      'coordinator_address': address,
      'num_processes': count,
      'process_id': number,
      'heartbeat_timeout_seconds': 10,
    }
    flags = f'--xla_force_host_platform_device_count={4 // count}'
    text = json.dumps(
      {'workdir': str(workdir), **SETTINGS, 'distributed': distributed, **arguments}
    )
    environment = {**os.environ, 'XLA_FLAGS': flags}
    processes.append(
      subprocess.Popen(
        [sys.executable, '-m', 'tests.train.toy', text],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  errors = [process.communicate(timeout=120)[1] for process in processes]
  return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('alone')
  [(status, error)] = start(workdir, 1)
  assert status == 0, error
  return workdir


def close(ours, theirs):
  assert len(ours) == len(theirs)
  for a, b in zip(ours, theirs, strict=True):
    assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
  'layout',
  [(-1, 1, 1), pytest.param((1, 4, 1), marks=pytest.mark.slow)],
  ids=['data', 'fsdp'],
)
def test_two_processes_give_the_numbers_of_one_through_a_preemption(alone, tmp_path, layout):
  # SIGTERM reaches one of the two; both save the same step and leave.
  stopped = {'signal': (4, signal.SIGTERM), 'only': 1, 'pause': 0.25}
  first = start(tmp_path, 2, layout=layout, task=stopped)
  assert [status for status, _ in first] == [0, 0], first
  assert 4 < params(tmp_path)[0] < SETTINGS['steps']
  second = start(tmp_path, 2, layout=layout)
  assert [status for status, _ in second] == [0, 0], second
  close(metrics(tmp_path), metrics(alone))
  same(params(tmp_path)[1], params(alone)[1], 1e-5)

  # Process 0 alone writes: one file of events a start, and not a word from the other.
  assert len(list(tmp_path.glob('events*'))) == 2
  assert 'step' not in first[1][1] + second[1][1]


@pytest.mark.long
@pytest.mark.parametrize(
  ('before', 'after'),
  [
    ((2, (2, 1, 2)), (1, (1, 4, 1))),
    pytest.param((1, (1, 2, 2)), (2, (4, 1, 1)), marks=pytest.mark.slow),
  ],
  ids=['two to one', 'one to two'],
)
def test_a_run_goes_on_in_another_number_of_processes_on_another_mesh(
  alone, tmp_path, before, after
):
  stopped = {'signal': (4, signal.SIGTERM), 'only': 0, 'pause': 0.25}
  for (count, layout), task in ((before, stopped), (after, {})):
    ended = start(tmp_path, count, layout=layout, task=task)
    assert [status for status, _ in ended] == [0] * count, ended
  assert f'processes {before[0]}, accumulate 1; goes on whole with' in ended[0][1]
  close(metrics(tmp_path), metrics(alone))
  same(params(tmp_path)[1], params(alone)[1], 1e-5)
