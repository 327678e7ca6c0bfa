"""Metrics of one move of self-play as sums and weights over the B games of a device.

`length` is that of each game before the move. Metrics whose weight is the number of games that end
are 0 / 0 for a move with which none does; sums over many moves are what is reported.
"""

import jax.numpy as jnp
from jax import Array

from mcts.game import sign
from mcts.selfplay.replay import Transition

Metrics = dict[str, tuple[Array, Array]]
"""name -> (sum, weight), float32 scalars."""


def move_metrics(transition: Transition, length: Array, simulations: Array) -> Metrics:
  """Returns metrics of play.

  Args:
    transition: of the move.
    length: int32 `[B]`, moves of each game before it.
    simulations: int32 `[]`, of the search.

  Returns:
    Of games that ended: 'length' in moves, 'first_share' of points for player 0, 'draws'. Of
    positions: 'entropy' of the search's policy in nats, 'search_value' for player 0, 'simulations'.
  """
  ended = transition.ended.astype(jnp.float32)
  games, positions = ended.sum(), jnp.float32(len(ended))
  entropy = -jnp.sum(transition.policy * jnp.log(jnp.maximum(transition.policy, 1e-20)))
  return {
    'length': ((ended * (length + 1)).sum(), games),
    'first_share': ((ended * (1 + transition.outcome) / 2).sum(), games),
    'draws': ((ended * (transition.outcome == 0)).sum(), games),
    'entropy': (entropy, positions),
    'search_value': (jnp.sum(transition.value * sign(transition.player)), positions),
    'simulations': (simulations * positions, positions),
  }


def resignation_metrics(
  transition: Transition, resigned: Array, would_resign: Array, resign_disabled: Array
) -> Metrics:
  """Returns metrics of resignation.

  Args:
    transition: of the move.
    resigned: bool `[B]`.
    would_resign: bool `[B, 2]`, whether each player has been below the threshold in this game.
    resign_disabled: bool `[B]`.

  Returns:
    'resigned': the share of games that end by resignation. 'resign_false_positives': of games
    without resignation in which a player would have resigned, the share in which one of these did
    not lose.
  """
  result = jnp.stack([transition.outcome, -transition.outcome], 1)
  alarms = would_resign & (transition.ended & resign_disabled)[:, None]
  false_alarms = (alarms & (result >= 0)).any(1)
  return {
    'resigned': (_count(resigned), _count(transition.ended)),
    'resign_false_positives': (_count(false_alarms), _count(alarms.any(1))),
  }


def opponent_metrics(transition: Transition, has_opponent: Array, is_ours: Array) -> Metrics:
  """Returns 'opponent_share': the newest network's share of points against opponents.

  Args:
    transition: of the move.
    has_opponent: bool `[B]`.
    is_ours: bool `[B]`, whether the newest network made the move.
  """
  ended = (transition.ended & has_opponent).astype(jnp.float32)
  ours = jnp.where(is_ours, 1.0, -1.0) * sign(transition.player)  # 1 if it is player 0
  return {'opponent_share': ((ended * (1 + ours * transition.outcome) / 2).sum(), ended.sum())}


def _count(x: Array) -> Array:
  return x.sum().astype(jnp.float32)
