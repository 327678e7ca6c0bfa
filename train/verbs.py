"""What the verbs of launch.py do, and the way into a run for a notebook: `load_run(workdir)`."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import inspect
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

import models
import models.gpt
from data import SOURCES
from models.cpu import onednn
from train import config as config_lib
from train import mesh as mesh_lib
from train.checkpoint import Checkpointer
from train.config import UserError, unknown
from train.loop import Halted, Loop
from train.optim import OPTIMIZERS, make_optimizer
from train.runtime import host as host_lib
from train.step import abstract_model
from train.task import Task, Variables
from train.tasks import TASKS
from train.workdir import write_json

__all__ = ['Halted', 'Run', 'complete_config', 'evaluate', 'load_run', 'sample', 'summary', 'train']

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint')


def paper(
  title: str = '', metric: str = 'test/error', value: float | None = None, note: str = ''
) -> dict[str, Any]:
  """The section `paper`: what the run reproduces; `value` is in the metric's unit."""
  return {'title': title, 'metric': metric, 'value': value, 'note': note}


def settings(
  seed: int = 0,
  parallel: Literal['jit', 'pmap'] = 'jit',
) -> dict[str, Any]:
  """What stands outside of sections."""
  return locals()


TOKENIZER = 'tokenizer'  # the folder of a workdir where that of its text is kept

# section -> what its keys are checked against, and what the code hands in when it builds.
SECTIONS: dict[str, tuple[config_lib.Table, tuple[str, ...]]] = {
  'task': (TASKS, ('model', 'data')),
  'model': (models.MODELS, ('num_classes', 'vocab_size', 'num_actions')),
  'data': (SOURCES, ('folder', 'read')),
  'optimizer': (OPTIMIZERS, ()),
  'train': (Loop, ()),
  'mesh': (mesh_lib.make_mesh, ('devices',)),
  'paper': (paper, ()),
}

# What may differ when a run is resumed: where it runs and what it leaves, not what it computes.
FREE = (
  *('mesh', 'parallel', 'paper', 'train.log_every', 'train.keep'),
  *('task.sample_tokens', 'task.prompt'),
  *('task.sampler', 'task.grid', 'task.steps', 'task.guidance', 'task.threshold'),
  *('task.shown', 'task.at_once'),
  *('task.policy', 'task.rollout', 'task.mixing'),
  *('task.solved', 'task.parts'),
)

# What of an imported model may differ: its name, since sizes have several, and how it is run.
NO_WEIGHTS = ('model.name', *(f'model.{name}' for name in models.gpt.RUNTIME_FIELDS))


