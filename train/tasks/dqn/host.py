"""Experience of environments that run on the host, such as Atari's: the device waits for them.

The host steps the environments and hands the rows over; the replay, sampling and targets are those
of `source.py`. What the emulator knows is not in a checkpoint: a run that is resumed begins new
episodes, and so does not end in the same bits.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data.environments.atari import HostEnvironment
from train import mesh as mesh_lib
from train.errors import UserError
from train.task import Batch, Programs, Variables
from train.tasks.dqn import actor
from train.tasks.dqn import replay as replay_lib
from train.tasks.dqn.actor import Row
from train.tasks.dqn.replay import Experience
from train.tasks.dqn.source import AgentCarry, ExperienceSource


class HostPlayer:
  """R environments on the host, and the histories `[R, H, ...]` that their agents see.

  Attributes:
    total, length: returns and steps of the episodes under way, `[R]`.
    open_: bool `[R]`, whether the last step was no episode's last.
  """

  def __init__(self, environment: HostEnvironment, count: int, history: int, seed: int):
    self.environments = environment.open(count, seed)
    observation, info = self.environments.reset(seed=seed)
    shape = environment.observation.shape
    self.frames = np.zeros((count, history, *shape), np.uint8)
    self._see(observation, np.ones(count, bool))
    self.lives, self.open_ = info['lives'], np.ones(count, bool)
    self.total, self.length = np.zeros(count, np.float32), np.zeros(count, np.int32)

  def _see(self, observation: np.ndarray, anew: np.ndarray) -> None:
    self.frames = np.roll(self.frames, -1, 1)
    self.frames[anew] = 0
    self.frames[:, -1] = observation.reshape(self.frames[:, -1].shape)

  def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Acts once in each; returns the rows' fields, and which episodes ended with this step.

    A lost life is terminal for the target, for nothing that comes after it is this life's; the game
    goes on (Mnih et al. 2015).
    """
    valid, seen = self.open_, self.frames[:, -1]
    observation, reward, terminated, truncated, info = self.environments.step(action)
    terminal = valid & (terminated | (info['lives'] < self.lives))
    row = {
      'observation': seen,
      'action': action,
      'reward': np.where(valid, reward, 0).astype(np.float32),
      'terminal': terminal,
      'first': valid & (self.length == 0),
      'valid': valid,
    }
    self.total = np.where(valid, self.total + reward, 0).astype(np.float32)
    self.length = np.where(valid, self.length + 1, 0)
    self.lives, self.open_ = info['lives'], ~(valid & (terminated | truncated))
    self._see(observation, ~valid)
    return row, valid & ~self.open_


