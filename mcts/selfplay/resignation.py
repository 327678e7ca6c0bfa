"""The threshold for resigning, calibrated so that few resigned games were not lost.

In some games resignation is disabled (Silver et al. 2017, Methods, 'Self-play'). They tell for each
threshold in how many games a player would have resigned, and in how many of these that player did
not lose: histograms over the lowest value that a player had.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.search.tree import dataclass
from mcts.selfplay.settings import ResignationSettings

NEVER = -2.0  # a threshold below all values
BINS = 64  # of lowest values, from -1 to 0
MEMORY = 1000.0  # games after which a game counts 1 / e
MIN_GAMES = 20.0  # in which somebody would have resigned, before anybody may


@dataclass
class Calibration:
  """Histograms of games without resignation, older ones decayed, and the threshold.

  not_lost: float32 `[BINS]`, games by the lowest value of a player who did not lose.
  games: float32 `[BINS]`, games by the lowest value of either player.
  threshold: float32 `[]`.
  """

  not_lost: Array
  games: Array
  threshold: Array


def init() -> Calibration:
  """Returns the calibration before any game: nobody resigns."""
  zeros = np.zeros(BINS, np.float32)
  return Calibration(jnp.asarray(zeros), jnp.asarray(zeros), jnp.float32(NEVER))


def tally(lowest_value: Array, outcome: Array, counted: Array) -> tuple[Array, Array]:
  """Returns the histograms (not_lost, games), float32 `[BINS]`, of games that ended.

  Args:
    lowest_value: float32 `[B, 2]` each player's lowest value.
    outcome: float32 `[B]` for player 0.
    counted: bool `[B]`, the games that ended and were played out.
  """
  result = jnp.stack([outcome, -outcome], 1)
  lowest_not_lost = jnp.where(result >= 0, lowest_value, 1.0).min(1)
  return _histogram(lowest_not_lost, counted), _histogram(lowest_value.min(1), counted)


def _histogram(values: Array, counted: Array) -> Array:
  place = jnp.floor((values + 1) * BINS).astype(jnp.int32)
  hit = (place[:, None] == np.arange(BINS)[None]) & counted[:, None]
  return hit.sum(0).astype(jnp.float32)


def update(
  settings: ResignationSettings, old: Calibration, not_lost: Array, games: Array
) -> Calibration:
  """Returns the calibration with more games.

  The threshold is the highest at which the share of false positives is small enough; the edges of
  bins are the candidates.
  """
  keep = jnp.exp(-games.sum() / MEMORY)
  not_lost, games = keep * old.not_lost + not_lost, keep * old.games + games
  false_positives, alarms = jnp.cumsum(not_lost), jnp.cumsum(games)
  fits = (false_positives <= settings.max_false_positive_rate * alarms) & (alarms >= MIN_GAMES)
  edges = -1 + (np.arange(BINS, dtype=np.float32) + 1) / BINS
  return Calibration(not_lost, games, jnp.where(fits, edges, NEVER).max())
