"""The loss of self-play: by hand, its gradients, its terms of a game's end, calibration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcts import symmetry
from tests.train.tasks.selfplay.small_selfplay import GO, begin, task_of
from train.tasks.selfplay import loss as loss_lib


def batch_of(task):
  source, carry, variables = begin(task)
  return source.next(carry, 0, variables)[1], variables


@functools.cache
def tictactoe():
  return batch_of(task_of())


@pytest.mark.long
def test_the_loss_by_hand():
  task = task_of(loss={'value_target_mix': 0.25})
  batch, variables = tictactoe()
  value, (_, metrics) = task.loss(variables, batch, jax.random.key(0), train=False)
  logits, values, _ = task.model.apply(variables, batch['planes'], train=False)
  weights = np.where(batch['legal'], np.exp(logits), 0)
  p = weights / weights.sum(1, keepdims=True)
  policy = -(np.asarray(batch['policy']) * np.log(np.where(batch['legal'], p, 1))).sum(1)
  target = 0.75 * batch['outcome'] + 0.25 * batch['value']
  error = np.square(np.asarray(values - target))
  assert float(value) == pytest.approx((policy + error).mean(), rel=1e-5)
  assert float(metrics['value'][0] / metrics['value'][1]) == pytest.approx(error.mean(), rel=1e-5)


@pytest.mark.long
def test_illegal_moves_have_no_gradient():
  task = task_of()
  batch, variables = tictactoe()
  bias = lambda x: x['params']['policy']['bias']  # noqa: E731
  only_first = {**batch, 'legal': jnp.zeros_like(batch['legal']).at[:, :3].set(True)}

  def loss(params):
    return task.loss({**variables, 'params': params}, only_first, jax.random.key(0), train=True)[0]

  gradient = bias({'params': jax.grad(loss)(variables['params'])})
  assert not gradient[3:].any() and gradient[:3].any()


@pytest.mark.long
def test_training_normalises_by_the_batch():
  task = task_of()
  batch, variables = tictactoe()
  _, (extra, _) = task.loss(variables, batch, jax.random.key(0), train=True)
  same = jax.tree.map(
    lambda a, b: bool((a == b).all()), extra['batch_stats'], variables['batch_stats']
  )
  assert not any(jax.tree.leaves(same))


@pytest.mark.long
def test_who_owns_what_is_seen_by_the_player_to_move_and_turned_like_the_board():
  """Stones that stay on the board belong to who put them there."""
  weights = {'ownership_weight': 1.0, 'score_weight': 1.0}
  task = task_of({'ownership': True, 'score': True}, **GO, loss=weights)
  batch, _ = batch_of(task)
  batch = dict(batch, aux_known=jnp.ones_like(batch['aux_known']))
  sign = 1 - 2 * batch['player']
  boards = batch['planes'][..., 0].astype(jnp.int8) - batch['planes'][..., 1].astype(jnp.int8)
  # As if the game ended with the board of the position, seen by black and not yet turned.
  back = jnp.asarray(symmetry.INVERSES)[batch['symmetry']]
  owned = jax.vmap(task.game.symmetries.board)(boards * sign[:, None, None].astype(jnp.int8), back)
  score = owned.astype(jnp.float32).sum((1, 2))
  batch['aux'] = {'ownership': owned, 'score': score}
  heads = {
    'ownership': boards.astype(jnp.float32),
    'score': boards.astype(jnp.float32).mean((1, 2)),
  }
  terms = loss_lib.aux_terms(task.game, heads, batch)
  assert float(terms['ownership'].max()) == 0
  np.testing.assert_allclose(terms['score'], 0, atol=1e-10)
  unknown = dict(batch, aux_known=jnp.zeros_like(batch['aux_known']))
  heads = {'ownership': heads['ownership'] + 1, 'score': heads['score'] + 1}
  assert float(loss_lib.aux_terms(task.game, heads, unknown)['ownership'].max()) == 0
  assert float(loss_lib.aux_terms(task.game, heads, batch)['score'].min()) > 0


def test_calibration_is_by_bins():
  """Two sure of a win of whom one wins, and two at even who win and lose: (2 x |1 - 0|) / 4."""
  predicted, outcome = jnp.array([1.0, 1.0, 0.0, 0.0]), jnp.array([1.0, -1.0, 1.0, -1.0])
  assert float(loss_lib.calibration_error(predicted, outcome, jnp.ones(4))) == 0.5
  alone = jnp.array([1.0, 0.0, 1.0, 1.0])
  assert float(loss_lib.calibration_error(predicted, outcome, alone)) == 0
