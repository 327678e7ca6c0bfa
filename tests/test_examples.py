"""The scripts in examples/, each run as its user runs it: they are what people copy."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

ROOT = pathlib.Path(__file__).parents[1]
SCRIPTS = sorted(path for path in (ROOT / 'examples').glob('*.py') if path.name != '__init__.py')
MAX_LINES = 40


def run(*arguments):
  """Returns what a command of Python prints, run from the root on one CPU device."""
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
  done = subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_examples_are_short_and_listed(path):
  assert len(path.read_text().splitlines()) < MAX_LINES
  assert path.name in (ROOT / 'examples' / '__init__.py').read_text()
  assert f'test_{path.stem}_' in pathlib.Path(__file__).read_text()


def test_search_plays_legal_moves_in_every_game():
  printed = run('-m', 'examples.search')
  moves = np.array([ast.literal_eval(line) for line in re.findall(r'columns (\[.*?\])', printed)])
  board = ''.join(printed.splitlines()[-6:])
  assert moves.shape == (12, 4)
  assert all(np.bincount(game).max() <= 6 for game in moves.T)  # a column has six cells
  assert board.count('X') == board.count('O') == 6


def test_sampler_draws_from_the_mixture():
  printed = run('-m', 'examples.sampler')
  pairs = np.array(re.findall(r'(-?\d\.\d+), exactly (-?\d\.\d+)', printed), float)
  assert pairs.shape == (2, 2)
  np.testing.assert_allclose(pairs[:, 0], pairs[:, 1], atol=0.02)  # three standard errors


@pytest.mark.long
def test_gpt_has_the_loss_of_a_guess_and_goes_on_from_its_prompts():
  printed = run('-m', 'examples.gpt')
  loss = float(re.search(r'loss (\S+)', printed)[1])
  texts = [ast.literal_eval(line) for line in printed.splitlines()[-2:]]
  assert abs(loss - np.log(256)) < 0.1
  for prompt, text in zip([b'The sea', b'A'], texts, strict=True):
    assert text.startswith(prompt) and len(text) == len(prompt) + 16


@pytest.mark.long
def test_run_classifies_files(tmp_path):
  options = ['--config=lenet_digits', f'--workdir={tmp_path / "run"}', '--config.train.steps=100']
  run('launch.py', 'train', *options)
  digits = load_digits()
  for i in range(10):
    pixels = np.round(digits.images[i] * (255 / 16)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / f'{i}.png')
  printed = run('-m', 'examples.run', tmp_path / 'run', *(tmp_path / f'{i}.png' for i in range(10)))
  named = re.findall(r'(\d)\.png: (\d) \(\d+\.\d%\)', printed)
  right = sum(int(digits.target[int(i)]) == int(label) for i, label in named)
  assert len(named) == 10 and right >= 9  # with 0.03 of test error, two in ten are rarely wrong
