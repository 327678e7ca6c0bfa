"""What the text of a flag means; a UserError says which texts mean something."""

import re
from collections.abc import Sequence

from train.config import UserError


def checkpoint(text: str) -> str | int:
  """--step: 'latest', 'best' or a number."""
  if text in ('best', 'latest'):
    return text
  if not text.isdigit():
    raise UserError(f'--step={text}: must be best, latest or the number of a step')
  return int(text)


def steps(text: str | None) -> tuple[int, int] | None:
  """--profile: START:STOP."""
  if text is None:
    return None
  match = re.fullmatch(r'(\d+):(\d+)', text)
  if not match or int(match[1]) >= int(match[2]):
    raise UserError(f'--profile={text}: must be START:STOP, steps, START below STOP')
  return int(match[1]), int(match[2])


def elo_bounds(texts: Sequence[str] | None) -> tuple[float, float] | None:
  """--sprt: ELO0,ELO1."""
  try:
    values = tuple(map(float, texts or ()))
  except ValueError:
    values = (0.0,)
  if len(values) not in (0, 2):
    raise UserError(f'--sprt={",".join(texts or ())}: must be ELO0,ELO1, as in 0,50')
  return (values[0], values[1]) if values else None
