"""Embeddings with more rows than there are tokens: nothing that is computed may see the others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import forms
from models.gpt import GPT, generation, huggingface, sampling, unboxed
from train import mesh as mesh_lib

PLAIN = GPT(37, block_size=16, layers=2, heads=2, width=16)
PADDED = PLAIN.clone(vocab_multiple=64)
TOKENS = np.random.default_rng(0).integers(37, size=(3, 9), dtype=np.int32)
WEIGHTS = np.random.default_rng(1).random((3, 9), np.float32)


def start(model):
  return unboxed(jax.jit(model.init)(jax.random.key(0), TOKENS))


def padded(variables, value):
  """The same with 27 rows more in each embedding of tokens."""
  params = dict(variables['params'])
  for name in {'token_embed', 'head'} & params.keys():
    rows = jnp.pad(params[name]['embedding'], ((0, 27), (0, 0)), constant_values=value)
    params[name] = {'embedding': rows}
  return {'params': params}


@pytest.mark.long
@pytest.mark.parametrize('kwargs', [{}, {'tied': False, 'softcap': 0.5}], ids=['tied', 'softcap'])
@pytest.mark.parametrize('chunk', [0, 4])
def test_losses_gradients_and_logits_are_those_without_the_rows(kwargs, chunk):
  plain, more = PLAIN.clone(**kwargs), PADDED.clone(**kwargs)
  variables = start(plain)
  wide = padded(variables, 3.0)  # they would win, if they could
  assert more.apply(wide, TOKENS).shape == (3, 9, 37)
  np.testing.assert_allclose(more.apply(wide, TOKENS), plain.apply(variables, TOKENS), atol=1e-6)

  def loss(model, variables):
    targets = (TOKENS + 1) % 37
    args = TOKENS, targets, WEIGHTS
    return model.apply(variables, *args, chunk=chunk, method='loss')[0]

  value, slopes = jax.value_and_grad(functools.partial(loss, plain))(variables)
  other, wide_slopes = jax.value_and_grad(functools.partial(loss, more))(wide)
  assert other == pytest.approx(float(value), abs=1e-4)
  np.testing.assert_allclose(loss(more, wide), value, rtol=1e-6)  # where no gradient is wanted
  expected = padded(slopes, 0.0)
  for a, b in zip(jax.tree.leaves(wide_slopes), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize('form', forms.FORMULATIONS)
def test_no_row_without_a_token_is_ever_drawn(form):
  wide = padded(start(PLAIN), 9.0)
  hot = sampling.Sampling(temperature=50.0)
  with forms.use(form):
    draws = generation.generate(
      PADDED, wide, [[1], [2, 3]] * 8, jax.random.key(0), max_tokens=20, sampling=hot
    )
    made = np.concatenate(list(draws), axis=1)
  assert made.max() < 37 and len(np.unique(made)) > 30


def test_the_rows_are_shared_by_devices():
  mesh = mesh_lib.make_mesh(1, 1, 8)
  for model, spec in ((PADDED, ('tensor',)), (PLAIN, (None,))):
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    shardings = mesh_lib.shardings(shapes, mesh)
    assert shardings['params']['token_embed']['embedding'].spec[:1] == spec


def test_the_rows_are_cut_at_export(tmp_path):
  variables = start(PLAIN)
  huggingface.to_hf(PADDED, padded(variables, 9.0), tmp_path)
  model, back = huggingface.from_hf(tmp_path)
  assert model.vocab_size == 37 and model.vocab_multiple == 1
  np.testing.assert_array_equal(
    back['params']['token_embed']['embedding'], variables['params']['token_embed']['embedding']
  )


def test_a_multiple_is_at_least_one():
  with pytest.raises(ValueError, match=r'vocab_multiple=0: at least 1'):
    PLAIN.clone(vocab_multiple=0)
