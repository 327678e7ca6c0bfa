"""Muon: what its updates are, on which parameters, and that devices do not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train import mesh as mesh_lib
from train.optim import make_optimizer
from train.step import init_state, make_step
from train.task import Task

RATE = 0.1


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def params(of=normal):
  """Two layers' kernels of three shapes, and what is no hidden matrix."""
  return {
    'token_embed': {'embedding': of(0, 12, 8)},
    'blocks': {
      'query': {'kernel': of(1, 2, 8, 8), 'bias': of(2, 2, 8)},
      'up': {'kernel': of(3, 2, 8, 32)},
      'down': {'kernel': of(4, 2, 32, 8)},
      'norm1': {'scale': of(5, 2, 8)},
    },
  }


def grads(step):
  return params(lambda seed, *shape: normal(100 * step + seed, *shape))


def updates(name, steps=3, **options):
  """The last of so many updates."""
  tx, _ = make_optimizer(name, steps=steps, learning_rate=RATE, **options)
  state, update = tx.init(params()), None
  for step in range(1, steps + 1):
    update, state = tx.update(grads(step), state, params())
  return update


def test_each_layers_matrix_moves_by_one_size_in_all_directions():
  """Singular values near 1 (the iteration leaves them within 0.7 to 1.2), times 0.2 sqrt(max)."""
  blocks = updates('muon', weight_decay=0.0)['blocks']
  for name, largest in {'query': 8, 'up': 32, 'down': 32}.items():
    for kernel in np.asarray(blocks[name]['kernel']):
      sizes = np.linalg.svd(kernel, compute_uv=False) / (RATE * 0.2 * np.sqrt(largest))
      assert sizes.shape == (8,)
      assert sizes.min() > 0.6 and sizes.max() < 1.3, sizes


def test_elements_are_as_large_as_adamws():
  kernel = updates('muon', weight_decay=0.0)['blocks']['up']['kernel']
  assert 0.15 < np.sqrt(np.mean(np.square(kernel))) / RATE < 0.25


def test_embeddings_norms_and_biases_get_adams_update():
  options = {'b1': 0.8, 'b2': 0.9, 'weight_decay': 0.1}
  ours, adamw = updates('muon', **options), updates('adamw', **options)
  places = ('token_embed', 'embedding'), ('query', 'bias'), ('norm1', 'scale')
  for group, name in places:
    one, two = (x[group] if group in x else x['blocks'][group] for x in (ours, adamw))
    np.testing.assert_allclose(one[name], two[name], rtol=1e-6)
  assert not np.allclose(ours['blocks']['up']['kernel'], adamw['blocks']['up']['kernel'], rtol=0.1)


def test_kernels_and_embeddings_decay_as_adamws():
  decayed, plain = updates('muon', weight_decay=0.5), updates('muon', weight_decay=0.0)
  difference = jax.tree.map(np.subtract, decayed, plain)
  expected = jax.tree.map(lambda x: -RATE * 0.5 * x, params())
  for group in ('query', 'norm1'):
    for name in set(expected['blocks'][group]) & {'bias', 'scale'}:
      expected['blocks'][group][name] = np.zeros_like(expected['blocks'][group][name])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), difference, expected)


def test_one_layer_is_optaxs_own_muon():
  """Per layer of the stack, and optax on that layer's matrix alone."""
  muon = optax.contrib.muon(RATE, beta=0.9, consistent_rms=0.2)
  ours = updates('muon', momentum=0.9, weight_decay=0.0)
  for name in ('query', 'up', 'down'):
    for layer in (0, 1):
      matrix = [
        tree['blocks'][name]['kernel'][layer] for tree in (params(), *map(grads, (1, 2, 3)))
      ]
      state = muon.init(matrix[0])
      for gradient in matrix[1:]:
        theirs, state = muon.update(gradient, state, matrix[0])
      np.testing.assert_allclose(ours['blocks'][name]['kernel'][layer], theirs, atol=2e-6)


def test_a_convolution_is_one_matrix_of_all_its_places():
  tx, _ = make_optimizer('muon', steps=1, learning_rate=RATE, weight_decay=0.0)
  flat = normal(0, 18, 4)
  both = []
  for kernel in (flat, flat.reshape(3, 3, 2, 4)):
    tree = {'conv': {'kernel': kernel}}
    both.append(np.ravel(tx.update(tree, tx.init(tree), tree)[0]['conv']['kernel']))
  np.testing.assert_allclose(*both, atol=1e-6)


class Regression(Task):
  """A stack of two layers that multiply what is read; sharded by logical names."""

  throughput = 'rows', 16
  batch_size = 16

  def init(self, key):
    axes = {
      'up': ('layers', 'width', 'mlp'),
      'down': ('layers', 'mlp', 'width'),
    }
    named = mesh_lib.nn.LogicallyPartitioned
    blocks = {
      name: {'kernel': named(jnp.asarray(params()['blocks'][name]['kernel']) * 0.1, axes[name])}
      for name in axes
    }
    embed = named(jnp.asarray(params()['token_embed']['embedding']), ('vocab', 'width'))
    return {'params': {'blocks': blocks, 'token_embed': {'embedding': embed}}}

  def loss(self, variables, batch, key, *, train):
    weights = variables['params']
    x = weights['token_embed']['embedding'][batch]
    for up, down in zip(*(weights['blocks'][k]['kernel'] for k in ('up', 'down')), strict=True):
      x = x + jnp.tanh(x @ up) @ down
    value = jnp.square(x - 1).mean()
    return value, ({}, {'loss': (value, jnp.ones(()))})


@pytest.mark.parametrize('layout', [(8, 1, 1), (2, 2, 2)])
def test_devices_and_their_layout_change_nothing(layout):
  def train(layout):
    task, tx = Regression(), make_optimizer('muon', steps=4, learning_rate=0.01)[0]
    mesh = mesh_lib.make_mesh(*layout, devices=jax.devices()[: int(np.prod(layout))])
    with mesh_lib.activate(mesh):
      state, shardings = init_state(task, tx, 0, mesh)
      step = make_step(task, tx, shardings)
      batch = jax.device_put(np.arange(16) % 12, mesh_lib.batch_sharding(mesh))
      for _ in range(4):
        state, _ = step(state, batch)
      return state

  one, many = train((1, 1, 1)), train(layout)
  for a, b in zip(*map(jax.tree.leaves, jax.device_get((one.params, many.params))), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)
  if layout[1] > 1:
    momentum = [x for x in jax.tree.leaves(many.opt_state) if x.shape == (2, 8, 32)]
    assert momentum and all(not x.sharding.is_fully_replicated for x in momentum)
