"""Optimisers and schedules against the papers' formulas, worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.config import build, complete
from train.errors import UserError
from train.optim import OPTIMIZERS, make_optimizer, odd_settings

PARAMS = {
  'dense': {'kernel': np.array([[1.0, -2.0], [3.0, 0.5]]), 'bias': np.array([0.1, -0.1])},
  'column': {'bias': np.array([[0.3], [-0.3]])},
}
GRADS = {
  'dense': {'kernel': np.array([[0.1, 0.2], [-0.3, 0.4]]), 'bias': np.array([1.0, -1.0])},
  'column': {'bias': np.array([[0.5], [0.5]])},
}


def walk(name, gradients, params, steps=100, **options):
  """Parameters after a step by each of the gradients."""
  tx, _ = make_optimizer(name, steps=steps, **options)
  params = jax.tree.map(jnp.float32, params)
  state = tx.init(params)
  for gradient in gradients:
    updates, state = tx.update(jax.tree.map(jnp.float32, gradient), state, params)
    params = optax.apply_updates(params, updates)
  return params


def rates(steps, at, **options):
  schedule = OPTIMIZERS['sgd'](**options).make_schedule(steps)
  return [float(schedule(step)) for step in at]


def test_sgd_adds_weight_decay_to_the_gradient_before_momentum():
  ours = walk('sgd', [3.0, 1.0], 2.0, learning_rate=0.1, weight_decay=0.5, decay='all')
  first = 2.0 - 0.1 * (3.0 + 0.5 * 2.0)
  velocity = 0.9 * 4.0 + (1.0 + 0.5 * first)
  np.testing.assert_allclose(ours, first - 0.1 * velocity, rtol=1e-6)


def test_nesterov_looks_ahead_by_the_momentum():
  ours = walk('sgd', [3.0, 1.0], 2.0, learning_rate=0.1, nesterov=True)
  first = 2.0 - 0.1 * (0.9 * 3.0 + 3.0)
  velocity = 0.9 * 3.0 + 1.0
  np.testing.assert_allclose(ours, first - 0.1 * (0.9 * velocity + 1.0), rtol=1e-6)


def test_alexnet_update_rule():
  """Krizhevsky 2012, section 5: v <- 0.9 v - 0.0005 rate w - rate g, w <- w + v, rate / 10 at 1."""
  options = dict(learning_rate=0.01, schedule='piecewise', milestones=(1,), rate_in_momentum=True)
  ours = walk('sgd', [3.0, 1.0], 2.0, weight_decay=0.0005, decay='all', **options)
  w, v = 2.0, 0.0
  for rate, gradient in ((0.01, 3.0), (0.001, 1.0)):
    v = 0.9 * v - 0.0005 * rate * w - rate * gradient
    w += v
  np.testing.assert_allclose(ours, w, rtol=1e-6)


def test_kernels_alone_decay_unless_all_shall():
  zeros = jax.tree.map(np.zeros_like, GRADS)
  options = dict(learning_rate=0.1, momentum=0.0, weight_decay=1.0)
  ours = walk('sgd', [zeros], PARAMS, **options)
  np.testing.assert_allclose(ours['dense']['kernel'], 0.9 * PARAMS['dense']['kernel'], rtol=1e-6)
  np.testing.assert_array_equal(ours['dense']['bias'], np.float32(PARAMS['dense']['bias']))
  np.testing.assert_array_equal(ours['column']['bias'], np.float32(PARAMS['column']['bias']))
  every = walk('sgd', [zeros], PARAMS, decay='all', **options)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 0.9 * b, rtol=1e-6), every, PARAMS)


def test_clipping_bounds_the_global_norm_and_leaves_the_decay_alone():
  options = dict(learning_rate=1.0, momentum=0.0, clip_norm=0.1, weight_decay=0.01)
  ours = walk('sgd', [GRADS], PARAMS, **options)
  norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(GRADS)))
  w, g = PARAMS['dense']['kernel'], GRADS['dense']['kernel']
  np.testing.assert_allclose(ours['dense']['kernel'], w - 0.1 * g / norm - 0.01 * w, rtol=1e-5)
  small = walk('sgd', [GRADS], PARAMS, learning_rate=1.0, momentum=0.0, clip_norm=100.0)
  np.testing.assert_allclose(small['dense']['kernel'], w - g, rtol=1e-5)


def adam_step(g, eps):
  """The first step's direction: both moments equal the gradient's once their bias is taken out."""
  return g / (np.abs(g) + eps)


def test_adam_and_adamw_differ_by_where_the_decay_goes():
  w, g = PARAMS['dense']['kernel'], GRADS['dense']['kernel']
  options = dict(learning_rate=0.01, weight_decay=0.1)
  coupled = walk('adam', [GRADS], PARAMS, **options)['dense']['kernel']
  np.testing.assert_allclose(coupled, w - 0.01 * adam_step(g + 0.1 * w, 1e-8), rtol=1e-5)
  decoupled = walk('adamw', [GRADS], PARAMS, **options)['dense']['kernel']
  np.testing.assert_allclose(decoupled, w - 0.01 * (adam_step(g, 1e-8) + 0.1 * w), rtol=1e-5)


def test_lamb_steps_are_as_long_as_the_weights_times_the_rate():
  w, g = PARAMS['dense']['kernel'], GRADS['dense']['kernel']
  ours = walk('lamb', [GRADS], PARAMS, learning_rate=0.01, weight_decay=0.1)['dense']['kernel']
  update = adam_step(g, 1e-6) + 0.1 * w
  expected = w - 0.01 * update * np.linalg.norm(w) / np.linalg.norm(update)
  np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_lars_scales_kernels_and_leaves_biases():
  w, g = PARAMS['dense']['kernel'], GRADS['dense']['kernel']
  options = dict(learning_rate=2.0, weight_decay=0.1, trust=0.01)
  ours = walk('lars', [GRADS], PARAMS, **options)['dense']
  update = g + 0.1 * w
  local = 0.01 * np.linalg.norm(w) / np.linalg.norm(update)
  np.testing.assert_allclose(ours['kernel'], w - 2.0 * local * update, rtol=1e-5)
  np.testing.assert_allclose(
    ours['bias'], PARAMS['dense']['bias'] - 2.0 * GRADS['dense']['bias'], rtol=1e-5
  )


def test_resnet_schedule():
  """He 2015, section 4.2: 0.1, divided by 10 at 32k and 48k of 64k iterations; ResNet-110 begins
  with 0.01 for 400.
  """
  at = [0, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_999]
  options = dict(learning_rate=0.1, schedule='piecewise', milestones=(32_000, 48_000))
  np.testing.assert_allclose(
    rates(64_000, at, **options), [0.1] * 4 + [0.01] * 2 + [0.001] * 2, rtol=1e-6
  )
  ours = rates(64_000, at, **options, warmup_steps=400, warmup_learning_rate=0.01)
  np.testing.assert_allclose(ours, [0.01] * 2 + [0.1] * 2 + [0.01] * 2 + [0.001] * 2, rtol=1e-6)


def test_piecewise_may_fall_by_another_factor_each_time():
  """LeCun 1998, section III.A: 5e-4 for two epochs, then 2e-4, 1e-4, 5e-5 and 1e-5."""
  ours = rates(
    20, [0, 2, 5, 8, 12, 19],
    learning_rate=5e-4, schedule='piecewise', milestones=(2, 5, 8, 12), factor=(0.4, 0.5, 0.5, 0.2),
  )  # fmt: skip
  np.testing.assert_allclose(ours, [5e-4, 2e-4, 1e-4, 5e-5, 1e-5, 1e-5], rtol=1e-5)


def test_cosine_and_linear_start_after_the_warm_up():
  options = dict(learning_rate=0.4, warmup_steps=4, final_learning_rate=0.2)
  at = [0, 1, 3, 4, 54, 104, 200]
  ours = rates(104, at, schedule='cosine', **options)
  np.testing.assert_allclose(ours, [0.1, 0.2, 0.4, 0.4, 0.3, 0.2, 0.2], rtol=1e-5)
  ours = rates(104, [4, 29, 104], schedule='linear', **options)
  np.testing.assert_allclose(ours, [0.4, 0.35, 0.2], rtol=1e-5)


def test_rsqrt_is_the_transformer_schedule():
  """Vaswani 2017, equation 3, d_model = 512, warm-up 4000; its steps count from 1."""
  peak = 512**-0.5 * 4000**-0.5
  at = [1, 100, 4000, 4001, 100_000]
  ours = rates(
    100_000, [n - 1 for n in at], learning_rate=peak, schedule='rsqrt', warmup_steps=4000
  )
  theirs = [512**-0.5 * min(n**-0.5, n * 4000**-1.5) for n in at]
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize('schedule', ['constant', 'linear', 'cosine', 'piecewise', 'rsqrt'])
def test_schedules_trace(schedule):
  rate = OPTIMIZERS['sgd'](learning_rate=0.1, schedule=schedule, milestones=(3,)).make_schedule(9)
  traced = jax.jit(jax.vmap(rate))(jnp.arange(9))
  assert (traced.dtype, traced.shape) == (jnp.float32, (9,))
  np.testing.assert_allclose(traced, [rate(step) for step in range(9)], rtol=1e-6)


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_a_config_section_builds(name):
  section = complete({'name': name, 'learning_rate': 0.1}, OPTIMIZERS, 'optimizer')
  tx, schedule = make_optimizer(**section, steps=10)
  assert tx.init(PARAMS) is not None
  assert schedule(0) == np.float32(0.1)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(schedule='cosin'), r"schedule='cosin': .*did you mean cosine\?.*choose from constant, "),
    (dict(decay='biases'), r"decay='biases': .*choose from kernels, all"),
    (dict(learning_rate=-1.0), 'learning_rate=-1.0: must be at least 0'),
    (dict(learning_rate=1e30), r'learning_rate=1e\+30: must be .* to 10000'),
    (dict(learning_rate=1e-50), 'learning_rate=1e-50: must be .* from 1e-37'),
    (dict(warmup_learning_rate=-1.0), 'warmup_learning_rate=-1.0: must be at least 0'),
    (dict(weight_decay=1e30), r'weight_decay=1e\+30: must be at least 0'),
    (dict(momentum=1.0), 'momentum=1.0: must be at least 0, below 1'),
    (dict(name='adam', b2=1.0), 'b2=1.0: must be at least 0, below 1'),
    (dict(name='adamw', eps=0.0), 'eps=0.0: must be at least 1e-37'),
    (dict(factor=-0.1), 'factor=-0.1: must be above 0'),
    (dict(milestones=(3, 3)), r'milestones=\(3, 3\): must be rising steps'),
    (dict(clip_norm=0.0), 'clip_norm=0.0: must be above 0, or none'),
    (dict(milestones=(5, 3)), r'milestones=\(5, 3\): must be rising steps'),
    (dict(milestones=(3, 5), factor=(0.1,)), r'factor=\(0.1,\): must be one number, or 2'),
  ],
)
def test_impossible_values(options, message):
  with pytest.raises(UserError, match=rf'^optimizer\.{message}'):
    build({'name': 'sgd', 'learning_rate': 0.1, **options}, OPTIMIZERS, 'optimizer')


@pytest.mark.parametrize(
  ('options', 'text'),
  [
    (dict(learning_rate=0.0), 'learning_rate=0'),
    (dict(warmup_steps=10), 'warmup_steps=10 of train.steps=10'),
    (dict(warmup_learning_rate=0.01), 'warmup_learning_rate=0.01'),
    (dict(schedule='piecewise'), 'milestones=()'),
    (dict(schedule='piecewise', milestones=(5, 10)), 'milestones=(5, 10) of train.steps=10'),
    (dict(milestones=(5,)), 'milestones=(5,): act in schedule=piecewise'),
    (dict(final_learning_rate=0.01), 'final_learning_rate=0.01: acts in'),
    (dict(schedule='linear', final_learning_rate=0.2), 'is above learning_rate=0.1'),
    (dict(weight_decay=10.0), 'weight_decay=10.0 with learning_rate=0.1'),
    (dict(decay='all'), 'decay=all'),
  ],
)
def test_settings_without_effect_are_told(options, text):
  [line] = odd_settings('sgd', **{'learning_rate': 0.1, **options}, steps=10)
  assert line.startswith('optimizer.') and text in line


def test_usual_settings_are_not_remarked_upon():
  usual = dict(schedule='cosine', warmup_steps=2, final_learning_rate=0.01, weight_decay=0.1)
  assert odd_settings('adamw', learning_rate=0.1, **usual, steps=10) == []
  falls = dict(schedule='piecewise', milestones=(5,), weight_decay=1e-4, decay='all')
  assert odd_settings('sgd', learning_rate=0.1, **falls, steps=10) == []


def test_adadelta_divides_the_root_of_past_updates_by_that_of_past_gradients():
  ours = walk('adadelta', [3.0, 1.0], 2.0, learning_rate=1.0, rho=0.9, eps=1e-2)
  squared, updates, value = 0.0, 0.0, 2.0
  for gradient in (3.0, 1.0):
    squared = 0.9 * squared + 0.1 * gradient**2
    update = np.sqrt((updates + 1e-2) / (squared + 1e-2)) * gradient
    updates = 0.9 * updates + 0.1 * update**2
    value -= update
  np.testing.assert_allclose(ours, value, rtol=1e-6)


def test_rmsprop_is_natures():
  """The rule of Mnih et al. 2015: g / sqrt(mean g² - (mean g)² + 0.01), by hand in NumPy."""
  tx, _ = make_optimizer('rmsprop', steps=3, learning_rate=0.1)
  params, state = {'w': jnp.zeros(2)}, tx.init({'w': jnp.zeros(2)})
  mean, square = np.zeros(2), np.zeros(2)
  for gradient in np.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0]]):
    updates, state = tx.update({'w': jnp.asarray(gradient, jnp.float32)}, state, params)
    mean, square = 0.95 * mean + 0.05 * gradient, 0.95 * square + 0.05 * gradient**2
    expected = -0.1 * gradient / np.sqrt(square - mean**2 + 0.01)
    np.testing.assert_allclose(updates['w'], expected, rtol=1e-4)
