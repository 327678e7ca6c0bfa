"""The number that runs of one experiment come to, what else `eval` measured, and what made them.

Runs that differ in the seed alone are one experiment.
"""

import dataclasses
import functools
import json
import math
import shlex
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from train import config as config_lib
from train.declaration import Declaration
from train.report.folder import Folder, members
from train.tasks import DECLARATIONS
from train.workdir import portable

# Shares of 1, which read best in percent: words in their names, and whole names.
FRACTIONS = 'error', 'accuracy', 'share', 'optimal', 'mfu'
GREATER = (
  'accuracy',
  'share',
  'optimal',
  'agreement',
  'winner',
  'won',
  'bleu',
  'return',
  'likelihood',
)
SHARES = 'as_first', 'as_second', 'agreement', 'winner', 'won', 'play_draws', 'play_resigned'
# Where a run lies and what it keeps, not what it computes: runs may differ in these as in the seed,
# and each seed may have been distilled from the teacher of its own.
PLACE = (
  'task.teacher',
  *('data.data_dir', 'data.workers', 'data.processes', 'data.prefetch', 'data.in_memory'),
  *('train.checkpoint_every', 'train.keep'),
)


# -------- runs of one experiment --------


def groups(folders: list[Folder]) -> list[list[Folder]]:
  """Groups runs that share every setting but the seed and PLACE, in the order given."""
  found: dict[str, list[Folder]] = {}
  for folder in folders:
    flat = config_lib.flat(folder.config)
    rest = {key: value for key, value in flat.items() if key not in ('seed', *PLACE)}
    found.setdefault(json.dumps(rest, sort_keys=True), []).append(folder)
  return list(found.values())


def differences(configs: list[dict], besides: tuple[str, ...] = ('seed', *PLACE)) -> list[str]:
  """Returns the dotted keys, `besides` apart, on which the configs do not agree."""
  flat = [config_lib.flat(config) for config in configs]
  keys = dict.fromkeys(key for config in flat for key in config)
  texts = {key: {json.dumps(config.get(key)) for config in flat} for key in keys}
  return [key for key in keys if key not in besides and len(texts[key]) > 1]


def distinct(runs: list[Folder]) -> list[Folder]:
  """Returns one run of each seed: the one that got furthest, and of those one that is evaluated.

  A folder that is named twice, copied or gone on with elsewhere is no second sample.
  """
  seeds: dict[str, list[Folder]] = {}
  for run in runs:
    seeds.setdefault(json.dumps(run.seed), []).append(run)
  return [max(same, key=lambda run: (run.step, bool(run.evaluation))) for same in seeds.values()]


def repeats(runs: list[Folder]) -> list[tuple[Folder, Folder]]:
  """Returns each run that `distinct` leaves out, and the run of the same seed that it keeps."""
  kept = {json.dumps(run.seed): run for run in distinct(runs)}
  both = [(run, kept[json.dumps(run.seed)]) for run in runs]
  return [(run, same) for run, same in both if run is not same]


# -------- numbers --------


@dataclasses.dataclass(frozen=True)
class Number:
  """The paper's number beside ours."""

  metric: str
  paper: float | None
  title: str  # the paper
  note: str  # what the config has to say on the comparison
  values: tuple[float, ...]  # ours, one entry a seed that has one; NaN: not finite
  evaluated: bool  # every value is from an evaluation, none merely from the curves
  seeds: int  # of which `values` are
  steps: tuple[int, ...] = ()  # of the values that are from the curves
  members: int = 1  # networks whose mean prediction the value is of

  @property
  def mean(self) -> float | None:
    """The mean over the seeds, None if there is no value."""
    return float(np.mean(self.values)) if self.values else None

  @property
  def std(self) -> float | None:
    """Sample standard deviation (n - 1), None for a single seed."""
    return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

  @property
  def difference(self) -> float | None:
    """Ours less the paper's, None if one of them is missing or not finite."""
    if self.mean is None or self.paper is None:
      return None
    found = self.mean - self.paper
    return found if math.isfinite(found) else None


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Runs that share every setting but the seed, one of each seed.

  label: what tells it apart, '' if it is alone.
  """

  label: str
  runs: list[Folder]

  @property
  def first(self) -> Folder:
    """The first run, whose config stands for all."""
    return self.runs[0]

  @functools.cached_property
  def number(self) -> Number:
    """The paper's number beside ours."""
    return number(self.runs)


