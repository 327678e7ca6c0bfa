"""One page that says what a run came to: the paper's number, ours, curves, mistakes, settings.

The page is one file (styles, charts and pictures inside it, no network, and no script but what goes
through a game's moves), made from the files of one run folder or of many; runs that differ in the
seed alone are taken together.
"""

import datetime
import functools
import os
from pathlib import Path

import numpy as np

from train.config import UserError
from train.report import figures, results, scaling
from train.report.elo_curves import with_elo
from train.report.figures import (
  Html,
  Line,
  brief,
  chart,
  element,
  join,
  listing,
  percent,
  section,
  typed,
)
from train.report.pictures import drawn, evaluation
from train.report.results import Folder

MATCHES = 'elo', 'share'
MEASURES = (*MATCHES, 'loss', 'error', 'error_top5', 'learning_rate')  # the first charts
MFU = 'mfu'  # of the metrics `time/...`, as the rates are
PARTS = 'network', 'search', 'environment', 'training'  # likewise: where the time goes
EVALUATED = {  # what the verb eval adds to a page, by task
  'classify': 'confusion, samples and filters',
  'language': 'perplexity and bits per byte',
  'diffusion': 'bounds in bits a dimension',
  'selfplay': 'matches against fixed players',
}
SMALL = 330  # width of a chart that stands three in a row


def write(workdirs: list[str], output: str | None = None) -> str:
  """Writes the page (to the first folder's report.html unless `output` is given), returns its path.
  UserError if `workdirs` is empty or one of them is not a run folder."""
  if not workdirs:
    raise UserError('no workdir given: name one run folder or more, as --workdir=runs/a,runs/b')
  path = Path(output or os.path.join(workdirs[0], 'report.html'))
  text = page([with_elo(results.read(workdir)) for workdir in workdirs])
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + '.partial')
  partial.write_text(text, encoding='utf-8')
  partial.replace(path)
  return str(path)


def page(folders: list[Folder]) -> str:
  """The whole HTML document."""
  groups = results.groups(folders)
  labels = names(groups)
  body = [
    head(groups),
    overview(groups, labels) if len(groups) > 1 else '',
    curves(groups, labels),
    scaling.report(scaling.points(folders, parameters)) if len(groups) > 2 else '',
    *(drawn(runs, label) for runs, label in zip(groups, labels, strict=True)),
    *(evaluation(runs, label) for runs, label in zip(groups, labels, strict=True)),
    settings(groups, labels),
    runs_table(folders),
    footer(),
  ]
  style = Path(__file__).with_name('report.css').read_text()
  view = 'width=device-width, initial-scale=1'
  meta = element('meta', charset='utf-8') + element('meta', name='viewport', content=view)
  top = element('head', meta, element('title', title(groups)), element('style', Html(style)))
  return '<!doctype html>\n' + element('html', top, element('body', *body), lang='en') + '\n'


def title(groups: list[list[Folder]]) -> str:
  """'lenet5 on mnist', or how many experiments are compared."""
  found = list(dict.fromkeys(subject(runs[0]) for runs in groups))
  return ', '.join(found) if len(found) < 4 else f'{len(groups)} experiments'


def subject(run: Folder) -> str:
  model, data, task = (run.config.get(section) or {} for section in ('model', 'data', 'task'))
  what, where = model.get('name'), task.get('game') or data.get('dataset') or data.get('name')
  return f'{what} on {Path(where).name}' if what and where else Path(run.path).name


def names(groups: list[list[Folder]]) -> list[str]:
  """What tells each group apart: its own values of the keys that differ, or its folder's name."""
  keys = results.differences([runs[0].config for runs in groups])
  if len(groups) == 1:
    return ['']
  if len(keys) > 2:
    return [Path(runs[0].path).name for runs in groups]
  flat = [results.flatten(runs[0].config) for runs in groups]
  return [', '.join(f'{k.split(".")[-1]} {one.get(k)}' for k in keys) for one in flat]


# --- head -----------------------------------------------------------------------------------------


