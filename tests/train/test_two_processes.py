"""The milestones' small configs in two processes, as a user starts them: the numbers of one."""

import os
import subprocess
import sys

import pytest

from tests.train.test_loop import ROOT, metrics
from tests.train.test_multiprocess import free_port

BRIEF = {'train.steps': 8, 'train.log_every': 4, 'train.eval_every': 8}
# What else a run needs to be short, and to be cut in four.
CONFIGS = {
  'dbn_digits': {
    **{'task.greedy.steps': '(2, 2, 2)', 'task.greedy.initial_steps': 1},
    'task.updown.steps': '(1, 1)',
  },
  'dqn_cartpole': {'task.replay.min_size': 1_000, 'task.evaluation.episodes': 4},
  'gan_digits': {},
  'rnnsearch_numerals': {'data.eval_split': 'validation[:64]'},
  'translation_numerals': {'data.eval_split': 'validation[:64]'},
  'word2vec_python': {},
}


def train(workdir, config, count):
  """Trains in `count` processes that share 4 devices; returns the lines of metrics.jsonl."""
  changed = {**BRIEF, **CONFIGS[config]}
  command = [sys.executable, 'launch.py', 'train', f'--config={config}', f'--workdir={workdir}']
  command += [f'--config.{key}={value}' for key, value in changed.items()]
  joined = [f'--coordinator_address=127.0.0.1:{free_port()}', f'--num_processes={count}']
  flags = f'--xla_force_host_platform_device_count={4 // count}'
  processes = [
    subprocess.Popen(
      [*command, *([*joined, f'--process_id={i}'] if count > 1 else [])],
      cwd=ROOT,
      env={**os.environ, 'XLA_FLAGS': flags},
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(count)
  ]
  for process in processes:
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error[-2_000:]
  return metrics(workdir)


@pytest.mark.slow
@pytest.mark.parametrize('config', CONFIGS)
def test_two_processes_give_the_numbers_of_one(config, tmp_path):
  alone, two = (train(tmp_path / str(count), config, count) for count in (1, 2))
  assert len(alone) == len(two)
  for a, b in zip(alone, two, strict=True):
    # Sums are in another order, and sampled units and counted examples may tip over by them.
    assert a == pytest.approx(b, rel=1e-2, abs=2e-2)
