"""RNNsearch beside its paper's equations in NumPy, and what padding and the future may change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models.seq2seq import beam
from models.seq2seq.contract import BOS, EOS, shift_right
from models.transformer import unboxed


@functools.partial(jax.jit, static_argnames=('model', 'method', 'static'))
def apply(model, variables, *args, method=None, static=()):
  return model.apply(variables, *args, *static, method=method)


V, SOURCE, TARGET = 11, [5, 3, 9, 4, EOS], [7, 7, 3, EOS]


def build(**options):
  sizes = {'width': 6, 'hidden': 4, 'align': 5, 'maxout': 3}
  model = models.build('rnnsearch', vocab_size=V, **{**sizes, **options})
  batch = jnp.array([SOURCE]), jnp.array([TARGET])
  # The paper's initial values are so small that hardly anything would depend on anything.
  variables = unboxed(model.init(jax.random.key(0), *batch))
  leaves, tree = jax.tree.flatten(variables)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  values = [jax.random.normal(key, x.shape) / 2 for key, x in zip(keys, leaves, strict=True)]
  return model, jax.tree.unflatten(tree, values), *batch


# -------- the paper's appendix A, a sentence and a piece at a time --------


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def gru(weights, inputs, state):
  """Returns s_i of equation A.1.1; inputs [3 n] are z's, r's and the candidate's."""
  z, r, candidate = np.split(inputs, 3)
  z = sigmoid(z + state @ weights['update'])
  r = sigmoid(r + state @ weights['reset'])
  return (1 - z) * state + z * np.tanh(candidate + (r * state) @ weights['candidate'])


def read(weights, embedded):
  states = [np.zeros(weights['update'].shape[0])]
  for x in embedded:
    states.append(gru(weights, x @ weights['kernel'] + weights['bias'], states[-1]))
  return states[1:]


def by_hand(params, source, target, attention):
  """Returns logits [T, V] and weights [T, S]."""
  p = jax.tree.map(np.asarray, params)
  x = p['source_embed']['embedding'][source]
  forward = read(p['forward_gru'], x)
  h, first = np.array(forward[-1:]), forward[-1]
  if attention:
    backward = read(p['backward_gru'], x[::-1])[::-1]
    h, first = np.concatenate([forward, backward], 1), backward[0]
  s = np.tanh(first @ p['first_state']['kernel'] + p['first_state']['bias'])
  logits, weights = [], []
  for piece in [BOS, *target[:-1]]:
    y, alpha = p['target_embed']['embedding'][piece], np.ones(1)
    if attention:
      scores = np.tanh(
        s @ p['align_query']['kernel'] + h @ p['align_keys']['kernel'] + p['align_keys']['bias']
      )
      alpha = np.exp(scores @ p['align_out']['kernel'][:, 0])
      alpha /= alpha.sum()
    c = alpha @ h
    t = s @ p['out_state']['kernel'] + p['out_state']['bias']
    t = t + y @ p['out_piece']['kernel'] + c @ p['out_context']['kernel']
    logits.append(t.reshape(-1, 2).max(1) @ p['head']['embedding'].T)
    weights.append(alpha)
    inputs = y @ p['decoder_input']['kernel'] + p['decoder_input']['bias']
    s = gru(p['decoder'], inputs + c @ p['decoder_context']['kernel'], s)
  return np.array(logits), np.array(weights)


@pytest.mark.long
@pytest.mark.parametrize('attention', [True, False])
def test_it_is_the_papers_equations(attention):
  model, variables, source, target = build(attention=attention)
  logits, weights = by_hand(variables['params'], SOURCE, TARGET, attention)
  assert logits.std() > 0.1
  np.testing.assert_allclose(apply(model, variables, source, target)[0], logits, atol=1e-5)
  maps = apply(model, variables, source, target, method='attention_maps')
  if attention:
    assert weights.std(0).max() > 1e-3  # another look for another piece
    np.testing.assert_allclose(maps[0, 0, 0], weights, atol=1e-5)
  else:
    assert maps.shape == (1, 0, 0, 4, 5)


@pytest.mark.parametrize('attention', [True, False])
def test_padding_changes_nothing_and_no_piece_sees_those_behind_it(attention):
  model, variables, source, target = build(attention=attention)
  logits = apply(model, variables, source, target)
  longer = [jnp.pad(x, ((0, 0), (0, 3))) for x in (source, target)]
  # Beside a sentence that fills the row, so that the padded row is no case of its own.
  other = [jnp.concatenate([x, jnp.full_like(x, 6)]) for x in longer]
  np.testing.assert_allclose(apply(model, variables, *other)[0, :4], logits[0], atol=1e-6)
  changed = apply(model, variables, source, target.at[0, 2].set(8))
  np.testing.assert_allclose(changed[0, :3], logits[0, :3], atol=1e-6)
  assert np.abs(changed[0, 3] - logits[0, 3]).max() > 1e-3
  maps = apply(model, variables, *other, method='attention_maps')
  if attention:
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    assert (maps[0, ..., 5:] == 0).all()


