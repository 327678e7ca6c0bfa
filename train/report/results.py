"""Records the number of an experiment in docs/results, and puts README's table of all together.

`python -m train.report.results` rewrites the table in README.md from docs/results/*.json, and says
which of them were measured with other code or by commands that are refused by now.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train import workdir as workdir_lib
from train.errors import UserError
from train.report import experiments, numbers, standing
from train.report.folder import NUMBER, Folder, members, read, read_object
from train.report.numbers import shown

RESULTS = 'docs/results'  # beside README.md
HEAD = 'Experiment', 'Paper', 'Its number', 'Ours', 'Seeds', 'Device', 'Command'
MARKERS = '<!-- results -->', '<!-- /results -->'  # in README.md
STEPS = {'latest': 'last step', 'best': 'best step'}  # what was evaluated, in words
REACHED = """\
**Trained to the paper's number**, or beyond:"""
MEASURED = """\
**Trained in small**: the paper's number is not reached, or no paper has this experiment:"""
UNTRAINED = """\
**Complete, but not trained to an end**: no number is recorded yet. What training one takes is the
estimate of `compile` on the hardware that it was compiled for
([docs/scaling.md](docs/scaling.md)): a lower bound, at the chips' peak, without the input and
without a search's gathers; no accelerator has confirmed it yet. A step counts as a millisecond at
least, for the host has to start it. The configs' files say what was measured of them so far."""
RECORD = {  # what the table shows of a file of RESULTS
  **dict.fromkeys(('name', 'checkpoint', 'device', 'command', 'note'), str),
  'paper': {'title': str, 'metric': str, 'value': NUMBER},
  'ours': {'mean': NUMBER, 'std': NUMBER, 'n': int},
  'overrides': {},
}


# -------- the record --------


def record(workdirs: list[str], name: str, note: str = '') -> dict:
  """Returns docs/results/NAME.json: the number of runs that differ in the seed alone.

  Runs of one seed count once, which is said on stderr.

  Raises:
    UserError: The runs differ in more, are not over, or have not all been evaluated in one way; or
      runs of one seed have different numbers.
  """
  folders = [read(workdir) for workdir in workdirs]
  _check_alike(folders)
  runs = numbers.distinct(folders)
  _check_evaluated(runs)
  found, first = numbers.number(runs), runs[0]
  evaluation = numbers.evaluation_of(first, found.metric, len(runs) == 1) or {}
  spread = {'mean': found.mean, 'std': found.std, 'n': len(found.values)}
  return {
    'name': name,
    'paper': {'title': found.title, 'metric': found.metric, 'value': found.paper},
    'ours': spread | {'values': list(found.values)},
    'seeds': [run.seed for run in runs],
    'members': members(evaluation),
    'checkpoint': str(evaluation.get('checkpoint', '')),
    'overrides': evaluation.get('overrides', {}),
    'device': numbers.each_start(runs, numbers.device),
    'versions': numbers.versions(runs),
    'commit': numbers.each_start(runs, numbers.commit),
    'command': numbers.command(first),
    'date': first.start.get('time', '')[:10],
    'note': note or found.note,
  }


def _check_alike(folders: list[Folder]) -> None:
  """Raises UserError unless the folders are one experiment, and one number of each seed."""
  if keys := ', '.join(numbers.differences([folder.config for folder in folders])):
    raise UserError(f'--record: a result is one config and its seeds; these runs differ in {keys}')
  for run, same in numbers.repeats(folders):
    ours, theirs = (numbers.number([x]) for x in (run, same))
    if ours.evaluated and theirs.evaluated and run.step == same.step and ours.mean != theirs.mean:
      raise UserError(
        f'--record: {run.path} and {same.path} have the same seed {run.seed} and other numbers,'
        f' {ours.mean} and {theirs.mean}; name one of them'
      )
    print(f'{run.path}: the same seed as {same.path}, counts once', file=sys.stderr)


def _check_evaluated(runs: list[Folder]) -> None:
  """Raises UserError unless each run is over, and all were evaluated then, in one way."""
  metric, ways = numbers.headline(runs[0].config), {}
  for run in runs:
    found = numbers.evaluation_of(run, metric, len(runs) == 1)
    if found is None:
      raise UserError(f'{run.path}: no {metric} of its own; run `launch.py eval` there')
    if not math.isfinite(found['metrics'][metric]):
      raise UserError(f'{run.path}: its {metric} is not finite')
    if run.curves and run.steps and run.step < run.steps:
      raise UserError(f'{run.path}: at step {run.step} of {run.steps}; a result is of a whole run')
    if numbers.is_stale(run, found):
      raise UserError(
        f'{run.path}: went on to step {run.step} after its evaluation; run `launch.py eval` again'
      )
    ways[numbers.how(run, found)] = run.path
  if len(ways) > 1:
    raise UserError(f'--record: runs were evaluated in different ways: {"; ".join(ways)}')


