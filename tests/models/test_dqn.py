"""Q-networks: their sizes, and a convolution as a product beside XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models.dqn import blocks, kernel_blocks, windows


def count(name, shape, dtype, **options):
  network = models.build(name, num_actions=4, **options)
  x = jax.ShapeDtypeStruct((1, *shape), dtype)
  params = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), x)['params']
  return sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def test_natures_network_has_its_parameters():
  assert count('dqn_nature', (84, 84, 4), np.uint8) == 1_686_180
  assert count('dqn_minatar', (10, 10, 4), bool) == 132_308


@pytest.mark.parametrize('side, window, stride', [(10, 3, 1), (20, 8, 4), (9, 4, 2)])
def test_a_convolution_as_a_product_is_a_convolution(side, window, stride):
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (2, side, side, 3))
  kernel = jax.random.normal(keys[1], (window, window, 3, 5))
  patches = windows(blocks(x, stride), window // stride)
  ours = patches @ kernel_blocks(kernel, stride)[None, None]
  numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, ('NHWC', 'HWIO', 'NHWC'))
  theirs = lax.conv_general_dilated(x, kernel, (stride, stride), 'VALID', dimension_numbers=numbers)
  np.testing.assert_allclose(ours, theirs[:, : ours.shape[1], : ours.shape[2]], atol=1e-4)


def test_a_dueling_networks_mean_is_its_value():
  network = models.build('dqn_mlp', num_actions=3, dueling=True, hidden=(8,))
  x = jax.random.normal(jax.random.key(1), (5, 4))
  variables = network.init(jax.random.key(0), x)
  q = network.apply(variables, x)
  params = jax.tree.map(lambda leaf: leaf, variables['params'])
  params['advantage'] = jax.tree.map(jnp.zeros_like, params['advantage'])
  flat = network.apply({'params': params}, x)  # the value alone
  np.testing.assert_allclose(q.mean(-1), flat[:, 0], atol=1e-5)
  assert not np.allclose(q, flat)


def test_pixels_are_seen_as_parts_of_one():
  network = models.build('dqn_mlp', num_actions=2, hidden=(8,))
  pixels = jnp.full((1, 4), 255, jnp.uint8)
  variables = network.init(jax.random.key(0), pixels)
  assert np.allclose(network.apply(variables, pixels), network.apply(variables, jnp.ones((1, 4))))
