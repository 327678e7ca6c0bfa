"""What a network of self-play learns (Silver et al. 2017, equation 1), and is measured by."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.game import sign
from train.task import Batch

BINS = 10  # of predicted values, for the calibration error


def terms(outputs: Any, batch: Batch, value_mix: float) -> dict[str, Array]:
  """Cross-entropy to the search's policy and squared error of the value, `[B]`.

  value_mix: the share of the search's value in the value's target; the rest is the outcome.
  """
  logits, values = outputs[:2]
  log_p = jax.nn.log_softmax(jnp.where(batch['legal'], logits, -1e9))
  target = (1 - value_mix) * batch['outcome'] + value_mix * batch['value']
  return {
    'policy': -jnp.sum(batch['policy'] * log_p, axis=-1),
    'value': jnp.square(values - target),
  }


def end_terms(game: Any, heads: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
  """Squared errors `[B]` of who owns each point and of the score, where the game was played out.

  Wu 2019, section 4.1. Of the heads that there are.
  """
  known = batch['known'].astype(jnp.float32)
  side = sign(batch['player'])
  turned = jax.vmap(game.symmetries.board)(batch['extras']['ownership'], batch['turn'])
  owner = turned.astype(jnp.float32) * side[:, None, None]
  truth = {'ownership': owner, 'score': batch['extras']['score'] * side / turned[0].size}
  errors = {name: jnp.square(heads[name] - truth[name]) for name in truth if name in heads}
  return {name: known * x.reshape(len(x), -1).mean(1) for name, x in errors.items()}


def figures(outputs: Any, batch: Batch) -> dict[str, Array]:
  """`[B]`: whether the likeliest move is the search's, and the error of the search's own value."""
  liked = jnp.where(batch['legal'], outputs[0], -jnp.inf).argmax(-1)
  return {
    'agreement': (liked == batch['policy'].argmax(-1)).astype(jnp.float32),
    'search_mse': jnp.square(batch['value'] - batch['outcome']),
  }


def calibration_error(predicted: Array, outcome: Array, mask: Array) -> Array:
  """Expected calibration error: |mean prediction - mean outcome| in bins of the prediction.

  Guo et al. 2017, equation 3, for values in [-1, 1]; bins weigh as many positions as they have.
  """
  place = jnp.clip(((predicted + 1) / 2 * BINS).astype(jnp.int32), 0, BINS - 1)
  hit = (place[:, None] == np.arange(BINS)[None]) * mask[:, None]
  gap = jnp.abs((hit * (predicted - outcome)[:, None]).sum(0))
  return gap.sum() / jnp.maximum(mask.sum(), 1)
