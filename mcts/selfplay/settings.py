"""What self-play can be told, in dataclasses by subject; each checks its own values."""

import dataclasses
import math

from mcts.search.selection import SelectionPolicy


def require(key: str, value: object, holds: bool, rule: str) -> None:
  """Raises ValueError 'key=value: rule' unless it holds."""
  if not holds:
    raise ValueError(f'{key}={value!r}: {rule}')


@dataclasses.dataclass(frozen=True)
class SearchSettings:
  """The search before each move.

  num_simulations: of a full search.
  full_search_prob: the chance that a move is searched in full. Other moves have a fast search
    without noise, and their positions are not learned from (playout cap randomisation: Wu 2019,
    section 3.1).
  fast_num_simulations: of a fast search.
  reuse_tree: whether a search goes on with the subtree of the last one (Silver et al. 2017).
  random_symmetry: whether the network sees each leaf under a random symmetry (there, Methods).
  """

  num_simulations: int = 32
  full_search_prob: float = 1.0
  fast_num_simulations: int = 0
  reuse_tree: bool = False
  random_symmetry: bool = False

  def __post_init__(self):
    n, fast, prob = self.num_simulations, self.fast_num_simulations, self.full_search_prob
    require('search.num_simulations', n, n >= 1, 'must be at least 1')
    require('search.full_search_prob', prob, 0 < prob <= 1, 'must be in (0, 1]')
    rule = f'must be from 1 to search.num_simulations, {n}'
    require('search.fast_num_simulations', fast, prob == 1 or 1 <= fast <= n, rule)

  @property
  def capacity(self) -> int:
    """Nodes of a tree: the root, a node a simulation, and as many that may have been kept."""
    return self.num_simulations * (2 if self.reuse_tree else 1) + 1


@dataclasses.dataclass(frozen=True)
class ExplorationSettings:
  """How games are made to differ, apart from noise at the root, which is the selection policy's.

  temperature_moves: so many first moves of a game are drawn from the search's policy to the power
    1 / temperature (Silver et al. 2017: 30 and 1); later ones are the search's best.
  temperature: of these.
  max_random_opening_moves: a game begins with 0 to so many uniformly random moves, which are not
    learned from: positions that good play does not reach (compare Wu 2019, appendix D).
  random_move_prob: the chance that a move anywhere in the game is uniformly random; the search's
    policy is still the target. Outcomes say little then, so the value target is the search's.
  """

  temperature_moves: int = 0
  temperature: float = 1.0
  max_random_opening_moves: int = 0
  random_move_prob: float = 0.0

  def __post_init__(self):
    moves, prob = self.max_random_opening_moves, self.random_move_prob
    first, temperature = self.temperature_moves, self.temperature
    require('exploration.temperature_moves', first, first >= 0, 'must be at least 0')
    rule = 'must be a finite number of at least 0'
    require('exploration.temperature', temperature, 0 <= temperature < math.inf, rule)
    require('exploration.max_random_opening_moves', moves, moves >= 0, 'must be at least 0')
    require('exploration.random_move_prob', prob, 0 <= prob <= 1, 'must be in [0, 1]')


@dataclasses.dataclass(frozen=True)
class ResignationSettings:
  """Resignation: a player gives up whose root and best move are both worth less than a threshold.

  max_false_positive_rate: the largest share of resigned games that were not lost (Silver et al.
    2017, Methods: below 5 %); the threshold is calibrated to it.
  disabled_fraction: the share of games that are always played to their end, from which the
    threshold is calibrated (there: 10 %). With 0 it never is, and nobody resigns.
  """

  max_false_positive_rate: float = 0.05
  disabled_fraction: float = 0.0

  def __post_init__(self):
    rate, fraction = self.max_false_positive_rate, self.disabled_fraction
    require('resignation.max_false_positive_rate', rate, 0 <= rate < 1, 'must be in [0, 1)')
    require('resignation.disabled_fraction', fraction, 0 <= fraction <= 1, 'must be in [0, 1]')


@dataclasses.dataclass(frozen=True)
class SelfPlay:
  """All that self-play can be told.

  selection: the selection policy of the search.
  opponent_stride: one environment in so many plays against another network, whose positions are not
    learned from and whose colour is drawn anew for each game (past selves: OpenAI 2019, Dota 2 with
    large scale deep reinforcement learning); 0 for self-play alone.
  aux_targets: whether transitions hold `Game.aux_targets` of the end.
  """

  selection: SelectionPolicy
  search: SearchSettings = SearchSettings()
  exploration: ExplorationSettings = ExplorationSettings()
  resignation: ResignationSettings = ResignationSettings()
  opponent_stride: int = 0
  aux_targets: bool = False

  def __post_init__(self):
    reuse, stride = self.search.reuse_tree, self.opponent_stride
    rule = "needs selection='puct': sequential halving starts from an unvisited root"
    require('search.reuse_tree', reuse, not reuse or self.selection.allows_tree_reuse, rule)
    require('opponent_stride', stride, stride >= 0, 'must be at least 0')
    rule = 'needs search.reuse_tree=False: two networks share no tree'
    require('opponent_stride', stride, not stride or not reuse, rule)
