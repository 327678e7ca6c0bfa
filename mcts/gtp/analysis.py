"""What an engine thinks, in the words that controllers read: Lizzie, Sabaki, KaTrain, GoGui."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from mcts.engines import Report
from mcts.go.notation import PLAYERS, from_vertex, to_vertex
from mcts.go.position import Position

GOGUI = (
  'plist/Legal moves/all_legal %c',
  'string/Score/final_score',
  'dboard/Visit shares/visit_shares',
  'dboard/Area/area',
  'gfx/Principal variation/principal_variation',
)
_NUMBERS = ('interval', 'minmoves', 'maxmoves')
_SWITCHES = (
  'rootinfo',
  'ownership',
  'ownershipstdev',
  'movesownership',
  'pvvisits',
  'pvedgevisits',
)


@dataclasses.dataclass
class Wish:
  """What an analysis was asked for; interval in seconds, allowed bool `[A]` or None for all."""

  player: int
  interval: float = 1.0
  maxmoves: int = 2**30
  allowed: np.ndarray | None = None


def parse(words: Sequence[str], position: Position) -> Wish:
  """[PLAYER] [CENTISECONDS] [interval N] [minmoves N] [maxmoves N] [avoid|allow PLAYER V,V N] ...

  KataGo's switches are taken and left unanswered. ValueError for anything else.
  """
  words = [word.lower() for word in words]
  wish = Wish(PLAYERS[words.pop(0)] if words and words[0] in PLAYERS else position.to_play)
  if words and words[0].isascii() and words[0].isdigit():
    wish.interval = _integer(words.pop(0)) / 100
  while words:
    key = words.pop(0)
    if key in _NUMBERS and words:
      number = _integer(words.pop(0))
      wish.interval = number / 100 if key == 'interval' else wish.interval
      wish.maxmoves = number if key == 'maxmoves' else wish.maxmoves
    elif key in _SWITCHES and words and words[0] in ('true', 'false'):
      words.pop(0)
    elif key in ('avoid', 'allow') and len(words) >= 3:
      _restrict(wish, key, words[:3], position)
      del words[:3]
    else:
      raise ValueError(f'analysis: no such wish as {key!r}')
  return wish


def _integer(text):
  if not (text.isascii() and text.isdigit() and len(text) < 10):
    raise ValueError(f'analysis: {text!r} is no number')
  return int(text)


def _restrict(wish, key, words, position):
  """Only moves at the root are left out, however many turns (words[2]) were asked for."""
  player, vertices, _ = words[0], words[1].split(','), _integer(words[2])
  if player not in PLAYERS:
    raise ValueError(f'analysis: {player!r} is no player')
  actions = [from_vertex(text, position.size) for text in vertices]
  if PLAYERS[player] != wish.player:
    return
  named = np.isin(np.arange(position.pass_action + 1), actions)
  before = np.ones_like(named) if wish.allowed is None else wish.allowed
  wish.allowed = before & (named if key == 'allow' else ~named)


def chance(value: float) -> float:
  """The chance to win, from 0 to 1, that a value from -1 to 1 means."""
  return min(max((value + 1) / 2, 0.0), 1.0)


def lower_bound(candidate) -> float:
  """A chance that the true one exceeds with some certainty, the more visits the closer."""
  mean = chance(candidate.value)
  return max(0.0, mean - 2 * math.sqrt((mean * (1 - mean) + 0.01) / candidate.visits))


def lz_line(report: Report, size: int, wish: Wish) -> str:
  """Leela Zero's `info` for each move, chances and priors in parts of 10,000."""
  return _line(report, size, wish, lambda x: str(round(10_000 * x)), utility=False)


def kata_line(report: Report, size: int, wish: Wish) -> str:
  """KataGo's, chances and priors from 0 to 1."""
  return _line(report, size, wish, lambda x: f'{x:.6g}', utility=True)


def _line(report, size, wish, show, utility):
  parts = []
  for order, candidate in enumerate(report.candidates[: wish.maxmoves]):
    line = ' '.join(to_vertex(action, size) for action in candidate.line)
    parts.append(
      f'info move {to_vertex(candidate.action, size)} visits {candidate.visits}'
      + (f' utility {candidate.value:.6g}' if utility else '')
      + f' winrate {show(chance(candidate.value))} prior {show(candidate.prior)}'
      f' lcb {show(lower_bound(candidate))} order {order} pv {line}'
    )
  return ' '.join(parts)


# -------- boards --------


def grid(values: np.ndarray) -> str:
  """Rows of numbers, from the top, as GoGui's dboard wants them."""
  return '\n'.join(' '.join(f'{x:g}' for x in row) for row in np.asarray(values).tolist())


def visit_shares(report: Report, size: int) -> str:
  shares = np.zeros(size * size + 1)
  for candidate in report.candidates:
    shares[candidate.action] = round(candidate.visits / report.visits, 4)
  return grid(shares[:-1].reshape(size, size))


def variation(report: Report, size: int, player: int) -> str:
  """GoGui graphics: the line, and the chance to win below the board."""
  line = report.candidates[0].line if report.candidates else (report.move,)
  moves = [f'{"bw"[(player + i) % 2]} {to_vertex(a, size)}' for i, a in enumerate(line)]
  text = '' if report.value is None else f'\nTEXT {chance(report.value):.1%}'
  return f'VAR {" ".join(moves)}{text}'
