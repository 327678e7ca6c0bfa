"""The task words: the same numbers on any devices, exact resumption, and what is refused."""

import contextlib
import math
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.tasks.words import small_words
from tests.train.tasks.words.small_words import config
from train import mesh as mesh_lib
from train import run as run_lib
from train import verbs
from train.errors import UserError
from train.step import init_state, make_step

cache, text, task = small_words.cache, small_words.text, small_words.task  # fixtures
SCHEDULE = optax.linear_schedule(0.1, 1e-5, 6)


def run(words, layout=(1, 1, 1), steps=4, **options):
  """The tables and each step's loss."""
  mesh = mesh_lib.make_mesh(*layout, devices=jax.devices()[: math.prod(layout)])
  tx = optax.sgd(SCHEDULE)
  pmap = options.get('parallel') == 'pmap'
  with contextlib.nullcontext() if pmap else mesh_lib.activate(mesh):
    state, shardings = init_state(words, tx, 0, mesh)
    step = make_step(words, tx, shardings, schedule=SCHEDULE, **options)
    source, losses = words.source('train', mesh, 0), []
    for i in range(steps):
      state, metrics = step(state, source.next((), i, None)[1])
      losses.append(float(metrics['loss'][0]) / float(metrics['loss'][1]))
  return jax.device_get(state.params), losses


def same(ours, theirs, tolerance=1e-5):
  for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
    np.testing.assert_allclose(a, b, tolerance, tolerance)


@pytest.mark.long
@pytest.mark.parametrize(
  ('layout', 'options'),
  [
    ((8, 1, 1), {}),
    ((2, 2, 2), {}),
    ((1, 8, 1), {}),
    ((8, 1, 1), {'parallel': 'pmap'}),
    ((1, 1, 1), {'accumulate': 4}),
  ],
  ids=str,
)
def test_every_layout_of_devices_trains_to_the_same_numbers(task, layout, options):
  tables, losses = run(task())
  other, again = run(task(), layout, **options)
  assert losses[-1] < losses[0]
  assert again == pytest.approx(losses, abs=1e-5)
  same(tables, other)


@pytest.mark.long
def test_the_hierarchical_softmax_trains_on_many_devices_too(task):
  model = {'objective': 'hierarchical_softmax', 'architecture': 'cbow'}
  tables, losses = run(task(model=model))
  other, again = run(task(model=model), (8, 1, 1))
  assert losses[-1] < losses[0]
  assert again == pytest.approx(losses, abs=1e-5)
  same(tables, other)


def test_the_rate_is_the_configs(task):
  """No rate, no change; and the rate is logged."""
  words = task()
  mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  zero = optax.constant_schedule(0.0)
  state, shardings = init_state(words, optax.sgd(zero), 0, mesh)
  before = jax.device_get(state.params)
  step = make_step(words, optax.sgd(zero), shardings, schedule=zero)
  state, metrics = step(state, words.source('train', mesh, 0).next((), 0, None)[1])
  same(before, jax.device_get(state.params), 0)
  assert metrics['learning_rate'][0] == 0
  assert metrics['grad_norm'][0] > 0


def test_a_step_that_is_not_finite_is_not_taken(task):
  words = task()
  mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.devices()[:1])
  rate = lambda step: jnp.where(step == 1, jnp.nan, 0.1)  # noqa: E731
  tx = optax.sgd(0.1)
  state, shardings = init_state(words, tx, 0, mesh)
  step, source = make_step(words, tx, shardings, schedule=rate), words.source('train', mesh, 0)
  state, _ = step(state, source.next((), 0, None)[1])
  good = jax.device_get(state.params)
  state, _ = step(state, source.next((), 1, None)[1])
  assert state.step < 0
  same(good, jax.device_get(state.params), 0)


def completed(text, **sections):
  return verbs.complete_config(config(text, **sections))


def params(workdir, step='latest'):
  return run_lib.load_weights(str(workdir), step).variables['params']


