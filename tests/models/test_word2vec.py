"""Word2Vec: which words are pairs, their gradients, and a step beside word2vec.c's loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from data.text.words.vocabulary import Vocabulary
from models import word2vec, word2vec_steps
from models.word2vec import Word2Vec, WordBlock

VOCABULARY = Vocabulary([f'w{i}' for i in range(12)], np.arange(30, 6, -2))
SIZES = {'vocab_size': 12, 'width': 6, 'window': 2, 'block': 4, 'shared': 5}


def model_and_draws(**options):
  model = Word2Vec(**{**SIZES, **options})
  free = np.full(12, np.inf, np.float32)
  return model, word2vec.Draws(VOCABULARY.negatives(), *VOCABULARY.huffman(), (free, free))


def tables(model, seed=0):
  rng = np.random.default_rng(seed)
  shape = (model.vocab_size, model.width)
  return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name in ('input', 'output')}


def block(model, streams=2, seed=0):
  rng = np.random.default_rng(seed)
  length = model.block + 2 * model.window
  words = rng.integers(12, size=(streams, length)).astype(np.int32)
  sentences = np.array([[0, 0, 0, 0, 1, 1, 1, -1], [-1, 3, 3, 3, 3, 3, 4, 4]], np.int32)[:streams]
  reach = rng.integers(1, model.window + 1, (streams, model.block)).astype(np.int32)
  negatives = rng.integers(12, size=(streams, model.shared)).astype(np.int32)
  return WordBlock(*map(jnp.asarray, (words, sentences, reach, negatives)))


def batch(streams=4, length=21, seed=0):
  rng = np.random.default_rng(seed)
  words = rng.integers(12, size=(streams, length)).astype(np.int32)
  sentences = np.sort(rng.integers(4, size=(streams, length)), axis=1).astype(np.int32)
  sentences[-1, 9:] = -1
  found = {'words': words, 'sentences': sentences, 'index': np.arange(streams, dtype=np.int32)}
  return jax.tree.map(jnp.asarray, found)


def test_the_tables_begin_as_in_word2vec_c():
  model = Word2Vec(1000, width=50)
  found = meta.unbox(model.init(jax.random.key(0)))['params']
  assert set(found) == {'input', 'output'}
  assert not found['output'].any()
  assert 0.0095 < np.abs(found['input']).max() <= 0.01  # 0.5 / 50


def test_pairs_are_within_reach_and_never_of_two_sentences():
  model, _ = model_and_draws()
  words = block(model)
  found = word2vec.pairs(model, words)
  for b in range(2):
    for i in range(model.block):
      centre = i + model.window
      for j in range(model.block + 2 * model.window):
        near = 0 < abs(j - centre) <= int(words.reach[b, i])
        same = words.sentences[b, j] == words.sentences[b, centre] >= 0
        assert found[b, j, i] == (near and same), (b, i, j)
  assert 0 < found.sum() < found.size / 2


@pytest.mark.long
@pytest.mark.parametrize('objective', word2vec.OBJECTIVES)
def test_the_gradient_is_that_of_the_loss(objective):
  model, draws = model_and_draws(objective=objective)
  at, words = tables(model), block(model)
  found = word2vec.gradients(model, draws, at, words)
  rate = jnp.float32(1.0)
  step = word2vec.descend(draws, at, found, rate, lambda x: x)
  wanted = jax.grad(lambda at: word2vec.gradients(model, draws, at, words).loss)(at)
  for name in at:
    np.testing.assert_allclose(at[name] - step[name], wanted[name], rtol=1e-4, atol=1e-5)


def test_skip_gram_is_word2vec_c_s_loop_with_shared_negatives():
  """Each pair: a step of the context word's vector, and of the word's and its negatives'."""
  model, draws = model_and_draws()
  at, words = tables(model), block(model, streams=1)
  found = word2vec.descend(
    draws, at, word2vec.gradients(model, draws, at, words), jnp.float32(0.1), lambda x: x
  )
  old = jax.tree.map(np.asarray, at)
  new = {name: table.copy() for name, table in old.items()}
  sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
  for j, i in zip(*np.nonzero(np.asarray(word2vec.pairs(model, words)[0])), strict=True):
    context, word = int(words.words[0, j]), int(words.words[0, i + model.window])
    share = model.negatives / model.shared
    targets = [(word, 1, 1.0), *((int(n), 0, share) for n in words.negatives[0])]
    for target, label, weight in targets:
      a, b = old['input'][context], old['output'][target]
      g = 0.1 * weight * (label - sigmoid(a @ b))
      new['input'][context] += g * b
      new['output'][target] += g * a
  for name, table in new.items():
    np.testing.assert_allclose(found[name], table, rtol=1e-4, atol=1e-5)


def test_cbow_predicts_from_the_mean_and_gives_each_word_the_whole_gradient():
  model, draws = model_and_draws(architecture='cbow')
  at, words = tables(model), block(model, streams=1)
  found = word2vec.gradients(model, draws, at, words)
  near = np.asarray(word2vec.pairs(model, words)[0])
  wanted = np.zeros(found.inputs[1].shape[1:])
  for i in np.flatnonzero(near.sum(0)):
    context = np.flatnonzero(near[:, i])
    mean = np.asarray(at['input'])[np.asarray(words.words[0])[context]].mean(0)
    word = int(words.words[0, i + model.window])
    share = model.negatives / model.shared
    for target, label, weight in [(word, 1, 1), *((int(n), 0, share) for n in words.negatives[0])]:
      row = np.asarray(at['output'])[target]
      wanted[context] += weight * (1 / (1 + np.exp(-mean @ row)) - label) * row
  np.testing.assert_allclose(found.inputs[1][0], wanted, rtol=1e-4, atol=1e-5)
  assert found.predictions == np.count_nonzero(near.sum(0))


