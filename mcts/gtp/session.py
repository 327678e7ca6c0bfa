"""A GTP session: one game with one engine, as commands read and change it."""

import dataclasses
import math
import sys
import time
from collections.abc import Generator

from mcts.engines import Analysis, Engine, RuleSet, check_size, clock, final_analysis
from mcts.go import Go
from mcts.go.notation import to_vertex
from mcts.go.position import Position
from mcts.gtp import analysis as analysis_lib
from mcts.gtp.analysis import AnalysisRequest, FormatLine
from mcts.gtp.protocol import CommandFailure

DEFAULT_RULES = RuleSet(size=19)
GAME_OVER = 'game is over'  # no room for another turn in its record; undo makes some


class Session:
  """One game with one engine.

  engine: that moves.
  rules: of the game; its size and komi are those of the start, `position` has the present ones.
  resign_threshold: the engine resigns where its chance to win is lower; 0 for never.
  position: the game so far.
  control: the time control of both players, whose clocks are `clocks`, black's first.
  last_analysis: of the engine's last move, None before it.
  closed: whether `quit` was said.
  """

  def __init__(self, engine: Engine, rules: RuleSet = DEFAULT_RULES, resign_threshold: float = 0.0):
    """Begins a game.

    Raises:
      ValueError: the engine does not know the board size, or the threshold is no chance.
    """
    check_size(engine.name, engine.sizes, rules.size)
    if not 0 <= resign_threshold <= 1:
      raise ValueError(f'resign {resign_threshold}: must be a chance to win, from 0 (never) to 1')
    self.engine, self.rules, self.resign_threshold = engine, rules, resign_threshold
    self.last_analysis: Analysis | None = None
    self.closed = False
    self.control = clock.TimeControl()
    self._compiled: set[Go] = set()
    self._said: set[str] = set()
    self._set_position(rules.position())

  # ---- the game ----

  def begin(self, position: Position) -> None:
    """Goes on from another position, with new clocks, once moves on its board are compiled."""
    self._set_position(position)
    self.compile()

  def _set_position(self, position):
    self.position = position
    self.reset_clocks()
    self.say_differences()

  def empty_position(self, size: int, komi: float) -> Position:
    """Returns an empty board under the session's rules."""
    return Position(size, komi, self.rules.superko, self.rules.suicide)

  def set_komi(self, komi: float) -> None:
    """Changes the komi; raises ValueError for one that no game can have."""
    self.position.set_komi(komi)
    self.say_differences()

  def is_over(self, player: int) -> bool:
    """Returns whether no action is left, not even a pass: the record of the game is full."""
    return not self.position.legal(player).any()

  def say(self, text: str) -> None:
    """Says something about the engine on stderr, once a session."""
    if text not in self._said:
      self._said.add(text)
      print(f'{self.engine.name}: {text}', file=sys.stderr, flush=True)

  def say_differences(self) -> None:
    """Says in what the game's rules differ from those that the engine has learnt."""
    if self.engine.trained is not None:
      rules = dataclasses.replace(self.rules, size=self.position.size, komi=self.position.komi)
      for text in self.engine.trained.differences(rules):
        self.say(f'this game has {text} as those that it was trained on')

  # ---- time ----

  def compile(self) -> None:
    """Compiles what moves on this board need, once a size, before a clock or timeout may run."""
    if self.position.game not in self._compiled:
      # A scratch game, since the present one may be at its end. The first move compiles rules, too.
      scratch = self.empty_position(self.position.size, self.position.komi)
      scratch.play(0, scratch.pass_action)
      scratch.legal(1)
      self.engine.compile(scratch)
      self._compiled.add(self.position.game)

  def set_time_control(self, control: clock.TimeControl) -> None:
    """Gives both players new clocks."""
    self.control = control
    self.reset_clocks()
    if control.kind != 'none':
      self.compile()

  def correct_clock(self, player: int, left: float, stones: int) -> None:
    """Sets a player's clock to what the controller says, in seconds and stones of the period."""
    self.clocks[player].correct(left, stones)
    if self.clocks[player].control.kind != 'none':
      self.compile()

  def reset_clocks(self) -> None:
    """Sets both clocks to the beginning of a game."""
    self.clocks = [clock.Clock(self.control), clock.Clock(self.control)]

  def _time_budget(self, player: int) -> float | None:
    moves_left = clock.expected_moves_left(self.position.size, len(self.position.turns))
    return self.clocks[player].budget(moves_left)

  # ---- the engine's moves ----

  def generate(self, player: int, *, cleanup: bool = False) -> str:
    """Plays the engine's move; returns its vertex or 'resign'."""
    self._check_not_over(player)
    began = time.monotonic()
    found = final_analysis(
      self.engine, self.position, player, self._time_budget(player), cleanup=cleanup
    )
    return self._play_own(player, found, began)

  def analyze(self, player: int) -> Analysis:
    """Returns what the engine thinks, without a clock and without a move."""
    self._check_not_over(player)
    return final_analysis(self.engine, self.position, player)

  def _check_not_over(self, player):
    if self.is_over(player):
      raise CommandFailure(GAME_OVER)

  def vertex_of(self, found: Analysis) -> str:
    """Returns the vertex of an analysis's move, or 'resign'."""
    hopeless = found.value is not None and (
      analysis_lib.win_rate(found.value) < self.resign_threshold
    )
    return 'resign' if hopeless else to_vertex(found.move, self.position.size)

  def _play_own(self, player, found, began):
    """Returns the vertex of a move, put on the board and taken off the clock."""
    self.last_analysis = found
    self.clocks[player].spend(time.monotonic() - began)
    vertex = self.vertex_of(found)
    if vertex != 'resign':
      self.position.play(player, found.move)
    return vertex

  def stream_analysis(
    self, request: AnalysisRequest, format_line: FormatLine, play: bool
  ) -> Generator[str]:
    """Yields a line about all candidates each `request.interval`, and '' between these.

    Args:
      request: what the controller wants to see.
      format_line: of `mcts.gtp.analysis`.
      play: whether to think by the clock and to play the move in the end; else the analysis goes on
        as long as it is read.
    """
    self._check_not_over(request.player)
    legal = self.position.legal(request.player)
    if request.allowed is not None and not (legal & request.allowed).any():
      raise CommandFailure('no move that may be considered is legal')
    began = time.monotonic()
    seconds = self._time_budget(request.player) if play else math.inf
    last, unsent = -math.inf, ''
    for found in self.engine.analyze(
      self.position, request.player, seconds, allowed=request.allowed
    ):
      unsent = format_line(found, self.position.size, request)
      now = time.monotonic()
      if unsent and now - last >= request.interval:
        yield unsent
        last, unsent = now, ''
      else:
        yield ''
    if unsent:
      yield unsent
    if play:
      yield f'play {self._play_own(request.player, found, began)}'
