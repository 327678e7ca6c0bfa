"""The run folder: one writer, whole files; and how a run is asked to stop."""

import errno
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from train.errors import UserError
from train.runtime.preemption import SIGNALS, Preemption
from train.workdir import folder, lock, write_json

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


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
  path = str(tmp_path / 'run.json')
  write_json(path, {'seed': 1})

  def full(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError, match=r"No space left on device: '.*run\.json'"):
    write_json(path, {'seed': 2})
  assert pathlib.Path(path).read_text() == '{\n  "seed": 1\n}\n'
  assert os.listdir(tmp_path) == ['run.json']


@pytest.mark.parametrize('end', ['removed', 'moved', 'replaced'])
def test_a_folder_that_is_gone_is_noticed(tmp_path, end):
  workdir = tmp_path / 'run'
  with lock(str(workdir)) as check:
    check()
    workdir.rename(tmp_path / 'other')
    if end == 'removed':
      shutil.rmtree(tmp_path / 'other')
    if end == 'replaced':
      workdir.mkdir()
      (workdir / '.lock').write_text('')
    with pytest.raises(FileNotFoundError, match='moved or removed while it trained'):
      check()


def test_a_file_system_without_locks_is_said_and_trained_on(tmp_path, monkeypatch, capsys):
  def unsupported(file, operation):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

  monkeypatch.setattr(fcntl, 'flock', unsupported)
  with lock(str(tmp_path)):
    assert 'its file system has no locks' in capsys.readouterr().err


def test_the_path_of_a_run_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert folder('~/runs/x') == f'{tmp_path}/runs/x'
  assert folder('runs/with space/') == 'runs/with space/'
  (tmp_path / 'link').symlink_to(tmp_path)
  assert folder(str(tmp_path / 'link')) == str(tmp_path / 'link')
  (tmp_path / 'broken').symlink_to('nowhere')
  (tmp_path / 'file').write_text('')
  for text, message in {
    'gs://bucket/run': 'a run folder lies in a file system',
    's3://bucket/run': 'mount the bucket',
    '': 'printable',
    'two\nlines': 'printable',
    '\udcff': 'printable',
    str(tmp_path / 'file'): 'is no folder',
    str(tmp_path / 'broken'): 'is no folder',
  }.items():
    with pytest.raises(UserError, match=message):
      folder(text)


@pytest.mark.parametrize('number', SIGNALS)
def test_the_first_signal_asks_and_the_second_is_the_systems(number, capfd):
  inherited = signal.signal(number, signal.SIG_DFL)  # nohup would have some ignored
  preemption = Preemption()
  assert not preemption.requested(1)
  signal.raise_signal(number)
  assert preemption.requested(2)
  assert preemption.by_hand == (number == signal.SIGINT)
  assert 'once more to stop at once' in capfd.readouterr().err
  assert signal.getsignal(number) == signal.SIG_DFL
  preemption.close()
  signal.signal(number, inherited)


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
