"""Policies that predict expert moves: AlphaGo's SL policy and its rollout policy.

Silver et al. 2016, Methods, 'Policy network: classification' and 'Rollout policy'.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

from mcts import symmetry
from train.step import mean_metrics
from train.task import Batch, Batches, Metrics, Variables
from train.tasks.alphago.base import RecordedGamesTask, mean_loss, metric_sums
from train.tasks.alphago.network import POLICY_INPUTS

TOP = 5


def accuracies(scores: Array, move: Array) -> dict[str, Array]:
  """Returns the chances that a move is ranked first, and among the first `TOP`, float32 `[B]` each.

  Equal scores are ranked by lot: to small patterns many points look the same. Where a score is NaN
  nothing is ranked, and the chances are 0.

  Args:
    scores: `[B, A]`, of all actions.
    move: int32 `[B]`, the action that was played.
  """
  score = jnp.take_along_axis(scores, move[:, None], axis=-1)
  better, equal = (scores > score).sum(-1), (scores == score).sum(-1)
  names = {'accuracy': 1, f'accuracy_top{TOP}': TOP}
  ranked = ~jnp.isnan(scores).any(-1)
  chances = {name: (first - better) / jnp.maximum(equal, 1) for name, first in names.items()}
  return {name: jnp.where(ranked, jnp.clip(x, 0, 1), 0) for name, x in chances.items()}


class GoPolicy(RecordedGamesTask):
  """The task `go_policy`: the mean cross-entropy of the moves that were played, in nats.

  Metrics are `accuracy`, the share of positions whose likeliest point was played, and
  `accuracy_top5`. The verb eval also has both of probabilities averaged over the board's eight
  symmetries.
  """

  input_kinds = POLICY_INPUTS

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns -log p(a | s) over the points, averaged over the batch."""
    del key, train
    logits, move = self.network(variables, batch['inputs']), batch['move']
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, move)
    return mean_loss({'loss': loss, **accuracies(logits, move)}, batch['mask'])

  # -------- the verb eval --------

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Returns metrics of the ensemble's mean probabilities, raw and averaged over symmetries."""
    batches = self.batches(mesh)
    metrics: dict[str, float] = {}
    for suffix, count in (('', 1), ('_8_symmetries', symmetry.COUNT)):
      if count == 1 or self.network.input_kind == 'planes':
        measured = self._measure(tuple(members), batches, count)
        metrics |= {f'test/{name}{suffix}': value for name, value in measured.items()}
    return metrics, self.metadata(), {}

  def _measure(self, members: Sequence[Variables], batches: Batches, count: int):
    @jax.jit
    def compare(members, batch):
      each = [self.log_probabilities(member, batch['inputs'], count) for member in members]
      log_p = log_mean(jnp.stack(each))
      played = jnp.take_along_axis(log_p, batch['move'][:, None], axis=-1)[:, 0]
      values = {'loss': -played, **accuracies(log_p, batch['move'])}
      return metric_sums(values, batch['mask'])

    sums = [jax.device_get(compare(members, batch)) for batch in batches]
    totals = jax.tree.map(lambda *parts: np.sum(parts, dtype=np.float64), *sums)
    return mean_metrics(totals)

  def log_probabilities(self, variables: Variables, inputs: Array, count: int) -> Array:
    """Returns log p `[B, N^2]`, p the mean over the first `count` symmetries, transformed back.

    In logarithms throughout: where float32 has a probability of 0 for many points, their order and
    the loss would be lost.

    Args:
      variables: the network's.
      inputs: `[B, N, N, C]`, or any where count is 1.
      count: 1, or 8 for all symmetries of the board.
    """

    def under(k: int) -> Array:
      planes = jax.vmap(lambda x: symmetry.board(x, k))(inputs) if k else inputs
      p = jax.nn.log_softmax(self.network(variables, planes))
      return jax.vmap(lambda x: symmetry.policy(x, symmetry.INVERSES[k]))(p) if k else p

    return log_mean(jnp.stack([under(k) for k in range(count)]))


def log_mean(log_p: Array) -> Array:
  """Returns the logarithm of the mean over axis 0 of exp(log_p)."""
  return jax.nn.logsumexp(log_p, axis=0) - jnp.log(log_p.shape[0])
