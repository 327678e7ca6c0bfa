"""The source of batches that plays them itself: games, replay and counters are in its carry.

Each device has slots of its own, plays them with the variables that training has come to, and draws
its part of the batch from what they have played. Devices talk only where the step is over.
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

from mcts.game import Game, beginnings
from mcts.selfplay import actor, resignation
from mcts.selfplay import replay as replay_lib
from mcts.selfplay.actor import Actors, SelfPlay
from mcts.selfplay.metrics import Stats
from mcts.selfplay.replay import Replay
from mcts.selfplay.resignation import Calibration
from train import mesh as mesh_lib
from train.task import Batch, Variables
from train.tasks.matches import Match


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Carry:
  """All that play goes on from.

  actors, replay: pytrees `[S, ...]`, sharded as a batch.
  calibration: of resignation; key: for what all devices draw alike.
  past, past_step: the variables as they were when that step (int32) began: an opponent.
  best: with a gate the variables that play, else ().
  pool: with rivals the variables of K earlier steps, `[K, ...]`, else ().
  """

  actors: Actors
  replay: Replay
  calibration: Calibration
  key: Array
  past: Any
  past_step: Array
  best: Any
  pool: Any


@dataclasses.dataclass(frozen=True)
class Amounts:
  """How much is played, kept and drawn, over all devices.

  slots: games at a time. moves: that each makes for a batch. length: positions kept of each slot.
  warmup: moves that each slot makes before the first batch; if no game is over by then, more.
  window: as `first` of `replay.window_plies`. batch: positions drawn. past: steps between two looks
  at the variables for `Carry.past`, and for the pool. pool: K of `Carry.pool`.
  """

  slots: int
  moves: int
  length: int
  warmup: int
  window: int
  batch: int
  past: int
  pool: int = 0


@dataclasses.dataclass(frozen=True)
class Gate:
  """New variables play once they have beaten those that do (Silver et al. 2017, 'Evaluator').

  match: of the new against the others; every: steps between two; share: of points that is to be
  exceeded; there 0.55 in 400 games, every 1,000 steps.
  """

  match: Match
  every: int
  share: float

  def choose(self, best: Variables, new: Variables, results: Array) -> Variables:
    """After a match with these `results` of the new ones, `[P, 2]`."""
    wins = (1 + results.mean()) / 2 > self.share
    return jax.tree.map(lambda new, old: jnp.where(wins, new, old), new, best)


class PlaySource:
  """Batches as of `replay.sample`, each also with 'play', figures of the games of this step.

  apply: (variables, planes) to logits and values. abstract: variables' shapes, boxed with the
  logical names of their axes. seen: told of `Carry.past` and its step at each batch. gate: says
  which variables play, where that are not always the newest.
  """

  def __init__(
    self,
    game: Game,
    settings: SelfPlay,
    amounts: Amounts,
    apply: Callable[[Variables, Array], tuple[Array, Array]],
    abstract: Any,
    mesh: Mesh,
    seen: Callable[[Any, Array], None],
    gate: Gate | None = None,
  ):
    self.game, self.settings, self.amounts, self.apply = game, settings, amounts, apply
    self.mesh, self.seen, self.gate = mesh, seen, gate
    self.shapes = mesh_lib.unbox(abstract)
    self.shardings = mesh_lib.shardings(abstract, mesh)
    self.shards = mesh_lib.batch_shards(mesh)
    rows, whole = mesh_lib.batch_sharding(mesh), mesh_lib.replicated(mesh)
    places = rows, rows, whole, rows  # of actors, replay, calibration, batch
    self._step = jax.jit(self._next, donate_argnums=(0, 1), out_shardings=places)
    self._copy = jax.jit(lambda x: jax.tree.map(jnp.copy, x), out_shardings=self.shardings)
    self._pooled = jax.tree.map(_behind_one_axis, self.shardings) if amounts.pool else ()
    self._put = jax.jit(_put, donate_argnums=0, out_shardings=self._pooled)
    if gate is not None:
      self._choose = jax.jit(gate.choose, out_shardings=self.shardings)

  def init(self, key: Array) -> Carry:
    rows: Any = mesh_lib.batch_sharding(self.mesh)
    whole: Any = mesh_lib.replicated(self.mesh)
    best = () if self.gate is None else self.shardings
    place = Carry(rows, rows, whole, whole, self.shardings, whole, best, self._pooled)
    return jax.jit(self._fresh, out_shardings=place)(key)

  def _fresh(self, key: Array) -> Carry:
    amounts = self.amounts
    slots = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(amounts.slots))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.shapes)
    several = jax.tree.map(lambda x: jnp.zeros((amounts.pool, *x.shape), x.dtype), nothing)
    return Carry(
      actors=actor.start(self.game, self.settings, slots),
      replay=replay_lib.start(self.game, amounts.slots, amounts.length, self._extras()),
      calibration=resignation.start(),
      key=jax.random.fold_in(key, amounts.slots),
      past=nothing,
      past_step=jnp.int32(-1),
      best=() if self.gate is None else nothing,
      pool=several if amounts.pool else (),
    )

  def _extras(self) -> Any:
    """Shapes of what is known of one game's end."""
    if not self.settings.ends:
      return {}
    ends = jax.eval_shape(lambda: actor.end_of(self.game, beginnings(self.game, 1)))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), ends)

  def next(self, carry: Carry, step: int, variables: Variables) -> tuple[Carry, Batch]:
    past, past_step, pool = carry.past, carry.past_step, carry.pool
    kept, since = divmod(step, self.amounts.past)
    if since == 0:
      new = nn.unbox(dict(variables))
      past = self._copy(new)
      past_step = jax.device_put(jnp.int32(step), mesh_lib.replicated(self.mesh))
      if self.amounts.pool:
        pool = self._put(pool, new, kept % self.amounts.pool)
    self.seen(past, past_step)
    best = self._best(carry.best, step, variables)
    player = variables if self.gate is None else best
    actors, replay, calibration, batch = self._step(
      carry.actors, carry.replay, carry.calibration, carry.key, player, pool, kept
    )
    return Carry(actors, replay, calibration, carry.key, past, past_step, best, pool), batch

  def _best(self, best: Any, step: int, variables: Variables) -> Any:
    if self.gate is None or step % self.gate.every:
      return best
    new = nn.unbox(dict(variables))
    if step == 0:
      return self._copy(new)
    return self._choose(best, new, self.gate.match.play(new, best, step))

  # -------- compiled --------

  def _next(self, actors, replay, calibration, key, variables, pool, kept):
    rival = self._rival(pool, key, kept)
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    play = jax.shard_map(
      self._on_device,
      mesh=self.mesh,
      in_specs=(rows, rows, whole, whole, whole, whole),
      out_specs=rows,
      check_vma=False,
    )
    actors, replay, batch, stats, tallies = play(
      actors, replay, calibration.threshold, key, variables, rival
    )
    wrong, given_up = (x.sum(0) for x in tallies)
    new = resignation.update(self.settings.resign, calibration, wrong, given_up)
    # Every position carries its share, so that a batch may be cut in any way.
    share = jnp.full((self.amounts.batch,), 1 / self.amounts.batch)
    stats = {name: [x.sum() * share for x in pair] for name, pair in stats.items()}
    if self.settings.resign.played_out:
      stats['threshold'] = [calibration.threshold * share, share]
    return actors, replay, new, {**batch, 'play': stats}

  def _rival(self, pool: Any, key: Array, kept: Array) -> Any:
    """One of the pool, another each time that the pool has grown; () if there is none."""
    if not self.amounts.pool:
      return ()
    chance = jax.random.fold_in(jax.random.fold_in(key, 0), kept)
    index = jax.random.randint(chance, (), 0, jnp.minimum(kept + 1, self.amounts.pool))
    return jax.tree.map(lambda x: x[index], pool)

  def _on_device(self, actors, replay, threshold, key, variables, rival):
    """Without a word to other devices: figures come with an axis of devices."""
    amounts = self.amounts
    goal = jnp.maximum(actors.plies[0] + amounts.moves, amounts.warmup)

    networks = [functools.partial(self.apply, x) for x in (variables, rival) if x]

    def play(actors):
      apply, *others = networks
      return actor.play(self.game, self.settings, apply, actors, key, threshold, *others)

    def going(carry):
      actors, replay, _ = carry
      # Once the first game is over there is something to learn from for good.
      return (actors.plies[0] < goal) | ~replay_lib.valid(replay, self._window(replay)).any()

    def move(carry):
      actors, replay, figures = carry
      actors, entry, new = play(actors)
      return actors, replay_lib.write(replay, entry), jax.tree.map(jnp.add, figures, new)

    figures = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype),
      jax.eval_shape(lambda: play(actors)[2]),
    )
    actors, replay, (stats, tallies) = lax.while_loop(going, move, (actors, replay, figures))
    draw_key = jax.random.fold_in(jax.random.fold_in(actors.key[0], 0), actors.plies[0])
    window, count = self._window(replay), amounts.batch // self.shards
    batch = replay_lib.sample(self.game, replay, draw_key, count, window)
    stats = self._count(stats, replay, window)
    by_device = jax.tree.map(lambda x: x[None], (stats, tallies))
    return actors, replay, batch, *by_device

  def _window(self, replay: Replay) -> Array:
    amounts = self.amounts
    return replay_lib.window_plies(amounts.length, amounts.slots, replay.count[0], amounts.window)

  def _count(self, stats: Stats, replay: Replay, window: Array) -> Stats:
    """With how much there is: one weight over all devices, so that sums are what is reported."""
    weight = jnp.float32(1 / self.shards)
    valid = replay_lib.valid(replay, window).sum().astype(jnp.float32)
    return {
      **stats,
      'games_a_step': (stats['length'][1], weight),
      'moves_a_step': (stats['entropy'][1], weight),
      'simulations_a_step': (stats['simulations'][0], weight),
      'replay': (valid, weight),
    }


def _behind_one_axis(sharding: NamedSharding) -> NamedSharding:
  return NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))


def _put(pool: Any, variables: Variables, index: Array) -> Any:
  return jax.tree.map(lambda x, new: x.at[index].set(new), pool, variables)
