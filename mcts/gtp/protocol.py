"""The words of GTP 2: command lines, answers, and what their parts mean."""

import math
import re
from typing import NamedTuple

from mcts.go.notation import PLAYERS, from_vertex


class Refusal(Exception):
  """A command that fails; the text is the protocol's."""


class Command(NamedTuple):
  id: str
  name: str
  arguments: list[str]


def parse(line: str) -> Command | None:
  """A command line as section 2.2 says, None for one that is empty or a comment."""
  line = re.sub(r'[\x00-\x08\x0a-\x1f\x7f]', '', line).replace('\t', ' ')
  words = line.partition('#')[0].split()
  if not words:
    return None
  numbered = re.fullmatch(r'[0-9]{1,10}', words[0])
  number, *words = words if numbered else ['', *words]
  return Command(number, words[0] if words else '', words[1:])


def reply(number: str, text: str, *, success: bool = True) -> str:
  """The answer as it is sent; it may not contain an empty line, which ends it."""
  first, *rest = text.split('\n')
  text = '\n'.join([first, *filter(None, rest)])
  return f'{"=" if success else "?"}{number} {text}\n\n'


# -------- what a command's words say --------


def number_of(text: str, least: float = -math.inf) -> float:
  """A finite number, at least `least`."""
  if not re.fullmatch(r'[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?', text, re.ASCII):
    raise Refusal('syntax error')
  number = float(text)
  if not least <= number < 1e9:
    raise Refusal('syntax error')
  return number


def integer_of(text: str) -> int:
  if not re.fullmatch(r'\d{1,9}', text, re.ASCII):
    raise Refusal('syntax error')
  return int(text)


def player_of(text: str) -> int:
  if text.lower() not in PLAYERS:
    raise Refusal('syntax error')
  return PLAYERS[text.lower()]


def action_of(text: str, size: int, otherwise: str = 'illegal move') -> int:
  """The action of a vertex; one that the board does not have is refused as `otherwise`."""
  if not re.fullmatch(r'pass|[a-z]\d{1,3}', text, re.ASCII | re.IGNORECASE):
    raise Refusal('syntax error')
  try:
    return from_vertex(text, size)
  except ValueError:
    raise Refusal(otherwise) from None
