"""The CPU formulations compute what the plain ones do: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models import banded, cpu, ops, winograd

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


@pytest.mark.long
@pytest.mark.parametrize(('m', 'r'), [(2, 3), (3, 3), (4, 3), (2, 5), (4, 5)])
@pytest.mark.parametrize('shape', [(2, 8, 8), (1, 7, 10), (3, 5, 3), (1, 2, 3)])
@pytest.mark.parametrize('pads', [((1, 2), (2, 1)), ((0, 4), (4, 1))])
def test_winograd_tiles_of_any_number_and_padding(m, r, shape, pads):
  pads = [(min(low, r - 1), min(high, r - 1)) for low, high in pads]
  x, kernel = normal(0, *shape, 3), normal(1, r, r, 3, 5)

  def direct(kernel):
    layout = ('NHWC', 'HWIO', 'NHWC')
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=layout)

  y, pullback = jax.vjp(direct, kernel)
  dy = normal(2, *y.shape)
  ours = winograd.convolve(x, kernel, pads, m)
  np.testing.assert_allclose(ours, y, rtol=0, atol=2e-5 * abs(y).max())
  ours, expected = winograd.kernel_gradient(x, dy, pads, m, r), pullback(dy)[0]
  np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5 * abs(expected).max())


def test_winograd_transforms_are_exact():
  """`A^T [(G g) * (B^T d)]` is the correlation of d with g; and B^T for F(4, 3) is the paper's."""
  for m, r in [(2, 3), (3, 3), (4, 3), (2, 5), (4, 5)]:
    BT, G, AT = winograd.transforms(m, r)
    d, g = np.arange(m + r - 1) ** 2 - 3, np.arange(r) ** 3 - 5
    np.testing.assert_allclose(AT @ ((G @ g) * (BT @ d)), np.correlate(d, g))
  assert winograd.transforms(4, 3)[0][[0, 5]].tolist() == [[4, 0, -5, 0, 1, 0], [0, 4, 0, -5, 0, 1]]


@pytest.mark.long
@few
@given(
  size=st.tuples(st.integers(5, 11), st.integers(5, 11)),
  window=st.sampled_from([2, 3, 5]),
  side=st.sampled_from([2, 3, 4]),
  padding=st.sampled_from(['VALID', 'SAME', ((0, 2), (2, 1))]),
)
def test_few_channels_as_banded_products(size, window, side, padding):
  x, kernel = normal(0, 2, *size, 3), normal(1, window, window, 3, 2)
  pads = ops._pads(x, kernel.shape[:2], (1, 1), padding)
  plain = functools.partial(cpu.plain_conv, strides=(1, 1), pads=pads, groups=1)
  ours = functools.partial(banded.convolve, pads=pads, s=side)

  @functools.partial(jax.jit, static_argnums=0)
  def value_and_gradients(form, x, kernel):
    y, pullback = jax.vjp(form, x, kernel)
    return y, *pullback(y)

  results = [value_and_gradients(form, x, kernel) for form in (plain, ours)]
  for a, b in zip(*results, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('shape', [(2, 30, 7), (30, 5, 9), (100, 40, 3)])
def test_dense(shape):
  """Each order of the products that their shapes choose."""
  rows, inputs, outputs = shape
  assert_same(ops.dense, normal(0, rows, inputs), normal(1, inputs, outputs))


@pytest.mark.long
@pytest.mark.parametrize(
  ('images', 'kernel', 'stride', 'padding'),
  [
    ((16, 12, 12, 64), (3, 3, 64, 64), 1, 'SAME'),
    ((16, 16, 16, 32), (5, 5, 32, 32), 1, 'SAME'),
    ((2, 227, 227, 3), (11, 11, 3, 96), 4, 'VALID'),
    ((16, 63, 63, 3), (11, 11, 3, 96), 4, 'SAME'),
  ],
)
def test_large_enough_convolutions_take_winograd(images, kernel, stride, padding):
  """Products alone in the program, no convolution; and still the plain one's numbers."""
  x, kernel = normal(0, *images), normal(1, *kernel)
  conv = functools.partial(ops.conv, strides=(stride, stride), padding=padding)
  assert 'stablehlo.convolution' not in jax.jit(conv).lower(x, kernel).as_text()
  small = x[:1, : len(kernel), : len(kernel)]
  assert 'stablehlo.convolution' in jax.jit(conv).lower(small, kernel).as_text()
  assert_same(conv, x, kernel, tolerance=1e-4)


def test_an_image_smaller_than_the_kernel_gives_nothing():
  assert ops.conv(normal(0, 2, 2, 2, 64), normal(1, 3, 3, 64, 64), padding='VALID').size == 0


@pytest.mark.long
def test_conv_under_vmap_and_on_a_mesh():
  x, kernel = normal(0, 8, 28, 28, 64), normal(1, 3, 3, 64, 64)
  loss = lambda kernel, x: jnp.square(ops.conv(x, kernel)).mean()  # noqa: E731
  gradient = jax.jit(jax.grad(loss))
  expected = gradient(kernel, x)
  parts = jax.vmap(gradient, (None, 0))(kernel, x.reshape(2, 4, 28, 28, 64))
  np.testing.assert_allclose(parts.mean(0), expected, atol=1e-5)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  split = jax.device_put(x, NamedSharding(mesh, PartitionSpec('data')))
  np.testing.assert_allclose(gradient(kernel, split), expected, atol=1e-5)


def test_conv_gradient_in_shard_map_is_summed_once():
  """Of an unsplit kernel: `shard_map` adds the devices' parts, as for the plain form."""
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  x, kernel = normal(0, 8, 6, 6, 16), normal(1, 3, 3, 16, 16)

  @functools.partial(
    jax.shard_map,
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec('data')),
    out_specs=PartitionSpec(),
  )
  def gradient(kernel, x):
    loss = lambda kernel: jax.lax.pmean(jnp.square(ops.conv(x, kernel)).mean(), 'data')  # noqa: E731
    return jax.grad(loss)(kernel)

  expected = jax.grad(lambda kernel: jnp.square(ops.conv(x, kernel)).mean())(kernel)
  np.testing.assert_allclose(jax.jit(gradient)(kernel, x), expected, atol=1e-5)


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
  norm = lambda x: ops.local_response_norm(x, size, 2.0, 0.1, beta)  # noqa: E731
  assert_same(norm, 3 * normal(0, 2, 3, 3, 9))


def test_local_response_norm_by_hand():
  """One of three channels: 3 / (1 + 0.5 * (4 + 9))^0.75, section 3.3's formula."""
  x = jnp.array([[2.0, 3.0, 0.0, 7.0]])
  for form in ops.FORMULATIONS:
    with ops.use(form):
      y = ops.local_response_norm(x, 3, 1.0, 0.5, 0.75)
    assert y[0, 1] == pytest.approx(3 / 7.5**0.75)


def test_batch_moments():
  x = 2 + 3 * normal(0, 4, 5, 6, 7)
  mean, var = ops.batch_moments(x)
  np.testing.assert_allclose(mean, x.mean((0, 1, 2)), atol=1e-5)
  np.testing.assert_allclose(var, x.var((0, 1, 2)), rtol=1e-4)
  for i in range(2):
    assert_same(lambda x, i=i: ops.batch_moments(x)[i], x)


def test_padding_has_a_name_or_numbers():
  with pytest.raises(ValueError, match="padding 'same': choose from SAME, VALID"):
    ops.max_pool(jnp.zeros((1, 4, 4, 1)), (2, 2), (2, 2), 'same')
