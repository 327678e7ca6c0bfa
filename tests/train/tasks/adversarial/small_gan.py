"""A small task `gan`: scikit-learn's digits in 8 x 8 pixels."""

import contextlib
import math

import jax
import numpy as np

from data.images.source import ImageData
from train import config as config_lib
from train import mesh as mesh_lib
from train import optim
from train.optim import make_optimizer
from train.step import init_state, make_step
from train.tasks.adversarial.task import GAN

MODELS = {
  'gan': {'name': 'gan', 'latent_size': 8, 'hidden': (16,), 'maxout': (8,), 'pieces': 2},
  'dcgan': {'name': 'dcgan', 'latent_size': 8, 'width': 4},
}
DATA = {'dataset': 'digits', 'decode_train': 'resize(8)', 'decode_eval': 'resize(8)'}
SAMPLING = {'num_preview_samples': 4, 'sample_batch_size': 16, 'statistics_batch': 32}
ADAM = {'name': 'adam', 'learning_rate': 1e-3, 'b1': 0.5}
TWO = {'name': 'adversarial', 'generator': ADAM, 'discriminator': ADAM}


def data(**options):
  return ImageData(**{**DATA, 'batch_size': 16, 'eval_batch_size': 120, **options})


def task(model='gan', kind=GAN, of=None, settings=(), **section):
  """Returns the task that is built from a config's section `task`."""
  section = {**section, 'sampling': {**SAMPLING, **section.get('sampling', {})}}
  given = {'model': {**MODELS[model], **dict(settings)}, 'data': of or data()}
  return config_lib.build(section, kind, 'task', **given)


def optimizer(**options):
  section = config_lib.complete({**TWO, **options}, optim.SECTIONS, 'optimizer')
  return make_optimizer(**section, steps=100)


def mesh_of(layout=(1, 1, 1)):
  return mesh_lib.make_mesh(*layout, devices=jax.devices()[: math.prod(layout)])


def variables(made, seed=0, scale=1.0):
  """Returns fresh variables, the parameters `scale` times as large."""
  found = jax.jit(lambda key: mesh_lib.unbox(made.init(key)))(jax.random.key(seed))
  return {**found, 'params': jax.tree.map(lambda x: scale * x, found['params'])}


def batch_of(made, step=0):
  return made.source('train', mesh_of(), 0).next((), step, None)[1]


def run(made, layout=(1, 1, 1), steps=3, **options):
  """Returns the state after some steps and the metrics of each.

  By plain descent: Adam would make steps of the roundings of gradients that are nearly 0.
  """
  sgd = {'name': 'sgd', 'learning_rate': 0.1, 'momentum': 0.5}
  mesh, (tx, _) = mesh_of(layout), optimizer(generator=sgd, discriminator=sgd)
  jit = options.get('parallel', 'jit') == 'jit'
  with mesh_lib.activate(mesh) if jit else contextlib.nullcontext():
    state, shardings = init_state(made, tx, 0, mesh, ema=True)
    step = make_step(made, tx, shardings, ema_decay=0.9, **options)
    source, found = made.source('train', mesh, 0), []
    for i in range(steps):
      state, metrics = step(state, source.next((), i, None)[1])
      found.append({name: float(total) / float(n) for name, (total, n) in metrics.items()})
  return jax.device_get(state), found


def close(a, b, atol):
  for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
    np.testing.assert_allclose(x, y, atol=atol)
