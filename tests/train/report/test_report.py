"""The report page and the table of results, from run folders written here as `train` does."""

import html.parser
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.errors import UserError
from train.report import charts, pictures, results
from train.report import page as page_lib

ROOT = Path(__file__).parents[3]
PAPER = {'title': 'LeCun et al. 1998', 'metric': 'test/error', 'value': 0.0095, 'note': ''}
VERSIONS = {'python': '3.11.2', 'jax': '0.10.2'}
COMMAND = 'python /a/launch.py train --config=configs/lenet.py --workdir=runs/x --config.seed=3'
START = {
  'step': 0,
  'time': '2026-01-31T10:20:30+00:00',
  'command': COMMAND,
  'versions': VERSIONS,
  'device': 'NVIDIA H200',
  'device_count': 8,
  'process_count': 1,
  'commit': '0123456789abcdef',
  'dirty': False,
}


def run_folder(path, *, seed=0, error=0.01, rate=0.1, steps=300, evaluated=True, paper=PAPER):
  """A finished run of 300 steps with three classes; returns its path."""
  path.mkdir()
  config = {
    'model': {'name': 'lenet'},
    'data': {'name': 'images', 'dataset': 'digits'},
    'optimizer': {'name': 'sgd', 'learning_rate': rate},
    'train': {'steps': 300},
    'paper': paper,
    'seed': seed,
  }
  write(path / 'config.json', config)
  write(path / 'run.json', {'seed': seed, 'starts': [START]})
  lines = [
    {'step': s, 'train/loss': 1 / s, 'time/seconds': s / 2} for s in range(10, steps + 1, 10)
  ]
  lines += [
    {'step': s, 'test/loss': 2 / s, 'test/error': error} for s in range(100, steps + 1, 100)
  ]
  (path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  if evaluated:
    evaluate(path, error)
  return str(path)


def evaluate(path, error, workdirs=('itself',)):
  facts = {'confusion': [[9, 1, 0], [0, 10, 0], [2, 0, 8]], 'classes': ['cat', 'dog', '<b>']}
  metrics = {'test/error': error}
  evaluation = {'step': 300, 'checkpoint': 'best', 'metrics': metrics, 'workdirs': workdirs}
  write(path / 'eval.json', evaluation | facts)
  arrays = {
    'images': np.zeros((2, 8, 8, 1), np.uint8),
    'labels': np.array([0, 2]),
    'predictions': np.array([0, 1]),
    'probabilities': np.array([0.9, 0.6], np.float32),
    'filters': np.ones((5, 5, 1, 6), np.float32),
  }
  np.savez(path / 'eval_figures.npz', **arrays)


def write(path, value):
  path.write_text(json.dumps(value))


class Outline(html.parser.HTMLParser):
  """The tags of a page; fails on one that is closed in the wrong place."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.attributes = [], [], []
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in ('meta', 'img', 'input'):
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def text_of(page):
  """What a reader sees: without style, tags and line breaks."""
  bare = re.sub(r'<style>.*?</style>|<[^>]*>', ' ', page, flags=re.S)
  return ' '.join(html.unescape(bare).split())


# -------- the page --------


def test_page_is_one_file_with_all_that_the_run_left(tmp_path):
  path = page_lib.write([run_folder(tmp_path / 'a')])
  page = Path(path).read_text()
  outline = Outline(page)
  assert path == str(tmp_path / 'a' / 'report.html')
  assert not {'script', 'link', 'iframe'} & set(outline.tags)
  sources = [value for name, value in outline.attributes if name in ('src', 'href')]
  assert sources and all(value.startswith('data:image/png;base64,') for value in sources)
  assert 'url(' not in page and '@import' not in page
  assert outline.tags.count('svg') == 2  # loss and error
  seen = text_of(page)
  assert 'lenet on digits' in seen and 'LeCun et al. 1998' in seen
  assert '1.00 % ours, one seed' in seen and '0.95 % in the paper' in seen
  assert '8 × NVIDIA H200' in seen and '0123456789ab' in seen and 'jax 0.10.2' in seen
  assert 'python launch.py train --config=configs/lenet.py' in seen and '2 min 30 s' in seen
  assert '✓ cat 90 %' in seen and '✗ dog 60 % is <b>' in seen
  assert '6 filters of 5 × 5' in seen


def test_seeds_are_one_experiment_with_a_mean_and_a_deviation(tmp_path):
  errors = [0.009, 0.010, 0.011]
  runs = [run_folder(tmp_path / f's{i}', seed=i, error=e) for i, e in enumerate(errors)]
  output = tmp_path / 'new' / 'page.html'
  page = Path(page_lib.write(runs, str(output))).read_text()
  Outline(page)
  assert '1.00 ± 0.10 % ours, mean ± standard deviation of 3 seeds' in text_of(page)
  assert '90 examples, 3 seeds together' in text_of(page)
  assert page.count('stroke-opacity: 0.35') > 3  # each seed behind the mean


def test_different_configs_stand_side_by_side_with_their_differences_marked(tmp_path):
  runs = [run_folder(tmp_path / 'a', rate=0.1), run_folder(tmp_path / 'b', rate=0.5, error=0.02)]
  page = Path(page_lib.write(runs, str(tmp_path / 'page.html'))).read_text()
  Outline(page)
  assert '<tr class="differs"><td>optimizer.learning_rate</td><td>0.1</td><td>0.5</td>' in page
  assert page.count('class="differs"') == 1
  seen = text_of(page)
  assert 'Side by side' in seen and 'learning_rate 0.5 test/error 2.00 % 0.95 %' in seen


def test_a_run_still_going_is_reported_with_what_it_lacks(tmp_path):
  path = run_folder(tmp_path / 'a', steps=200, evaluated=False, error=0.2)
  with open(tmp_path / 'a' / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 210, "train/lo')  # being written
  page = Path(page_lib.write([path])).read_text()
  Outline(page)
  seen = text_of(page)
  assert 'at step 200 of 300' in seen and 'not evaluated yet; python launch.py eval' in seen
  assert '20.00 % ours, one seed, at the last evaluation while training' in seen
  assert 'Evaluation' not in re.findall('<h2>(.*?)</h2>', page)


@pytest.mark.parametrize('config', [{}, {'seed': 1}, {'model': None, 'paper': {}, 'train': {}}])
def test_a_folder_with_nothing_but_a_config_makes_a_page(tmp_path, config):
  write(tmp_path / 'config.json', {'seed': 0} | config)
  page = Path(page_lib.write([str(tmp_path)])).read_text()
  Outline(page)
  assert 'Nothing has been logged yet' in page and 'ours: not measured yet' in page


def test_a_nan_stop_and_damaged_files_are_said(tmp_path):
  path = run_folder(tmp_path / 'a')
  (tmp_path / 'a' / 'nan').mkdir()
  (tmp_path / 'a' / 'eval_figures.npz').write_bytes(b'PK\3\4 cut short')
  (tmp_path / 'a' / 'run.json').write_text('{')
  seen = text_of(Path(page_lib.write([path])).read_text())
  assert 'stopped on a value that is not finite' in seen
  assert 'run.json is damaged' in seen and 'eval_figures.npz is damaged' in seen


def test_what_is_no_run_folder_is_an_error_of_one_line(tmp_path):
  with pytest.raises(UserError, match=r'no config.json there; a workdir is what'):
    page_lib.write([str(tmp_path)])
  with pytest.raises(UserError, match=r'absent: no such folder'):
    page_lib.write([str(tmp_path / 'absent')])
  (tmp_path / 'config.json').write_text('{"seed": ')
  with pytest.raises(UserError, match=r'config.json: damaged'):
    page_lib.write([str(tmp_path)])
  with pytest.raises(UserError, match='no workdir given'):
    page_lib.write([])


def test_names_from_outside_are_escaped(tmp_path):
  path = run_folder(tmp_path / 'a', paper={**PAPER, 'title': '<script>alert("&")</script>'})
  page = Path(page_lib.write([path])).read_text()
  assert 'script' not in Outline(page).tags
  assert '&lt;b&gt;' in page  # a class


def test_many_classes_make_a_picture_of_the_confusion(tmp_path):
  path = run_folder(tmp_path / 'a')
  many = np.diag(np.full(100, 7)) + np.eye(100, k=1, dtype=int)
  old = json.loads((tmp_path / 'a' / 'eval.json').read_text())
  names = [f'class {i}' for i in range(100)]
  write(tmp_path / 'a' / 'eval.json', old | {'confusion': many.tolist(), 'classes': names})
  page = Path(page_lib.write([path])).read_text()
  assert 'class="heat"' in page and 'class="confusion"' not in page
  assert '799 examples' in page


def test_all_metrics_of_an_evaluation_are_listed_over_the_seeds(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i) for i in range(2)]
  for i, run in enumerate(map(Path, runs)):
    old = json.loads((run / 'eval.json').read_text())
    write(run / 'eval.json', old | {'metrics': {'test/error': 0.01, 'test/loss': 0.5 + i}})
  seen = text_of(Path(page_lib.write(runs)).read_text())
  assert 'Metric Value test/error 1.00 ± 0.00 % test/loss 1.000 ± 0.707' in seen


@pytest.mark.parametrize('evaluation', [{'step': 1}, {'metrics': None, 'confusion': [[1]]}])
def test_an_evaluation_without_its_parts_makes_a_page(tmp_path, evaluation):
  path = run_folder(tmp_path / 'a')
  write(tmp_path / 'a' / 'eval.json', evaluation)
  (tmp_path / 'a' / 'eval_figures.npz').unlink()
  Outline(Path(page_lib.write([path])).read_text())


def test_every_task_has_words():
  from train.tasks import DECLARATIONS

  assert all(task.report.evaluation for task in DECLARATIONS.values())


def test_writing_a_page_starts_no_jax(tmp_path):
  path = run_folder(tmp_path / 'a')
  code = 'import sys; from train.report import page; page.write(sys.argv[1:]); print(*sys.modules)'
  command = [sys.executable, '-c', code, path]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
  assert not {'jax', 'flax', 'tensorflow'} & set(done.stdout.split())


# -------- curves --------


def test_the_last_value_of_a_step_counts_and_what_is_not_finite_is_left_out(tmp_path):
  log = tmp_path / 'metrics.jsonl'
  log.write_text(
    '{"step": 20, "a": 2.0}\n{"step": 10, "a": 1.0}\n{"step": 20, "a": 3.0}\n'
    '{"step": 30, "a": NaN}\n[1]\nnot json\n{"a": 5.0}\n{"step": 40, "a": "text"}\n'
  )
  curves = results.read_curves(log)
  np.testing.assert_array_equal(curves['a'], [[10, 20], [1, 3]])
  assert results.read_curves(tmp_path / 'absent') == {}


def test_seeds_are_averaged_where_both_have_a_value(tmp_path):
  runs = [results.read(run_folder(tmp_path / name)) for name in 'ab']
  runs[0].curves['x/y'] = np.array([1, 2, 4]), np.array([1.0, 2.0, 4.0])
  runs[1].curves['x/y'] = np.array([2, 3, 4]), np.array([4.0, 3.0, 8.0])
  *faint, mean = page_lib.over_seeds(runs, 'x/y', 'x', 0, False)
  assert [line.faint for line in faint] == [True, True] and not mean.faint
  np.testing.assert_array_equal([mean.steps, mean.values], [[2, 4], [3, 6]])


def labels_of(chart):
  """The texts along the axes of a chart."""
  return re.findall(r'<text[^>]*>([^<]*)</text>', chart.svg)


@pytest.mark.parametrize(
  ('values', 'expected'),
  [
    ([0, 1], ['0', '0.2', '0.4', '0.6', '0.8', '1']),
    ([0, 4680], ['0', '1k', '2k', '3k', '4k']),
    ([0.001, 1.2], ['0.001', '0.01', '0.1', '1']),
    ([0.05, 0.6, 1.2], ['0.05', '0.1', '0.2', '0.5', '1']),
  ],
)
def test_an_axis_has_round_numbers(values, expected):
  steps = np.arange(7, 7 + len(values)) * 1000
  chart = charts.chart('Loss', [charts.Line('', steps, np.array(values))], log=min(values) > 0)
  assert labels_of(chart) == ['0', '2k', '4k', '6k', '8k', *expected, 'step']


def test_brief_numbers():
  shown = [charts.brief(x) for x in (0, 1200, 2.5e6, 0.05, 1e-5, 2.5e-4)]
  assert shown == ['0', '1.2k', '2.5M', '0.05', '1e-5', '2.5e-4']


def test_an_error_of_zero_lies_below_the_others_on_a_logarithmic_axis():
  values = np.array([0.5, 0.1, 0.0, 0.01])
  drawn = charts.chart('Error', [charts.Line('', np.arange(4), values)], log=True)
  assert {'0', '0.01', '0.1'} <= set(labels_of(drawn))
  heights = [y for _, y in points_of(drawn)[-1]]
  assert heights == sorted(heights[:2]) + [max(heights), heights[3]]
  assert heights[2] - heights[3] > 10 and heights[3] > heights[1]


def points_of(chart):
  """The corners (x, y) of each path of a chart."""
  paths = re.findall(r'<path d="([^"]*)"', chart.svg)
  return [np.array(re.findall(r'[ML] ([\d.e-]+) ([\d.e-]+)', path), float) for path in paths]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.booleans(), st.booleans())
def test_any_curve_is_drawn_inside_its_chart(values, log, zero):
  line = charts.Line('loss', np.arange(len(values)), np.array(values))
  drawn = charts.chart('Loss', [line], log=log, zero=zero)
  Outline(drawn.svg)
  for places in points_of(drawn) if len(values) > 1 else ():
    assert np.isfinite(places).all() and (places >= 0).all()
    assert (places <= [charts.WIDTH, charts.HEIGHT]).all()


def test_thinning_keeps_the_mean():
  line = charts.Line('x', np.arange(9999), np.random.default_rng(0).normal(size=9999))
  thin = charts.thin(line)
  assert len(thin.steps) == charts.POINTS
  np.testing.assert_allclose(thin.values.mean(), line.values.mean(), atol=1e-3)


# -------- pictures --------


def test_filters_are_grey_at_zero_and_each_uses_its_range():
  kernel = np.zeros((1, 3, 3, 2), np.float32)
  kernel[0, :, :, 0] = [[-2] * 3, [0] * 3, [1] * 3]
  tiles = pictures.filter_tiles(kernel)
  assert tiles.shape == (2, 1, 3, 3)
  assert tiles[0, 0, :, 0].tolist() == [0, 128, 191]
  assert (tiles[1] == 128).all()
  assert pictures.filter_tiles(np.ones((5, 5, 4, 6))).shape == (6, 5, 5, 1)


# -------- results --------


def test_a_record_has_the_number_and_how_to_get_it(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i, error=0.008 + 0.001 * i) for i in range(2)]
  path = results.write(runs, str(tmp_path / 'results' / 'lenet.json'), 'Pixels are re-encoded.')
  record = json.loads(Path(path).read_text())
  assert record['name'] == 'lenet' and record['seeds'] == [0, 1] and record['date'] == '2026-01-31'
  assert record['paper'] == {'title': 'LeCun et al. 1998', 'metric': 'test/error', 'value': 0.0095}
  assert record['ours']['n'] == 2
  assert record['ours']['values'] == pytest.approx([0.008, 0.009])
  assert record['ours']['mean'] == pytest.approx(0.0085)
  assert record['ours']['std'] == pytest.approx(0.001 / 2**0.5)  # n - 1
  assert record['command'] == 'python launch.py train --config=configs/lenet.py'
  results.write(runs, path)  # again, and the note stays
  assert json.loads(Path(path).read_text())['note'] == 'Pixels are re-encoded.'


def test_a_record_is_of_one_config_and_evaluated(tmp_path):
  runs = [run_folder(tmp_path / 'a', rate=0.1), run_folder(tmp_path / 'b', rate=0.2)]
  with pytest.raises(UserError, match=r'differ in optimizer\.learning_rate'):
    results.record(runs, 'x')
  with pytest.raises(UserError, match=r'c: no test/error of its own; run `launch.py eval` there'):
    results.record([run_folder(tmp_path / 'c', evaluated=False)], 'x')


def test_an_ensemble_is_no_seed(tmp_path):
  runs = [run_folder(tmp_path / f's{i}', seed=i, error=0.01) for i in range(2)]
  evaluate(tmp_path / 's0', 0.005, workdirs=runs)
  folders = [results.read(run) for run in runs]
  assert results.number(folders[:1]).values == (0.005,)
  assert results.number(folders).values == (0.01, 0.01)  # s0's from its curve
  with pytest.raises(UserError, match=r's0: no test/error of its own'):
    results.record(runs, 'x')


def test_the_table_stands_between_the_readmes_markers(tmp_path):
  readme, (opening, closing) = tmp_path / 'README.md', results.MARKERS
  readme.write_text(f'before\n{opening}\nold\n{closing}\nafter\n')
  results.write([run_folder(tmp_path / 'a')], str(tmp_path / results.RESULTS / 'lenet.json'))
  assert results.update(readme)
  assert not results.update(readme)  # the second time changes nothing
  text = readme.read_text()
  assert text.startswith(f'before\n{opening}\n| Experiment')
  assert text.endswith(f'{closing}\nafter\n') and 'old' not in text
  assert '[lenet](docs/results/lenet.json) | LeCun et al. 1998 | 0.95 % | **1.00 %**' in text
  readme.write_text('no markers')
  with pytest.raises(UserError, match='has no <!-- results -->'):
    results.update(readme)


def test_the_readmes_table_is_what_the_command_makes():
  opening, closing = results.MARKERS
  text = (ROOT / 'README.md').read_text()
  assert text.partition(opening)[2].partition(closing)[0].strip() == results.table(ROOT)
