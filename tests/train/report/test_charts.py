"""Which charts a page has, and how they are drawn."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.report.folders import Outline, run_folder
from train.report import charts, curves
from train.report.folder import read
from train.report.numbers import Experiment
from train.tasks import DECLARATIONS


def experiment(*folders, label=''):
  return Experiment(label, list(folders))


def own_curves(path, **named):
  """A run that logged these metrics: 'split__name' to (steps, values)."""
  run = read(run_folder(path, seed=path.name))
  found = {name.replace('__', '/'): tuple(map(np.array, both)) for name, both in named.items()}
  return dataclasses.replace(run, curves=found)


# -------- over seeds --------


def test_seeds_are_averaged_where_all_have_a_value(tmp_path):
  a = own_curves(tmp_path / 'a', x__y=([1, 2, 4], [1.0, 2.0, 4.0]))
  b = own_curves(tmp_path / 'b', x__y=([2, 3, 4], [4.0, 3.0, 8.0]))
  *faint, mean = curves.over_seeds(experiment(a, b), 'x/y', 'x', 0, False)
  assert [line.faint for line in faint] == [True, True] and not mean.faint
  np.testing.assert_array_equal([mean.steps, mean.values], [[2, 4], [3, 6]])


def test_seeds_without_a_step_in_common_are_lines_of_their_own(tmp_path):
  a = own_curves(tmp_path / 'a', x__y=([1, 2], [1.0, 2.0]))
  b = own_curves(tmp_path / 'b', x__y=([3], [4.0]))
  lines = curves.over_seeds(experiment(a, b), 'x/y', 'x', 0, False)
  assert [line.name for line in lines] == ['x seed a', 'x seed b']


def test_a_mean_of_some_seeds_says_of_how_many(tmp_path):
  runs = [own_curves(tmp_path / name, x__y=([1], [1.0])) for name in 'ab']
  runs.append(own_curves(tmp_path / 'c'))
  assert curves.over_seeds(experiment(*runs), 'x/y', 'x', 0, False)[-1].name == 'x (2 of 3 seeds)'
  [alone] = curves.over_seeds(experiment(*runs[1:]), 'x/y', 'x', 0, False)
  assert alone.name == 'x (seed b alone)'


# -------- which charts, in which colours --------


def test_a_split_has_its_colour_in_every_chart(tmp_path):
  one, two = ([1, 2], [3.0, 4.0]), ([1, 2], [5.0, 6.0])
  run = own_curves(
    tmp_path / 'a', train__loss=one, test__loss=two, val__loss=two, train__rate=one, test__error=one
  )
  [drawn] = curves.by_task([experiment(run)]).values()
  colours = {line.name: line.colour for chart in drawn for line, _ in chart.legend}
  assert colours == {'train': charts.TRAIN, 'test': charts.TEST, 'val': charts.VAL}
  assert sum(len(chart.legend) for chart in drawn) == 5


def test_compared_experiments_have_a_colour_each_and_dash_training_data_everywhere(tmp_path):
  line = ([1, 2], [3.0, 4.0])
  runs = [
    own_curves(tmp_path / x, train__loss=line, test__loss=line, train__rate=line) for x in 'ab'
  ]
  found = [experiment(run, label=run.seed) for run in runs]
  [drawn] = curves.by_task(found).values()
  lines = [line for chart in drawn for line, _ in chart.legend]
  assert {(line.name.split()[0], line.colour) for line in lines} == {('a', 3), ('b', 4)}
  assert [line.dashed for line in lines] == ['test' not in line.name for line in lines]


def test_forty_experiments_have_forty_colours(tmp_path):
  found = []
  for i in range(40):
    found.append(experiment(own_curves(tmp_path / str(i), x__y=([1], [2.0])), label=str(i)))
  [[drawn]] = curves.by_task(found).values()
  assert len({charts.colour(line.colour) for line, _ in drawn.legend}) == 40
  assert '#00f' not in drawn.svg  # a stand-in that was left


def test_losses_of_two_tasks_are_not_in_one_chart(tmp_path):
  runs = [own_curves(tmp_path / name, val__loss=([1], [2.0])) for name in 'ab']
  for run, task in zip(runs, ('language', 'diffusion'), strict=True):
    run.config['task'] = {'name': task}
  drawn = curves.by_task([experiment(run, label=run.seed) for run in runs])
  assert {task: len(charts_) for task, charts_ in drawn.items()} == {'language': 1, 'diffusion': 1}


def test_a_metric_without_a_split_and_one_with_two_have_charts_of_their_own(tmp_path):
  run = own_curves(
    tmp_path / 'a', loss=([1], [2.0]), train__loss=([1], [3.0]), a__b__loss=([1], [4.0])
  )
  [drawn] = curves.by_task([experiment(run)]).values()
  found = {chart.title: [value for _, value in chart.legend] for chart in drawn}
  assert found == {'Loss': ['3', '2'], 'B/loss': ['4']}


def test_every_metric_of_self_play_has_words():
  words = DECLARATIONS['selfplay'].report
  logged = {
    'play_length',
    'play_draws',
    'play_entropy',
    'share',
    'as_first',
    'search_mse',
    'policy',
  }
  assert logged <= words.headings.keys()


# -------- drawing --------


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


any_number = st.floats(width=32, allow_infinity=False)


@settings(max_examples=30, deadline=None)
@given(st.lists(any_number, min_size=1, max_size=50), st.booleans(), st.booleans())
def test_any_curve_is_drawn_inside_its_chart(values, log, zero):
  line = charts.Line('loss', np.arange(len(values)), np.array(values))
  drawn = charts.chart('Loss', [line], log=log, zero=zero)
  Outline(drawn.svg)
  for places in points_of(drawn) if len(values) > 1 else ():
    assert np.isfinite(places).all() and (places >= -1e-6).all()
    assert (places <= [charts.WIDTH, charts.HEIGHT]).all()


def test_what_is_not_finite_is_a_cross_and_no_point_is_lost_beside_it():
  values = np.array([1.0, np.nan, 2.0, np.nan, 3.0, 4.0, np.nan])
  drawn = charts.chart('Loss', [charts.Line('test', np.arange(7), values)])
  assert drawn.legend[0][1] == 'not finite, × not finite'
  alone = drawn.svg.count('<use ')
  assert alone == 5  # a dot each for 1 and 2, and three crosses
  assert len(points_of(drawn)) > 1


def test_a_curve_without_any_finite_value_is_a_chart_of_crosses():
  drawn = charts.chart('Loss', [charts.Line('x', np.arange(3), np.full(3, np.nan))], log=True)
  Outline(drawn.svg)
  assert drawn.svg.count('<use ') == 3


def test_thinning_keeps_ends_and_extremes():
  values = np.random.default_rng(0).normal(size=9999)
  values[[0, 4321, 7000, 9998]] = 5, 99, -99, 7
  values[5000:5100] = values[300] = np.nan
  thin = charts.thin(charts.Line('x', np.arange(9999), values))
  assert len(thin.steps) <= charts.POINTS + 8
  assert {0, 4321, 7000, 9998, 300} <= set(thin.steps.tolist())
  assert np.isnan(thin.values).sum() >= 2  # the gap is not bridged, and a NaN alone is marked


def test_a_shorter_line_says_where_it_ends_and_is_not_read_beyond():
  lines = [
    charts.Line('long', np.arange(0, 1001, 100), np.arange(11.0)),
    charts.Line('short', np.arange(0, 301, 100), np.arange(4.0)),
  ]
  drawn = charts.chart('Loss', lines)
  assert [text for _, text in drawn.legend] == ['10', '3 at step 300']
  assert 'short 3 at 300' in drawn.svg and 'long 3 at' not in drawn.svg