def headline(config: dict) -> str:
  """Returns the metric that a run is about: of its paper, else of its task."""
  declared = DECLARATIONS.get((config.get('task') or {}).get('name') or '', Declaration(''))
  return (config.get('paper') or {}).get('metric') or declared.metric


def number(runs: list[Folder]) -> Number:
  """Returns the headline of runs that differ in the seed alone.

  It is what `eval` measured of the metric that the config's section `paper` names. If not all have
  been evaluated, it is the curves' value at the last step that all have. An ensemble is no seed:
  its number counts where it stands alone.
  """
  paper = runs[0].config.get('paper') or {}
  metric = headline(runs[0].config)
  measured = [own for run in runs if (own := evaluation_of(run, metric, len(runs) == 1))]
  values: list[float] = [own['metrics'][metric] for own in measured]
  steps: tuple[int, ...] = ()
  late = [run.curves[metric] for run in runs if metric in run.curves]
  if len(late) > len(values):
    values, steps = _at_the_last_shared_step(late)
  title, note = (paper.get(key) or '' for key in ('title', 'note'))
  averaged = members(measured[0]) if measured and not steps else 1
  known = tuple(values), bool(values) and not steps, len(runs), steps, averaged
  return Number(metric, paper.get('value'), title, note, *known)


def _at_the_last_shared_step(curves: list) -> tuple[list[float], tuple[int, ...]]:
  """Returns the curves' values there, and the steps; each one's last if they share none."""
  shared = functools.reduce(np.intersect1d, [steps for steps, _ in curves])
  places = [np.searchsorted(steps, shared[-1]) if len(shared) else -1 for steps, _ in curves]
  found = [(float(ys[i]), int(xs[i])) for (xs, ys), i in zip(curves, places, strict=True)]
  values, steps = zip(*found, strict=True)
  return list(values), steps


def evaluation_of(run: Folder, metric: str, alone: bool) -> dict | None:
  """Returns the run's first evaluation that has the metric; an ensemble's only if it is alone.

  No evaluation measures a metric of training: its last value stands for one.
  """
  if metric.startswith('train/') and metric in run.curves:
    steps, values = run.curves[metric]
    last = {metric: float(values[-1])}
    return {'metrics': last, 'checkpoint': 'latest', 'step': int(steps[-1])}
  found = (x for x in run.evaluations.values() if metric in x.get('metrics', {}))
  return next((x for x in found if alone or members(x) == 1), None)


class Evaluated(NamedTuple):
  """What was measured in one way: the file, how, the numbers, and what else the file says of it."""

  file: str
  how: str
  numbers: list[Number]
  metadata: dict[str, str]


def evaluated(runs: list[Folder]) -> list[Evaluated]:
  """Returns all that `eval` measured of runs that differ in the seed alone, each way on its own."""
  found: dict[tuple[str, str], list[dict]] = {}
  for run in runs:
    for file, evaluation in run.evaluations.items():
      found.setdefault((file, how(run, evaluation)), []).append(evaluation)
  return [Evaluated(*key, _numbers(each), metadata(each[0])) for key, each in found.items()]


def _numbers(evaluations: list[dict]) -> list[Number]:
  names = dict.fromkeys(name for each in evaluations for name in each.get('metrics', {}))
  values = {name: [x['metrics'].get(name) for x in evaluations if 'metrics' in x] for name in names}
  known = {name: tuple(x for x in row if x is not None) for name, row in values.items()}
  return [Number(name, None, '', '', row, True, len(evaluations)) for name, row in known.items()]


def metadata(evaluation: dict) -> dict[str, str]:
  """Returns what an evaluation says of how it measured, beside what the page shows elsewhere."""
  mine = {key: value for key, value in evaluation.items() if isinstance(value, dict)}
  shown_elsewhere = 'metrics', 'overrides', 'options', 'versions'
  return config_lib.flat({key: value for key, value in mine.items() if key not in shown_elsewhere})