def head(groups: list[list[Folder]]) -> Html:
  found = [results.number(runs) for runs in groups]
  paper = found[0].title if len({number.title for number in found}) == 1 else ''
  parts = [element('h1', title(groups))]
  if paper:
    parts.append(element('div', paper, class_='soft'))
  if len(groups) == 1:
    parts.append(numbers(found[0], groups[0][0].members))
  parts += [element('p', note) for note in dict.fromkeys(number.note for number in found) if note]
  remarks = [remark for runs in groups for run in runs for remark in notes(run)]
  if remarks:
    parts.append(element('ul', *remarks, class_='notes'))
  if len(groups) == 1:
    parts.append(facts(groups[0]))
  return element('header', *parts)


def numbers(found: results.Number, members: int) -> Html:
  """Ours, the paper's and the difference, large."""
  tiles = [tile('ours', found, found.mean, found.std, origin(found, members))]
  if found.paper is not None:
    tiles.append(tile('paper', found, found.paper, None, 'in the paper'))
  if found.paper is not None and found.mean is not None:
    difference = found.mean - found.paper
    words = 'above the paper' if difference > 0 else 'below the paper'
    points = 'points' if results.is_fraction(found.metric) else ''
    value = results.shown(found.metric, abs(difference)).removesuffix(' %')
    number = element('b', value, element('small', points))
    tiles.append(element('div', element('span', found.metric, class_='soft'), number, words))
  return element('div', *tiles, class_='numbers')


def tile(kind: str, found: results.Number, value, std, words: str) -> Html:
  text, unit = results.shown(found.metric, value), ''
  if text.endswith(' %'):
    text, unit = text.removesuffix(' %'), '%'
  spread = results.shown(found.metric, std).removesuffix(' %')
  small = element('small', unit if std is None else f'± {spread} {unit}')
  label = element('span', found.metric, class_='soft')
  return element('div', label, element('b', text, small), words, class_=kind)


def origin(found: results.Number, members: int) -> str:
  """Where our number is from."""
  if not found.values:
    return 'ours: not measured yet'
  n = len(found.values)
  who = f'ours, mean ± standard deviation of {n} seeds' if n > 1 else 'ours, one seed'
  if found.evaluated and members > 1:
    who = f'ours, {members} networks averaged'
  return who if found.evaluated else f'{who}, at the last evaluation while training'


def notes(run: Folder) -> list[Html]:
  """What is missing from a run, said as what to do about it."""
  found: list[tuple[object, ...]] = [(f'{name} is damaged and left out.',) for name in run.broken]
  steps = (run.config.get('train') or {}).get('steps')
  if (Path(run.path) / 'nan').exists():
    found.append(('it stopped on a value that is not finite; its folder nan has the state.',))
  if not run.curves:
    found.append(('no metrics yet.',))
  elif steps and run.step < steps:
    found.append((f'at step {run.step:,} of {steps:,}: not its last word.',))
  if not run.evaluation:
    how = typed(f'python launch.py eval --workdir={run.path}')
    task = (run.config.get('task') or {}).get('name') or ''
    more = EVALUATED.get(task, 'more')
    found.append(('not evaluated yet; ', how, f' adds {more}.'))
  return [element('li', element('code', run.path), ': ', *words) for words in found]


def facts(runs: list[Folder]) -> Html:
  """What produced the numbers, so that they can be produced again."""
  run, start = runs[0], runs[0].starts[-1] if runs[0].starts else {}
  processes = start.get('process_count', 1)
  pairs = {
    'Command': typed(results.command(run)) if run.starts else '',
    'Seeds' if len(runs) > 1 else 'Seed': ', '.join(str(one.seed) for one in runs),
    'Device': results.device(run) + (f', {processes} processes' if processes > 1 else ''),
    'Versions': ', '.join(f'{name} {value}' for name, value in results.versions(run).items()),
    'Commit': results.commit(run),
    'Started': when(run.starts[0].get('time', '')) if run.starts else '',
    'Speed': speed(run),
    'Duration': ' '.join(filter(None, (duration(seconds(run)), 'a seed' * (len(runs) > 1)))),
    'Evaluated': checkpoint(run),
  }
  items = [element('dt', k) + element('dd', v) for k, v in pairs.items() if v]
  return element('dl', join(items), class_='facts')


def when(time: str) -> str:
  """'2026-01-31T10:20:30+00:00' -> '2026-01-31 10:20 UTC'."""
  return time[:16].replace('T', ' ') + ' UTC' * time.endswith('+00:00')


