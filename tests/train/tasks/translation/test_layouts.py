"""Networks that translate train to the same numbers on any layout of devices, and after a stop."""

import contextlib
import math

import jax
import numpy as np
import optax
import pytest

from data.text.parallel.source import ParallelText
from train import mesh as mesh_lib
from train import verbs
from train.run import load_weights
from train.step import init_state, make_step
from train.tasks.translation.task import Translation

SGD = optax.sgd(0.5)
RECURRENT = {'name': 'rnnsearch', 'width': 16, 'hidden': 16, 'align': 8, 'maxout': 8}
RECURRENT |= {'first_values': 'scaled'}
NETWORKS = {
  'transformer': {'name': 'transformer', 'layers': 2, 'heads': 4, 'width': 32, 'mlp_width': 32},
  'rnnsearch': RECURRENT,
  'rnnenc': {**RECURRENT, 'attention': False},
}
DATA = {'tokenizer': 'bpe:300', 'block_size': 32, 'buckets': (20,), 'batch_tokens': 640}
EVERY = pytest.mark.parametrize('network', NETWORKS)


@pytest.fixture(autouse=True, scope='module')
def cache(tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
    yield


@pytest.fixture(scope='module')
def data():
  source = ParallelText(train_split='train[:400]', **DATA)
  yield source
  source.close()


def run(data, network, layout=(1, 1, 1), steps=4, **options):
  """Returns the parameters and each step's loss; the steps have batches of two shapes."""
  task = Translation({'dropout': 0.0, **NETWORKS[network]}, data)
  mesh = mesh_lib.make_mesh(*layout, devices=jax.devices()[: math.prod(layout)])
  # A replica under `pmap` is a program of one device, without a mesh (`train/loop.py`).
  jit = options.get('parallel') != 'pmap'
  with mesh_lib.activate(mesh) if jit else contextlib.nullcontext():
    state, shardings = init_state(task, SGD, 0, mesh)
    step, source = make_step(task, SGD, shardings, **options), task.source('train', mesh, 0)
    losses, shapes = [], set()
    for i in range(steps):
      batch = source.next((), i, None)[1]
      shapes.add(batch['source'].shape)
      state, metrics = step(state, batch)
      losses.append(float(metrics['loss'][0]) / float(metrics['loss'][1]))
  assert shapes == {(32, 20), (16, 32)}
  return jax.device_get(state.params), losses


@pytest.fixture(scope='module')
def alone(data):
  """Parameters and losses on one device, by network."""
  found = {}

  def of(network):
    if network not in found:
      found[network] = run(data, network)
    return found[network]

  return of


def assert_same(found, expected):
  assert found[1] == pytest.approx(expected[1], abs=1e-5)
  for a, b in zip(*(jax.tree.leaves(params) for params, _ in (found, expected)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize(
  'layout', [(2, 2, 2), pytest.param((8, 1, 1), marks=pytest.mark.slow)], ids=str
)
def test_every_mesh_trains_to_the_same_numbers(data, alone, network, layout):
  assert_same(run(data, network, layout), alone(network))


@pytest.mark.long
@EVERY
@pytest.mark.parametrize(
  'options', [{'accumulate': 2}, {'parallel': 'pmap'}], ids=['accumulated', 'pmap']
)
def test_microbatches_and_replicas_train_to_the_same_numbers(data, alone, network, options):
  layout = (1, 1, 1) if 'accumulate' in options else (8, 1, 1)
  assert_same(run(data, network, layout, **options), alone(network))


@pytest.mark.long
@pytest.mark.parametrize('network', ['rnnsearch'])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(network, tmp_path):
  config = {
    'task': {'name': 'translation', 'preview': 0},
    'model': {**NETWORKS[network], 'dropout': 0.2},
    'data': {'name': 'parallel', 'train_split': 'train[:400]', **DATA},
    'optimizer': {'name': 'adam', 'learning_rate': 1e-2},
    'train': {'steps': 6, 'log_every': 1, 'best': 'val/loss'},
  }
  whole, parts = tmp_path / 'whole', tmp_path / 'parts'
  verbs.train(verbs.complete_config(config), str(whole))
  for steps in (3, 6):
    config['train']['steps'] = steps
    verbs.train(verbs.complete_config(config), str(parts))
  first, second = (load_weights(str(path)).variables for path in (whole, parts))
  jax.tree.map(np.testing.assert_array_equal, first, second)
