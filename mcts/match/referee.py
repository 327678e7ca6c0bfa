"""Plays games in which a GTP program takes part, and checks every answer against the rules."""

import dataclasses
import re
import time
from collections.abc import Sequence

from mcts.engines.clock import Clock
from mcts.go.notation import BLACK, COLOURS, COLUMNS, WHITE, from_vertex
from mcts.go.position import Position
from mcts.match.contestants import Contestant, Forfeit
from mcts.match.record import GameRecord
from mcts.match.terms import MatchTerms


@dataclasses.dataclass(frozen=True)
class Referee:
  """Plays one game after the other between two contestants.

  Who plays an illegal move, refuses a legal one, is silent, dies or runs out of time loses that
  game and is named in its record. An engine of ours without an answer (`NoAnswer`) ends the match.

  contestants: players 0 and 1.
  names: what records call them.
  terms: of the match.
  """

  contestants: Sequence[Contestant]
  names: tuple[str, str]
  terms: MatchTerms

  def play_game(self, number: int, black: int, opening: Sequence[int]) -> GameRecord:
    """Plays a game and returns its record.

    Args:
      number: of the game in the match.
      black: which contestant has black, 0 or 1.
      opening: actions that the game begins with, black's first.
    """
    position = self.terms.rules.position()
    for turn, action in enumerate(opening):
      position.play(turn % 2, action)
    players = (self.contestants[black], self.contestants[1 - black])
    at_fault = BLACK
    try:
      for at_fault in (BLACK, WHITE):
        players[at_fault].start_game(position, self.terms)
      clocks = [Clock(self.terms.time.control) for _ in players]
      while position.passes < 2 and len(position.turns) < self.terms.move_limit:
        mover = at_fault = position.to_play
        action = self._move(players[mover], position, clocks[mover])
        position.play(mover, action)
        at_fault = 1 - mover  # by refusing a legal move
        players[at_fault].play(position, mover, action)
    except Forfeit as forfeit:
      return self._forfeited(number, black, position, at_fault, forfeit)
    return self._scored(number, black, position)

  def _move(self, contestant: Contestant, position: Position, own: Clock) -> int:
    """Returns the legal action that the player to move answers in time."""
    began = time.monotonic()
    vertex = contestant.genmove(position, position.to_play, own, self.terms)
    own.spend(time.monotonic() - began)
    if own.flagged:
      raise Forfeit('T', 'ran out of time')
    if vertex.lower() == 'resign':
      raise Forfeit('R')
    action = _parse_vertex(vertex, position.size)
    if not position.legal(position.to_play)[action]:
      number = len(position.turns) + 1
      raise Forfeit('F', f'played {vertex}, which is illegal, at move {number}')
    return action

  def _forfeited(self, number, black, position, loser, forfeit):
    name = self.names[black if loser == BLACK else 1 - black]
    fault = f'{name} ({COLOURS[loser]}) {forfeit}' if str(forfeit) else ''
    moves = tuple(turn.action for turn in position.turns)
    return GameRecord.forfeited(number, black, moves, loser, forfeit.letter, fault)

  def _scored(self, number, black, position):
    said = [contestant.final_score() for contestant in self.contestants]
    claims = {name: text for name, text in zip(self.names, said, strict=True) if text is not None}
    moves = [turn.action for turn in position.turns]
    return GameRecord.scored(number, black, moves, position.score, claims)


def _parse_vertex(vertex: str, size: int) -> int:
  try:
    if not re.fullmatch(r'pass|[a-z]\d{1,2}', vertex.lower()):
      raise ValueError
    return from_vertex(vertex, size)
  except ValueError:
    rule = f'no vertex of a {size}x{size} board (columns A to {COLUMNS[size - 1]} without I)'
    raise Forfeit('F', f'answered genmove with {vertex[:60]!r}, {rule}') from None
