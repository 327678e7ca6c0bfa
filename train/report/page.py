"""Writes the page that says what a run came to: the paper's number, ours, curves, settings.

It is one file (styles, charts and pictures inside it, no network, and no script but what goes
through a game's moves), made from the files of one run folder or of many. Runs that differ in the
seed alone are one experiment. `templates/report.html` says what it looks like.
"""

import datetime
import functools
import os
import re
from pathlib import Path

import jinja2
import numpy as np

from train import config as config_lib
from train import workdir as workdir_lib
from train.declaration import ReportWords
from train.errors import UserError
from train.report import charts, curves, numbers, pictures, scaling
from train.report.charts import brief, percent
from train.report.curves import words_of
from train.report.elo_curves import with_elo
from train.report.folder import Folder, read
from train.report.numbers import Experiment

TEMPLATES = Path(__file__).with_name('templates')
GENERATOR = '<meta name="generator" content="launch.py report">'  # in the template
NOTES = 8  # remarks that are seen at once
LABEL = 40  # characters of what tells an experiment apart; a longer one gives way to its folder
# Characters that HTML or UTF-8 may not hold: controls, and bytes of names that are not UTF-8.
UNSHOWN = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]')


def write(workdirs: list[str], output: str | None = None) -> str:
  """Writes the page to `output`, the first folder's report.html by default; returns the path.

  A page that was made here is replaced; another file stays, and the page gets a name beside it.

  Raises:
    UserError: `workdirs` is empty, one of them is not a run folder, or the page cannot be written.
  """
  if not workdirs:
    raise UserError('no workdir given: name one run folder or more, as --workdir=runs/a,runs/b')
  wanted = output or os.path.join(workdirs[0], 'report.html')
  if os.path.exists(wanted) and not os.path.isfile(wanted):
    raise UserError(f'{wanted}: is a folder or a device; name a file with --output=FILE')
  text = page([with_elo(read(workdir)) for workdir in workdirs])
  path = workdir_lib.ours_or_free(wanted, GENERATOR)
  try:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    workdir_lib.write_text(path, UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text))
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}; name another place with --output=FILE') from error
  return path


def page(folders: list[Folder]) -> str:
  """Returns the whole HTML document."""
  groups = numbers.groups(folders)
  found = [
    Experiment(label, numbers.distinct(runs))
    for label, runs in zip(labels(groups), groups, strict=True)
  ]
  runs = [run for one in found for run in one.runs]
  points = scaling.points(runs, parameters)
  papers = {one.number.title for one in found}
  return template('report.html').render(
    experiments=found,
    title=title(found),
    paper=papers.pop() if len(papers) == 1 else '',
    paper_notes=dict.fromkeys(notes(one) for one in found if one.number.note),
    remarks=remarks(found, [both for runs in groups for both in numbers.repeats(runs)]),
    unevaluated=unevaluated(found),
    facts=facts(found[0].runs, words_of(found[0].first.config)),
    curves=curves.by_task(found),
    law=scaling.report(points),
    beside_law=len(runs) - len(points),
    settings=settings(found),
    runs=[(run, numbers.number([run])) for run in folders],
    now=datetime.datetime.now(),
  )


@functools.cache
def template(name: str) -> jinja2.Template:
  """Loads a template; whatever text it is given is escaped."""
  loader = jinja2.FileSystemLoader(TEMPLATES)
  env = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
  env.trim_blocks = env.lstrip_blocks = True
  env.filters |= {'brief': brief, 'duration': duration, 'thousands': '{:,}'.format, 'plain': plain}
  env.globals |= {'numbers': numbers, 'pictures': pictures, 'charts': charts}
  env.globals |= {'checkpoint': checkpoint, 'seconds': seconds, 'origin': origin, 'NOTES': NOTES}
  return env.get_template(name)


def title(experiments: list[Experiment]) -> str:
  """Returns 'lenet5 on mnist', or how many experiments are compared."""
  found = list(dict.fromkeys(subject(one.first) for one in experiments))
  return ', '.join(found) if len(found) < 4 else f'{len(experiments)} experiments'


def subject(run: Folder) -> str:
  """Returns a run's network and what it learns from; its folder's name if they are unknown."""
  model, data, task = (run.config.get(section) or {} for section in ('model', 'data', 'task'))
  played = task.get('game') or task.get('environment')
  what, where = model.get('name'), played or data.get('dataset') or data.get('name')
  return f'{what} on {Path(where).name}' if what and where else folder_name(run)


