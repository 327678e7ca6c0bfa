"""A GTP session: one game with one engine, as commands read and change it."""

import math
import time
from collections.abc import Generator

from mcts.engines import Analysis, Engine, RuleSet, check_size, clock, final_analysis
from mcts.go.notation import to_vertex
from mcts.go.position import Position
from mcts.gtp import analysis as analysis_lib
from mcts.gtp.analysis import AnalysisRequest, FormatLine

DEFAULT_RULES = RuleSet(size=19)


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
    """Begins a game. Raises ValueError for a board size that the engine does not know."""
    check_size(engine.name, engine.sizes, rules.size)
    self.engine, self.rules, self.resign_threshold = engine, rules, resign_threshold
    self.last_analysis: Analysis | None = None
    self.closed = False
    self.control = clock.TimeControl()
    self.begin(rules.position())

  # ---- the game ----

  def begin(self, position: Position) -> None:
    """Goes on from another position, with new clocks."""
    self.position = position
    self.reset_clocks()

  def empty_position(self, size: int, komi: float) -> Position:
    """Returns an empty board under the session's rules."""
    return Position(size, komi, self.rules.superko, self.rules.suicide)

  # ---- time ----

  def set_time_control(self, control: clock.TimeControl) -> None:
    """Gives both players new clocks."""
    self.control = control
    self.reset_clocks()
    if control.kind != 'none':  # compiling would be on the clock
      self.engine.compile(self.position)

  def reset_clocks(self) -> None:
    """Sets both clocks to the beginning of a game."""
    self.clocks = [clock.Clock(self.control), clock.Clock(self.control)]

  def _time_budget(self, player: int) -> float | None:
    moves_left = clock.expected_moves_left(self.position.size, len(self.position.turns))
    return self.clocks[player].budget(moves_left)

  # ---- the engine's moves ----

  def generate(self, player: int, *, cleanup: bool = False) -> str:
    """Plays the engine's move; returns its vertex or 'resign'."""
    began = time.monotonic()
    found = final_analysis(
      self.engine, self.position, player, self._time_budget(player), cleanup=cleanup
    )
    return self._play_own(player, found, began)

  def analyze(self, player: int) -> Analysis:
    """Returns what the engine thinks, without a clock and without a move."""
    return final_analysis(self.engine, self.position, player)

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
