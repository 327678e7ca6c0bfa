"""DQN of the cart-pole with a tiny network; an environment whose every step is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from data.environments import Environment
from train import mesh as mesh_lib
from train import verbs

SMALL = {
  'task': {
    'name': 'dqn',
    'environment': 'cartpole(time_limit=12)',
    'num_envs': 8,
    'frames_per_update': 4,
    'updates_per_step': 4,
    'exploration': {'final': 0.1, 'frames': 64},
    'replay': {'capacity': 256, 'min_size': 64},
    'target': {'every': 8},
    'evaluation': {'episodes': 4, 'max_steps': 30},
  },
  'model': {'name': 'dqn_mlp', 'hidden': (8,)},
  'data': {'name': 'selfplay', 'batch_size': 8},
  'optimizer': {'name': 'sgd', 'learning_rate': 0.05},
  'train': {
    'steps': 6,
    'log_every': 2,
    'eval_every': 6,
    'checkpoint_every': 3,
    'best': 'eval/return',
    'best_mode': 'max',
  },
}


def merged(old, new):
  return {
    **old,
    **{k: {**old.get(k, {}), **v} if isinstance(v, dict) else v for k, v in new.items()},
  }


def config_of(model=(), **task):
  """The small config with other keys of the task; a section's keys are merged with its own."""
  config = {**SMALL, 'task': merged(SMALL['task'], task), 'model': SMALL['model'] | dict(model)}
  return verbs.complete_config(config)


def task_of(model=(), **task):
  return verbs.build_task(config_of(model, **task))


def mesh_of(devices):
  return mesh_lib.make_mesh(devices, devices=jax.devices()[:devices])


class Count(NamedTuple):
  """Steps in this episode and in all, both int32 `[]`."""

  now: Array
  ever: Array


def counting(length: int, *, truncated: bool, planes: bool = False) -> Environment:
  """An environment that shows the number of its steps; step n is worth n.

  length: of an episode, which ends so, or by the time limit.
  """

  def step(state, action, key):
    new = Count(state.now + 1, state.ever + 1)
    return new, new.ever.astype(jnp.float32), (new.now >= length) & (not truncated)

  def observe(state):
    # The number in binary, as planes; or itself.
    bits = ((state.ever + 1) >> jnp.arange(8) & 1).astype(bool).reshape(2, 4, 1)
    return bits if planes else (state.ever + 1).astype(jnp.float32)[None]

  return Environment(
    'counting',
    2,
    lambda key: Count(jnp.int32(0), jax.random.randint(key, (), 1, 9) * 10),
    step,
    observe,
    time_limit=length if truncated else 0,
  )
