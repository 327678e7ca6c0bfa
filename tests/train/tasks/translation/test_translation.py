"""Translation as a task: its loss, the layouts of devices it trains on, and what it translates."""

import gzip
import io
import math

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from data.text.parallel.source import ParallelText
from train import mesh as mesh_lib
from train.errors import UserError
from train.tasks.translation import alignment
from train.tasks.translation import translate as translate_lib
from train.tasks.translation.task import Translation

MODEL = {
  'name': 'transformer',
  'layers': 1,
  'heads': 2,
  'width': 16,
  'mlp_width': 16,
  'dropout': 0.0,
}
DATA = {'tokenizer': 'bpe:280', 'block_size': 96, 'buckets': (48,), 'batch_tokens': 1536}


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
    yield


@pytest.fixture(scope='module')
def data():
  with_numbers = ParallelText(**DATA)
  yield with_numbers
  with_numbers.close()


def task_of(data, model=(), **options):
  return Translation({**MODEL, **dict(model)}, data, preview=1, **options)


def fresh(task):
  return mesh_lib.unbox(task.init(jax.random.key(0)))


def one_device():
  return mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])


@pytest.mark.long
def test_the_loss_counts_real_pieces_alone_and_evaluations_do_not_smooth(data):
  task = task_of(data, label_smoothing=0.2)
  variables, key = fresh(task), jax.random.key(0)
  source = np.array([[5, 6, 2, 0], [7, 2, 0, 0], [0, 0, 0, 0]], np.int32)
  batch = {'source': source, 'target': source, 'index': np.arange(3)}
  batch['mask'] = np.array([1, 1, 0], np.float32)
  _, (_, smooth) = task.loss(variables, batch, key, train=True)
  _, (_, plain) = task.loss(variables, batch, key, train=False)
  assert smooth['loss'][1] == plain['loss'][1] == 5  # pieces, both EOS among them
  assert smooth['cross_entropy'][0] == pytest.approx(float(plain['loss'][0]), rel=1e-6)
  logits = task.model.apply(variables, source, source)
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, source)
  assert plain['loss'][0] == pytest.approx(float((nats * (source != 0))[:2].sum()), rel=1e-5)
  assert smooth['loss'][0] != pytest.approx(float(plain['loss'][0]), rel=1e-3)


@pytest.mark.long
def test_lines_are_translated_in_order_and_blank_ones_stay(data, capsys):
  task = task_of(data)
  translator = task.translator(fresh(task), translate_lib.Beam(beams=2, extra=2))
  sentences = ['seven', '', 'ninety-nine thousand and one', '  ', 'eight']
  alone = [translator([sentence])[0] for sentence in sentences]
  translator.lines, out = 0, io.StringIO()
  translate_lib.translate(translator, sentences, out, 3)
  assert out.getvalue().split('\n') == [*(one.text for one in alone), '']
  assert [one.text == '' for one in alone][1::2] == [True, True]
  assert capsys.readouterr().err.startswith('5 sentences, ')


def test_a_sentence_beyond_the_block_is_cut_and_said_once(data, caplog):
  task = task_of(data)
  translator = task.translator(fresh(task), translate_lib.Beam(beams=1, extra=0))
  translator(['seven ' * 200, 'eight', 'nine ' * 200])
  translator.remarks.say()
  (line,) = [record.getMessage() for record in caplog.records]
  assert 'sentences cut at data.block_size=96 pieces: 2 (line 1, line 3)' in line


def test_lines_are_read_whatever_ends_them_and_packed_or_not(tmp_path):
  for name, raw in (('a', b'\xef\xbb\xbfone\r\ntwo'), ('b.gz', gzip.compress(b'one\ntwo\n'))):
    (tmp_path / name).write_bytes(raw)
    assert list(translate_lib.read_lines(str(tmp_path / name))) == ['one', 'two']


@pytest.mark.parametrize(
  'name, raw, message',
  [
    ('a', b'one\n\xff\n', ', line 2, byte 1: invalid start byte; must be UTF-8'),
    (
      'a.gz',
      gzip.compress(b'one\n' * 9, mtime=0)[:-9],
      ', line [0-9]+: cannot be read: Compressed file ended',
    ),
    ('a.gz', b'one', ', line 1: cannot be read: Not a gzipped file'),
    ('no', None, ': No such file or directory'),
    ('', None, ': Is a directory'),
  ],
)
def test_what_cannot_be_read_is_said_with_its_line(tmp_path, name, raw, message):
  path = tmp_path / name
  if raw is not None:
    path.write_bytes(raw)
  with pytest.raises(UserError, match=f'^{path}{message}'):
    list(translate_lib.read_lines(str(path)))


@pytest.mark.long
def test_it_is_evaluated_by_loss_bleu_and_the_share_of_exact_ones(data):
  pytest.importorskip('sacrebleu')
  task = task_of(data)
  task.data.lines = lambda split: (['seven', 'eight'], ['sieben', 'acht'])
  try:
    metrics, facts, _ = task.examine([fresh(task)], one_device(), beams=1)
  finally:
    del task.data.lines
  assert {'test/loss', 'test/perplexity', 'test/bleu', 'test/exact_share'} <= metrics.keys()
  assert metrics['test/perplexity'] == pytest.approx(math.exp(metrics['test/loss']))
  assert facts['beams'] == 1 and 'tok:13a' in facts['bleu_signature']
  with pytest.raises(UserError, match='one by one'):
    task.examine([fresh(task)] * 2, one_device())


@pytest.mark.long
def test_it_draws_translations_and_the_attention_of_one(data):
  task = task_of(data, model={'layers': 2})
  files = task.draw(fresh(task), jax.random.key(0))
  source, reference = (side[0] for side in data.lines('validation'))
  assert files['translations.txt'].decode().startswith(f'{source}\n{reference}\n> ')
  pictures = task.draw_attention(fresh(task), source, [5, 6, 2])
  assert list(pictures) == ['attention.png', 'attention_heads.png']
  for contents in pictures.values():
    Image.open(io.BytesIO(contents)).verify()


def test_a_picture_has_a_bright_cell_where_the_weight_is():
  weights = np.array([[0.0, 1.0], [1.0, 0.0]])
  pixels = np.asarray(Image.open(io.BytesIO(alignment.labelled(weights, ['ab', '<'], ['x', 'y']))))
  cells = pixels[-4 - 36 : -4, -4 - 36 : -4].reshape(2, 18, 2, 18).mean((1, 3))
  np.testing.assert_array_equal(cells > 128, weights > 0.5)


@pytest.mark.parametrize(
  'options, message',
  [
    ({'label_smoothing': 1.0}, r'task\.label_smoothing=1\.0: must be from 0 to below 1'),
    ({'bleu_sentences': -1}, r'task\.bleu_sentences=-1: must be at least 0'),
    ({'model': {'name': 'gpt'}}, r"model\.name='gpt': no encoder-decoder; choose from transformer"),
    (
      {'model': {'block_size': 32}},
      r'data\.block_size=96: must be at most model\.block_size, .* 32',
    ),
    ({'model': {'heads': 3}}, r'model\.heads=3: must divide model\.width=16'),
  ],
)
def test_what_cannot_be_is_refused(data, options, message):
  with pytest.raises(UserError, match=f'^{message}'):
    task_of(data, **options)


def test_a_language_model_is_no_translator_and_says_so():
  from train.tasks.language.task import Language

  with pytest.raises(UserError, match=r"model\.name='transformer': translates"):
    Language({'name': 'transformer'}, None)
