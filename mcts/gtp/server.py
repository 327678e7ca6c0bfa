"""Answers GTP commands line by line, from stdin to stdout or between any streams.

A thread reads the lines, so that a streaming analysis can end when the next one arrives.
"""

import io
import itertools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TextIO

from mcts.engines import Engine
from mcts.engines.ruleset import RuleSet
from mcts.gtp import commands
from mcts.gtp.protocol import Command, format_response, parse
from mcts.gtp.session import DEFAULT_RULES, Session

LONGEST_LINE = 1 << 20  # bytes; of a command, many times what any needs


class Lines:
  """The lines of a stream, read ahead by a thread."""

  def __init__(self, stream: Iterable[str]):
    self._queue: queue.Queue[str | None] = queue.Queue(maxsize=10_000)
    threading.Thread(target=self._read, args=(stream,), daemon=True).start()

  def _read(self, stream):
    try:
      for line in stream:
        self._queue.put(line)
    finally:
      self._queue.put(None)

  @property
  def waiting(self) -> bool:
    """Returns whether another line, or the end, has arrived."""
    return not self._queue.empty()

  def __iter__(self) -> Iterator[str]:
    while (line := self._queue.get()) is not None:
      yield line


def read_lines(descriptor: int) -> Iterator[str]:
  """Yields the lines of a file descriptor as they arrive; a carriage return ends none in GTP.

  `sys.stdin` will not do: a thread that still waits inside of its buffer when the process ends, as
  after `quit` from a controller that keeps the pipe open, is a fatal error of Python.
  """
  rest = b''
  while block := os.read(descriptor, 1 << 16):
    *lines, rest = (rest + block).split(b'\n')
    yield from (f'{line.decode("utf-8", "replace")}\n' for line in lines)
    if len(rest) > LONGEST_LINE:  # its end is dropped, and what comes of it is no command
      rest = rest.lstrip().partition(b' ')[0][:10] + b' line-too-long '
  if rest:
    yield rest.decode('utf-8', 'replace')


def serve(session: Session, lines: Lines, output: TextIO) -> None:
  """Answers commands until `quit` or the end of the lines."""

  def send(text: str) -> None:
    output.write(text)
    output.flush()

  for line in lines:
    command = parse(line)
    if command is None:
      continue
    response = commands.answer(session, command)
    if response.stream is None:
      send(format_response(command.id, response.success, response.text))
    else:
      _stream(command, response.stream, lines, send)
    if session.closed:
      return


def _stream(
  command: Command, parts: Generator[str], lines: Lines, send: Callable[[str], None]
) -> None:
  """Sends a response's lines, at least one, until another command arrives.

  A command that plays a move is not cut short. What fails before the first line is a failure.
  """
  try:
    first = next(parts, '')
  except Exception as error:
    send(format_response(command.id, False, commands.failure(error)))
    return
  send(f'={command.id}\n')
  sent, endless = False, command.name.endswith('-analyze')
  try:
    for part in itertools.chain([first], parts):
      if part:
        send(f'{part}\n')
        sent = True
      if endless and sent and lines.waiting:
        break
    else:
      while endless and not lines.waiting:  # the search is over, the response must not be
        time.sleep(0.01)
  except Exception as error:
    print(f'{command.name}: {commands.failure(error)}', file=sys.stderr)
  finally:
    parts.close()
  send('\n')


def play(
  engine: Engine,
  rules: RuleSet = DEFAULT_RULES,
  *,
  resign_threshold: float = 0.0,
  input: Iterable[str] | None = None,
  output: TextIO | None = None,
) -> None:
  """Speaks GTP until told to quit.

  Args:
    engine: that plays.
    rules: of the first game; the controller may change size and komi.
    resign_threshold: the engine resigns where its chance to win is lower.
    input: stdin by default.
    output: stdout by default; whatever else prints goes to stderr then.

  Raises:
    ValueError: for a board size that the engine does not know, or without stdin or stdout.
  """
  if (input is None and sys.stdin is None) or (output is None and sys.stdout is None):
    raise ValueError(
      'stdin or stdout is closed: GTP reads commands from one and answers on the other'
    )
  session = Session(engine, rules, resign_threshold)
  if output is None:
    output = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8', line_buffering=True)
    sys.stdout = sys.stderr
  lines = Lines(read_lines(sys.stdin.fileno()) if input is None else input)
  session.compile()
  try:
    serve(session, lines, output)
  except BrokenPipeError:
    return
