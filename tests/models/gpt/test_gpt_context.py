"""Texts whose tokens are shared by the devices of `context`: the same numbers as on one device."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import attention
from models.gpt import context
from tests.models.gpt.small_gpt import VARIANTS, draw, normals, small, start
from train import mesh as mesh_lib

interpreted = functools.partial(context.splash, interpret=True)
MESHES = [(2, 1, 1, 4), (1, 2, 2, 2), (1, 1, 1, 8), (8, 1, 1, 1)]
ONE = (1, 1, 1, 1)


def lowered(model, sizes, tokens, segments=None, chunk=3, rngs=None):
  """A program of loss and gradients, and what it takes."""
  mesh = mesh_lib.make_mesh(*sizes, devices=jax.devices()[: np.prod(sizes)])
  variables = start(model)

  def loss(variables, tokens, segments):
    rows = tokens[:, :-1], tokens[:, 1:], jnp.ones((len(tokens), tokens.shape[1] - 1))
    more = {'segments': segments, 'rngs': rngs, 'train': rngs is not None}
    nats, weight = model.apply(variables, *rows, chunk=chunk, method='loss', **more)
    return nats / weight

  with mesh_lib.activate(mesh):
    boxed = jax.eval_shape(model.init, jax.random.key(0), tokens[:, :-1])
    variables = jax.device_put(variables, mesh_lib.shardings(boxed, mesh))
    arrays = jax.device_put((tokens, segments), mesh_lib.batch_sharding(mesh))
    return jax.jit(jax.value_and_grad(loss)).lower(variables, *arrays), (variables, *arrays)


def loss_and_gradients(*args, **kwargs):
  program, arrays = lowered(*args, **kwargs)
  return jax.device_get(program.compile()(*arrays))


@functools.cache
def of_one_device():
  return loss_and_gradients(small(vocab_size=32), ONE, draw(8, 17))


def assert_same(one, other, atol=1e-6):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.long
@pytest.mark.parametrize('sizes', MESHES, ids=str)
def test_losses_and_gradients_are_those_of_one_device(sizes):
  assert_same(of_one_device(), loss_and_gradients(small(vocab_size=32), sizes, draw(8, 17)))


@pytest.mark.long
@pytest.mark.parametrize('sizes', [(2, 1, 1, 4), (1, 2, 2, 2)], ids=str)
def test_packed_documents_are_those_of_one_device(sizes):
  model, tokens = small(**VARIANTS['modern']), draw(4, 17)
  segments = np.repeat([[1, 2, 3]], [5, 3, 8], axis=1).repeat(4, axis=0).astype(np.int32)
  one = loss_and_gradients(model, ONE, tokens, segments)
  assert_same(one, loss_and_gradients(model, sizes, tokens, segments), atol=3e-6)
  assert abs(one[0] - loss_and_gradients(model, ONE, tokens)[0]) > 1e-4


@pytest.mark.long
def test_dropout_drops_what_it_drops_on_one_device():
  model, tokens = small(dropout=0.3), draw(2, 17)
  rngs = {'dropout': jax.random.key(1)}
  one, many = (loss_and_gradients(model, sizes, tokens, rngs=rngs) for sizes in (ONE, (2, 1, 1, 4)))
  assert_same(one, many)
  assert abs(one[0] - loss_and_gradients(model, ONE, tokens)[0]) > 1e-3


@pytest.mark.long
def test_a_length_that_cannot_be_shared_is_computed_whole():
  tokens = draw(2, 16)
  one, many = (loss_and_gradients(small(), sizes, tokens) for sizes in (ONE, (1, 1, 1, 2)))
  assert_same(one, many)


@pytest.mark.long
@pytest.mark.parametrize('sizes', [(1, 1, 1, 4), (1, 1, 2, 4)], ids=str)
def test_no_device_holds_all_tokens_but_of_its_heads(sizes):
  """Of 256 tokens a device of 4 has 64; of all tokens it has some heads."""
  model = small(
    block_size=256, positions='rope', heads=8, width=48, dtype='bfloat16', vocab_size=37
  )
  program, _ = lowered(model, sizes, draw(sizes[0], 257), chunk=32)
  text = program.compile().as_text()
  shapes = {tuple(map(int, found.split(','))) for found in re.findall(r'\w\[([\d,]+)\]', text)}
  assert any({64, 48} <= {*shape} for shape in shapes)  # activations
  whole = [shape for shape in shapes if 256 in shape]
  assert any({256, 6} <= {*shape} for shape in whole)  # keys
  # No activations, hidden units or logits of all tokens, and no scores but a block's.
  assert not [shape for shape in whole if {48, 192, 37} & {*shape} or shape.count(256) > 1]
  assert 'all-to-all' in text and 'all-gather' not in text


@pytest.mark.long
@pytest.mark.parametrize(
  'form, length',
  [*((context.blockwise, n) for n in (1, 5, 300)), (interpreted, 256)],
)
@pytest.mark.parametrize('kv_heads', [1, 4])
def test_attention_without_all_scores_is_attention(form, length, kv_heads):
  q, k, v = (normals(2, length, h, 8, seed=h) for h in (4, kv_heads, kv_heads))
  segments = np.sort(draw(2, length, high=3), axis=1)
  for packed in (None, segments):
    mask = attention.causal_mask(length, packed)

    def whole(q, k, v, mask=mask):
      return jnp.square(attention.explicit(q, k, v, mask)).sum()

    def in_parts(q, k, v, packed=packed):
      return jnp.square(form(q, k, v, packed)).sum()

    one, other = (jax.jit(jax.value_and_grad(f, (0, 1, 2)))(q, k, v) for f in (whole, in_parts))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), one, other)
