"""AlexNet against Krizhevsky et al. 2012: sizes, initial values, two columns on two devices."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import models
from models import layers, ops, summary


def images(*shape, seed=0):
  return 50 * np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def small():
  """The published convolutions on images of 67 x 67, with narrow full layers."""
  return models.build('alexnet', num_classes=8, hidden=64), images(4, 67, 67, 3)


def start(module, x):
  return jax.jit(lambda key: module.init(key, x))(jax.random.key(0))


def total(module, shape):
  return sum(layer.parameters for layer in summary.layers(module, shape))


# -------- as published --------


def test_layers_have_the_papers_sizes():
  found = summary.layers(models.build('alexnet', num_classes=1000), (224, 224, 3))
  sizes = {layer.path: layer.output for layer in found}
  assert sizes['conv1'] == (55, 55, 96)
  assert sizes['conv2'] == (27, 27, 256)
  assert sizes['conv3'] == sizes['conv4'] == (13, 13, 384)
  assert sizes['conv5'] == (13, 13, 256)
  assert sizes['pool5'] == (6, 6, 256)
  assert sizes['full6'] == sizes['full7'] == (4096,)
  order = [layer.kind for layer in found][:6]
  assert order == ['Conv', 'LocalResponseNorm', 'MaxPool'] * 2
  assert sum(layer.parameters for layer in found) == 60_965_224


def test_layers_have_the_papers_numbers_of_neurons():
  found = summary.layers(models.build('alexnet', num_classes=1000), (224, 224, 3))
  neurons = [int(np.prod(layer.output)) for layer in found if layer.kind in ('Conv', 'Dense')]
  # Section 3.5. Its figure for conv1, 253,440, contradicts the 55 x 55 x 96 of its figure 2.
  assert neurons[1:] == [186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]


@pytest.mark.long
def test_columns_see_half_of_the_channels():
  params = start(*small())['params']
  kernels = {name: params[name]['kernel'].value.shape for name in params}
  assert kernels['conv1'] == (11, 11, 3, 96)
  assert kernels['conv2'] == (5, 5, 48, 256)
  assert kernels['conv3'] == (3, 3, 256, 384)
  assert kernels['conv4'] == (3, 3, 192, 384)
  assert kernels['conv5'] == (3, 3, 192, 256)


def test_starts_as_section_5_says():
  params = nn.unbox(start(*small()))['params']
  for name, leaf in params.items():
    np.testing.assert_allclose(leaf['kernel'].std(), 0.01, rtol=0.1)
    one = name in ('conv2', 'conv4', 'conv5', 'full6', 'full7')
    assert np.all(leaf['bias'] == float(one)), name


def test_a_grouped_convolution_is_two_columns_side_by_side():
  x, kernel = images(2, 6, 6, 8), images(5, 5, 4, 6, seed=1)
  numbers = ('NHWC', 'HWIO', 'NHWC')
  grouped = lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=numbers, feature_group_count=2
  )
  conv = layers.Conv(6, (5, 5), groups=2, use_bias=False, out_axis='column')
  y = conv.apply({'params': {'kernel': kernel}}, x)
  np.testing.assert_allclose(y, grouped, rtol=1e-4, atol=0.1)
  alone = layers.Conv(3, (5, 5), use_bias=False)
  for c in range(2):
    column = {'params': {'kernel': kernel[..., 3 * c : 3 * c + 3]}}
    own = alone.apply(column, x[..., 4 * c : 4 * c + 4])
    np.testing.assert_allclose(y[..., 3 * c : 3 * c + 3], own, rtol=1e-4, atol=0.1)


@pytest.mark.long
def test_dropout_acts_in_training_and_halves_at_test_time():
  module, x = small()
  variables = nn.unbox(start(module, x))
  key = jax.random.key(1)
  run = jax.jit(lambda key: module.apply(variables, x, train=True, rngs={'dropout': key}))
  assert np.any(run(key) != run(jax.random.key(2)))
  np.testing.assert_array_equal(run(key), run(key))
  variables['params']['full8']['bias'] += 1
  _, found = module.apply(variables, x, capture_intermediates=True)
  kept = found['intermediates']
  np.testing.assert_allclose(
    kept['dropout7']['__call__'][0], nn.relu(kept['full7']['__call__'][0]) / 2
  )


def test_refuses_images_that_vanish():
  with pytest.raises(ValueError, match='images of 32 x 32: AlexNet needs at least 64 x 64'):
    start(models.build('alexnet', num_classes=10), images(1, 32, 32, 3))


# -------- one column a device --------


def one_mesh(*shape):
  devices = jax.devices()[: int(np.prod(shape))]
  names, axes = ('data', 'fsdp', 'tensor'), (AxisType.Auto,) * 3
  return jax.make_mesh(shape, names, axis_types=axes, devices=devices)


def on_mesh(boxed, mesh):
  """The parameters where the logical names of their axes put them."""
  rules = [('column', 'tensor'), ('features_out', 'tensor')]
  specs = nn.logical_to_mesh(nn.get_partition_spec(boxed), rules)
  shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
  return jax.device_put(nn.unbox(boxed), shardings), shardings


def gradients(module):
  def run(variables, x):
    def loss(variables):
      key = jax.random.key(1)
      return jnp.square(module.apply(variables, x, train=True, rngs={'dropout': key})).mean()

    return jax.grad(loss)(variables)

  return run


def compiled(mesh, formulation):
  module, x = small()
  boxed = start(module, x)
  variables, shardings = on_mesh(boxed, mesh)
  with jax.set_mesh(mesh), ops.use(formulation):
    x = jax.device_put(x, NamedSharding(mesh, PartitionSpec(('data', 'fsdp'))))
    run = jax.jit(gradients(module), out_shardings=shardings)
    return run.lower(variables, x).compile(), variables, x


def test_each_device_holds_one_column():
  variables, _ = on_mesh(start(*small()), one_mesh(1, 1, 2))
  for name in ('conv2', 'conv4', 'conv5'):
    kernel = variables['params'][name]['kernel']
    half = kernel.shape[-1] // 2
    shards = sorted(kernel.addressable_shards, key=lambda shard: shard.device.id)
    for column, shard in enumerate(shards):
      own = np.asarray(kernel)[..., column * half : (column + 1) * half]
      np.testing.assert_array_equal(shard.data, own)


@pytest.mark.long
@pytest.mark.parametrize('shape, formulation', [((1, 1, 2), 'cpu'), ((2, 2, 2), 'plain')])
def test_gradients_on_a_mesh_are_those_of_one_device(shape, formulation):
  run, variables, x = compiled(one_mesh(*shape), formulation)
  module, _ = small()
  alone = jax.jit(gradients(module))(nn.unbox(start(*small())), np.asarray(x))
  tolerance = 1e-5  # of float32 sums, which processors order differently
  for leaf, expected in zip(
    jax.tree.leaves(run(variables, x)), jax.tree.leaves(alone), strict=True
  ):
    np.testing.assert_allclose(leaf, expected, atol=tolerance * np.abs(expected).max())


def test_devices_talk_only_where_the_columns_meet():
  run, _, _ = compiled(one_mesh(1, 1, 2), 'plain')
  forward, backward = [], []
  for line in run.as_text().splitlines():
    if re.search(r' (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)', line):
      shape = re.search(r'= \w+\[([\d,]*)\]', line)
      where = backward if 'transpose(jvp' in line else forward
      where.append(shape and tuple(map(int, shape.group(1).split(','))))
  # Before conv3 and before each full layer; and their gradients on the way back.
  meetings = sorted([(4, 3, 3, 256), (4, 1, 1, 256), (4, 64), (4, 64)])
  assert sorted(forward) == meetings
  assert sorted(np.prod(shape) for shape in backward) == sorted(map(np.prod, meetings))


def test_no_device_convolves_more_than_its_column():
  run, _, _ = compiled(one_mesh(1, 1, 2), 'plain')
  text = run.as_text()
  assert 'feature_group_count=2' not in text and 'batch_group_count=2' not in text
  forward = [
    int(re.search(r'= \w+\[[\d,]*?(\d+)\]', line).group(1))
    for line in text.splitlines()
    if ' convolution(' in line and re.search(r'op_name="jit\(run\)/jvp', line)
  ]
  assert sorted(forward) == sorted(c // 2 for c in (96, 256, 384, 384, 256))


def test_refuses_a_mesh_that_cuts_columns():
  with pytest.raises(ValueError, match=r'mesh\.tensor=4: must divide the 2 columns of the network'):
    compiled(one_mesh(1, 1, 4), 'plain')


# -------- its relatives --------


def test_one_column_of_2014():
  module = models.build('alexnet_one_column', num_classes=1000)
  found = {layer.path: layer for layer in summary.layers(module, (224, 224, 3))}
  channels = [found[f'conv{i}'].output[-1] for i in range(1, 6)]
  assert channels == [64, 192, 384, 384, 256]
  public = models.build('alexnet_one_column', num_classes=1000, conv4=256)
  assert total(public, (224, 224, 3)) == 61_100_840


def test_torchvisions_has_its_parameters():
  found = summary.layers(models.build('alexnet_torchvision', num_classes=1000), (224, 224, 3))
  assert sum(layer.parameters for layer in found) == 61_100_840
  assert not [layer for layer in found if layer.kind == 'LocalResponseNorm']


@pytest.mark.parametrize('lrn', [True, False])
def test_cifar_network_has_the_layers_of_its_definition(lrn):
  module = models.build('alexnet_cifar10', num_classes=10, lrn=lrn)
  found = summary.layers(module, (24, 24, 3))
  assert ('LocalResponseNorm' in [layer.kind for layer in found]) == lrn
  weights = [(layer.path, layer.output, layer.parameters) for layer in found if layer.parameters]
  assert weights == [
    ('conv1', (24, 24, 64), 75 * 64 + 64),
    ('conv2', (12, 12, 64), 25 * 64 * 64 + 64),
    ('local3', (6, 6, 32), 36 * (9 * 64 * 32 + 32)),
    ('local4', (6, 6, 32), 36 * (9 * 32 * 32 + 32)),
    ('full5', (10,), 36 * 32 * 10 + 10),
  ]


@pytest.mark.long
def test_cifar_network_runs_on_whole_images_too():
  module = models.build('alexnet_cifar10', num_classes=10)
  x = images(2, 32, 32, 3)
  variables = nn.unbox(start(module, x))
  assert jax.jit(module.apply)(variables, x).shape == (2, 10)
  np.testing.assert_allclose(variables['params']['conv1']['kernel'].std(), 1e-4, rtol=0.1)
