"""Our networks in our own compiled step, as the loop runs it."""

import contextlib
import unittest.mock

import jax
import numpy as np
import optax

from data.images.source import ImageMetadata
from models import ops
from train import mesh as mesh_lib
from train.step import init_state, make_step
from train.tasks import Classify


def make_step_and_state(net, batch, shape, classes):
  """The compiled step, the state before it, and a batch on the device."""
  dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  task = Classify(
    {'name': net, 'dtype': dtype}, ImageMetadata(tuple(map(str, range(classes))), shape)
  )
  tx = optax.sgd(0.01, momentum=0.9)
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  rng = np.random.default_rng(0)
  values = {
    'image': rng.normal(size=(batch, *shape)).astype(np.float32),
    'label': rng.integers(classes, size=batch).astype(np.int32),
    'index': np.arange(batch, dtype=np.int32),
    'mask': np.ones(batch, np.float32),
  }
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh)
    device_batch = jax.device_put(values, mesh_lib.batch_sharding(mesh))
    step = make_step(task, tx, shardings).lower(state, device_batch).compile()
  return step, state, device_batch


@contextlib.contextmanager
def without(name):
  """Traces one function of `ops`, such as 'max_pool', in its plain form, and the others as ever."""
  function = getattr(ops, name)

  def plain(*args, **kwargs):
    with ops.use('plain'):
      return function(*args, **kwargs)

  with unittest.mock.patch.object(ops, name, plain):
    yield


def make_burst(net, batch, shape, classes, *, form):
  """A function that runs n training steps and waits for the last; its parameters' number.

  form: '', as ever; 'plain', as on an accelerator; 'without-NAME'.
  """
  forms = {'': contextlib.nullcontext, 'plain': lambda: ops.use('plain')}
  with forms.get(form, lambda: without(form.removeprefix('without-')))():
    step, state, data = make_step_and_state(net, batch, shape, classes)

  def burst(steps):
    nonlocal state
    for _ in range(steps):
      state, metrics = step(state, data)
    float(metrics['loss'][0])

  return burst, sum(x.size for x in jax.tree.leaves(state.params))
