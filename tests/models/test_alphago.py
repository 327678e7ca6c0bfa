"""AlphaGo's networks: the published sizes, what they compute, and what they may be told."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from mcts.alphago import rollout_policy
from models import alphago, summary


def size_of(module, planes):
  shape = jax.eval_shape(
    lambda key: module.init(key, jnp.zeros((1, 19, 19, planes))), jax.random.key(0)
  )
  return sum(x.size for x in jax.tree.leaves(shape))


def test_the_policy_has_the_papers_layers():
  """5x5 on 48 planes, eleven of 3x3, one filter of 1x1, and a bias for each of 361 points."""
  k = 192
  convolutions = 25 * 48 * k + k + 11 * (9 * k * k + k) + k
  assert size_of(models.build('alphago_policy'), 48) == convolutions + 361
  layers = summary.layers(models.build('alphago_policy'), (19, 19, 48))
  kinds = [x.kind for x in layers]
  assert kinds.count('Conv') == 13
  assert [x.output for x in layers if x.kind == 'Conv'][-1] == (19, 19, 1)


def test_the_value_network_has_the_papers_layers():
  """49 planes, twelve convolutions, one of 1x1, 256 rectifier units, one tanh."""
  k = 192
  convolutions = 25 * 49 * k + k + 11 * (9 * k * k + k) + k + 1
  assert size_of(models.build('alphago_value'), 49) == convolutions + 361 * 256 + 256 + 257


def test_sizes_are_settings():
  k = 16
  small = models.build('alphago_policy', layers=3, filters=k)
  assert size_of(small, 48) == 25 * 48 * k + k + 9 * k * k + k + k + 361


@pytest.fixture(scope='module')
def small():
  module = models.build('alphago_policy', layers=3, filters=4)
  planes = jax.random.bernoulli(jax.random.key(1), 0.3, (2, 9, 9, 48))
  return module, nn.unbox(module.init(jax.random.key(0), planes)), planes


def test_each_point_has_its_own_bias(small):
  module, variables, planes = small
  logits = module.apply(variables, planes)
  assert (logits.shape, logits.dtype) == ((2, 81), jnp.float32)
  raised = {'params': {**variables['params'], 'bias': jnp.zeros(81).at[30].set(5.0)}}
  difference = np.asarray(module.apply(raised, planes) - logits)
  np.testing.assert_allclose(difference, np.eye(81)[[30, 30]] * 5, atol=1e-5)


def test_without_the_biases_a_shifted_board_gives_shifted_logits(small):
  module, variables, planes = small
  inside = jnp.pad(planes[:, 4:5, 4:5], ((0, 0), (4, 4), (4, 4), (0, 0)))
  before, after = (
    np.asarray(module.apply(variables, jnp.roll(inside, shift, 1))).reshape(2, 9, 9)
    for shift in (0, 1)
  )
  np.testing.assert_allclose(before[:, 3:6], after[:, 4:7], rtol=1e-5, atol=1e-5)


def test_values_are_in_minus_one_to_one_one_a_board():
  module = models.build('alphago_value', layers=3, filters=4)
  planes = jax.random.normal(jax.random.key(0), (5, 9, 9, 49))
  values, variables = module.init_with_output(jax.random.key(1), 0.1 * planes)
  assert (values.shape, values.dtype) == ((5,), jnp.float32)
  assert len(set(values.tolist())) == 5
  assert (np.abs(module.apply(nn.unbox(variables), 100 * planes)) <= 1).all()


def test_in_bfloat16_the_answer_is_nearly_the_same_and_float32(small):
  _, variables, planes = small
  half = models.build('alphago_policy', layers=3, filters=4, dtype='bfloat16')
  whole, rough = (x.apply(variables, planes) for x in (small[0], half))
  assert rough.dtype == jnp.float32
  np.testing.assert_allclose(whole, rough, atol=0.05 * np.abs(whole).max())
  assert (whole != rough).any()


def test_the_linear_policy_adds_up_weights():
  module = models.build('alphago_rollout', features=10)
  variables = {'params': {'weights': jnp.arange(10.0)}}
  found = jnp.array([[[1, 5], [2, 9]], [[0, 0], [3, 4]]])
  assert module.apply(variables, found).tolist() == [[6, 11], [0, 7]]


def test_the_linear_policy_has_a_weight_for_each_feature():
  assert alphago.PATTERNS == rollout_policy.COUNT
  assert models.build('alphago_rollout').features == rollout_policy.COUNT


@pytest.mark.parametrize(
  ('options', 'text'),
  [({'layers': 1}, 'model.layers=1: must be at least 2'), ({'filters': 0}, 'model.filters=0')],
)
def test_impossible_sizes_are_refused(options, text):
  for name in ('alphago_policy', 'alphago_value'):
    with pytest.raises(ValueError, match=text):
      models.build(name, **options)
