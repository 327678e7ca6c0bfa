"""What the language model is made of: norms, GELU, rotary positions, attention, dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import attention, ops, transformer
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


@pytest.mark.long
def test_half_precision_gives_float32_logits_and_gradients_to_every_parameter():
  model = small(dtype='bfloat16', **VARIANTS['modern'])
  tokens = draw(3, 25)
  tokens[0, :24] = np.arange(24)
  nats, gradients = loss_and_gradients(model, tokens, chunk=10)
  assert np.isfinite(nats) and nats.dtype == jnp.float32
  assert all(np.any(leaf) and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
  logits = run(model, tokens[:, :-1])
  assert logits.dtype == jnp.float32 and logits.shape == (3, 24, 31)
  exact = run(model.clone(dtype='float32'), tokens[:, :-1])
  assert 0 < np.abs(logits - exact).mean() < 0.05


def test_a_softcap_bounds_the_logits_and_keeps_their_order():
  tokens = draw(2, 12)
  logits, capped = run(small(), tokens), run(small(softcap=2.0), tokens)
  np.testing.assert_allclose(capped, 2 * np.tanh(logits / 2), atol=1e-5)


@pytest.mark.parametrize('name', ['gpt2', 'modern'])
def test_later_tokens_do_not_change_earlier_logits(name):
  model, tokens = small(**VARIANTS[name]), draw(1, 16)
  other = np.concatenate([tokens[:, :9], (tokens[:, 9:] + 1) % 31], axis=1)
  one, two = run(model, tokens), run(model, other)
  np.testing.assert_allclose(one[:, :9], two[:, :9], atol=1e-6)
  assert np.all(np.abs(one[:, 9:] - two[:, 9:]).max(-1) > 1e-4)


def test_rotary_scores_depend_on_distances_alone():
  q, k = normals(1, 6, 2, 8), normals(1, 6, 2, 8, seed=1)

  def scores(shift):
    positions = np.arange(6)[None] + shift
    return jnp.einsum('bthd,bshd->bhts', *(attention.rotate(x, positions) for x in (q, k)))

  np.testing.assert_allclose(scores(0), scores(100), atol=1e-4)
  assert np.abs(scores(0) - jnp.einsum('bthd,bshd->bhts', q, k)).max() > 0.1


def test_rotary_positions_turn_pairs_by_powers_of_the_base():
  x = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 1, 4)
  pairs = np.array([1 + 3j, 2 + 4j]) * np.exp(1j * 5 * 10_000.0 ** -np.array([0, 0.5]))
  turned = np.ravel(attention.rotate(x, np.array([[5]])))
  np.testing.assert_allclose(turned, [*pairs.real, *pairs.imag], rtol=1e-5)


def test_grouped_queries_are_heads_with_repeated_keys_and_values():
  few, many = small(kv_heads=2), small()
  params = dict(start(few)['params'])
  repeated = {
    name: jax.tree.map(
      lambda x: np.repeat(x.reshape(*x.shape[:-1], 2, 4), 2, axis=-2).reshape(*x.shape[:-1], 16), p
    )
    for name, p in params['blocks'].items()
    if name in ('key', 'value')
  }
  params['blocks'] = {**params['blocks'], **repeated}
  tokens = draw(2, 12)
  np.testing.assert_allclose(
    run(few, tokens), run(many, tokens, {'params': params}), rtol=1e-5, atol=1e-6
  )


def test_as_many_kv_heads_as_heads_is_the_usual_attention():
  tokens = draw(2, 12)
  np.testing.assert_array_equal(run(small(kv_heads=4), tokens), run(small(), tokens))


def test_rms_norm_divides_by_the_root_of_the_mean_square():
  x, scale = normals(3, 5), normals(5, seed=1)
  wanted = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale
  np.testing.assert_allclose(transformer.rms_norm(x, {'scale': scale}), wanted, rtol=1e-5)


@pytest.mark.parametrize('formulation', ops.FORMULATIONS)
def test_gelu_and_its_slope_are_those_of_jax(formulation):
  x = np.linspace(-5, 5, 101, dtype=np.float32)
  with ops.use(formulation):
    values, pull = jax.vjp(transformer.gelu, x)
  wanted, pull_wanted = jax.vjp(functools.partial(jax.nn.gelu, approximate=True), x)
  np.testing.assert_allclose(values, wanted, atol=1e-6)
  np.testing.assert_allclose(pull(x)[0], pull_wanted(x)[0], atol=1e-5)


# -------- attention --------


@pytest.mark.long
@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('length', [7, 150])
@pytest.mark.parametrize('formulation', ops.FORMULATIONS)
def test_explicit_attention_is_that_of_jax(packed, length, formulation):
  q, k, v = (
    normals(2, length, 4, 8),
    normals(2, length, 2, 8, seed=1),
    normals(2, length, 2, 8, seed=2),
  )
  segments = np.sort(draw(2, length, high=3), axis=1) if packed else None

  def value(form, q, k, v):
    with ops.use(formulation):
      out = attention.causal(q, k, v, segments, form=form)
    return (out * normals(*q.shape, seed=3)).sum(), out

  one, other = (
    jax.jit(jax.value_and_grad(functools.partial(value, form), (0, 1, 2), has_aux=True))(q, k, v)
    for form in ('explicit', 'fused')
  )
  assert_close(one[0][1], other[0][1])
  assert_close(one[1], other[1], atol=2e-5)


def test_dropped_weights_and_units_are_random_in_training_alone():
  model, tokens = small(dropout=0.5), draw(2, 12)
  plain = run(small(), tokens)
  np.testing.assert_array_equal(run(model, tokens), plain)

  one, same, other = (
    run(model, tokens, train=True, rngs={'dropout': jax.random.key(i)}) for i in (0, 0, 1)
  )
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).max() > 0.1 and np.abs(one - plain).max() > 0.1


def test_dropout_keeps_the_mean_and_drops_at_its_rate():
  x = transformer.dropout(jnp.ones((100, 100)), 0.2, jax.random.key(0))
  assert set(np.unique(x)) == {0.0, 1.25}
  assert abs((np.asarray(x) == 0).mean() - 0.2) < 0.02


def test_layers_and_places_drop_different_units():
  model, rngs = small(dropout=0.5), {'dropout': jax.random.key(0)}
  drop = model.apply(start(model), True, method='make_dropout', rngs=rngs)
  masks = [np.asarray(drop(*where, jnp.ones(64))) for where in ((0, 0), (0, 1), (1, 0), (1, 1))]
  assert len({mask.tobytes() for mask in masks}) == 4


def test_scanned_layers_drop_what_unrolled_ones_do():
  tokens, rngs = draw(1, 8), {'dropout': jax.random.key(0)}
  scanned, unrolled = (
    run(small(dropout=0.5, scan=scan), tokens, train=True, rngs=rngs) for scan in (True, False)
  )
  np.testing.assert_allclose(scanned, unrolled, atol=1e-5)
