"""Writes the page that says what a run came to: the paper's number, ours, curves, settings.

It is one file (styles, charts and pictures inside it, no network, and no script but what goes
through a game's moves), made from the files of one run folder or of many. Runs that differ in the
seed alone are one experiment. `templates/report.html` says what it looks like.
"""

import dataclasses
import datetime
import functools
import os
from collections.abc import Mapping
from pathlib import Path

import jinja2
import numpy as np

from train import workdir as workdir_lib
from train.declaration import ReportWords
from train.errors import UserError
from train.report import charts, pictures, results, scaling
from train.report.charts import Chart, Line, brief, percent
from train.report.elo_curves import with_elo
from train.report.results import Folder
from train.tasks import DECLARATIONS

TEMPLATES = Path(__file__).with_name('templates')
GENERATOR = '<meta name="generator" content="launch.py report">'  # in the template
ROLES = {'train': charts.TRAIN, 'test': charts.TEST, 'val': charts.TEST, 'time': charts.OTHER}
HELD_OUT = {'test', 'val'}
HEADINGS = {'mfu': 'Model FLOPs utilisation'}  # of measures of every task


@dataclasses.dataclass(frozen=True)
class Experiment:
  """Runs that share every setting but the seed. label: what tells it apart, '' if it is alone."""

  label: str
  runs: list[Folder]

  @property
  def first(self) -> Folder:
    return self.runs[0]

  @functools.cached_property
  def number(self) -> results.Number:
    """The paper's number beside ours."""
    return results.number(self.runs)


def write(workdirs: list[str], output: str | None = None) -> str:
  """Writes the page to `output`, the first folder's report.html by default; returns the path.

  A page that was made here is replaced; another file stays, and the page gets a name beside it.

  Raises:
    UserError: `workdirs` is empty, or one of them is not a run folder.
  """
  if not workdirs:
    raise UserError('no workdir given: name one run folder or more, as --workdir=runs/a,runs/b')
  wanted = output or os.path.join(workdirs[0], 'report.html')
  path = workdir_lib.ours_or_free(wanted, GENERATOR)
  text = page([with_elo(results.read(workdir)) for workdir in workdirs])
  Path(path).parent.mkdir(parents=True, exist_ok=True)
  workdir_lib.write_text(path, text)
  return path


def page(folders: list[Folder]) -> str:
  """Returns the whole HTML document."""
  groups = results.groups(folders)
  found = [Experiment(*both) for both in zip(labels(groups), groups, strict=True)]
  words = words_of(found[0].first.config)
  points = scaling.points(folders, parameters) if len(found) > 2 else []
  papers = {one.number.title for one in found}
  return template('report.html').render(
    experiments=found,
    title=title(found),
    paper=papers.pop() if len(papers) == 1 else '',
    paper_notes=dict.fromkeys(one.number.note for one in found if one.number.note),
    remarks=[(run.path, *said) for one in found for run in one.runs for said in remarks(run)],
    facts=facts(found[0].runs, words),
    curves=curves(found, words),
    law=scaling.report(points),
    settings=settings(found),
    runs=[(run, results.number([run])) for run in folders],
    now=datetime.datetime.now(),
  )


def template(name: str) -> jinja2.Template:
  """Loads a template; whatever text it is given is escaped."""
  loader = jinja2.FileSystemLoader(TEMPLATES)
  env = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
  env.trim_blocks = env.lstrip_blocks = True
  env.filters |= {'brief': brief, 'duration': duration}
  env.globals |= {'results': results, 'pictures': pictures, 'charts': charts}
  env.globals |= {'checkpoint': checkpoint, 'seconds': seconds, 'origin': origin}
  return env.get_template(name)


def title(experiments: list[Experiment]) -> str:
  """Returns 'lenet5 on mnist', or how many experiments are compared."""
  found = list(dict.fromkeys(subject(one.first) for one in experiments))
  return ', '.join(found) if len(found) < 4 else f'{len(experiments)} experiments'


def subject(run: Folder) -> str:
  """Returns a run's network and what it learns from; its folder's name if they are unknown."""
  model, data, task = (run.config.get(section) or {} for section in ('model', 'data', 'task'))
  what, where = model.get('name'), task.get('game') or data.get('dataset') or data.get('name')
  return f'{what} on {Path(where).name}' if what and where else Path(run.path).name


def labels(groups: list[list[Folder]]) -> list[str]:
  """Returns what tells each group apart: the values that differ, or its folder's name."""
  if len(groups) == 1:
    return ['']
  keys = results.differences([runs[0].config for runs in groups])
  if len(keys) > 2:
    return [Path(runs[0].path).name for runs in groups]
  flat = [results.flatten(runs[0].config) for runs in groups]
  return [', '.join(f'{key.split(".")[-1]} {one.get(key)}' for key in keys) for one in flat]


