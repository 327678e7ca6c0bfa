"""A run's weights without its task: the same bits, by the shapes that the checkpoint records."""

import jax
import numpy as np
import pytest

from train import config as config_lib
from train import run, verbs
from train.errors import UserError


@pytest.fixture(scope='module')
def workdir(tmp_path_factory, one_device):
  folder = str(tmp_path_factory.mktemp('run'))
  config = config_lib.load('configs/lenet_digits.py')
  config['train'] |= dict(steps=4, log_every=2, eval_every=2, ema_decay=0.5)
  verbs.train(verbs.complete_config(config), folder)
  return folder


@pytest.mark.parametrize('step', ['latest', 2])
def test_they_are_those_of_the_whole_run(workdir, step):
  found, whole = run.load_weights(workdir, step), verbs.load_run(workdir, step)
  assert (found.step, found.config) == (whole.step, run.read_config(workdir))
  jax.tree.map(np.testing.assert_array_equal, found.variables, jax.device_get(whole.variables))


def test_what_is_not_there_is_said(workdir, tmp_path):
  with pytest.raises(UserError, match=r'step 3 is not in .*choose from best, 2, 4'):
    run.load_weights(workdir, 3)
  with pytest.raises(UserError, match=r'no config.json there'):
    run.load_weights(str(tmp_path))


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_weights_that_are_not_finite_answer_nothing(value):
  variables = {
    'params': {'full': {'kernel': np.ones((2, 2), np.float32)}},
    'steps': np.ones(2, int),
  }
  run.check_finite(variables, 'runs/x, step 3')
  variables['params']['full']['kernel'][1, 0] = value
  with pytest.raises(UserError, match=r'runs/x, step 3: .* not finite: params/full/kernel'):
    run.check_finite(variables, 'runs/x, step 3')