@pytest.mark.parametrize('attention', [True, False])
def test_piece_by_piece_it_gives_what_it_gives_at_once(attention):
  model, variables, source, _ = build(attention=attention)
  source = jnp.array([SOURCE, [4, 8, EOS, 0, 0]])
  targets = jnp.array([[TARGET, [3, 4, 5, 6]], [[9, 9, EOS, 0], [8, 3, 3, EOS]]])  # [B, K, T]
  memory = apply(model, variables, source, method='encode')
  cache = apply(model, variables, memory, static=(2, 4), method='init_cache')
  for position in range(4):
    token = shift_right(targets.reshape(4, 4)).reshape(2, 2, 4)[..., position]
    logits, cache = apply(model, variables, memory, cache, token, position, method='step')
    for k in range(2):
      whole = apply(model, variables, source, targets[:, k])[:, position]
      np.testing.assert_allclose(logits[:, k], whole, atol=1e-5)
  swapped = apply(model, variables, cache, jnp.array([[1, 0], [0, 0]]), method='select')
  np.testing.assert_array_equal(swapped[0], cache[0, ::-1])
  np.testing.assert_array_equal(swapped[1], cache[1, [0, 0]])


def test_beam_search_writes_with_it():
  """Its score is that of the target by the network, and no better target of a piece is there."""
  model, variables, source, _ = build()
  found = beam.search(model, variables, source, beam.Beam(beams=V, alpha=0, extra=0))
  target, score = found.targets[0, 0], float(found.scores[0, 0])
  target = target[: target.tolist().index(EOS) + 1] if EOS in target else target
  nats = jax.nn.log_softmax(apply(model, variables, source, target[None])[0])
  np.testing.assert_allclose(score, nats[np.arange(len(target)), target].sum(), atol=1e-4)
  at_once = nats[0, EOS]
  assert score >= float(at_once) - 1e-4


def test_the_first_values_are_the_papers():
  """Appendix B.1: orthogonal states, v_a and biases 0, the rest small."""
  model = models.build('rnnsearch', vocab_size=8, hidden=40, align=30)
  params = unboxed(model.init(jax.random.key(0), jnp.ones((1, 2), int), jnp.ones((1, 2), int)))[
    'params'
  ]
  for group in ('forward_gru', 'backward_gru', 'decoder'):
    for gate in ('update', 'reset', 'candidate'):
      square = params[group][gate]
      np.testing.assert_allclose(square @ square.T, np.eye(40), atol=1e-5)
  assert not params['align_out']['kernel'].any() and not params['out_state']['bias'].any()
  assert 0.0008 < params['align_keys']['kernel'].std() < 0.0012
  assert 0.008 < params['out_context']['kernel'].std() < 0.012


def test_the_papers_network_has_the_size_of_its_matrices():
  """Appendix A's matrices with n 1000, m 620, l 500, n' 1000 and 30,000 words a side."""
  model = models.build('rnnsearch_paper', vocab_size=30_000)
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.ones((1, 2), int), jnp.ones((1, 2), int)
  )
  n, m, maxout, words = 1000, 620, 500, 30_000
  encoder = 2 * (3 * n * m + 3 * n * n + 3 * n)
  alignment = n * n + 2 * n * n + n + n
  decoder = 3 * (n * m + n * n + 2 * n * n + n) + n * n + n
  readout = 2 * maxout * (n + m + 2 * n + 1)
  tables = words * (2 * m + maxout)
  total = sum(x.size for x in jax.tree.leaves(shapes))
  assert total == encoder + alignment + decoder + readout + tables
  per_pair = model.flops_per_pair(1, 1) - 6 * (n + 2 * n)
  used = total - words * 2 * m - (n * n + n)  # but for look-ups, s_0 and biases
  biases = 2 * 3 * n + n + 3 * n + 2 * maxout
  assert per_pair == 6 * (used - biases)


@pytest.mark.parametrize('field', ['hidden', 'maxout', 'align'])
def test_sizes_that_cannot_be(field):
  with pytest.raises(ValueError, match=f'model.{field}=0: at least 1'):
    models.build('rnnsearch', vocab_size=8, **{field: 0})
