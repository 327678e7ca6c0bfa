"""Checks that a run folder is resumed, evaluated and sampled from as what it is."""

import json
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any

import jax

from models.transformer import RUNTIME_FIELDS
from train import config as config_lib
from train.errors import UserError, shown
from train.run import read_config, read_fingerprints, read_meaning
from train.sections import complete_config
from train.task import Task
from train.tasks import DECLARATIONS
from train.workdir import free_path

# What may differ when a run is resumed, beside what its task declares: where it runs and what it
# leaves, not what it computes. Keys, or the sections that they are in.
FREE = (
  *('mesh', 'parallel', 'train.accumulate', 'paper', 'wandb'),
  *('train.log_every', 'train.eval_every', 'train.checkpoint_every', 'train.keep'),
  *('train.best', 'train.best_mode'),
  *('data.data_dir', 'data.workers', 'data.processes', 'data.prefetch', 'data.in_memory'),
  *('data.eval_batch_size', 'data.eval_split', 'data.eval_positions', 'data.decode_eval'),
  *('model.attention', 'model.scan', 'model.remat'),
)

# Data whose name is a path: their contents tell whether they are the same (`check_data`).
PATHS = ('text', 'go_games')

# Schedules whose rate at a step does not depend on the number of steps: such runs may be longer.
ENDLESS = ('constant', 'piecewise', 'rsqrt', 'exponential')

# How a model is run; another value makes no other use of the weights.
RUNNING = tuple(f'model.{name}' for name in RUNTIME_FIELDS)


def check_same(config: Mapping[str, Any], workdir: str) -> None:
  """Raises UserError if the workdir was made by a config that computes something else.

  One with imported weights that were never trained is free in all but what these mean.
  """
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return
  imported = _is_imported(workdir)
  ours, theirs = config_lib.flat(config), config_lib.flat(complete_config(read_config(workdir)))
  may_differ = FREE + DECLARATIONS[config['task']['name']].free
  if may_be_longer(config):
    may_differ += ('train.steps',)
  if config['data']['name'] in PATHS and read_fingerprints(workdir):
    may_differ += ('data.dataset',)
  for key in _differences(ours, theirs):
    if imported:  # sizes of one model have several names
      free = not key.startswith(('model.', 'init_from')) or key in ('model.name', *RUNNING)
    else:
      free = _within(key, may_differ)
    if not free:
      schedule = ' and '.join(map(shown, sorted(schedules(config))))
      why = f', where its schedule {schedule} ends' if key == 'train.steps' else ''
      raise UserError(
        f'{key}={shown(ours.get(key))}: {workdir} was made with {shown(theirs.get(key))}{why};'
        f' give the same value, or another folder: --workdir={free_path(workdir)}'
        + (f' --init_from={workdir}' if key == 'train.steps' else '')
      )


def may_be_longer(config: Mapping[str, Any]) -> bool:
  """Returns whether a run can go on beyond its steps as if it had been begun with more."""
  return schedules(config) <= {*ENDLESS}


def schedules(config: Mapping[str, Any]) -> set[str]:
  """Returns the schedules of a completed config's optimisers."""
  options = config_lib.flat(config['optimizer'])
  return {value for key, value in options.items() if key.split('.')[-1] == 'schedule'}


def check_overrides(config: Mapping[str, Any], changed: Mapping[str, Any], workdir: str) -> None:
  """Checks what eval or sample change of a run's config.

  Raises:
    UserError: a key that says what the weights mean, or one that only training reads.
  """
  allowed = (*FREE, *DECLARATIONS[config['task']['name']].free, *RUNNING, 'data', 'seed')
  ours, theirs = config_lib.flat(changed), config_lib.flat(config)
  for key in _differences(ours, theirs):
    if not _within(key, allowed):
      raise UserError(
        f'{key}={shown(ours.get(key))}: {workdir} was trained with {shown(theirs.get(key))}, which'
        ' its weights depend on; eval and sample cannot change it'
      )


def check_meaning(task: Task, workdir: str) -> None:
  """Checks that a run's weights mean to this task what they meant to the one that trained them.

  Raises:
    UserError: the data have other classes, say, or the same in another order.
  """
  theirs = read_meaning(workdir)
  ours: Mapping[str, Any] = json.loads(json.dumps(task.meaning())) if theirs else {}
  for key in [key for key in _differences(ours, theirs) if key in theirs]:
    raise UserError(
      f'{workdir}: its weights were trained with {key}={shown(theirs.get(key))}, and the data here'
      f' have {shown(ours.get(key))}'
    )


def same_model(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
  """Returns whether two configs have one model, however it is run."""
  a, b = (config_lib.flat({'model': config['model']}) for config in (ours, theirs))
  return all(key in RUNNING for key in _differences(a, b))


def changed_data(task: Task, workdir: str) -> list[str]:
  """Returns the splits that were read here and are not those that the run was trained with."""
  theirs = read_fingerprints(workdir)
  ours = task.fingerprints()
  return [split for split in sorted(ours) if theirs.get(split, ours[split]) != ours[split]]


def check_data(task: Task, workdir: str, step: int, *, new_data: bool) -> None:
  """Checks that a run goes on from `step` with the data that it began with.

  Raises:
    UserError: they are others, and `new_data` does not allow that.
  """
  changed = changed_data(task, workdir) if step else []
  if changed and not new_data:
    raise UserError(
      f'{workdir}: the data have changed since it was trained to step {step} (split'
      f' {", ".join(changed)}); --new_data goes on with these, another --workdir begins anew'
    )
  if changed and jax.process_index() == 0:
    print(f'{workdir}: other data from step {step} on: {", ".join(changed)}', file=sys.stderr)


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
  return [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]


def _within(key: str, places: Collection[str]) -> bool:
  """Returns whether a key, or a section that it is in, is one of the places."""
  return any(key == place or key.startswith(f'{place}.') for place in places)


def _is_imported(workdir: str) -> bool:
  """Returns whether a workdir holds imported weights, step 0, and none that were trained."""
  folder = os.path.join(workdir, 'checkpoints')
  return os.path.isdir(folder) and [x for x in os.listdir(folder) if x.isdigit()] == ['0']