# -------- head --------


def origin(found: results.Number, members: int) -> str:
  """Says where our number is from."""
  if not found.values:
    return 'ours: not measured yet'
  n = len(found.values)
  who = f'ours, mean ± standard deviation of {n} seeds' if n > 1 else 'ours, one seed'
  if found.evaluated and members > 1:
    who = f'ours, {members} networks averaged'
  return who if found.evaluated else f'{who}, at the last evaluation while training'


def remarks(run: Folder) -> list[tuple[str, str, str]]:
  """Says what is missing from a run and what to do about it: (words, command, words)."""
  said = [f'{name} is damaged and left out.' for name in run.broken]
  steps = (run.config.get('train') or {}).get('steps')
  if (Path(run.path) / 'nan').exists():
    said.append('it stopped on a value that is not finite; its folder nan has the state.')
  if not run.curves:
    said.append('no metrics yet.')
  elif steps and run.step < steps:
    said.append(f'at step {run.step:,} of {steps:,}: not its last word.')
  found = [(words, '', '') for words in said]
  if not run.evaluation:
    adds = f' adds {words_of(run.config).evaluation}.'
    found.append(('not evaluated yet; ', f'python launch.py eval --workdir={run.path}', adds))
  return found


def words_of(config: Mapping) -> ReportWords:
  """Returns the words of the task that a run's config names; the default of an unknown one."""
  declared = DECLARATIONS.get((config.get('task') or {}).get('name') or '')
  return declared.report if declared else ReportWords()


def facts(runs: list[Folder], words: ReportWords) -> dict[str, str]:
  """Returns what produced the numbers, so that they can be produced again."""
  run = runs[0]
  processes = run.start.get('process_count', 1)
  began = run.starts[0].get('time', '') if run.starts else ''
  pairs = {
    'Command': results.command(run),
    'Seeds' if len(runs) > 1 else 'Seed': ', '.join(str(one.seed) for one in runs),
    'Device': results.device(run) + (f', {processes} processes' if processes > 1 else ''),
    'Versions': ', '.join(f'{name} {value}' for name, value in results.versions(run).items()),
    'Commit': results.commit(run),
    'Started': began[:16].replace('T', ' ') + ' UTC' * began.endswith('+00:00'),
    'Speed': speed(run, words),
    'Duration': ' '.join(filter(None, (duration(seconds(run)), 'a seed' * (len(runs) > 1)))),
    'Evaluated': checkpoint(run),
  }
  return {name: value for name, value in pairs.items() if value}


def checkpoint(run: Folder) -> str:
  """Says what eval.json is of: 'best checkpoint, step 1,200, task.view=ten_crop(size=224)'."""
  if not run.evaluation:
    return ''
  which, step = run.evaluation.get('checkpoint'), run.evaluation.get('step')
  by = (run.config.get('train') or {}).get('best') if which == 'best' else None
  words = [f'{which} checkpoint' + (f' by {by}' if by else '')] if isinstance(which, str) else []
  words += [f'step {step:,}'] if isinstance(step, int) else []
  words += [f'mean of {run.members} networks'] if run.members > 1 else []
  return ', '.join(words + [f'{k}={v}' for k, v in run.evaluation.get('overrides', {}).items()])


def seconds(run: Folder) -> float:
  """Returns the seconds of training over all starts; 0 if nobody wrote them."""
  return float(run.curves['time/seconds'][1][-1]) if 'time/seconds' in run.curves else 0.0


def speed(run: Folder, words: ReportWords) -> str:
  """Returns '20.1k tokens/s, MFU 51.3 %': medians over the run, and means of shares of time."""
  found = {name.removeprefix('time/'): np.median(run.curves[name][1]) for name in run.curves}
  rates = [name for name in found if name.endswith('_per_second')]
  said = [f'{brief(found[x])} {x.removesuffix("_per_second").replace("_", " ")}/s' for x in rates]
  said += [f'MFU {percent(found["mfu"])}'] if 'mfu' in found else []
  shares = {x: run.curves[f'time/{x}'][1].mean() for x in words.time_shares if x in found}
  return ', '.join(said + [f'{percent(share)} {name}' for name, share in shares.items()])


def duration(value: float) -> str:
  """Writes seconds as '1 h 02 min', '3 min 20 s' or '12 s'; '' for none."""
  if value < 60:
    return f'{value:.0f} s' if value else ''
  minutes, rest = divmod(round(value), 60)
  hours, of_hour = divmod(minutes, 60)
  return f'{hours} h {of_hour:02} min' if hours else f'{minutes} min {rest:02} s'


