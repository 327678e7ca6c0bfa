"""Reads run folders: their numbers over seeds, and the README's table of results.

`python -m train.report.results` rewrites the table in README.md from docs/results/*.json. Nothing
here starts JAX or needs the model: the files of a run folder are enough.
"""

import dataclasses
import json
import math
import shlex
import statistics
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from train import workdir as workdir_lib
from train.declaration import Declaration
from train.errors import UserError
from train.tasks import DECLARATIONS

RESULTS = 'docs/results'  # beside README.md
MARKERS = '<!-- results -->', '<!-- /results -->'  # in README.md
PIXELS = 'images', 'labels', 'predictions', 'probabilities', 'filters'
STEPS = {'latest': 'last step', 'best': 'best step'}  # what was evaluated, in words
FRACTIONS = 'error', 'accuracy', 'share', 'optimal', 'mfu'  # words in names of shares of 1
Curve = tuple[np.ndarray, np.ndarray]  # steps int [N] rising, values float [N] finite


@dataclasses.dataclass(frozen=True)
class Folder:
  """One run folder as it lies on disk; a part that is missing is empty."""

  path: str
  config: dict
  starts: list[dict]  # run.json: one entry a start or resumption
  curves: dict[str, Curve]  # metrics.jsonl by metric name
  evaluation: dict  # eval.json
  pixels: dict[str, np.ndarray]  # eval_figures.npz
  broken: tuple[str, ...] = ()  # names of damaged files, whose parts are empty

  @property
  def step(self) -> int:
    """The last step that any metric was written for."""
    return max((int(steps[-1]) for steps, _ in self.curves.values()), default=0)

  @property
  def seed(self) -> Any:
    return self.config.get('seed', 0)

  @property
  def start(self) -> dict:
    """The last start; empty if run.json is."""
    return self.starts[-1] if self.starts else {}

  @property
  def members(self) -> int:
    """How many networks' mean prediction eval.json is of: 1, or an ensemble's."""
    return len(self.evaluation.get('workdirs') or [self.path])


def read(workdir: str) -> Folder:
  """Reads a run folder; UserError if it is none, or if its config.json is damaged."""
  root = Path(workdir)
  if not (root / 'config.json').is_file():
    found = 'no config.json there' if root.is_dir() else 'no such folder'
    raise UserError(f'{workdir}: {found}; a workdir is what `launch.py train` made')
  broken: list[str] = []
  config = _json(root / 'config.json', broken)
  if broken:
    raise UserError(f'{root / "config.json"}: damaged; it should be one JSON object')
  run, evaluation = _json(root / 'run.json', broken), _json(root / 'eval.json', broken)
  pixels = _pixels(root / 'eval_figures.npz', broken)
  curves = read_curves(root / 'metrics.jsonl')
  starts = run.get('starts') or []
  return Folder(str(workdir), config, starts, curves, evaluation, pixels, tuple(broken))


def read_curves(path: Path) -> dict[str, Curve]:
  """Returns metric name to curve of a metrics.jsonl.

  The last value of a repeated step counts. A line cut short (the run is still writing it) and
  values that are not finite are left out.
  """
  found: dict[str, dict[int, float]] = {}
  for line in path.read_text(errors='replace').splitlines() if path.is_file() else ():
    record = _parsed(line)
    step = record.pop('step', None)
    for name, value in record.items():
      if isinstance(value, int | float) and math.isfinite(value) and isinstance(step, int):
        found.setdefault(name, {})[step] = float(value)
  ordered = {name: sorted(points.items()) for name, points in found.items()}
  return {
    name: (np.array([step for step, _ in points]), np.array([value for _, value in points]))
    for name, points in ordered.items()
  }


def _parsed(text: str) -> dict:
  try:
    value = json.loads(text)
  except ValueError:
    return {}
  return value if isinstance(value, dict) else {}


def _json(path: Path, broken: list[str]) -> dict:
  value = _parsed(path.read_text(errors='replace')) if path.is_file() else {}
  if path.is_file() and not value:
    broken.append(path.name)
  return value


def _pixels(path: Path, broken: list[str]) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as archive:
      return {name: archive[name] for name in PIXELS if name in archive}
  except FileNotFoundError:
    return {}
  except (ValueError, OSError, EOFError, zipfile.BadZipFile):
    broken.append(path.name)
    return {}


