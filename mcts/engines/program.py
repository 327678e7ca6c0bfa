"""Another program, driven over GTP: its process, its answers, and what can go wrong with them."""

import collections
import contextlib
import queue
import shlex
import subprocess
import threading
import time
from typing import IO

COMPLAINTS, LONGEST = 3, 200  # lines of stderr that an error repeats, and characters of each


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
    self._lines: queue.Queue[str | None] = queue.Queue()
    self._complaints: collections.deque[str] = collections.deque(maxlen=COMPLAINTS)
    # Threads read, so that waiting for a line can time out, and so that no pipe fills up.
    threading.Thread(target=self._read, args=(self._stdout,), daemon=True).start()
    self._listener = threading.Thread(target=self._listen, args=(self._stderr,), daemon=True)
    self._listener.start()

  def _listen(self, stream: IO[str]) -> None:
    with contextlib.suppress(ValueError):  # closed while it was read
      for line in stream:
        if line.strip():
          self._complaints.append(line.strip()[:LONGEST])

  def _last_words(self) -> str:
    """Returns a dead program's status and the last that it wrote to stderr, in brackets."""
    with contextlib.suppress(subprocess.TimeoutExpired):
      self._process.wait(1.0)
    self._listener.join(1.0)
    status = self._process.poll()
    words = [] if status is None else [f'status {status}']
    words += [' / '.join(self._complaints)] if self._complaints else []
    return f' ({": ".join(words)})' if words else ''

  def _read(self, stream: IO[str]) -> None:
    for line in stream:
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
    status, lines[0] = lines[0][0], lines[0][1:].lstrip('0123456789').strip()
    text = '\n'.join(lines).strip()
    if status == '?':
      raise CommandRefused(f'refused {command!r}: {text}')
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
    try:
      line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
      raise ProgramError(f'silent after {command!r}') from None
    if line is None:
      raise ProgramError(f'died at {command!r}{self._last_words()}')
    return line

  def close(self) -> None:
    """Sends `quit`, waits for a second, and kills the process if it still runs."""
    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
      if self._process.poll() is None:
        self._write('quit')
        self._process.wait(1.0)
    if self._process.poll() is None:
      self._process.kill()
      self._process.wait()
    for pipe in (self._stdin, self._stdout, self._stderr):
      with contextlib.suppress(OSError):  # closing flushes what the process did not read
        pipe.close()
