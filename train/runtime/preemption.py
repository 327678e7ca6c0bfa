"""Notices a request to stop: from a cluster that takes the machine back, or by Ctrl-C."""

import contextlib
import os
import signal
from typing import Any

import jax
from jax.experimental import multihost_utils


class Preemption:
  """Turns SIGTERM, SIGINT and SIGHUP into a question that the loop asks after each step.

  A single process has its own handlers; a second signal ends it at once. In a run of several
  processes JAX listens for SIGTERM and has all of them agree on one step; a handler of our own
  would silence that, so there is none.
  """

  def __init__(self) -> None:
    self._asked = False
    self._before: dict[int, Any] = {}
    if jax.process_count() == 1:
      for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
          self._before[number] = signal.signal(number, self._handle) or signal.SIG_DFL

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
    self._asked = True
    self.close()
    # Not print: the signal may have come in the middle of one.
    with contextlib.suppress(OSError):  # the terminal may be gone
      os.write(2, b'\nasked to stop: saving after this step; once more to stop at once\n')
