"""Images of a generator: any number of them, each by its own latent alone."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from models.diffusion.samplers import sample_in_batches
from models.gan import AdversarialNetworks, latents
from train import mesh as mesh_lib
from train.errors import user_errors
from train.task import Programs, Variables
from train.tasks.adversarial.options import DrawingOptions
from train.tasks.images import grids


class ImageDrawer:
  """Draws images with a generator.

  Args:
    networks: the generator's module.
    latent: how latents are distributed.
    sampling: how many are drawn at a time, and by which statistics.
  """

  def __init__(self, networks: AdversarialNetworks, latent: str, sampling: DrawingOptions):
    self.networks, self.latent, self.sampling = networks, latent, sampling
    self._compiled: dict[Mesh, Any] = {}

  def images(
    self, variables: Variables, keys: Array, labels: np.ndarray | None, mesh: Mesh
  ) -> np.ndarray:
    """Draws an image for each of keys `[N]`, uint8 `[N, H, W, C]`; see `images_of`."""
    z = latents.draw(keys, self.networks.latent_size, self.latent)
    return self.images_of(variables, np.asarray(z), labels, mesh)

  def images_of(
    self, variables: Variables, z: np.ndarray, labels: np.ndarray | None, mesh: Mesh
  ) -> np.ndarray:
    """Returns the images of latents `[N, D]` and labels `[N]`, uint8 `[N, H, W, C]`.

    Any number is drawn with one compilation, and an image depends on its latent and label alone.
    Raises grids.Diverged if a number in it is not finite.
    """
    labels = np.zeros(len(z), np.int32) if labels is None else np.asarray(labels, np.int32)
    size = self._size(mesh)
    with mesh_lib.activate(mesh), user_errors():
      standing, sample = self._programs(mesh)
      variables = standing(variables)
      rows: Any = np.arange(len(z))
      pixels, diverged = sample_in_batches(
        lambda rows: sample(variables, z[rows], labels[rows]), rows, size
      )
    grids.require_images(diverged, 'the generator')
    return pixels

  def _programs(self, mesh: Mesh) -> tuple[Any, Any]:
    """Returns (variables) -> variables to draw with; (variables, z, labels) -> bytes, diverged."""
    if mesh not in self._compiled:
      compiled = functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
      rows = mesh_lib.batch_sharding(mesh)

      def sample(variables: Variables, z: Array, labels: Array) -> tuple[Array, Array]:
        z, labels = lax.with_sharding_constraint((z, labels), rows)
        stats = {'generator': variables['batch_stats']}
        given = {'params': variables['params'], 'batch_stats': stats}
        x = self.networks.apply(given, z, labels, train=False, method='generate')
        x = 2 * x - 1
        return grids.to_bytes(x), grids.has_diverged(x)

      self._compiled[mesh] = compiled(self._standing), compiled(sample)
    return self._compiled[mesh]

  def _standing(self, variables: Variables) -> Variables:
    """Returns the generator's parameters and the statistics to draw with."""
    params = {'generator': variables['params']['generator']}
    stats = variables.get('batch_stats', {}).get('generator', {})
    if stats and (count := self.sampling.statistics_batch):
      keys = record_keys(jax.random.key(1), jnp.arange(count))
      z = latents.draw(keys, self.networks.latent_size, self.latent)
      labels = jnp.arange(count) % max(self.networks.num_classes, 1)
      # Without momentum the new averages are this batch's own moments.
      networks: Any = self.networks.clone(momentum=0.0)
      given = {'params': params, 'batch_stats': {'generator': stats}}
      how = {'method': 'generate', 'mutable': ['batch_stats']}
      _, new = networks.apply(given, z, labels, train=True, **how)
      stats = new['batch_stats']['generator']
    return {'params': params, 'batch_stats': stats}

  def trace(self, variables: Variables, mesh: Mesh) -> Programs:
    """Returns the program that draws a batch of images."""
    size = self._size(mesh)
    z = jax.ShapeDtypeStruct((size, self.networks.latent_size), jnp.float32)
    labels = jax.ShapeDtypeStruct((size,), jnp.int32)
    standing, sample = self._programs(mesh)
    traced = standing.trace(variables)
    return {'sample': sample.trace(jax.eval_shape(self._standing, variables), z, labels)} | (
      {'statistics': traced} if 'batch_stats' in variables else {}
    )

  def _size(self, mesh: Mesh) -> int:
    """Returns how many are drawn at a time: a multiple of the devices that share them."""
    shards = mesh_lib.batch_shards(mesh)
    return -(-self.sampling.sample_batch_size // shards) * shards


def record_keys(key: Array, index: Any) -> Array:
  """Returns a key `[B]` for each record number int `[B]`."""
  return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
