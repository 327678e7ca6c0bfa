"""Chooses the charts of a report from what its runs have logged: a chart of each measure.

A measure is a metric's name without its split: 'error' of 'test/error'. Of one experiment a colour
is a split, the same in all charts; of several it is an experiment, and training data are dashed.
"""

import functools
from collections.abc import Iterable, Mapping

import numpy as np

from train.declaration import ReportWords
from train.report import charts, numbers
from train.report.charts import Chart, Line, brief, percent
from train.report.numbers import Experiment
from train.tasks import DECLARATIONS

ROLES = {'train': charts.TRAIN, 'test': charts.TEST, 'val': charts.VAL}
HELD_OUT = {'test', 'val'}
HEADINGS = {'mfu': 'Model FLOPs utilisation'}  # of measures of every task


def task_of(config: Mapping) -> str:
  """Returns the name of a config's task, '' if it has none."""
  return (config.get('task') or {}).get('name') or ''


def words_of(config: Mapping) -> ReportWords:
  """Returns the words of the task that a run's config names; the default of an unknown one."""
  declared = DECLARATIONS.get(task_of(config))
  return declared.report if declared else ReportWords()


def by_task(experiments: list[Experiment]) -> dict[str, list[Chart]]:
  """Returns the charts of each task: what two tasks call loss is not one measure."""
  tasks: dict[str, dict[int, Experiment]] = {}
  first = charts.OTHER if len(experiments) <= charts.COLOURS - charts.OTHER else charts.COLOURS
  for colour, one in enumerate(experiments, first):
    tasks.setdefault(task_of(one.first.config), {})[colour] = one
  return {task: curves(own) for task, own in tasks.items()}


def curves(experiments: Mapping[int, Experiment]) -> list[Chart]:
  """Returns a chart of each measure: wide ones of held-out data, then the rest.

  Args:
    experiments: of one task, by their colours, which one alone does not need.
  """
  words = words_of(next(iter(experiments.values())).first.config)
  measures: dict[str, list[str]] = {}
  for key in dict.fromkeys(x for one in experiments.values() for r in one.runs for x in r.curves):
    split, name = parted(key)
    if split != 'time' or is_rate(name):
      measures.setdefault(name, []).append(key)
  colours = split_colours(key for keys in measures.values() for key in keys)
  order = [name for name in words.measures if name in measures]
  drawn = []
  for name in dict.fromkeys([*order, *measures]):
    keys = sorted(measures[name], key=lambda key: (not key.startswith('train/'), key))
    lines = []
    for own, one in experiments.items():
      lines += _lines(one, keys, own if len(experiments) > 1 else None, colours, words.splits)
    drawn.append(_chart(name, keys, lines, words, list(experiments.values())))
  return sorted(drawn, key=lambda chart: -chart.width)


def split_colours(keys: Iterable[str]) -> dict[str, int]:
  """Returns the colour of each split of some metrics: the same for training data everywhere."""
  others = sorted({parted(key)[0] for key in keys} - {*ROLES, 'time'})
  rest = {split: charts.OTHER + 1 + i for i, split in enumerate(others)}
  return ROLES | {'time': charts.OTHER} | rest


def parted(key: str) -> tuple[str, str]:
  """Returns a metric's split and measure: ('test', 'error') of 'test/error', ('', 'x') of 'x'."""
  split, slash, name = key.partition('/')
  return (split, name) if slash else ('', split)


def is_rate(name: str) -> bool:
  """Returns whether a metric `time/NAME` has a chart, which begins at 0."""
  return name.endswith('_per_second') or name == 'mfu'


def _lines(
  experiment: Experiment,
  keys: list[str],
  own: int | None,
  colours: Mapping[str, int],
  names: Mapping[str, str],
) -> list[Line]:
  """Returns one experiment's lines of a measure, in its `own` colour if it has one."""
  mine = [key for key in keys if any(key in run.curves for run in experiment.runs)]
  lines = []
  for key in mine:
    split = parted(key)[0]
    shown = split if split != 'time' and (own is None or len(mine) > 1) else ''
    label = f'{experiment.label} {names.get(shown, shown)}'.strip()
    dashed = own is not None and split == 'train'
    lines += over_seeds(experiment, key, label, colours[split] if own is None else own, dashed)
  return lines


def over_seeds(
  experiment: Experiment, key: str, label: str, colour: int, dashed: bool
) -> list[Line]:
  """Returns the mean over the seeds at the steps they share, and each seed faintly behind it.

  If they share no step, each is a line of its own.
  """
  own = [(run.seed, *run.curves[key]) for run in experiment.runs if key in run.curves]
  if len(own) == 1:
    alone = f'{label} (seed {own[0][0]} alone)' if len(experiment.runs) > 1 else label
    return [Line(alone, *own[0][1:], colour, dashed)]
  shared = functools.reduce(np.intersect1d, [steps for _, steps, _ in own])
  if not len(shared):
    return [Line(f'{label} seed {seed}', x, y, colour, dashed) for seed, x, y in own]
  mean = np.mean([values[np.isin(steps, shared)] for _, steps, values in own], axis=0)
  faint = [Line(None, steps, values, colour, dashed, faint=True) for _, steps, values in own]
  few = f' ({len(own)} of {len(experiment.runs)} seeds)' if len(own) < len(experiment.runs) else ''
  return [*faint, Line(label + few, shared, mean, colour, dashed)]


def _chart(
  name: str,
  keys: list[str],
  lines: list[Line],
  words: ReportWords,
  experiments: list[Experiment],
) -> Chart:
  """Returns the chart of one measure, whose metrics are `keys`."""
  wide = name in words.matches or not HELD_OUT.isdisjoint(parted(key)[0] for key in keys)
  return charts.chart(
    (HEADINGS | dict(words.headings)).get(name) or name.replace('_', ' ').capitalize(),
    lines,
    text=percent if numbers.is_fraction(name) else brief,
    log=name == 'loss' or 'error' in name,
    zero=is_rate(name),
    level=paper_level(name, experiments),
    width=charts.WIDTH if wide else charts.SMALL,
  )


def paper_level(name: str, experiments: list[Experiment]) -> tuple[str, float] | None:
  """Returns the paper's number as a level line, where all experiments aim at the same one."""
  found = {(one.number.metric, one.number.paper, bool(one.number.title)) for one in experiments}
  metric, value, published = found.pop()
  if found or value is None or parted(metric)[1] != name:
    return None
  return f'{"paper" if published else "reference"} {numbers.shown(metric, value)}', value
