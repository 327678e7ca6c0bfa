"""Keeps what `compile` said of the configs, and puts the table of it into docs/scaling.md.

  python -m train.aot.table runs/a runs/b

keeps both folders' compile.json in docs/results/compile, one file for each command, without its
lists; without a folder the table is rewritten alone.
"""

import json
import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train import config as config_lib
from train import workdir as workdir_lib
from train.errors import UserError

RESULTS, PAGE = 'docs/results/compile', 'docs/scaling.md'
MARKERS = '<!-- compile -->', '<!-- /compile -->'  # in PAGE
KEPT = (
  *('topology', 'verb', 'device', 'devices', 'mesh', 'needs', 'limit', 'memory', 'flops'),
  *('estimate', 'command', 'commit', 'versions', 'time'),
)
MIB = 2**20


def condense(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what is kept of a compile.json: its numbers, the bytes sent by axes, the least."""
  sent: dict[str, float] = {}
  for one in record.get('collectives', ()):
    axes = '+'.join(one['axes'])
    sent[axes] = sent.get(axes, 0.0) + one['sent']
  kept = {name: record[name] for name in KEPT if name in record}
  words = [x for x in shlex.split(record['command']) if not x.startswith('--workdir=')]
  return {**kept, 'command': shlex.join(words), 'sent': sent, 'least': least(record)}


def least(record: Mapping[str, Any]) -> float | None:
  """Returns the bytes that a device must send in a step; None where another axis cuts layers.

  All gradients in float32 cross `data` once, by a ring; with `fsdp` each microbatch gathers all
  weights forward and backward, and scatters their gradients, in the network's dtype. A step of
  several updates does so for each.
  """
  mesh, config = record['mesh'], record['config']
  data, fsdp = mesh['data'], mesh['fsdp']
  if 'memory' not in record or math.prod(mesh.values()) > data * fsdp:
    return None
  held = record['memory']['parameters']
  half = config['model'].get('dtype') == 'bfloat16'
  parts = 3 * config['train']['accumulate'] * (fsdp - 1) * held / (2 if half else 1)
  task = config['task']
  updates = task.get('updates_per_step', task.get('mini_batches', 1))
  return updates * (parts + 2 * (data - 1) / data * held)


def keep(folders: Sequence[str], root: Path) -> None:
  """Condenses each folder's compile.json into a file of RESULTS named for its command."""
  for folder in folders:
    record = config_lib.read_json(str(Path(folder) / 'compile.json'))
    target = root / RESULTS / f'{_name(record)}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    workdir_lib.write_text(str(target), json.dumps(condense(record), indent=1) + '\n')


def _name(record: Mapping[str, Any]) -> str:
  config, overrides = _asked(record)
  text = '.'.join([config, record['topology'], *overrides])
  return re.sub(r'[^\w.=-]+', '_', text)


def _asked(record: Mapping[str, Any]) -> tuple[str, list[str]]:
  """Returns the name of the config and the overrides of the command."""
  words = shlex.split(record['command'])
  names = [Path(word.partition('=')[2]).stem for word in words if word.startswith('--config=')]
  return names[0] if names else '', [x[9:] for x in words if x.startswith('--config.')]


def table(root: Path) -> str:
  """Returns the Markdown table of all that is kept, by hardware and name."""
  records = [config_lib.read_json(str(path)) for path in (root / RESULTS).glob('*.json')]
  head = (
    *('config', 'mesh', 'a device holds, MiB', 'sends a step, MiB', 'of the least'),
    *('model TFLOPs a step', 'step, ms, by the estimate'),
  )
  lines = []
  for topology in sorted({record['topology'] for record in records}):
    chosen = [record for record in records if record['topology'] == topology]
    chosen.sort(key=_asked)
    lines += ['', f'`{topology}`, {chosen[0]["devices"]} x {chosen[0]["device"]}:', '']
    lines += ['| ' + ' | '.join(row) + ' |' for row in (head, ('---',) * len(head))]
    lines += ['| ' + ' | '.join(_row(record)) + ' |' for record in chosen]
  return '\n'.join(lines[1:])


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
  config, overrides = _asked(record)
  mesh = ' '.join(f'{axis}={size}' for axis, size in record['mesh'].items() if size > 1)
  fits = '' if record['needs'] <= record['limit'] else ' **does not fit**'
  sent, bound = record['sent'], record['least']
  shown = [f'{axes} {_number(size / MIB)}' for axes, size in sent.items() if size > 0.05 * MIB]
  ratio = f'{sum(sent.values()) / bound:.2f}' if bound and 'estimate' in record else ''
  time_ = record.get('estimate', {'least': 0, 'most': 0})
  span = [_number(time_[name] * 1e3) for name in ('least', 'most')]
  return (
    ' '.join([config, *(f'`{x}`' for x in overrides if not x.startswith('mesh.'))]),
    mesh,
    _number(record['needs'] / MIB) + fits,
    ', '.join(shown) or ('0' if 'estimate' in record else ''),
    ratio,
    _number(record['flops'] / 1e12),
    ' to '.join(dict.fromkeys(span)) if 'estimate' in record else '',
  )


def _number(value: float) -> str:
  """Returns three digits of a number, with its thousands apart."""
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def update(root: Path = Path('.')) -> bool:
  """Puts the table into the page; returns whether that changed it."""
  return workdir_lib.write_between(str(root / PAGE), MARKERS, f'\n{table(root)}\n')


def main() -> int:
  """Runs the command; returns the exit status."""
  try:
    keep(sys.argv[1:], Path('.'))
    print(PAGE, 'changed' if update() else 'is up to date')
  except (UserError, OSError) as error:
    print(f'table: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
