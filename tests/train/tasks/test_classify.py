"""The task `classify`: its loss against NumPy, and the same numbers on every layout of devices."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data import pipeline
from data.images.loaders import InMemoryLoader
from data.images.source import ImageData
from train import mesh as mesh_lib
from train.errors import UserError
from train.step import init_state, make_step
from train.tasks import classifier
from train.tasks.classify import Classify, cross_entropy

SMALL_LENET = {'name': 'lenet', 'channels': (2, 4), 'hidden': (16, 16)}
AUGMENT = 'affine(rotation=10.0, scale=0.1, shear=0.1, shift=2.0)|cutout(size=6)'


@pytest.fixture(scope='module')
def digits():
  return ImageData(dataset='digits', batch_size=64)


def mesh_of(*layout):
  return mesh_lib.make_mesh(*layout, devices=jax.devices()[: int(np.prod(layout))])


def batch_of(labels, mask=None, size=28):
  count = len(labels)
  images = np.random.default_rng(0).integers(256, size=(count, size, size, 1), dtype=np.uint8)
  mask = np.ones(count, np.float32) if mask is None else np.asarray(mask, np.float32)
  index = np.arange(count, dtype=np.int32)
  return {'image': images, 'label': np.asarray(labels, np.int32), 'mask': mask, 'index': index}


def with_logits(digits, logits, **options):
  """A task whose network answers with these scores [B, K], whatever it sees."""
  task = Classify(SMALL_LENET, digits, **options)
  fixed = jnp.asarray(logits, jnp.float32)
  task.classifier.model = type(
    'Fixed', (), {'apply': lambda self, *_, **k: (fixed, {}) if 'mutable' in k else fixed}
  )()
  return task


def test_loss_and_error_are_means_over_real_rows(digits):
  logits = np.random.default_rng(1).normal(size=(4, 10))
  labels, mask = [3, 1, 4, 1], [1, 1, 1, 0]
  loss, (_, metrics) = with_logits(digits, logits).loss(
    {'params': {}}, batch_of(labels, mask), jax.random.key(0), train=False
  )
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  expected = -log_p[np.arange(4), labels][:3]
  assert float(loss) == pytest.approx(expected.mean(), rel=1e-5)
  assert float(metrics['loss'][0]) == pytest.approx(expected.sum(), rel=1e-5)
  assert float(metrics['error'][0]) == (logits.argmax(-1) != labels)[:3].sum()
  assert float(metrics['error'][1]) == 3


def test_label_smoothing_mixes_in_the_uniform_distribution(digits):
  logits = np.random.default_rng(1).normal(size=(4, 10))
  labels = [0, 2, 4, 6]
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  right, uniform = -log_p[np.arange(4), labels].mean(), -log_p.mean()
  task = with_logits(digits, logits, label_smoothing=0.2)
  loss, _ = task.loss({'params': {}}, batch_of(labels), jax.random.key(0), train=True)
  assert float(loss) == pytest.approx(0.8 * right + 0.2 * uniform, rel=1e-5)
  plain, _ = task.loss({'params': {}}, batch_of(labels), jax.random.key(0), train=False)
  assert float(plain) == pytest.approx(right, rel=1e-5)


def test_ten_crops_average_probabilities(digits):
  scores = np.random.default_rng(2).normal(size=(2, 10, 10))  # [B, crops, K]
  task = with_logits(digits, scores.reshape(20, 10), view='ten_crop(size=24)')
  loss, _ = task.loss({'params': {}}, batch_of([5, 7]), jax.random.key(0), train=False)
  p = (np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)).mean(1)
  assert float(loss) == pytest.approx(-np.log(p[[0, 1], [5, 7]]).mean(), rel=1e-5)


# -------- ranks --------


class Shades:
  """24 classes of grey images, sorted by class; the data of a task whose network is fixed."""

  classes = tuple(f'class{k:02d}' for k in range(24))
  image_shape = eval_image_shape = 28, 28, 1
  batch_size, eval_batch_size, eval_split = 8, 8, 'test'
  labels = np.repeat(np.arange(24), 3)

  def eval_batches(self, split, sharding, rows=None):
    images = np.broadcast_to(self.labels[:, None, None, None], (72, *self.image_shape))
    memory = InMemoryLoader(images.astype(np.uint8), self.labels.astype(np.int32), sharding)
    return pipeline.EvalBatches(memory, 72, self.eval_batch_size, rows)


def measured(scores):
  """Returns what training's evaluation and the verb eval say of scores `[24, K]` by class."""
  task, mesh = Classify(SMALL_LENET, Shades()), mesh_of(1)
  table = jnp.asarray(scores, jnp.float32)

  def apply(self, variables, images, train=False):
    return table[jnp.round(images[:, 0, 0, 0] * 255).astype(int)]

  task.classifier.model = type('Fixed', (), {'apply': apply})()
  task.__class__ = type('Seeing', (Classify,), {'input_shape': (28, 28, 1)})
  inside = task.evals(mesh)['test']({'params': {}})
  outside, facts, arrays = task.examine([{'params': {}}], mesh)
  assert outside == {f'test/{k}': v for k, v in inside.items() if k != 'loss'}
  return inside, facts, arrays


