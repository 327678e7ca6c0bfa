"""Who takes part in a match: engines of ours, or any programs that speak GTP."""

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn, Protocol

from mcts import engines
from mcts.engines import Engine, clock
from mcts.engines.clock import Clock, TimeControl
from mcts.engines.program import CommandRefused, GtpProgram, ProgramError
from mcts.go import SIZES
from mcts.go.notation import COLOURS, to_vertex
from mcts.go.position import Position
from mcts.match.terms import MatchTerms

SPEC = 'name[:key=value,...] of an engine or a workdir, or the command line of a GTP program'
START_TIMEOUT = 180.0  # seconds at least for the first answer: a program may compile or load first


class Forfeit(Exception):
  """A player loses a game without a score; the text says why.

  letter: of the result in SGF, 'R' (resignation), 'T' (time) or 'F' (forfeit).
  """

  def __init__(self, letter: str, text: str = ''):
    super().__init__(text)
    self.letter = letter


class Contestant(Protocol):
  """A participant of a match, which plays one game after the other in the way of GTP.

  Methods that talk to a program raise `Forfeit` if it refuses, dies or does not answer.

  name: what results call it.
  sizes: board sizes that it is known to play on.
  engine: of ours, which can play games in one batch; None of a program.
  """

  name: str
  sizes: Collection[int]
  engine: Engine | None

  def start_game(self, position: Position, terms: MatchTerms) -> None:
    """Sets up a position, from whose first turn on the game is told."""

  def genmove(self, position: Position, player: int, own: Clock, terms: MatchTerms) -> str:
    """Returns the player's move as GTP writes it: a vertex, 'pass' or 'resign'."""

  def play(self, position: Position, player: int, action: int) -> None:
    """Learns of a move, of the opening or of the opponent."""

  def final_score(self) -> str | None:
    """Returns what it says the score of the finished game is, None if it does not say."""

  def close(self) -> str:
    """Ends what runs; returns what was wrong with its end, '' for nothing."""


class EngineContestant:
  """An engine of ours, which looks at the position itself."""

  def __init__(self, engine: Engine):
    self.engine: Engine | None = engine
    self.name, self.sizes = engine.name, engine.sizes
    self._engine, self._compiled = engine, False

  def start_game(self, position, terms):
    """Compiles the engine before its first game."""
    if not self._compiled:
      self._engine.compile(position)
      self._compiled = True

  def genmove(self, position, player, own, terms):
    """Returns the engine's move, found in the time that the clock allows."""
    seconds = own.budget(clock.expected_moves_left(position.size, len(position.turns)))
    analysis = engines.final_analysis(
      self._engine, position, player, seconds, cleanup=terms.cleanup
    )
    return to_vertex(analysis.move, position.size)

  def play(self, position, player, action):
    """Does nothing: the engine is shown the position with each move."""

  def final_score(self):
    """Returns None: the board is scored by the same rules anyway."""
    return None

  def close(self):
    """Returns '': no process runs."""
    return ''


