"""The language model against what was published, direct computations, and itself in other forms."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from models import attention, gpt, gpt_parts, ops
from models.gpt import GPT

VARIANTS = {
  'gpt2': {},
  'rope': {'positions': 'rope'},
  'rms': {'norm': 'rms'},
  'swiglu': {'mlp': 'swiglu'},
  'grouped': {'kv_heads': 2},
  'no_bias': {'bias': False},
  'qk_norm': {'qk_norm': True},
  'softcap': {'softcap': 2.0},
  'untied': {'tied': False},
  'modern': {
    'positions': 'rope',
    'norm': 'rms',
    'mlp': 'swiglu',
    'kv_heads': 1,
    'bias': False,
    'qk_norm': True,
    'softcap': 2.0,
    'tied': False,
  },
}


def small(**kwargs):
  """Scanned unless said, since one layer compiles sooner than two."""
  sizes = dict(vocab_size=31, block_size=24, layers=2, heads=4, width=16, scan=True)
  return GPT(**{**sizes, **kwargs})


def draw(*shape, seed=0, high=31):
  return np.random.default_rng(seed).integers(high, size=shape, dtype=np.int32)


def normals(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.cache
def start(model):
  """Variables whose every leaf is random, so that no bias or scale can be left out unseen."""
  model = model.clone(scan=False, remat='none', attention='auto', dtype='float32', dropout=0.0)
  variables = jax.eval_shape(model.init, jax.random.key(0), draw(1, 2))
  leaves, tree = jax.tree.flatten(nn.unbox(variables))
  values = [0.3 * normals(*leaf.shape, seed=i) for i, leaf in enumerate(leaves)]
  return jax.tree.unflatten(tree, values)


@functools.partial(jax.jit, static_argnames=('model', 'train'))
def compiled(variables, tokens, segments, rngs, *, model, train):
  return model.apply(variables, tokens, segments=segments, rngs=rngs, train=train)


def run(model, tokens, variables=None, *, segments=None, rngs=None, train=False):
  variables = variables or start(model)
  return np.asarray(compiled(variables, tokens, segments, rngs, model=model, train=train))


def loss_and_gradients(model, tokens, chunk=0, weights=None, **kwargs):
  weights = np.ones_like(tokens[:, 1:], np.float32) if weights is None else weights

  def loss(variables):
    nats, total = model.apply(
      variables, tokens[:, :-1], tokens[:, 1:], weights, chunk=chunk, method='loss', **kwargs
    )
    return nats / total

  return jax.jit(jax.value_and_grad(loss))(start(model))


def assert_close(one, other, atol=2e-6, rtol=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=rtol), one, other)


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


# -------- the parts and the variants --------


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
  np.testing.assert_allclose(gpt_parts.rms_norm(x, {'scale': scale}), wanted, rtol=1e-5)


@pytest.mark.parametrize('formulation', ops.FORMULATIONS)
def test_gelu_and_its_slope_are_those_of_jax(formulation):
  x = np.linspace(-5, 5, 101, dtype=np.float32)
  with ops.use(formulation):
    values, pull = jax.vjp(gpt_parts.gelu, x)
  wanted, pull_wanted = jax.vjp(functools.partial(jax.nn.gelu, approximate=True), x)
  np.testing.assert_allclose(values, wanted, atol=1e-6)
  np.testing.assert_allclose(pull(x)[0], pull_wanted(x)[0], atol=1e-5)


# -------- attention --------


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
  x = gpt_parts.dropout(jnp.ones((100, 100)), 0.2, jax.random.key(0))
  assert set(np.unique(x)) == {0.0, 1.25}
  assert abs((np.asarray(x) == 0).mean() - 0.2) < 0.02


def test_layers_and_places_drop_different_units():
  model, rngs = small(dropout=0.5), {'dropout': jax.random.key(0)}
  drop = model.apply(start(model), True, method='dropper', rngs=rngs)
  masks = [np.asarray(drop(*where, jnp.ones(64))) for where in ((0, 0), (0, 1), (1, 0), (1, 1))]
  assert len({mask.tobytes() for mask in masks}) == 4


def test_scanned_layers_drop_what_unrolled_ones_do():
  tokens, rngs = draw(1, 8), {'dropout': jax.random.key(0)}
  scanned, unrolled = (
    run(small(dropout=0.5, scan=scan), tokens, train=True, rngs=rngs) for scan in (True, False)
  )
  np.testing.assert_allclose(scanned, unrolled, atol=1e-5)


# -------- the same in other forms --------


@functools.cache
def plain_loss_and_gradients():
  return loss_and_gradients(small(scan=False, **VARIANTS['modern']), draw(2, 17))


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


@pytest.mark.parametrize('chunk', [0, 1, 5, 8, 99])
@pytest.mark.parametrize('softcap', [0.0, 1.5])
def test_chunks_change_no_loss_and_no_gradient(softcap, chunk):
  hidden, head, targets = normals(2, 16, 8), normals(31, 8, seed=1), draw(2, 16)
  weights = normals(2, 16, seed=3) ** 2

  def whole(hidden, head):
    logits = gpt_parts.logits(hidden, head, softcap)
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


# -------- decoding --------


@pytest.mark.parametrize(
  'name, scan', [(name, True) for name in VARIANTS] + [('gpt2', False), ('modern', False)]
)
def test_decoding_with_a_cache_gives_the_logits_of_whole_sequences(name, scan):
  model = small(scan=scan, **VARIANTS[name])
  tokens = draw(2, 15)
  decode = jax.jit(functools.partial(model.apply, method='decode'))
  cache, found = gpt.init_cache(model, 2, 20), []
  for begin, end in ((0, 13), (13, 14), (14, 15)):
    logits, cache = decode(start(model), tokens[:, begin:end], cache)
    found.append(logits)
  np.testing.assert_allclose(np.concatenate(found, axis=1), run(model, tokens), atol=3e-6)
  assert cache.end == 15 and cache.keys.shape == (2, 2, 20, model.kv_heads or 4, 4)


@pytest.mark.parametrize('name', ['gpt2', 'modern'])
def test_left_padded_prompts_of_unequal_length_decode_as_if_alone(name):
  model = small(**VARIANTS[name])
  prompts, more = [draw(n, seed=n) for n in (3, 9, 1)], draw(3, 4, seed=7)
  padded = np.stack([np.concatenate([draw(9 - len(p), seed=1), p]) for p in prompts])
  lengths = np.array([9 - len(p) for p in prompts], np.int32)
  cache = dataclasses.replace(gpt.init_cache(model, 3, 16), start=jnp.asarray(lengths))
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
  logits, _ = model.apply(start(model), draw(1, 8), gpt.init_cache(model, 1, 8), method='decode')
  assert np.all(np.isfinite(logits[:, :6])) and np.all(np.isnan(logits[:, 6:]))


def test_a_cache_in_half_precision_is_close():
  model, tokens = small(), draw(1, 8)
  cache = gpt.init_cache(model, 1, 8, 'bfloat16')
  logits, cache = model.apply(start(model), tokens, cache, method='decode')
  assert cache.keys.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, run(model, tokens), atol=0.1)


# -------- several devices --------


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