def folder_name(run: Folder) -> str:
  """Returns the last part of a run's path, of '.' too."""
  return Path(run.path).absolute().name


def labels(groups: list[list[Folder]]) -> list[str]:
  """Returns what tells each group apart: the values that differ, its folder's name, or its path."""
  if len(groups) == 1:
    return ['']
  keys = numbers.differences([runs[0].config for runs in groups])
  flat = [config_lib.flat(runs[0].config) for runs in groups]
  named = [', '.join(f'{key.split(".")[-1]} {plain(one.get(key))}' for key in keys) for one in flat]
  folders = [folder_name(runs[0]) for runs in groups]
  if len(keys) <= 2 and max(map(len, named)) <= LABEL and len(set(named)) == len(named):
    return named
  return folders if len(set(folders)) == len(folders) else [runs[0].path for runs in groups]


# -------- head --------


def notes(experiment: Experiment) -> str:
  """Returns what the config has to say on the comparison, and of which experiment that is."""
  return ': '.join(filter(None, (experiment.label, experiment.number.note)))


def origin(found: numbers.Number) -> str:
  """Says where our number is from."""
  n = len(found.values)
  if not n:
    return 'ours: not measured yet'
  said = f'ours, mean ± standard deviation of {n} seeds' if n > 1 else 'ours, one seed'
  said += f' of {found.seeds}' if n < found.seeds else ''
  if found.members > 1:
    said = f'ours, {found.members} networks averaged'
  if found.evaluated:
    return said
  said += ', at the last evaluation while training'
  steps = ' and '.join(f'{step:,}' for step in dict.fromkeys(found.steps))
  return f'{said} that all have, step {steps}' if n > 1 else f'{said}, step {steps}'


def remarks(
  experiments: list[Experiment], repeats: list[tuple[Folder, Folder]]
) -> list[tuple[str, str]]:
  """Says what is missing from runs, and what is not what it seems: (run or experiment, words)."""
  found = [
    (run.path, f'the same config and seed as {same.path}; they count once.')
    for run, same in repeats
  ]
  for one in experiments:
    found += [(run.path, words) for run in one.runs for words in lacks(run)]
    found += [(one.label or one.first.path, words) for words in doubts(one)]
  return found


def unevaluated(experiments: list[Experiment]) -> dict[str, list[str]]:
  """Returns what `eval` would add: its words, and the runs without any evaluation."""
  found: dict[str, list[str]] = {}
  for run in (run for one in experiments for run in one.runs if not run.evaluations):
    found.setdefault(words_of(run.config).evaluation, []).append(run.path)
  return found


def lacks(run: Folder) -> list[str]:
  """Says what is damaged, not finite or not over in a run."""
  said = [f'{words}.' for words in run.broken]
  if (Path(run.path) / 'nan').exists():
    said.append('it stopped on a value that is not finite; its folder nan has the state.')
  if not run.curves:
    said.append('no metrics yet.')
  elif run.steps and run.step < run.steps:
    said.append(f'at step {run.step:,} of {run.steps:,}: not its last word.')
  lost = {name: steps[~np.isfinite(values)] for name, (steps, values) in run.curves.items()}
  lost = {name: steps for name, steps in lost.items() if len(steps)}
  for name, steps in list(lost.items())[:3]:
    many = f'{len(steps)} of {len(run.curves[name][0])} values are'
    said.append(f'{name}: {many} not finite, first at step {steps[0]:,}; a × marks them.')
  if len(lost) > 3:
    said.append(f'{len(lost) - 3} more metrics have values that are not finite.')
  newest = {name: found for name, found in run.evaluations.items() if '-' not in name}
  stale = [name for name, found in newest.items() if numbers.is_stale(run, found)]
  return said + [f'{name} is of an earlier step than its last; eval again.' for name in stale]


def doubts(experiment: Experiment) -> list[str]:
  """Says where the number of an experiment is not what it seems."""
  metric, said = experiment.number.metric, []
  found = [(run, numbers.evaluation_of(run, metric, True)) for run in experiment.runs]
  used = [(run, evaluation) for run, evaluation in found if evaluation]
  ways = dict.fromkeys(numbers.how(run, evaluation) for run, evaluation in used)
  if len(ways) > 1:
    said.append(f'its seeds were evaluated in different ways: {"; ".join(ways)}.')
  best = [run for run, evaluation in used if evaluation.get('checkpoint') == 'best']
  if any((run.config.get('train') or {}).get('best') == metric for run in best):
    said.append(f'the best checkpoint was chosen by {metric} itself, which flatters it.')
  return said