def write(workdirs: list[str], path: str, note: str = '') -> str:
  """Writes the record to `path` and returns it. An older file's note stays unless one is given.

  A file that is no record stays: the record gets a name beside it.
  """
  output = Path(path)
  old = read_object(output, {'name': str, 'note': str}, [])
  if output.exists() and not {'name', 'ours'} <= old.keys():
    output = Path(workdir_lib.free_path(path))
  made = record(workdirs, output.stem, note or old.get('note', ''))
  output.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(made, indent=2, ensure_ascii=False) + '\n'
  # Bytes of a name that is not UTF-8 are escaped as JSON does.
  workdir_lib.write_bytes(str(output), text.encode('utf-8', 'backslashreplace'))
  return str(output)


# -------- README's table --------


def table(root: str | Path, folder: str = RESULTS) -> str:
  """Returns the Markdown of every result in `root`/`folder`, one row a JSON file, by name.

  Those that reach the paper's number come first; the last table has the configs without a result.

  Raises:
    UserError: a file is damaged or not a result.
  """
  records = read_records(root, folder)
  if not records:
    return 'No results are recorded yet.'
  groups: dict[bool, list[dict]] = {True: [], False: []}
  for record in records:
    groups[_reached(record)].append(record)
  parts = [
    [title, '', *_lines(HEAD, [_row(record, folder) for record in groups[reached]])]
    for title, reached in ((REACHED, True), (MEASURED, False))
    if groups[reached]
  ]
  parts += (
    [notes] if (notes := [f'- {r["name"]}: {r["note"]}' for r in records if r['note']]) else []
  )
  if rest := experiments.rows(Path(root), records):
    parts.append([UNTRAINED, '', *_lines(experiments.HEAD, rest)])
  return '\n\n'.join('\n'.join(part) for part in parts)


def _reached(record: Mapping[str, Any]) -> bool:
  """Returns whether the paper has a number, and ours is at least as good."""
  paper, ours = record['paper'], record['ours'].get('mean')
  if paper.get('value') is None or ours is None:
    return False
  return numbers.reaches(paper.get('metric', ''), ours, paper['value'])


def _lines(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
  cells = [head, ('---',) * len(head), *rows]
  return ['| ' + ' | '.join(map(_cell, row)) + ' |' for row in cells]


def read_records(root: str | Path, folder: str = RESULTS) -> list[dict]:
  """Returns the records in `root`/`folder` by name; UserError if a file is not one."""
  return [_record(path) for path in sorted((Path(root) / folder).glob('*.json'))]


def _record(path: Path) -> dict:
  broken: list[str] = []
  found = read_object(path, RECORD, broken)
  missing = [f'{path.name} has no {key}' for key in RECORD if key not in found]
  if broken or missing:
    raise UserError(f'{path}: {[*broken, *missing][0]}; `launch.py report --record` writes it')
  return found


def _cell(text: str) -> str:
  return ' '.join(text.replace('|', '\\|').split())


def _row(record: dict, folder: str) -> tuple[str, ...]:
  paper, ours, name = record['paper'], record['ours'], record['name']
  metric = paper.get('metric', '')
  link = f'[{name}]({folder}/{name}.json)'
  ways = (
    metric.replace('/', ' '),
    STEPS.get(record['checkpoint'], ''),
    *map(str, record['overrides'].values()),
  )
  found = f'**{shown(metric, ours.get("mean"), ours.get("std"))}** {", ".join(filter(None, ways))}'
  theirs = paper.get('title') or '–', shown(metric, paper.get('value'))
  return link, *theirs, found, str(ours.get('n', 0)), record['device'], f'`{record["command"]}`'


def update(readme: str | Path = 'README.md') -> bool:
  """Puts the table of the results beside it into README; returns whether that changed the file."""
  return workdir_lib.write_between(str(readme), MARKERS, table(Path(readme).parent))


def main() -> int:
  """Runs the command; returns the exit status."""
  try:
    print('README.md', 'changed' if update() else 'is up to date')
    print(*standing.remarks(read_records('.'), Path('.')), sep='\n')
  except (UserError, OSError) as error:
    print(f'results: {error}', file=sys.stderr)
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main())
