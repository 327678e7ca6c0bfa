"""A Go program for any controller that speaks the Go Text Protocol, version 2.

`play(...)` reads commands from stdin and answers on stdout until `quit`. The protocol is Gunnar
Farnebäck's draft of 2002; beside it stand the extensions of KGS, GoGui and Leela Zero that
controllers ask for. A reader thread takes in the lines, so that an analysis that streams can end
when the next one arrives.
"""

import io
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from mcts import engines
from mcts.engines import Engine
from mcts.gtp.protocol import parse, reply
from mcts.gtp.session import COMMANDS, Session, one_line


class Lines:
  """The lines of a stream, read ahead by a thread."""

  def __init__(self, stream: Any):
    self._queue: queue.Queue[str | None] = queue.Queue(maxsize=10_000)
    threading.Thread(target=self._read, args=(stream,), daemon=True).start()

  def _read(self, stream):
    try:
      for line in stream:
        self._queue.put(line if isinstance(line, str) else line.decode('utf-8', 'replace'))
    finally:
      self._queue.put(None)

  @property
  def waiting(self) -> bool:
    """Whether another line, or the end, has arrived."""
    return not self._queue.empty()

  def __iter__(self) -> Iterator[str]:
    while (line := self._queue.get()) is not None:
      yield line


def serve(session: Session, lines: Lines, output: TextIO) -> None:
  """Answers commands until `quit` or the end of the lines."""

  def send(text):
    output.write(text)
    output.flush()

  for line in lines:
    command = parse(line)
    if command is None:
      continue
    success, answer = session.answer(command)
    if isinstance(answer, str):
      send(reply(command.id, answer, success=success))
    else:
      send(f'={command.id}\n')
      _stream(command, answer, lines, send)
    if session.closed:
      return


def _stream(command, parts, lines, send):
  """Sends what comes, at least once, and leaves off when another line has arrived.

  A move that is to be played is waited for.
  """
  some, endless = False, command.name.endswith('-analyze')
  try:
    for part in parts:
      if part:
        send(f'{part}\n')
        some = True
      if endless and some and lines.waiting:
        break
    else:
      while endless and not lines.waiting:  # it has thought enough, but must not say so
        time.sleep(0.01)
  except Exception as error:
    print(f'{command.name}: {one_line(error)}', file=sys.stderr)
  finally:
    parts.close()
  send('\n')


def play(
  engine: str | Engine = 'rollout',
  *,
  size: int = 19,
  komi: float = 7.5,
  superko: str = 'positional',
  suicide: bool = False,
  resign: float = 0.0,
  input: Any = None,
  output: TextIO | None = None,
  **options,
) -> None:
  """Speaks GTP until told to quit.

  engine: a name of `engines.ENGINES`, with `options` such as simulations and seed; or an engine.
  input, output: stdin and stdout unless given. Whatever else prints goes to stderr.
  """
  engine = engines.make(engine, **options) if isinstance(engine, str) else engine
  session = Session(engine, size, komi, superko, suicide, resign)
  if output is None:
    output = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8', line_buffering=True)
    sys.stdout = sys.stderr
  lines = Lines(sys.stdin.buffer if input is None else input)
  engine.warm(session.position)
  try:
    serve(session, lines, output)
  except BrokenPipeError:
    return


__all__ = ['COMMANDS', 'Lines', 'Session', 'parse', 'play', 'serve']
