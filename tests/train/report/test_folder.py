"""Run folders that are damaged: what is whole is read, the rest is said."""

import copy
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from tests.fuzzing import fuzzed
from tests.train.report.folders import run_folder, write
from train.errors import UserError
from train.report import charts
from train.report import page as page_lib
from train.report.folder import read, read_curves

LINE = b'{"step": 10, "train/loss": 2.0}\n'


def curves_of(path, contents):
  """The curves of a metrics.jsonl, and what is said of it."""
  path = path / 'metrics.jsonl'
  path.write_bytes(contents)
  said = []
  return read_curves(path, said), said


# -------- metrics.jsonl --------


def test_the_last_value_of_a_step_counts(tmp_path):
  text = b'{"step": 20, "a": 2.0}\n{"step": 10, "a": 1.0}\n{"step": 20, "a": 3.0}\n'
  curves, said = curves_of(tmp_path, text)
  np.testing.assert_array_equal(curves['a'], [[10, 20], [1, 3]])
  assert not said and read_curves(tmp_path / 'absent') == {}


@pytest.mark.parametrize('value', ['null', 'NaN', 'Infinity', '-1e999', '9' * 400, '1e39'])
def test_a_value_that_is_not_finite_keeps_its_place(tmp_path, value):
  curves, said = curves_of(
    tmp_path, b'{"step": 1, "a": 2}\n{"step": 3, "a": %s}\n' % value.encode()
  )
  np.testing.assert_array_equal(curves['a'], [[1, 3], [2, np.nan]])
  assert not said


@pytest.mark.parametrize(
  'line',
  [
    b'\0' * 100,
    b'{"step": 10, "tra',
    b'{"step": 5, "caf\xe9": 1}',
    b'[]',
    b'null',
    b'',
    b'{"loss": 2}',
    b'{"step": "5", "loss": 2}',
    b'{"step": -5, "loss": 2}',
    b'{"step": true, "loss": 2}',
    b'{"step": 5.5, "loss": 2}',
    b'{"step": %s, "loss": 2}' % (b'9' * 30),
    b'[' * 100_000,
  ],
)
def test_a_line_that_is_no_record_is_counted_and_the_others_are_read(tmp_path, line):
  curves, said = curves_of(tmp_path, LINE + line + b'\n' + LINE.replace(b'10', b'20'))
  np.testing.assert_array_equal(curves['train/loss'], [[10, 20], [2, 2]])
  assert list(curves) == ['train/loss']
  assert said == ['metrics.jsonl: 1 of 3 lines damaged and left out: line 2']


@pytest.mark.parametrize('value', ['"x"', '[1]', '{}', 'true'])
def test_a_value_that_is_no_number_is_named(tmp_path, value):
  line = b'{"step": 20, "train/loss": 1, "a/b": %s}\n' % value.encode()
  curves, said = curves_of(tmp_path, LINE + line)
  np.testing.assert_array_equal(curves['train/loss'], [[10, 20], [2, 1]])
  assert said == ['metrics.jsonl: no numbers, left out: a/b in line 2']


def test_a_line_that_is_being_written_is_said(tmp_path):
  curves, said = curves_of(tmp_path, LINE + b'{"step": 20, "train/lo')
  assert len(curves['train/loss'][0]) == 1 and 'the last line is cut short' in said[0]


# -------- the other files --------


@pytest.mark.parametrize(
  'text', [b'', b'{', b'[]', b'5', b'{"a": "caf\xe9"}', b'\0\0', b'[' * 10**5]
)
@pytest.mark.parametrize('name', ['run.json', 'eval.json', 'eval_text.json', 'config.json'])
def test_a_file_that_is_no_object_is_left_out_and_a_config_refused(tmp_path, name, text):
  path = tmp_path / 'a'
  run_folder(path)
  (path / name).write_bytes(text)
  if name == 'config.json':
    with pytest.raises(UserError, match=r'config\.json: damaged'):
      read(str(path))
  else:
    assert read(str(path)).broken == (f'{name} is damaged and left out',)


def test_parts_of_another_type_are_named_and_the_rest_is_read(tmp_path):
  path = tmp_path / 'a'
  run_folder(path)
  config = json.loads((path / 'config.json').read_text())
  write(path / 'config.json', config | {'task': 5, 'paper': {'value': 'x', 'metric': 'test/error'}})
  start = {'device': 7, 'commit': 'abc', 'device_count': True}
  write(path / 'run.json', {'starts': [start, 'then']})
  run = read(str(path))
  assert run.broken == (
    'config.json: paper.value, task of another type, left out',
    'run.json: starts.0.device, starts.0.device_count, starts.1 of another type, left out',
  )
  assert run.config['paper'] == {'metric': 'test/error'} and run.starts == [{'commit': 'abc'}]


