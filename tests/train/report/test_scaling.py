"""The scaling law: its constants from losses that obey it, and its place in the report."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from models.gpt import GPT, num_params
from train.report import page as page_lib
from train.report import scaling
from train.report.scaling import Law, Point

CHINCHILLA = Law(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)  # the paper's equation 10
SMALL = Law(E=0.8, A=30.0, alpha=0.35, B=2000.0, beta=0.55)


def losses(law, sizes, budgets, noise=0.0):
  draw = np.random.default_rng(0).normal
  return [Point(n, d, float(law(n, d) * math.exp(noise * draw()))) for n in sizes for d in budgets]


def close(found, law, rtol):
  np.testing.assert_allclose(dataclasses.astuple(found), dataclasses.astuple(law), rtol=rtol)


@pytest.mark.long
@pytest.mark.parametrize(
  ('law', 'sizes', 'budgets'),
  [
    (CHINCHILLA, (1e8, 4e8, 1.6e9, 1e10), (2e9, 1e10, 1e11)),
    (SMALL, (1e5, 3e5, 8e5), (2.5e5, 5e5, 1e6)),
  ],
)
def test_the_constants_come_back_from_losses_that_obey_the_law(law, sizes, budgets):
  close(scaling.fit(losses(law, sizes, budgets)), law, 1e-4)


@pytest.mark.long
def test_one_run_that_went_wrong_does_not_move_the_law():
  points = losses(CHINCHILLA, (1e6, 1e7, 1e8, 1e9), (1e8, 1e9, 1e10, 1e11))
  points[5] = dataclasses.replace(points[5], loss=1.5 * points[5].loss)
  close(scaling.fit(points), CHINCHILLA, 0.02)


def test_noise_leaves_the_law_within_the_spread_that_it_names():
  points = losses(CHINCHILLA, (1e6, 1e7, 1e8, 1e9), (1e8, 1e9, 1e10, 1e11), noise=0.003)
  found = scaling.fit(points)
  spread = scaling.spread(points, found)
  for name in ('E', 'alpha', 'beta'):
    error = getattr(spread, name)
    assert 0 < error < 0.3 * getattr(CHINCHILLA, name)
    assert abs(getattr(found, name) - getattr(CHINCHILLA, name)) < 4 * error


def test_the_best_size_grows_with_compute_as_in_the_papers_equation_4():
  assert CHINCHILLA.exponent == pytest.approx(0.28 / 0.62)
  compute = np.array([1e20, 1e22])
  sizes = np.geomspace(1e7, 1e12, 100_001)
  best = [sizes[np.argmin(CHINCHILLA(sizes, c / 6 / sizes))] for c in compute]
  assert math.log(best[1] / best[0]) / math.log(100) == pytest.approx(0.28 / 0.62, abs=1e-3)


# -------- in the report --------


def run_folder(path, width, steps, loss=None, done=1.0, dataset='python'):
  """A run of a GPT of this width whose last loss is SMALL's, or `loss`."""
  path.mkdir()
  model = {'name': 'gpt', 'layers': 2, 'heads': 2, 'width': width}
  size = num_params(GPT(vocab_size=5, layers=2, heads=2, width=width), embeddings=False)
  config = {
    'model': model,
    'data': {'name': 'text', 'dataset': dataset, 'batch_size': 4, 'block_size': 64},
    'train': {'steps': steps},
    'paper': {'metric': 'val/loss'},
  }
  (path / 'config.json').write_text(json.dumps(config))
  loss = loss or SMALL(size, steps * 256)
  last = {'step': int(done * steps), 'val/loss': loss}
  (path / 'metrics.jsonl').write_text(json.dumps({'step': 1, 'val/loss': 9}) + '\n')
  with open(path / 'metrics.jsonl', 'a') as file:
    file.write(json.dumps(last) + '\n')
  return str(path)


def sweep(root, widths, budgets):
  return [run_folder(root / f'{w}x{s}', w, s) for w in widths for s in budgets]


def test_a_sweeps_report_draws_the_law_and_names_its_constants(tmp_path):
  folders = sweep(tmp_path, (32, 64, 128), (1000, 3000, 9000))
  page = Path(page_lib.write(folders)).read_text()
  assert 'Scaling law' in page
  assert page.count('Loss by N') == 2  # the caption and what is read aloud
  for value in ('0.8', '30', '0.35', '2000', '0.55'):
    assert f'<td class="number">{value}</td><td class="number">± ' in page
  assert page.count('stroke-dasharray') >= 3  # the law, for each budget
  assert '<sup>0.61</sup>' in page  # beta / (alpha + beta)
  assert '768k tokens' in page  # 3,000 steps of 4 x 64


def test_too_few_runs_for_a_fit_are_drawn_and_counted(tmp_path):
  page = Path(page_lib.write(sweep(tmp_path, (32, 64), (1000, 3000)))).read_text()
  seen = ' '.join(page.split())
  assert 'Loss by N' in page and 'stroke-dasharray: 5' not in page
  assert 'need 6 runs of 3 sizes and 3 budgets of tokens, and here are 4 of 2 and 2' in seen


def test_a_run_that_is_not_over_does_not_count(tmp_path):
  folders = sweep(tmp_path, (32, 64, 128), (1000, 3000))
  folders.append(run_folder(tmp_path / 'running', 256, 9000, loss=1.0, done=0.5))
  page = Path(page_lib.write(folders)).read_text()
  assert 'here are 6 of 3 and 2' in page and '1 more run' in page


def test_runs_on_different_texts_have_no_law(tmp_path):
  folders = sweep(tmp_path, (32, 64, 128), (1000, 3000, 9000))
  folders.append(run_folder(tmp_path / 'other', 256, 9000, dataset='tiny_shakespeare'))
  assert 'Scaling law' not in Path(page_lib.write(folders)).read_text()
