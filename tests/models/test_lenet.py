"""LeNet-5 against the numbers and the table of LeCun et al. 1998, section II-B."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import models
from models import lenet, ops, summary


def start(module, x, seed=0):
  return nn.unbox(jax.jit(lambda key: module.init(key, x))(jax.random.key(seed)))


def images(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_layers_have_the_papers_sizes_and_numbers_of_parameters():
  layers = summary.layers(models.build('lenet5', num_classes=10, output='rbf'), (28, 28, 1))
  assert [(layer.path, layer.output, layer.parameters) for layer in layers] == [
    ('C1', (28, 28, 6), 156),
    ('S2', (14, 14, 6), 12),
    ('C3', (10, 10, 16), 1_516),
    ('S4', (5, 5, 16), 32),
    ('C5', (1, 1, 120), 48_120),
    ('F6', (84,), 10_164),
    ('output', (10,), 0),
  ]
  assert sum(layer.parameters for layer in layers) == 60_000  # as the paper's section III-B says


def test_c1_and_c3_have_the_papers_numbers_of_connections():
  layers = summary.layers(models.build('lenet5', num_classes=10), (32, 32, 1))
  connections = {
    layer.path: layer.multiply_adds + int(np.prod(layer.output)) for layer in layers
  }  # a bias is a connection too
  assert connections['C1'] == 122_304
  assert connections['C3'] == 151_600
  assert connections['C5'] == 48_120


def test_table_one():
  sizes = [len(inputs) for inputs in lenet.C3_INPUTS]
  assert sizes == [3] * 6 + [4] * 9 + [6]
  assert len(set(lenet.C3_INPUTS)) == 16
  # The first six take neighbours around the ring, the next six too, the next three opposite pairs.
  for first, inputs in enumerate(lenet.C3_INPUTS[:6]):
    assert set(inputs) == {(first + i) % 6 for i in range(3)}
  for first, inputs in enumerate(lenet.C3_INPUTS[6:12]):
    assert set(inputs) == {(first + i) % 6 for i in range(4)}
  for first, inputs in enumerate(lenet.C3_INPUTS[12:15]):
    assert set(inputs) == {(first + i) % 6 for i in (0, 1, 3, 4)}


def test_c3_is_a_convolution_from_the_maps_of_its_table():
  x = images(2, 14, 14, 6)
  module = lenet.PartialConv()
  variables = start(module, x)
  kernel = np.asarray(variables['params']['kernel'])
  y = module.apply(variables, x)
  first = 0
  for o, inputs in enumerate(lenet.C3_INPUTS):
    own = kernel[..., first : first + len(inputs), None]
    expected = ops.conv(x[..., list(inputs)], own, padding='VALID')
    np.testing.assert_allclose(y[..., o : o + 1], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(own).max() <= 2.4 / (25 * len(inputs))
    first += len(inputs)


def test_subsampling_scales_the_sum_of_a_block_and_squashes():
  x = images(1, 4, 6, 2)
  scale, bias = np.float32([0.3, -0.2]), np.float32([0.1, 0.4])
  y = lenet.Subsampling().apply({'params': {'scale': scale, 'bias': bias}}, x)
  sums = x.reshape(1, 2, 2, 3, 2, 2).sum((2, 4))
  np.testing.assert_allclose(y, 1.7159 * np.tanh(2 / 3 * (sums * scale + bias)), rtol=1e-5)


def test_the_squashing_function_keeps_one():
  np.testing.assert_allclose(lenet.squash(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)


def test_codes_are_distinct_bitmaps_and_the_nearest_wins():
  codes = lenet.digit_codes()
  assert codes.shape == (10, 84) and set(np.unique(codes)) == {-1, 1}
  distances = np.square(codes[:, None] - codes[None]).sum(-1)
  assert distances[~np.eye(10, dtype=bool)].min() >= 4 * 6  # at least six pixels differ
  logits = lenet.RadialBasis().apply({}, codes)
  np.testing.assert_allclose(logits, -distances)
  assert list(logits.argmax(-1)) == list(range(10))


@pytest.mark.parametrize('size', [8, 28, 31, 32])
def test_small_images_are_centred_on_their_own_background(size):
  x = np.full((1, size, size, 1), -0.4, np.float32)
  x[0, size // 2, size // 2] = 2
  padded = np.asarray(lenet.pad_to_32(x))
  assert padded.shape == (1, 32, 32, 1)
  middle = padded[0, 15:17, 15:17]
  assert np.sum(middle == 2) == 1 and np.sum(padded == np.float32(-0.4)) == 32 * 32 - 1


@pytest.mark.long
@pytest.mark.parametrize(
  'name, kwargs', [('lenet5', {}), ('lenet5', {'output': 'rbf'}), ('lenet', {})]
)
def test_learns_ten_digits_by_heart(name, kwargs):
  x = lenet.digit_codes().reshape(10, 12, 7, 1).repeat(2, 1).repeat(3, 2)
  module = models.build(name, num_classes=10, **kwargs)
  variables, tx = start(module, x), optax.adam(2e-3)

  @jax.jit
  def step(variables, state):
    def loss(variables):
      logits = module.apply(variables, x, train=True)
      return -jnp.diagonal(nn.log_softmax(logits)).mean()

    value, grads = jax.value_and_grad(loss)(variables)
    updates, state = tx.update(grads, state)
    return value, optax.apply_updates(variables, updates), state

  state = tx.init(variables)
  for _ in range(100):
    loss, variables, state = step(variables, state)
  assert loss < 0.1
  assert list(module.apply(variables, x).argmax(-1)) == list(range(10))


def test_the_relu_version_and_its_widths():
  def parameters(**kwargs):
    module = models.build('lenet', num_classes=10, **kwargs)
    return sum(layer.parameters for layer in summary.layers(module, (28, 28, 1)))

  assert parameters() == 156 + 2_416 + 48_120 + 10_164 + 850
  wide = (25 + 1) * 20 + (25 * 20 + 1) * 50 + (1_250 + 1) * 500 + (500 + 1) * 84 + 850
  assert parameters(channels=[20, 50], hidden=[500, 84]) == wide


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'output': 'softmax'}, "model.output='softmax': choose from linear, rbf"),
    ({'output': 'rbf', 'num_classes': 26}, 'has codes for 10 classes, the data have 26'),
  ],
)
def test_refuses_what_it_cannot_be(kwargs, message):
  with pytest.raises(ValueError, match=message):
    models.build('lenet5', **{'num_classes': 10, **kwargs})


def test_refuses_large_images():
  with pytest.raises(ValueError, match='images of 40 x 40: LeNet takes up to 32 x 32'):
    start(models.build('lenet', num_classes=10), images(1, 40, 40, 1))
