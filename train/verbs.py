"""What the verbs of launch.py do, and the way into a run for a notebook: `load_run(workdir)`."""

import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from train import config as config_lib
from train import console, warm_start
from train import mesh as mesh_lib
from train.compatibility import (
  changed_data,
  check_data,
  check_meaning,
  check_overrides,
  check_same,
  same_model,
)
from train.errors import Halted, UserError, unknown, user_errors
from train.logging import weights_and_biases
from train.logging.metrics import MetricLog
from train.logging.tensorboard import TensorBoard
from train.logging.writers import Open
from train.loop import Loop
from train.optim import check_rate_only, make_optimizer, odd_settings
from train.provenance import provenance, record_start
from train.run import (
  FINGERPRINTS,
  MEANING,
  average_of,
  check_finite,
  no_checkpoint,
  open_checkpoints,
  read_config,
  read_fingerprints,
)
from train.sections import build_abstract_task, build_task, complete_config
from train.step import abstract_model
from train.task import Task, Variables
from train.tasks import DECLARATIONS
from train.workdir import free_path, write_json

__all__ = ['Halted', 'Run', 'complete_config', 'evaluate', 'load_run', 'sample', 'summary', 'train']

# verb -> the task's method
METHODS = {'eval': 'examine', 'sample': 'sample', 'translate': 'translate'}

# -------- a run --------


@dataclasses.dataclass(frozen=True)
class Run:
  """A workdir opened: its config, its task, and the weights of one step (averaged where kept)."""

  config: dict[str, Any]
  task: Task
  mesh: Mesh
  step: int
  variables: Variables


def load_run(
  workdir: str,
  step: int | str = 'latest',
  overrides: Mapping[str, str] | None = None,
  *,
  average: int = 1,
) -> Run:
  """Opens what `train` left in a workdir; no optimiser is restored.

  step: a number, 'best', or 'latest'.
  overrides: config key -> text, such as {'task.view': 'ten_crop(size=224)'}.
  average: the weights are the mean of those of so many checkpoints, this one and those before it.
  """
  config = saved = complete_config(read_config(workdir))
  for key, text in (overrides or {}).items():
    config = config_lib.override(config, key, text)
  config = complete_config(config)
  check_overrides(saved, config, workdir)
  task = build_task(config, workdir, read=False)
  mesh = mesh_of_run(config['mesh'], workdir, is_own=config['mesh'] == saved['mesh'])
  mesh_lib.check_context(task.text_length, mesh)
  checkpoints = open_checkpoints(workdir, config)
  model = abstract_model(task, mesh, ema=config['train']['ema_decay'] > 0)
  restored = checkpoints.restore(model, step=None if step == 'latest' else step)
  if restored is None:
    raise no_checkpoint(workdir)
  step, model, _, _ = restored
  if average > 1:
    model = average_of(checkpoints, step, average, model)
  checkpoints.close()
  variables = {'params': model['ema'] or model['params'], **model['extra']}
  check_finite(variables, f'{workdir}, step {step}')
  return Run(config, task, mesh, step, variables)


def mesh_of_run(sizes: Mapping[str, Any], workdir: str, *, is_own: bool) -> Mesh:
  """Returns the mesh of these sizes; of a run's own, that does not fit here, one that does.

  Raises:
    UserError: the devices make no such mesh, and it was asked for.
  """
  try:
    return mesh_lib.make_mesh(**sizes)
  except UserError:
    if not is_own:
      raise
  # What was sharded may be too large for one device.
  sharded = any(size != 1 for axis, size in sizes.items() if axis != 'data')
  mesh = mesh_lib.make_mesh(1, -1) if sharded else mesh_lib.make_mesh()
  if mesh_lib.is_main():
    its = ' '.join(f'{axis}={size}' for axis, size in sizes.items())
    here = f'{"fsdp" if sharded else "data"}={mesh.size}'
    print(f'{workdir}: trained on mesh {its}; on the devices here: {here}', file=sys.stderr)
  return mesh


