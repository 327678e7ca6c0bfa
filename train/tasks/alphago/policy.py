"""Policies that predict a strong player's moves: AlphaGo's first stage (Silver et al. 2016)."""

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
from train.tasks.alphago.positions import Learner, metrics_of

TOP = 5


def accuracies(scores: Array, move: Array) -> dict[str, Array]:
  """`[B]`: the chances that `move` is first by `scores` `[B, A]`, and that it is of the first TOP.

  Equal scores are ranked by lot: to small patterns many points look the same.
  """
  score = jnp.take_along_axis(scores, move[:, None], axis=-1)
  better, equal = (scores > score).sum(-1), (scores == score).sum(-1)
  names = {'accuracy': 1, f'accuracy_top{TOP}': TOP}
  return {name: jnp.clip((first - better) / equal, 0, 1) for name, first in names.items()}


class GoPolicy(Learner):
  """The task `go_policy`: the mean cross-entropy of the moves that were played, in nats.

  Metrics are `accuracy`, the share of positions whose likeliest point was played, and
  `accuracy_top5`. The verb eval also has both of probabilities that are averaged over the board's
  eight symmetries.
  """

  views = ('planes', 'patterns')

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    del key, train
    logits, move = self.board(variables, batch['seen']), batch['move']
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, move)
    metrics = metrics_of({'loss': loss, **accuracies(logits, move)}, batch['mask'])
    total, weight = metrics['loss']
    return total / weight, ({}, metrics)

  # -------- the verb eval --------

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Of the members' mean probabilities, raw and averaged over symmetries."""
    batches = self.batches(mesh)
    found: dict[str, float] = {}
    for name, count in (('', 1), ('_8_symmetries', symmetry.COUNT)):
      if count == 1 or self.board.view == 'planes':
        measured = self._measure(tuple(members), batches, count)
        found |= {f'test/{metric}{name}': value for metric, value in measured.items()}
    return found, self.facts(), {}

  def _measure(self, members: Sequence[Variables], batches: Batches, count: int):
    @jax.jit
    def compare(members, batch):
      each = [self.probabilities(member, batch['seen'], count) for member in members]
      p = jnp.mean(jnp.stack(each), axis=0)
      played = jnp.take_along_axis(p, batch['move'][:, None], axis=-1)[:, 0]
      values = {'loss': -jnp.log(played), **accuracies(p, batch['move'])}
      return metrics_of(values, batch['mask'])

    sums = [jax.device_get(compare(members, batch)) for batch in batches]
    totals = jax.tree.map(lambda *parts: np.sum(parts, dtype=np.float64), *sums)
    return mean_metrics(totals)

  def probabilities(self, variables: Variables, seen: Array, count: int) -> Array:
    """`[B, N^2]`, the mean over the first `count` symmetries of the board, turned back."""

    def turned(k: int) -> Array:
      planes = jax.vmap(lambda x: symmetry.board(x, k))(seen) if k else seen
      p = jax.nn.softmax(self.board(variables, planes))
      return jax.vmap(lambda x: symmetry.policy(x, symmetry.INVERSES[k]))(p) if k else p

    return jnp.mean(jnp.stack([turned(k) for k in range(count)]), axis=0)
