"""The language model in other forms: scanned, in chunks, packed, on several devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models import gpt
from models.gpt import loss as loss_lib
from tests.models.gpt.small_gpt import (
  VARIANTS,
  assert_close,
  draw,
  loss_and_gradients,
  normals,
  run,
  small,
  start,
)

# -------- the same in other forms --------


@functools.cache
def plain_loss_and_gradients():
  return loss_and_gradients(small(scan=False, **VARIANTS['modern']), draw(2, 17))


@pytest.mark.long
@pytest.mark.parametrize('scan, remat', [(True, 'none'), (True, 'block'), (False, 'dots')])
def test_scan_and_remat_change_no_loss_and_no_gradient(scan, remat):
  other = loss_and_gradients(small(scan=scan, remat=remat, **VARIANTS['modern']), draw(2, 17))
  assert_close(plain_loss_and_gradients(), other)


def test_remat_keeps_less_for_the_backward_pass():
  def kept(remat):
    model = small(layers=4, remat=remat)
    function = functools.partial(model.apply, tokens=draw(2, 17), method='hidden')
    pull = jax.eval_shape(lambda v: jax.vjp(function, v)[1], start(model))
    return sum(leaf.size for leaf in jax.tree.leaves(pull))

  assert kept('block') < kept('dots') < kept('none')


@pytest.mark.long
@pytest.mark.parametrize('chunk', [0, 1, 5, 8, 99])
@pytest.mark.parametrize('softcap', [0.0, 1.5])
def test_chunks_change_no_loss_and_no_gradient(softcap, chunk):
  hidden, head, targets = normals(2, 16, 8), normals(31, 8, seed=1), draw(2, 16)
  weights = normals(2, 16, seed=3) ** 2

  def whole(hidden, head):
    logits = loss_lib.logits(hidden, head, softcap)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return (nats * weights).sum() / weights.sum()

  def chunked(hidden, head):
    nats, total = gpt.chunked_cross_entropy(hidden, head, targets, weights, chunk, softcap)
    return nats / total

  one, other = (
    jax.jit(jax.value_and_grad(function, (0, 1)))(hidden, head) for function in (whole, chunked)
  )
  assert_close(one, other)
  np.testing.assert_allclose(jax.jit(chunked)(hidden, head), other[0], rtol=1e-6)


def test_chunked_loss_never_holds_all_logits():
  hidden, head, tokens = normals(2, 64, 8), normals(500, 8), draw(2, 64)

  def loss(hidden, head):
    return gpt.chunked_cross_entropy(hidden, head, tokens, np.ones((2, 64)), 4)[0]

  text = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, head).as_text()
  assert '2x4x500' in text and '2x64x500' not in text and '128x500' not in text


@pytest.mark.long
@pytest.mark.parametrize('name', ['gpt2', 'modern'])
def test_packed_documents_are_computed_as_if_alone(name):
  model = small(**VARIANTS[name])
  documents = [draw(1, n, seed=i) for i, n in enumerate((6, 11, 6))]
  tokens = np.concatenate(documents, axis=1)
  segments = np.repeat([4, 1, 9], [6, 11, 6])[None].astype(np.int32)
  packed = run(model, tokens, segments=segments)
  alone = np.concatenate([run(model, document) for document in documents], axis=1)
  np.testing.assert_allclose(packed, alone, atol=2e-6)
  assert np.abs(packed - run(model, tokens)).max() > 1e-3


# -------- several devices --------


@pytest.mark.long
@pytest.mark.parametrize('sizes, scan', [((1, 8, 1), True), ((2, 2, 2), False)])
def test_sharded_losses_and_gradients_are_those_of_one_device(sizes, scan):
  model = small(kv_heads=2, vocab_size=32, scan=scan)
  tokens = draw(8, 9)
  mesh = jax.make_mesh(sizes, ('data', 'fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 3)
  rules = {'vocab': 'tensor', 'width': 'fsdp', 'mlp': 'tensor', 'heads': 'tensor'}
  boxed = jax.eval_shape(model.init, jax.random.key(0), tokens)

  def place(box, value):
    axes = [rules.get(name) for name in box.names]
    fits = [
      a if a and n % mesh.shape[a] == 0 else None for a, n in zip(axes, value.shape, strict=True)
    ]
    return jax.device_put(value, NamedSharding(mesh, PartitionSpec(*fits)))

  def loss(variables, tokens):
    weights = jnp.ones((8, 8))
    return model.apply(variables, tokens[:, :-1], tokens[:, 1:], weights, chunk=6, method='loss')[0]

  is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
  variables = jax.tree.map(place, boxed, start(model), is_leaf=is_box)
  with jax.set_mesh(mesh):
    batch = jax.device_put(tokens, NamedSharding(mesh, PartitionSpec(('data', 'fsdp'))))
    many = jax.jit(jax.value_and_grad(loss))(variables, batch)
  one = jax.jit(jax.value_and_grad(loss))(start(model), tokens)
  assert_close(many, one, atol=2e-4)


@pytest.mark.long
def test_a_replica_a_device_gives_the_gradients_of_one():
  model, tokens = small(), draw(8, 17)

  def loss(variables, tokens):
    weights = jnp.ones((len(tokens), 16))
    sums = model.apply(variables, tokens[:, :-1], tokens[:, 1:], weights, chunk=6, method='loss')
    return sums[0] / sums[1]

  def replica(variables, tokens):
    return jax.value_and_grad(lambda v: jax.lax.pmean(loss(v, tokens), 'data'))(variables)

  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  spec = PartitionSpec('data')
  many = jax.shard_map(
    replica, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=PartitionSpec()
  )
  one = jax.jit(jax.value_and_grad(loss))(start(model), tokens)
  assert_close(jax.jit(many)(start(model), tokens), one)
