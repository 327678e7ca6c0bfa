"""The other processes of the run: when one of them stops, all stop, each with a line that says why.

JAX's coordination service, which is a part of process 0, notices whoever dies or falls silent. It
then ends all others by abort(), with a dump of its C++ stack, and calls no Python; of an error in
Python it hears nothing, and waits for minutes to shut down in order. So who stops leaves its reason
in the service's key-value store, where a thread of each process waits for it, and abort() is met by
a handler that reads the dump.
"""

import atexit
import contextlib
import ctypes
import dataclasses
import json
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from train.errors import PeerError, Status, plain, shown
from train.runtime.host import Messages

KEY = 'launch/stopped'
GRACE = 2.0  # seconds to come to an error of one's own: one mistake may stop all at the same time
DELAY = 0.05  # seconds from the first line of a dump to the one that says what it is, at most
DAY = 24 * 3600 * 1000  # milliseconds
PATIENCE = 600  # seconds at a barrier
FATAL = b'JAX distributed service detected fatal errors'


@dataclasses.dataclass(frozen=True)
class Place:
  """This process as one of several, before it has joined; None for what Cloud TPU tells JAX alone.

  Attributes:
    coordinator: HOST:PORT of process 0.
    count: how many processes there are.
    index: which of them this is.
  """

  coordinator: str | None = None
  count: int | None = None
  index: int | None = None


class Peers:
  """This process as one of `count`."""

  def __init__(self, client: Any, index: int, count: int, heartbeat_timeout: int) -> None:
    self.client, self.index, self.count = client, index, count
    self.heartbeat_timeout = heartbeat_timeout
    self.heard: tuple[int, str] | None = None  # status and line, once another one stopped
    self.ends = False  # by itself
    self._thread = threading.Thread(target=self._listen, daemon=True)
    self._thread.start()

  def tell(self, status: int, reason: str) -> None:
    """Leaves the reason for the others; the first that is left counts."""
    self.ends = True
    for other in range(self.count):
      self._leave(other, status, reason)

  def close(self) -> None:
    """Lets go of JAX's client, which must be gone before Python is."""
    self.ends = True
    self._leave(self.index, Status.FINISHED, '')  # wakes the thread
    self._thread.join(GRACE)
    self.client = None

  def _leave(self, other: int, status: int, reason: str) -> None:
    with contextlib.suppress(Exception):  # it is there already, or process 0 is gone
      self.client.key_value_set(f'{KEY}/{other}', json.dumps([self.index, status, reason]))

  def _listen(self) -> None:
    """Waits for another process to stop, and follows it."""
    with contextlib.suppress(Exception):  # process 0 is gone: JAX will call abort()
      index, status, reason = json.loads(self._wait(self.client))
      if self.ends:
        return
      stuck = status == Status.STUCK
      line = f'process {index} of {self.count} stopped: {reason}'
      self.heard = (Status.STUCK if stuck else Status.PEER), line
      time.sleep(GRACE)
      if stuck and _stacks:  # all wait for the one that is stuck: which that is, the stacks tell
        line += f'; {_stacks()}'
      if not self.ends:
        leave(self.heard[0], line)

  def _wait(self, client: Any) -> str:
    while True:
      try:
        return client.blocking_key_value_get(f'{KEY}/{self.index}', DAY)
      except Exception as error:
        if 'DEADLINE_EXCEEDED' not in str(error):
          raise


_peers: Peers | None = None
_stacks: Callable[[], str] | None = None  # of a watchdog
_stderr = 2  # where our lines go


def join(place: Place, init_timeout: int, heartbeat_timeout: int, **settings: Any) -> None:
  """Joins the run by `jax.distributed.initialize`, and then goes down with it.

  Raises:
    PeerError: JAX refuses this process.
  """
  global _peers
  dump = Dump(place)
  import jax
  from jax._src import distributed  # the key-value store has no other name

  timer = threading.Timer(init_timeout, lambda: leave(Status.PEER, absent(place, init_timeout)))
  timer.daemon = True
  timer.start()
  try:
    jax.distributed.initialize(
      place.coordinator,
      place.count,
      place.index,
      initialization_timeout=init_timeout + 60,  # at which it would abort()
      heartbeat_timeout_seconds=heartbeat_timeout,
      **settings,
    )
  except RuntimeError as error:
    raise PeerError(f'could not join the other processes: {shown(str(error), 300)}') from error
  finally:
    timer.cancel()
  state = distributed.global_state
  _peers = Peers(state.client, state.process_id, state.num_processes, heartbeat_timeout)
  dump.peers = _peers


def absent(place: Place, seconds: int) -> str:
  """Returns the line for a run that did not begin."""
  who = f'not all of the {place.count or "other"} processes have come'
  if place.count == 2:
    who = f'process {1 - (place.index or 0)} of 2 has not come'
  where = f' to {place.coordinator}' if place.coordinator else ''
  return f'{who}{where} in {seconds} s (--init_timeout)'


def index() -> int:
  """Returns which process this is; 0 where alone."""
  return _peers.index if _peers else 0


def gather(name: str) -> None:
  """Waits until every process is here; once for each name.

  Gloo waits for the others no longer than half a minute as two devices first talk, which is short
  where they compile on different machines, or all on one.

  Raises:
    PeerError: one of them does not come in ten minutes.
  """
  if _peers is None:
    return
  try:
    _peers.client.wait_at_barrier(f'launch/{name}', PATIENCE * 1000)
  except Exception as error:
    if 'DEADLINE_EXCEEDED' not in str(error):
      raise
    who = f'not all of the {_peers.count} processes'
    raise PeerError(f'{who} have come to the barrier {name!r} in {PATIENCE} s') from error


