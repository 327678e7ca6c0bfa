"""The run folder: one writer, whole files; and how a run is asked to stop."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from train.errors import UserError
from train.runtime.preemption import Preemption
from train.workdir import lock, write_json

ROOT = pathlib.Path(__file__).parents[2]


def test_a_second_run_on_a_workdir_is_refused(tmp_path):
  hold = 'import sys, train.workdir as w\nwith w.lock(sys.argv[1]): print(flush=True), input()'
  command = [sys.executable, '-c', hold, str(tmp_path)]
  pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
  with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
    process.stdout.readline()
    with pytest.raises(UserError, match=f'{tmp_path.name}.*in use by process {process.pid} on '):
      lock(str(tmp_path)).__enter__()
    process.kill()
  with lock(str(tmp_path)):  # the system let go of it
    pass


def test_json_is_written_whole_or_not_at_all(tmp_path):
  path = str(tmp_path / 'run.json')
  write_json(path, {'seed': 1})
  with pytest.raises(TypeError):
    write_json(path, {'seed': object()})
  assert pathlib.Path(path).read_text() == '{\n  "seed": 1\n}\n'
  assert os.listdir(tmp_path) == ['run.json']


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_is_the_systems(number, capfd):
  before = signal.getsignal(number)
  preemption = Preemption()
  assert not preemption.requested(1)
  signal.raise_signal(number)
  assert preemption.requested(2)
  assert 'once more to stop at once' in capfd.readouterr().err
  assert signal.getsignal(number) == before
  preemption.close()


def test_a_signal_that_the_shell_ignores_stays_ignored():
  """As under nohup, where a closed terminal must not end the run."""
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    preemption = Preemption()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    preemption.close()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)
