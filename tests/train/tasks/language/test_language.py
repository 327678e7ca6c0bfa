"""Language models as a task: the loss, its evaluation, and training on any layout of devices."""

import math

import jax
import numpy as np
import optax
import pytest

from data.text.source import TextData
from train import mesh as mesh_lib
from train.errors import UserError
from train.step import init_state, make_step
from train.tasks.language.task import Language

TEXT = 'to be, or not to be: that is the question.\n' * 60
SGD = optax.sgd(0.5)
MODEL = {'name': 'gpt', 'layers': 2, 'heads': 4, 'width': 32, 'block_size': 16}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def task(tmp_path):
  """Of a file's text, by options of the data and the task."""
  (tmp_path / 'text.txt').write_text(TEXT)
  made = []

  def make(chunk=0, model=(), **options):
    options = {'tokenizer': 'characters', 'block_size': 16, 'batch_size': 16, **options}
    data = TextData(str(tmp_path / 'text.txt'), **options)
    made.append(Language({**MODEL, **dict(model)}, data, chunk=chunk))
    return made[-1]

  yield make
  for each in made:
    each.close()


def run(task, layout=(1, 1, 1), steps=3, tx=SGD, **options):
  """The parameters and each step's loss."""
  mesh = mesh_lib.make_mesh(*layout, devices=jax.devices()[: math.prod(layout)])
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh)
    step, source = make_step(task, tx, shardings, **options), task.source('train', mesh, 0)
    losses = []
    for i in range(steps):
      state, metrics = step(state, source.next((), i, None)[1])
      losses.append(float(metrics['loss'][0]) / float(metrics['loss'][1]))
  return jax.device_get(state.params), losses


@pytest.mark.long
def test_an_untrained_network_knows_nothing_and_a_trained_one_something(task):
  language = task()
  _, losses = run(language, steps=40, tx=optax.adam(1e-2))
  assert losses[0] == pytest.approx(math.log(language.data.vocab_size), abs=0.1)
  assert losses[-1] < losses[0] - 0.5


@pytest.mark.long
@pytest.mark.parametrize(
  'layout',
  [
    (2, 2, 2),
    *(pytest.param(x, marks=pytest.mark.slow) for x in ((8, 1, 1), (1, 8, 1), (1, 2, 4))),
  ],
  ids=str,
)
def test_every_mesh_trains_to_the_same_numbers(task, layout):
  params, losses = run(task())
  other, again = run(task(), layout)
  assert again == pytest.approx(losses, abs=1e-5)
  for a, b in zip(*map(jax.tree.leaves, (params, other)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.long
def test_devices_that_share_texts_train_and_evaluate_to_the_same_numbers(task):
  """In two microbatches, on two replicas of four devices."""
  params, losses = run(task())
  language, layout = task(), (2, 1, 1, 4)
  other, again = run(language, layout, accumulate=2)
  assert again == pytest.approx(losses, abs=1e-5)
  for a, b in zip(*map(jax.tree.leaves, (params, other)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)
  found = []
  for sizes in ((1, 1, 1), layout):
    mesh = mesh_lib.make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
    with mesh_lib.activate(mesh):
      found.append(language.evals(mesh)['val']({'params': params}))
  assert found[1]['loss'] == pytest.approx(found[0]['loss'], abs=1e-6)


@pytest.mark.long
def test_logits_in_parts_change_nothing(task):
  params, losses = run(task())
  other, again = run(task(chunk=6))
  assert again == pytest.approx(losses, abs=1e-5)
  for a, b in zip(*map(jax.tree.leaves, (params, other)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.long
def test_documents_are_trained_on_apart(task):
  _, losses = run(task(packing='documents', separator='\n'), steps=20, tx=optax.adam(1e-2))
  assert losses[-1] < losses[0] - 0.3


@pytest.mark.long
def test_dropout_acts_in_training_alone(task):
  _, losses = run(task())
  language = task(model={'dropout': 0.5})
  assert run(language)[1] != pytest.approx(losses, abs=1e-3)
  mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  variables = mesh_lib.unbox(language.init(jax.random.key(0)))
  evaluate = language.evals(mesh)['val']
  assert evaluate(variables) == evaluate(variables)


def test_the_metrics_agree_with_each_other(task):
  """One byte is one character is one token here."""
  language = task()
  mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  variables = mesh_lib.unbox(language.init(jax.random.key(0)))
  metrics, facts, _ = language.examine([variables], mesh)
  loss = metrics['val/loss']
  assert metrics['val/perplexity'] == pytest.approx(math.exp(loss))
  assert metrics['val/bits_per_byte'] == pytest.approx(loss / math.log(2))
  assert metrics['val/word_perplexity'] == pytest.approx(
    math.exp(loss * facts['text']['characters'] / facts['text']['words'])
  )
  with pytest.raises(UserError, match='one by one'):
    language.examine([variables, variables], mesh)


def test_a_perplexity_that_no_float_holds_is_left_out(task, caplog):
  language = task()
  language.data.tokens('validation').counts['words'] = 0
  mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  metrics, _, _ = language.examine([mesh_lib.unbox(language.init(jax.random.key(0)))], mesh)
  nats = metrics['val/loss'] * language.data.tokens('validation').counts['tokens']
  assert nats > 709 and 'val/word_perplexity' not in metrics  # of a text without spaces
  assert math.isfinite(metrics['val/perplexity'])
  assert 'val/word_perplexity: e^' in caplog.text and 'left out' in caplog.text


def test_a_row_must_fit_into_the_network(task):
  with pytest.raises(UserError, match=r'data\.block_size=32: must be at most model\.block_size'):
    task(block_size=32)
  with pytest.raises(UserError, match=r'task\.chunk=-1'):
    task(chunk=-1)


def test_a_network_that_sees_further_than_its_rows_is_said(task, caplog):
  task(block_size=8)
  assert 'data.block_size=8 is below model.block_size=16' in caplog.text


def test_the_summary_has_every_parameter(task):
  text = task().summary()
  assert 'blocks/up/kernel' in text and text.splitlines()[-1].split()[0] == 'total'
