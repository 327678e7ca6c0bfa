"""The mean of the weights of several checkpoints."""

import jax.numpy as jnp
import numpy as np
import pytest

from train.errors import UserError
from train.run import average_of


class Kept:
  """Checkpoints of the steps 1, 2, 4 and 8, whose one weight is the step."""

  def steps(self):
    return [1, 2, 4, 8]

  def restore(self, model, step):
    assert model['params']['w'].shape == (2,)
    return step, model_of(step), None, {}


def model_of(step, ema=()):
  return {'params': {'w': jnp.full(2, float(step))}, 'extra': {}, 'ema': ema}


@pytest.mark.parametrize(
  'step, count, mean', [(8, 3, 14 / 3), (4, 3, 7 / 3), (8, 1, 8), (2, 2, 1.5)]
)
def test_it_is_of_the_step_and_those_before_it(step, count, mean):
  found = average_of(Kept(), step, count, model_of(step))
  np.testing.assert_allclose(found['params']['w'], [mean, mean], rtol=1e-6)


def test_too_few_checkpoints_and_a_run_with_an_average_of_its_own_are_refused():
  with pytest.raises(UserError, match=r'^--average=4: only 3 checkpoints are there up to step 4'):
    average_of(Kept(), 4, 4, model_of(4))
  with pytest.raises(UserError, match=r'^--average=2: the run keeps an average of its weights'):
    average_of(Kept(), 8, 2, model_of(8, ema={'w': jnp.zeros(2)}))
