"""The task `diffusion`: a network that learns to remove noise and draws images from noise."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from data.images.source import ImageData
from models.diffusion import checks, losses, samplers, timesteps
from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.parameterization import SIGMA_DATA
from models.diffusion.table_sampler import TableSampler
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.task import Batch, Metrics, Variables
from train.tasks.diffusion import evaluate
from train.tasks.diffusion.base import (
  ImageGeneration,
  draw_noise,
  lattice,
  nth_keys,
  record_keys,
)
from train.tasks.diffusion.options import (
  CONDITIONING,
  HYBRID,
  LOSS,
  SAMPLING,
  Conditioning,
  Loss,
  SamplerOptions,
  build_spec,
  require_unconditional,
)


class Diffusion(ImageGeneration):
  """The task `diffusion`.

  process: spec of `models.diffusion.processes.PROCESSES`, such as 'vp(beta_max=10)'.
  prediction: what the network predicts, a name of `models.diffusion.parameterization.PREDICTIONS`.
  loss, conditioning, sampling: see `options`.
  augment: augmentation of training images, as for the task classify.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ImageData,
    *,
    process: str = 'ddpm',
    prediction: str = 'eps',
    loss: Loss = LOSS,
    conditioning: Conditioning = CONDITIONING,
    augment: str = '',
    sampling: SamplerOptions = SAMPLING,
  ):
    super().__init__(
      model,
      data,
      process=process,
      prediction=prediction,
      conditioning=conditioning,
      augment=augment,
      num_preview_samples=sampling.num_preview_samples,
      sample_batch_size=sampling.sample_batch_size,
      guidance_scale=sampling.guidance_scale,
      guidance_interval=sampling.guidance_interval,
      threshold=sampling.threshold,
    )
    self.loss_options = loss
    self.time_distribution: losses.TimeDistribution = build_spec(
      loss.time_distribution, losses.TIME_DISTRIBUTIONS, 'loss.time_distribution'
    )
    self.sampler = build_spec(sampling.sampler, samplers.SAMPLERS, 'sampling.sampler')
    self.timesteps = build_spec(
      sampling.timestep_schedule,
      timesteps.TIMESTEP_SCHEDULES,
      'sampling.timestep_schedule',
      process=self.process,
      num_steps=sampling.num_steps,
    )
    with user_errors():
      checks.check_timesteps(self.process, self.timesteps)
      if loss.weighting != HYBRID:
        checks.check_loss(self.process, prediction, self.time_distribution, loss.weighting)
    self._sampling_is_checked = False
    self._check_variance()
    if conditioning.on != 'none':
      require_unconditional(loss.cond_drop_prob, sampling.guidance_scale)

  def _check_variance(self) -> None:
    """Raises UserError unless a variance is learned if and only if the loss is the hybrid one."""
    is_hybrid = self.loss_options.weighting == HYBRID
    if self.learned_variance != is_hybrid:
      raise UserError(
        f'task.loss.weighting={self.loss_options.weighting!r}: goes with model.learned_variance='
        f'{str(is_hybrid).lower()}, which is {str(self.learned_variance).lower()};'
        ' hybrid is the loss that trains a variance'
      )
    if self.sampler == samplers.Ancestral('learned') and not self.learned_variance:
      raise UserError(
        "task.sampling.sampler='ancestral(variance=learned)': needs model.learned_variance=true"
      )
    is_uniform = self.time_distribution == losses.Uniform()
    if is_hybrid and not (self.process.discrete_steps and is_uniform):
      raise UserError(
        "task.loss.weighting='hybrid': needs task.process=ddpm and"
        ' task.loss.time_distribution=uniform'
      )

  def check_sampling(self) -> None:
    """Prints, once, what does not fit together, too."""
    super().check_sampling()
    if self._sampling_is_checked:
      return
    self._sampling_is_checked = True
    for line in self._misfits() if mesh_lib.is_main() else ():
      print(line, file=sys.stderr)

  def _misfits(self) -> Iterator[str]:
    """Yields what of process, images, sampler and timesteps does not fit together."""
    nats = checks.kept_nats(self.process, int(np.prod(self.data.image_shape)))
    if nats > 1:
      shape = ' x '.join(map(str, self.data.image_shape))
      yield (
        f'task.process: the noise at the end of {self.process!r} does not hide images of {shape}:'
        f' about {nats:.2g} nats of each are left, which samples do not begin with; take a larger'
        ' sigma_max, beta_max or T'
      )
    if not isinstance(self.sampler, TableSampler):
      return
    std = checks.drawn_std(self.process, self.sampler.table(self.process, self.timesteps))
    if not 0.5 < std / SIGMA_DATA < 2:
      yield (
        f'task.sampling: {self.sampler!r} with {len(self.timesteps)} timesteps does not fit'
        f' {self.process!r}: of data with a standard deviation of {SIGMA_DATA} even the best'
        f' network would draw images with {std:.2g}; take another timestep_schedule'
        f' ({", ".join(timesteps.TIMESTEP_SCHEDULES)}), more steps or another sampler'
      )

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the mean loss; in evaluation noise and time depend on the record's number alone."""
    index, label = batch['index'], batch['label']
    keys = record_keys(key, index)
    x0, rngs = self.inputs(batch['image'], keys, train=train), None
    if train:
      # With a record's number each microbatch, and each device's part of it, draws its own numbers.
      key = jax.random.fold_in(key, index[0])
      rngs = {'dropout': key}
      label = jnp.where(self._dropped(nth_keys(keys, 1)), -1, label)
      t = self._draw_times(jax.random.fold_in(key, 1), len(index))
    else:
      t = self.time_distribution.quantile(self.process, lattice(index))
    denoiser = self.network.denoiser(variables, label, as_trained=True, rngs=rngs)
    values = self._losses(denoiser, x0, t, draw_noise(keys, x0))
    mask = batch['mask']
    total, weight = jnp.sum(values * mask), mask.sum()
    return total / weight, ({}, {'loss': (total, weight)})

  def _dropped(self, keys: Array) -> Array:
    """Draws which conditions are dropped, bool `[B]`."""
    probability = self.loss_options.cond_drop_prob
    return jax.vmap(lambda key: jax.random.bernoulli(key, probability))(keys)

  def _draw_times(self, key: Array, count: int) -> Array:
    return losses.sample_times(
      self.process,
      self.time_distribution,
      key,
      count,
      low_discrepancy=self.loss_options.low_discrepancy,
    )

  def _losses(self, denoiser: NetworkDenoiser, x0: Array, t: Array, eps: Array) -> Array:
    """Returns the loss of each image, float32 `[B]`."""
    weighting = self.loss_options.weighting
    if weighting == HYBRID:
      return losses.hybrid(denoiser, x0, t, eps)
    distribution = self.time_distribution
    return losses.loss(denoiser, x0, t, eps, weighting=weighting, distribution=distribution)

  def examine(
    self,
    members: Sequence[Variables],
    mesh: Mesh,
    *,
    images: int | None = None,
    probes: int | None = None,
    samples: int | None = None,
    classifier: str | None = None,
    inception: str | None = None,
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Evaluates the model for the verb `eval`; see `evaluate.Options`."""
    options = evaluate.Options(images, probes, samples, classifier, inception)
    return evaluate.examine(self, members, mesh, options)
