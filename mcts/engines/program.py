"""Another program, driven over GTP: its process, its answers, and what can go wrong with them."""

import collections
import contextlib
import queue
import re
import shlex
import subprocess
import threading
import time
from typing import IO

COMPLAINTS, LONGEST = 3, 200  # lines of stderr that an error repeats, and characters of each
LONGEST_LINE, MOST_LINES = 1 << 16, 1000  # of an answer; no answer of GTP comes near
QUIT_TIMEOUT = 10.0  # seconds from `quit` to the end: a program may have a device to give back


class ProgramError(Exception):
  """A program is dead, silent, or says what GTP does not know; the text says which."""


class CommandRefused(ProgramError):
  """A program has answered a command with '?'."""


class GtpProgram:
  """A process that speaks the Go Text Protocol on its stdin and stdout."""

  def __init__(self, command: str, *, timeout: float = 60.0):
    """Starts the program.

    Args:
      command: the command line.
      timeout: seconds that an answer may take, unless the call says otherwise.

    Raises:
      ProgramError: if it does not start.
    """
    self.timeout = timeout
    try:
      self._process = subprocess.Popen(
        shlex.split(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors='replace',
      )
    except (OSError, ValueError) as error:
      raise ProgramError(f'does not start: {error}') from error
    process = self._process
    assert process.stdin and process.stdout and process.stderr  # PIPE, above
    self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
    self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
    self._closed = False
    self._complaints: collections.deque[str] = collections.deque(maxlen=COMPLAINTS)
    # Threads read, so that waiting for a line can time out, and so that no pipe fills up.
    threading.Thread(target=self._read, args=(self._stdout,), daemon=True).start()
    self._listener = threading.Thread(target=self._listen, args=(self._stderr,), daemon=True)
    self._listener.start()

  def _listen(self, stream: IO[str]) -> None:
    with contextlib.suppress(ValueError):  # closed while it was read
      for line in stream:
        if line.strip():
          self._complaints.append(_plain(line.strip()))

  def _last_words(self, wait: float = 1.0) -> str:
    """Returns in brackets a dead program's status, and the last that it wrote to stderr."""
    with contextlib.suppress(subprocess.TimeoutExpired):
      self._process.wait(wait)
    self._listener.join(wait)
    status = self._process.poll()
    words = [] if status is None else [f'status {status}']
    words += [' / '.join(self._complaints)] if self._complaints else []
    return f' ({": ".join(words)})' if words else ''

  def _read(self, stream: IO[str]) -> None:
    with contextlib.suppress(ValueError):  # closed while it was read
      # In pieces: a program gone wild may never write a newline.
      while not self._closed and (line := stream.readline(LONGEST_LINE)):
        self._lines.put(line)
    self._lines.put(None)

  def send(self, command: str, timeout: float | None = None) -> str:
    """Sends a command and returns the text of the answer, without '=' and id (GTP 2, section 2.6).

    Args:
      command: one line.
      timeout: seconds that the whole answer may take.

    Raises:
      CommandRefused: if the answer begins with '?'.
      ProgramError: if no answer comes in time, or what comes is none.
    """
    deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
    try:
      self._write(command)
    except (OSError, ValueError):
      raise ProgramError(f'died before {command!r}{self._last_words()}') from None
    lines = [self._first_line(command, deadline)]
    while (line := self._next_line(command, deadline).strip('\r\n')) != '':
      lines.append(line)
      if len(lines) > MOST_LINES:
        raise ProgramError(f'answered {command!r} with more than {MOST_LINES} lines')
    status, lines[0] = lines[0][0], lines[0][1:]
    if number := re.match(r'\d+', lines[0]):
      raise ProgramError(
        f'answered {command!r} with the id {number[0][:20]}, which it was not given'
      )
    text = '\n'.join(lines).strip()
    if status == '?':
      raise CommandRefused(f'refused {command!r}: {_plain(text)}')
    return text

  def _write(self, command):
    self._stdin.write(f'{command}\n')
    self._stdin.flush()

  def _first_line(self, command, deadline):
    """Returns the first line of the answer, after empty ones."""
    while not (line := self._next_line(command, deadline)).strip():
      pass
    if line[0] not in '=?':
      raise ProgramError(f'answered {command!r} with {line.strip()[:60]!r}')
    return line.strip('\r\n')

  def _next_line(self, command, deadline):
    left = min(deadline - time.monotonic(), threading.TIMEOUT_MAX)
    try:
      if left <= 0:  # also where lines come without end, none of which answers
        raise queue.Empty
      line = self._lines.get(timeout=left)
    except queue.Empty:
      raise ProgramError(f'silent after {command!r}{self._last_words(0)}') from None
    if line is None:
      raise ProgramError(f'died at {command!r}{self._last_words()}')
    if len(line) >= LONGEST_LINE:
      raise ProgramError(f'answered {command!r} with a line of over {LONGEST_LINE - 1} characters')
    return line

  def close(self) -> str:
    """Sends `quit`, and kills the process if it still runs after `QUIT_TIMEOUT`.

    Returns:
      What was wrong with its end: that it was killed, or its status; '' for status 0.
    """
    self._closed = True
    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
      if self._process.poll() is None:
        self._write('quit')
        self._stdin.close()  # the end for a program that reads lines and does not know the command
        self._drain()  # a full pipe would keep it from ending
        self._process.wait(QUIT_TIMEOUT)
    killed = self._process.poll() is None
    if killed:
      self._process.kill()
      self._process.wait()
    said = self._last_words()
    self._drain()
    for pipe in (self._stdin, self._stdout, self._stderr):
      with contextlib.suppress(OSError):  # closing flushes what the process did not read
        pipe.close()
    if killed:
      return f'was killed, as it still ran {QUIT_TIMEOUT:g} s after quit{said}'
    return f'ended badly at quit{said}' if self._process.returncode else ''

  def _drain(self) -> None:
    """Forgets what was written and not read, so that the thread that reads can end."""
    with contextlib.suppress(queue.Empty):
      while True:
        self._lines.get_nowait()


def _plain(text: str) -> str:
  """Returns a program's words for a terminal: the beginning, without control characters."""
  return ''.join(x if x.isprintable() else ' ' for x in text[:LONGEST])