# -------- the verbs --------


def train(
  config: Mapping[str, Any],
  workdir: str,
  *,
  host: Mapping[str, Any] | None = None,
  profile: tuple[int, int] | None = None,
  new_data: bool = False,
  watchdog: float | None = None,
) -> bool:
  """Trains by a completed config, or resumes what the workdir holds; returns `Loop.run`'s answer.

  new_data: whether a run goes on though its data are others than before.
  watchdog: as of `Loop.run`.
  """
  check_same(config, workdir)
  log = functools.partial(MetricLog, writers=writers(config), config=config_lib.flat(config))
  task, mesh = warm_start.build(config, workdir), mesh_lib.make_mesh(**config['mesh'])
  check_meaning(task, workdir)
  loop = Loop(**config['train'])
  updates = loop.steps * task.updates_per_step
  if task.updates_itself:
    check_rate_only(**config['optimizer'], accumulate=loop.accumulate, steps=updates)
  tx, schedule = make_optimizer(**config['optimizer'], steps=updates)
  for line in odd_settings(**config['optimizer'], steps=updates) if mesh_lib.is_main() else ():
    print(line, file=sys.stderr)
  with user_errors():  # what a network cannot be made of, or for
    jax.eval_shape(task.init, jax.random.key(0))
  begin = warm_start.starter(config, task, workdir)

  def on_start(step: int, variables: Variables) -> None:
    check_data(task, workdir, step, new_data=new_data)
    if mesh_lib.is_main():
      console.say(console.start(config, workdir, task, mesh, step, variables))
      warm_start.keep_tokenizer(task, workdir)
      write_json(os.path.join(workdir, 'config.json'), config)
      if meaning := task.meaning():
        write_json(os.path.join(workdir, MEANING), meaning)
      if fingerprints := task.fingerprints():
        kept = read_fingerprints(workdir)
        write_json(os.path.join(workdir, FINGERPRINTS), {**kept, **fingerprints})
      record_start(workdir, step, config, host or {})

  with contextlib.closing(task):
    finished = loop.run(
      task,
      tx,
      schedule,
      mesh,
      workdir,
      seed=config['seed'],
      parallel=config['parallel'],
      profile=profile,
      on_start=on_start,
      log=log,
      begin=begin,
      watchdog=watchdog,
    )
  if finished and mesh_lib.is_main():
    console.say(console.next_commands(config, workdir))
  return finished


def writers(config: Mapping[str, Any]) -> list[Open]:
  """Returns what opens the writers of a run's metrics, beside metrics.jsonl."""
  if not config['wandb']:
    return [TensorBoard]
  weights_and_biases.require()  # before anything else is done
  project = config['wandb']
  return [TensorBoard, functools.partial(weights_and_biases.WeightsAndBiases, project=project)]


def evaluate(
  workdirs: Sequence[str],
  step: int | str = 'latest',
  overrides: Mapping[str, str] | None = None,
  options: Mapping[str, Any] | None = None,
  *,
  average: int = 1,
) -> dict[str, Any]:
  """Evaluates a run, or the mean prediction of several; leaves `eval.json` in the first workdir.

  options: for the task's `examine`; a name that it does not know is a UserError. What they ask for
    is left in a file of its own, such as `eval_text.json`, by the first of them.
  average: see `load_run`.
  """
  runs = [load_run(workdir, step, overrides, average=average) for workdir in workdirs]
  for run, workdir in zip(runs, workdirs, strict=True):
    check_meaning(run.task, workdir)
  first, options = runs[0], dict(options or {})
  join(runs, workdirs)
  examine = method_of(first, 'eval', options)
  members = [run.variables for run in runs]
  metrics, facts, arrays = examine(members, first.mesh, **options)
  others = changed_data(first.task, workdirs[0])
  if others and mesh_lib.is_main():
    print(
      f'{workdirs[0]}: the data have changed since it was trained (split {", ".join(others)})',
      file=sys.stderr,
    )
  result = {
    'step': first.step,
    'checkpoint': step,
    'workdirs': list(workdirs),
    'overrides': dict(overrides or {}),
    'options': options,
    'average': average,
    'metrics': metrics,
    **facts,
    **({'other_data': others} if others else {}),
    **provenance(),
  }
  path = os.path.join(workdirs[0], '_'.join(['eval', *list(options)[:1]]) + '.json')
  if mesh_lib.is_main():
    keep_other(path, result)
    write_json(path, result)
  if mesh_lib.is_main() and not options:
    np.savez(os.path.join(workdirs[0], 'eval_figures.npz'), **dict[str, Any](arrays))
  return {**result, 'file': path}


