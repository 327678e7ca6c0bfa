"""The Transformer: what it may see, its positions, its size, and one layer computed by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import models
from models import forms
from models.seq2seq import contract, parameters
from models.seq2seq.parameters import sinusoids
from tests.models.seq2seq.small_seq2seq import sentences, small, start

SOURCE, TARGET = sentences((5, 3, 6), 6), sentences((4, 7, 2), 7, seed=1)
KINDS = [{}, {'norm': 'pre', 'positions': 'learned'}]


def logits(model, variables, source=SOURCE, target=TARGET):
  return np.asarray(jax.jit(model.apply)(variables, source, target))


@pytest.mark.parametrize(
  'name, size', [('transformer_base', 63_082_496), ('transformer_big', 214_245_376)]
)
def test_its_sizes_are_the_papers(name, size):
  """Table 3: 65 and 213 million, of 37,000 pieces."""
  assert parameters.num_params(models.build(name, vocab_size=37_000)) == size
  small_one = small()
  assert parameters.num_params(small_one) == sum(x.size for x in jax.tree.leaves(start(small_one)))


@pytest.mark.parametrize('kind', KINDS, ids=['post', 'pre'])
def test_padding_changes_no_logit(kind):
  model = small(**kind)
  variables = start(model)
  alone = logits(model, variables)
  more = np.pad(SOURCE, ((0, 0), (0, 4)))
  np.testing.assert_allclose(logits(model, variables, more), alone, atol=1e-5)
  other = np.where(SOURCE == 0, 7, SOURCE)  # these places count
  assert np.abs(logits(model, variables, other) - alone).max() > 1e-2


def test_a_piece_changes_only_what_comes_behind_it():
  model = small()
  variables = start(model)
  changed = TARGET.copy()
  changed[:, 3] = 9
  apart = np.abs(logits(model, variables, target=changed) - logits(model, variables)).max((0, 2))
  assert apart[:4].max() < 1e-6 and apart[4:].min() > 1e-3


@pytest.mark.parametrize('form', forms.FORMULATIONS)
@pytest.mark.parametrize('norm', ['post', 'pre'])
def test_one_layer_is_the_papers_by_hand(form, norm):
  model = small(layers=1, heads=1, norm=norm)
  variables = start(model)
  p = jax.tree.map(np.asarray, variables['params'])
  with forms.use(form):
    ours = logits(model, variables, SOURCE[:1, :5], TARGET[:1, :4])[0]
  np.testing.assert_allclose(ours, _by_hand(p, SOURCE[0, :5], TARGET[0, :4], norm), atol=2e-4)


def _by_hand(p, source, target, norm):
  """Equations 1 and 2 and section 3.1, for one sentence, one layer and one head."""

  def dense(x, w):
    return x @ w['kernel'] + w['bias']

  def normalised(x, w):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w['scale'] + w['bias']

  def attend(q, k, v, seen):
    scores = np.where(seen, q @ k.T / np.sqrt(16), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v

  def add(x, w, f):
    return x + f(normalised(x, w)) if norm == 'pre' else normalised(x + f(x), w)

  def layer(w):
    return jax.tree.map(lambda x: x[0], w)

  def embed(pieces):
    place = np.arange(len(pieces))[:, None] / 10_000 ** (np.arange(0, 16, 2) / 16)
    waves = np.empty((len(pieces), 16))
    waves[:, 0::2], waves[:, 1::2] = np.sin(place), np.cos(place)
    return p['token_embed']['embedding'][pieces] * 4 + waves

  def self_attention(w, seen):
    return lambda x: dense(
      attend(dense(x, w['query']), dense(x, w['key']), dense(x, w['value']), seen), w['out']
    )

  def feed_forward(w):
    return lambda x: dense(np.maximum(dense(x, w['up']), 0), w['down'])

  w = layer(p['encoder'])
  x = add(embed(source), w['norm1'], self_attention(w, True))
  memory = add(x, w['norm2'], feed_forward(w))
  memory = normalised(memory, p['encoder_norm']) if norm == 'pre' else memory
  w = layer(p['decoder'])
  y = embed([1, *target[:-1]])
  y = add(y, w['norm1'], self_attention(w, np.tri(len(y), dtype=bool)))
  keys, values = dense(memory, w['memory_key']), dense(memory, w['memory_value'])
  y = add(
    y,
    w['norm2'],
    lambda x: dense(attend(dense(x, w['memory_query']), keys, values, True), w['memory_out']),
  )
  y = add(y, w['norm3'], feed_forward(w))
  y = normalised(y, p['decoder_norm']) if norm == 'pre' else y
  return y @ p['token_embed']['embedding'].T


def test_positions_turn_by_their_distance_alone():
  table = sinusoids(40, 16).astype(np.float64)
  pairs = table[:, 0::2] * 1j + table[:, 1::2]  # sine and cosine as one complex number
  for distance in (1, 7):
    turns = pairs[distance:] / pairs[:-distance]
    np.testing.assert_allclose(turns, np.broadcast_to(turns[0], turns.shape), atol=1e-5)
  np.testing.assert_allclose(table[3, :2], [np.sin(3), np.cos(3)], atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize('kind', KINDS, ids=['post', 'pre'])
def test_targets_piece_by_piece_get_the_logits_of_whole_ones(kind):
  """While they swap places, as beams do, and their cache grows."""
  model = small(**kind)
  variables = start(model)
  targets = np.stack([TARGET, np.roll(TARGET, 1, 0), sentences((7, 7, 7), 7, seed=2)], 1)
  whole = np.stack([logits(model, variables, target=targets[:, k]) for k in range(3)], 1)
  memory = model.apply(variables, SOURCE, method='encode')
  cache = model.apply(variables, memory, 3, 4, method='init_cache')
  step = jax.jit(functools.partial(model.apply, method='step'))
  order, parents = np.arange(3), np.array([2, 0, 1])
  for t in range(7):
    if t == 4:
      cache = model.apply(variables, cache, 8, method='grow_cache')
    token = np.full((3, 3), 1) if t == 0 else targets[:, order, t - 1]
    found, cache = step(variables, memory, cache, jnp.asarray(token), jnp.int32(t))
    np.testing.assert_allclose(found, whole[:, order, t], atol=1e-4)
    cache = model.apply(variables, cache, jnp.tile(parents, (3, 1)), method='select')
    order = order[parents]


@pytest.mark.slow
def test_scanned_layers_and_recomputed_ones_drop_and_give_what_plain_ones_do():
  rngs = {'dropout': jax.random.key(1)}
  weights = (TARGET != 0).astype(np.float32)

  def slopes(rate=0.4, **kwargs):
    model = small(dropout=rate, **kwargs)

    def loss(variables):
      how = {'train': True, 'rngs': rngs, 'method': contract.loss}
      return model.apply(variables, SOURCE, TARGET, weights, **how)[0]

    return jax.jit(jax.value_and_grad(loss))(start(model))

  expected, found = slopes(scan=False), slopes(scan=True, remat='block')
  for a, b in zip(*map(jax.tree.leaves, (expected, found)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
  assert not np.allclose(expected[0], slopes(rate=0.0, scan=True)[0])  # dropout acts


@pytest.mark.long
def test_attention_maps_are_shares_of_the_source():
  model = small()
  maps = np.asarray(model.apply(start(model), SOURCE, TARGET, method='attention_maps'))
  assert maps.shape == (3, 2, 2, 7, 6)
  np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
  assert np.all(maps[1, ..., 3:] == 0)  # padding


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'norm': 'both'}, r"model\.norm='both': choose from post, pre"),
    ({'heads': 3}, r'model\.heads=3: must divide model\.width=16'),
    ({'width': 15, 'heads': 1}, r'model\.width=15: must be even'),
    ({'dropout': 1.0}, r'model\.dropout=1\.0: from 0 to below 1'),
    ({'layers': 0}, r'model\.layers=0: at least 1'),
  ],
)
def test_a_field_that_cannot_be_is_refused(fields, message):
  with pytest.raises(ValueError, match=f'^{message}'):
    small(**fields)


def test_learned_positions_end_with_the_block():
  model = small(positions='learned', block_size=6)
  with pytest.raises(ValueError, match=r'7 pieces: model\.block_size=6 is the most'):
    model.apply(start(model), SOURCE, TARGET)
