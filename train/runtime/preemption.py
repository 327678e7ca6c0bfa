"""Notices a request to stop: from a cluster that takes the machine back, or by Ctrl-C."""

import contextlib
import os
import signal
import sys
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils

from train.errors import Status

# What terminals, batch systems (Slurm, PBS, Grid Engine) and init send before they kill.
SIGNALS = (
  *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
  *(signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2),
)


def before_training() -> None:
  """Ends the process, if it is alone, with status 75 at a signal that comes before the first step.

  Several processes leave together after their first step, as `Preemption` says.
  """

  def leave(number: int, frame) -> NoReturn:
    print('launch.py: asked to stop before the first step: nothing to save', file=sys.stderr)
    sys.exit(Status.PREEMPTED)

  for number in SIGNALS:
    # Ctrl-C has an exception of its own; nohup has some ignored.
    if jax.process_count() == 1 and signal.getsignal(number) is signal.SIG_DFL:
      signal.signal(number, leave)


class Preemption:
  """Turns SIGTERM, SIGINT and the like into a question that the loop asks after each step.

  A single process has its own handlers; a second signal ends it at once. In a run of several
  processes JAX listens for SIGTERM and has all of them agree on one step; a handler of our own
  would silence that, so the other signals are sent on as SIGTERM.

  `by_hand`: whether it was Ctrl-C, in a single process: no cluster is to start it again.
  """

  def __init__(self) -> None:
    self._asked = self.by_hand = False
    self._before: dict[int, Any] = {}
    alone = jax.process_count() == 1
    for number in SIGNALS:
      if signal.getsignal(number) is signal.SIG_IGN:  # as nohup has it
        continue
      if alone or number != signal.SIGTERM:
        handler = self._handle if alone else self._send_on
        self._before[number] = signal.signal(number, handler) or signal.SIG_DFL

  def requested(self, step: int) -> bool:
    """Returns whether to save after this step and leave; the same in all processes."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._asked

  def close(self) -> None:
    """Gives the signals back to whoever had them."""
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def _handle(self, number: int, frame) -> None:
    self._asked, self.by_hand = True, number == signal.SIGINT
    self.close()
    # Not print: the signal may have come in the middle of one.
    with contextlib.suppress(OSError):  # the terminal may be gone
      os.write(2, b'\nasked to stop: saving after this step; once more to stop at once\n')

  def _send_on(self, number: int, frame) -> None:
    self.close()
    os.kill(os.getpid(), signal.SIGTERM)