def test_large_logits_have_the_same_top5_error_in_training_and_in_eval():
  """After a softmax in float32 all but one probability of each row is 0, and all tie."""
  scores = -1000.0 * ((np.arange(24)[:, None] - np.arange(24)) % 24)  # class k is ranked -k mod 24
  ranks = np.arange(24)  # of the label, if row k belongs to class (row + rank) % 24
  shifted = np.stack([np.roll(scores[row], rank) for row, rank in enumerate(ranks)])
  inside, facts, _ = measured(shifted)
  assert inside['error'] == 23 / 24 and inside['error_top5'] == 19 / 24
  assert np.trace(facts['confusion']) == 3


def test_ties_and_non_numbers_are_errors(capsys):
  right = 10.0 * np.eye(24)
  assert measured(right)[0]['error'] == 0
  for bad in (np.zeros(24), np.full(24, np.nan), np.full(24, np.inf)):
    scores = right.copy()
    scores[3] = bad
    inside, facts, _ = measured(scores)
    assert inside['error'] == inside['error_top5'] == 1 / 24
    assert np.trace(facts['confusion']) == 69
  scores = right.copy()
  scores[5, 5] = np.nan
  scores[6, 7] = np.nan
  assert measured(scores)[0]['error'] == pytest.approx(2 / 24)
  told = '6 of 72 images have scores that are not finite, such as number 15; they count as wrong'
  assert told in capsys.readouterr().err


def test_the_images_of_the_report_are_of_all_classes():
  _, _, arrays = measured(np.roll(np.eye(24), 1, axis=1))
  assert len(arrays['labels']) == 16 and len(set(arrays['labels'])) >= 14
  assert (arrays['images'][:, 0, 0, 0] == arrays['labels']).all()
  assert (arrays['predictions'] == (arrays['labels'] + 1) % 24).all()


def test_a_score_of_minus_infinity_costs_nothing_where_the_target_is_0():
  logits = jnp.array([[0.0, -jnp.inf, 0.0]])
  assert cross_entropy(logits, jnp.array([[1.0, 0, 0]]))[0] == pytest.approx(np.log(2))
  assert cross_entropy(logits, jnp.array([[0, 1.0, 0]]))[0] == np.inf


def test_an_ensemble_averages_probabilities_and_keeps_ranks_of_large_logits():
  a, b = np.array([[0.0, 1, 2]]), np.array([[3.0, 0, 0]])
  softmax = [np.exp(x) / np.exp(x).sum() for x in (a, b)]
  np.testing.assert_allclose(np.exp(classifier.average([a, b])), sum(softmax) / 2)
  large = np.float32([[0, -1000, -2000, -3000]])
  assert classifier.ranks(classifier.average([large, large]), np.array([2])) == [2]


def train(digits, layout, *, parallel='jit', model=SMALL_LENET, steps=2, accumulate=1):
  task, tx, mesh = Classify(model, digits, augment=AUGMENT), optax.sgd(0.05), mesh_of(*layout)
  scope = mesh_lib.activate(mesh) if parallel == 'jit' else contextlib.nullcontext()
  with scope:
    state, shardings = init_state(task, tx, 0, mesh)
    step = make_step(task, tx, shardings, parallel=parallel, accumulate=accumulate)
    source = task.source('train', mesh, 0)
    for i in range(steps):
      state, _ = step(state, source.next((), i, None)[1])
    return jax.device_get(state.variables), task.evals(mesh)['test'](state.variables)


LAYOUTS = [
  pytest.param((8, 1, 1), 'jit', 1, marks=pytest.mark.slow),
  ((8, 1, 1), 'pmap', 1),
  pytest.param((2, 2, 2), 'jit', 1, marks=pytest.mark.slow),
  ((2, 1, 1), 'jit', 4),
]


