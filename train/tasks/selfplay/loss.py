"""The loss of self-play (Silver et al. 2017, equation 1) and the metrics of a batch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.game import Game, sign
from train.task import Batch

BINS = 10  # of predicted values, for the calibration error


def loss_terms(outputs: Any, batch: Batch, value_target_mix: float) -> dict[str, Array]:
  """Returns the policy's cross-entropy and the value's squared error, float32 `[B]` each.

  Args:
    outputs: logits `[B, A]` and values `[B]`, perhaps followed by more.
    batch: of `mcts.selfplay.replay.sample`.
    value_target_mix: the share of the search's value in the value target.
  """
  logits, values = outputs[:2]
  # A large finite number, not -inf: 0 times -inf in the sum below would be NaN.
  log_p = jax.nn.log_softmax(jnp.where(batch['legal'], logits, -1e9))
  target = (1 - value_target_mix) * batch['outcome'] + value_target_mix * batch['value']
  return {
    'policy': -jnp.sum(batch['policy'] * log_p, axis=-1),
    'value': jnp.square(values - target),
  }


def aux_terms(game: Game, heads: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
  """Returns the squared errors `[B]` of the auxiliary heads that there are (Wu 2019, section 4.1).

  They are 0 where the game was not played to its end.

  Args:
    game: that has `aux_targets`.
    heads: 'ownership' `[B, H, W]` in [-1, 1] and 'score' `[B]` in points a point of the board, for
      the player to move.
    batch: of `mcts.selfplay.replay.sample`.
  """
  known = batch['aux_known'].astype(jnp.float32)
  side = sign(batch['player'])
  owned = jax.vmap(game.symmetries.board)(batch['aux']['ownership'], batch['symmetry'])
  owner = owned.astype(jnp.float32) * side[:, None, None]
  target = {'ownership': owner, 'score': batch['aux']['score'] * side / owned[0].size}
  errors = {name: jnp.square(heads[name] - target[name]) for name in target if name in heads}
  return {name: known * x.reshape(len(x), -1).mean(1) for name, x in errors.items()}


def example_metrics(outputs: Any, batch: Batch) -> dict[str, Array]:
  """Returns how the outputs compare with the search, `[B]` each.

  'agreement' is whether the likeliest move is the search's most visited one, 'search_mse' the
  squared error of the search's value as a prediction of the outcome.
  """
  likeliest = jnp.where(batch['legal'], outputs[0], -jnp.inf).argmax(-1)
  return {
    'agreement': (likeliest == batch['policy'].argmax(-1)).astype(jnp.float32),
    'search_mse': jnp.square(batch['value'] - batch['outcome']),
  }


def calibration_error(predicted: Array, outcome: Array, mask: Array) -> Array:
  """Returns the expected calibration error of values in [-1, 1] (Guo et al. 2017, equation 3).

  |mean prediction - mean outcome| in bins of the prediction, which weigh as many positions as they
  have.

  Args:
    predicted: float32 `[B]`.
    outcome: float32 `[B]`.
    mask: float32 `[B]`, 0 for positions that do not count.
  """
  place = jnp.clip(((predicted + 1) / 2 * BINS).astype(jnp.int32), 0, BINS - 1)
  hit = (place[:, None] == np.arange(BINS)[None]) * mask[:, None]
  gap = jnp.abs((hit * (predicted - outcome)[:, None]).sum(0))
  return gap.sum() / jnp.maximum(mask.sum(), 1)
