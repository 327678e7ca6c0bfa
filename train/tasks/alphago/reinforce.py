"""A policy that learns from games against its past: AlphaGo's second stage (Silver et al. 2016)."""

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
from train.config import UserError
from train.task import Batch, Evaluation, Metrics, Source, Variables, evaluate
from train.tasks import matches
from train.tasks.alphago import positions
from train.tasks.alphago.positions import Board, OnBoard, metrics_of


class GoReinforce(OnBoard):
  """The task `go_reinforce`: REINFORCE with a game's outcome as its reward, 1 or -1.

  For every batch the learner plays `games` games, in half of them with black, against one of its
  pool: its parameters at each `pool_every`-th step, the newest `pool` of them. Both draw moves by
  their policies, among legal points that are no eyes of their own. Where the paper adds up the
  gradients of all moves of these games, a batch has so many of them, drawn with equal chances.

  start: the workdir of a run of go_policy, with whose parameters it begins, and against which it is
    evaluated, in `match_games` games; without it against random play.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: SelfPlayData,
    *,
    size: int = 19,
    start: str = '',
    games: int = 128,
    pool: int = 20,
    pool_every: int = 500,
    match_games: int = 128,
  ):
    least = (('games', games, 2), ('pool', pool, 1), ('pool_every', pool_every, 1))
    for name, value, lowest in (*least, ('match_games', match_games, 2)):
      if value < lowest:
        raise UserError(f'task.{name}={value}: must be at least {lowest}')
    self.data, self.board = data, Board(model, size, ('planes', 'patterns'))
    self.games, self.pool, self.pool_every = games, pool, pool_every
    self.match_games, self.start = match_games, start

  # -------- what the loop asks for --------

  @property
  def throughput(self) -> tuple[str, int]:
    return 'games', self.games

  def init(self, key: Array) -> Variables:
    """As the run in `start`; where that is gone, shapes for a run that is restored."""
    fresh = dict(self.board.init(key))
    if self.beginning is not None:
      fresh['params'] = meta.replace_boxed(fresh['params'], self.beginning)
    return fresh

  @functools.cached_property
  def beginning(self) -> Any:
    """Parameters of the run in `start`, None without one."""
    if not os.path.exists(os.path.join(self.start, 'config.json')):
      return None
    size, view = self.board.size, self.board.view
    with jax.ensure_compile_time_eval():  # the first to ask is `init`, which is traced
      _, variables = positions.network_of(self.start, 'task.start', size, view)
    shapes = mesh_lib.unbox(jax.eval_shape(self.board.init, jax.random.key(0)))['params']
    if jax.tree.map(jnp.shape, variables['params']) != jax.tree.map(jnp.shape, shapes):
      raise UserError(f'task.start={self.start!r}: a network of other sizes; model must be its')
    return variables['params']

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """-z log p(a): its gradient is the paper's with a baseline of zero (Methods, equation 4)."""
    del key, train
    logits = jnp.where(batch['sensible'], self.board(variables, batch['seen']), positions.NONSENSE)
    log_p = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_p, batch['move'][:, None], axis=-1)[:, 0]
    values = {
      'loss': -batch['result'] * chosen,
      'won': batch['won'],
      'entropy': -jnp.sum(jnp.exp(log_p) * log_p, axis=-1),
      'turns': batch['turns'],
    }
    metrics = metrics_of(values, jnp.ones_like(chosen))
    total, weight = metrics['loss']
    return total / weight, ({}, metrics)

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; evals plays matches')
    if self.start and self.beginning is None:
      raise UserError(f'task.start={self.start!r}: no run there; it is the one to begin with')
    self._check(mesh, 'games', self.games)
    return Games(self, mesh)

  def _check(self, mesh: Mesh, name: str, games: int) -> None:
    shards = 2 * mesh_lib.batch_shards(mesh)
    if games % shards:
      raise UserError(f'task.{name}={games}: must be a multiple of {shards}, two for each device')

  # -------- evaluations --------

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """'start', or 'random': the share of games won, and what that is in Elo."""
    self._check(mesh, 'match_games', self.match_games)
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    fixed = None if self.beginning is None else {'params': self.beginning}

    def play(keys: Array, variables: Variables) -> Array:
      random = functools.partial(playouts.random_moves, self.game)
      other = random if fixed is None else self.board.drawn(fixed)
      played = episodes.play(self.game, self.board.drawn(variables), other, keys)
      return played.result.reshape(2, -1).T  # with black, with white

    spread = jax.shard_map(play, mesh=mesh, in_specs=(rows, whole), out_specs=rows, check_vma=False)
    match = jax.jit(spread, out_shardings=mesh_lib.replicated(mesh))

    def evaluate(variables: Variables) -> dict[str, float]:
      keys = jax.random.split(jax.random.key(1), self.match_games)
      return matches.rating(np.asarray(match(keys, nn.unbox(dict(variables)))))

    return {'random' if fixed is None else 'start': evaluate}

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    if len(members) > 1:
      raise UserError(f'{len(members)} workdirs: players are evaluated one by one')
    return evaluate(self.evals(mesh), members[0]), {'match_games': self.match_games}, {}


class Games:
  """The source: batches of a policy's own moves. Its carry is a key and the pool of the past.

  {'seen', 'sensible': bool [B, N^2], 'move', 'result' for the learner, and of the games of a
  position's device the means 'won' and 'turns': float32 [B]}
  """

  def __init__(self, task: GoReinforce, mesh: Mesh):
    self.task, self.mesh = task, mesh
    shapes = jax.eval_shape(task.board.init, jax.random.key(0))
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
    return self._fresh(key)

  def _empty(self, key: Array) -> dict[str, Any]:
    count = self.task.pool
    pool = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), self.shapes)
    return {'key': key, 'pool': pool}

  def next(self, carry: dict[str, Any], step: int, variables: Variables):
    pool, age = carry['pool'], step // self.task.pool_every
    if step % self.task.pool_every == 0:
      pool = self._add(pool, dict(variables), age % self.task.pool)
    held = min(age + 1, self.task.pool)
    batch = self._play(pool, dict(variables), carry['key'], step, held)
    return {**carry, 'pool': pool}, batch

  # -------- compiled --------

  def _next(self, spread: Callable, pool: Any, variables: Variables, key: Array, step, held):
    key = jax.random.fold_in(key, step)
    which = jax.random.randint(key, (), 0, held)
    opponent = jax.tree.map(lambda x: x[which], pool)
    return spread(jax.random.split(key, self.task.games), nn.unbox(variables), opponent)

  def _on_device(self, keys: Array, variables: Variables, opponent: Variables) -> Batch:
    task, game = self.task, self.task.game
    players = task.board.drawn(variables), task.board.drawn(opponent)
    played = episodes.play(game, *players, keys)
    count = task.batch_size // self.shards
    drawn = episodes.sample(game, played, jax.random.fold_in(keys[0], 0), count)
    states = recorded.states(game, drawn)
    turns = played.states.num_entries.astype(jnp.float32)
    means = {'won': (1 + played.result.mean()) / 2, 'turns': turns.mean()}
    return {
      'seen': task.board.see(states),
      'sensible': task.board.sensible(states),
      'move': drawn['move'],
      'result': drawn['result'],
      **{name: jnp.full(count, mean) for name, mean in means.items()},
    }


def _add(pool: Any, variables: Variables, slot: Array) -> Any:
  return jax.tree.map(lambda x, new: x.at[slot].set(new), pool, variables)
