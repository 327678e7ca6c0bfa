"""The sections of a config: what each chooses from, and the task that they build."""

import inspect
import os
from collections.abc import Mapping
from typing import Any, Literal

import models
from data import SOURCES
from train import config as config_lib
from train import errors, optim
from train import mesh as mesh_lib
from train.loop import Loop
from train.run import read_meaning
from train.task import Task
from train.tasks import TASKS


def paper(
  title: str = '', metric: str = '', value: float | None = None, note: str = ''
) -> dict[str, Any]:
  """Returns the section `paper`: what the run reproduces.

  Args:
    title: the paper.
    metric: the headline, as an evaluation names it; '' for the task's own.
    value: the paper's number, in the metric's unit (an error of 5 % is 0.05); None if it has none.
    note: what to keep in mind when comparing the two.
  """
  return {'title': title, 'metric': metric, 'value': value, 'note': note}


def settings(
  seed: int = 0,
  parallel: Literal['jit', 'pmap'] = 'jit',
  init_from: str = '',
  wandb: str = '',
) -> dict[str, Any]:
  """Returns the default values of the top-level config keys.

  Args:
    seed: of all random numbers: initial weights, order of the data, dropout, self-play.
    parallel: 'jit' partitions one program over the mesh, 'pmap' replicates it.
    init_from: a run folder, or one of GPT-2's public weights, to begin with the weights of; '' for
      fresh ones. A run that is resumed does not read it again.
    wandb: a project at Weights & Biases to log to as well; '' for none.
  """
  return locals()


TOKENIZER = 'tokenizer'  # the folder of a workdir where that of its text is kept

# section -> what its keys are checked against, and what the code hands in when it builds.
SECTIONS: dict[str, tuple[config_lib.Table, tuple[str, ...]]] = {
  'task': (TASKS, ('model', 'data')),
  'model': (models.MODELS, ('num_classes', 'vocab_size', 'num_actions', 'image_shape')),
  'data': (SOURCES, ('folder', 'read', 'classes', 'image_shape')),
  'optimizer': (optim.SECTIONS, ()),
  'train': (Loop, ()),
  'mesh': (mesh_lib.make_mesh, ('devices',)),
  'paper': (paper, ()),
}


def complete_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the config with all defaults filled in.

  Raises:
    UserError: a key or value that no constructor takes.
  """
  completed = config_lib.complete_sections(config, SECTIONS, settings)
  if not 0 <= completed['seed'] < 2**32:
    raise errors.UserError(f'seed={completed["seed"]}: must be at least 0 and less than 2**32')
  return completed


def build_abstract_task(config: Mapping[str, Any]) -> Task:
  """Returns the task on what is known of its data without them, where they are a published set."""
  with errors.user_errors():
    source: Any = config_lib.resolve(SOURCES[config['data']['name']])
    data = source.metadata(**{key: value for key, value in config['data'].items() if key != 'name'})
    return config_lib.build(config['task'], TASKS, 'task', model=config['model'], data=data)


def build_task(
  config: Mapping[str, Any],
  workdir: str | None = None,
  *,
  read: bool = True,
  tokenizer: str | None = None,
) -> Task:
  """Returns the task with its data, which may keep a tokenizer in the workdir.

  read: at once, so that what is wrong shows; else data may wait until they are needed.
  tokenizer: the folder of the one to use, if not the workdir's.
  """
  # Class names are the run's, in its order, whatever the order of the data that it meets now.
  meaning = read_meaning(workdir) if workdir else {}
  classes, shape = meaning.get('classes', ()), () if read else _image_shape(meaning)
  own = os.path.join(workdir, TOKENIZER) if workdir else None
  given = {'folder': tokenizer or own, 'read': read, 'classes': classes, 'image_shape': shape}
  taken = inspect.signature(config_lib.resolve(SOURCES[config['data']['name']])).parameters
  given = {name: value for name, value in given.items() if name in taken}
  with errors.user_errors():
    data = config_lib.build(config['data'], SOURCES, 'data', **given)
    return config_lib.build(config['task'], TASKS, 'task', model=config['model'], data=data)


def _image_shape(meaning: Mapping[str, Any]) -> tuple[int, ...]:
  """Returns the shape [H, W, C] of the images that a run was trained with; () if it had none."""
  match meaning.get('image_shape'):
    case [int(height), int(width), int(channels)] if min(height, width, channels) > 0:
      return height, width, channels
  return ()
