"""Self-play of tic-tac-toe with a tiny network, as a config, a task, a source."""

import jax

from train import mesh as mesh_lib
from train import verbs

SMALL = {
  'task': {
    'name': 'selfplay',
    'game': 'tictactoe',
    'slots': 16,
    'moves': 3,
    'simulations': 6,
    'rule': 'puct(fraction=0.25)',
    'temperature_moves': 9,
    'window': 320,
    'minimum': 160,
    'match_games': 16,
    'match_simulations': 4,
    'past_every': 4,
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
  'rule': 'gumbel(considered=4)',
  'window': 640,
}
GATED = {'gate': 0.5, 'gate_games': 8, 'gate_every': 2, 'rivals': 4, 'pool': 2, 'symmetries': True}


def config_of(**task):
  return verbs.complete_config({**SMALL, 'task': {**SMALL['task'], **task}})


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
