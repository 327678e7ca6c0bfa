"""Evaluation of diffusion models: likelihoods in bits per dimension, and quality of images.

Likelihoods by the probability flow, `bpd_ode`, and bounds of a chain of denoising steps, `bpd_vlb`,
belong to different models and are never combined. Metrics of images are named after the network
whose features are compared.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from models.diffusion import likelihood, vlb
from models.diffusion.denoiser import Denoiser
from models.diffusion.process import Process
from models.diffusion.table_sampler import Sampler
from models.diffusion.vlb import chain_timesteps
from train import mesh as mesh_lib
from train.errors import UserError
from train.task import Batch, Evaluation, Variables, evaluate
from train.tasks.images import quality
from train.tasks.images.batches import Columns, EvalData, SplitRunner, with_progress
from train.tasks.images.features import Features
from train.tasks.images.quality import Comparison, Measured, Metadata, Metrics

CHAIN_TERMS = 64  # diffusion terms that are drawn for each image
QUICK_BOUND = 1000, 8  # images and terms of the bound that `eval` computes without options
NUM_PROBES = 1
NUM_SAMPLES = 1000
MORE = (
  'more: --images=N for bits/dim by ODE and bound (0: the whole split; --probes=K), --samples=N for'
  ' the quality of images (--classifier=WORKDIR; --inception=FILE)'
)
JPEG = (
  'the images are stored as JPEG, which takes bits out of them: their bits/dim are not comparable'
  " with a paper's, unless its images were the same files"
)


@dataclasses.dataclass(frozen=True)
class Options:
  """The options of the verb `eval`; None leaves a measurement out.

  images: images of the split whose bits/dim are computed, 0 for all.
  probes: of the trace in the ODE, 0 for the exact trace.
  samples: images that are drawn and compared with the split's. The FIDs of papers are against the
    training images: --config.data.eval_split=train.
  classifier: workdir of a run whose features are compared.
  inception: file of weights of FID's network. Without either, pixels are compared.
  """

  images: int | None = None
  probes: int | None = None
  samples: int | None = None
  classifier: str | None = None
  inception: str | None = None

  def __post_init__(self):
    for name in ('images', 'probes'):
      value = getattr(self, name)
      if value is not None and value < 0:
        raise UserError(f'--{name}={value}: must be at least 0')
    quality.check_count(samples=self.samples)

  @property
  def likelihood(self) -> bool:
    return self.images is not None or self.probes is not None

  @property
  def quality(self) -> bool:
    return (self.samples, self.classifier, self.inception) != (None, None, None)


class EvaluatedTask(Protocol):
  """What an evaluation needs of a task, such as `base.ImageGeneration`."""

  data: Any  # an EvalData
  process: Process
  sampler: Sampler
  timesteps: np.ndarray
  sample_batch_size: int

  @property
  def condition(self) -> str: ...

  @property
  def guidance_scale(self) -> float: ...
  @property
  def learned_variance(self) -> bool: ...

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]: ...

  def denoiser(
    self, variables: Variables, labels: Array | None = None, *, as_trained: bool = False
  ) -> Denoiser: ...

  def images(self, variables: Variables, keys: Array, labels: Any, mesh: Mesh) -> np.ndarray:
    """Draws images uint8 `[N, H, W, C]` with keys `[N]` for labels `[N]`, or None."""
    ...


def examine(
  task: EvaluatedTask,
  ensemble: Sequence[Variables],
  mesh: Mesh,
  options: Options,
  *,
  has_likelihood: bool = True,
) -> tuple[Metrics, Metadata, dict[str, np.ndarray]]:
  """Returns metrics, metadata and arrays (none) for the verb `eval`.

  Without options these are the loss on the evaluation split and, if `has_likelihood`, the bound of
  some images. Raises UserError for more than one model.
  """
  if len(ensemble) > 1:
    raise UserError(f'{len(ensemble)} workdirs: diffusion models are evaluated one by one')
  evaluator, measured = Evaluator(task, ensemble[0], mesh), []
  given = options.classifier, options.inception, task.data.image_shape
  networks = quality.networks(*given) if options.quality else []
  with mesh_lib.activate(mesh):
    if options.likelihood:
      images = options.images or 0
      probes = NUM_PROBES if options.probes is None else options.probes
      measured += [evaluator.bound(images, CHAIN_TERMS), evaluator.likelihood(images, probes)]
    if options.quality:
      count = NUM_SAMPLES if options.samples is None else options.samples
      measured += evaluator.quality(count, networks)
    if not measured:
      measured.append(evaluator.loss())
      if has_likelihood:
        measured.append(evaluator.bound(*QUICK_BOUND))
        _print(MORE)
  metrics = {name: value for each, _ in measured for name, value in each.items()}
  metadata = {name: value for _, each in measured for name, value in each.items()}
  if any(value.get('source') == 'JPEG' for value in metadata.values()):
    _print(JPEG)
  return metrics, metadata, {}


def _print(text: str) -> None:
  if mesh_lib.is_main():
    print(text)


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """Measures one model: a task with its variables.

  mesh: the devices. seed: of all random numbers, which are drawn by an image's number.
  """

  task: EvaluatedTask
  variables: Variables
  mesh: Mesh
  seed: int = 0

  @property
  def data(self) -> EvalData:
    return self.task.data

  @property
  def batches(self) -> SplitRunner:
    return SplitRunner(self.data, self.mesh)

  def keys(self, numbers: Any, use: int) -> Array:
    """Returns a key for each image number `[N]`, different for each use."""
    key = jax.random.fold_in(jax.random.key(self.seed), use)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)

  # -------- likelihood --------

  def loss(self) -> Measured:
    """Returns the loss on the evaluation split, as in training; UserError if it is not finite."""
    found = evaluate(self.task.evals(self.mesh), self.variables)
    for name, value in found.items():
      mean_metrics(name, np.array([value]))
    return found, {}

  def likelihood(self, count: int, num_probes: int) -> Measured:
    """Returns `bpd_ode` of `count` images of the split, 0 for all, and its standard error.

    It is the likelihood of the probability flow of the network without guidance.
    `bpd_ode_probe_stderr` is the part of the standard error over images that is due to the probes
    of the trace; from a single probe it cannot be estimated.
    """
    dims = int(np.prod(self.data.image_shape))

    def measure(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      x = likelihood.dequantize(batch['image'], self.keys(batch['index'], 0))
      keys = self.keys(batch['index'], 1)
      found = likelihood.log_prob(self.denoiser(variables, batch), x, keys, num_probes=num_probes)
      bits = likelihood.bits_per_dim(found.log_prob, dims)
      return bits, found.error / (dims * np.log(2)), found.num_evaluations

    bits, errors, num_evaluations = self._over_split(measure, count)
    metrics = mean_metrics('bpd_ode', bits)
    if num_probes != 1:
      metrics['bpd_ode_probe_stderr'] = float(np.sqrt(np.square(errors).mean() / len(bits)))
    metadata = {
      **self.metadata(len(bits)),
      'dequantization': 'uniform',
      'trace': f'{num_probes} Rademacher probes an image' if num_probes else 'exact',
      'tolerance': 1e-5,
      't_min': float(self.task.process.t_min),
      'evaluations': float(num_evaluations.mean()),
    }
    return metrics, {'bpd_ode': metadata}

  def bound(self, count: int, num_terms: int) -> Measured:
    """Returns `bpd_vlb` of `count` images of the split, 0 for all, and its three terms.

    num_terms: diffusion terms that are drawn for each image. The bound is unbiased, and the
      standard error over images includes the scatter of the draw.
    """
    variance = 'learned' if self.task.learned_variance else 'large'
    chain = chain_timesteps(self.task.process)
    num_terms = min(num_terms, len(chain) - 1)

    def measure(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      x0 = 2 * batch['image'].astype(np.float32) / 255 - 1
      keys, denoiser = self.keys(batch['index'], 2), self.denoiser(variables, batch)
      found = vlb.bpd_vlb(denoiser, x0, keys, chain, variance=variance, num_terms=num_terms)
      return found.total, *found

    total, *terms = self._over_split(measure, count)
    metrics = mean_metrics('bpd_vlb', total)
    for name, values in zip(vlb.Bound._fields, terms, strict=True):
      metrics |= mean_metrics(f'bpd_vlb_{name}', values)
    metadata = {**self.metadata(len(total)), 'chain': len(chain), 'drawn': num_terms}
    return metrics, {'bpd_vlb': {**metadata, 'variance': variance}}

  def _over_split(self, measure: Any, count: int) -> Columns:
    return self.batches.over_split(self.batches.compile(measure), self.variables, count)

  def denoiser(self, variables: Variables, batch: Batch) -> Denoiser:
    """Returns the denoiser without guidance, conditioned on the batch's labels."""
    labels = None if self.task.condition == 'none' else batch['label']
    return self.task.denoiser(variables, labels, as_trained=True)

  def metadata(self, count: int) -> Metadata:
    """Returns which images the bits/dim are of."""
    data = self.data
    found = {'split': data.eval_split, 'images': count, 'condition': self.task.condition}
    source = data.stored_as(data.eval_split)
    return {**found, 'source': source} if source else found

  # -------- images --------

  def quality(self, count: int, networks: Sequence[Features]) -> list[Measured]:
    """Draws `count` images and compares them with the split's by each network."""
    conditional = self.task.condition != 'none'
    comparison = Comparison(self.batches, self.draw, conditional, self.sampling_metadata())
    return comparison.measure(count, networks)

  def sampling_metadata(self) -> Metadata:
    """Returns how the samples are drawn."""
    task, num_steps = self.task, len(self.task.timesteps)
    evaluations = task.sampler.num_evaluations(num_steps)
    found = {'sampler': repr(task.sampler), 'steps': num_steps, 'evaluations': evaluations}
    return {**found, 'guidance': task.guidance_scale}

  def draw(self, count: int, labels: np.ndarray | None) -> np.ndarray:
    """Draws uint8 `[count, H, W, C]` by the task's sampler, with a progress bar on a terminal."""
    shards = mesh_lib.batch_shards(self.mesh)
    size = -(-self.task.sample_batch_size // shards) * shards
    keys, images = self.keys(np.arange(count), 3), []
    for start in with_progress(range(0, count, size), size, -(-count // size)):
      rows = slice(start, start + size)
      given = None if labels is None else labels[rows]
      images.append(self.task.images(self.variables, keys[rows], given, self.mesh))
    return np.concatenate(images)


def mean_metrics(name: str, values: np.ndarray) -> Metrics:
  """Returns the mean of `[N]` values and, of more than one, its standard error, by metric.

  Raises UserError unless all are finite.
  """
  if bad := int((~np.isfinite(values)).sum()):
    raise UserError(f'{name}: no finite value for {bad} of {len(values)} images')
  mean, error = likelihood.mean_and_error(values)
  return {name: mean, f'{name}_stderr': error} if len(values) > 1 else {name: mean}
