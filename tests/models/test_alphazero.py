"""The network of self-play: AlphaGo Zero's numbers of parameters, shapes, running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import ops


def parameters(**options):
  """The parameters' shapes by path, and their number."""
  module = models.build(**options)
  with ops.use('plain'):
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 19, 19, 17)))
  leaves = jax.tree_util.tree_leaves_with_path(variables['params'])
  shapes = {jax.tree_util.keystr(k, simple=True, separator='/'): x.shape for k, x in leaves}
  return shapes, sum(int(np.prod(shape)) for shape in shapes.values())


@pytest.mark.parametrize(('name', 'blocks'), [('alphago_zero20', 19), ('alphago_zero40', 39)])
def test_the_published_networks_by_hand(name, blocks):
  """Convolutions have no bias before BatchNorm, which has two numbers a channel."""
  shapes, total = parameters(name=name, num_actions=362)
  tower = 17 * 9 * 256 + 2 * 256 + blocks * 2 * (256 * 9 * 256 + 2 * 256)
  policy = 256 * 2 + 2 * 2 + (2 * 361 + 1) * 362
  value = 256 * 1 + 2 * 1 + (361 + 1) * 256 + 257
  assert total == tower + policy + value
  kernels = [shape for shape in shapes.values() if shape[:2] == (3, 3)]
  assert len(kernels) == 1 + 2 * blocks


def network(**options):
  module = models.build('policy_value', num_actions=26, blocks=1, channels=8, **options)
  planes = jax.random.bernoulli(jax.random.key(1), 0.3, (6, 5, 5, 4))
  return module, module.init(jax.random.key(0), planes), planes


@pytest.mark.long
def test_logits_values_and_extras():
  module, variables, planes = network(ownership=True, score=True)
  logits, values, extras = module.apply(variables, planes)
  assert (logits.shape, values.shape) == ((6, 26), (6,))
  assert (extras['ownership'].shape, extras['score'].shape) == ((6, 5, 5), (6,))
  assert (jnp.abs(values) <= 1).all() and (jnp.abs(extras['ownership']) <= 1).all()
  assert logits.dtype == values.dtype == jnp.float32
  assert network()[0].apply(network()[1], planes)[2] == {}


def test_bool_planes_are_numbers():
  module, variables, planes = network()
  for a, b in zip(
    module.apply(variables, planes)[:2],
    module.apply(variables, planes.astype(jnp.float32))[:2],
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)


@pytest.mark.long
def test_alone_or_in_a_batch_a_position_is_worth_the_same():
  """In play BatchNorm uses running averages; in training what the batch says."""
  module, variables, planes = network()
  together, alone = module.apply(variables, planes), module.apply(variables, planes[:1])
  np.testing.assert_allclose(together[0][:1], alone[0], atol=1e-5)
  trained = module.apply(variables, planes, train=True, mutable=['batch_stats'])
  assert not np.allclose(trained[0][0], together[0], atol=1e-3)
  moved = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).max()), trained[1]['batch_stats'], variables['batch_stats']
  )
  assert min(jax.tree.leaves(jax.tree.map(float, moved))) > 0


def test_what_is_no_choice_is_refused():
  with pytest.raises(ValueError, match=r'model\.statistics'):
    network(statistics='none')
