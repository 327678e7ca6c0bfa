"""Reads a run folder for the report: what has its form, and in words what has not.

Nothing here starts JAX or needs the model: the files of a run folder are enough.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import UserError

PIXELS = {
  'images': 'buif',
  'labels': 'iu',
  'predictions': 'iu',
  'probabilities': 'f',
  'filters': 'f',
}
Curve = tuple[np.ndarray, np.ndarray]  # steps int [N] rising, values float [N], NaN: not finite

# What the report uses of each file. A dict is an object, whose other keys may be anything; EVERY
# stands for all keys. A list of one is a list of such; a type or some are of a value.
EVERY = '*'
NUMBER = (int, float)
MOST = 2**53  # of a count or a step
LARGEST = float(np.finfo(np.float32).max)
CONFIG = {
  'model': {'name': str},
  'data': {'name': str, 'dataset': str, 'batch_size': int, 'block_size': int},
  'task': {
    **dict.fromkeys(('name', 'game', 'environment'), str),
    'match_games': int,
    'evaluation': {'num_games': int},
  },
  'train': {'steps': int, 'best': str},
  'paper': {'title': str, 'metric': str, 'value': NUMBER, 'note': str},
}
START = {
  **dict.fromkeys(('time', 'command', 'device', 'processor', 'commit'), str),
  **dict.fromkeys(('step', 'device_count', 'process_count'), int),
  'versions': {EVERY: str},
}
RUN = {'starts': [START]}
EVALUATION = {
  'step': int,
  'checkpoint': (str, int),
  'metrics': {},
  'workdirs': [str],
  'overrides': {},
  'options': {},
  'classes': [(str, int)],
  'confusion': [[int]],
  'versions': {EVERY: str},
}


@dataclasses.dataclass(frozen=True)
class Folder:
  """One run folder as it lies on disk; a part that is missing is empty."""

  path: str
  config: dict
  starts: list[dict]  # run.json: one entry a start or resumption
  curves: dict[str, Curve]  # metrics.jsonl by metric name
  evaluation: dict  # eval.json
  pixels: dict[str, np.ndarray]  # eval_figures.npz
  broken: tuple[str, ...] = ()  # what is damaged and left out, in words
  others: Mapping[str, dict] = dataclasses.field(default_factory=dict)  # eval_*.json, eval-2.json

  @property
  def step(self) -> int:
    """The last step that any metric was written for."""
    return max((int(steps[-1]) for steps, _ in self.curves.values()), default=0)

  @property
  def steps(self) -> int | None:
    """The steps that the run is to have; None if unknown."""
    return (self.config.get('train') or {}).get('steps')

  @property
  def seed(self) -> Any:
    """The seed that its config names."""
    return self.config.get('seed', 0)

  @property
  def start(self) -> dict:
    """The last start; empty if run.json is."""
    return self.starts[-1] if self.starts else {}

  @property
  def evaluations(self) -> dict[str, dict]:
    """Each eval*.json by file name, eval.json first."""
    found = {'eval.json': self.evaluation, **self.others}
    return {name: evaluation for name, evaluation in found.items() if evaluation}

  @property
  def members(self) -> int:
    """How many networks' mean prediction eval.json is of: 1, or an ensemble's."""
    return members(self.evaluation)


def members(evaluation: Mapping[str, Any]) -> int:
  """Returns how many networks' mean prediction an evaluation is of."""
  return len(evaluation.get('workdirs') or ['itself'])


def read(workdir: str) -> Folder:
  """Reads a run folder; UserError if it is none, or if its config.json is damaged."""
  root = Path(workdir)
  if not (root / 'config.json').is_file():
    found = 'no config.json there' if root.is_dir() else 'no such folder'
    raise UserError(f'{workdir}: {found}; a workdir is what `launch.py train` made')
  broken: list[str] = []
  config = read_object(root / 'config.json', CONFIG, broken)
  if not config and broken:
    raise UserError(f'{root / "config.json"}: damaged; it should be one JSON object')
  run = read_object(root / 'run.json', RUN, broken)
  paths = [root / 'eval.json', *sorted(root.glob('eval[-_]*.json'))]
  evaluations = {path.name: _evaluation(path, broken) for path in paths}
  return Folder(
    str(workdir),
    config,
    run.get('starts', []),
    read_curves(root / 'metrics.jsonl', broken),
    evaluations.pop('eval.json'),
    _pixels(root / 'eval_figures.npz', broken),
    tuple(broken),
    {name: found for name, found in evaluations.items() if found},
  )


# -------- JSON --------


def read_object(path: Path, shape: Mapping[str, Any], broken: list[str]) -> dict:
  """Returns a file's JSON object without what is not of the shape; {} if the file is missing.

  What is left out is added to `broken`, in words.
  """
  if not path.is_file():
    return {}
  try:
    value = json.loads(path.read_bytes().decode('utf-8-sig'))
  except (ValueError, RecursionError, OSError):  # not JSON, not UTF-8; nested or read no further
    value = None
  if not isinstance(value, dict) or not value:
    broken.append(f'{path.name} is damaged and left out')
    return {}
  wrong: list[str] = []
  found = _fitted(value, shape, wrong)
  if wrong:
    broken.append(f'{path.name}: {_some(wrong)} of another type, left out')
  return found


def _fitted(value: Any, shape: Any, wrong: list[str], key: str = '') -> Any:
  """Returns the value without what is not of the shape, whose keys are added to `wrong`, or None.

  What is null counts as missing.
  """
  if isinstance(shape, dict) and isinstance(value, dict):
    kinds = {name: shape.get(name, shape.get(EVERY, object)) for name in value}
    fit = {name: _fitted(value[name], kinds[name], wrong, f'{key}.{name}') for name in value}
    return {name: x for name, x in fit.items() if x is not None or kinds[name] is object}
  if isinstance(shape, list) and isinstance(value, list):
    items = (_fitted(x, shape[0], wrong, f'{key}.{i}') for i, x in enumerate(value))
    return [item for item in items if item is not None]
  if shape is object or (not isinstance(shape, dict | list) and _is_plain(value, shape)):
    return value
  if value is not None:
    wrong.append(key[1:])
  return None


