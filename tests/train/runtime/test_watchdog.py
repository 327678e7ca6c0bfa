"""A run that is alive but stuck ends by itself, with the stacks of its threads."""

import pathlib
import re
import subprocess
import sys
import threading

import pytest

from train.runtime import watchdog
from train.runtime.watchdog import Watchdog

ROOT = pathlib.Path(__file__).parents[3]
STUCK = """
import sys, time
from train.runtime.watchdog import Watchdog
def a_step_that_never_returns():
  time.sleep(60)
Watchdog(0.2, sys.argv[1]).step()
a_step_that_never_returns()
"""


@pytest.mark.parametrize('exists', [True, False])
def test_the_process_ends_and_leaves_the_stacks_of_its_threads(tmp_path, exists):
  workdir = tmp_path if exists else tmp_path / 'absent'
  command = [sys.executable, '-c', STUCK, str(workdir)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
  path = workdir / 'stuck-0.txt'
  told = f'the stacks of its threads are in {path}' if exists else f'{path}: No such file or direc'
  line = rf'launch.py: stuck: no step for \d+ s \(--watchdog\); {re.escape(told)}'
  assert re.match(line, done.stderr), done.stderr
  assert (done.returncode, done.stderr.count('\n')) == (77, 1)
  if exists:
    assert 'in a_step_that_never_returns' in path.read_text().partition('\n\n')[0]


@pytest.fixture
def clock(monkeypatch):
  """A list whose sum is the time."""
  passed = [0.0]
  monkeypatch.setattr(watchdog.time, 'monotonic', lambda: sum(passed))
  monkeypatch.setattr(threading.Thread, 'start', lambda self: None)  # it would end the tests
  return passed


def test_steps_count_from_the_first_that_is_finished(clock):
  guard = Watchdog(60, '')
  clock.append(1200)  # compiles
  assert not guard.late()
  guard.step()
  clock.append(59)
  assert not guard.late()
  guard.step()
  clock.append(61)
  assert guard.late() == 'no step for 61 s (--watchdog)'


def test_an_evaluation_may_take_ten_times_as_long_as_the_longest_yet(clock):
  guard = Watchdog(60, '')
  with guard.aside('evaluation'):
    clock.append(1200)  # compiles
    assert not guard.late()
  with guard.aside('checkpoint'):
    clock.append(1)
  with guard.aside('checkpoint'):
    clock.append(59)
    assert not guard.late()
    clock.append(2)
    assert guard.late() == 'checkpoint for 61 s (--watchdog)'
  with guard.aside('evaluation'):
    clock.append(11999)
    assert not guard.late()
    clock.append(2)
    assert guard.late() == 'evaluation for 12001 s (--watchdog)'
  assert not guard.late()  # the steps begin anew


def test_without_a_limit_nothing_is_late(clock):
  guard = Watchdog(0, '')
  guard.step()
  clock.append(1e6)
  assert not guard.late()
