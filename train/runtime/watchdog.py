"""Ends a run that is alive but stuck: in a collective that not all enter, or in a file system."""

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from train.errors import Status
from train.runtime import peers

PATIENCE = 600  # seconds, in runs of several processes: one that is stuck keeps all of them
WRITING = 10  # seconds for the stacks: the file system may be what is stuck


class Watchdog:
  """Ends the process, and those of the same run, after `limit` seconds without a step.

  It counts from the first finished step, so that what compiles may take as long as it takes. An
  evaluation or a checkpoint may take as long as it takes the first time, and then the limit or ten
  times as long as the longest yet.

  Args:
    limit: seconds; 0: never.
    workdir: where the stacks of all threads are left, in `stuck-PROCESS.txt`.
  """

  def __init__(self, limit: float, workdir: str) -> None:
    self._workdir = workdir
    self._limit = limit or float('inf')
    self._longest: dict[str, float] = {}  # by what is done
    self._work, self._since, self._until = 'step', 0.0, float('inf')
    self._closed = threading.Event()
    peers.on_stuck(self._stacks)
    if limit:
      threading.Thread(target=self._watch, daemon=True).start()

  def step(self) -> None:
    """Says that a step is finished."""
    self._begin('step', self._limit)

  @contextlib.contextmanager
  def aside(self, work: str) -> Iterator[None]:
    """Counts for what is done inside, 'evaluation' or 'checkpoint', and not for the steps."""
    longest = self._longest.get(work, float('inf'))
    self._begin(work, max(self._limit, 10 * longest))
    yield
    took = time.monotonic() - self._since
    self._longest[work] = max(took, self._longest.get(work, 0.0))
    self.step()

  def close(self) -> None:
    """Stops watching."""
    self._closed.set()

  def _begin(self, work: str, limit: float) -> None:
    self._until = float('inf')  # the thread reads these three one by one
    self._work, self._since = work, time.monotonic()
    self._until = self._since + limit

  def late(self) -> str:
    """Returns what takes too long, '' if nothing does."""
    if time.monotonic() < self._until:
      return ''
    what = 'no step' if self._work == 'step' else self._work
    return f'{what} for {time.monotonic() - self._since:.0f} s (--watchdog)'

  def _watch(self) -> None:
    while not self._closed.wait(min(1.0, self._limit / 4)):
      if reason := self.late():
        peers.tell(Status.STUCK, reason)
        peers.leave(Status.STUCK, f'stuck: {reason}; {self._stacks()}')

  def _stacks(self) -> str:
    """Writes the stacks of all threads; returns where they are."""
    path = os.path.join(self._workdir, f'stuck-{peers.index()}.txt')
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(_write(path)), daemon=True)
    thread.start()
    thread.join(WRITING)
    return done[0] if done else f'{path} could not be written in {WRITING} s'


def _write(path: str) -> str:
  frames = sys._current_frames()
  stacks = [
    f'{thread.name}:\n{"".join(traceback.format_stack(frames[thread.ident]))}'
    for thread in threading.enumerate()  # the main one comes first
    if thread.ident in frames
  ]
  try:
    with open(path, 'w') as file:
      file.write('\n'.join(stacks))
  except OSError as error:
    return f'{path}: {error.strerror}'
  return f'the stacks of its threads are in {path}'
