"""The RL policy of AlphaGo: REINFORCE by games against a pool of its own past.

Silver et al. 2016, Methods, 'Policy network: reinforcement learning'.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from data.selfplay import SelfPlayData
from mcts.alphago import episodes
from mcts.go import playouts, recorded
from train import mesh as mesh_lib
from train.errors import UserError
from train.task import Batch, Evaluation, Metrics, Programs, Source, Variables, evaluate
from train.tasks import matches, reading
from train.tasks.alphago.base import GoTask, check_at_least, mean_loss, metric_sums
from train.tasks.alphago.network import (
  EXCLUDED_LOGIT,
  POLICY_INPUTS,
  GoNetwork,
  load_policy,
)


class GoReinforce(GoTask):
  """The task `go_reinforce`: policy gradient with a game's outcome z, 1 or -1, as its reward.

  For every batch the learner plays `games` games, in half of them with black, against one opponent
  drawn from the pool. Both sample moves from their policies, among legal points that are no eyes of
  their own. Where the paper adds up the gradients of all moves of these games, a batch has a sample
  of them, drawn uniformly.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: SelfPlayData,
    *,
    size: int = 19,
    sl_policy: str = '',
    games: int = 128,
    pool_size: int = 20,
    pool_every: int = 500,
    match_games: int = 128,
  ):
    """Builds the network; no other run is opened yet.

    Args:
      model: the config's section.
      data: says how many moves a batch has.
      size: N of the board.
      sl_policy: workdir of a run of go_policy, whose parameters the RL policy begins from and which
        it is evaluated against; without one it begins anew and is evaluated against random play.
      games: played for a batch, over all devices.
      pool_size: opponents kept, the newest.
      pool_every: steps after which the learner's parameters join the pool.
      match_games: of the evaluation.

    Raises:
      UserError: if a number is too small or the model is no policy.
    """
    check_at_least(
      games=(games, 2),
      pool_size=(pool_size, 1),
      pool_every=(pool_every, 1),
      match_games=(match_games, 2),
    )
    self.data, self.network = data, GoNetwork(model, size, POLICY_INPUTS)
    self.games, self.pool_size, self.pool_every = games, pool_size, pool_every
    self.match_games, self.sl_policy = match_games, sl_policy

  # -------- what the loop asks for --------

  @property
  def throughput(self) -> tuple[str, int]:
    """Returns that rates count games, and how many of these a step plays."""
    return 'games', self.games

  def init(self, key: Array) -> Variables:
    """Returns the SL policy's parameters, or fresh ones.

    Where the run at `sl_policy` is gone these are right in shape alone, which is enough for a run
    that is restored.
    """
    fresh = dict(self.network.init(key))
    if self.sl_params is not None:
      fresh['params'] = meta.replace_boxed(fresh['params'], self.sl_params)
    return fresh

  @functools.cached_property
  def sl_params(self) -> Any:
    """Returns the parameters of the run at `sl_policy`, None if there is no run."""
    if not os.path.exists(os.path.join(self.sl_policy, 'config.json')):
      return None
    size, kind = self.network.size, self.network.input_kind
    with jax.ensure_compile_time_eval():  # the first to ask is `init`, which is traced
      _, variables = load_policy(self.sl_policy, 'task.sl_policy', size, kind)
    shapes = mesh_lib.unbox(jax.eval_shape(self.network.init, jax.random.key(0)))['params']
    if jax.tree.map(jnp.shape, variables['params']) != jax.tree.map(jnp.shape, shapes):
      raise UserError(
        f'task.sl_policy={self.sl_policy!r}: a network of other sizes; model must be the same'
      )
    return variables['params']

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the mean of -z log p(a | s), whose gradient is the paper's without a baseline."""
    del key, train
    logits = self.network(variables, batch['inputs'])
    log_p = jax.nn.log_softmax(jnp.where(batch['sensible'], logits, EXCLUDED_LOGIT))
    log_p_move = jnp.take_along_axis(log_p, batch['move'][:, None], axis=-1)[:, 0]
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    values = {'loss': -batch['result'] * log_p_move, 'entropy': entropy}
    loss, (extra, metrics) = mean_loss(values, batch['mask'])
    games = {name: batch[name] for name in ('won', 'turns')}
    return loss, (extra, {**metrics, **metric_sums(games, jnp.ones_like(batch['won']))})

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns batches of the learner's moves; see `OpponentPoolSource`."""
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; evals plays matches')
    self._check_divisible(mesh, 'games', self.games)
    source = OpponentPoolSource(self, mesh)
    if not self.sl_policy or self.sl_params is not None:
      return source
    rule = 'no run there; training begins from it'
    return reading.Lacking(source, UserError(f'task.sl_policy={self.sl_policy!r}: {rule}'))

  def _check_divisible(self, mesh: Mesh, name: str, games: int) -> None:
    shards = 2 * mesh_lib.batch_shards(mesh)
    if games % shards:
      raise UserError(f'task.{name}={games}: must be a multiple of {shards}, two for each device')

  # -------- evaluations --------

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns one match, 'sl_policy' or 'random': shares of games won, and their Elo difference."""
    self._check_divisible(mesh, 'match_games', self.match_games)
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    fixed = None if self.sl_params is None else {'params': self.sl_params}

    def play(keys: Array, variables: Variables) -> Array:
      random = functools.partial(playouts.random_moves, self.game)
      opponent = random if fixed is None else self.network.player(fixed)
      played = episodes.play(self.game, self.network.player(variables), opponent, keys)
      return played.result.reshape(2, -1).T  # with black, with white

    spread = jax.shard_map(play, mesh=mesh, in_specs=(rows, whole), out_specs=rows, check_vma=False)
    match = jax.jit(spread, out_shardings=mesh_lib.replicated(mesh))

    def evaluate(variables: Variables) -> dict[str, float]:
      keys = jax.random.split(jax.random.key(1), self.match_games)
      results = np.asarray(match(keys, nn.unbox(dict(variables))))
      if failed := int((~np.isfinite(results)).sum()):
        raise matches.no_answer('the network or its opponent', 'a game of the match', failed)
      return matches.rating(results)

    return {'random' if fixed is None else 'sl_policy': evaluate}

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Returns the metrics of `evals`; players are evaluated one by one."""
    if len(members) > 1:
      raise UserError(f'{len(members)} workdirs: players are evaluated one by one')
    return evaluate(self.evals(mesh), members[0]), {'match_games': self.match_games}, {}