def test_the_hierarchical_softmax_is_a_distribution():
  """The probabilities of all words, as products along their paths, add up to one."""
  model, draws = model_and_draws(objective='hierarchical_softmax')
  at = tables(model)
  vector, total = np.asarray(at['input'])[3], 0.0
  for nodes, codes in zip(draws.nodes, draws.codes, strict=True):
    path = nodes >= 0
    right = np.asarray(at['output'])[nodes[path]] @ vector
    total += np.prod(1 / (1 + np.exp(np.where(codes[path], right, -right))))
  assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('architecture', word2vec.ARCHITECTURES)
@pytest.mark.parametrize('objective', word2vec.OBJECTIVES)
def test_training_lowers_the_loss(architecture, objective):
  model, draws = model_and_draws(architecture=architecture, objective=objective)
  at = dict(meta.unbox(model.init(jax.random.key(1)))['params'])
  found = word2vec_steps.chunks(model, draws, batch(), jax.random.key(0))
  before, count = word2vec_steps.loss(model, draws, at, found)
  train = jax.jit(lambda at: word2vec_steps.train(model, draws, at, found, jnp.float32(0.05)))
  for _ in range(40):
    at, *_ = train(at)
  after, _ = word2vec_steps.loss(model, draws, at, found)
  assert count > 20
  assert after < 0.9 * before


def test_blocks_of_padding_alone_are_left_out():
  model, draws = model_and_draws()
  at = tables(model)
  short = batch()
  longer = {
    'words': jnp.pad(short['words'], ((0, 0), (0, 40))),
    'sentences': jnp.pad(short['sentences'], ((0, 0), (0, 40)), constant_values=-1),
    'index': short['index'],
  }
  ran = []

  def counted(x):
    jax.debug.callback(lambda: ran.append(1))
    return x

  found = word2vec_steps.chunks(model, draws, longer, jax.random.key(0))
  jax.block_until_ready(word2vec_steps.train(model, draws, at, found, jnp.float32(0.1), counted))
  jax.effects_barrier()
  blocks = -(-21 // model.block)
  assert len(ran) == 1 + 4 * blocks  # four arrays a block, and the sentences once


def test_draws_depend_on_the_chunk_not_on_its_place_in_the_batch():
  model, draws = model_and_draws()
  words = batch()
  whole = word2vec_steps.chunks(model, draws, words, jax.random.key(3))
  half = word2vec_steps.chunks(
    model, draws, jax.tree.map(lambda x: x[2:], words), jax.random.key(3)
  )
  for a, b in zip(whole, half, strict=True):
    np.testing.assert_array_equal(a[2:], b)


def test_negatives_are_drawn_by_the_power_of_their_counts():
  model, draws = model_and_draws(shared=4000)
  _, found = word2vec_steps.draw(model, draws, jax.random.split(jax.random.key(0), 1), 5)
  share = np.bincount(np.ravel(found), minlength=12) / found.size
  wanted = VOCABULARY.counts**0.75
  np.testing.assert_allclose(share, wanted / wanted.sum(), atol=0.01)


@pytest.mark.long
@pytest.mark.parametrize('architecture', word2vec.ARCHITECTURES)
@pytest.mark.parametrize('objective', word2vec.OBJECTIVES)
def test_few_words_and_large_blocks_do_not_diverge(architecture, objective):
  """A word in hundreds of pairs of a block; without limits the tables overflow within ten steps."""
  model, free = model_and_draws(architecture=architecture, objective=objective, block=64)
  read = VOCABULARY.counts / VOCABULARY.counts.sum()
  draws = word2vec.draws_of(model, read, free.negatives, free[1:3], 8)
  words = batch(streams=8, length=256)
  found = word2vec_steps.chunks(model, draws, words, jax.random.key(0))

  def norms(draws):
    at, sizes = dict(meta.unbox(model.init(jax.random.key(1)))['params']), []
    train = jax.jit(lambda at: word2vec_steps.train(model, draws, at, found, jnp.float32(0.5))[0])
    for _ in range(10):
      at = train(at)
      sizes.append(max(float(jnp.abs(table).max()) for table in at.values()))
    return sizes

  assert max(norms(draws)) < 10
  assert not max(norms(free)) < 100


def test_a_step_copies_no_table():
  """Else each of a hundred small steps would move 48 MB of a vocabulary of 60,000."""
  model, draws = model_and_draws(vocab_size=5000)
  negatives, free = np.linspace(0, 2**32 - 1, 5000), np.ones(5000, np.float32)
  draws = draws._replace(negatives=negatives.astype(np.uint32), limits=(free, free))
  step = functools.partial(word2vec_steps.train, model, draws)
  chunks = jax.eval_shape(lambda: word2vec_steps.chunks(model, draws, batch(), jax.random.key(0)))
  at = {name: jax.ShapeDtypeStruct((5000, 6), jnp.float32) for name in ('input', 'output')}
  rate = jax.ShapeDtypeStruct((), jnp.float32)
  text = jax.jit(step, donate_argnums=0).lower(at, chunks, rate).compile().as_text()
  assert 'f32[5000,6]' in text
  assert not [line for line in text.splitlines() if 'f32[5000,6]' in line and ' copy(' in line]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'architecture': 'cbows'}, r"model\.architecture='cbows': choose from skipgram, cbow"),
    ({'objective': 'softmax'}, r"model\.objective='softmax': choose from negative_sampling, "),
    ({'window': 0}, r'model\.window=0: must be at least 1'),
  ],
)
def test_what_is_no_word2vec_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    Word2Vec(10, **options)