def flatten(config: dict, prefix: str = '') -> dict[str, Any]:
  """Returns {'model': {'name': 'lenet5'}, 'seed': 0} as {'model.name': 'lenet5', 'seed': 0}."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    whole = isinstance(value, dict) and value
    flat |= flatten(value, f'{prefix}{key}.') if whole else {prefix + key: value}
  return flat


def groups(folders: list[Folder]) -> list[list[Folder]]:
  """Groups runs that share every setting but the seed, in the order given."""
  found: dict[str, list[Folder]] = {}
  for folder in folders:
    rest = {key: value for key, value in folder.config.items() if key != 'seed'}
    found.setdefault(json.dumps(rest, sort_keys=True), []).append(folder)
  return list(found.values())


def differences(configs: list[dict]) -> list[str]:
  """Returns the dotted keys, `seed` apart, on which the configs do not agree."""
  flat = [flatten(config) for config in configs]
  keys = dict.fromkeys(key for config in flat for key in config)
  texts = {key: {json.dumps(config.get(key)) for config in flat} for key in keys}
  return [key for key in keys if key != 'seed' and len(texts[key]) > 1]


@dataclasses.dataclass(frozen=True)
class Number:
  """The paper's number beside ours."""

  metric: str
  paper: float | None
  title: str  # the paper
  note: str  # what the config has to say on the comparison
  values: tuple[float, ...]  # ours, one entry a seed that has one
  evaluated: bool  # every value is from an eval.json, none merely from the curves

  @property
  def mean(self) -> float | None:
    return statistics.fmean(self.values) if self.values else None

  @property
  def std(self) -> float | None:
    """Sample standard deviation (n - 1), None for a single seed."""
    return statistics.stdev(self.values) if len(self.values) > 1 else None


def headline(config: dict) -> str:
  """Returns the metric that a run is about: of its paper, else of its task."""
  declared = DECLARATIONS.get((config.get('task') or {}).get('name') or '', Declaration(''))
  return (config.get('paper') or {}).get('metric') or declared.metric


def number(runs: list[Folder]) -> Number:
  """Returns the headline of runs that differ in the seed alone.

  It is eval.json's value of the metric that the config's section `paper` names, else the last one
  of the curves. An ensemble is no seed: its number counts where it stands alone.
  """
  paper = runs[0].config.get('paper') or {}
  metric = headline(runs[0].config)
  measured = [_measured(run, metric, alone=len(runs) == 1) for run in runs]
  last = [run.curves[metric][1][-1] if metric in run.curves else None for run in runs]
  values = [own if own is not None else late for own, late in zip(measured, last, strict=True)]
  known = tuple(float(value) for value in values if value is not None)
  title, note = (paper.get(key) or '' for key in ('title', 'note'))
  return Number(metric, paper.get('value'), title, note, known, None not in measured)


def evaluated(runs: list[Folder]) -> list[Number]:
  """Returns every metric in the eval.json of runs that differ in the seed alone; see `number`."""
  names = dict.fromkeys(name for run in runs for name in run.evaluation.get('metrics') or {})
  each = {name: [_measured(run, name, alone=len(runs) == 1) for run in runs] for name in names}
  known = {name: tuple(x for x in values if x is not None) for name, values in each.items()}
  return [Number(name, None, '', '', values, True) for name, values in known.items() if values]


def _measured(run: Folder, metric: str, alone: bool) -> float | None:
  counts = alone or run.members == 1
  return (run.evaluation.get('metrics') or {}).get(metric) if counts else None


def command(run: Folder) -> str:
  """Returns what to type to train this again: without the interpreter's path, folder and seed."""
  words = shlex.split(run.starts[0].get('command', '')) if run.starts else []
  own = '--workdir', '--seed', '--config.seed', '--nohost_tuning'
  kept = [word for word in words if word.partition('=')[0] not in own]
  start = next((i for i, word in enumerate(kept) if word.endswith('launch.py')), None)
  return shlex.join(kept if start is None else ['python', 'launch.py', *kept[start + 1 :]])


def device(run: Folder) -> str:
  """Returns '8 × NVIDIA H200' of the last start, or the name and cores of its CPU."""
  kind, count = run.start.get('device', ''), run.start.get('device_count', 1)
  kind = run.start.get('processor', 'CPU') if kind.lower() == 'cpu' else kind
  return f'{count} × {kind}' if count > 1 else kind


def commit(run: Folder) -> str:
  """Returns the commit of the last start, with '+ changes' if files differed from it."""
  return (run.start.get('commit') or '')[:12] + (' + changes' if run.start.get('dirty') else '')


def versions(run: Folder) -> dict[str, str]:
  """Returns library to version, of the last start."""
  return (run.start if run.starts else run.evaluation).get('versions', {})


