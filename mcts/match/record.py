"""A game of Go that is over, and its SGF."""

import dataclasses
from collections.abc import Iterable, Mapping

from mcts.go import sgf
from mcts.go.notation import BLACK, COLOURS, WHITE, result
from mcts.match.terms import MatchTerms


@dataclasses.dataclass(frozen=True)
class GameRecord:
  """A game of a match that is over.

  number: from 0, in the match; games 2 p and 2 p + 1 are a pair.
  black: which of the two players had black, 0 or 1.
  moves: actions, black's first.
  result: as SGF has it: 'B+3.5', '0', 'W+R' (resignation), 'W+T' (time), 'W+F' (forfeit).
  winner: 0 or 1, None for a draw.
  fault: which player did what, where a game was not decided on the board.
  claims: what each program said the score was, by its name.
  """

  number: int
  black: int
  moves: tuple[int, ...]
  result: str
  winner: int | None
  fault: str = ''
  claims: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @classmethod
  def scored(
    cls,
    number: int,
    black: int,
    moves: Iterable[int],
    score: float,
    claims: Mapping[str, str] | None = None,
  ) -> 'GameRecord':
    """Returns the record of a game that was scored on the board.

    Args:
      number: of the game.
      black: who plays black.
      moves: actions, NumPy's or Python's.
      score: black's points less white's and komi.
      claims: what the players said the result is.
    """
    winner = None if score == 0 else black if score > 0 else 1 - black
    moves = tuple(int(action) for action in moves)
    return cls(number, black, moves, result(float(score)), winner, '', claims or {})

  @classmethod
  def forfeited(
    cls, number: int, black: int, moves: tuple[int, ...], loser: int, letter: str, fault: str
  ) -> 'GameRecord':
    """Returns the record of a game that a colour has lost without a score.

    Args:
      number: of the game.
      black: who plays black.
      moves: actions.
      loser: BLACK or WHITE.
      letter: 'R', 'T' or 'F', behind the + of the result.
      fault: why the game was lost.
    """
    winner = 1 - black if loser == BLACK else black
    winning_colour = COLOURS[WHITE if loser == BLACK else BLACK][0].upper()
    return cls(number, black, moves, f'{winning_colour}+{letter}', winner, fault)

  def to_sgf(self, names: tuple[str, str], terms: MatchTerms) -> str:
    """Returns the text of an SGF file; `names` are of players 0 and 1."""
    record = sgf.Record(
      size=terms.rules.size,
      komi=terms.rules.komi,
      moves=[(turn % 2, action) for turn, action in enumerate(self.moves)],
      result=self.result,
      names=(names[self.black], names[1 - self.black]),
      comments={len(self.moves): self.fault} if self.fault else {},
      tags={'RU': str(terms.rules)},
    )
    return sgf.write(record)
