"""The verb `compile`: what a config needs on hardware that is not there, and what would help."""

import contextlib
import dataclasses
import os
import pathlib
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from train import config as config_lib
from train import mesh as mesh_lib
from train.aot import hlo, programs, report
from train.aot.topology import Topology, find
from train.errors import UserError
from train.provenance import provenance
from train.sections import build_abstract_task, complete_config
from train.workdir import write_json

ROOT = str(pathlib.Path(__file__).parents[2])
TICK = 20  # seconds between two lines that say that a compiler is still at work
# Of libtpu, which refuses what does not fit: early, by the temporaries alone, or once it is placed.
USED = re.compile(r'(?:Used |for HLO temporaries \()([\d.]+)([KMG])\b')
LONG = 8192  # tokens of a text that is worth sharing among devices
# Without the card nothing is tuned: Triton's products would get their first tiles, which need not
# suit a shape (an internal error of XLA's), so they are cuBLAS's.
OPTIONS = {'gpu': {'xla_gpu_enable_triton_gemm': False}}
UNITS = {'K': 2**10, 'M': 2**20, 'G': 2**30}


@dataclasses.dataclass(frozen=True)
class Attempt:
  """A config compiled.

  Attributes:
    needs: bytes of a device's memory.
    memory: the same in parts; None where the compiler refused the program for its size.
    collectives: of all programs.
    kernels: name -> number, of all programs.
    flops: of the model, a step.
    devices: of the target that the programs are for.
    mesh: axis -> size.
  """

  needs: int
  memory: report.Memory | None
  collectives: list[hlo.Collective]
  kernels: dict[str, int]
  flops: float
  devices: list[Any]
  mesh: dict[str, int]


def compile_config(
  config: Mapping[str, Any], topology: str, workdir: str, verb: str = 'train'
) -> bool:
  """Compiles a config's programs, prints what they need, and leaves `compile.json`.

  Args:
    config: completed.
    topology: the hardware, as `topology.EXAMPLES`.
    workdir: where the file goes.
    verb: what is compiled, of `programs.VERBS`.

  Returns:
    Whether it fits into the devices' memory.
  """
  target = find(topology)
  first = attempt(config, target, verb)
  lines, record = describe(first, target)
  print('\n'.join(lines))
  fits = first.needs <= target.chip.memory
  if not fits:
    record['knobs'] = try_knobs(config, target) if verb == 'train' else []
  os.makedirs(workdir, exist_ok=True)
  path = os.path.join(workdir, 'compile.json')
  about = {'topology': topology, 'verb': verb, 'config': config}
  # Last, since provenance has a device as well: the one that compiled.
  write_json(path, {**provenance(), **about, **record})
  print(f'more in {path}')
  return fits


def attempt(config: Mapping[str, Any], target: Topology, verb: str = 'train') -> Attempt:
  """Compiles the programs of a verb for the target."""
  mesh = mesh_lib.make_mesh(**config['mesh'], devices=target.devices)
  task = build_abstract_task(config)
  lowered = programs.VERBS[verb](config, task, mesh)
  flops = lowered.flops
  try:
    compiled = [_compile(name, each, target) for name, each in lowered.programs.items()]
  except jax.errors.JaxRuntimeError as error:
    used = USED.search(str(error))
    if used is None:
      raise
    needs = int(float(used[1]) * UNITS[used[2]])
    return Attempt(needs, None, [], {}, flops, [], dict(mesh.shape))
  texts = [program.as_text() for program in compiled]
  hosts = [target.host_of(device) for device in mesh.devices.flat]
  found = [hlo.Program(text, mesh.shape, hosts, ROOT) for text in texts]
  kernels: dict[str, int] = {}
  for each in found:
    for name, count in each.kernels().items():
      kernels[name] = kernels.get(name, 0) + count
  needed = report.memory(lowered, compiled, target.chip)
  collectives = [one for each in found for one in each.collectives()]
  devices = list(jax.tree.leaves(compiled[0].input_shardings)[0].device_set)  # texts: one
  return Attempt(needed.total, needed, collectives, kernels, flops, devices, dict(mesh.shape))


def _compile(name: str, program: Any, target: Topology) -> Any:
  with _ticking(f'compiling {name} for {target.text}'):
    return program.compile(OPTIONS.get(target.chip.platform))