@pytest.mark.long
@pytest.mark.usefixtures('one_device')
def test_a_run_that_is_resumed_is_the_same_to_the_bit(text, tmp_path):
  made = completed(text, task={'words': ()})  # which would be drawn
  verbs.train(made, str(tmp_path / 'whole'))
  # Stopped on the way: what is left of the second is its checkpoint of step 8.
  shutil.copytree(tmp_path / 'whole', tmp_path / 'other')
  for step in pathlib.Path(tmp_path, 'other', 'checkpoints').glob('12*'):
    shutil.rmtree(step)
  verbs.train(made, str(tmp_path / 'other'))
  same(params(tmp_path / 'whole'), params(tmp_path / 'other'), 0)


@pytest.mark.long
@pytest.mark.usefixtures('one_device')
def test_a_run_is_evaluated_sampled_and_shown(text, tmp_path, capsys):
  questions = tmp_path / 'questions.txt'
  questions.write_text(
    ': family\nking man queen woman\nman king woman queen\nking man duke earl\n'
    ': gram1-none\nking man prince boy\n'
  )
  sections = {
    'task': {'analogies': str(questions)},
    'train': {'steps': 40, 'best': 'analogies/accuracy', 'best_mode': 'max'},
    'optimizer': {'learning_rate': 0.3},
  }
  workdir = str(tmp_path / 'run')
  verbs.train(completed(text, **sections), workdir)
  found = verbs.evaluate([workdir])
  assert found['metrics']['analogies/questions'] == 3
  assert set(found['sections']) == {'family', 'gram1-none'}
  assert found['sections']['family'][1] == 2
  drawn = {path.name.split('-', 1)[1] for path in pathlib.Path(workdir, 'samples').iterdir()}
  assert drawn == {'neighbours.txt', 'map.png', 'analogies.txt'}
  pairs = tmp_path / 'pairs.csv'
  pairs.write_text('a,b,score\nking,queen,9\nking,x1,1\nman,woman,8\nking,nobody,3\n')
  found = verbs.evaluate([workdir], options={'similarities': str(pairs)})
  assert found['metrics']['similarities/pairs'] == 3
  assert -1 <= found['metrics']['similarities/spearman'] <= 1
  capsys.readouterr()
  verbs.sample(workdir, options={'word': ['King'], 'minus': ['man'], 'plus': ['woman'], 'top': 3})
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == 'King + woman - man'
  assert len(lines) == 4
  with pytest.raises(
    UserError, match=r"--word='kinks': is not among the 21 words of the vocabulary"
  ):
    verbs.sample(workdir, options={'word': ['kinks']})


@pytest.mark.parametrize(
  ('sections', 'message'),
  [
    ({'optimizer': {'name': 'adam', 'momentum': None}}, r"optimizer\.name='adam': this task takes"),
    ({'optimizer': {'momentum': 0.9}}, r'optimizer\.momentum=0\.9: this task takes its steps itse'),
    ({'optimizer': {'clip_norm': 1.0}}, r'optimizer\.clip_norm=1\.0: this task takes its steps i'),
    ({'train': {'accumulate': 2}}, r'train\.accumulate=2: must be 1, as this task takes its steps'),
    ({'model': {'name': 'word2vec', 'window': -1}}, r'model\.window=-1: must be at least 1'),
    ({'task': {'analogies': 'nowhere.txt'}}, r'nowhere\.txt: cannot be read: '),
  ],
)
@pytest.mark.usefixtures('one_device')
def test_what_does_not_fit_is_refused_before_training(text, tmp_path, sections, message):
  made = config(text, **sections)
  made['optimizer'] = {k: v for k, v in made['optimizer'].items() if v is not None}
  with pytest.raises(UserError, match=message):
    verbs.train(verbs.complete_config(made), str(tmp_path / 'run'))


@pytest.mark.usefixtures('one_device')
def test_questions_without_a_known_word_are_refused_before_training(text, tmp_path):
  (tmp_path / 'q.txt').write_text(': x\nparis france rome italy\n')
  with pytest.raises(UserError, match=r'q\.txt: none of its 1 questions has all four words among'):
    verbs.train(completed(text, task={'analogies': str(tmp_path / 'q.txt')}), str(tmp_path / 'r'))
