"""A task small enough to check by hand or in a second, with all that a step must carry along.

`python -m tests.train.toy '{"workdir": ..., "steps": ...}'` trains it in a process of its own.
"""

import json
import os
import sys
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from train import mesh as mesh_lib
from train.task import Task


class Network(nn.Module):
  """One convolution with running statistics of its inputs, and a dense layer; sharded by name."""

  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, *, train):
    mean = self.variable('batch_stats', 'mean', jnp.zeros, x.shape[-1:])
    if train:
      mean.value = 0.9 * mean.value + 0.1 * x.mean((0, 1, 2))
    init = nn.initializers.lecun_normal()
    named = nn.with_logical_partitioning(init, (None, None, 'channels_in', 'channels_out'))
    x = nn.relu(nn.Conv(8, (3, 3), kernel_init=named)(x))
    x = nn.with_logical_constraint(x, ('batch', None, None, 'channels_out'))
    x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
    named = nn.with_logical_partitioning(init, ('features_in', 'features_out'))
    return nn.Dense(4, kernel_init=named)(x)


class Toy(Task):
  """Four classes of noise images, told apart by their brightness."""

  batch_size, throughput = 32, ('images', 32)

  def __init__(self, batch_size=32, dropout=0.0, poison=None, signal=(None, 0), only=0, pause=0):
    self.batch_size, self.poison = batch_size, poison
    self.throughput = ('images', batch_size)
    self.signal, self.only, self.pause = tuple(signal), only, pause
    self.network = Network(dropout)

  def init(self, key):
    return self.network.init(key, jnp.zeros((1, 6, 6, 3)), train=False)

  def loss(self, variables, batch, key, *, train):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch['index'])
    noise = jax.vmap(lambda key: jax.random.normal(key, (6, 6, 3)))(keys)
    rngs = {'dropout': key}
    logits, extra = self.network.apply(
      variables, batch['image'] + 0.1 * noise, train=train, rngs=rngs, mutable=['batch_stats']
    )
    losses = -jnp.take_along_axis(nn.log_softmax(logits), batch['label'][:, None], axis=-1)[:, 0]
    count = jnp.float32(len(losses))
    error = jnp.sum(logits.argmax(-1) != batch['label']).astype(jnp.float32)
    return losses.mean(), (extra, {'loss': (losses.sum(), count), 'error': (error, count)})

  def source(self, split, mesh, seed):
    return ToySource(self, mesh, seed)

  def evals(self, mesh):
    from train.step import make_eval

    source, measure = ToySource(self, mesh, seed=99), make_eval(self)
    return {'test': lambda variables: measure(variables, [source.next((), 0, variables)[1]])}


class ToySource:
  """Batches by (seed, step); a NaN in step `poison`; signal=(step, number) hits process `only`."""

  def __init__(self, task: Toy, mesh: Any, seed: int):
    self.task, self.sharding, self.seed = task, mesh_lib.batch_sharding(mesh), seed

  def init(self, key):
    return ()

  def next(self, carry, step, variables):
    time.sleep(self.task.pause)
    random, size = np.random.default_rng((self.seed, step)), self.task.batch_size
    label = random.integers(4, size=size).astype(np.int32)
    image = random.normal(size=(size, 6, 6, 3)) + label[:, None, None, None]
    if self.task.signal[0] == step and self.task.only == jax.process_index():
      os.kill(os.getpid(), self.task.signal[1])
    if step == self.task.poison:
      image[size // 2] = np.nan
    index = np.arange(step * size, (step + 1) * size, dtype=np.int32)
    batch = {'image': image.astype(np.float32), 'label': label, 'index': index}
    return carry, {name: self._put(value) for name, value in batch.items()}

  def _put(self, value):
    return jax.make_array_from_callback(value.shape, self.sharding, lambda rows: value[rows])


def train(workdir, steps, layout=(-1, 1, 1), parallel='jit', devices=None, task=(), **settings):
  """Trains as launch.py does, on the first `devices` devices; `task` are Toy's arguments."""
  import optax

  from train.loop import Loop

  schedule = optax.linear_schedule(0.1, 0.0, steps)
  mesh = mesh_lib.make_mesh(*layout, devices=jax.devices()[:devices])
  loop = Loop(**{'steps': steps, 'log_every': 3, 'eval_every': 5, **settings})
  tx = optax.sgd(schedule, momentum=0.9)
  loop.run(Toy(**dict(task)), tx, schedule, mesh, str(workdir), seed=0, parallel=parallel)


if __name__ == '__main__':
  arguments = json.loads(sys.argv[1])
  if distributed := arguments.pop('distributed', None):
    jax.distributed.initialize(**distributed)
  train(**arguments)