@contextlib.contextmanager
def _ticking(what: str) -> Iterator[None]:
  """Says that something goes on, at its beginning, while it takes long, and at its end."""
  began, done = time.monotonic(), threading.Event()

  def tick() -> None:
    while not done.wait(TICK):
      print(f'{what}: {time.monotonic() - began:.0f} s', file=sys.stderr)

  print(what, file=sys.stderr)
  thread = threading.Thread(target=tick, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()
  print(f'{what}: done in {time.monotonic() - began:.0f} s', file=sys.stderr)


def describe(found: Attempt, target: Topology) -> tuple[list[str], dict[str, Any]]:
  """Returns what is printed of an attempt, and what `compile.json` has of it."""
  count = len(target.devices)
  mesh = ' '.join(f'{axis}={size}' for axis, size in found.mesh.items())
  lines = [f'{count} x {target.kind}, mesh {mesh}']
  record: dict[str, Any] = {'device': target.kind, 'devices': count, 'mesh': found.mesh}
  record |= {'needs': found.needs, 'limit': int(target.chip.memory), 'flops': found.flops}
  if found.memory is None:
    gib = found.needs / 2**30, target.chip.memory / 2**30
    return [*lines, f'DOES NOT FIT: needs {gib[0]:.1f} of {gib[1]:.2f} GiB'], record
  time_ = report.estimate(found.memory, found.collectives, found.flops, found.devices, target.chip)
  lines += report.memory_text(found.memory)
  lines += report.collectives_text(found.collectives)
  lines += report.kernels_text(found.kernels)
  lines += report.estimate_text(time_, found.flops, len(found.devices))
  record |= {
    'memory': dataclasses.asdict(found.memory),
    'collectives': [{**dataclasses.asdict(one), 'sent': one.sent} for one in found.collectives],
    'kernels': found.kernels,
    'estimate': {**dataclasses.asdict(time_), 'least': time_.least, 'most': time_.most},
  }
  return lines, record


# -------- what would help --------


def knobs(config: Mapping[str, Any]) -> Iterator[dict[str, str]]:
  """Yields overrides of a config that need less memory, the cheapest first."""
  accumulate, model = config['train']['accumulate'], config['model']
  if config['mesh']['fsdp'] == 1:
    yield {'mesh.data': '1', 'mesh.fsdp': '-1'}
  if model.get('remat') is False:
    yield {'model.remat': 'True'}
  if chunk := config['task'].get('chunk'):
    yield {'task.chunk': str(chunk // 2 or 1)}
  elif chunk == 0:
    yield {'task.chunk': '128'}
  if envs := config['task'].get('num_envs'):  # each has a search tree
    yield {'task.num_envs': str(envs // 2 or 1)}
  if window := config['task'].get('replay', {}).get('window'):
    yield {'task.replay.window': str(window // 2 or 1)}
  for factor in (2, 4):
    yield {'train.accumulate': str(accumulate * factor)}
  if config['data'].get('block_size', 0) >= LONG and config['mesh']['context'] == 1:
    each_text = {'train.accumulate': str(config['data']['batch_size'])}
    yield {'mesh.data': '1', 'mesh.fsdp': '1', 'mesh.context': '-1', **each_text}


def try_knobs(config: Mapping[str, Any], target: Topology) -> list[dict[str, Any]]:
  """Compiles with each knob alone, then with all that helped; prints and returns what they need."""
  print('what would help, each tried:')
  tried: list[dict[str, Any]] = []
  for overrides in knobs(config):
    needs = _try(config, overrides, target)
    tried.append({'overrides': overrides, 'needs': needs})
  known = [one for one in tried if one['needs'] is not None]
  if not any(one['needs'] <= target.chip.memory for one in known):
    together = {key: text for one in known for key, text in one['overrides'].items()}
    tried.append({'overrides': together, 'needs': _try(config, together, target)})
  return tried


def _try(config: Mapping[str, Any], overrides: Mapping[str, str], target: Topology) -> int | None:
  """Returns what a config needs with overrides; None if they do not go together."""
  changed = dict(config)
  for key, text in overrides.items():
    changed = config_lib.override(changed, key, text)
  shown = ' '.join(f'--config.{key}={text}' for key, text in overrides.items())
  try:
    needs = attempt(complete_config(changed), target).needs
  except UserError as error:
    print(f'  {shown}: {error}')
    return None
  verdict = 'fits' if needs <= target.chip.memory else 'does not fit'
  print(f'  {shown}: {needs / 2**20:,.0f} of {target.chip.memory / 2**20:,.0f} MiB, {verdict}')
  return needs