def checkpoint(run: Folder) -> str:
  """'best checkpoint, step 1,200, task.view=ten_crop(size=224)': what eval.json is of."""
  if not run.evaluation:
    return ''
  which, step = run.evaluation.get('checkpoint'), run.evaluation.get('step')
  by = (run.config.get('train') or {}).get('best') if which == 'best' else None
  words = [f'{which} checkpoint' + (f' by {by}' if by else '')] if isinstance(which, str) else []
  words += [f'step {step:,}'] if isinstance(step, int) else []
  words += [f'mean of {run.members} networks'] if run.members > 1 else []
  return ', '.join(words + [f'{k}={v}' for k, v in run.evaluation.get('overrides', {}).items()])


def seconds(run: Folder) -> float:
  """Seconds of training, over all starts; 0 if nobody wrote them."""
  return float(run.curves['time/seconds'][1][-1]) if 'time/seconds' in run.curves else 0.0


def speed(run: Folder) -> str:
  """'20.1k tokens/s, MFU 51.3 %': the medians over the run, of shares of time the means; '' if
  nobody wrote them."""
  found = {name.removeprefix('time/'): np.median(run.curves[name][1]) for name in run.curves}
  rates = [name for name in found if name.endswith('_per_second')]
  words = [f'{brief(found[x])} {x.removesuffix("_per_second").replace("_", " ")}/s' for x in rates]
  words += [f'MFU {percent(found[MFU])}'] if MFU in found else []
  shares = {name: run.curves[f'time/{name}'][1].mean() for name in PARTS if name in found}
  return ', '.join(words + [f'{percent(share)} {name}' for name, share in shares.items()])


def duration(value: float) -> str:
  """'1 h 02 min', '3 min 20 s' or '12 s'; '' for nothing."""
  if value < 60:
    return f'{value:.0f} s' if value else ''
  minutes, rest = divmod(round(value), 60)
  hours, of_hour = divmod(minutes, 60)
  return f'{hours} h {of_hour:02} min' if hours else f'{minutes} min {rest:02} s'


def overview(groups: list[list[Folder]], labels: list[str]) -> Html:
  """One row a group: its number beside the paper's."""
  rows = []
  for runs, label in zip(groups, labels, strict=True):
    found = results.number(runs)
    ours = results.shown(found.metric, found.mean, found.std)
    cells = [found.metric, element('b', ours), results.shown(found.metric, found.paper)]
    more = [len(runs), f'{max(run.step for run in runs):,}', duration(seconds(runs[0])) or '–']
    rows.append((label, *cells, *more, results.device(runs[0]) or '–'))
  columns = 'Experiment', 'Metric', 'Ours', 'Paper', 'Seeds', 'Steps', 'Duration', 'Device'
  return section('Side by side', listing(columns, rows, numeric=(2, 3, 4, 5, 6)))


# --- curves ---------------------------------------------------------------------------------------


def curves(groups: list[list[Folder]], labels: list[str]) -> Html:
  """A chart for each measure that any run has; what is measured on splits large, the rest small."""
  found = dict.fromkeys(name for runs in groups for run in runs for name in run.curves)
  measures: dict[str, set[str]] = {}
  for split, _, name in (key.partition('/') for key in found):
    if split != 'time' or name.endswith('_per_second') or name == MFU:
      measures.setdefault(name, set()).add(split)
  order = sorted(measures, key=lambda name: MEASURES.index(name) if name in MEASURES else 99)
  main = [name for name in order if name in MATCHES or measures[name] & {'test', 'val'}]
  large = [measure(name, groups, labels) for name in main]
  small = [measure(name, groups, labels, SMALL) for name in order if name not in main]
  if not found:
    return section('Curves', element('p', 'Nothing has been logged yet.'))
  grids = element('div', *large, class_='charts'), element('div', *small, class_='charts small')
  return section('Curves', *grids)


