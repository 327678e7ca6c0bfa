"""Records where a run or a number comes from: command, commit, versions, devices."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax

from models.cpu import onednn
from train import config as config_lib
from train.errors import UserError, shown
from train.runtime import host as host_lib
from train.workdir import write_json

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint')


def provenance() -> dict[str, Any]:
  """Returns where a number comes from: command, commit, versions, devices."""
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
    'convolutions': convolutions(device.platform),
    'device_count': jax.device_count(),
    'process_count': jax.process_count(),
  }


def convolutions(platform: str) -> str:
  """Returns what computes convolutions there; on a CPU that depends on what is installed."""
  return onednn.description() if platform == 'cpu' else 'XLA'


def record_start(
  workdir: str, step: int, config: Mapping[str, Any], host: Mapping[str, Any]
) -> None:
  """Adds a start of the run to `run.json`: from which step, by what, and where."""
  path = os.path.join(workdir, 'run.json')
  run: dict[str, Any] = {'starts': []}
  if os.path.exists(path):
    try:
      run |= config_lib.read_json(path)
      if not isinstance(run['starts'], list):
        raise UserError(f'{path}: damaged, its starts are {shown(run["starts"])}')
    except UserError as error:  # it is a record, and no reason not to go on
      run = {'starts': []}
      os.replace(path, f'{path}.damaged')
      print(f'{error}; kept as {path}.damaged, a new record begins', file=sys.stderr)
  run['seed'] = config['seed']  # a start that failed before the first checkpoint binds to nothing
  run['starts'].append({'step': step, **provenance(), 'host': dict(host)})
  write_json(path, run)


def _commit() -> tuple[str | None, bool]:
  """Returns the commit of this code and whether files differ.

  Without git: ($BREAKTHROUGHS_COMMIT or None, False); an image of cluster/Dockerfile has it.
  """

  def git(*arguments: str) -> str:
    command = ['git', '-C', os.path.dirname(os.path.abspath(__file__)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

  try:
    return git('rev-parse', 'HEAD'), bool(git('status', '--porcelain', '--untracked-files=no'))
  except (OSError, subprocess.CalledProcessError):
    return os.environ.get('BREAKTHROUGHS_COMMIT') or None, False
