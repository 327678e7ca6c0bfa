"""What only a CPU is given of a language model equals its plain form, in values and gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import attention, ops, transformer
from models.cpu import text as cpu_text


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def values_and_gradients(function, *arguments):
  """The function's value, and the gradients of a sum that weighs every number differently."""

  def weighed(*arguments):
    y = function(*arguments)
    return (y * normal(99, *y.shape)).sum(), y

  numbers = tuple(range(len(arguments)))
  grads, y = jax.jit(jax.grad(weighed, numbers, has_aux=True))(*arguments)
  return y, *grads


def assert_equal(function, other, *arguments):
  ours, theirs = (values_and_gradients(f, *arguments) for f in (function, other))
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(jnp.abs(b).max()))


def plain(function):
  def run(*arguments):
    with ops.use('plain'):
      return function(*arguments)

  return run


@pytest.mark.long
@pytest.mark.parametrize('norm', ['layer', 'rms'])
@pytest.mark.parametrize('bias', [False, True])
def test_norms(norm, bias):
  x, scale, shift = 3 * normal(0, 2, 5, 24) + 1, normal(1, 24), normal(2, 24)

  def run(x, scale, shift):
    return transformer.NORMS[norm](x, {'scale': scale} | ({'bias': shift} if bias else {}))

  with ops.use('cpu'):
    assert_equal(run, plain(run), x, scale, shift)


# Whole; blocks of 32 queries; of 34, the last one shorter; of 48, maxima by registers.
@pytest.mark.long
@pytest.mark.parametrize(
  'length, kv_heads, packed', [(20, 4, True), (128, 2, False), (135, 4, False), (192, 2, True)]
)
def test_attention(length, kv_heads, packed):
  q = 2 * normal(0, 2, length, 4, 8)
  k, v = (normal(seed, 2, length, kv_heads, 8) for seed in (1, 2))
  segments = jnp.cumsum(normal(3, 2, length) > 1.5, axis=1, dtype=jnp.int32) if packed else None

  def run(q, k, v):
    return attention.causal(q, k, v, segments)

  with ops.use('cpu'):
    assert_equal(run, plain(run), q, k, v)


def test_large_scores_neither_overflow_nor_vanish():
  q, v = 1e3 * normal(0, 1, 40, 1, 8), normal(1, 1, 40, 1, 8)
  with ops.use('cpu'):
    ours = attention.causal(q, q, v)
  assert jnp.isfinite(ours).all()
  np.testing.assert_allclose(ours, plain(attention.causal)(q, q, v), rtol=1e-5)


def test_a_cpu_computes_no_scores_of_blocks_to_come():
  q, whole = normal(0, 1, 256, 2, 8), {}
  for form in ops.FORMULATIONS:
    with ops.use(form):
      jaxpr = jax.make_jaxpr(lambda q: attention.causal(q, q, q))(q)
    whole[form] = re.search(r'f32\[[0-9,]*256,256\]', str(jaxpr)) is not None
  assert whole == {'cpu': False, 'plain': True}


def test_half_precision_comes_back_as_it_was():
  q = normal(0, 1, 8, 2, 4).astype(jnp.bfloat16)
  with ops.use('cpu'):
    y = attention.causal(q, q, q)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    y.astype(jnp.float32),
    cpu_text.attend(*[q.astype(jnp.float32)] * 3, jnp.tri(8)[None] > 0),
    atol=0.02,
  )