def complete_config(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config with all defaults filled in; UserError for what no constructor takes."""
  return config_lib.complete_sections(config, SECTIONS, settings)


def build_task(config: Mapping[str, Any], workdir: str | None = None, *, read: bool = True) -> Task:
  """The task with its data, which may keep in the workdir what they learn.

  read: at once, so that what is wrong shows; else data may wait until they are needed.
  """
  given = {'folder': os.path.join(workdir, TOKENIZER) if workdir else None, 'read': read}
  taken = inspect.signature(SOURCES[config['data']['name']]).parameters
  given = {name: value for name, value in given.items() if name in taken}
  with config_lib.user_errors():
    data = config_lib.build(config['data'], SOURCES, 'data', **given)
    return config_lib.build(config['task'], TASKS, 'task', model=config['model'], data=data)


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
  workdir: str, step: int | str = 'latest', overrides: Mapping[str, str] | None = None
) -> Run:
  """Opens what `train` left in a workdir; no optimiser is restored.

  step: a number, 'best', or 'latest'.
  overrides: config key -> text, such as {'task.view': 'ten_crop(size=224)'}.
  """
  config = read_config(workdir)
  for key, text in (overrides or {}).items():
    config = config_lib.override(config, key, text)
  config = complete_config(config)
  task = build_task(config, workdir, read=False)
  mesh = mesh_lib.make_mesh(**config['mesh'])
  loop = Loop(**config['train'])
  checkpoints = Checkpointer(
    os.path.join(workdir, 'checkpoints'), best=loop.best, mode=loop.best_mode, read_only=True
  )
  model = abstract_model(task, mesh, ema=loop.ema_decay > 0)
  restored = checkpoints.restore(model, step=None if step == 'latest' else step)
  checkpoints.close()
  if restored is None:
    raise UserError(
      f'{workdir}: holds no checkpoint; `launch.py train --workdir={workdir}` makes one'
    )
  step, model, _, _ = restored
  variables = {'params': model['ema'] or model['params'], **model['extra']}
  return Run(config, task, mesh, step, variables)


def read_config(workdir: str) -> dict[str, Any]:
  path = os.path.join(workdir, 'config.json')
  if not os.path.exists(path):
    raise UserError(f'{workdir}: no config.json there; a workdir is what `launch.py train` made')
  return config_lib.load(path)


# -------- the verbs --------


def train(
  config: Mapping[str, Any],
  workdir: str,
  *,
  host: Mapping[str, Any] | None = None,
  profile: tuple[int, int] | None = None,
) -> None:
  """Trains by a completed config, or resumes what the workdir holds."""
  _check_same(config, workdir)
  task, mesh = build_task(config, workdir), mesh_lib.make_mesh(**config['mesh'])
  loop = Loop(**config['train'])
  tx, schedule = make_optimizer(**config['optimizer'], steps=loop.steps)

  def on_start(step: int) -> None:
    if mesh_lib.is_main():
      print(
        f'{host_lib.processor()}; convolutions: {_convolutions(mesh.devices.flat[0].platform)}',
        file=sys.stderr,
      )
      write_json(os.path.join(workdir, 'config.json'), config)
      _record_start(workdir, step, config, host or {})

  with contextlib.closing(task):
    loop.run(
      task,
      tx,
      schedule,
      mesh,
      workdir,
      seed=config['seed'],
      parallel=config['parallel'],
      profile=profile,
      on_start=on_start,
    )


def evaluate(
  workdirs: Sequence[str],
  step: int | str = 'latest',
  overrides: Mapping[str, str] | None = None,
  options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Evaluates a run, or the mean prediction of several; leaves `eval.json` in the first workdir.

  options: for the task's `examine`; a name that it does not know is a UserError. What they ask for
    is left in a file of its own, such as `eval_text.json`, by the first of them.
  """
  runs = [load_run(workdir, step, overrides) for workdir in workdirs]
  first, options = runs[0], dict(options or {})
  examine = method_of(first, 'examine', options)
  members = [run.variables for run in runs]
  metrics, facts, arrays = examine(members, first.mesh, **options)
  result = {
    'step': first.step,
    'checkpoint': step,
    'workdirs': list(workdirs),
    'overrides': dict(overrides or {}),
    'options': options,
    'metrics': metrics,
    **facts,
    **provenance(),
  }
  path = os.path.join(workdirs[0], '_'.join(['eval', *list(options)[:1]]) + '.json')
  if mesh_lib.is_main():
    write_json(path, result)
  if mesh_lib.is_main() and not options:
    np.savez(os.path.join(workdirs[0], 'eval_figures.npz'), **dict[str, Any](arrays))
  return {**result, 'file': path}


def sample(
  workdir: str,
  step: int | str = 'latest',
  overrides: Mapping[str, str] | None = None,
  options: Mapping[str, Any] | None = None,
) -> None:
  """Shows what a run's model draws, and leaves it in the workdir's `samples/`.

  options: for the task's `sample`; a name that it does not know is a UserError.
  """
  run, options = load_run(workdir, step, overrides), dict(options or {})
  draw = method_of(run, 'sample', options)
  with mesh_lib.activate(run.mesh):
    draw(run.variables, os.path.join(workdir, 'samples'), **options)


def method_of(run: Run, verb: str, options: Mapping[str, Any]) -> Callable[..., Any]:
  """The task's method of that name; UserError if it has none that takes these options."""
  task = run.config['task']['name']
  function = getattr(run.task, verb, None)
  if function is None:
    raise UserError(f'task {task}: knows no {verb}')
  parameters = inspect.signature(function).parameters.values()
  choices = [x.name for x in parameters if x.kind is inspect.Parameter.KEYWORD_ONLY]
  for name, value in options.items():
    if name not in choices:
      raise unknown(f'--{name}={value}', name, f'no flag of the task {task}', choices)
  return function


def summary(config: Mapping[str, Any]) -> str:
  """The table of the model's layers and parameters."""
  with config_lib.user_errors():
    data = SOURCES[config['data']['name']].outline(
      **{key: value for key, value in config['data'].items() if key != 'name'}
    )
    task = config_lib.build(config['task'], TASKS, 'task', model=config['model'], data=data)
  return task.summary()


# -------- what a run says of itself --------


def provenance() -> dict[str, Any]:
  """Where a number comes from: command, commit, versions, devices."""
  device = jax.devices()[0]
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  commit, dirty = _commit()
  return {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': shlex.join(['python', *sys.orig_argv[1:]]),
    'commit': commit,
    'dirty': dirty,
    'versions': {'python': platform.python_version(), **versions},
    'platform': device.platform,
    'device': device.device_kind,
    'processor': host_lib.processor(),
    'convolutions': _convolutions(device.platform),
    'device_count': jax.device_count(),
    'process_count': jax.process_count(),
  }


def _convolutions(platform: str) -> str:
  """Returns what computes convolutions there; on a CPU that depends on what is installed."""
  return onednn.description() if platform == 'cpu' else 'XLA'


def _record_start(
  workdir: str, step: int, config: Mapping[str, Any], host: Mapping[str, Any]
) -> None:
  path = os.path.join(workdir, 'run.json')
  run: dict[str, Any] = {'starts': []}
  if os.path.exists(path):
    with open(path) as file:
      run = json.load(file)
  run['seed'] = config['seed']  # a start that failed before the first checkpoint binds to nothing
  run['starts'].append({'step': step, **provenance(), 'host': dict(host)})
  write_json(path, run)


def _commit() -> tuple[str | None, bool]:
  """The commit of this code and whether files differ from it; (None, False) without git."""

  def git(*arguments: str) -> str:
    command = ['git', '-C', os.path.dirname(os.path.abspath(__file__)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

  try:
    return git('rev-parse', 'HEAD'), bool(git('status', '--porcelain', '--untracked-files=no'))
  except (OSError, subprocess.CalledProcessError):
    return None, False


def _check_same(config: Mapping[str, Any], workdir: str) -> None:
  """Raises UserError if the workdir was made by a config that computes something else.

  One with imported weights that were never trained is free in all but what these mean.
  """
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return
  imported = _is_imported(workdir)
  ours, theirs = _flat(config), _flat(complete_config(read_config(workdir)))
  for key in sorted({*ours, *theirs}):
    free = not key.startswith('model.') or key in NO_WEIGHTS if imported else key.startswith(FREE)
    if free or ours.get(key) == theirs.get(key):
      continue
    raise UserError(
      f'{key}={ours.get(key)!r}: {workdir} was made with {theirs.get(key)!r};'
      ' give the same value, or another --workdir'
    )


def _is_imported(workdir: str) -> bool:
  """Whether a workdir holds weights from elsewhere, step 0, and none that were trained here."""
  folder = os.path.join(workdir, 'checkpoints')
  return os.path.isdir(folder) and [x for x in os.listdir(folder) if x.isdigit()] == ['0']


def _flat(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  items: dict[str, Any] = {}
  for key, value in config.items():
    nested = (
      _flat(value, f'{prefix}{key}.') if isinstance(value, Mapping) else {prefix + key: value}
    )
    items.update(nested)
  return items
