"""Self-play of tic-tac-toe with a tiny network, as a config, a task, a source."""

import jax

from train import mesh as mesh_lib
from train import verbs

SMALL = {
  'task': {
    'name': 'selfplay',
    'game': 'tictactoe',
    'num_envs': 16,
    'moves_per_step': 3,
    'snapshot_every': 4,
    'selection': 'puct(dirichlet_fraction=0.25)',
    'search': {'num_simulations': 6},
    'exploration': {'temperature_moves': 9},
    'replay': {'window': 320, 'min_size': 160},
    'evaluation': {'num_games': 16, 'num_simulations': 4},
  },
  'model': {'name': 'policy_value', 'blocks': 1, 'channels': 8, 'value_width': 8},
  'data': {'name': 'selfplay', 'batch_size': 32},
  'optimizer': {'name': 'sgd', 'learning_rate': 0.05},
  'train': {
    'steps': 6,
    'log_every': 2,
    'eval_every': 6,
    'checkpoint_every': 3,
    'best': 'past/share',
  },
}
GO = {
  'game': 'go(size=3, komi=0.5, history=2)',
  'selection': 'gumbel(max_num_considered_actions=4)',
  'replay': {'window': 640},
}
GATED = {
  'gate': {'threshold': 0.5, 'num_games': 8, 'every': 2},
  'opponent_pool': {'env_stride': 4, 'size': 2},
  'search': {'random_symmetry': True},
}


def config_of(**task):
  """The small config with other keys of the task; a section's keys are merged with its own."""
  return verbs.complete_config({**SMALL, 'task': merged(SMALL['task'], task)})


def merged(old, new):
  return {
    **old,
    **{k: {**old.get(k, {}), **v} if isinstance(v, dict) else v for k, v in new.items()},
  }


def task_of(model=(), **task):
  config = config_of(**task)
  config['model'] = {**config['model'], **dict(model)}
  return verbs.build_task(config)


def mesh_of(devices):
  return mesh_lib.make_mesh(devices, devices=jax.devices()[:devices])


def begin(task, devices=1, seed=0):
  source = task.source('train', mesh_of(devices), seed)
  variables = mesh_lib.unbox(jax.jit(task.init)(jax.random.key(1)))
  return source, source.init(jax.random.key(seed)), variables
