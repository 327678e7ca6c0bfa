"""Two optimisers in one: each updates its own network, by a section of its own."""

import jax
import numpy as np
import pytest

from train import optim
from train.config import complete, flat
from train.errors import UserError
from train.optim import make_optimizer, odd_settings

PARAMS = {
  'generator': {'w': np.ones(2, np.float32)},
  'discriminator': {'w': np.ones(2, np.float32)},
}
GRADS = jax.tree.map(np.ones_like, PARAMS)
ONE = np.ones(1, np.float32)
SGD = {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.0}


def completed(**options):
  section = {'name': 'adversarial', 'generator': SGD, 'discriminator': SGD, **options}
  return complete(section, optim.SECTIONS, 'optimizer')


def updates(steps, **options):
  """Returns the first updates of generator and discriminator, `[steps, 2]`."""
  tx, _ = make_optimizer(**completed(**options), steps=steps)
  state, found = tx.init(PARAMS), []
  for _ in range(steps):
    update, state = tx.update(GRADS, state, PARAMS)
    found.append([float(update[name]['w'][0]) for name in ('generator', 'discriminator')])
  return np.array(found)


def test_each_network_has_its_own_rule_and_rate():
  adam = {'name': 'adam', 'learning_rate': 0.003}
  found = updates(3, discriminator=adam)
  np.testing.assert_allclose(found, [[-0.1, -0.003]] * 3, rtol=1e-4)


def test_clipping_is_of_each_network_alone():
  found = updates(1, discriminator={**SGD, 'clip_norm': 0.5})
  np.testing.assert_allclose(found[0], [-0.1, -0.05 / 2**0.5], rtol=1e-5)


def test_the_generator_may_wait_for_the_discriminator():
  found = updates(6, discriminator_steps=3, generator={**SGD, 'momentum': 0.5})
  np.testing.assert_allclose(found[:, 0], [0, 0, -0.1, 0, 0, -0.15], rtol=1e-5)
  np.testing.assert_allclose(found[:, 1], -0.1, rtol=1e-5)


def test_the_schedule_that_is_reported_is_the_generators():
  section = completed(generator={**SGD, 'learning_rate': 0.4})
  assert make_optimizer(**section, steps=1)[1](0) == np.float32(0.4)


def test_defaults_and_command_line_reach_the_sections_within():
  keys = flat(completed(discriminator={'name': 'adam', 'learning_rate': 1}))
  assert keys['discriminator.b1'] == 0.9 and keys['generator.nesterov'] is False
  assert keys['discriminator.learning_rate'] == 1.0
  with pytest.raises(UserError, match=r'discriminator\.learning_rate: needs a value'):
    completed(discriminator='adam')


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'generator': {**SGD, 'name': 'adma'}}, r"optimizer.generator.name='adma': .*mean adam"),
    ({'generator': {**SGD, 'momentun': 0}}, r'optimizer.generator.momentun=0: unknown key .*momen'),
    ({'generator': {'name': 'sgd'}}, 'optimizer.generator.learning_rate: needs a value'),
    ({'generator': {**SGD, 'learning_rate': 'x'}}, "generator.learning_rate='x': must be a float"),
    ({'discriminator': 3}, 'optimizer.discriminator=3: must be a section'),
    ({'discriminator_steps': 0}, 'optimizer.discriminator_steps=0: must be at least 1'),
  ],
)
def test_a_mistake_within_is_named_with_its_place(options, words):
  with pytest.raises(UserError, match=words):
    make_optimizer(**completed(**options), steps=1)


def test_a_model_of_one_network_is_refused():
  tx, _ = make_optimizer(**completed(), steps=1)
  with pytest.raises(UserError, match='the model has no discriminator and no generator; it is for'):
    tx.init({'dense': PARAMS['generator']})


def test_odd_settings_are_named_with_their_network():
  section = completed(generator={**SGD, 'milestones': (3,)})
  [line] = odd_settings(**section, steps=10)
  assert line.startswith('optimizer.generator.milestones=(3,): act in schedule=piecewise alone')


# -------- what the protocol of 2014 needs of SGD --------


def test_the_exponential_schedule_multiplies_at_each_step_down_to_the_least():
  options = {'schedule': 'exponential', 'factor': 0.5, 'final_learning_rate': 0.02}
  rate = make_optimizer('sgd', learning_rate=0.1, steps=10, **options)[1]
  assert [float(rate(i)) for i in (0, 1, 2, 3)] == pytest.approx([0.1, 0.05, 0.025, 0.02])


def test_momentum_rises_linearly():
  """v <- m v + g: 1, m1 + 1, ... of gradients that are 1."""
  options = {'momentum': 0.5, 'momentum_steps': 2, 'final_momentum': 0.7}
  tx, _ = make_optimizer('sgd', learning_rate=1.0, steps=4, **options)
  state, v, found = tx.init(ONE), 0.0, []
  for factor in (0.5, 0.6, 0.7, 0.7):
    update, state = tx.update(ONE, state)
    v = factor * v + 1
    found.append((-float(update[0]), v))
  for ours, expected in found:
    assert ours == pytest.approx(expected)
