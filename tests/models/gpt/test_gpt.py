"""The language model against what was published, a direct computation, and itself decoded."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import gpt, ops
from models.gpt import GPT
from tests.models.gpt.small_gpt import VARIANTS, draw, loss_and_gradients, run, small, start

# -------- as published --------


@pytest.mark.parametrize(
  'size, parameters',
  [
    ('gpt2', 124_439_808),
    ('gpt2_medium', 354_823_168),
    ('gpt2_large', 774_030_080),
    ('gpt2_xl', 1_557_611_200),
  ],
)
def test_sizes_have_the_published_parameters(size, parameters):
  model = GPT(**gpt.SIZES[size])
  variables = jax.eval_shape(model.init, jax.random.key(0), draw(1, 8))
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters
  assert gpt.num_params(model) == parameters
  embeddings = (50_257 + 1024) * model.width
  assert gpt.num_params(model, embeddings=False) == parameters - embeddings


@pytest.mark.parametrize('name', VARIANTS)
def test_counts_are_those_of_the_variables_and_every_parameter_names_its_axes(name):
  model = small(**VARIANTS[name])
  variables = jax.eval_shape(model.init, jax.random.key(0), draw(1, 8))
  assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == gpt.num_params(model)
  boxes = jax.tree.leaves(variables, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))
  assert all(len(box.names) == box.value.ndim for box in boxes)


def test_work_of_a_token_is_six_per_weight_and_full_attention():
  model = GPT(**gpt.SIZES['gpt2'])
  kernels = 12 * 12 * 768**2 + 50_257 * 768
  assert gpt.flops_per_token(model, 1024) == 6 * kernels + 12 * 12 * 768 * 1024


def test_initial_values_are_as_published():
  model = small(layers=8, width=64, vocab_size=500, block_size=200)
  params = nn.unbox(jax.jit(model.init)(jax.random.key(0), draw(1, 8)))['params']
  blocks = params['blocks']
  for name in ('query', 'key', 'value', 'up'):
    np.testing.assert_allclose(blocks[name]['kernel'].std(), 0.02, rtol=0.05)
  for name in ('out', 'down'):
    np.testing.assert_allclose(blocks[name]['kernel'].std(), 0.02 / 4, rtol=0.05)
  for name in ('token_embed', 'position_embed'):
    np.testing.assert_allclose(params[name]['embedding'].std(), 0.02, rtol=0.05)
  assert np.all(blocks['norm1']['scale'] == 1) and np.all(blocks['up']['bias'] == 0)
  assert np.any(blocks['up']['kernel'][0] != blocks['up']['kernel'][1])


def direct_logits(variables, tokens, heads):
  """GPT-2 in NumPy, one sequence and one head at a time."""
  params = jax.tree.map(np.asarray, variables['params'])

  def norm(x, p):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * p['scale'] + p['bias']

  def dense(x, p):
    return x @ p['kernel'] + p['bias']

  def attend(q, k, v):
    scores = q @ k.T / np.sqrt(q.shape[-1])
    scores = np.where(np.tri(len(q), dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v

  x = (
    params['token_embed']['embedding'][tokens]
    + params['position_embed']['embedding'][: len(tokens)]
  )
  for i in range(len(params['blocks']['up']['bias'])):
    p = jax.tree.map(lambda leaf, i=i: leaf[i], params['blocks'])
    h = norm(x, p['norm1'])
    q, k, v = (np.split(dense(h, p[name]), heads, axis=-1) for name in ('query', 'key', 'value'))
    y = np.concatenate([attend(*head) for head in zip(q, k, v, strict=True)], axis=-1)
    x = x + dense(y, p['out'])
    h = dense(norm(x, p['norm2']), p['up'])
    h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    x = x + dense(h, p['down'])
  return norm(x, params['final_norm']) @ params['token_embed']['embedding'].T


@pytest.mark.parametrize('formulation', ops.FORMULATIONS)
def test_logits_are_those_of_a_direct_computation(formulation):
  model, tokens = small(scan=None), draw(2, 20)
  with ops.use(formulation):
    logits = jax.jit(lambda v: model.apply(v, tokens))(start(model))
  for row, found in zip(tokens, logits, strict=True):
    np.testing.assert_allclose(found, direct_logits(start(model), row, 4), atol=1e-5)


# -------- decoding --------


@pytest.mark.long
@pytest.mark.parametrize(
  'name, scan', [(name, True) for name in VARIANTS] + [('gpt2', False), ('modern', False)]
)
def test_decoding_with_a_cache_gives_the_logits_of_whole_sequences(name, scan):
  model = small(scan=scan, **VARIANTS[name])
  tokens = draw(2, 15)
  decode = jax.jit(functools.partial(model.apply, method='decode'))
  cache, found = model.init_cache(2, 20), []
  for begin, end in ((0, 13), (13, 14), (14, 15)):
    logits, cache = decode(start(model), tokens[:, begin:end], cache)
    found.append(logits)
  np.testing.assert_allclose(np.concatenate(found, axis=1), run(model, tokens), atol=3e-6)
  assert cache.end == 15 and cache.keys.shape == (2, 2, 20, model.kv_heads or 4, 4)


@pytest.mark.long
@pytest.mark.parametrize('name', ['gpt2', 'modern'])
def test_left_padded_prompts_of_unequal_length_decode_as_if_alone(name):
  model = small(**VARIANTS[name])
  prompts, more = [draw(n, seed=n) for n in (3, 9, 1)], draw(3, 4, seed=7)
  padded = np.stack([np.concatenate([draw(9 - len(p), seed=1), p]) for p in prompts])
  lengths = np.array([9 - len(p) for p in prompts], np.int32)
  cache = dataclasses.replace(model.init_cache(3, 16), start=jnp.asarray(lengths))
  decode = jax.jit(functools.partial(model.apply, method='decode'))
  first, cache = decode(start(model), padded, cache)
  second, cache = decode(start(model), more, cache)
  for i, prompt in enumerate(prompts):
    whole = run(model, np.concatenate([prompt, more[i]])[None])[0]
    found = np.concatenate([first[i, 9 - len(prompt) :], second[i]])
    np.testing.assert_allclose(found, whole, atol=3e-6)
  assert np.all(np.isfinite(first))


def test_learned_positions_beyond_the_block_are_not_numbers():
  model = small(block_size=6)
  logits, _ = model.apply(start(model), draw(1, 8), model.init_cache(1, 8), method='decode')
  assert np.all(np.isfinite(logits[:, :6])) and np.all(np.isnan(logits[:, 6:]))


def test_a_cache_in_half_precision_is_close():
  model, tokens = small(), draw(1, 8)
  cache = model.init_cache(1, 8, 'bfloat16')
  logits, cache = model.apply(start(model), tokens, cache, method='decode')
  assert cache.keys.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, run(model, tokens), atol=0.1)


# -------- refusals --------


@pytest.mark.parametrize(
  'kwargs, message',
  [
    ({'positions': 'alibi'}, "model.positions='alibi': choose from learned, rope"),
    ({'norm': 'batch'}, "model.norm='batch': choose from layer, rms"),
    ({'mlp': 'relu'}, "model.mlp='relu': choose from gelu, swiglu"),
    ({'attention': 'flash'}, "model.attention='flash': choose from auto, explicit, fused"),
    ({'remat': 'all'}, "model.remat='all': choose from none, block, dots"),
    ({'dtype': 'int8'}, "model.dtype='int8': choose from float32, bfloat16"),
    ({'heads': 3}, 'model.heads=3: must divide model.width=16'),
    ({'kv_heads': 3}, 'model.kv_heads=3: must divide model.heads=4'),
    ({'kv_heads': 0}, 'model.kv_heads=0: at least 1'),
    ({'layers': 0}, 'model.layers=0: at least 1'),
    ({'positions': 'rope', 'heads': 16}, 'heads are 1 wide; an even width is needed'),
    ({'dropout': 1.0}, 'model.dropout=1.0: from 0 to below 1'),
    ({'softcap': -1.0}, 'model.softcap=-1.0: positive, or 0 for none'),
    ({'dropout': 0.1, 'attention': 'fused'}, "attention='fused' drops no weights; choose auto"),
  ],
)
def test_errors_name_value_and_choices(kwargs, message):
  with pytest.raises(ValueError, match=message):
    small(**kwargs)


def test_more_tokens_than_the_block_and_negative_chunks_are_refused():
  with pytest.raises(ValueError, match=r'25 tokens: model.block_size=24 is the most'):
    small().apply(start(small()), draw(1, 25))
  with pytest.raises(ValueError, match='chunk=-1: a number of positions, or 0 for all'):
    loss_and_gradients(small(), draw(1, 5), chunk=-1)
