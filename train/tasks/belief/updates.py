"""The updates of one step of the training loop: a compiled scan over its mini-batches."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from models import boltzmann, dbn
from models.axes import bound_size, shard_batch
from train.task import Batch
from train.tasks import classifier
from train.tasks.belief.schedule import Now

MiniBatches = tuple[Array, Array, Array, Array]
"""Bytes of images `[M, b, v]`, labels and record numbers int32 `[M, b]`, and 0 to M - 1."""

Updated = tuple[dbn.Params, dbn.Params, Array]
"""The net after a step, momenta in the same form, and the sum of the loss."""


@dataclasses.dataclass(frozen=True)
class Updates:
  """Moves a net by the mini-batches of a step, as the step's stage says.

  Attributes:
    num_rbms: of the net, the top one included.
    num_classes: K.
    mini_batches: M.
    batch_size: images of a mini-batch, over all devices.
  """

  num_rbms: int
  num_classes: int
  mini_batches: int
  batch_size: int

  def __call__(
    self, now: Now, params: dbn.Params, velocity: dbn.Params, batch: Batch, key: Array
  ) -> Updated:
    """Returns the net after a step's updates; images `[B, H, W, C]` are M mini-batches."""

    def cut(x: Array) -> Array:  # example i M + j is of mini-batch j
      return x.reshape(-1, self.mini_batches, *x.shape[1:]).swapaxes(0, 1)

    images = batch['image'].reshape(len(batch['label']), -1)
    columns = [cut(x) for x in (images, batch['label'], batch['index'])]
    mini_batches = (*columns, jnp.arange(self.mini_batches))
    stages = [functools.partial(self._train_rbm, i) for i in range(self.num_rbms)]
    return lax.switch(
      now.layer, [*stages, self._train_net], now, params, velocity, mini_batches, key
    )

  def _train_rbm(
    self,
    layer: int,
    now: Now,
    params: dbn.Params,
    velocity: dbn.Params,
    mini_batches: MiniBatches,
    key: Array,
  ) -> Updated:
    """Trains one RBM by CD-1; the layers below say what it sees."""
    has_labels = layer == self.num_rbms - 1

    def update(carry: tuple[Any, Any], mini_batch: tuple) -> tuple[tuple[Any, Any], Array]:
      rbm, velocity = carry
      v, y, keys = self._open(key, *mini_batch)
      v = dbn.infer(params, v, layer)  # probabilities, not samples (section 6.1)
      data = v, y if has_labels else None
      model = boltzmann.gibbs(rbm, keys, *data, 1, sample_visible=False)
      grads = jax.grad(boltzmann.contrast)(rbm, data, model)
      return self._descend(now, rbm, velocity, grads), jnp.sum((v - model[0]) ** 2)

    begin = dbn.rbm_of(params, layer), now.begin(dbn.rbm_of(velocity, layer))
    (rbm, moved), losses = lax.scan(update, begin, mini_batches)
    return (
      dbn.with_rbm(params, layer, rbm),
      dbn.with_rbm(velocity, layer, moved),
      losses.sum(),
    )

  def _train_net(
    self,
    now: Now,
    params: dbn.Params,
    velocity: dbn.Params,
    mini_batches: MiniBatches,
    key: Array,
  ) -> Updated:
    """Trains all layers by the up-down algorithm."""

    def update(carry: tuple[Any, Any], mini_batch: tuple) -> tuple[tuple[Any, Any], Array]:
      params, velocity = carry
      v, y, keys = self._open(key, *mini_batch)
      wake, fantasy, sleep = dbn.up_down(params, keys, v, y, now.gibbs_steps)
      grads = jax.grad(dbn.up_down_objective)(params, wake, fantasy, sleep, y)
      made = jax.nn.sigmoid(dbn.generate(params, 0, wake[1]))
      return self._descend(now, params, velocity, grads), jnp.sum((v - made) ** 2)

    begin = params, now.begin(velocity)
    (params, velocity), losses = lax.scan(update, begin, mini_batches)
    return params, velocity, losses.sum()

  def _open(
    self, key: Array, v: Array, y: Array, index: Array, number: Array
  ) -> tuple[Array, Array, Array]:
    """Returns pixels in [0, 1], labels one-hot, and a key for each image by its record number."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, number), index)
    labels = jax.nn.one_hot(y, self.num_classes)
    return shard_batch(classifier.to_unit(v)), shard_batch(labels), keys

  def _descend(self, now: Now, weights: Any, velocity: Any, grads: Any) -> tuple[Any, Any]:
    """Returns weights and momenta after one update; grads: sums over this device's images."""
    if bound_size('data'):  # under pmap each device has its part of the mini-batch
      # One sum for all: XLA for a CPU mixes up several at a time of a program from its cache.
      flat, unflatten = ravel_pytree(grads)
      grads = unflatten(lax.psum(flat, 'data'))

    def moved(w: Array, v: Array, g: Array) -> Array:
      decay = now.weight_decay if w.ndim == 2 else 0.0
      return now.momentum * v - now.learning_rate * (g / self.batch_size + decay * w)

    velocity = jax.tree.map(moved, weights, velocity, grads)
    return jax.tree.map(jnp.add, weights, velocity), velocity