# -------- how this process ends --------


def on_stuck(stacks: Callable[[], str]) -> None:
  """Has `stacks` called when another process is stuck; it returns words for this one's line."""
  global _stacks
  _stacks = stacks


def tell(status: int, reason: str) -> None:
  """Tells the other processes, if there are any, that this one stops, and why."""
  if _peers:
    _peers.tell(status, reason)


def failed(error: Exception) -> int:
  """Returns the status after an error that has no line of its own; raises it where alone.

  An array that has a part on a process that is gone is a JaxRuntimeError: then the line of that
  process comes instead, once it is known to be gone.
  """
  if _peers is None:
    raise error
  import jax

  if isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in str(error):
    time.sleep(_peers.heartbeat_timeout + 10)  # `leave` ends it
  traceback.print_exception(error)
  tell(Status.FAILED, shown(f'{type(error).__name__}: {error}', 300)[1:-1])
  return Status.FAILED


def end(status: int) -> int:
  """Returns the status; leaves with it at once if others wait in vain for this process.

  JAX's way out waits for all to be there, as they are after the last step or a preemption.
  """
  if _peers is None:
    return status
  if status in (Status.FINISHED, Status.PREEMPTED):
    _peers.close()
    return status
  tell(status, 'it was interrupted' if status == Status.INTERRUPTED else f'status {status}')
  with contextlib.suppress(OSError):
    sys.stdout.flush()
  _exit(status)


_leaving = threading.Lock()


def leave(status: int, line: str) -> NoReturn:
  """Ends the process from any thread, with one line."""
  say(line)
  _exit(status)


def say(line: str) -> None:
  """Prints the line that says why this process ends; never returns to whoever comes second."""
  _leaving.acquire()
  start = '\n' if os.isatty(_stderr) else ''  # behind a bar of progress
  with contextlib.suppress(OSError):
    os.write(_stderr, f'{start}launch.py: {plain(" ".join(line.split()))}\n'.encode())


def _exit(status: int) -> NoReturn:
  if _peers and _peers.index == 0:  # with it goes what the others hear from
    time.sleep(GRACE + 1)
  os._exit(status)


# -------- how JAX ends it --------


class Dump:
  """What C++ writes to stderr, held back long enough to be read before it is shown."""

  def __init__(self, place: Place) -> None:
    global _stderr
    self.place = place
    self.peers: Peers | None = None
    sys.stderr.flush()
    _stderr = os.dup(2)
    self._held, self._lock = b'', threading.Lock()
    self._pipe, writing = os.pipe()
    os.set_blocking(self._pipe, False)
    os.dup2(writing, 2)
    os.close(writing)
    stream = open(_stderr, 'wb', closefd=False)  # noqa: SIM115
    sys.stderr = Messages(
      stream, sys.stderr.encoding, errors='backslashreplace', line_buffering=True
    )
    atexit.register(self._show)
    threading.Thread(target=self._pass_on, daemon=True).start()
    # Python's own handlers run between two instructions of the main thread: never, in abort().
    self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
    ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)

  def _pass_on(self) -> None:
    while True:
      select.select([self._pipe], [], [])
      time.sleep(DELAY)
      self._show()

  def _show(self) -> None:
    """Shows what there is, unless it is the beginning of the end, which takes seconds to write."""
    with self._lock, contextlib.suppress(OSError):
      text = self._read()
      if self._held or FATAL in text:
        self._held += text
      else:
        os.write(_stderr, text)

  def _read(self) -> bytes:
    parts = []
    with contextlib.suppress(BlockingIOError):
      while part := os.read(self._pipe, 1 << 16):
        parts.append(part)
    return b''.join(parts)

  def _aborted(self, number: int) -> None:
    with self._lock:
      text = self._held + self._read()
    if FATAL in text:
      heard = self.peers and self.peers.heard
      status, line = heard or (Status.PEER, self._meaning(text.decode(errors='replace')))
      say(line)
      os._exit(status)
    with contextlib.suppress(OSError):  # it is something else: as it would be without us
      os.write(_stderr, text)
    ctypes.CDLL(None).signal(number, None)
    os.kill(os.getpid(), number)

  def _meaning(self, dump: str) -> str:
    """Returns what the dump says, as a line."""
    count, index = self.place.count, self.place.index
    if self.peers:
      count, index = self.peers.count, self.peers.index
    _, unhealthy, names = dump.partition('stopped sending heartbeats')
    lost = {int(name) for name in re.findall(r'^(?:/job.*task:)?(\d+)$', names, re.M)}
    if index in lost:  # as after SIGCONT
      return f'process {index} of {count}, this one, was silent so long that the others stopped'
    if index and not unhealthy and re.search('Failed to send RPC|RPC: .*Heartbeat', dump):
      lost = {0}
    if not lost:
      what = (
        'the processes lost one another' if self.peers else 'could not join the other processes'
      )
      return f'{what}: {dump.partition("absl::Status: ")[2].partition(chr(10))[0][:300]}'
    one = len(lost) == 1
    who = f'process {min(lost)} of {count}' if one else f'{len(lost)} of {count} processes'
    return f'{who} stopped without a word: killed, or its node lost or without network'
