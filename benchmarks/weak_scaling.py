"""Simulated weak scaling: what a run on n devices costs beyond n runs on one of them.

  python -m benchmarks.weak_scaling

Each case is `launch.py train`, as a user starts it, on one core: a batch (and as many games) for
each device, on 1, 2, 4 and 8 simulated devices of one process, and of 2 and 4 processes. One core
does the work of all, so n devices take at least n times as long as one; what they take more
is collectives, waiting and the runtime: an upper bound of the share of collectives. What is sent
comes from the same program, compiled (`launch.py compile --topology=cpu:8`).
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import turns

INTERVALS = 3  # that a run logs; the first, in which it warms up, is not counted


@dataclasses.dataclass(frozen=True)
class Pillar:
  """A config, and what of it grows with the devices.

  Attributes:
    config: of configs/.
    steps: of a logged interval.
    sizes: key -> what one device has of it.
    fixed: keys that are other than in the config.
  """

  config: str
  steps: int
  sizes: Mapping[str, int]
  fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def overrides(self, devices: int) -> list[str]:
    """Returns the arguments of a run on so many devices."""
    values = {
      **self.fixed,
      **{key: size * devices for key, size in self.sizes.items()},
      'train.steps': INTERVALS * self.steps,
      'train.log_every': self.steps,
      'train.eval_every': 0,
    }
    return [f'--config.{key}={value}' for key, value in values.items()]


# Evaluations come after the last interval, and are kept short.
PILLARS = {
  'classification': Pillar('lenet_digits', 30, {'data.batch_size': 64}),
  'language': Pillar(
    'gpt_python_cpu',
    10,
    {'data.batch_size': 8},
    {'data.eval_split': 'validation[:2%]', 'task.prompt': ''},
  ),
  'diffusion': Pillar(
    'diffusion_digits',
    20,
    {'data.batch_size': 32},
    {'data.eval_batch_size': 176, 'optimizer.warmup_steps': 10},
  ),
  'go': Pillar(
    'go_5x5',
    10,
    {'task.num_envs': 16, 'data.batch_size': 32},
    {
      'task.replay.min_size': 256,
      'task.evaluation.num_games': 8,
      'task.evaluation.baselines': "('random',)",
      'task.evaluation.timings': False,
      'train.best': 'random/share',
    },
  ),
}
LAYOUTS = ((1, 1), (2, 1), (4, 1), (8, 1), (2, 2), (4, 4))  # devices in all, processes


# -------- runs --------


def seconds(pillar: Pillar, devices: int, processes: int, core: int) -> list[float]:
  """Trains on one core; returns the seconds a step of each interval but the first."""
  with tempfile.TemporaryDirectory() as folder:
    command = [f'--config={pillar.config}', f'--workdir={folder}', *pillar.overrides(devices)]
    together = [] if processes == 1 else [*_joined(processes)]
    running = [
      _start('train', command + together + _which(i, processes), devices // processes, core)
      for i in range(processes)
    ]
    for process in running:
      _, error = process.communicate()
      if process.returncode:
        raise RuntimeError(f'{pillar.config} on {devices} devices: {error[-2_000:]}')
    lines = pathlib.Path(folder, 'metrics.jsonl').read_text().splitlines()
  ends = [line['time/seconds'] for line in map(json.loads, lines) if 'time/seconds' in line]
  return [(end - begin) / pillar.steps for begin, end in itertools.pairwise(ends)]


def _joined(processes: int) -> list[str]:
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  return [f'--coordinator_address={address}', f'--num_processes={processes}']


def _which(index: int, processes: int) -> list[str]:
  return [] if processes == 1 else [f'--process_id={index}']


def _start(verb: str, arguments: Sequence[str], devices: int, core: int) -> subprocess.Popen[str]:
  process = subprocess.Popen(
    [sys.executable, 'launch.py', verb, *arguments],
    cwd=turns.ROOT,
    env={**os.environ, 'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  os.sched_setaffinity(process.pid, {core})  # long before it counts the cores
  return process


# -------- what is sent --------


def sent(pillar: Pillar, devices: int, core: int) -> dict[str, Any]:
  """Returns what a device sends in a step: 'parameters' held, and kind of collective -> bytes."""
  with tempfile.TemporaryDirectory() as folder:
    arguments = [f'--config={pillar.config}', f'--topology=cpu:{devices}', f'--workdir={folder}']
    process = _start('compile', arguments + pillar.overrides(devices), devices, core)
    _, error = process.communicate()
    if process.returncode:
      raise RuntimeError(error[-2_000:])
    record = json.loads(pathlib.Path(folder, 'compile.json').read_text())
  kinds: dict[str, float] = {}
  for one in record['collectives']:
    kinds[one['kind']] = kinds.get(one['kind'], 0.0) + one['sent']
  return {'parameters': record['memory']['parameters'], 'sent': kinds}


def least(parameters: int, devices: int) -> float:
  """Returns the bytes that data parallelism must send: the gradients, summed once by a ring."""
  return 2 * (devices - 1) / devices * parameters


# -------- the table --------


def measure(name: str, rounds: int, core: int) -> dict[str, Any]:
  """Runs every layout of a pillar in turn, `rounds` times, and prints a line of each."""
  pillar = PILLARS[name]
  times: dict[tuple[int, int], list[list[float]]] = {layout: [] for layout in LAYOUTS}
  for _ in range(rounds):
    for layout in LAYOUTS:
      times[layout].append(seconds(pillar, *layout, core))
  found: dict[str, Any] = {'program': sent(pillar, max(devices for devices, _ in LAYOUTS), core)}
  # A round's own step on one device: neighbours in time are compared.
  alone = [statistics.median(each) for each in times[1, 1]]
  for (devices, processes), each in times.items():
    steps = [statistics.median(one) for one in each]
    shares = [1 - devices * one / step for one, step in zip(alone, steps, strict=True)]
    share = statistics.median(shares)
    found[f'{devices}/{processes}'] = {'seconds': steps, 'beyond': shares}
    milliseconds = 1e3 * statistics.median(steps)
    print(
      f'{name:15} {devices} devices of {processes} processes: {milliseconds:8.1f} ms a step,'
      f' {share:6.1%} beyond {devices} x one [{min(shares):.1%}, {max(shares):.1%}]',
      flush=True,
    )
  return found


def sent_line(program: Mapping[str, Any], devices: int) -> str:
  """Returns in a line what a program sends, beside the least."""
  total, bound = sum(program['sent'].values()), least(program['parameters'], devices)
  kinds = ', '.join(f'{kind} {size / 2**10:,.0f}' for kind, size in program['sent'].items())
  return f'sends {total / 2**10:,.0f} KiB a step ({kinds}), {total / bound:.2f} of the least'


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.weak_scaling')
  parser.add_argument('--pillars', default=','.join(PILLARS), help='joined by commas')
  parser.add_argument('--rounds', type=turns.at_least(1), default=3)
  parser.add_argument('--core', type=int, default=0, help='the one that does all the work')
  parser.add_argument('--json', help='a file for the figures')
  options = parser.parse_args()
  names = turns.words(parser, '--pillars', options.pillars, PILLARS)
  devices = max(devices for devices, _ in LAYOUTS)
  found = {}
  for name in names:
    found[name] = measure(name, options.rounds, options.core)
    print(f'{name:15} on {devices} {sent_line(found[name]["program"], devices)}', flush=True)
    turns.save(options.json, figures=found)  # whatever becomes of the next one


if __name__ == '__main__':
  main()
