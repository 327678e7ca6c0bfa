"""The syntax of GTP 2: command lines, responses, and the entities in them."""

import math
import re
from collections.abc import Generator
from typing import NamedTuple

from mcts.go.notation import PLAYERS, from_vertex


class CommandFailure(Exception):
  """A command fails; the text is the standard's error message."""


class Command(NamedTuple):
  """A command line (section 2.5); `id` is '' where there is none."""

  id: str
  name: str
  arguments: list[str]


class Response(NamedTuple):
  """What is answered to a command.

  success: whether it begins with '=' or with '?'.
  text: the result or the error message.
  stream: lines that follow as they come, until the next command arrives; '' for one not yet due.
  """

  success: bool
  text: str = ''
  stream: Generator[str] | None = None


def parse(line: str) -> Command | None:
  """Returns the command of a line, None for an empty one or a comment.

  Control characters are discarded (section 2.2) and tabs count as spaces (2.3).
  """
  line = re.sub(r'[\x00-\x08\x0a-\x1f\x7f]', '', line).replace('\t', ' ')
  words = line.partition('#')[0].split()
  if not words:
    return None
  numbered = re.fullmatch(r'[0-9]{1,10}', words[0])
  number, *words = words if numbered else ['', *words]
  return Command(number, words[0] if words else '', words[1:])


def format_response(command_id: str, success: bool, text: str) -> str:
  """Returns a response as it is sent (section 2.6), which an empty line ends and none may break."""
  first, *rest = text.split('\n')
  text = '\n'.join([first, *filter(None, rest)])
  return f'{"=" if success else "?"}{command_id} {text}\n\n'


# -------- entities; each raises CommandFailure for what is none --------


def to_float(text: str, minimum: float = -math.inf) -> float:
  """Returns a finite number of at least `minimum`."""
  if not re.fullmatch(r'[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?', text, re.ASCII):
    raise CommandFailure('syntax error')
  number = float(text)
  if not minimum <= number < 1e9:
    raise CommandFailure('syntax error')
  return number


def to_int(text: str) -> int:
  """Returns an integer of at least 0."""
  if not re.fullmatch(r'\d{1,9}', text, re.ASCII):
    raise CommandFailure('syntax error')
  return int(text)


def to_player(text: str) -> int:
  """Returns 0 for black and 1 for white."""
  if text.lower() not in PLAYERS:
    raise CommandFailure('syntax error')
  return PLAYERS[text.lower()]


def to_action(text: str, size: int, off_board: str = 'illegal move') -> int:
  """Returns the action of a vertex; `off_board` is the message for one that the board lacks."""
  if not re.fullmatch(r'pass|[a-z]\d{1,3}', text, re.ASCII | re.IGNORECASE):
    raise CommandFailure('syntax error')
  try:
    return from_vertex(text, size)
  except ValueError:
    raise CommandFailure(off_board) from None