def join(runs: Sequence[Run], workdirs: Sequence[str]) -> None:
  """Makes an ensemble of the runs, if they are several; raises UserError if it cannot be."""
  ours = runs[0].config['task']['name']
  for workdir, run in zip(workdirs[1:], runs[1:], strict=True):
    theirs = run.config['task']['name']
    if ours != theirs:
      raise UserError(f'{workdir}: a run of task {theirs}, and {workdirs[0]} is of task {ours}')
  if len(runs) > 1:
    alike = all(same_model(run.config, runs[0].config) for run in runs[1:])
    runs[0].task.join([run.task for run in runs[1:]], same_model=alike)


def keep_other(path: str, result: Mapping[str, Any]) -> None:
  """Renames an earlier result in the file unless it is of the same step, runs and options."""
  asked = ('step', 'workdirs', 'overrides', 'options', 'average')
  ours = json.loads(json.dumps({name: result[name] for name in asked}))
  if not os.path.lexists(path):
    return
  try:
    theirs = config_lib.read_json(path)
  except UserError:
    theirs = {}
  if any({'average': 1, **theirs}.get(name) != ours[name] for name in asked):
    kept = free_path(path)
    os.replace(path, kept)
    print(f'{path} was of something else: kept as {kept}', file=sys.stderr)


def sample(
  workdir: str,
  step: int | str = 'latest',
  overrides: Mapping[str, str] | None = None,
  options: Mapping[str, Any] | None = None,
  *,
  average: int = 1,
) -> None:
  """Shows what a run's model draws, and leaves it in the workdir's `samples/`.

  options: for the task's `sample`; a name that it does not know is a UserError.
  average: see `load_run`.
  """
  run = load_run(workdir, step, overrides, average=average)
  options = dict(options or {})
  draw = method_of(run, 'sample', options)
  with mesh_lib.activate(run.mesh):
    draw(run.variables, os.path.join(workdir, 'samples'), **options)


def translate(
  workdir: str,
  step: int | str = 'latest',
  overrides: Mapping[str, str] | None = None,
  options: Mapping[str, Any] | None = None,
  *,
  average: int = 1,
) -> None:
  """Translates lines with a run's model, from a file or stdin to stdout.

  options: for the task's `translate`; a name that it does not know is a UserError.
  average: see `load_run`.
  """
  run = load_run(workdir, step, overrides, average=average)
  options = dict(options or {})
  method_of(run, 'translate', options)(run.variables, run.mesh, **options)


def method_of(run: Run, verb: str, options: Mapping[str, Any]) -> Callable[..., Any]:
  """Returns the task's method for a verb.

  Raises:
    UserError: the task does not support the verb, or does not take one of the options.
  """
  task = run.config['task']['name']
  declared = {'eval': (), **DECLARATIONS[task].options}
  if verb not in declared:
    supported = ', '.join(['train', *declared])
    raise UserError(f'task {task!r} does not support `{verb}`; it supports {supported}')
  choices = [option.name for option in declared[verb]]
  for name, value in options.items():
    if name not in choices:
      raise unknown(f'--{name}={value}', name, f'no option of task {task}', choices)
  return getattr(run.task, METHODS[verb])


def summary(config: Mapping[str, Any]) -> str:
  """Returns the table of the model's layers and parameters."""
  return build_abstract_task(config).summary()