def measure(name: str, groups: list[list[Folder]], labels: list[str], width=figures.WIDTH) -> Html:
  """The chart of one measure: colours tell the splits of one group apart, or many groups."""
  lines, many = [], len(groups) > 1
  for i, runs in enumerate(groups):
    keys = dict.fromkeys(key for run in runs for key in run.curves if key.endswith('/' + name))
    for k, key in enumerate(sorted(keys, reverse=True)):  # train before test
      split = key.partition('/')[0] if len(keys) > 1 else ''
      label = f'{labels[i]} {split}'.strip() if many else split
      lines += over_seeds(runs, key, label, i if many else k, many and split == 'train')
  share, rate = results.is_fraction(name), name.endswith('_per_second') or name == MFU
  text = percent if share or name == MFU else brief
  style = {'text': text, 'log': name == 'loss' or 'error' in name, 'zero': rate}
  heading = 'Model FLOPs utilisation' if name == MFU else name.replace('_', ' ').capitalize()
  return chart(heading, lines, **style, rule=paper_rule(name, groups), width=width)


def over_seeds(runs: list[Folder], key: str, label: str, colour: int, dashed: bool) -> list[Line]:
  """The mean over the seeds at the steps they share, and each seed faintly behind it."""
  own = [run.curves[key] for run in runs if key in run.curves]
  if len(own) == 1:
    return [Line(label, *own[0], colour, dashed)]
  shared = functools.reduce(np.intersect1d, [steps for steps, _ in own])
  mean = np.mean([values[np.isin(steps, shared)] for steps, values in own], axis=0)
  faint = [Line(label, *one, colour, dashed, faint=True) for one in own]
  return [*faint, Line(label, shared, mean, colour, dashed)]


def paper_rule(name: str, groups: list[list[Folder]]) -> tuple[str, float] | None:
  """The paper's number as a level line, where all groups aim at the same one."""
  found = {(n.metric, n.paper) for n in map(results.number, groups)}
  metric, value = found.pop()
  if found or value is None or metric.partition('/')[2] != name:
    return None
  return f'paper {results.shown(metric, value)}', value


def parameters(config: dict) -> int | None:
  """A language model's parameters without embeddings; None of any other network."""
  import models  # not at the top: `import train.report.page` stays cheap
  from models.gpt import GPT, num_params

  section = config.get('model') or {}
  kind = models.MODELS.get(str(section.get('name')))
  if getattr(kind, 'func', kind) is not GPT:
    return None
  return num_params(models.build(**{**section, 'vocab_size': 1}), embeddings=False)


# --- settings -------------------------------------------------------------------------------------


def settings(groups: list[list[Folder]], labels: list[str]) -> Html:
  """The whole config; of several, first a table of what differs."""
  configs = [runs[0].config for runs in groups]
  flat, keys = [results.flatten(config) for config in configs], results.differences(configs)
  rows = [(key, *(plain(one.get(key, '–')) for one in flat)) for key in keys]
  differing = listing(('Differs', *labels), rows, row_class='differs') if rows else ''
  shared = {key: value for key, value in flat[0].items() if key not in (*keys, 'seed')}
  by_section: dict[str, list] = {}
  for key, value in shared.items():
    place, _, name = key.rpartition('.')
    by_section.setdefault(place or 'run', []).append((name, plain(value)))
  tables = [config_table(place, pairs) for place, pairs in by_section.items()]
  return section('Settings', differing, element('div', *tables, class_='sections'))


def plain(value: object) -> str:
  if isinstance(value, list | tuple):
    return ', '.join(map(plain, value)) or '()'
  return brief(value) if isinstance(value, float) else str(value) or '–'


def config_table(place: str, pairs: list[tuple[str, str]]) -> Html:
  rows = [element('tr', element('th', name), element('td', value)) for name, value in pairs]
  return element('table', element('caption', place), *rows, class_='list')


def runs_table(folders: list[Folder]) -> Html:
  """Where each number is from."""
  rows = []
  for run in folders:
    found = results.number([run])
    number = results.shown(found.metric, found.mean)
    place = element('code', run.path)
    rows.append((place, run.seed, f'{run.step:,}', len(run.starts), number, checkpoint(run)))
  columns = 'Folder', 'Seed', 'Step', 'Starts', 'Number', 'Evaluated'
  return section('Runs', listing(columns, rows, numeric=(1, 2, 3, 4)))


def footer() -> Html:
  today = datetime.datetime.now().strftime('%Y-%m-%d %H:%M')
  return element('footer', element('small', f'Written by launch.py report, {today}.'))