def how(run: Folder, evaluation: dict) -> str:
  """Says what was evaluated: 'best checkpoint by test/error, task.view=ten_crop(size=224)'.

  The step is left out of the best checkpoint, which is another for each seed.
  """
  which, step = evaluation.get('checkpoint'), evaluation.get('step')
  by = (run.config.get('train') or {}).get('best') if which == 'best' else None
  words = [f'{which} checkpoint' + (f' by {by}' if by else '')] if isinstance(which, str) else []
  words += [f'step {step:,}'] if step is not None and which != 'best' else []
  count = members(evaluation)
  words += [f'mean of {count} networks'] if count > 1 else []
  if (average := evaluation.get('average', 1)) != 1:
    words.append(f'mean of {average} checkpoints')
  changed = evaluation.get('overrides', {}) | evaluation.get('options', {})
  return ', '.join(words + [f'{key}={value}' for key, value in changed.items()])


def is_stale(run: Folder, evaluation: dict) -> bool:
  """Returns whether the run is over, and was not when its latest checkpoint was evaluated."""
  latest, over = evaluation.get('checkpoint') == 'latest', run.steps and run.step >= run.steps
  return bool(latest and over and evaluation.get('step', run.step) < run.steps)


# -------- what made them --------


def command(run: Folder) -> str:
  """Returns what to type to train this again: without the interpreter's path, folder and seed."""
  text = run.start.get('command', '')
  try:
    words = shlex.split(text)
  except ValueError:  # a quote that is not closed
    return text
  own = '--workdir', '--seed', '--config.seed', '--nohost_tuning'
  kept = [word for word in words if word.partition('=')[0] not in own]
  start = next((i for i, word in enumerate(kept) if word.endswith('launch.py')), None)
  return portable(kept if start is None else ['python', 'launch.py', *kept[start + 1 :]])


def joined(parts: Iterable[str]) -> str:
  """Returns the different texts, in order, but for empty ones."""
  return '; '.join(dict.fromkeys(filter(None, parts)))


def each_start(runs: list[Folder], of: Callable[[dict], str]) -> str:
  """Returns what `of` says of all starts of all runs: seeds and resumptions may differ in it."""
  return joined(of(start) for run in runs for start in run.starts)


def device(start: dict) -> str:
  """Returns '8 × NVIDIA H200, 2 processes', or the name and cores of a CPU."""
  kind, count = start.get('device', ''), start.get('device_count', 1)
  kind = start.get('processor', 'CPU') if kind.lower() == 'cpu' else kind
  processes = start.get('process_count', 1)
  many = f', {processes} processes' if processes > 1 else ''
  return (f'{count} × {kind}' if count > 1 else kind) + many


def commit(start: dict) -> str:
  """Returns the commit, with '+ changes' if files differed from it."""
  return start.get('commit', '')[:12] + (' + changes' if start.get('dirty') else '')


def versions(runs: list[Folder]) -> dict[str, str]:
  """Returns library to version; to all versions where starts differ."""
  starts = [start for run in runs for start in run.starts] or [run.evaluation for run in runs]
  each = [start.get('versions', {}) for start in starts]
  names = dict.fromkeys(name for found in each for name in found)
  return {name: joined(found.get(name, '') for found in each) for name in names}


# -------- how a number is written --------


def shown(metric: str, value: float | None, std: float | None = None) -> str:
  """Writes '0.82 ± 0.03 %' for an error or an accuracy, '1.470 ± 0.002' for anything else.

  Numbers have more digits where those would be 0, and large ones fewer.
  """
  if value is None:
    return '–'
  if not math.isfinite(value):
    return 'not finite'
  scale, least, unit = (100, 2, ' %') if is_fraction(metric) else (1, 3, '')
  sizes = [abs(scale * x) for x in (value, std) if x]
  digits = max([least, *(math.ceil(-math.log10(size)) for size in sizes)])
  if digits > 9:
    return f'{scale * value:.1e}' + (f' ± {scale * std:.1e}' if std is not None else '') + unit
  if std is None and not unit and (value >= 1000 or float(value).is_integer()):
    digits = int(value < 1e6 and not float(value).is_integer())
  spread = f' ± {scale * std:,.{digits}f}' if std is not None else ''
  return f'{scale * value:,.{digits}f}{spread}{unit}'


def reaches(metric: str, ours: float, theirs: float) -> bool:
  """Returns whether our number is at least as good as theirs."""
  more = any(word in metric.lower() for word in GREATER)
  return ours >= theirs if more else ours <= theirs


def is_fraction(metric: str) -> bool:
  """Returns whether a metric is a share of 1, which reads best in percent."""
  return metric.rpartition('/')[2] in SHARES or any(word in metric for word in FRACTIONS)
