"""The shared layers against NumPy loops and against each other on eight devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models import layers, ops


def normal(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def start(module, *args, seed=0, **kwargs):
  """Initial variables without boxes."""
  return nn.unbox(jax.jit(lambda key: module.init(key, *args, **kwargs))(jax.random.key(seed)))


def make_mesh(data, fsdp, tensor):
  axes = (AxisType.Auto,) * 3
  return jax.make_mesh((data, fsdp, tensor), ('data', 'fsdp', 'tensor'), axis_types=axes)


# -------- products --------


def numpy_conv(x, kernel, strides, pads, groups):
  """Each output is a sum over its window: five nested loops and no cleverness."""
  x = np.pad(x, ((0, 0), *pads, (0, 0)))
  (h, w, inputs, features), each = kernel.shape, kernel.shape[-1] // groups
  rows = (x.shape[1] - h) // strides[0] + 1
  columns = (x.shape[2] - w) // strides[1] + 1
  y = np.zeros((x.shape[0], rows, columns, features))
  for b, i, j, f in np.ndindex(y.shape):
    top, left, first = i * strides[0], j * strides[1], f // each * inputs
    window = x[b, top : top + h, left : left + w, first : first + inputs]
    y[b, i, j, f] = (window * kernel[..., f]).sum()
  return y


@settings(max_examples=10)
@given(
  size=st.tuples(st.integers(5, 8), st.integers(5, 8)),
  window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
  strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
  pad=st.tuples(st.integers(0, 2), st.integers(0, 2)),
  groups=st.sampled_from([1, 2]),
)
def test_conv_is_a_sum_over_windows(size, window, strides, pad, groups):
  x = normal(2, *size, 4)
  kernel, bias = normal(*window, 4 // groups, 6, seed=1), normal(6, seed=2)
  conv = layers.Conv(6, window, strides, (pad, pad), groups)
  y = jax.jit(conv.apply)({'params': {'kernel': kernel, 'bias': bias}}, x)
  expected = numpy_conv(x, kernel, strides, (pad, pad), groups) + bias
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_parameters_carry_logical_axes_and_apply_takes_them_bare():
  module = nn.Sequential([layers.Conv(4, (3, 3)), layers.Dense(5)])
  boxed = module.init(jax.random.key(0), normal(1, 6, 6, 2))['params']
  assert boxed['layers_0']['kernel'].names == (None, None, 'channels_in', 'channels_out')
  assert boxed['layers_0']['bias'].names == ('channels_out',)
  assert boxed['layers_1']['kernel'].names == ('features_in', 'features_out')
  x = normal(1, 6, 6, 2)
  y = module.apply({'params': boxed}, x)
  np.testing.assert_array_equal(module.apply({'params': nn.unbox(boxed)}, x), y)


def test_bfloat16_computes_in_it_with_float32_parameters():
  x = normal(2, 6, 6, 3)
  module = layers.Conv(4, (3, 3), dtype='bfloat16')
  variables = start(module, x)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  y = module.apply(variables, x)
  assert y.dtype == jnp.bfloat16
  exact = layers.Conv(4, (3, 3)).apply(variables, x)
  np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.05)


def test_he_normal_keeps_the_variance_of_gradients():
  kernel = layers.he_normal(jax.random.key(0), (3, 3, 40, 80))
  np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (3 * 3 * 80)), rtol=0.02)


def test_a_local_connection_with_equal_filters_everywhere_is_a_convolution():
  x = normal(2, 5, 6, 3)
  kernel = normal(3, 2, 3, 4, seed=1)
  everywhere = np.broadcast_to(kernel.reshape(-1, 4), (5, 6, 18, 4))
  params = {'kernel': everywhere, 'bias': np.zeros((5, 6, 4), np.float32)}
  local = layers.LocallyConnected(4, (3, 2)).apply({'params': params}, x)
  np.testing.assert_allclose(local, ops.conv(x, kernel), rtol=1e-4, atol=1e-5)


# -------- response normalisation, dropout --------


@pytest.mark.parametrize('columns', [1, 2])
def test_response_norm_sums_over_neighbours_within_a_column(columns):
  x = normal(1, 2, 2, 12) * 20
  expected = np.zeros_like(x)
  width = 12 // columns
  for *at, c in np.ndindex(x.shape):
    column = c // width * width
    near = range(max(column, c - 2), min(column + width, c + 3))
    total = sum(x[(*at, n)] ** 2 for n in near)
    expected[(*at, c)] = x[(*at, c)] / (2 + 1e-4 * total) ** 0.75
  y = layers.LocalResponseNorm(columns=columns).apply({}, x)
  np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize('inverted', [True, False])
@pytest.mark.parametrize('rate', [0.5, 0.2])
def test_dropout_expects_in_training_what_it_computes_at_test_time(rate, inverted):
  x = normal(50)
  dropout = layers.Dropout(rate, inverted)
  train = jax.vmap(lambda key: dropout.apply({}, x, train=True, rngs={'dropout': key}))
  samples = train(jax.random.split(jax.random.key(0), 20_000))
  np.testing.assert_allclose((samples == 0).mean(), rate, atol=0.01)
  np.testing.assert_allclose(samples.mean(0), dropout.apply({}, x, train=False), atol=0.05)


def test_the_papers_dropout_halves_the_outputs_at_test_time():
  x = normal(4)
  np.testing.assert_array_equal(layers.Dropout(0.5, False).apply({}, x, train=False), x * 0.5)
  np.testing.assert_array_equal(layers.Dropout(0.5).apply({}, x, train=False), x)


# -------- batch normalisation --------


def numpy_norm(x, scale, bias):
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def test_batch_norm_follows_the_paper():
  x = normal(4, 3, 5, 2) * 3 + 7
  norm = layers.BatchNorm()
  variables = start(norm, x, train=True)
  assert np.all(variables['batch_stats']['mean'] == 0)  # initialising is not training
  scale, bias = normal(2, seed=1), normal(2, seed=2)
  variables = {**variables, 'params': {'scale': scale, 'bias': bias}}
  y, new = norm.apply(variables, x, train=True, mutable=['batch_stats'])
  np.testing.assert_allclose(y, numpy_norm(x, scale, bias), rtol=1e-4, atol=1e-5)
  running = jax.tree.map(np.asarray, new['batch_stats'])
  np.testing.assert_allclose(running['mean'], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
  unbiased = x.var((0, 1, 2), ddof=1)
  np.testing.assert_allclose(running['var'], 0.9 + 0.1 * unbiased, rtol=1e-5)
  y = norm.apply({**variables, **new}, x, train=False)
  expected = (x - running['mean']) / np.sqrt(running['var'] + 1e-5) * scale + bias
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def outcome(norm, axis=None):
  """variables, x -> outputs, new running statistics, gradient of a loss: all that a step takes."""

  def run(variables, x, weight):
    def loss(params, x):
      variables_ = {**variables, 'params': params}
      y, new = norm.apply(variables_, x, train=True, mutable=['batch_stats'])
      return (y * weight).mean(), (y, new['batch_stats'])

    grads, (y, stats) = jax.grad(loss, argnums=(0, 1), has_aux=True)(variables['params'], x)
    mean = (lambda tree: jax.lax.pmean(tree, axis)) if axis else (lambda tree: tree)
    # A device's loss is the mean over its part, so its gradient by x counts `devices` times.
    scale = jax.lax.axis_size(axis) if axis else 1
    return y, grads[1] / scale, mean(grads[0]), mean(stats)

  return run


def on_one_device(statistics, variables, x, weight):
  return jax.jit(outcome(layers.BatchNorm(statistics)))(variables, x, weight)


def under_jit(statistics, variables, x, weight, shape=(4, 2, 1)):
  mesh = make_mesh(*shape)
  batch = NamedSharding(mesh, PartitionSpec(('data', 'fsdp')))
  with jax.set_mesh(mesh):
    x, weight = jax.device_put((x, weight), batch)
    return jax.jit(outcome(layers.BatchNorm(statistics)))(variables, x, weight)


def under_pmap(statistics, variables, x, weight, devices=8):
  run = jax.pmap(
    outcome(layers.BatchNorm(statistics), 'data'),
    axis_name='data',
    in_axes=(None, 0, 0),
    out_axes=(0, 0, None, None),
  )
  y, dx, grads, stats = run(variables, *(v.reshape(devices, -1, *v.shape[1:]) for v in (x, weight)))
  return y.reshape(x.shape), dx.reshape(x.shape), grads, stats


def norm_problem():
  """A batch whose parts differ in mean and spread, so that whose statistics are taken shows."""
  x = normal(16, 4, 4, 3) * np.linspace(1, 4, 16, dtype=np.float32).reshape(-1, 1, 1, 1)
  x += np.arange(16, dtype=np.float32).reshape(-1, 1, 1, 1)
  variables = start(layers.BatchNorm(), x, train=False)
  variables['params'] = {'scale': normal(3, seed=1), 'bias': normal(3, seed=2)}
  return variables, x, normal(*x.shape, seed=3)


def assert_close(a, b, tolerance=2e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), a, b)


@pytest.mark.parametrize('run', [under_jit, under_pmap])
def test_global_statistics_on_eight_devices_are_those_of_one(run):
  problem = norm_problem()
  assert_close(run('global', *problem), on_one_device('global', *problem))


def test_device_statistics_are_the_same_under_jit_and_pmap():
  problem = norm_problem()
  assert_close(under_jit('device', *problem), under_pmap('device', *problem))


def test_device_statistics_are_each_devices_own():
  variables, x, weight = norm_problem()
  y, _, _, stats = under_jit('device', variables, x, weight)
  scale, bias = variables['params']['scale'], variables['params']['bias']
  parts = np.split(x, 8)
  expected = np.concatenate([numpy_norm(part, scale, bias) for part in parts])
  assert_close(y, expected, 1e-4)
  mean = np.mean([part.mean((0, 1, 2)) for part in parts], axis=0)
  var = np.mean([part.var((0, 1, 2), ddof=1) for part in parts], axis=0)
  assert_close(stats, {'mean': 0.1 * mean, 'var': 0.9 + 0.1 * var})


def test_the_two_choices_agree_on_one_device_and_differ_on_eight():
  problem = norm_problem()
  assert_close(on_one_device('device', *problem), on_one_device('global', *problem))
  wide, own = (under_jit(statistics, *problem)[0] for statistics in ('global', 'device'))
  assert np.abs(wide - own).max() > 0.1


def test_a_tensor_axis_does_not_split_the_batch():
  problem = norm_problem()
  narrow = under_jit('device', *problem, shape=(2, 1, 4))
  assert_close(narrow, under_pmap('device', *problem, devices=2))


@pytest.mark.parametrize('statistics, reductions', [('device', 0), ('global', 1)])
def test_only_global_statistics_make_devices_talk(statistics, reductions):
  variables, x, _ = norm_problem()
  mesh = make_mesh(8, 1, 1)
  norm = layers.BatchNorm(statistics)
  x = jax.device_put(x, NamedSharding(mesh, PartitionSpec('data')))

  def outputs(x):
    return norm.apply(variables, x, train=True, mutable=['batch_stats'])[0]

  with jax.set_mesh(mesh):
    text = jax.jit(outputs).lower(x).compile().as_text()
  collectives = ('all-reduce', 'all-gather', 'all-to-all', 'collective-permute')
  found = sum(text.count(f' {name}(') for name in collectives)
  assert found >= reductions if reductions else found == 0


def test_device_statistics_refuse_a_batch_that_does_not_split():
  variables, x, weight = norm_problem()
  with (
    jax.set_mesh(make_mesh(8, 1, 1)),
    pytest.raises(ValueError, match="a batch of 12: statistics='device' needs a multiple of 8"),
  ):
    jax.jit(outcome(layers.BatchNorm('device')))(variables, x[:12], weight[:12])


def test_batch_norm_of_bfloat16_keeps_its_statistics_in_float32():
  variables, x, _ = norm_problem()
  norm = layers.BatchNorm(dtype='bfloat16')
  low = x.astype(jnp.bfloat16)
  y, new = norm.apply(variables, low, train=True, mutable=['batch_stats'])
  assert y.dtype == jnp.bfloat16
  exact = low.astype(np.float32)
  assert new['batch_stats']['mean'].dtype == jnp.float32
  assert_close(new['batch_stats']['mean'], 0.1 * exact.mean((0, 1, 2)))
