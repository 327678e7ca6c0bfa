"""What all games of a match of Go have in common."""

import dataclasses

from mcts.engines.clock import TimeControl
from mcts.engines.ruleset import RuleSet
from mcts.go import Go
from mcts.go.position import shared_game


@dataclasses.dataclass(frozen=True)
class Openings:
  """Random moves that both games of a pair begin with.

  num_moves: of both players together, None for N / 3.
  seed: of the openings, and of what players draw in games that are played in one batch.
  """

  num_moves: int | None = None
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class TimeLimits:
  """How long players may think; for games in which a GTP program takes part.

  control: each player's clock.
  answer_timeout: seconds after which a program that says nothing has lost.
  """

  control: TimeControl = TimeControl()  # noqa: RUF009 it is frozen
  answer_timeout: float = 60.0

  def __post_init__(self):
    if not self.answer_timeout > 0:
      raise ValueError(f'answer_timeout {self.answer_timeout}: must be above 0 s')


@dataclasses.dataclass(frozen=True)
class MatchTerms:
  """What all games of a match have in common.

  rules: of Go.
  openings: how games begin.
  time: how long players may think.
  max_moves: turns, the opening's among them, after which a game ends and is scored as it stands;
    None for 2 N^2.
  cleanup: whether, against a program, engines of ours pass only when no dead stone is left to
    capture. All stones on the board count as alive.
  """

  rules: RuleSet = RuleSet()  # noqa: RUF009 it is frozen
  openings: Openings = Openings()
  time: TimeLimits = TimeLimits()
  max_moves: int | None = None
  cleanup: bool = True

  def __post_init__(self):
    if not 0 <= self.num_opening_moves < self.move_limit:
      raise ValueError(
        f'opening {self.num_opening_moves}: must be from 0 to {self.move_limit - 1} moves'
      )

  @property
  def move_limit(self) -> int:
    """Returns `max_moves`, or its default for the size."""
    return 2 * self.rules.size**2 if self.max_moves is None else self.max_moves

  @property
  def num_opening_moves(self) -> int:
    """Returns `openings.num_moves`, or its default for the size."""
    moves = self.openings.num_moves
    return self.rules.size // 3 if moves is None else moves

  def game(self) -> Go:
    """Returns the rules as pure functions; equal terms share one, and so what is compiled of it."""
    rules = self.rules
    return shared_game(rules.size, rules.superko, rules.suicide, self.move_limit)

  def as_json(self) -> dict:
    """Returns the terms as JSON has them, defaults filled in."""
    return {
      **dataclasses.asdict(self.rules),
      'max_moves': self.move_limit,
      'opening': self.num_opening_moves,
      'seed': self.openings.seed,
      'limit': dataclasses.asdict(self.time.control),
      'timeout': self.time.answer_timeout,
      'cleanup': self.cleanup,
    }
