"""Scores of texts: against loops that are too simple to be wrong, and by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.text import evaluation
from data.text.corpus import Tokens
from data.text.rows import StridedWindows, Windows
from tests.train.tasks.language import small_language as small
from tests.train.tasks.language.small_language import (
  OTHER,
  QUIZ,
  TEXT,
  T,
  examine,
  nats_of,
  one_device,
)
from train import mesh as mesh_lib
from train.errors import UserError
from train.tasks.language.evaluate import Scorer, text_metrics

cache, file, data, network = small.cache, small.file, small.data, small.network  # fixtures

# -------- windows --------


@given(st.integers(2, 60), st.integers(1, 12), st.data())
def test_windows_predict_each_token_once_from_enough_before_it(length, block, draw):
  stride = draw.draw(st.integers(1, block))
  stream = 100 + np.arange(length)
  rows = StridedWindows(stream, block, stride)
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
  strided = StridedWindows(stream, 1024, 1024)
  assert windows.eval_size == strided.size == 2**22 + 1
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
  assert set(endless) == {'text/loss', 'text/perplexity', 'text/bits_per_byte'}
  assert all(map(math.isfinite, endless.values()))


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
  questions = evaluation.read_questions(options['choices'])
  choices = [y for x in questions for y in evaluation.encode_choices(x, language.data.tokenizer, T)]
  with mesh_lib.activate(mesh):
    nats = scorer.nats(choices)
  expected = Scorer(language.loss, language.data, variables, one_device()).nats(choices)
  np.testing.assert_allclose(nats, expected, rtol=1e-5)


def test_a_batch_must_be_shared_out_evenly(network, file):
  language, variables = network(eval_batch_size=6)
  mesh = mesh_lib.make_mesh(4, 1, 1, devices=jax.devices()[:4])
  with pytest.raises(ValueError, match=r'data\.eval_batch_size=6: must be divisible'):
    examine(language, variables, mesh, text=file(OTHER))


@pytest.mark.parametrize('options', [{}, {'stride': 4}, {'text': 'to be\nor not'}])
def test_a_loss_that_is_no_number_is_no_answer(network, file, options):
  language, variables = network()
  broken = jax.tree.map(lambda x: x * np.nan, variables)
  if 'text' in options:
    options = {'text': file(options['text'])}
  with pytest.raises(UserError, match=r'(validation|given.txt): .* no finite loss in \d+ of \d+'):
    examine(language, broken, **options)