# -------- curves --------


def curves(experiments: list[Experiment], words: ReportWords) -> list[Chart]:
  """Returns a chart of each measure: wide ones of held-out data, then the rest."""
  found = dict.fromkeys(name for one in experiments for run in one.runs for name in run.curves)
  measures: dict[str, set[str]] = {}
  for split, _, name in (key.partition('/') for key in found):
    if split != 'time' or is_rate(name):
      measures.setdefault(name, set()).add(split)
  others = sorted(set().union(*measures.values()) - ROLES.keys())
  colours = ROLES | {split: charts.OTHER + 1 + i for i, split in enumerate(others)}
  drawn = []
  order = [name for name in words.measures if name in measures]
  for name in dict.fromkeys([*order, *measures]):
    wide = name in words.matches or measures[name] & HELD_OUT
    drawn.append(measure(name, words, experiments, colours, charts.WIDTH if wide else charts.SMALL))
  return sorted(drawn, key=lambda chart: -chart.width)


def is_rate(name: str) -> bool:
  """Returns whether a metric `time/NAME` has a chart, which begins at 0."""
  return name.endswith('_per_second') or name == 'mfu'


def measure(
  name: str,
  words: ReportWords,
  experiments: list[Experiment],
  colours: dict[str, int],
  width: int,
) -> Chart:
  """Returns the chart of one measure: colours tell the splits of one experiment, or experiments."""
  lines, many = [], len(experiments) > 1
  for i, one in enumerate(experiments):
    keys = dict.fromkeys(key for run in one.runs for key in run.curves if key.endswith('/' + name))
    for key in sorted(keys, key=lambda key: (not key.startswith('train/'), key)):
      split = key.partition('/')[0]
      label = f'{one.label} {split if len(keys) > 1 else ""}'.strip()
      dashed = many and split == 'train' and len(keys) > 1
      lines += over_seeds(one.runs, key, label, i if many else colours[split], dashed)
  return charts.chart(
    (HEADINGS | dict(words.headings)).get(name) or name.replace('_', ' ').capitalize(),
    lines,
    text=percent if results.is_fraction(name) else brief,
    log=name == 'loss' or 'error' in name,
    zero=is_rate(name),
    level=paper_level(name, experiments),
    width=width,
  )


def over_seeds(runs: list[Folder], key: str, label: str, colour: int, dashed: bool) -> list[Line]:
  """Returns the mean over the seeds at the steps they share, and each seed faintly behind it."""
  own = [run.curves[key] for run in runs if key in run.curves]
  if len(own) == 1:
    return [Line(label, *own[0], colour, dashed)]
  shared = functools.reduce(np.intersect1d, [steps for steps, _ in own])
  mean = np.mean([values[np.isin(steps, shared)] for steps, values in own], axis=0)
  faint = [Line(None, *one, colour, dashed, faint=True) for one in own]
  return [*faint, Line(label, shared, mean, colour, dashed)]


def paper_level(name: str, experiments: list[Experiment]) -> tuple[str, float] | None:
  """Returns the paper's number as a level line, where all experiments aim at the same one."""
  found = {(one.number.metric, one.number.paper) for one in experiments}
  metric, value = found.pop()
  if found or value is None or metric.partition('/')[2] != name:
    return None
  return f'paper {results.shown(metric, value)}', value


def parameters(config: dict) -> int | None:
  """Returns a language model's parameters without embeddings; None of any other network."""
  import models  # not at the top: it starts JAX, which pages of other runs do without
  from models.gpt import GPT, num_params

  section = config.get('model') or {}
  kind = models.MODELS.get(str(section.get('name')))
  if getattr(kind, 'func', kind) is not GPT:
    return None
  return num_params(models.build(**{**section, 'vocab_size': 1}), embeddings=False)


# -------- settings --------


def settings(experiments: list[Experiment]) -> tuple[list[tuple], dict[str, dict[str, str]]]:
  """Returns rows (key, each one's value) of what differs, and sections of what is shared."""
  configs = [one.first.config for one in experiments]
  flat, keys = [results.flatten(config) for config in configs], results.differences(configs)
  sections: dict[str, dict[str, str]] = {}
  for key in [key for key in flat[0] if key not in (*keys, 'seed')]:
    section, _, name = key.rpartition('.')
    sections.setdefault(section or 'run', {})[name] = plain(flat[0][key])
  return [(key, *(plain(one.get(key, '–')) for one in flat)) for key in keys], sections


def plain(value: object) -> str:
  """Writes a config's value."""
  if isinstance(value, list | tuple):
    return ', '.join(map(plain, value)) or '()'
  return brief(value) if isinstance(value, float) else str(value) or '–'
