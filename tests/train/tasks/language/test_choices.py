"""Scores of answers: which is chosen, what of it is scored, and questions that are refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.text import evaluation, tokenizers
from tests.train.tasks.language import small_language as small
from tests.train.tasks.language.small_language import QUIZ, T, examine, nats_of, one_device
from train.errors import UserError
from train.tasks.language.evaluate import Scorer, accuracies

cache, file, data, network = small.cache, small.file, small.data, small.network  # fixtures


@pytest.mark.long
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
    for question in evaluation.read_questions(file(QUIZ))
    for choice in evaluation.encode_choices(question, language.data.tokenizer, T)
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
  choices = [evaluation.Choice(np.arange(n), 1 + n // 2) for n in lengths]
  scorer = Scorer(loss, data(block_size=80, eval_batch_size=4), {}, one_device())
  expected = [sum(x.tokens[x.num_context :]) for x in choices]
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
  with pytest.raises(
    UserError, match=r'given.*: the network gives \d of \d choices no finite likeli'
  ):
    examine(language, broken, choices=file(QUIZ))


# -------- where a context ends and a choice begins --------


def encoded(context, choices, tokenizer, block=64):
  question = evaluation.Question('quiz', context, tuple(choices), 0)
  return evaluation.encode_choices(question, tokenizer, block)


def scored(context, choices, tokenizer, block=64):
  found = encoded(context, choices, tokenizer, block)
  return [tokenizer.decode(x.tokens[x.num_context :]) for x in found]


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
  assert first.tokens.tolist() == [bpe.eot, *bpe.encode('the cat')] and first.num_context == 1
  [first, _] = encoded('th', ['e cat', 'en'], bpe)  # no token is shared with the context
  assert first.tokens.tolist() == [bpe.eot, *bpe.encode('the cat')] and first.num_context == 1
  with pytest.raises(ValueError, match="quiz: no token of the context '' stands before"):
    encoded('', ['a', 'b'], tokenizers.characters('ab'))


def test_a_long_context_loses_its_beginning():
  ab = tokenizers.characters('abcdefgh')
  [short, long] = encoded('abcde', ['f', 'gh'], ab, block=3)
  assert ab.decode(short.tokens) == 'cdef' and (short.num_context, short.num_truncated) == (3, 2)
  assert ab.decode(long.tokens) == 'degh' and (long.num_context, long.num_truncated) == (2, 3)
  [whole, _] = encoded('abcde', ['fgh', 'f'], ab, block=3)
  assert ab.decode(whole.tokens) == 'efgh' and whole.num_context == 1
  with pytest.raises(ValueError, match=r'quiz: a choice has 4 tokens; must be .*block_size, 3'):
    encoded('abcd', ['efgh', 'f'], ab, block=3)


def test_rows_have_few_lengths():
  choices = [evaluation.Choice(np.arange(n + 1), 1) for n in (1, 32, 33, 64, 65, 100)]
  found = evaluation.length_buckets(choices, 100)
  assert {length: which.tolist() for length, which in found.items()} == {
    32: [0, 1],
    64: [2, 3],
    100: [4, 5],
  }
  assert list(evaluation.length_buckets(choices[:1], 8)) == [8]


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