def _is_plain(value: Any, kinds: Any) -> bool:
  """Returns whether a value is of the types; no truth value is a number, nor one past counting."""
  if isinstance(value, bool) or not isinstance(value, kinds):
    return False
  return not isinstance(value, int) or abs(value) <= MOST


def _evaluation(path: Path, broken: list[str]) -> dict:
  """Reads an eval*.json; a confusion matrix is kept if it is one, class names if there are as many.

  A metric that is no finite number is NaN.
  """
  found = read_object(path, EVALUATION, broken)
  metrics = found.get('metrics', {})
  numbers = {name: _number(value) for name, value in metrics.items() if _is_number(value)}
  if others := [name for name in metrics if name not in numbers]:
    broken.append(f'{path.name}: no numbers, left out: {_some(others)}')
  found |= {'metrics': numbers} if metrics else {}
  counts, classes = found.get('confusion'), found.get('classes')
  if counts is None:
    return found
  size = len(counts)
  if not size or any(len(row) != size or not all(0 <= x <= MOST for x in row) for row in counts):
    broken.append(f'{path.name}: confusion is no square table of counts and left out')
    del found['confusion']
  elif classes is not None and len(classes) != size:
    broken.append(f'{path.name}: classes are not {size} names as its table has rows, and left out')
    del found['classes']
  return found


def _is_number(value: Any) -> bool:
  """Returns whether it is a number or null, which stands for one that is not finite."""
  return isinstance(value, int | float | None) and not isinstance(value, bool)


def _number(value: float | None) -> float:
  """Returns the number as a float; NaN for null and what float32, in which it was, cannot hold."""
  return float(value) if value is not None and abs(value) <= LARGEST else math.nan


# -------- metrics.jsonl --------


def read_curves(path: Path, broken: list[str] | None = None) -> dict[str, Curve]:
  """Returns metric name to curve of a metrics.jsonl.

  The last value of a repeated step counts. NaN stands for a value that is not finite (null). Lines
  that are no record of a step, and values that are no numbers, are left out and counted in words
  in `broken`; a last line without its end is being written.
  """
  found: dict[str, dict[int, float]] = {}
  lines = path.read_bytes().split(b'\n') if path.is_file() else [b'']
  cut = lines.pop()
  bad, others = [], []
  for number, line in enumerate(lines, 1):
    step, record = _record(line)
    if step is None:
      bad.append(number)
      continue
    for name, value in record.items():
      if _is_number(value):
        found.setdefault(name, {})[step] = _number(value)
      else:
        others.append(f'{name} in line {number}')
  if broken is not None:
    broken += _notices(path.name, len(lines), bad, others, cut)
  ordered = {name: sorted(points.items()) for name, points in found.items()}
  return {
    name: (np.array([step for step, _ in points]), np.array([value for _, value in points]))
    for name, points in ordered.items()
  }


def _record(line: bytes) -> tuple[int | None, dict[str, Any]]:
  """Returns a line's step, None if it has none, and its values by name."""
  try:
    value = json.loads(line.decode('utf-8-sig'))
  except (ValueError, RecursionError):
    return None, {}
  step = value.pop('step', None) if isinstance(value, dict) else None
  good = isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= MOST
  return (step, value) if good else (None, {})


def _notices(name: str, total: int, bad: list[int], others: list[str], cut: bytes) -> list[str]:
  said = []
  if bad:
    lines = _some([f'line {number}' for number in bad])
    said.append(f'{name}: {len(bad)} of {total} lines damaged and left out: {lines}')
  if others:
    said.append(f'{name}: no numbers, left out: {_some(others)}')
  if cut:
    said.append(f'{name}: the last line is cut short and left out; perhaps it is being written')
  return said


def _some(names: list[str]) -> str:
  """Returns the first of some names, and how many more there are."""
  first = ', '.join(name[:100] for name in names[:3])
  return first + (f' and {len(names) - 3} more' if len(names) > 3 else '')


# -------- eval_figures.npz --------


def _pixels(path: Path, broken: list[str]) -> dict[str, np.ndarray]:
  if not path.is_file():
    return {}
  try:
    with np.load(path, allow_pickle=False) as archive:
      found = {name: archive[name] for name in PIXELS if name in archive}
  except Exception:  # zipfile and NumPy raise many kinds, which they do not name
    broken.append(f'{path.name} is damaged and left out')
    return {}
  wrong = _misfits(found)
  if wrong:
    broken.append(f'{path.name}: {", ".join(wrong)} of another shape, left out')
  return {name: array for name, array in found.items() if name not in wrong}


def _misfits(arrays: Mapping[str, np.ndarray]) -> list[str]:
  """Returns the names of arrays that are not as `Classify.examine` makes them."""
  wrong = [name for name, array in arrays.items() if array.dtype.kind not in PIXELS[name]]
  filters = arrays.get('filters')
  if filters is not None and (filters.ndim != 4 or not filters.size):
    wrong.append('filters')
  samples = {name: array.shape for name, array in arrays.items() if name != 'filters'}
  images = samples.pop('images', (0, 1, 1, 1))
  flat = all(shape == images[:1] for shape in samples.values())
  if not flat or len(images) != 4 or 0 in images[1:3] or images[3] not in (1, 3, 4):
    wrong += ['images', *samples]
  return list(dict.fromkeys(wrong))
