"""ResNets against the tables of He et al. 2015, and what their options change."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import models
from models import ops, resnet, summary


def images(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def start(module, x):
  return nn.unbox(jax.jit(lambda key: module.init(key, x, train=False))(jax.random.key(0)))


def build_layers(name, shape, **kwargs):
  return summary.layers(models.build(name, **kwargs), shape)


def block(**kwargs):
  defaults = dict(channels=4, strides=1, bottleneck=False, project=False, version='v1')
  rest = dict(zero_init_last_scale=False, statistics='global', dtype='float32')
  return resnet.Block(**{**defaults, **rest, **kwargs})


# -------- the papers' tables --------


@pytest.mark.parametrize(
  'depth, millions', [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_cifar_networks_have_the_parameters_of_table_6(depth, millions):
  found = build_layers(f'resnet{depth}', (32, 32, 3), num_classes=10)
  parameters = sum(layer.parameters for layer in found)
  np.testing.assert_allclose(parameters / 1e6, millions, rtol=0.02)
  # Weighted layers, which option A's shortcuts have none of.
  assert sum(layer.kind in ('Conv', 'Dense') for layer in found) == depth


@pytest.mark.parametrize(
  'depth, parameters, billions',
  [
    (18, 11_689_512, 1.8),
    (34, 21_797_672, 3.6),
    (50, 25_557_032, 3.8),
    (101, 44_549_160, 7.6),
    (152, 60_192_808, 11.3),
  ],
)
def test_imagenet_networks_have_the_work_of_table_1(depth, parameters, billions):
  found = build_layers(f'resnet{depth}', (224, 224, 3), num_classes=1000, version='v1')
  assert sum(layer.parameters for layer in found) == parameters
  work = sum(layer.multiply_adds for layer in found) / 1e9
  assert abs(work - billions) < 0.07
  weighted = [layer for layer in found if layer.kind in ('Conv', 'Dense')]
  assert sum('projection' not in layer.path for layer in weighted) == depth


def test_maps_have_the_sizes_of_table_1():
  found = build_layers('resnet50', (224, 224, 3), num_classes=1000)
  sizes = {layer.path: layer.output for layer in found}
  assert sizes['stem'] == (112, 112, 64)
  assert sizes['stem_pool'] == (56, 56, 64)
  ends = ('stage1_block3', 'stage2_block4', 'stage3_block6', 'stage4_block3')
  maps = [sizes[f'{end}/conv3'] for end in ends]
  assert maps == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]


def test_v1_strides_on_its_1x1_and_later_ones_on_their_3x3():
  def sizes(version):
    found = build_layers('resnet50', (224, 224, 3), num_classes=10, version=version)
    return {
      layer.path.split('/')[1]: layer.output[0] for layer in found if 'stage2_block1' in layer.path
    }

  assert sizes('v1')['conv1'] == 28 and sizes('v1')['conv2'] == 28
  for version in ('v1.5', 'v2'):
    assert sizes(version)['conv1'] == 56 and sizes(version)['conv2'] == 28


# -------- blocks --------


def test_option_a_takes_every_other_pixel_and_adds_channels_of_zeros():
  x = np.abs(images(2, 6, 6, 4))
  module = block(channels=8, strides=2, zero_init_last_scale=True)
  y = np.asarray(module.apply(start(module, x), x, train=False))
  assert y.shape == (2, 3, 3, 8)
  np.testing.assert_allclose(y[..., 2:6], x[:, ::2, ::2], rtol=1e-6)
  assert np.all(y[..., :2] == 0) and np.all(y[..., 6:] == 0)


@pytest.mark.long
@pytest.mark.parametrize('bottleneck', [False, True])
def test_a_zero_last_scale_begins_with_identities(bottleneck):
  x = np.abs(images(2, 5, 5, 16 if bottleneck else 4))
  module = block(bottleneck=bottleneck, zero_init_last_scale=True)
  np.testing.assert_allclose(module.apply(start(module, x), x, train=False), x, rtol=1e-6)
  plain = block(bottleneck=bottleneck)
  assert np.any(plain.apply(start(plain, x), x, train=False) != x)


def test_v2_adds_to_the_sum_and_never_rectifies_it():
  x = images(2, 5, 5, 4)
  module = block(version='v2')
  variables = start(module, x)
  kernel = variables['params']['conv2']['kernel']
  variables['params']['conv2']['kernel'] = jnp.zeros_like(kernel)
  np.testing.assert_array_equal(module.apply(variables, x, train=False), x)
  assert sorted(variables['params']) == ['conv1', 'conv2', 'norm1', 'norm2']


@pytest.mark.long
def test_kernels_start_with_the_variance_of_he():
  variables = start(models.build('resnet20', num_classes=10), images(1, 32, 32, 3))
  kernel = variables['params']['stage3_block2']['conv1']['kernel']
  np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 64)), rtol=0.02)


# -------- networks --------


@pytest.mark.long
@pytest.mark.parametrize('version', resnet.VERSIONS)
@pytest.mark.parametrize('dtype', models.DTYPES)
def test_a_step_moves_the_statistics_and_gives_float32_logits(version, dtype):
  module = resnet.resnet_cifar(8, 5, version=version, dtype=dtype)
  x = images(4, 16, 16, 3)
  variables = start(module, x)
  run = jax.jit(lambda v: module.apply(v, x, train=True, mutable=['batch_stats']))
  logits, new = run(variables)
  assert logits.shape == (4, 5) and logits.dtype == jnp.float32
  assert np.all(np.isfinite(logits))
  moved = jax.tree.map(lambda a, b: np.any(a != b), variables['batch_stats'], new['batch_stats'])
  assert all(jax.tree.leaves(moved))
  assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype('float32')}


def test_imagenet_network_runs_on_small_images():
  module = models.build('resnet18', num_classes=7, zero_init_last_scale=True)
  x = images(1, 64, 64, 3)
  shape = jax.eval_shape(lambda: module.apply(module.init(jax.random.key(0), x), x))
  assert shape.shape == (1, 7) and shape.dtype == jnp.float32


@pytest.mark.long
def test_eight_devices_train_as_one_with_global_statistics():
  module = resnet.resnet_cifar(8, 5)
  x = images(16, 8, 8, 3)
  variables = start(module, x)

  def run(variables, x):
    return module.apply(variables, x, train=True, mutable=['batch_stats'])

  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  with jax.set_mesh(mesh):
    many = jax.jit(run)(variables, jax.device_put(x, NamedSharding(mesh, PartitionSpec('data'))))
  one = jax.jit(run)(variables, x)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), many, one)


@pytest.mark.parametrize(
  'name, kwargs, message',
  [
    ('resnet20', {'version': 'v3'}, "model.version='v3': choose from v1, v1.5, v2"),
    ('resnet50', {'statistics': 'sync'}, "model.statistics='sync': choose from global, device"),
    ('resnet50', {'version': 'v2', 'zero_init_last_scale': True}, 'choose version v1 or v1.5'),
    ('resnet19', {}, "model.name='resnet19': choose from lenet5, lenet, alexnet"),
    ('resnet20', {'dtype': 'int8'}, "model.dtype='int8': choose from float32, bfloat16"),
  ],
)
def test_errors_name_value_and_choices(name, kwargs, message):
  with pytest.raises(ValueError, match=message):
    models.build(name, num_classes=10, **kwargs)


# -------- the table --------


def test_the_table_fits_a_terminal_and_sums_up():
  text = summary.table(models.build('resnet152', num_classes=1000), (224, 224, 3))
  lines = text.splitlines()
  assert max(map(len, lines)) <= 100
  assert lines[0].split() == ['layer', 'kind', 'output', 'parameters', 'multiply-adds']
  assert '60,192,808' in lines[-1]


DEEP = ('resnet56', 'resnet110', 'resnet152')
CLASSIFIERS = ('lenet', 'alexnet', 'resnet')
SHORT = [name for name in models.MODELS if name.startswith(CLASSIFIERS) and name not in DEEP]


@pytest.mark.long
@pytest.mark.parametrize('name', SHORT)
def test_every_network_gives_float32_logits_and_names_its_parameters_axes(name):
  module = models.build(name, num_classes=10)
  size = 64 if name.startswith('alexnet') else 32
  x = jax.ShapeDtypeStruct((2, size, size, 3), np.float32)
  keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}

  def run(x):
    variables = module.init(keys, x, train=False)
    run = functools.partial(module.apply, train=True, mutable=['batch_stats'], rngs=keys)
    return variables['params'], run(nn.unbox(variables), x)[0]

  with ops.use('plain'):
    params, logits = jax.eval_shape(run, x)
  assert logits.shape == (2, 10) and logits.dtype == jnp.float32
  leaves = jax.tree.leaves(params, is_leaf=lambda v: isinstance(v, nn.LogicallyPartitioned))
  assert all(isinstance(leaf, nn.LogicallyPartitioned) for leaf in leaves)
