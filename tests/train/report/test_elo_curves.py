"""Elo of runs that play matches, as a report shows it."""

import pathlib

import numpy as np
import pytest

from train.report import page as page_lib
from train.report.elo_curves import OWN, with_elo
from train.report.folder import Folder

STRONGER = 10 / 11  # the share of points that 400 Elo bring


def run(task=None, **curves):
  found = {name.replace('__', '/'): (np.array(x), np.array(y)) for name, (x, y) in curves.items()}
  config = {'task': {'match_games': 100} if task is None else task}
  return Folder('runs/go', config, [], found, {}, {})


def test_an_opponent_that_stays_has_a_curve_of_its_own():
  steps = [10, 20]
  found = with_elo(run(random__share=(steps, [0.5, STRONGER]), train__loss=(steps, [2, 1]))).curves
  assert found['random/elo'][0].tolist() == steps
  assert found['random/elo'][1] == pytest.approx([0, 400])
  assert 'train/loss' in found and 'random/share' in found


def test_what_a_run_gains_over_its_past_adds_up():
  """At 10 and 20 the past is of step 0, at 30 and 40 of step 20: there it had 800."""
  steps = [10, 20, 30, 40]
  shares, pasts = [STRONGER, 100 / 101, STRONGER, 0.5], [0, 0, 20, 20]
  known = {'past__share': (steps, shares), 'past__step': (steps, pasts)}
  found = with_elo(run(**known, past__elo=(steps, [1, 2, 3, 4]))).curves
  assert found[f'{OWN}/elo'][1] == pytest.approx([400, 800, 1200, 800])
  assert set(found) == {f'{OWN}/elo', 'past/share'}


def test_matches_of_the_task_selfplay_have_as_many_games_as_its_evaluation():
  task = {'name': 'selfplay', 'evaluation': {'num_games': 99}}
  found = with_elo(run(task, random__share=([1], [1.0]))).curves['random/elo'][1]
  assert found == pytest.approx([400 * np.log10(199)])  # 100 games, two a pair


def test_a_share_that_is_not_finite_has_no_elo_and_steps_may_differ():
  known = {'past__share': ([1, 2, 4], [0.5, np.nan, 0.5]), 'past__step': ([2, 4, 5], [0, 0, 0])}
  steps, values = with_elo(run(**known)).curves[f'{OWN}/elo']
  assert steps.tolist() == [2, 4] and np.isnan(values[0]) and values[1] == 0


def test_all_points_count_as_half_a_game_less():
  found = with_elo(run(random__share=([1, 2], [1.0, 0.0]))).curves['random/elo'][1]
  assert found == pytest.approx([400 * np.log10(199), -400 * np.log10(199)])


def test_a_run_without_matches_stays_as_it_is():
  for other in (run({}, test__share=([1], [0.5])), run(test__loss=([1], [0.5]))):
    assert with_elo(other) is other


def test_a_page_shows_elo_first(tmp_path):
  (tmp_path / 'config.json').write_text('{"task": {"match_games": 100, "game": "go(size=5)"}}')
  lines = [f'{{"step": {i}, "train/loss": 1, "random/share": 0.{i}}}' for i in (5, 6)]
  (tmp_path / 'metrics.jsonl').write_text('\n'.join(lines))
  page = pathlib.Path(page_lib.write([str(tmp_path)])).read_text()
  assert page.count('<svg') == 3
  assert page.index('>Elo<') < page.index('>Share<') < page.index('>Loss<')
