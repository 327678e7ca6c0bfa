"""Our networks in our own compiled step, as the loop runs it."""

import jax
import numpy as np
import optax

from data.images import Outline
from models import ops
from train import mesh as mesh_lib
from train.step import init_state, make_step
from train.tasks import Classify


def make_step_and_state(net, batch, shape, classes):
  """The compiled step, the state before it, and a batch on the device."""
  dtype = 'float32' if jax.default_backend() == 'cpu' else 'bfloat16'
  task = Classify({'name': net, 'dtype': dtype}, Outline(tuple(map(str, range(classes))), shape))
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


def make_burst(net, batch, shape, classes, *, formulation):
  """A function that runs n training steps and waits for the last; its parameters' number."""
  if formulation == 'plain':
    with ops.use('plain'):
      step, state, data = make_step_and_state(net, batch, shape, classes)
  else:
    step, state, data = make_step_and_state(net, batch, shape, classes)

  def burst(steps):
    nonlocal state
    for _ in range(steps):
      state, metrics = step(state, data)
    float(metrics['loss'][0])

  return burst, sum(x.size for x in jax.tree.leaves(state.params))