class OpponentPoolSource:
  """The source of `go_reinforce`: the learner plays the pool, and its moves are the batch.

  The carry is {'key', 'pool'}: the pool is variables with a leading axis of `pool_size`,
  replicated, in which the parameters of step k * pool_every are in row k % pool_size.

  A batch is {'inputs' [B, ...], 'sensible' bool [B, N^2], 'move' int32 [B], 'result' float32 [B],
  z for the learner; 'mask' float32 [B], the weight of each move (`mesh.share_of`); and 'won',
  'turns' float32 [B]: the share of games won and their mean length, over the games of the same
  device}.
  """

  def __init__(self, task: GoReinforce, mesh: Mesh):
    self.task, self.mesh = task, mesh
    shapes = jax.eval_shape(lambda: task.network.init(jax.random.key(0)))
    self.shapes = mesh_lib.unbox(dict(shapes))
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    self.shards = mesh_lib.batch_shards(mesh)
    spread = jax.shard_map(
      self._on_device, mesh=mesh, in_specs=(rows, whole, whole), out_specs=rows, check_vma=False
    )
    self._play = jax.jit(lambda *x: self._next(spread, *x))
    replicated = mesh_lib.replicated(mesh)
    self._fresh = jax.jit(self._empty, out_shardings=replicated)
    self._add = jax.jit(_add, donate_argnums=0, out_shardings=replicated)

  def init(self, key: Array) -> dict[str, Any]:
    """Returns the carry with an empty pool."""
    return self._fresh(key)

  def _empty(self, key: Array) -> dict[str, Any]:
    count = self.task.pool_size
    pool = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), self.shapes)
    return {'key': key, 'pool': pool}

  def next(self, carry: dict[str, Any], step: int, variables: Variables):
    """Returns the carry, with the learner added to the pool when it is time, and a batch."""
    pool, age = carry['pool'], step // self.task.pool_every
    if step % self.task.pool_every == 0:
      pool = self._add(pool, dict(variables), age % self.task.pool_size)
    num_opponents = min(age + 1, self.task.pool_size)
    batch = self._play(pool, dict(variables), carry['key'], step, num_opponents)
    return {**carry, 'pool': pool}, batch

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    """Returns the program that plays, and the abstract batch."""
    fresh = jax.eval_shape(lambda: self._empty(jax.random.key(0)))
    carry = mesh_lib.abstract(fresh, mesh_lib.replicated(self.mesh))
    traced = self._play.trace(carry['pool'], dict(variables), carry['key'], 0, 1)
    batch = mesh_lib.abstract(traced.out_info, mesh_lib.batch_sharding(self.mesh))
    return {'play': traced}, batch

  # -------- compiled --------

  def _next(self, spread: Callable, pool: Any, variables: Variables, key: Array, step, num: Array):
    """Returns the batch of a step, against one of the first `num` opponents of the pool."""
    key = jax.random.fold_in(key, step)
    which = jax.random.randint(key, (), 0, num)
    opponent = jax.tree.map(lambda x: x[which], pool)
    return spread(jax.random.split(key, self.task.games), nn.unbox(variables), opponent)

  def _on_device(self, keys: Array, variables: Variables, opponent: Variables) -> Batch:
    task, game = self.task, self.task.game
    players = task.network.player(variables), task.network.player(opponent)
    played = episodes.play(game, *players, keys)
    count = task.batch_size // self.shards
    sampled = episodes.sample(game, played, jax.random.fold_in(keys[0], 0), count)
    states = recorded.states(game, sampled)
    turns = played.states.num_entries.astype(jnp.float32)
    means = {'won': (1 + played.result.mean()) / 2, 'turns': turns.mean()}
    return {
      'inputs': task.network.inputs(states),
      'sensible': task.network.sensible(states),
      'move': sampled['move'],
      'result': sampled['result'],
      'mask': jnp.full(count, mesh_lib.share_of(sampled['among'][0])),
      **{name: jnp.full(count, mean) for name, mean in means.items()},
    }


def _add(pool: Any, variables: Variables, row: Array) -> Any:
  return jax.tree.map(lambda x, new: x.at[row].set(new), pool, variables)
