"""Scores of texts and of answers: against loops that are too simple to be wrong, and by hand."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import text_scored, tokenizers
from data.text import TextData
from data.text_rows import Strided, Windows
from data.text_shards import Tokens
from train import mesh as mesh_lib
from train.config import UserError
from train.tasks import Language
from train.tasks.scoring import Scorer, accuracies, text_metrics

TEXT = 'to be, or not to be: that is the question.\n' * 20
OTHER = 'that is not\nthe question, or is it not to be?'.replace('?', '.')
T = 16
MODEL = {'name': 'gpt', 'layers': 1, 'heads': 2, 'width': 16, 'block_size': T}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def file(tmp_path):
  """Writes a text, or questions as dicts, and gives the path."""

  def write(content, name='given.txt'):
    if isinstance(content, list):
      content = '\n'.join(x if isinstance(x, str) else json.dumps(x) for x in content)
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(raw)
    return str(tmp_path / name)

  return write


@pytest.fixture
def data(file):
  made = []

  def make(**options):
    options = {'tokenizer': 'characters', 'block_size': T, 'eval_batch_size': 8, **options}
    made.append(TextData(file(TEXT, 'trained on.txt'), **options))
    return made[-1]

  yield make
  for each in made:
    each.close()


@pytest.fixture
def network(data):
  """A tiny GPT with weights drawn at random, so large that its guesses differ."""

  def make(**options):
    language = Language(MODEL, data(**options))
    fresh = mesh_lib.unbox(language.init(jax.random.key(0)))
    return language, jax.tree.map(lambda x: 3 * x, fresh)

  return make


def one_device():
  return mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])


def examine(language, variables, mesh=None, **options):
  return language.examine([variables], mesh or one_device(), **options)[:2]


def nats_of(language, variables, tokens):
  """[n - 1], of each token given all before it: one row, no padding."""
  logits = logits_of(language.model, variables, np.asarray(tokens, np.int32)[None, :-1])[0]
  return -np.asarray(jax.nn.log_softmax(logits))[np.arange(len(tokens) - 1), tokens[1:]]


@functools.partial(jax.jit, static_argnames='model')
def logits_of(model, variables, tokens):
  return model.apply(variables, tokens)


# -------- windows --------


@given(st.integers(2, 60), st.integers(1, 12), st.data())
def test_windows_predict_each_token_once_from_enough_before_it(length, block, draw):
  stride = draw.draw(st.integers(1, block))
  stream = 100 + np.arange(length)
  rows = Strided(stream, block, stride)
  found = rows.read(np.arange(rows.size, dtype=np.int32))
  times = dict.fromkeys(stream[1:].tolist(), 0)
  for tokens, mask in zip(found['tokens'], found['mask'], strict=True):
    assert mask.any()
    for place in np.flatnonzero(mask):
      target = tokens[place + 1]
      times[target] += 1
      before = tokens[: place + 1]
      np.testing.assert_array_equal(before, np.arange(target - len(before), target))
      assert len(before) >= min(block - stride + 1, target - 100)
  assert set(times.values()) == {1}


def test_a_stream_may_be_longer_than_32_bits_count():
  stream = np.broadcast_to(np.zeros(1, np.uint16), (2**32 + 6,))  # takes no memory
  windows = Windows(Tokens(stream, np.array([0, len(stream)]), {}), 1024)
  strided = Strided(stream, 1024, 1024)
  assert windows.size_in_order == strided.size == 2**22 + 1
  for rows in (windows, strided):
    last = rows.read(np.array([strided.size - 1], np.int32))
    assert last['mask'].tolist() == [[1] * 5 + [0] * 1019]


# -------- a text --------


@pytest.mark.long
@pytest.mark.parametrize('stride', [1, 5, 16])
def test_a_window_that_moves_is_the_plain_loop(network, file, stride):
  language, variables = network()
  ids = np.array(language.data.tokenizer.encode(OTHER))
  nats, done, begin = [], 0, 0
  while done < len(ids) - 1:
    end = min(begin + T, len(ids) - 1)
    window = nats_of(language, variables, ids[begin : end + 1])
    nats += window[done - begin :].tolist()
    done, begin = end, begin + stride
  metrics, facts = examine(language, variables, text=file(OTHER), stride=stride)
  assert len(nats) == facts['text']['predicted'] == len(OTHER) - 1
  assert metrics['text/loss'] == pytest.approx(np.mean(nats), rel=1e-5)
  assert facts['text']['stride'] == stride and facts['tokenizer'] == 'characters'


def test_a_stride_of_a_block_is_the_split_as_in_training(network):
  language, variables = network()
  usual, facts = examine(language, variables)
  whole, strided = examine(language, variables, stride=T)
  assert [*whole.values()] == pytest.approx([*usual.values()], rel=1e-6)
  assert usual['val/loss'] == pytest.approx(
    language.evals(one_device())['val'](variables)['loss'], rel=1e-6
  )
  assert facts['text']['predicted'] == strided['text']['predicted'] == len(TEXT) // 10 - 1
  half, _ = examine(language, variables, stride=T // 2)
  assert half['val_strided/loss'] != pytest.approx(usual['val/loss'], rel=1e-3)


def test_the_usual_stride_is_half_a_block(network, file):
  language, variables = network()
  path = file(OTHER)
  usual, facts = examine(language, variables, text=path)
  assert facts['text']['stride'] == T // 2
  assert usual == examine(language, variables, text=path, stride=T // 2)[0]


def test_the_first_token_is_predicted_from_the_end_of_a_document(network, file):
  language, variables = network(tokenizer='bytes')
  text = 'be é'
  ids = [256, *text.encode()]
  metrics, facts = examine(language, variables, text=file(text))
  assert facts['text']['predicted'] == facts['text']['tokens'] == facts['text']['bytes'] == 5
  assert facts['text']['given'] == 'the end of a document'
  assert metrics['text/loss'] == pytest.approx(nats_of(language, variables, ids).mean(), rel=1e-5)
  one, _ = examine(language, variables, text=file('b'))
  assert one['text/loss'] == pytest.approx(nats_of(language, variables, [256, 98])[0], rel=1e-5)


def test_who_knows_nothing_is_as_perplexed_as_there_are_tokens(network, file):
  """The text has 12 tokens, 12 bytes and 4 words."""
  language, variables = network(tokenizer='characters')
  blank = jax.tree.map(jnp.zeros_like, variables)
  kinds = len(set(TEXT))
  metrics, facts = examine(language, blank, text=file('to be\nor not'))
  assert metrics['text/loss'] == pytest.approx(math.log(kinds), rel=1e-6)
  assert metrics['text/perplexity'] == pytest.approx(kinds, rel=1e-5)
  assert metrics['text/word_perplexity'] == pytest.approx(kinds ** (12 / 4), rel=1e-5)
  assert metrics['text/bits_per_byte'] == pytest.approx(math.log2(kinds), rel=1e-6)
  assert facts['text']['given'] == "the text's first token"


def test_denominators_by_hand():
  counts = {'tokens': 6, 'words': 2, 'bytes': 12}
  assert text_metrics('text', 1.5, counts) == pytest.approx(
    {
      'text/loss': 1.5,
      'text/perplexity': math.exp(1.5),
      'text/word_perplexity': math.exp(4.5),
      'text/bits_per_byte': 0.75 / math.log(2),
    }
  )
  endless = text_metrics('text', 1.5, {'tokens': 600, 'words': 0, 'bytes': 600})
  assert endless['text/word_perplexity'] == math.inf


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('', 'given.txt: holds no text'),
    ('t', 'given.txt: has 1 tokens; must be at least 2, since the tokenizer characters has no end'),
    ('to be?', r"given.txt: character '\?' \(U\+003F\) at 5 of the text: not among the \d+"),
    (b'to \xff be', 'given.txt: byte 0xff at 3 is not UTF-8'),
    (None, 'absent.txt: cannot be read'),
  ],
)
def test_texts_that_cannot_be_scored(network, file, tmp_path, content, message):
  language, variables = network()
  path = str(tmp_path / 'absent.txt') if content is None else file(content)
  with pytest.raises(UserError, match=message):
    examine(language, variables, text=path)


@pytest.mark.parametrize('stride', [-1, T + 1])
def test_a_stride_is_from_one_to_a_block(network, file, stride):
  language, variables = network()
  with pytest.raises(
    UserError, match=rf'--stride={stride}: must be from 1 to data.block_size, .*16'
  ):
    examine(language, variables, text=file(OTHER), stride=stride)


def test_strides_are_of_streams_of_text(network, file):
  language, variables = network(packing='documents')
  with pytest.raises(UserError, match=r'--stride=4: .* not documents'):
    examine(language, variables, stride=4)
  questions = file([{'context': 'to', 'choices': [' be', ' not'], 'answer': 0}])
  with pytest.raises(UserError, match='--stride=4: is of texts'):
    examine(language, variables, choices=questions, stride=4)
  examine(language, variables, text=file(OTHER, 'other.txt'), choices=questions, stride=4)


# -------- choices --------

QUIZ = [
  {'context': 'to be', 'choices': [', or', ': that', '.'], 'answer': 1},
  {'context': 'is that the ', 'choices': ['question', 'not'], 'answer': 0, 'from': 'nowhere'},
  {'context': TEXT[:40], 'choices': ['to', 'be: that is', 'or'], 'answer': 2},
  '',
]


def test_answers_are_chosen_as_by_a_plain_loop(network, file):
  language, variables = network()
  nats, a_byte = [], []
  for question in QUIZ[:3]:
    each = []
    for choice in question['choices']:
      ids = language.data.tokenizer.encode(question['context'] + choice)[-T - 1 :]
      each.append(nats_of(language, variables, np.array(ids))[-len(choice) :].sum())
    nats.append(np.array(each))
    a_byte.append(np.array(each) / [len(choice) for choice in question['choices']])
  scorer = Scorer(language.loss, language.data, variables, one_device())
  encoded = [
    choice
    for question in text_scored.read_questions(file(QUIZ))
    for choice in text_scored.encode_choices(question, language.data.tokenizer, T)
  ]
  np.testing.assert_allclose(scorer.nats(encoded), np.concatenate(nats), rtol=1e-4)
  metrics, facts = examine(language, variables, choices=file(QUIZ))
  answers = [question['answer'] for question in QUIZ[:3]]
  expected = [
    np.mean([x.argmin() == y for x, y in zip(z, answers, strict=True)]) for z in (nats, a_byte)
  ]
  assert [metrics['choices/accuracy'], metrics['choices/accuracy_norm']] == pytest.approx(expected)
  assert metrics['choices/chance'] == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3)
  counted = {name: facts['choices'][name] for name in ('questions', 'choices', 'shortened')}
  assert counted == {'questions': 3, 'choices': 8, 'shortened': 4}


def bigram_loss(likely):
  """A loss as tasks have it, of a model that knows pairs: 1 nat for those in `likely`, else 3."""

  def loss(variables, batch, key, *, train):
    pairs = batch['tokens'][:, :-1] * 1000 + batch['tokens'][:, 1:]
    nats = jnp.where(jnp.isin(pairs, variables), 1.0, 3.0)
    sums = (nats * batch['mask']).sum(), batch['mask'].sum()
    return sums[0] / sums[1], ({}, {'loss': sums})

  return loss, jnp.array([1000 * ord(a) + ord(b) for a, b in likely])


def test_choices_of_a_model_that_is_known(data, file):
  """'ab' is 1 + 1 nats, 'abab' 4, 'b' 3, 'bb' 6, 'é' of two bytes 3 + 3."""
  loss, variables = bigram_loss(['xa', 'ab', 'ba'])
  quiz = [
    {'context': 'x', 'choices': ['b', 'abab', 'ab'], 'answer': 2},  # 3, 4, 2; a byte 3, 1, 1
    {'context': 'x', 'choices': ['b', 'abab', 'bb'], 'answer': 1},  # 3, 4, 6; a byte 3, 1, 3
    {'context': 'x', 'choices': ['é', 'b'], 'answer': 0},  # 6, 3; a byte 3, 3: the first
    {'context': '', 'choices': ['b', 'bb'], 'answer': 0},  # behind the end of a document
  ]
  scorer = Scorer(loss, data(tokenizer='bytes'), variables, one_device())
  metrics, facts = scorer.choices(file(quiz))
  assert metrics['choices/accuracy'] == 2 / 4
  assert metrics['choices/accuracy_norm'] == 3 / 4  # of equal ones the first: abab, é, b
  assert metrics['choices/accuracy_stderr'] == pytest.approx(np.std([1, 0, 0, 1], ddof=1) / 2)
  assert facts['choices']['shortened'] == 0


def test_choices_of_all_lengths_keep_their_order_and_compile_little(data):
  traced = []

  def loss(variables, batch, key, *, train):
    traced.append(batch['tokens'].shape[1] - 1)
    sums = (batch['tokens'][:, 1:] * batch['mask']).sum(), batch['mask'].sum()
    return sums[0] / sums[1], ({}, {'loss': sums})

  lengths = [3, 70, 40, 20, 81, 34, 2, 64] * 3
  choices = [text_scored.Choice(np.arange(n), 1 + n // 2) for n in lengths]
  scorer = Scorer(loss, data(block_size=80, eval_batch_size=4), {}, one_device())
  expected = [sum(x.tokens[x.given :]) for x in choices]
  np.testing.assert_array_equal(scorer.nats(choices), expected)
  assert traced == [32, 64, 80]


def test_the_error_of_an_accuracy():
  nats = [np.array([1.0, 2.0])] * 5
  assert accuracies('x', nats, [0, 0, 1, 0, 1]) == pytest.approx(
    {'choices/x': 0.6, 'choices/x_stderr': np.std([1, 1, 0, 1, 0], ddof=1) / math.sqrt(5)}
  )
  assert accuracies('x', nats[:1], [0]) == {'choices/x': 1.0, 'choices/x_stderr': 0.0}


def test_a_network_that_is_not_a_number_chooses_nothing(network, file):
  language, variables = network()
  broken = jax.tree.map(lambda x: x * jnp.nan, variables)
  with pytest.raises(UserError, match='no finite likelihood'):
    examine(language, broken, choices=file(QUIZ))


# -------- where a context ends and a choice begins --------


def encoded(context, choices, tokenizer, block=64):
  question = text_scored.Question('quiz', context, tuple(choices), 0)
  return text_scored.encode_choices(question, tokenizer, block)


def scored(context, choices, tokenizer, block=64):
  found = encoded(context, choices, tokenizer, block)
  return [tokenizer.decode(x.tokens[x.given :]) for x in found]


@pytest.fixture(scope='module')
def bpe():
  return tokenizers.train_bpe(['the cat sat on the mat, then cats sat'] * 50, 300)


def test_a_choice_is_encoded_behind_its_context(bpe):
  assert scored('the cat', [' sat', ' on'], bpe) == [' sat', ' on']
  assert scored('the cat ', ['sat', 'on'], bpe) == [' sat', ' on']  # a word has its space
  [sat, _] = encoded('the cat ', ['sat', 'on'], bpe)
  assert sat.tokens.tolist() == bpe.encode('the cat sat')


def test_all_choices_are_given_the_same(bpe):
  """'cats' is one token: what 'cat' would be given is then scored of the other choice, too."""
  assert bpe.encode(' cats') != bpe.encode(' cat') + bpe.encode('s')
  assert scored('then cat', ['s sat', ' sat'], bpe) == [' cats sat', ' cat sat']


def test_with_nothing_before_it_a_choice_follows_the_end_of_a_document(bpe):
  [first, _] = encoded('', ['the cat', 'cats'], bpe)
  assert first.tokens.tolist() == [bpe.eot, *bpe.encode('the cat')] and first.given == 1
  [first, _] = encoded('th', ['e cat', 'en'], bpe)  # no token is shared with the context
  assert first.tokens.tolist() == [bpe.eot, *bpe.encode('the cat')] and first.given == 1
  with pytest.raises(ValueError, match="quiz: no token of the context '' stands before"):
    encoded('', ['a', 'b'], tokenizers.characters('ab'))


def test_a_long_context_loses_its_beginning():
  ab = tokenizers.characters('abcdefgh')
  [short, long] = encoded('abcde', ['f', 'gh'], ab, block=3)
  assert ab.decode(short.tokens) == 'cdef' and (short.given, short.cut) == (3, 2)
  assert ab.decode(long.tokens) == 'degh' and (long.given, long.cut) == (2, 3)
  [whole, _] = encoded('abcde', ['fgh', 'f'], ab, block=3)
  assert ab.decode(whole.tokens) == 'efgh' and whole.given == 1
  with pytest.raises(ValueError, match=r'quiz: a choice has 4 tokens; must be .*block_size, 3'):
    encoded('abcd', ['efgh', 'f'], ab, block=3)


def test_rows_have_few_lengths():
  choices = [text_scored.Choice(np.arange(n + 1), 1) for n in (1, 32, 33, 64, 65, 100)]
  found = text_scored.by_length(choices, 100)
  assert {length: which.tolist() for length, which in found.items()} == {
    32: [0, 1],
    64: [2, 3],
    100: [4, 5],
  }
  assert list(text_scored.by_length(choices[:1], 8)) == [8]


# -------- bad questions --------

GOOD = {'context': 'to', 'choices': [' be', ' not'], 'answer': 0}


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{"context": "to"', 'not JSON'),
    ('[' * 100_000, 'not JSON'),
    ('[1]', 'not an object'),
    ({**GOOD, 'context': 3}, 'context=3 is not a text'),
    ({'context': 'to', 'choices': ['a', 'b']}, "has no 'answer'"),
    ({**GOOD, 'choices': [' be']}, r"choices=\[' be'\] is not a list of at least two"),
    ({**GOOD, 'choices': 'be'}, "choices='be' is not a list of at least two"),
    ({**GOOD, 'choices': ['', 'b']}, "the choice '' is not a text of at least one character"),
    ({**GOOD, 'choices': [1, 'b']}, 'the choice 1 is not a text'),
    ({**GOOD, 'answer': 2}, 'answer=2 is not a number from 0 to 1'),
    ({**GOOD, 'answer': -1}, 'answer=-1 is not a number from 0 to 1'),
    ({**GOOD, 'answer': True}, 'answer=True is not a number from 0 to 1'),
    ({**GOOD, 'context': 'to?'}, r"character '\?' \(U\+003F\) at 2"),
    ({**GOOD, 'context': ''}, 'no token of the context'),
    ({**GOOD, 'choices': ['o', 'be' * T]}, 'a choice has 32 tokens'),
  ],
)
def test_a_bad_line_is_named(network, file, line, message):
  language, variables = network()
  with pytest.raises(UserError, match=f'given.txt, line 3: {message}') as error:
    examine(language, variables, choices=file([GOOD, '', line, GOOD]))
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', ['', '\n \n'])
def test_a_file_without_questions(network, file, content):
  language, variables = network()
  with pytest.raises(
    UserError, match=r'given.txt: holds no questions; each line must be \{"context"'
  ):
    examine(language, variables, choices=file(content))


# -------- many devices --------


@pytest.mark.long
@pytest.mark.parametrize('layout', [(8, 1, 1), (2, 2, 2), (1, 2, 4)], ids=str)
def test_every_mesh_measures_the_same(network, file, layout):
  language, variables = network(tokenizer='bytes')
  options = {'text': file(OTHER), 'choices': file(QUIZ, 'quiz.jsonl'), 'stride': 5}
  alone, _ = examine(language, variables, **options)
  mesh = mesh_lib.make_mesh(*layout, devices=jax.devices())
  places = mesh_lib.shardings(jax.eval_shape(language.init, jax.random.key(0)), mesh)
  spread = jax.tree.map(jax.device_put, variables, places)
  together, _ = examine(language, spread, mesh, **options)
  assert together == pytest.approx(alone, rel=1e-5)
  scorer = Scorer(language.loss, language.data, spread, mesh)
  questions = text_scored.read_questions(options['choices'])
  choices = [
    y for x in questions for y in text_scored.encode_choices(x, language.data.tokenizer, T)
  ]
  with mesh_lib.activate(mesh):
    nats = scorer.nats(choices)
  expected = Scorer(language.loss, language.data, variables, one_device()).nats(choices)
  np.testing.assert_allclose(nats, expected, rtol=1e-5)


def test_a_batch_must_be_shared_out_evenly(network, file):
  language, variables = network(eval_batch_size=6)
  mesh = mesh_lib.make_mesh(4, 1, 1, devices=jax.devices()[:4])
  with pytest.raises(ValueError, match=r'data\.eval_batch_size=6: must be divisible'):
    examine(language, variables, mesh, text=file(OTHER))
