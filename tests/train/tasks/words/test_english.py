"""Word2Vec of 24 MB of English, as a user trains it: a minute of a core."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[4]

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif('GPT2_BPE_DIR' not in os.environ, reason='GPT2_BPE_DIR is not set'),
]


def launch(verb, workdir, *arguments):
  command = [sys.executable, 'launch.py', verb, f'--workdir={workdir}', *arguments]
  # On one device, not on as many as the tests pretend to have.
  alone = {**os.environ, 'XLA_FLAGS': ''}
  done = subprocess.run(command, cwd=ROOT, env=alone, check=True, capture_output=True, text=True)
  return done.stdout


def test_king_and_woman_without_man_is_queen(tmp_path):
  texts = pathlib.Path(os.environ['GPT2_BPE_DIR']).parent
  questions = f'--config.task.analogies={texts / "questions-words.txt"}'
  english = f'--config.data.dataset={texts / "english.txt.gz"}'
  launch('train', tmp_path, '--config=word2vec_cbow', english, questions)
  launch('eval', tmp_path)
  assert json.loads((tmp_path / 'eval.json').read_text())['metrics']['analogies/accuracy'] > 0.27
  shown = launch('sample', tmp_path, '--word=king', '--word=woman', '--minus=man')
  assert shown.splitlines()[1].split()[-1] == 'queen'