def record(workdirs: list[str], name: str, note: str = '') -> dict:
  """Returns docs/results/NAME.json: the number of runs that differ in the seed alone.

  Raises:
    UserError: The runs differ in more, or one of them has not been evaluated.
  """
  folders = [read(workdir) for workdir in workdirs]
  if keys := ', '.join(differences([folder.config for folder in folders])):
    raise UserError(f'--record: a result is one config and its seeds; these runs differ in {keys}')
  found, first = number(folders), folders[0]
  if not found.evaluated:
    alone = len(folders) == 1
    paths = ', '.join(f.path for f in folders if _measured(f, found.metric, alone) is None)
    raise UserError(f'{paths}: no {found.metric} of its own; run `launch.py eval` there')
  ours = {'mean': found.mean, 'std': found.std, 'n': len(found.values)}
  return {
    'name': name,
    'paper': {'title': found.title, 'metric': found.metric, 'value': found.paper},
    'ours': ours | {'values': list(found.values)},
    'seeds': [folder.seed for folder in folders],
    'members': first.members,
    'checkpoint': first.evaluation.get('checkpoint', ''),
    'overrides': first.evaluation.get('overrides', {}),
    'device': device(first),
    'versions': versions(first),
    'commit': commit(first),
    'command': command(first),
    'date': first.start.get('time', '')[:10],
    'note': note or found.note,
  }


def write(workdirs: list[str], path: str, note: str = '') -> str:
  """Writes the record to `path` and returns it. An older file's note stays unless one is given.

  A file that is no record stays: the record gets a name beside it.
  """
  output = Path(path)
  old = _json(output, [])
  if output.exists() and not {'name', 'ours'} <= old.keys():
    output = Path(workdir_lib.free_path(path))
  made = record(workdirs, output.stem, note or old.get('note', ''))
  output.parent.mkdir(parents=True, exist_ok=True)
  workdir_lib.write_text(str(output), json.dumps(made, indent=2, ensure_ascii=False) + '\n')
  return str(output)


def shown(metric: str, value: float | None, std: float | None = None) -> str:
  """Writes '0.82 ± 0.03 %' for an error or an accuracy, '1.470 ± 0.002' for anything else."""
  if value is None:
    return '–'
  scale, digits, unit = (100, 2, ' %') if is_fraction(metric) else (1, 3, '')
  spread = f' ± {scale * std:.{digits}f}' if std is not None else ''
  return f'{scale * value:.{digits}f}{spread}{unit}'


def is_fraction(metric: str) -> bool:
  """Returns whether a metric is a share of 1, which reads best in percent."""
  return any(word in metric for word in FRACTIONS)


def table(root: str | Path, folder: str = RESULTS) -> str:
  """Returns the Markdown table of every result in `root`/`folder`, one row a JSON file, by name."""
  paths = sorted((Path(root) / folder).glob('*.json'))
  records = [json.loads(path.read_text()) for path in paths]
  if not records:
    return 'No results are recorded yet.'
  head = 'Experiment', 'Paper', 'Its number', 'Ours', 'Seeds', 'Device', 'Command'
  rows = [head, ('---',) * len(head), *(_row(record, folder) for record in records)]
  lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
  notes = [f'- {record["name"]}: {record["note"]}' for record in records if record['note']]
  return '\n'.join(lines + [''] * bool(notes) + notes)


def _row(record: dict, folder: str) -> tuple[str, ...]:
  paper, ours, name = record['paper'], record['ours'], record['name']
  metric = paper['metric']
  link = f'[{name}]({folder}/{name}.json)'
  how = metric.replace('/', ' '), STEPS.get(record['checkpoint'], ''), *record['overrides'].values()
  found = f'**{shown(metric, ours["mean"], ours["std"])}** {", ".join(filter(None, how))}'
  theirs = paper['title'] or '–', shown(metric, paper['value'])
  return link, *theirs, found, str(ours['n']), record['device'], f'`{record["command"]}`'


def update(readme: str | Path = 'README.md') -> bool:
  """Puts the table of the results beside it into README; returns whether that changed the file."""
  path = Path(readme)
  text = path.read_text()
  before, opening, rest = text.partition(MARKERS[0])
  _, closing, after = rest.partition(MARKERS[1])
  if not closing:
    raise UserError(f'{readme}: has no {" ... ".join(MARKERS)} to put the results between')
  new = f'{before}{opening}\n{table(path.parent)}\n{closing}{after}'
  path.write_text(new)
  return new != text


if __name__ == '__main__':
  print('README.md', 'changed' if update() else 'is up to date')
