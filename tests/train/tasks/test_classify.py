"""The task `classify`: its loss against NumPy, and the same numbers on every layout of devices."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data.images.source import ImageData
from train import mesh as mesh_lib
from train.errors import UserError
from train.step import init_state, make_step
from train.tasks.classify import Classify

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
    ({'view': 'center_crop(size=24)|center_crop(size=20)'}, 'one view at most'),
  ],
)
def test_impossible_settings_say_why(digits, options, message):
  with pytest.raises(UserError, match=message):
    Classify(SMALL_LENET, digits, **options)