@pytest.mark.parametrize(
  'counts', [[], [[1, 2]], [[1, -1], [0, 1]], [[1], [2]], [[10**15] * 2], 'x']
)
def test_a_confusion_that_is_no_table_is_left_out(tmp_path, counts):
  path = tmp_path / 'a'
  run_folder(path)
  write(path / 'eval.json', {'metrics': {'test/error': 0.5}, 'confusion': counts})
  run = read(str(path))
  assert 'confusion' not in run.evaluation and len(run.broken) == 1
  assert run.evaluation['metrics'] == {'test/error': 0.5}


@pytest.mark.parametrize(
  'change',
  [
    {'images': np.zeros((2, 8, 8, 5), np.uint8)},
    {'images': np.zeros((3, 8, 8, 1), np.uint8)},
    {'labels': np.zeros((2, 2), int)},
    {'predictions': np.array(['a', 'b'])},
    {'filters': np.zeros(5)},
  ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change):
  path = tmp_path / 'a'
  run_folder(path)
  with np.load(path / 'eval_figures.npz') as archive:
    arrays = dict(archive) | change
  np.savez(path / 'eval_figures.npz', **arrays)
  [said] = read(str(path)).broken
  assert next(iter(change)) in said and said.endswith('left out')
  page_lib.write([str(path)])


# -------- any damage --------

WHOLE = {
  'config.json': {
    'model': {'name': 'lenet'},
    'data': {'dataset': 'digits', 'batch_size': 4},
    'task': {'name': 'selfplay', 'evaluation': {'num_games': 10}},
    'train': {'steps': 30, 'best': 'test/error'},
    'paper': {'metric': 'test/error', 'value': 0.5, 'title': 'X', 'note': 'Y'},
    'seed': 0,
  },
  'run.json': {
    'starts': [{'device': 'cpu', 'command': 'python launch.py', 'versions': {'a': '1'}}]
  },
  'eval.json': {
    'step': 30,
    'checkpoint': 'best',
    'metrics': {'test/error': 0.5},
    'workdirs': ['a'],
    'overrides': {},
    'confusion': [[1, 2], [3, 4]],
    'classes': ['a', 'b'],
  },
  'eval_text.json': {'metrics': {'text/loss': 2.0}, 'options': {'text': 'a.txt'}},
}
LOG = {'train/loss': 2.0, 'random/share': 0.5, 'past/share': 0.4, 'past/step': 0, 'time/seconds': 1}
WRONG: tuple = (
  None,
  True,
  -1,
  10**400,
  0.5,
  float('nan'),
  '',
  'x\x1b\udce9<b>',
  [],
  [[]],
  {},
  {'a': [1]},
)


def places(value):
  """The containers and keys inside of a JSON value."""
  items = value.items() if isinstance(value, dict) else enumerate(value)
  for key, inner in list(items):
    yield value, key
    if isinstance(inner, dict | list):
      yield from places(inner)


def damaged(contents, draw):
  """Bytes that are cut, flipped, or another's in the middle."""
  contents = bytearray(contents)
  for _ in range(draw.randrange(3)):
    if contents:
      contents[draw.randrange(len(contents))] = draw.randrange(256)
  cut = draw.randrange(len(contents) + 1)
  return bytes(contents[:cut] + b'\0' * draw.choice([0, 0, 9]) + contents[draw.choice([cut, 0]) :])


def undrawn(title, lines, *, width, over='step', **options):
  """A chart without its curves: any curve is drawn in test_charts.py, and it takes long."""
  return charts.Chart(title, over, width, Markup(''), [(line, '') for line in lines])


@fuzzed
@given(st.integers(0, 2**64))
def test_fuzz_any_damage_makes_a_page_or_one_line(tmp_path, monkeypatch, seed):
  monkeypatch.setattr(charts, 'chart', undrawn)
  draw = random.Random(seed)
  files = copy.deepcopy(WHOLE)
  records = [{'step': step, **LOG} for step in (10, 20, 30)]
  for _ in range(draw.randrange(4)):
    container, key = draw.choice(list(places([files, records])))
    if container is not files:
      container[key] = copy.deepcopy(draw.choice(WRONG))
  made = {name: json.dumps(value).encode() for name, value in files.items()}
  made['metrics.jsonl'] = b''.join(json.dumps(line).encode() + b'\n' for line in records)
  if draw.random() < 0.5:
    name = draw.choice(list(made))
    made[name] = damaged(made[name], draw)
  for name, contents in made.items():
    (tmp_path / name).write_bytes(contents)
  try:
    page_lib.write([str(tmp_path)])
  except UserError as error:
    assert '\n' not in str(error)
