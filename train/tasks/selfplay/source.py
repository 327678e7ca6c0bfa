"""The source of batches that plays them itself: games, replay and counters are in its carry.

Each device plays environments of its own with the variables that training has come to, keeps their
positions, and samples its part of the batch from these (`_on_device`). Devices communicate only in
the metrics and the calibration of resignation, after all have played.

Nothing in the carry depends on the number of devices: an environment has its games, its ring and
its key, and all environments have made as many moves. So any number that divides theirs goes on.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mcts.game import Game
from mcts.selfplay import actor, resignation
from mcts.selfplay import replay as replay_lib
from mcts.selfplay.actor import Actors
from mcts.selfplay.metrics import Metrics
from mcts.selfplay.replay import Replay
from mcts.selfplay.resignation import Calibration
from mcts.selfplay.settings import SelfPlay
from train import mesh as mesh_lib
from train.task import Batch, Programs, Variables
from train.tasks.matches import Match
from train.tasks.selfplay.loss import calibration_error


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Carry:
  """Self-play state carried between training steps.

  actors, replay: pytrees `[E, ...]`, sharded as a batch.
  calibration: of resignation.
  key: for what all devices draw alike.
  snapshot, snapshot_step: the variables as they were before that step (int32): an opponent.
  best: with a gate the variables that play, else ().
  pool: with an opponent pool the variables of K earlier steps, `[K, ...]`, else ().
  """

  actors: Actors
  replay: Replay
  calibration: Calibration
  key: Array
  snapshot: Any
  snapshot_step: Array
  best: Any
  pool: Any


@dataclasses.dataclass(frozen=True)
class PlaySizes:
  """How much is played, kept and sampled, over all devices.

  num_envs: games in parallel, E.
  moves_per_step: that each makes for a batch.
  replay_length: positions kept of each environment.
  warmup_moves: that each environment makes before the first batch; more if no game has ended.
  initial_window: see `replay.window_plies`.
  batch_size: positions of a batch.
  snapshot_every: steps between two copies of the variables, for `Carry.snapshot` and the pool.
  pool_size: K, 0 without opponents.
  """

  num_envs: int
  moves_per_step: int
  replay_length: int
  warmup_moves: int
  initial_window: int
  batch_size: int
  snapshot_every: int
  pool_size: int = 0


@dataclasses.dataclass(frozen=True)
class Gate:
  """New variables play once they have beaten those that do (Silver et al. 2017, 'Evaluator').

  match: of the new variables against the others.
  every: steps between two matches.
  threshold: the share of points that is to be exceeded.
  """

  match: Match
  every: int
  threshold: float

  def choose(self, best: Variables, new: Variables, results: Array) -> Variables:
    """Returns the variables that play on, given the new ones' `results` `[P, 2]`.

    New ones without an answer, whose results are -inf, never do.
    """
    wins = (1 + results.mean()) / 2 > self.threshold
    return jax.tree.map(lambda new, old: jnp.where(wins, new, old), new, best)


class PlaySource:
  """Batches of `replay.sample`, with metrics of the games of the step as 'play'."""

  def __init__(
    self,
    game: Game,
    settings: SelfPlay,
    sizes: PlaySizes,
    apply: Callable[[Variables, Array], tuple[Array, Array]],
    abstract: Any,
    mesh: Mesh,
    on_snapshot: Callable[[Any, Array], None],
    gate: Gate | None = None,
  ):
    """Compiles nothing yet.

    Args:
      game: that is played.
      settings: of self-play.
      sizes: of what is played, kept and sampled.
      apply: (variables, planes) -> logits and values.
      abstract: the variables' shapes, boxed with the logical names of their axes.
      mesh: over whose batch axes the environments are spread.
      on_snapshot: called with the snapshot and its step for each batch, so that evaluations know it
        after a resume, too.
      gate: which variables play, where that are not always the newest.
    """
    self.game, self.settings, self.sizes, self.apply = game, settings, sizes, apply
    self.mesh, self.on_snapshot, self.gate = mesh, on_snapshot, gate
    self.shapes = mesh_lib.unbox(abstract)
    self.shardings = mesh_lib.shardings(abstract, mesh)
    self.shards = mesh_lib.batch_shards(mesh)
    rows, whole = mesh_lib.batch_sharding(mesh), mesh_lib.replicated(mesh)
    places = rows, rows, whole, rows  # of actors, replay, calibration, batch
    self._step = jax.jit(self._next, donate_argnums=(0, 1), out_shardings=places)
    self._copy = jax.jit(lambda x: jax.tree.map(jnp.copy, x), out_shardings=self.shardings)
    self._pool_shardings = jax.tree.map(_stacked, self.shardings) if sizes.pool_size else ()
    self._put = jax.jit(_put, donate_argnums=0, out_shardings=self._pool_shardings)
    if gate is not None:
      self._choose = jax.jit(gate.choose, out_shardings=self.shardings)

  def init(self, key: Array) -> Carry:
    """Returns games before their first moves and an empty replay, made in place on the devices."""
    return jax.jit(self._init, out_shardings=self._places())(key)

  def _places(self) -> Any:
    """Returns the shardings of a carry, whose fields stand for all that is in them."""
    rows: Any = mesh_lib.batch_sharding(self.mesh)
    whole: Any = mesh_lib.replicated(self.mesh)
    best = () if self.gate is None else self.shardings
    places = Carry(rows, rows, whole, whole, self.shardings, whole, best, self._pool_shardings)
    return places

  def _init(self, key: Array) -> Carry:
    sizes = self.sizes
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(sizes.num_envs))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.shapes)
    pool = jax.tree.map(lambda x: jnp.zeros((sizes.pool_size, *x.shape), x.dtype), zeros)
    return Carry(
      actors=actor.init(self.game, self.settings, keys),
      replay=replay_lib.init(self.game, sizes.num_envs, sizes.replay_length, self._aux_shapes()),
      calibration=resignation.init(),
      key=jax.random.fold_in(key, sizes.num_envs),
      snapshot=zeros,
      snapshot_step=jnp.int32(-1),
      best=() if self.gate is None else zeros,
      pool=pool if sizes.pool_size else (),
    )

  def _aux_shapes(self) -> Any:
    """Returns shapes and dtypes of one game's auxiliary targets, {} without."""
    if not self.settings.aux_targets or self.game.aux_targets is None:
      return {}
    return dict(jax.eval_shape(self.game.aux_targets, self.game.init()))

  def next(self, carry: Carry, step: int, variables: Variables) -> tuple[Carry, Batch]:
    """Returns the carry and the batch of `step`, for which it plays; does not wait for devices."""
    snapshot, snapshot_step, pool = carry.snapshot, carry.snapshot_step, carry.pool
    snapshots, since = divmod(step, self.sizes.snapshot_every)
    if since == 0:
      new = nn.unbox(dict(variables))
      snapshot = self._copy(new)
      snapshot_step = jax.device_put(jnp.int32(step), mesh_lib.replicated(self.mesh))
      if self.sizes.pool_size:
        pool = self._put(pool, new, snapshots % self.sizes.pool_size)
    self.on_snapshot(snapshot, snapshot_step)
    best = self._best(carry.best, step, variables)
    playing = variables if self.gate is None else best
    actors, replay, calibration, batch = self._step(
      carry.actors, carry.replay, carry.calibration, carry.key, playing, pool, snapshots
    )
    new_carry = Carry(actors, replay, calibration, carry.key, snapshot, snapshot_step, best, pool)
    return new_carry, batch

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    """Returns the program that plays, and the abstract batch."""
    fresh = jax.eval_shape(lambda: self._init(jax.random.key(0)))
    carry: Any = mesh_lib.abstract(fresh, self._places())
    traced = self._step.trace(
      carry.actors, carry.replay, carry.calibration, carry.key, variables, carry.pool, 0
    )
    batch = mesh_lib.abstract(traced.out_info[-1], mesh_lib.batch_sharding(self.mesh))
    return {'play': traced}, batch

  def _best(self, best: Any, step: int, variables: Variables) -> Any:
    """Returns the variables that play from `step` on, where there is a gate."""
    if self.gate is None or step % self.gate.every:
      return best
    new = nn.unbox(dict(variables))
    if step == 0:
      return self._copy(new)
    return self._choose(best, new, self.gate.match.play(new, best, step))

  # -------- compiled --------

  def _next(self, actors, replay, calibration, key, variables, pool, snapshots):
    opponent = self._opponent(pool, key, snapshots)
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    play = jax.shard_map(
      self._on_device,
      mesh=self.mesh,
      in_specs=(rows, rows, whole, whole, whole, whole),
      out_specs=rows,
      check_vma=False,
    )
    actors, replay, batch, metrics, tallies = play(
      actors, replay, calibration.threshold, key, variables, opponent
    )
    not_lost, games = (x.sum(0) for x in tallies)
    new = resignation.update(self.settings.resignation, calibration, not_lost, games)
    # Metrics of a step have no axis of examples: each position carries an equal share of them, so
    # that they come out the same however the batch is cut into microbatches.
    share = jnp.full((self.sizes.batch_size,), 1 / self.sizes.batch_size)
    metrics = {name: [x.sum() * share for x in pair] for name, pair in metrics.items()}
    if self.settings.resignation.disabled_fraction:
      metrics['threshold'] = [calibration.threshold * share, share]
    # Of the whole batch: the absolute value of a sum depends on what is summed.
    error = calibration_error(batch['value'], batch['outcome'], batch['mask'])
    batch['calibration'] = [error * share, share]
    return actors, replay, new, {**batch, 'play': metrics}

  def _opponent(self, pool: Any, key: Array, snapshots: Array) -> Any:
    """Returns a network of the pool, drawn anew with each snapshot; () without a pool."""
    if not self.sizes.pool_size:
      return ()
    draw_key = jax.random.fold_in(jax.random.fold_in(key, 0), snapshots)
    held = jnp.minimum(snapshots + 1, self.sizes.pool_size)
    index = jax.random.randint(draw_key, (), 0, held)
    return jax.tree.map(lambda x: x[index], pool)

  def _on_device(self, actors, replay, threshold, key, variables, opponent):
    """Plays and samples on one device; metrics and tallies get an axis of devices `[1, ...]`."""
    sizes = self.sizes
    # The first step plays the warm-up, too.
    goal = jnp.maximum(actors.plies[0] + sizes.moves_per_step, sizes.warmup_moves)
    networks = [functools.partial(self.apply, x) for x in (variables, opponent) if x]

    def play(actors):
      apply, *others = networks
      return actor.play(self.game, self.settings, apply, actors, key, threshold, *others)

    def move(carry):
      actors, replay, sums = carry
      actors, transition, new = play(actors)
      return actors, replay_lib.write(replay, transition), jax.tree.map(jnp.add, sums, new)

    def to_goal(carry):
      *played, goal, _ = carry
      actors, replay, sums = lax.while_loop(lambda x: x[0].plies[0] < goal, move, tuple(played))
      # Once a first position is valid, one always is: a ring is longer than a game. All devices
      # play on until each has one, so that all environments have made as many moves.
      ready = replay_lib.valid(replay, self._window(replay)).any()
      ready = lax.pmin(ready.astype(jnp.int32), mesh_lib.BATCH_AXES)
      return actors, replay, sums, goal + 1, ready

    sums = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: play(actors)[2])
    )
    start = (actors, replay, sums, goal, jnp.int32(0))
    played = lax.while_loop(lambda carry: carry[-1] == 0, to_goal, start)
    actors, replay, (metrics, tallies) = played[:3]
    sample_key = jax.random.fold_in(jax.random.fold_in(actors.key[0], 0), actors.plies[0])
    window, count = self._window(replay), sizes.batch_size // self.shards
    batch = replay_lib.sample(self.game, replay, sample_key, count, window)
    batch['mask'] *= mesh_lib.share_of(replay_lib.valid(replay, window).sum())
    metrics = self._add_counters(metrics, replay, window)
    by_device = jax.tree.map(lambda x: x[None], (metrics, tallies))
    return actors, replay, batch, *by_device

  def _window(self, replay: Replay) -> Array:
    sizes = self.sizes
    plies, initial = replay.count[0], sizes.initial_window
    return replay_lib.window_plies(sizes.replay_length, sizes.num_envs, plies, initial)

  def _add_counters(self, metrics: Metrics, replay: Replay, window: Array) -> Metrics:
    """Adds counters, each with weight 1/num_shards: the weighted mean over devices is their sum."""
    weight = jnp.float32(1 / self.shards)
    valid = replay_lib.valid(replay, window).sum().astype(jnp.float32)
    return {
      **metrics,
      'games_a_step': (metrics['length'][1], weight),
      'moves_a_step': (metrics['entropy'][1], weight),
      'simulations_a_step': (metrics['simulations'][0], weight),
      'replay': (valid, weight),
    }


def _stacked(sharding: NamedSharding) -> NamedSharding:
  """Returns the sharding of an array with one more axis in front, which is not sharded."""
  return NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))


def _put(pool: Any, variables: Variables, index: Array) -> Any:
  return jax.tree.map(lambda x, new: x.at[index].set(new), pool, variables)
