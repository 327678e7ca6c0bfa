"""The value network of AlphaGo, and the search with all its networks (Silver et al. 2016)."""

import dataclasses
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
from train.errors import UserError
from train.task import Batch, Batches, Metrics, Variables
from train.tasks.alphago.base import GoTask, RecordedGamesTask, mean_loss
from train.tasks.alphago.network import VALUE_INPUTS, GoNetwork, load_policy


@dataclasses.dataclass(frozen=True)
class EngineSettings:
  """What a search needs besides the value network; it may change after training.

  Attributes:
    policy: workdir of a run of go_policy or go_reinforce, whose network is the prior; without one
      all sensible moves have the same prior.
    rollout_policy: workdir of a run of go_policy with the model alphago_rollout; without one
      rollouts are random.
    mixing: lambda, the share of the rollout's outcome in a leaf's value, in [0, 1].
  """

  policy: str = ''
  rollout_policy: str = ''
  mixing: float = 0.5

  def __post_init__(self):
    if not 0 <= self.mixing <= 1:
      raise UserError(f'task.engine.mixing={self.mixing}: must be in [0, 1]')


DEFAULT_ENGINE = EngineSettings()


class ValueTask(GoTask):
  """A task that trains a value network, wherever its positions come from.

  The loss is the mean of (z - v)^2, z = 1 or -1 as the player to move won or lost (Silver et al.
  2016, Methods, 'Value network: regression'). The metric `winner` is the share of positions whose
  winner v's sign says.

  Attributes:
    engine: what the search of this run needs besides.
  """

  engine: EngineSettings

  def batches(self, mesh: Mesh) -> Batches:
    """Returns batches of the test positions: {'inputs', 'result', 'mask'}."""
    raise NotImplementedError

  def metadata(self) -> dict[str, Any]:
    """Returns what eval.json says of the test positions."""
    raise NotImplementedError

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns (z - v)^2, averaged over the batch."""
    del key, train
    value, result = self.network(variables, batch['inputs']), batch['result']
    values = {'loss': jnp.square(result - value), 'winner': value * result > 0}
    return mean_loss(values, batch['mask'])

  def evaluator(self, variables: Variables, game: Go | None = None) -> Evaluate:
    """Returns the evaluator of AlphaGo's search: prior, value network and rollouts."""
    network, rollout_weights = self.network.with_game(game), None
    prior = network.uniform_logits
    if self.engine.policy:
      policy, weights = load_policy(
        self.engine.policy, 'task.engine.policy', network.size, 'planes'
      )
      prior = functools.partial(policy.with_game(game).policy_logits, weights)
    if self.engine.rollout_policy:
      _, weights = load_policy(
        self.engine.rollout_policy, 'task.engine.rollout_policy', network.size, 'patterns'
      )
      rollout_weights = weights['params']['weights']
    value = functools.partial(values_of, network, variables)
    return mixed.evaluator(network.game, prior, value, rollout_weights, self.engine.mixing)

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Returns metrics of the ensemble's mean values."""

    @jax.jit
    def compare(members: Sequence[Variables], batch: Batch) -> tuple[Array, ...]:
      values = jnp.stack([self.network(member, batch['inputs']) for member in members])
      return values.mean(0), batch['result'], batch['mask']

    columns = [jax.device_get(compare(tuple(members), x)) for x in self.batches(mesh)]
    value, result, mask = (np.concatenate(x) for x in zip(*columns, strict=True))
    value, result = value[mask > 0], result[mask > 0]
    metrics = {
      'test/loss': float(np.mean(np.square(result - value))),
      'test/winner': float(np.mean(value * result > 0)),
    }
    return metrics, self.metadata(), {}


class GoValue(RecordedGamesTask, ValueTask):
  """The task `go_value`: a value network from recorded games; see `ValueTask`.

  Its data are to have `with_result` and, so that a network does not learn games by heart,
  `positions='one'`.
  """

  input_kinds = VALUE_INPUTS

  def __init__(
    self, model: Mapping[str, Any], data: GoGames, *, engine: EngineSettings = DEFAULT_ENGINE
  ):
    super().__init__(model, data)
    if not getattr(data, 'with_result', True):
      raise UserError('data.with_result=False: values are learnt from games that say who won')
    self.engine = engine


def values_of(network: GoNetwork, variables: Variables, states: State) -> Array:
  """Returns float32 `[B]` in (-1, 1): the value network's v, for the player to move."""
  return network(variables, network.inputs(states))
