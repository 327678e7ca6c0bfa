"""Values of positions, by how their games ended: AlphaGo's third stage (Silver et al. 2016)."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from data.go.source import GoGames
from mcts.alphago import mixed
from mcts.go import Go, State
from mcts.search.evaluators import Evaluate
from train.config import UserError
from train.task import Batch, Batches, Metrics, Variables
from train.tasks.alphago.positions import (
  NONSENSE,
  PASS,
  Board,
  Learner,
  OnBoard,
  metrics_of,
  network_of,
)

VIEWS = ('planes and colour',)


class Values(OnBoard):
  """What tasks that learn values have in common: the loss is the mean of (z - v)^2, z = 1 or -1 as
  the player to move won or lost, and `winner` the share of positions whose winner v's sign says.

  What a search needs besides, and may change after training: policy, rollout: the workdirs of runs
  of the task go_policy, a network and a rollout policy; without them all moves are alike, and
  rollouts random. mixing: the share lambda of the rollout's outcome in a leaf's value.
  """

  policy: str
  rollout: str
  mixing: float

  def search_with(self, policy: str, rollout: str, mixing: float) -> None:
    if not 0 <= mixing <= 1:
      raise UserError(f'task.mixing={mixing}: must be in [0, 1]')
    self.policy, self.rollout, self.mixing = policy, rollout, mixing

  def batches(self, mesh: Mesh) -> Batches:
    """Positions of the test: {'seen', 'result', 'mask'}."""
    raise NotImplementedError

  def facts(self) -> dict[str, Any]:
    """For eval.json."""
    raise NotImplementedError

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    del key, train
    value, result = self.board(variables, batch['seen']), batch['result']
    values = {'loss': jnp.square(result - value), 'winner': value * result > 0}
    metrics = metrics_of(values, batch['mask'])
    total, weight = metrics['loss']
    return total / weight, ({}, metrics)

  def evaluator(self, variables: Variables, game: Go | None = None) -> Evaluate:
    """All of AlphaGo, where there are runs of both policies; game: by other rules, if given."""
    mine, weights = self.board.under(game), None
    policy = functools.partial(alike, mine)
    if self.policy:
      board, their = network_of(self.policy, 'task.policy', self.board.size, 'planes')
      policy = functools.partial(board.under(game).policy, their)
    if self.rollout:
      _, their = network_of(self.rollout, 'task.rollout', self.board.size, 'patterns')
      weights = their['params']['weights']
    return mixed.evaluator(
      mine.game, policy, functools.partial(value, mine, variables), weights, self.mixing
    )

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Of the members' mean values."""

    @jax.jit
    def compare(members: Sequence[Variables], batch: Batch) -> tuple[Array, ...]:
      values = jnp.stack([self.board(member, batch['seen']) for member in members])
      return values.mean(0), batch['result'], batch['mask']

    columns = [jax.device_get(compare(tuple(members), x)) for x in self.batches(mesh)]
    value, result, mask = (np.concatenate(x) for x in zip(*columns, strict=True))
    value, result = value[mask > 0], result[mask > 0]
    found = {
      'test/loss': float(np.mean(np.square(result - value))),
      'test/winner': float(np.mean(value * result > 0)),
    }
    return found, self.facts(), {}


class GoValue(Learner, Values):
  """The task `go_value`: values of positions of recorded games; see `Values`.

  Its data are to have `with_result` and, so that a network does not learn games by heart,
  `positions='one'`.
  """

  views = VIEWS

  def __init__(
    self,
    model: Mapping[str, Any],
    data: GoGames,
    *,
    policy: str = '',
    rollout: str = '',
    mixing: float = 0.5,
  ):
    super().__init__(model, data)
    if not getattr(data, 'with_result', True):
      raise UserError('data.with_result=False: values are learnt from games that say who won')
    self.search_with(policy, rollout, mixing)


def value(board: Board, variables: Variables, states: State) -> Array:
  """float32 `[B]`, for the player to move."""
  return board(variables, board.see(states))


def alike(board: Board, states: State) -> Array:
  """Logits `[B, A]`: all sensible moves have equal chances."""
  logits = jnp.where(board.sensible(states), 0.0, NONSENSE)
  return jnp.pad(logits, ((0, 0), (0, 1)), constant_values=PASS)