@pytest.mark.long
@pytest.mark.parametrize(('layout', 'parallel', 'accumulate'), LAYOUTS)
def test_augmented_training_does_not_depend_on_the_devices(digits, layout, parallel, accumulate):
  alone, measured = train(digits, (1, 1, 1))
  variables, metrics = train(digits, layout, parallel=parallel, accumulate=accumulate)
  for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(variables), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-6)
  assert metrics == pytest.approx(measured, abs=1e-5)


@pytest.mark.long
def test_batch_norm_of_each_device_is_the_same_under_jit_and_pmap():
  model = {'name': 'resnet20', 'statistics': 'device'}
  small = ImageData(
    dataset='digits', batch_size=16, decode_train='resize(8)', decode_eval='resize(8)'
  )
  results = []
  for parallel in ('jit', 'pmap'):
    task, tx, mesh = Classify(model, small), optax.sgd(0.05), mesh_of(2, 1, 1)
    scope = mesh_lib.activate(mesh) if parallel == 'jit' else contextlib.nullcontext()
    with scope:
      state, shardings = init_state(task, tx, 0, mesh)
      step = make_step(task, tx, shardings, parallel=parallel)
      state, _ = step(state, task.source('train', mesh, 0).next((), 0, None)[1])
    results.append(jax.device_get(state.variables))
  for a, b in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.long
def test_examine_counts_every_image_once_and_averages_members(digits):
  task, mesh = Classify(SMALL_LENET, digits), mesh_of(8)
  members = [mesh_lib.unbox(task.init(jax.random.key(i))) for i in range(2)]
  metrics, facts, arrays = task.examine(members, mesh)
  confusion = np.array(facts['confusion'])
  assert confusion.sum() == digits.num_examples('test')
  assert metrics['test/error'] == pytest.approx(1 - np.trace(confusion) / confusion.sum())
  assert arrays['images'].dtype == np.uint8
  assert arrays['filters'].shape == (5, 5, 1, 2)
  alone, _, _ = task.examine(members[:1], mesh)
  again, _, _ = task.examine([members[0], members[0]], mesh)
  assert alone == again


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'loss': 'hinge'}, "task.loss='hinge'.*cross_entropy, squared_error"),
    ({'label_smoothing': 1.0}, 'task.label_smoothing=1.0'),
    ({'mean': (0.1, 0.2)}, 'one a channel'),
    ({'std': 0.0}, r'task\.std=0\.0: finite numbers, and std above 0'),
    ({'view': 'center_crop(size=24)|center_crop(size=20)'}, 'one view at most'),
  ],
)
def test_impossible_settings_say_why(digits, options, message):
  with pytest.raises(UserError, match=message):
    Classify(SMALL_LENET, digits, **options)


@pytest.mark.parametrize(
  ('data', 'options', 'message'),
  [
    ({}, {'augment': 'random_crop_to(size=40)'}, 'a crop of 40 from images of 28 x 28'),
    ({}, {'augment': 'cutout(size=28)'}, r'cutout\(size=28\) of 28 x 28 pixels: must be less'),
    ({}, {'augment': 'random_crop(padding=28)'}, r'padding=28\) of 28 x 28 pixels'),
    ({}, {'augment': 'affine(scale=1.0)'}, r'scale=1\.0\): must be less than 1'),
    ({}, {'view': 'ten_crop(size=40)'}, 'a crop of 40 from images of 28 x 28'),
    (
      {'decode_eval': 'resize(40)'},
      {},
      'trained on images of 28 x 28 x 1 and evaluated on 40 x 40',
    ),
  ],
)
def test_images_that_do_not_fit_the_network_are_refused_before_training(data, options, message):
  made = ImageData(dataset='digits', batch_size=64, **data)
  with pytest.raises((UserError, ValueError), match=message):
    Classify(SMALL_LENET, made, **options).evals(mesh_of(1))
  made.close()


def test_mixup_needs_a_partner(digits):
  task = Classify(SMALL_LENET, digits, augment='mixup(alpha=0.2)')
  with pytest.raises(UserError, match='mixup: an image is mixed with another of its batch'):
    task._inputs(batch_of([1]), jax.random.key(0), train=True)


def test_what_evaluations_report_is_known_before(digits):
  assert list(Classify(SMALL_LENET, digits).metrics) == ['test/loss', 'test/error']
  assert 'test/error_top5' in Classify(SMALL_LENET, Shades()).metrics
