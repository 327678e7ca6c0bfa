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
from train.task import Batch, Batches, Metrics, Variables
from train.tasks.positions import Learner, metrics_of

TOP = 5


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
    score = jnp.take_along_axis(logits, move[:, None], axis=-1)
    values = {
      'loss': optax.softmax_cross_entropy_with_integer_labels(logits, move),
      'accuracy': logits.argmax(-1) == move,
      f'accuracy_top{TOP}': jnp.sum(logits > score, axis=-1) < TOP,
    }
    metrics = metrics_of(values, batch['mask'])
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
      played = jnp.take_along_axis(p, batch['move'][:, None], axis=-1)
      return jnp.sum(p > played, axis=-1), played[:, 0], batch['mask']

    columns = [jax.device_get(compare(members, batch)) for batch in batches]
    rank, played, mask = (np.concatenate(x) for x in zip(*columns, strict=True))
    rank, played = rank[mask > 0], played[mask > 0]
    return {
      'loss': float(-np.log(played).mean()),
      'accuracy': float(np.mean(rank == 0)),
      f'accuracy_top{TOP}': float(np.mean(rank < TOP)),
    }

  def probabilities(self, variables: Variables, seen: Array, count: int) -> Array:
    """`[B, N^2]`, the mean over the first `count` symmetries of the board, turned back."""

    def turned(k: int) -> Array:
      planes = jax.vmap(lambda x: symmetry.board(x, k))(seen) if k else seen
      p = jax.nn.softmax(self.board(variables, planes))
      return jax.vmap(lambda x: symmetry.policy(x, symmetry.INVERSES[k]))(p) if k else p

    return jnp.mean(jnp.stack([turned(k) for k in range(count)]), axis=0)
