"""The configs without a recorded number, as a table: what each would take, on which hardware."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from train import config as config_lib
from train.report import numbers
from train.report.numbers import shown

CONFIGS, COMPILED = 'configs', 'docs/results/compile'
LAUNCH = 1e-3  # seconds: what a host needs to start a step, whatever the devices do
HEAD = 'Config', 'Paper', 'Its number', 'Compiled for', 'A step', 'All steps'


def rows(root: Path, records: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
  """Returns a row for each config that no record's command trains, by name.

  Args:
    root: of the checkout.
    records: those of docs/results.
  """
  trained = {config_of(record['command']) for record in records}
  estimates = _estimates(root)
  return [
    _row(path.stem, config_lib.load(str(path)), estimates.get(path.stem))
    for path in sorted((root / CONFIGS).glob('*.py'))
    if path.stem not in {'__init__', *trained}
  ]


def config_of(command: str) -> str:
  """Returns the name of a command's config."""
  names = [x.partition('=')[2] for x in shlex.split(command) if x.startswith('--config=')]
  return Path(names[0]).stem if names else ''


def _estimates(root: Path) -> dict[str, dict[str, Any]]:
  """Returns config -> what `compile` said of its training, on the fastest hardware."""
  found: dict[str, dict[str, Any]] = {}
  for path in sorted((root / COMPILED).glob('*.json')):
    record = config_lib.read_json(str(path))
    changes = record['command'].replace('--config.mesh.', '').count('--config.')
    if record['verb'] != 'train' or 'estimate' not in record or changes:
      continue
    name = config_of(record['command'])
    if name not in found or record['estimate']['most'] < found[name]['estimate']['most']:
      found[name] = record
  return found


def _row(name: str, config: Mapping[str, Any], compiled: Mapping[str, Any] | None) -> tuple:
  paper = config.get('paper') or {}
  told = f'[{name}](configs/{name}.py)', paper.get('title') or '–', _number(config)
  if compiled is None:
    return *told, '–', '–', '–'
  step = max(LAUNCH, compiled['estimate']['most'])
  hardware = f'{compiled["devices"]} x {compiled["device"]}'
  return *told, hardware, _time(step), _time(step * config['train']['steps'])


def _number(config: Mapping[str, Any]) -> str:
  """Returns the paper's number and what it is of."""
  value = (config.get('paper') or {}).get('value')
  if value is None:
    return '–'
  metric = numbers.headline(dict(config))
  return f'{shown(metric, value)} {metric.replace("/", " ")}'


def _time(seconds: float) -> str:
  """Returns a time with two digits, in the unit that suits it."""
  units = (('days', 86_400), ('hours', 3_600), ('minutes', 60), ('s', 1), ('ms', 1e-3))
  name, size = next((unit for unit in units if seconds >= unit[1]), units[-1])
  return f'{float(f"{seconds / size:.2g}"):,g} {name}'
