"""Smoothed labels: the loss by its definition, its gradient, and on a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.gpt.loss import chunked_cross_entropy, smoothed_cross_entropy
from train import mesh as mesh_lib

RNG = np.random.default_rng(0)
HIDDEN = RNG.normal(size=(4, 6, 8)).astype(np.float32)
HEAD = RNG.normal(size=(16, 8)).astype(np.float32)
TARGETS = RNG.integers(16, size=(4, 6)).astype(np.int32)
WEIGHTS = (RNG.random((4, 6)) < 0.7).astype(np.float32)


def plainly(hidden, head, smoothing):
  log_p = jax.nn.log_softmax(jnp.einsum('btd,vd->btv', hidden, head))
  label = (1 - smoothing) * jax.nn.one_hot(TARGETS, 16) + smoothing / 16
  return -(WEIGHTS[..., None] * label * log_p).sum()


@pytest.mark.long
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('chunk', [0, 4])
def test_it_is_the_cross_entropy_with_the_smoothed_label(smoothing, chunk):
  ours = functools.partial(smoothed_cross_entropy, smoothing=smoothing, chunk=chunk)
  loss, nats, weight = ours(HIDDEN, HEAD, TARGETS, WEIGHTS)
  assert loss == pytest.approx(float(plainly(HIDDEN, HEAD, smoothing)), rel=1e-5)
  assert nats == pytest.approx(float(plainly(HIDDEN, HEAD, 0.0)), rel=1e-5)
  assert weight == WEIGHTS.sum()
  assert nats == chunked_cross_entropy(HIDDEN, HEAD, TARGETS, WEIGHTS, chunk)[0]

  def objective(hidden, head):
    loss, nats, _ = ours(hidden, head, TARGETS, WEIGHTS)
    return loss + 3 * nats  # of which the second has no gradient

  found = jax.grad(objective, (0, 1))(HIDDEN, HEAD)
  expected = jax.grad(functools.partial(plainly, smoothing=smoothing), (0, 1))(HIDDEN, HEAD)
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize('layout', [(2, 2, 2), (1, 1, 8)], ids=str)
def test_devices_that_share_the_vocabulary_get_the_same(layout):
  mesh = mesh_lib.make_mesh(*layout)

  def objective(hidden, head):
    return smoothed_cross_entropy(hidden, head, TARGETS, WEIGHTS, 0.1)[:2]

  def both(hidden, head):
    sums, pull = jax.vjp(objective, hidden, head)
    return sums, pull((jnp.ones(()), jnp.zeros(())))

  expected = jax.jit(both)(HIDDEN, HEAD)
  with mesh_lib.activate(mesh):
    found = jax.jit(both)(HIDDEN, HEAD)
  for a, b in zip(*map(jax.tree.leaves, (expected, found)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
