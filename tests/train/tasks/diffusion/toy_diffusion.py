"""A small diffusion task: scikit-learn's digits in 8 x 8 pixels, a transformer of one layer."""

import math

import jax
import numpy as np
import optax

from data.images.source import ImageData
from train import config as config_lib
from train import mesh as mesh_lib
from train.step import init_state, make_step
from train.tasks.diffusion.task import Diffusion

MODEL = {'name': 'dit', 'patch': 4, 'layers': 1, 'heads': 2, 'width': 16}
DATA = {'dataset': 'digits', 'decode_train': 'resize(8)', 'decode_eval': 'resize(8)'}
SAMPLING = {'num_steps': 5, 'num_preview_samples': 10, 'sample_batch_size': 16}


def data(**options):
  return ImageData(**{**DATA, 'batch_size': 16, 'eval_batch_size': 120, **options})


def task(kind=Diffusion, model=(), of=None, **section):
  """Returns the task that is built from a config's section `task`."""
  section = {**section, 'sampling': {**SAMPLING, **section.get('sampling', {})}}
  given = {'model': {**MODEL, **dict(model)}, 'data': of or data()}
  return config_lib.build(section, kind, 'task', **given)


def variables(made, seed=0, noise=0.5):
  """Returns random variables: a network as initialised always predicts 0."""

  def fresh(key):
    return mesh_lib.unbox(made.init(key))

  random = np.random.default_rng(seed)
  shapes = jax.eval_shape(fresh, jax.random.key(seed))
  return jax.tree.map(lambda x: noise * random.normal(size=x.shape).astype(x.dtype), shapes)


def mesh_of(layout=(1, 1, 1)):
  return mesh_lib.make_mesh(*layout, devices=jax.devices()[: math.prod(layout)])


def keys_of(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def batch_of(made):
  return made.source('train', mesh_of(), 0).next((), 0, None)[1]


def run(made, layout=(1, 1, 1), steps=3, tx=None):
  """Returns the trained parameters and the loss of each step."""
  mesh, tx = mesh_of(layout), tx or optax.sgd(0.1)
  with mesh_lib.activate(mesh):
    state, shardings = init_state(made, tx, 0, mesh)
    step, source = make_step(made, tx, shardings), made.source('train', mesh, 0)
    losses = []
    for i in range(steps):
      state, metrics = step(state, source.next((), i, None)[1])
      losses.append(float(metrics['loss'][0]) / float(metrics['loss'][1]))
  return jax.device_get(state.params), losses


def close(a, b, atol):
  for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
    np.testing.assert_allclose(x, y, atol=atol)
