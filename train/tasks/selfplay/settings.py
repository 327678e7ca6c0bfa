"""Sections of the config of the task `selfplay`, beside those of `mcts.selfplay.settings`."""

import dataclasses
import math
from typing import Any

from train.errors import UserError


def require(key: str, value: Any, holds: bool, rule: str) -> None:
  """Raises UserError 'task.key=value: rule' unless it holds."""
  if not holds:
    raise UserError(f'task.{key}={value!r}: {rule}')


def at_least(key: str, value: int, least: int) -> None:
  """Raises UserError unless the value is at least `least`."""
  require(key, value, value >= least, f'must be at least {least}')


@dataclasses.dataclass(frozen=True)
class ReplaySettings:
  """The replay; numbers are positions over all environments.

  window: that are kept.
  initial_window: that are sampled from at first; the window grows from it (Wu 2019, appendix C). 0
    for all that are kept.
  min_size: that are played before the first training step.
  """

  window: int = 50_000
  initial_window: int = 0
  min_size: int = 1_000

  def __post_init__(self):
    at_least('replay.initial_window', self.initial_window, 0)
    at_least('replay.min_size', self.min_size, 0)


@dataclasses.dataclass(frozen=True)
class LossSettings:
  """The loss: cross-entropy of the policy, which has weight 1, and squared errors.

  value_target_mix: the share of the search's value in the value target; the rest is the outcome.
  value_weight: of the value's squared error.
  ownership_weight, score_weight: of the auxiliary heads' squared errors (Wu 2019, section 4.1), for
    a game with `Game.aux_targets` and a network with these heads.
  """

  value_target_mix: float = 0.0
  value_weight: float = 1.0
  ownership_weight: float = 0.0
  score_weight: float = 0.0

  def __post_init__(self):
    mix = self.value_target_mix
    require('loss.value_target_mix', mix, 0 <= mix <= 1, 'must be in [0, 1]')
    for name, weight in self.weights.items():
      rule = 'must be a finite number of at least 0'
      require(f'loss.{name}_weight', weight, 0 <= weight < math.inf, rule)

  @property
  def weights(self) -> dict[str, float]:
    """Returns term -> weight; the policy's is 1."""
    return {
      'value': self.value_weight,
      'ownership': self.ownership_weight,
      'score': self.score_weight,
    }

  @property
  def has_aux(self) -> bool:
    """Returns whether auxiliary heads are learned."""
    return self.ownership_weight > 0 or self.score_weight > 0


@dataclasses.dataclass(frozen=True)
class GateSettings:
  """AlphaGo Zero's evaluator: a network plays once it has beaten the one that does.

  threshold: the share of points in a match that is to be exceeded (Silver et al. 2017: 0.55); 0:
    the newest network always plays, as in AlphaZero.
  num_games: of the match (there: 400).
  every: steps between two matches (there: 1,000).
  """

  threshold: float = 0.0
  num_games: int = 400
  every: int = 1_000

  def __post_init__(self):
    rule = 'must be in [0, 1), a share of points'
    require('gate.threshold', self.threshold, 0 <= self.threshold < 1, rule)
    at_least('gate.num_games', self.num_games, 2)
    at_least('gate.every', self.every, 1)


@dataclasses.dataclass(frozen=True)
class OpponentPoolSettings:
  """Games against past selves.

  env_stride: one environment in so many plays against a network of the pool; 0 for none.
  size: the newest snapshots, one each `snapshot_every` steps, that the pool holds.
  """

  env_stride: int = 0
  size: int = 8

  def __post_init__(self):
    at_least('opponent_pool.size', self.size, 1)


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
  """What is measured during training and by the verb eval.

  baselines: players of `matches.BASELINES` to be rated against.
  num_games: of each match, rounded up to pairs of both colours.
  num_simulations: of the network's search in them; 0 for as many as in training.
  opening_moves: random moves that both games of a pair begin with.
  all_lines: whether all lines of play are counted (for tic-tac-toe).
  solved_positions: a file of `mcts.games.connect_four_solver`, for the network without search.
  preview: whether each evaluation leaves a game and the search's policy at the first move.
  timings: whether it measures where a step's time goes, by programs of its own.
  """

  baselines: tuple[str, ...] = ('random',)
  num_games: int = 100
  num_simulations: int = 0
  opening_moves: int = 2
  all_lines: bool = False
  solved_positions: str = ''
  preview: bool = True
  timings: bool = False

  def __post_init__(self):
    at_least('evaluation.num_games', self.num_games, 2)
    at_least('evaluation.num_simulations', self.num_simulations, 0)
    at_least('evaluation.opening_moves', self.opening_moves, 0)
