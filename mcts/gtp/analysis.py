"""What an engine thinks, in the formats that controllers read: Lizzie, Sabaki, KaTrain, GoGui."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from mcts.engines import Analysis, Candidate
from mcts.go.notation import PLAYERS, from_vertex, to_vertex
from mcts.go.position import Position

GOGUI_COMMANDS = (  # type/label/command
  'plist/Legal moves/all_legal %c',
  'string/Score/final_score',
  'dboard/Visit shares/visit_shares',
  'dboard/Area/area',
  'gfx/Principal variation/principal_variation',
)
NUMBERS = ('interval', 'minmoves', 'maxmoves')
IGNORED_SWITCHES = (  # of KataGo, which controllers send whether or not an engine knows them
  'rootinfo',
  'ownership',
  'ownershipstdev',
  'movesownership',
  'pvvisits',
  'pvedgevisits',
)


@dataclasses.dataclass
class AnalysisRequest:
  """What an analysis was asked for.

  player: whose move is analysed, 0 or 1.
  interval: seconds between two lines.
  max_moves: candidates in a line.
  allowed: bool `[N^2 + 1]`, the moves to consider, None for all.
  """

  player: int
  interval: float = 1.0
  max_moves: int = 2**30
  allowed: np.ndarray | None = None


FormatLine = Callable[[Analysis, int, AnalysisRequest], str]
"""(analysis, board size, request) -> a line about all candidates, '' if there are none."""


def parse(words: Sequence[str], position: Position) -> AnalysisRequest:
  """Returns the request in the words behind an analyze command.

  They are [COLOUR] [CENTISECONDS] and then any of `interval CENTISECONDS`, `minmoves N`,
  `maxmoves N`, `avoid|allow COLOUR VERTEX,... TURNS` and KataGo's switches, which are ignored.

  Raises:
    ValueError: for anything else.
  """
  words = [word.lower() for word in words]
  request = AnalysisRequest(PLAYERS[words.pop(0)] if _is_player(words) else position.to_play)
  if words and words[0].isascii() and words[0].isdigit():
    request.interval = _to_int(words.pop(0)) / 100
  while words:
    key = words.pop(0)
    if key in NUMBERS and words:
      _set_number(request, key, _to_int(words.pop(0)))
    elif key in IGNORED_SWITCHES and words and words[0] in ('true', 'false'):
      words.pop(0)
    elif key in ('avoid', 'allow') and len(words) >= 3:
      _restrict(request, key, words[:3], position)
      del words[:3]
    else:
      raise ValueError(f'analysis: {key!r} is no option, or its value is missing')
  return request


def _is_player(words):
  return bool(words) and words[0] in PLAYERS


def _to_int(text):
  if not (text.isascii() and text.isdigit() and len(text) < 10):
    raise ValueError(f'analysis: {text!r} is no number')
  return int(text)


def _set_number(request, key, number):
  if key == 'interval':
    request.interval = number / 100
  elif key == 'maxmoves':
    request.max_moves = number


def _restrict(request, key, words, position):
  # Only moves at the root are left out, however many turns (words[2]) were asked for.
  player, vertices, _ = words[0], words[1].split(','), _to_int(words[2])
  if player not in PLAYERS:
    raise ValueError(f'analysis: {player!r} is no player')
  actions = [from_vertex(text, position.size) for text in vertices]
  if PLAYERS[player] != request.player:
    return
  named = np.isin(np.arange(position.pass_action + 1), actions)
  before = np.ones_like(named) if request.allowed is None else request.allowed
  request.allowed = before & (named if key == 'allow' else ~named)


def win_rate(value: float) -> float:
  """Returns the chance to win in [0, 1] that a value in [-1, 1] stands for."""
  return min(max((value + 1) / 2, 0.0), 1.0)


def lower_confidence_bound(candidate: Candidate) -> float:
  """Returns a bound in [0, 1] below the win rate, the closer the more visits.

  Two standard errors of a share of visits, with some variance even at 0 and 1.
  """
  mean = win_rate(candidate.value)
  return max(0.0, mean - 2 * math.sqrt((mean * (1 - mean) + 0.01) / candidate.visits))


def lz_line(found: Analysis, size: int, request: AnalysisRequest) -> str:
  """Returns Leela Zero's `info` of each candidate, win rates and priors in units of 1 / 10,000."""
  return _line(found, size, request, lambda x: str(round(10_000 * x)), utility=False)


def kata_line(found: Analysis, size: int, request: AnalysisRequest) -> str:
  """Returns KataGo's `info` of each candidate, win rates and priors in [0, 1]."""
  return _line(found, size, request, lambda x: f'{x:.6g}', utility=True)


def _line(found, size, request, format_share, *, utility):
  return ' '.join(
    _info(candidate, order, size, format_share, utility)
    for order, candidate in enumerate(found.candidates[: request.max_moves])
  )


def _info(candidate, order, size, format_share, utility):
  variation = ' '.join(to_vertex(action, size) for action in candidate.principal_variation)
  return (
    f'info move {to_vertex(candidate.action, size)} visits {candidate.visits}'
    + (f' utility {candidate.value:.6g}' if utility else '')
    + f' winrate {format_share(win_rate(candidate.value))} prior {format_share(candidate.prior)}'
    f' lcb {format_share(lower_confidence_bound(candidate))} order {order} pv {variation}'
  )


# -------- for GoGui --------


def grid(values: np.ndarray) -> str:
  """Returns numbers `[N, N]` as GoGui's dboard reads them, the top row first."""
  return '\n'.join(' '.join(f'{x:g}' for x in row) for row in np.asarray(values).tolist())


def visit_shares(found: Analysis, size: int) -> str:
  """Returns each point's share of the visits as a dboard."""
  shares = np.zeros(size * size + 1)
  for candidate in found.candidates:
    shares[candidate.action] = round(candidate.visits / found.visits, 4)
  return grid(shares[:-1].reshape(size, size))


def variation(found: Analysis, size: int, player: int) -> str:
  """Returns GoGui's graphics of the best line, with the chance to win below the board."""
  line = found.candidates[0].principal_variation if found.candidates else (found.move,)
  moves = [f'{"bw"[(player + i) % 2]} {to_vertex(a, size)}' for i, a in enumerate(line)]
  text = '' if found.value is None else f'\nTEXT {win_rate(found.value):.1%}'
  return f'VAR {" ".join(moves)}{text}'
