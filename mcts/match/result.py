"""The result of a match, as a table and as JSON."""

import dataclasses
import math
from typing import Any

from mcts.go.notation import BLACK, WHITE
from mcts.match import elo
from mcts.match.record import GameRecord
from mcts.match.terms import MatchTerms


@dataclasses.dataclass(frozen=True)
class MatchResult:
  """A match as it ended.

  names: of players 0 and 1.
  terms: of all games.
  games: their records, in the order in which they ended.
  seconds: that the match took.
  test: the sequential test, None if none was asked for.
  ended: why it ended before all games were played; '' where nothing went wrong.
  """

  names: tuple[str, str]
  terms: MatchTerms
  games: list[GameRecord]
  seconds: float
  test: elo.Test | None = None
  ended: str = ''

  def points(self, player: int) -> tuple[int, int, int]:
    """Returns wins, draws and losses of player 0 or 1."""
    won = sum(game.winner == player for game in self.games)
    drawn = sum(game.winner is None for game in self.games)
    return won, drawn, len(self.games) - won - drawn

  def wins(self, player: int, colour: int) -> tuple[int, int]:
    """Returns wins of a player with a colour, and how many games it played with it."""
    games = [game for game in self.games if (game.black == player) == (colour == BLACK)]
    return sum(game.winner == player for game in games), len(games)

  @property
  def estimate(self) -> elo.EloEstimate:
    """Returns the Elo by which player 0 is stronger."""
    return elo.estimate(*self.points(0))

  def summary(self) -> str:
    """Returns the result as a table of a few lines."""
    rules, width = self.terms.rules, max(map(len, self.names))
    size = f'{rules.size}x{rules.size}'
    early = f'ended early: {self.ended}\n' if self.ended else ''
    lines = [f'{early}{len(self.games)} games, {size}, komi {rules.komi:g}, {rules}']
    lines += [self._line(player, width) for player in (0, 1)]
    if drawn := self.points(0)[1]:
      lines.append(f'drawn {drawn}')
    elo, low, high = self.estimate
    lines.append(f'Elo {elo:+.0f}, 95 % from {low:+.0f} to {high:+.0f}')
    if test := self.test:
      decision = test.decision or 'no decision yet'
      lines.append(f'SPRT ratio {test.ratio:+.2f} in {test.low:.2f} to {test.high:.2f}: {decision}')
    return '\n'.join(lines + [f'game {x.number}: {x.fault}' for x in self.games if x.fault])

  def _line(self, player, width):
    black, white = self.wins(player, BLACK), self.wins(player, WHITE)
    return (
      f'{self.names[player]:{width}}  won {self.points(player)[0]}:'
      f' {black[0]} of {black[1]} as black, {white[0]} of {white[1]} as white'
    )

  def as_json(self) -> dict[str, Any]:
    """Returns what `match.json` holds."""
    points = [dict(zip(('won', 'drawn', 'lost'), self.points(i), strict=True)) for i in (0, 1)]
    return {
      'players': list(self.names),
      'terms': self.terms.as_json(),
      'games': len(self.games),
      'points': points,
      'elo': {key: _finite(value) for key, value in self.estimate._asdict().items()},
      'sprt': self.test._asdict() if self.test else None,
      'seconds': round(self.seconds, 2),
      'ended': self.ended,
      'list': [{**dataclasses.asdict(game), 'moves': len(game.moves)} for game in self.games],
    }


def _finite(x):
  return round(x, 1) if math.isfinite(x) else str(x)  # JSON has no infinity
