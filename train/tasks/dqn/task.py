"""Deep Q-networks: a network learns what each action is worth from what it has seen itself do."""

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

import models
import models.summary
from data.environments import ENVIRONMENTS
from data.selfplay import SelfPlayData
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.task import Batch, Evaluation, Metrics, Source, Task, Variables
from train.tasks import matches
from train.tasks.dqn import actor, evaluate, host, targets
from train.tasks.dqn.replay import Layout
from train.tasks.dqn.settings import (
  LONGEST,
  EpisodeSettings,
  EpsilonSettings,
  ExperienceSettings,
  TargetSettings,
  at_least,
  require,
)
from train.tasks.dqn.source import ExperienceSizes, ExperienceSource
from train.workdir import free_path, write_bytes


class DQN(Task):
  """The task `dqn` (Mnih et al. 2015, algorithm 1).

  Several seeds are trained at once: their parameters are stacked along a first axis `[S, ...]`, and
  none sees anything of another. Text such as 'breakout(sticky_prob=0)' names an environment and
  changes its defaults.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: SelfPlayData,
    *,
    environment: str = 'cartpole',
    seeds: int = 1,
    num_envs: int = 16,
    frames_per_update: int = 4,
    updates_per_step: int = 16,
    history: int = 1,
    clip_rewards: bool = True,
    exploration: EpsilonSettings = EpsilonSettings(),  # noqa: B008 these are frozen
    replay: ExperienceSettings = ExperienceSettings(),  # noqa: B008
    target: TargetSettings = TargetSettings(),  # noqa: B008
    evaluation: EpisodeSettings = EpisodeSettings(),  # noqa: B008
  ):
    """Builds environment and network, and checks that all fits together.

    Args:
      model: the config's section, of a network with Q values.
      data: says how many transitions an update learns from.
      environment: of `data.environments.ENVIRONMENTS`.
      seeds: S, trained at once with weights and experience of their own.
      num_envs: environments in parallel of each seed, over all devices.
      frames_per_update: steps of all environments of a seed together between two updates.
      updates_per_step: updates that a step of training makes in one program. Actions and targets
        are of the weights before the first of these.
      history: observations that the network sees at once.
      clip_rewards: whether it learns from rewards clipped to [-1, 1]; scores are never clipped.
      exploration: epsilon.
      replay: what is kept and how it is sampled.
      target: what a transition is worth.
      evaluation: what is measured.

    Raises:
      UserError: two of these do not fit together, or a name is in no table.
    """
    for key, value in {
      'seeds': seeds,
      'num_envs': num_envs,
      'frames_per_update': frames_per_update,
      'updates_per_step': updates_per_step,
      'history': history,
    }.items():
      at_least(key, value, 1)
    require('history', history, history <= LONGEST, f'must be at most {LONGEST}')
    self.data, self.seeds, self.updates_per_step = data, seeds, updates_per_step
    self.environment: Any = matches.build_spec(environment, ENVIRONMENTS, 'task.environment')
    self.history, self.clip, self.exploration = history, clip_rewards, exploration
    self.target, self.evaluation = target, evaluation
    with user_errors():
      self.model = models.build(**{**model, 'num_actions': self.environment.num_actions})
    frames = frames_per_update * updates_per_step
    product = f'frames_per_update={frames_per_update} x updates_per_step={updates_per_step}'
    rule = f'must divide {frames}, the frames between two steps ({product})'
    require('num_envs', num_envs, frames % num_envs == 0, rule)
    rows, length = frames // num_envs, replay.capacity // num_envs
    rule = f'must be a multiple of {frames}, the frames of a step'
    require('replay.capacity', replay.capacity, replay.capacity % frames == 0, rule)
    least = (history + target.n_step) * num_envs
    rule = f'must be at least {least}, num_envs x (history + target.n_step)'
    require('replay.capacity', replay.capacity, replay.capacity >= least, rule)
    rule = f'must be a multiple of updates_per_step={updates_per_step}'
    require('target.every', target.every, target.every % updates_per_step == 0, rule)
    warmup = max(-(-replay.min_size // num_envs), target.n_step + 1)
    self.sizes = ExperienceSizes(
      num_envs=num_envs,
      rows=rows,
      warmup=-(-warmup // rows) * rows,
      batch_size=self.batch_size,
      target_every=target.every // updates_per_step,
    )
    self.layout = Layout(
      observation=self.environment.observation,
      length=length,
      seeds=seeds,
      history=history,
      n_step=target.n_step,
      discount=target.discount,
      priority=replay.priority,
      correction=replay.correction,
    )

  # -------- what the loop asks for --------

  @property
  def batch_size(self) -> int:
    """Returns the transitions of a step for each seed, over all devices."""
    return self.data.batch_size * self.updates_per_step

  @property
  def throughput(self) -> tuple[str, int]:
    """Returns what the reported rates count, and how many of it a step has."""
    return 'transitions', self.batch_size * self.seeds

  def summary(self) -> str:
    """Returns the table of the networks' parameters."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    """Closes the data."""
    self.data.close()

  def init(self, key: Array) -> Variables:
    """Returns fresh variables of S networks."""
    inputs = jnp.zeros((1, *self.input_shape), self.layout.observation.dtype)
    make = jax.vmap(lambda key: mesh_lib.unbox(dict(self.model.init(key, inputs))))
    return make(jax.random.split(key, self.seeds))

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Returns the shape of what the network sees at once."""
    *lead, last = self.layout.observation.shape
    return (*lead, last * self.history)

  def apply(self, variables: Variables, inputs: Array) -> Array:
    """Returns each seed's Q values `[N, S, A]` of its inputs `[N, S, ...]`."""
    of_seed: Callable[..., Any] = self.model.apply
    if inputs.shape[1] == 1:  # without an axis that products of one network need not have
      q = of_seed(jax.tree.map(lambda x: x[0], dict(variables)), inputs[:, 0])
      return q[:, None]
    return jax.vmap(of_seed, (0, 1), 1)(dict(variables), inputs)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns Huber's loss of the TD errors, a mean over examples and a sum over seeds.

    So each seed's gradient is what it would be alone.
    """
    del key, train
    q = targets.chosen(self.apply(variables, batch['inputs']), batch['action'])
    error, mask = q - batch['target'], batch['mask']
    loss = targets.huber(error) * batch['weight'] * mask
    weight = mask.sum()
    metrics = {
      'loss': (loss.sum(), weight / self.seeds),
      'td': ((jnp.abs(error) * mask).sum(), weight),
      'q': ((q * mask).sum(), weight),
    }
    for name, (total, number) in batch['play'].items():
      of_seeds = total.sum(0), number.sum(0)  # [S]
      shared = name in ('epsilon', 'frames')
      scale = 1.0 if shared or not name.endswith('_a_step') else float(self.seeds)
      metrics[f'play_{name}'] = scale * of_seeds[0].sum(), of_seeds[1].sum()
      if self.seeds > 1 and name == 'return':
        for i in range(self.seeds):
          metrics[f'play_return_seed{i}'] = of_seeds[0][i], of_seeds[1][i]
    return loss.sum() / jnp.maximum(weight / self.seeds, 1e-9), ({}, metrics)

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the source that plays; raises UserError where devices cannot share environments."""
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; evals plays episodes')
    shards = mesh_lib.batch_shards(mesh)
    rule = f'must be a multiple of {shards}, the devices on the batch axes'
    require('num_envs', self.sizes.num_envs, self.sizes.num_envs % shards == 0, rule)
    shapes = jax.eval_shape(lambda: dict(self.init(jax.random.key(0))))
    make: Callable[..., Source] = ExperienceSource
    if self.environment.on_host:
      make = functools.partial(host.HostSource, seed=seed)
    return make(
      self.environment,
      self.layout,
      self.sizes,
      self.exploration,
      self.apply,
      shapes,
      mesh=mesh,
      double=self.target.double,
      clip=self.clip,
    )

  # -------- evaluations --------

  @property
  def metrics(self) -> Sequence[str]:
    """Returns what evaluations report."""
    own = [f'seed{i}/return' for i in range(self.seeds)] + ['eval/return_std']
    names = ['eval/return', 'eval/length', 'eval/epsilon', 'predicted/value', 'realised/value']
    return [*names, *own] if self.seeds > 1 else names

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns one evaluation for each group of `evaluate.figures`, all of the same episodes."""
    names = dict.fromkeys(name.partition('/')[0] for name in self.metrics)
    last: tuple[Any, Any] = None, None  # variables, and what was found of them

    def measure(name: str, variables: Variables) -> Mapping[str, float]:
      nonlocal last
      if last[0] is not variables:  # the first to ask plays for all
        last = variables, self._play(variables)
      return last[1][name]

    return {name: functools.partial(measure, name) for name in names}

  def _play(self, variables: Variables) -> dict[str, dict[str, float]]:
    settings, unboxed = self.evaluation, mesh_lib.unbox(dict(variables))
    if self.environment.on_host:
      episodes = self._on_host(unboxed)
    else:
      keys = jax.random.split(jax.random.key(1), (settings.episodes, self.seeds))
      episodes = jax.device_get(self._episodes(unboxed, keys))
    return evaluate.figures(episodes, settings.epsilon, self.environment)

  @functools.cached_property
  def _episodes(self) -> Callable:
    return jax.jit(
      lambda variables, keys: evaluate.play(
        self.environment,
        self.apply,
        variables,
        keys,
        history=self.history,
        epsilon=self.evaluation.epsilon,
        max_steps=self.evaluation.max_steps,
        discount=self.target.discount,
        clip=self.clip,
      )
    )

  def _on_host(self, variables: Variables) -> evaluate.MeasuredEpisodes:
    settings, shape = self.evaluation, (self.evaluation.episodes, self.seeds)
    player = host.HostPlayer(self.environment, math.prod(shape), self.history, seed=1)
    choose = functools.partial(self._choose, variables, settings.epsilon)
    found = host.episodes(player, choose, self.target.discount, self.clip, settings.max_steps)
    parts: dict[str, Any] = {name: x.reshape(shape) for name, x in found.items()}
    return evaluate.MeasuredEpisodes(**parts)

  @functools.cached_property
  def _choose(self) -> Callable:
    """Returns (variables, epsilon, frames `[R, H, ...]`, step) -> actions and largest Q, `[R]`."""

    def choose(variables: Variables, epsilon: Array, frames: Array, step: Array):
      inputs = actor.stacked(frames)
      q = self.apply(variables, inputs.reshape(-1, self.seeds, *inputs.shape[1:]))
      q = q.reshape(len(frames), -1)
      keys = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
      random = jax.random.randint(keys[0], (len(q),), 0, q.shape[-1])
      is_random = jax.random.uniform(keys[1], (len(q),)) < epsilon
      return jnp.where(is_random, random, q.argmax(-1)), q.max(-1)

    return jax.jit(choose)

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[Mapping[str, float], Mapping[str, Any], Mapping[str, np.ndarray]]:
    """Evaluates one run for the verb eval."""
    if len(members) > 1:
      raise UserError(f'{len(members)} workdirs: agents are evaluated one by one')
    found = self._play(members[0])
    metrics = {f'{name}/{key}': x for name, part in found.items() for key, x in part.items()}
    return metrics, {'episodes': self.evaluation.episodes * self.seeds}, {}

  def draw(self, variables: Variables, key: Array) -> Mapping[str, bytes]:
    """Returns 'episode.png', a moving picture of an episode of the first seed."""
    if not self.evaluation.preview:
      return {}
    recorded = self._recorded(variables, key, self.evaluation.epsilon)
    return {'episode.png': evaluate.moving_picture(self.environment, recorded)}

  def _recorded(self, variables: Variables, key: Array, epsilon: float) -> tuple[np.ndarray, ...]:
    """Returns observations, rewards and ends of the first steps of the first seed's agent."""
    unboxed = mesh_lib.unbox(dict(variables))
    if not self.environment.on_host:
      return jax.device_get(self._record(unboxed, key, epsilon))
    player = host.HostPlayer(
      self.environment, self.seeds, self.history, int(jax.random.bits(key) >> 1)
    )
    return host.record(player, functools.partial(self._choose, unboxed, epsilon), evaluate.SHOWN)

  @functools.cached_property
  def _record(self) -> Callable:
    return jax.jit(
      lambda variables, key, epsilon: evaluate.record(
        self.environment, self.apply, variables, key, history=self.history, epsilon=epsilon
      )
    )

  def sample(
    self, variables: Variables, folder: str, *, epsilon: float | None = None, seed: int = 0
  ) -> None:
    """Writes an episode as a moving picture, and says what it came to."""
    epsilon = self.evaluation.epsilon if epsilon is None else epsilon
    recorded = self._recorded(variables, jax.random.key(seed), epsilon)
    _, rewards, ended = recorded
    steps = int(ended.argmax()) + 1 if ended.any() else len(ended)
    os.makedirs(folder, exist_ok=True)
    path = free_path(os.path.join(folder, 'episode.png'))
    write_bytes(path, evaluate.moving_picture(self.environment, recorded))
    more = '' if ended.any() else ', which go on'
    print(f'{path}: return {rewards[:steps].sum():g} in {steps} steps{more}, epsilon {epsilon:g}')
