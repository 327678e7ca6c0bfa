"""One game of a match in which a GTP program takes part, and the referee who believes nobody."""

import dataclasses
import re
import time
from collections.abc import Sequence

from mcts import engines
from mcts.engines import Engine, clock
from mcts.engines.clock import Clock, Settings
from mcts.engines.program import Program, ProgramError, Refused
from mcts.go.notation import COLOURS, from_vertex, result, to_vertex
from mcts.go.position import Position

START_TIMEOUT = 60.0  # seconds a program may take for its first answers


@dataclasses.dataclass(frozen=True)
class Terms:
  """What all games of a match have in common; see `arena.match`."""

  size: int = 9
  komi: float = 7.5
  superko: str = 'positional'
  suicide: bool = False
  max_moves: int = 162
  opening: int = 3
  seed: int = 0
  limit: Settings = Settings()  # noqa: RUF009 it is frozen
  timeout: float = 60.0
  tidy: bool = True

  @property
  def rules(self) -> str:
    return f'area, {self.superko} ko{", suicide" if self.suicide else ""}'


@dataclasses.dataclass(frozen=True)
class Game:
  """A game that is over.

  black: which of the two players had black, 0 or 1; winner: 0, 1 or None.
  result: as SGF has it, with F for forfeit and T for time.
  fault: who did what, where a game was not decided on the board.
  claims: what the programs said the score was.
  """

  number: int
  black: int
  moves: tuple[int, ...]
  result: str
  winner: int | None
  fault: str = ''
  claims: dict[str, str] = dataclasses.field(default_factory=dict)

  @classmethod
  def scored(cls, number, black, moves, score, terms, claims=None) -> 'Game':
    winner = None if score == 0 else black if score > 0 else 1 - black
    moves = tuple(int(action) for action in moves)
    return cls(number, black, moves, result(float(score)), winner, '', claims or {})


class Fault(Exception):
  """A player loses: `letter` is R, T or F, the text says why."""

  def __init__(self, letter: str, text: str = ''):
    super().__init__(text)
    self.letter = letter


# -------- the players' seats --------


class EngineSeat:
  """An engine of ours."""

  def __init__(self, engine: Engine, name: str, terms: Terms):
    self.engine, self.name, self.terms, self.warmed = engine, name, terms, False

  def begin(self, position: Position, opening: Sequence[int]) -> None:
    if not self.warmed:
      self.engine.warm(position)
      self.warmed = True

  def genmove(self, position: Position, player: int, own: Clock) -> str:
    seconds = own.budget(clock.moves_left(position.size, len(position.turns)))
    report = engines.choose(self.engine, position, player, seconds, tidy=self.terms.tidy)
    return to_vertex(report.move, position.size)

  def told(self, position: Position, player: int, action: int) -> None:
    """It looks at the position itself."""

  def score(self) -> str | None:
    return None

  def close(self) -> None:
    pass


class ProgramSeat:
  """A GTP program; started when a game begins, and anew after it failed."""

  def __init__(self, command: str, name: str, terms: Terms):
    self.command, self.name, self.terms = command, name, terms
    self.program: Program | None = None

  def begin(self, position, opening):
    terms = self.terms
    patience = max(terms.timeout, START_TIMEOUT) if self.program is None else terms.timeout
    try:
      if self.program is None:
        self.program = Program(self.command, timeout=terms.timeout, name=self.name)
      self.program.ask(f'boardsize {terms.size}', patience)
      self.program.ask('clear_board')
      self.program.ask(f'komi {terms.komi:g}')
      self._set_time(terms.limit)
      for turn, action in enumerate(opening):
        self.told(position, turn % 2, action)
    except ProgramError as error:
      self._fail(error)

  def _set_time(self, limit):
    if limit.kind == 'byoyomi':
      self.program.ask(f'kgs-time_settings byoyomi {limit.main:g} {limit.period:g} {limit.stones}')
    elif limit.kind != 'none':
      self.program.ask(f'time_settings {limit.main:.0f} {limit.period:.0f} {limit.stones}')

  def genmove(self, position, player, own):
    colour, timeout = COLOURS[player], self.terms.timeout
    try:
      if own.settings.kind != 'none':
        self.program.ask(f'time_left {colour} {own.left:.0f} {own.stones}')
      answer = self.program.ask(f'genmove {colour}', timeout)
    except ProgramError as error:
      self._fail(error)
    return answer.strip().lower()

  def told(self, position, player, action):
    vertex = to_vertex(action, self.terms.size)
    try:
      self.program.ask(f'play {COLOURS[player]} {vertex}')
    except ProgramError as error:
      self._fail(error)

  def _fail(self, error):
    if not isinstance(error, Refused):
      self.close()
    raise Fault('F', str(error)) from error

  def score(self):
    """What it says of the finished game, None if it will not say."""
    try:
      return self.program.ask('final_score') if self.program else None
    except Refused:
      return None
    except ProgramError:
      self.close()
      return None

  def close(self):
    if self.program is not None:
      self.program.close()
      self.program = None


Seat = EngineSeat | ProgramSeat


def seat(player: Engine | str, name: str, terms: Terms) -> Seat:
  return (ProgramSeat if isinstance(player, str) else EngineSeat)(player, name, terms)


# -------- a game --------


def play_game(
  seats: Sequence[Seat], black: int, number: int, opening: Sequence[int], terms: Terms
) -> Game:
  """The game that begins with `opening`; `seats[black]` has black."""
  position = Position(terms.size, terms.komi, terms.superko, terms.suicide)
  by_colour = (seats[black], seats[1 - black])
  for turn, action in enumerate(opening):
    position.play(turn % 2, action)
  guilty = 0
  try:
    for guilty in (0, 1):
      by_colour[guilty].begin(position, opening)
    clocks = (Clock(terms.limit), Clock(terms.limit))
    while position.passes < 2 and len(position.turns) < terms.max_moves:
      guilty = position.to_play
      action = _move(by_colour[guilty], position, guilty, clocks[guilty])
      position.play(guilty, action)
      guilty = 1 - guilty
      by_colour[guilty].told(position, 1 - guilty, action)
  except Fault as fault:
    return _lost(fault, guilty, by_colour, position, number, black)
  claims = {s.name: text for s in seats if (text := s.score()) is not None}
  actions = [turn.action for turn in position.turns]
  return Game.scored(number, black, actions, position.score, terms, claims)


def _move(seat: Seat, position: Position, player: int, own: Clock) -> int:
  """A legal move of the player in time, or a Fault."""
  began = time.monotonic()
  vertex = seat.genmove(position, player, own)
  own.spend(time.monotonic() - began)
  if own.flagged:
    raise Fault('T', 'ran out of time')
  if vertex.lower() == 'resign':
    raise Fault('R')
  try:
    if not re.fullmatch(r'pass|[a-z]\d{1,2}', vertex.lower()):
      raise ValueError
    action = from_vertex(vertex, position.size)
  except ValueError:
    raise Fault('F', f'answered genmove with {vertex[:60]!r}') from None
  if not position.legal(player)[action]:
    raise Fault('F', f'played {vertex}, which is illegal, at move {len(position.turns) + 1}')
  return action


def _lost(fault, guilty, by_colour, position, number, black):
  winner_colour = 1 - guilty
  text = f'{by_colour[guilty].name} ({COLOURS[guilty]}) {fault}' if str(fault) else ''
  moves = tuple(turn.action for turn in position.turns)
  winner = black if winner_colour == 0 else 1 - black
  return Game(number, black, moves, f'{"BW"[winner_colour]}+{fault.letter}', winner, text)