class HostSource(ExperienceSource):
  """Batches as those of `ExperienceSource`, of environments on the host."""

  def __init__(self, *args: Any, seed: int, **options: Any):
    super().__init__(*args, **options)
    if self.mesh.size > 1:
      raise UserError(
        f'{self.environment.name}: runs on the host of one device, and there are {self.mesh.size};'
        ' hide the others, as by CUDA_VISIBLE_DEVICES=0'
      )
    self.seed, self._written = seed, 0
    self._player: Any = None
    whole = mesh_lib.replicated(self.mesh)
    self._choose = jax.jit(self._actions)
    self._learn = jax.jit(self._from_rows, donate_argnums=0, out_shardings=whole)
    self._add = jax.jit(self._write, donate_argnums=0, out_shardings=whole)

  def _agents(self, keys: Array) -> Any:
    return {'key': keys[0], 'count': jnp.int32(0)}

  def _places(self) -> Any:
    return mesh_lib.replicated(self.mesh)

  def next(self, carry: AgentCarry, step: int, variables: Variables) -> tuple[AgentCarry, Batch]:
    """Returns the carry and the batch of `step`; waits for the environments."""
    sizes, new = self.sizes, nn.unbox(dict(variables))
    resumed = self._player is None
    if resumed:
      self._written = int(carry.actors['count'])
      rings = sizes.num_envs * self.layout.seeds
      self._player = HostPlayer(self.environment, rings, self.layout.history, self.seed + step)
    target = self._copy(new) if step % sizes.target_every == 0 else carry.target
    rounds = 1 if self._written else sizes.warmup // sizes.rows
    replay, played = carry.replay, []
    for _ in range(rounds):
      rows, play = self._play(new, carry.actors['key'])
      replay = self._add(replay, rows, jnp.int32(self._written), jnp.bool_(resumed))
      self._written, resumed = self._written + sizes.rows, False
      played.append(play)
    play = jax.tree.map(lambda *x: np.sum(x, 0), *played)
    count = jnp.int32(self._written)
    replay, batch = self._learn(replay, carry.actors['key'], count, new, target, play)
    return AgentCarry({**carry.actors, 'count': count}, replay, target), batch

  def _play(self, variables: Variables, key: Array) -> tuple[Row, Any]:
    """Returns T rows `[T, R, ...]` on the host, and what is known of play as `_act` has it."""
    player, seeds, rows, sums = self._player, self.layout.seeds, [], []
    for t in range(self.sizes.rows):
      epsilon = float(self.epsilon(np.int32(self._written + t)))
      action = self._choose(variables, player.frames, key, self._written + t, epsilon)
      row, ended = player.step(np.asarray(action))
      rows.append(row)

      def by_seed(x: np.ndarray, ended: np.ndarray = ended) -> np.ndarray:
        return np.where(ended, x, 0).reshape(-1, seeds).astype(np.float32).sum(0)

      number, weight = by_seed(np.ones(len(ended))), np.full(seeds, 1 / self.sizes.rows, np.float32)
      frames = np.float32((self._written + t) * self.sizes.num_envs)
      sums.append(
        {
          'return': (by_seed(player.total), number),
          'length': (by_seed(player.length), number),
          'epsilon': (epsilon * weight, weight),
          'frames': (frames * weight, weight),
          'episodes_a_step': (number, weight),
          'frames_a_step': (np.full(seeds, self.sizes.num_envs, np.float32), weight),
        }
      )
    stacked: dict[str, Any] = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Row(**stacked, value=jnp.zeros(())), jax.tree.map(lambda *x: np.sum(x, 0), *sums)

  # -------- compiled --------

  def _actions(self, variables: Variables, frames: Array, key: Array, count: Array, epsilon: Array):
    inputs, seeds = actor.stacked(frames), self.layout.seeds
    q = self.apply(variables, inputs.reshape(-1, seeds, *inputs.shape[1:]))
    q = q.reshape(len(frames), -1)
    explore, chance = jax.random.split(jax.random.fold_in(key, count))
    random = jax.random.randint(chance, (len(frames),), 0, self.environment.num_actions)
    is_random = jax.random.uniform(explore, (len(frames),)) < epsilon
    return jnp.where(is_random, random, q.argmax(-1))

  def _write(self, replay: Experience, rows: Row, count: Array, resumed: Array) -> Experience:
    """Writes rows; after a resume the last row of before is no transition into a new episode."""
    before = (count - 1) % self.layout.length
    keep = replay.valid[:, before] & ~resumed
    replay = dataclasses.replace(replay, valid=replay.valid.at[:, before].set(keep))
    if self.clip:
      rows = dataclasses.replace(rows, reward=jnp.clip(rows.reward, -1, 1))
    return replay_lib.write(self.layout, replay, rows, count)

  def _from_rows(self, replay: Experience, key: Array, count: Array, variables, target, play):
    key = jax.random.fold_in(jax.random.fold_in(key, 2**31 - 2), count)
    replay, batch = self._sample(replay, key, count, variables, target)
    share = jnp.full((self.sizes.batch_size, 1), 1 / self.sizes.batch_size)
    return replay, {**batch, 'play': jax.tree.map(lambda x: x[None] * share, play)}

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    """Raises UserError: what the host does cannot be compiled."""
    raise UserError(f'{self.environment.name}: runs on the host, and is not compiled')


def episodes(
  player: HostPlayer, choose: Any, discount: float, clip: bool, max_steps: int
) -> dict[str, np.ndarray]:
  """Plays the first episode of each environment.

  choose: (frames, step) -> actions and largest Q, `[R]`.

  Returns:
    As the fields of `evaluate.MeasuredEpisodes`, `[R]`.
  """
  count = len(player.open_)
  going = np.ones(count, bool)
  rewards: list[np.ndarray] = []
  values: list[np.ndarray] = []
  total, length = np.zeros(count), np.zeros(count, np.int32)
  while going.any() and len(rewards) < max_steps:
    action, value = (np.asarray(x) for x in choose(player.frames, len(rewards)))
    row, ended = player.step(action)
    rewards.append(np.where(going, row['reward'], 0))
    values.append(np.where(going, value, 0))
    total, length = total + rewards[-1], length + going
    going &= ~ended
  following, realised = np.zeros(count), np.zeros(count)
  for t, reward in reversed(list(enumerate(rewards))):
    following = (np.clip(reward, -1, 1) if clip else reward) + discount * following
    realised += np.where(t < length, following, 0)
  return {
    'total': total,
    'length': length,
    'predicted': np.sum(values, 0),
    'realised': realised,
  }


def record(
  player: HostPlayer, choose: Any, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the first environment's observations `[steps, ...]`, rewards, and where it ended."""
  seen, rewards, ends = [], [], []
  for step in range(steps):
    row, ended = player.step(np.asarray(choose(player.frames, step)[0]))
    seen.append(row['observation'][0])
    rewards.append(row['reward'][0])
    ends.append(ended[0])
    if ended[0]:
      break
  return np.stack(seen), np.array(rewards), np.array(ends)
