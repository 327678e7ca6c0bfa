"""What a training says: at its start what is trained and on what, at its end what to do next."""

import contextlib
import math
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from train.compatibility import may_be_longer, schedules
from train.errors import plain
from train.provenance import convolutions
from train.runtime import host
from train.task import Task, Variables
from train.tasks import DECLARATIONS
from train.workdir import free_path


def say(lines: Iterable[str]) -> None:
  """Prints lines to stderr; a closed pipe or terminal must not end the run."""
  with contextlib.suppress(OSError):
    print(*map(plain, lines), sep='\n', file=sys.stderr, flush=True)


def start(
  config: Mapping[str, Any],
  workdir: str,
  task: Task,
  mesh: Mesh,
  step: int,
  variables: Variables,
) -> list[str]:
  """Returns the lines before the first step: run folder, model, data, devices and steps."""
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params']))
  name, (unit, number) = config['task']['name'], task.throughput
  lines = [f'{workdir}: {name}, {config["model"]["name"]} of {count:,} parameters']
  if task.data is not None:
    lines.append(f'data: {task.data.describe()}')
  lines.append(f'device: {devices(mesh)}')
  steps = config['train']['steps']
  if step >= steps:
    return [*lines, f'already at step {step:,} of {steps:,}; {longer(config, workdir)}']
  begun = f'resumed at step {step:,} of {steps:,}' if step else f'{steps:,}'
  return [*lines, f'steps: {begun}, each of {number:,} {unit}']


def devices(mesh: Mesh) -> str:
  """Returns the devices of the mesh, of a CPU its name, cores and what computes convolutions."""
  first, count = mesh.devices.flat[0], mesh.devices.size
  if first.platform != 'cpu':
    return f'{count} x {first.device_kind}'
  simulated = f'{count} simulated on ' if count > 1 else ''
  return f'{simulated}{host.processor()}; convolutions: {convolutions(first.platform)}'


def longer(config: Mapping[str, Any], workdir: str) -> str:
  """Returns how a finished run goes on, and where another one would."""
  folder, other = (f'--workdir={shlex.quote(path)}' for path in (workdir, free_path(workdir)))
  if may_be_longer(config):
    steps = 2 * config['train']['steps']
    return f'to train it longer: {folder} --config.train.steps={steps}; another run: {other}'
  ended = ' and '.join(map(repr, sorted(schedules(config))))
  return (
    f'its schedule {ended} ended there; to train on from its weights:'
    f' --config={shlex.quote(os.path.join(workdir, "config.json"))} {other}'
    f' --init_from={shlex.quote(workdir)}; another run: {other}'
  )


def next_commands(config: Mapping[str, Any], workdir: str) -> list[str]:
  """Returns what to do with a finished run, as commands."""
  task = DECLARATIONS[config['task']['name']]
  verbs = ['eval', 'report', *(verb for verb in ('sample', 'translate') if verb in task.options)]
  verbs += ['play'] if task.plays else []
  folder = shlex.quote(workdir)
  return ['next:', *(f'  python launch.py {verb} --workdir={folder}' for verb in verbs)]


def print_metrics(metrics: Mapping[str, float], paper: Mapping[str, Any]) -> None:
  """Prints a metric a line, the paper's value beside its own."""
  width = max(map(len, metrics))
  for name, value in metrics.items():
    beside = name == paper['metric'] and paper['value'] is not None
    print(f'{name:{width}}  {value:.4f}' + (f'  (paper: {paper["value"]})' if beside else ''))