def facts(runs: list[Folder], words: ReportWords) -> dict[str, str]:
  """Returns what produced the numbers, so that they can be produced again."""
  began = runs[0].starts[0].get('time', '') if runs[0].starts else ''
  pairs = {
    'Command': numbers.command(runs[0]),
    'Seeds' if len(runs) > 1 else 'Seed': ', '.join(str(one.seed) for one in runs),
    'Device': numbers.each_start(runs, numbers.device),
    'Versions': ', '.join(f'{name} {value}' for name, value in numbers.versions(runs).items()),
    'Commit': numbers.each_start(runs, numbers.commit),
    'Started': began[:16].replace('T', ' ') + ' UTC' * began.endswith('+00:00'),
    'Speed': speed(runs, words),
    'Duration': ' '.join(filter(None, (duration(seconds(runs)), 'a seed' * (len(runs) > 1)))),
    'Evaluated': numbers.joined(map(checkpoint, runs)),
  }
  return {name: value for name, value in pairs.items() if value}


def checkpoint(run: Folder) -> str:
  """Says what eval.json is of: 'best checkpoint, step 1,200, task.view=ten_crop(size=224)'."""
  step = run.evaluation.get('step')
  words = numbers.how(run, run.evaluation)
  known = step is None or f'step {step:,}' in words
  return words if known else f'{words}, step {step:,}'


def seconds(runs: list[Folder]) -> float:
  """Returns the mean seconds of training, each over all its starts; 0 if nobody wrote them."""
  logged = [run.curves['time/seconds'][1] for run in runs if 'time/seconds' in run.curves]
  each = [values[np.isfinite(values)] for values in logged]
  ends = [values.max() for values in each if len(values)]
  return float(np.mean(ends)) if ends else 0.0


def speed(runs: list[Folder], words: ReportWords) -> str:
  """Returns '20.1k tokens/s, MFU 51.3 %': medians over the runs, and means of shares of time."""
  names = dict.fromkeys(name for run in runs for name in run.curves if name.startswith('time/'))
  found = {}
  for name in names:
    values = np.concatenate([run.curves[name][1] for run in runs if name in run.curves])
    found[name.removeprefix('time/')] = values[np.isfinite(values)]
  found = {name: values for name, values in found.items() if len(values)}
  rates = {x.removesuffix('_per_second'): x for x in found if x.endswith('_per_second')}
  said = [f'{brief(np.median(found[x]))} {what.replace("_", " ")}/s' for what, x in rates.items()]
  said += [f'MFU {percent(np.median(found["mfu"]))}'] if 'mfu' in found else []
  shares = [name for name in words.time_shares if name in found]
  return ', '.join(said + [f'{percent(found[name].mean())} {name}' for name in shares])


def duration(value: float) -> str:
  """Writes seconds as '1 h 02 min', '3 min 20 s' or '12 s'; '' for none."""
  if value < 60:
    return f'{value:.0f} s' if value else ''
  minutes, rest = divmod(round(value), 60)
  hours, of_hour = divmod(minutes, 60)
  return f'{hours} h {of_hour:02} min' if hours else f'{minutes} min {rest:02} s'


# -------- settings --------


def parameters(config: dict) -> int | None:
  """Returns a language model's parameters without embeddings; None of any other network."""
  import models  # not at the top: it starts JAX, which pages of other runs do without
  from models.gpt import GPT, num_params

  section = config.get('model') or {}
  kind = models.MODELS.get(str(section.get('name')))
  if getattr(kind, 'func', kind) is not GPT:
    return None
  try:
    return num_params(models.build(**{**section, 'vocab_size': 1}), embeddings=False)
  except (TypeError, ValueError, ArithmeticError, UserError):
    return None  # values that no network takes, in a config that was changed by hand


def settings(experiments: list[Experiment]) -> tuple[list[tuple], dict[str, dict[str, str]]]:
  """Returns rows (key, each one's value) of what differs, and sections of what is shared."""
  configs = [one.first.config for one in experiments]
  flat, keys = list(map(config_lib.flat, configs)), numbers.differences(configs, ('seed',))
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
