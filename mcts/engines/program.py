"""Another program, driven over GTP: its process, its answers, and what can go wrong with them."""

import contextlib
import queue
import shlex
import subprocess
import threading
import time


class ProgramError(Exception):
  """A program is dead, silent or says what GTP does not know; the text tells."""


class Refused(ProgramError):
  """It answered, but with '?'."""


class Program:
  """A GTP program, by its command line. Use it as a context, or close it.

  timeout: seconds that an answer may take, if the call does not say otherwise.
  """

  def __init__(self, command: str, *, timeout: float = 60.0, name: str | None = None):
    self.command, self.timeout = command, timeout
    self.name = name or command
    try:
      self._process = subprocess.Popen(
        shlex.split(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors='replace',
      )
    except (OSError, ValueError) as error:
      raise ProgramError(f'does not start: {error}') from error
    self._lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=self._read, daemon=True).start()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def _read(self):
    for line in self._process.stdout:
      self._lines.put(line)
    self._lines.put(None)

  def ask(self, command: str, timeout: float | None = None) -> str:
    """The answer's text; ProgramError if there is none in time, Refused if it is a '?'."""
    deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
    try:
      self._process.stdin.write(f'{command}\n')
      self._process.stdin.flush()
    except (OSError, ValueError):
      raise ProgramError(f'died before {command!r}') from None
    lines = [self._first(command, deadline)]
    while (line := self._next(command, deadline).strip('\r\n')) != '':
      lines.append(line)
    status, lines[0] = lines[0][0], lines[0][1:].lstrip('0123456789').strip()
    text = '\n'.join(lines).strip()
    if status == '?':
      raise Refused(f'refused {command!r}: {text}')
    return text

  def _first(self, command, deadline):
    """The first line of the answer, after blank ones."""
    while not (line := self._next(command, deadline)).strip():
      pass
    if line[0] not in '=?':
      raise ProgramError(f'answered {command!r} with {line.strip()[:60]!r}')
    return line.strip('\r\n')

  def _next(self, command, deadline):
    try:
      line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
      raise ProgramError(f'silent after {command!r}') from None
    if line is None:
      raise ProgramError(f'died at {command!r}')
    return line

  def knows(self, command: str) -> bool:
    return self.ask(f'known_command {command}') == 'true'

  def close(self) -> None:
    """Says quit, waits a second, and ends it."""
    try:
      if self._process.poll() is None:
        self._process.stdin.write('quit\n')
        self._process.stdin.flush()
        self._process.wait(1.0)
    except (OSError, ValueError, subprocess.TimeoutExpired):
      pass
    if self._process.poll() is None:
      self._process.kill()
      self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(OSError):  # for what it had not read
        pipe.close()
