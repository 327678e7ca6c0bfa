"""The source of batches that plays for them: environments and replay are in its carry.

For a batch each device acts in its own environments, writes what happens into its rings, samples
its part of the batch, and values it by the target network, all in one program. A batch has the
examples of several updates (`Task.updates_per_step`): actions and targets are of the networks as
they are before the first of these.

Nothing in the carry depends on the number of devices, so any number that divides the environments
goes on.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from data.environments import Environment, HostEnvironment
from train import mesh as mesh_lib
from train.errors import UserError
from train.task import Batch, Programs, Variables
from train.tasks.dqn import actor, targets
from train.tasks.dqn import replay as replay_lib
from train.tasks.dqn.actor import Agents
from train.tasks.dqn.replay import Experience, Layout
from train.tasks.dqn.settings import EpsilonSettings

GIB = 2**30


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AgentCarry:
  """What is carried between training steps.

  actors, replay: `[E S, ...]`, sharded as a batch; actors: `Agents`, or what a host's source keeps.
  target: the variables of the target network.
  """

  actors: Any
  replay: Experience
  target: Any


@dataclasses.dataclass(frozen=True)
class ExperienceSizes:
  """How much is played, kept and sampled, over all devices.

  num_envs: E, of each seed.
  rows: T, that each environment writes for a batch.
  warmup: rows before the first batch, a multiple of T.
  batch_size: examples of a batch, of each seed.
  target_every: batches between two copies to the target network.
  """

  num_envs: int
  rows: int
  warmup: int
  batch_size: int
  target_every: int


class ExperienceSource:
  """Batches of `replay.sample`, whose leaves are `[B, S, ...]`, with metrics of play."""

  def __init__(
    self,
    environment: Environment | HostEnvironment,
    layout: Layout,
    sizes: ExperienceSizes,
    exploration: EpsilonSettings,
    apply: Callable[[Variables, Array], Array],
    shapes: Any,
    mesh: Mesh,
    *,
    double: bool,
    clip: bool,
  ):
    """Compiles nothing yet.

    Args:
      environment: that is acted in.
      layout: of the replay.
      sizes: of what is played, kept and sampled.
      exploration: epsilon.
      apply: (variables, inputs `[N, S, ...]`) -> Q values `[N, S, A]`.
      shapes: of the variables.
      mesh: over whose batch axes the environments are spread.
      double: see `targets.td_targets`.
      clip: whether rewards are clipped to [-1, 1] in targets.
    """
    self.environment: Any = environment
    self.layout, self.sizes, self.exploration = layout, sizes, exploration
    self.apply, self.shapes, self.mesh = apply, shapes, mesh
    self.double, self.clip = double, clip
    self.shards = mesh_lib.batch_shards(mesh)
    rows, whole = mesh_lib.batch_sharding(mesh), mesh_lib.replicated(mesh)
    self._step = jax.jit(self._next, donate_argnums=(0, 1), out_shardings=(rows, rows, rows))
    self._copy = jax.jit(lambda x: jax.tree.map(jnp.copy, x), out_shardings=whole)

  def init(self, key: Array) -> AgentCarry:
    """Returns environments at their beginnings and an empty replay, made on the devices.

    Raises:
      UserError: the replay does not fit into their memory.
    """
    rings, capacity = self.sizes.num_envs * self.layout.seeds, self.layout.length
    check_memory(self.layout.bytes(rings), self.mesh, capacity * self.sizes.num_envs)
    return jax.jit(self._init, out_shardings=self._places())(key)

  def _places(self) -> Any:
    rows: Any = mesh_lib.batch_sharding(self.mesh)
    whole: Any = mesh_lib.replicated(self.mesh)
    return AgentCarry(rows, rows, whole)

  def _init(self, key: Array) -> AgentCarry:
    rings = self.sizes.num_envs * self.layout.seeds
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rings))
    return AgentCarry(
      self._agents(keys),
      replay_lib.init(self.layout, rings),
      jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.shapes),
    )

  def _agents(self, keys: Array) -> Any:
    return actor.init(self.environment, self.layout.history, keys)

  def next(self, carry: AgentCarry, step: int, variables: Variables) -> tuple[AgentCarry, Batch]:
    """Returns the carry and the batch of `step`, for which it plays; does not wait for devices."""
    new = nn.unbox(dict(variables))
    due = step % self.sizes.target_every == 0
    target = self._copy(new) if due else carry.target
    actors, replay, batch = self._step(carry.actors, carry.replay, new, target)
    return AgentCarry(actors, replay, target), batch

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    """Returns the program that plays, and the abstract batch."""
    fresh = jax.eval_shape(lambda: self._init(jax.random.key(0)))
    carry: Any = mesh_lib.abstract(fresh, self._places())
    traced = self._step.trace(carry.actors, carry.replay, dict(variables), carry.target)
    batch = mesh_lib.abstract(traced.out_info[-1], mesh_lib.batch_sharding(self.mesh))
    return {'play': traced}, batch

  # -------- compiled --------

  def _next(self, actors: Agents, replay: Experience, variables: Variables, target: Variables):
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    spread = jax.shard_map(
      self._on_device,
      mesh=self.mesh,
      in_specs=(rows, rows, whole, whole),
      out_specs=rows,
      check_vma=False,
    )
    actors, replay, batch, play = spread(actors, replay, variables, target)
    # Each example carries an equal share of what is known of the whole step, `[B, S]`.
    share = jnp.full((self.sizes.batch_size, 1), 1 / self.sizes.batch_size)
    play = jax.tree.map(lambda x: x.sum(0, keepdims=True) * share, play)
    return actors, replay, {**batch, 'play': play}

  def _on_device(self, actors: Agents, replay: Experience, variables: Variables, target: Variables):
    """Plays and samples on one device; metrics get an axis of devices `[1]`."""
    sizes, count = self.sizes, actors.count[0]
    # The first batch waits for the warm-up.
    rounds = jnp.where(count == 0, sizes.warmup // sizes.rows, 1)
    zeros = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype),
      jax.eval_shape(lambda: self._round(variables, actors, replay)[2]),
    )

    def one_more(_, carry):
      actors, replay, sums = carry
      actors, replay, new = self._round(variables, actors, replay)
      return actors, replay, jax.tree.map(jnp.add, sums, new)

    actors, replay, play = lax.fori_loop(0, rounds, one_more, (actors, replay, zeros))
    key = jax.random.fold_in(jax.random.fold_in(actors.key[0], 2**31 - 2), actors.count[0])
    replay, batch = self._sample(replay, key, actors.count[0], variables, target)
    return actors, replay, batch, jax.tree.map(lambda x: x[None], play)

  def _round(self, variables: Variables, actors: Agents, replay: Experience):
    """Returns actors and replay after T rows, and sums of what is known of play."""
    count, seeds = actors.count[0], self.layout.seeds

    def q_values(inputs: Array) -> Array:
      q = self.apply(variables, inputs.reshape(-1, seeds, *inputs.shape[1:]))
      return q.reshape(-1, q.shape[-1])

    def one(actors: Agents, _: None):
      return self._act(q_values, actors)

    actors, (rows, play) = lax.scan(one, actors, None, self.sizes.rows)
    if self.clip:
      rows = dataclasses.replace(rows, reward=jnp.clip(rows.reward, -1, 1))
    replay = replay_lib.write(self.layout, replay, rows, count)
    return actors, replay, jax.tree.map(lambda x: x.sum(0), play)

  def _act(self, q_values: Callable, actors: Agents):
    """Returns the actors after one row, and that row with what is known of play: `[S]` pairs."""
    seeds, epsilon = self.layout.seeds, self.epsilon(actors.count[0])
    actors, row, ended = actor.step(self.environment, q_values, actors, epsilon)

    def by_seed(x: Array) -> Array:
      return x.reshape(-1, seeds).astype(jnp.float32).sum(0)

    number, weight = by_seed(ended.now), jnp.full(seeds, 1 / (self.shards * self.sizes.rows))
    frames = (actors.count[0] * self.sizes.num_envs).astype(jnp.float32)
    play = {
      'return': (by_seed(ended.total), number),
      'length': (by_seed(ended.length), number),
      'epsilon': (epsilon * weight, weight),
      'frames': (frames * weight, weight),
      'episodes_a_step': (number, weight),
      'frames_a_step': (by_seed(jnp.ones_like(ended.total)), weight),
    }
    return actors, (row, play)

  def epsilon(self, count: Any) -> Any:
    """Returns the probability of a random action after so many rows of each environment."""
    frames = (count - self.sizes.warmup) * self.sizes.num_envs
    share = jnp.clip(frames / self.exploration.frames, 0.0, 1.0)
    return 1.0 - share * (1.0 - self.exploration.final)

  def _sample(self, replay: Experience, key: Array, count: Array, variables: Any, target: Any):
    """Returns the replay, perhaps with new priorities, and this device's part of a batch."""
    number = self.sizes.batch_size // self.shards
    sample = replay_lib.sample(self.layout, replay, key, number, count)
    network, frozen = (functools.partial(self.apply, x) for x in (variables, target))
    value = targets.td_targets(sample, network, frozen, double=self.double)
    inputs = actor.stacked(sample.frames, 2)
    if self.layout.priority:
      error = targets.chosen(network(inputs), sample.action) - value
      replay = replay_lib.reprioritise(self.layout, replay, sample, error)
    batch = {'inputs': inputs, 'action': sample.action, 'target': value}
    return replay, {**batch, 'mask': sample.mask, 'weight': sample.weight}


def check_memory(needed: int, mesh: Mesh, frames: int) -> None:
  """Raises UserError if a replay of so many bytes, shared by the mesh's devices, does not fit.

  frames: its capacity, for the error.
  """
  device = mesh.local_devices[0]
  if device.platform == 'cpu':
    have = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  else:
    needed = -(-needed // mesh_lib.batch_shards(mesh))
    have = (device.memory_stats() or {}).get('bytes_limit', needed)
  if needed > have:
    raise UserError(
      f'task.replay.capacity={frames}: needs {needed / GIB:,.1f} GiB of the {have / GIB:,.1f} GiB'
      f' of {device.device_kind}; choose a smaller one'
    )
