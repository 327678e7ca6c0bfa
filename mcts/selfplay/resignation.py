"""When to give a game up: the threshold by which few games are given up that were not lost.

Some games, 10 %, are played to their end whatever the search says (Silver et al. 2017, Methods,
'Self-play'). They tell, for each threshold, in how many games a player would have given up, and in
how many of these that player did not lose.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.search.tree import dataclass

NEVER = -2.0  # a threshold below all values
BINS = 64  # of lowest values, from -1 to 0
MEMORY = 1000.0  # games after which a game counts 1 / e
FEWEST = 20.0  # games in which somebody would have given up, before anybody may


@dataclasses.dataclass(frozen=True)
class Resignation:
  """A player gives up whose root and best move are both worth less than the threshold.

  wrong: the largest share of games given up that were not lost; played_out: the share of games
  that nobody may give up; 0 of them: nobody ever gives up.
  """

  wrong: float = 0.05
  played_out: float = 0.0

  def __post_init__(self):
    if not (0 <= self.wrong < 1 and 0 <= self.played_out <= 1):
      raise ValueError(
        f'resign wrong={self.wrong}, played_out={self.played_out}: shares, from 0 to 1'
      )


@dataclass
class Calibration:
  """wrong, given_up: float32 `[BINS]`, games played out, of late, by the lowest value of a player
  who did not lose, and of either player; threshold: float32 `[]`, what follows of them."""

  wrong: Array
  given_up: Array
  threshold: Array


def start() -> Calibration:
  zeros = np.zeros(BINS, np.float32)
  return Calibration(jnp.asarray(zeros), jnp.asarray(zeros), jnp.float32(NEVER))


def tally(lowest: Array, outcome: Array, counted: Array) -> tuple[Array, Array]:
  """(wrong, given_up), float32 `[BINS]`, of the games that are `counted` (bool `[B]`).

  lowest: float32 `[B, 2]` each player's lowest value; outcome: float32 `[B]` for the player 0.
  """
  result = jnp.stack([outcome, -outcome], 1)
  unlost = jnp.where(result >= 0, lowest, 1.0).min(1)
  return _histogram(unlost, counted), _histogram(lowest.min(1), counted)


def _histogram(values: Array, counted: Array) -> Array:
  place = jnp.floor((values + 1) * BINS).astype(jnp.int32)
  hit = (place[:, None] == np.arange(BINS)[None]) & counted[:, None]
  return hit.sum(0).astype(jnp.float32)


def update(rule: Resignation, old: Calibration, wrong: Array, given_up: Array) -> Calibration:
  """With more games; the threshold is the highest at which few enough are given up wrongly."""
  keep = jnp.exp(-given_up.sum() / MEMORY)
  wrong, given_up = keep * old.wrong + wrong, keep * old.given_up + given_up
  upto, total = jnp.cumsum(wrong), jnp.cumsum(given_up)
  fits = (upto <= rule.wrong * total) & (total >= FEWEST)
  edges = -1 + (np.arange(BINS, dtype=np.float32) + 1) / BINS
  return Calibration(wrong, given_up, jnp.where(fits, edges, NEVER).max())