class ProgramContestant:
  """A GTP program, started when a game begins and started anew after it failed.

  command: its command line.
  """

  def __init__(self, command: str):
    self.command = command
    self.name = os.path.basename(command.split()[0])  # 'gnugo' of '/usr/games/gnugo --mode gtp'
    self.sizes: Collection[int] = SIZES  # it says itself, when it is told the size
    self.engine: Engine | None = None
    self._program: GtpProgram | None = None

  def start_game(self, position, terms):
    """Sends rules, clock and moves so far, to a new process if none runs."""
    timeout = terms.time.answer_timeout
    first_timeout = max(timeout, START_TIMEOUT) if self._program is None else timeout
    try:
      if self._program is None:
        self._program = GtpProgram(self.command, timeout=timeout)
      self._program.send(f'boardsize {terms.rules.size}', first_timeout)
      self._program.send('clear_board')
      self._program.send(f'komi {terms.rules.komi:g}')
      for command in _time_commands(terms.time.control):
        self._program.send(command)
    except ProgramError as error:
      self._forfeit(error)
    for turn in position.turns:
      self.play(position, turn.player, turn.action)

  def genmove(self, position, player, own, terms):
    """Sends the clock and `genmove`; returns the answer in lower case."""
    colour = COLOURS[player]
    if own.control.kind != 'none':
      self._send(f'time_left {colour} {int(own.left)} {own.stones}')
    return self._send(f'genmove {colour}').strip().lower()

  def play(self, position, player, action):
    """Sends `play`."""
    self._send(f'play {COLOURS[player]} {to_vertex(action, position.size)}')

  def _send(self, command: str) -> str:
    assert self._program is not None, 'start_game has started it'
    try:
      return self._program.send(command)
    except ProgramError as error:
      self._forfeit(error)

  def _forfeit(self, error: ProgramError) -> NoReturn:
    if not isinstance(error, CommandRefused):
      self.close()
    raise Forfeit('F', str(error)) from error

  def final_score(self):
    """Sends `final_score`; returns None if it is refused, or if the program fails."""
    if self._program is None:
      return None
    try:
      return self._program.send('final_score')
    except CommandRefused:
      return None
    except ProgramError:
      self.close()
      return None

  def close(self):
    """Ends the process; returns what was wrong with its end."""
    program, self._program = self._program, None
    return program.close() if program is not None else ''


def _time_commands(control: TimeControl) -> list[str]:
  if control.kind == 'none':
    return []
  if control.kind == 'byoyomi':  # which GTP 2 does not know
    numbers = f'{control.main:g} {control.period:g} {control.stones}'
    return [f'kgs-time_settings byoyomi {numbers}']
  # Whole seconds, and never more than there are.
  return [f'time_settings {int(control.main)} {int(control.period)} {control.stones}']


# -------- by what users write --------


def from_spec(spec: str, **options) -> Contestant:
  """Returns the contestant of a text.

  Args:
    spec: an engine, as 'rollout', 'rollout:400' or 'rollout:num_simulations=400,seed=1'; else the
      command line of a program.
    **options: for an engine, unless the text says otherwise.

  Raises:
    ValueError: for what is neither, and for options that the engine does not have.
  """
  name, _, text = spec.partition(':')
  if name in engines.ENGINES:
    own = parse_options(spec, text, engines.OPTIONS[name])
    return EngineContestant(_engine(name, spec, {**options, **own}))
  program = spec.split(maxsplit=1)[:1]
  if not program or not shutil.which(program[0].strip('"\'')):
    raise ValueError(f'player {spec!r}: give {SPEC}; engines: {", ".join(engines.ENGINES)}')
  return ProgramContestant(spec)


def _engine(name, spec, options):
  try:
    engine = engines.make(name, **options)
  except TypeError as error:
    raise ValueError(f'player {spec!r}: {error}') from None
  engine.name = spec
  return engine


def parse_options(
  spec: str, text: str, known: Mapping[str, Callable] = engines.SEARCH_OPTIONS
) -> dict[str, float]:
  """Returns the options of an engine behind the colon of a spec.

  Args:
    spec: the whole, for errors.
    text: '', '400' (num_simulations) or 'num_simulations=400,seed=1'.
    known: the engine's options and their types.

  Raises:
    ValueError: for an option that the engine does not have, or a value that is none of its type.
  """
  options: dict[str, float] = {}
  for part in filter(None, text.split(',')):
    key, equals, value = part.partition('=')
    key, value = (key, value) if equals else ('num_simulations', key)
    if key not in known:
      raise ValueError(f'player {spec!r}: has no {key!r}; choose from {", ".join(known)}')
    try:
      options[key] = known[key](value)
    except ValueError:
      kind = 'a whole number' if known[key] is int else 'a number'
      raise ValueError(f'player {spec!r}: {part!r} must be key=number, {kind}') from None
  return options


def distinct_names(contestants: Sequence[Contestant]) -> tuple[str, str]:
  """Returns the names of two contestants, numbered where they are the same."""
  first, second = (contestant.name for contestant in contestants)
  return (first, second) if first != second else (f'{first} (1)', f'{second} (2)')
