"""Opens what a run has left in its folder: config and weights, without its task or its data.

`load_weights` is how one run uses another's network (a teacher, a classifier, a policy to play
against). `train.verbs.load_run` opens a whole run, with its task.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from train import config as config_lib
from train.checkpoint import Checkpointer
from train.checkpoint.record import leaves, some
from train.config import RESUMES
from train.errors import UserError, shown
from train.loop import Loop
from train.task import Variables

MEANING = 'meaning.json'
FINGERPRINTS = 'fingerprints.json'
UNCHECKED = 'the run goes on unchecked if you move it away'


@dataclasses.dataclass(frozen=True)
class Weights:
  """A run's config, and the variables of one of its steps.

  Attributes:
    config: completed, as `config.json` has it.
    step: the number of updates done.
    variables: `params` (averaged, where the run keeps an average) and the other collections, NumPy.
    meaning: what they depend on beside the config, see `Task.meaning`; {} of an older run.
  """

  config: dict[str, Any]
  step: int
  variables: Variables
  meaning: dict[str, Any]


def read_config(workdir: str) -> dict[str, Any]:
  """Returns the config of a run folder.

  Raises:
    UserError: there is none, or it is damaged.
  """
  path = os.path.join(workdir, 'config.json')
  if not os.path.exists(path):
    raise UserError(f'{workdir}: no config.json there; a workdir is what `launch.py train` made')
  config = config_lib.load(path)
  for section in ('task', 'model', 'data', 'train'):
    if not isinstance(config.get(section), dict):
      found = shown(config.get(section))
      raise UserError(f'{path}: damaged, its section {section!r} is {found}; {RESUMES}')
  return config


def read_meaning(workdir: str) -> dict[str, Any]:
  """Returns what the run's weights depend on beside its config; {} if nothing was kept."""
  path = os.path.join(workdir, MEANING)
  return config_lib.read_json(path, UNCHECKED) if os.path.exists(path) else {}


def read_fingerprints(workdir: str) -> dict[str, str]:
  """Returns split -> the hash of the data that the run was trained on; {} of an older run."""
  path = os.path.join(workdir, FINGERPRINTS)
  return config_lib.read_json(path, UNCHECKED) if os.path.exists(path) else {}


def open_checkpoints(workdir: str, config: dict[str, Any]) -> Checkpointer:
  """Returns a run's checkpoints, to read only; 'best' is by the metric that its config names."""
  settings = config_lib.complete(config['train'], Loop, 'train')
  return Checkpointer(
    os.path.join(workdir, 'checkpoints'),
    best=settings['best'],
    mode=settings['best_mode'],
    read_only=True,
  )


def load_weights(workdir: str, step: int | str = 'latest') -> Weights:
  """Returns a run's config and weights; shapes are those that the checkpoint says it has.

  Args:
    workdir: the folder that `launch.py train` made.
    step: a number, 'best', or 'latest'.

  Raises:
    UserError: no run is there, no such checkpoint, or none that is whole.
  """
  config = read_config(workdir)
  checkpoints = open_checkpoints(workdir, config)
  restored = checkpoints.restore_stored(None if step == 'latest' else step)
  checkpoints.close()
  if restored is None:
    raise no_checkpoint(workdir)
  number, model = restored
  params = model.get('ema') or model['params']
  variables = jax.device_get({'params': params, **model.get('extra', {})})
  check_finite(variables, f'{workdir}, step {number}')
  return Weights(config, number, variables, read_meaning(workdir))


def average_of(
  checkpoints: Checkpointer, step: int, count: int, model: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the model of a step with the mean weights of `count` steps, this the last of them.

  Vaswani et al. 2017, section 6.1, average the last 5 or 20 checkpoints.

  Args:
    checkpoints: of the run.
    step: that `model` is of.
    count: how many.
    model: `params`, `extra` and `ema`, as `Checkpointer.restore` gives them.

  Raises:
    UserError: there are not so many, or the run keeps an average of its own.
  """
  if model['ema']:
    raise UserError(f'--average={count}: the run keeps an average of its weights, train.ema_decay')
  steps = [other for other in checkpoints.steps() if other <= step][-count:]
  if len(steps) < count:
    few = f'only {len(steps)} checkpoints are there up to step {step}; train.keep says how many'
    raise UserError(f'--average={count}: {few} stay')
  total, shapes = model['params'], jax.tree.map(_abstract, dict(model))
  for other in steps[:-1]:
    restored = checkpoints.restore(shapes, step=other)
    assert restored is not None  # or it would have raised
    total = jax.tree.map(jnp.add, total, restored[1]['params'])
  return {**model, 'params': jax.tree.map(lambda x: x / count, total)}


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def check_finite(variables: Variables, where: str) -> None:
  """Raises UserError if a weight is NaN or infinite: no answer of such a network means anything.

  Args:
    variables: of a model.
    where: whose they are, for the error.
  """
  bad = [
    path
    for path, leaf in leaves(dict(variables))
    if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(jnp.isfinite(leaf).all())
  ]
  if bad:
    raise UserError(f'{where}: has weights that are not finite: {some(bad)}')


def no_checkpoint(workdir: str) -> UserError:
  """Returns the error for a run without any checkpoint."""
  return UserError(
    f'{workdir}: holds no checkpoint; `launch.py train --workdir={workdir}` makes one'
  )
