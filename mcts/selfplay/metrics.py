"""Figures of a move of self-play: sums and weights, over the games of one device.

In all of them B games have made one move: `entry` of them. A game's length is before that move.
"""

import jax.numpy as jnp
from jax import Array

from mcts.game import sign
from mcts.selfplay.replay import Entry

Stats = dict[str, tuple[Array, Array]]
"""name -> (sum, weight), float32 scalars."""


def of_move(entry: Entry, length: Array, simulations: Array) -> Stats:
  """length: int32 `[B]` the moves of each game; simulations: of the search, alike for all."""
  over = entry.over.astype(jnp.float32)
  games, positions = over.sum(), jnp.float32(len(over))
  entropy = -jnp.sum(entry.policy * jnp.log(jnp.maximum(entry.policy, 1e-20)))
  return {
    'length': ((over * (length + 1)).sum(), games),
    'first_share': ((over * (1 + entry.outcome) / 2).sum(), games),
    'draws': ((over * (entry.outcome == 0)).sum(), games),
    'entropy': (entropy, positions),
    'search_value': (jnp.sum(entry.value * sign(entry.player)), positions),
    'simulations': (simulations * positions, positions),
  }


def of_resignation(entry: Entry, resigned: Array, hopeless: Array, plays_out: Array) -> Stats:
  """resigned, plays_out: bool `[B]`; hopeless: `[B, 2]` whether a player would have given up.

  'resigned_wrongly' is of games played out: those in which a player would have given up who did not
  lose, of those in which either would have.
  """
  result = jnp.stack([entry.outcome, -entry.outcome], 1)
  given_up = hopeless & (entry.over & plays_out)[:, None]
  wrongly = (given_up & (result >= 0)).any(1)
  return {
    'resigned': (_count(resigned), _count(entry.over)),
    'resigned_wrongly': (_count(wrongly), _count(given_up.any(1))),
  }


def of_rivals(entry: Entry, against: Array, ours: Array) -> Stats:
  """The newest network's points in the games against rivals that end, and how many these are.

  against: bool `[B]` whether a game has a rival; ours: bool `[B]` whether it was not its turn.
  """
  over = (entry.over & against).astype(jnp.float32)
  mine = jnp.where(ours, 1.0, -1.0) * sign(entry.player)  # 1 if it is the player 0
  return {'rival_share': ((over * (1 + mine * entry.outcome) / 2).sum(), over.sum())}


def _count(x: Array) -> Array:
  return x.sum().astype(jnp.float32)
