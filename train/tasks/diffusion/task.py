"""Diffusion models: a network that tells noise from images, and what it makes of noise alone."""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

import models.summary
from data import spec
from data.images import augment as augment_lib
from data.images.source import ImageData
from models.diffusion import losses, samplers, solvers
from models.diffusion import process as process_lib
from models.diffusion.parameterization import PREDICTIONS, Denoiser
from train import config as config_lib
from train import mesh as mesh_lib
from train.config import UserError, unknown, user_errors
from train.step import make_eval
from train.task import Batch, Metrics, Source, Variables
from train.tasks import reading
from train.tasks.diffusion import evaluate, grids, network
from train.tasks.diffusion import sample as sample_lib
from train.tasks.diffusion.captions import Captions

WEIGHTINGS = (*losses.WEIGHTINGS, 'hybrid')
PATHS = 8  # images of which the way from noise is drawn at a time
FRAMES = 11  # of such a way

Evaluation = Callable[[Variables], Mapping[str, float]]


class Diffusion:
  """The task `diffusion`: images as floats in [-1, 1], level k of a byte being 2 k / 255 - 1.

  Specs such as 'vp(beta_max=10)' choose from a table and change some of its defaults.

  process: of `models.diffusion.process`; how noise comes in.
  prediction: of `models.diffusion.parameterization`; what the network tells of a noisy image.
  weighting: of `models.diffusion.losses`, or 'hybrid', for a network of `learned_variance`.
  times: of `models.diffusion.losses`; a law for the times of training. low_discrepancy: those of a
    batch are spread evenly.
  condition: what the network is told beside the noise: 'none', the 'label', or a 'caption' made
    of the label's name by `caption`, whose {} it is. drop_condition: the chance that it is not, in
    training, as guidance needs it.
  augment: as of the task classify.

  All else is about drawing images, and may change after training. sampler: of
  `models.diffusion.samplers`.
  grid, steps: of `models.diffusion.solvers`; the times of the sampler, and how many. guidance: the
  scale of
    classifier-free guidance, 1 for none, or of a classifier's; guidance_interval: the noise levels
    (sigma / alpha) between which the first holds. threshold: 'static' or 'dynamic', see
    `models.diffusion.guidance.threshold`.
  shown: images at each evaluation in training, 0 for none. at_once: images drawn at a time.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ImageData,
    *,
    process: str = 'ddpm',
    prediction: str = 'eps',
    weighting: str = 'simple',
    times: str = 'uniform',
    low_discrepancy: bool = True,
    condition: str = 'none',
    drop_condition: float = 0.1,
    caption: str = 'a picture of {}',
    augment: str = '',
    sampler: str = 'ddim',
    grid: str = 'uniform',
    steps: int = 50,
    guidance: float = 1.0,
    guidance_interval: tuple[float, float] | None = None,
    threshold: str = 'none',
    shown: int = 36,
    at_once: int = 64,
  ):
    _choice('prediction', prediction, PREDICTIONS)
    _choice('weighting', weighting, WEIGHTINGS)
    _choice('condition', condition, network.CONDITIONS)
    _choice('threshold', threshold, network.THRESHOLDS)
    _require('drop_condition', drop_condition, 0 <= drop_condition <= 1, 'must be in [0, 1]')
    _require('steps', steps, steps >= 2, 'must be at least 2')
    _require('shown', shown, shown >= 0, 'must be a number of images, or 0')
    _require('at_once', at_once, at_once >= 1, 'must be at least 1')
    self.data, self.condition, self.drop_condition = data, condition, drop_condition
    self.weighting, self.low_discrepancy = weighting, low_discrepancy
    self.process: process_lib.Process = _build(process, process_lib.PROCESSES, 'process')
    self.law: losses.Times = _build(times, losses.TIMES, 'times')
    self.sampler: samplers.Sampler = _build(sampler, samplers.SAMPLERS, 'sampler')
    self.times: np.ndarray = _build(grid, solvers.GRIDS, 'grid', process=self.process, steps=steps)
    self.guidance, self.shown, self.at_once = guidance, shown, at_once
    self.augment = augment_lib.parse(augment, 'task.augment')
    self.network = network.Network(
      model,
      data.classes,
      self.process,
      prediction,
      condition=condition,
      caption=caption,
      scale=guidance,
      interval=guidance_interval,
      threshold=threshold,
    )
    self.learned_variance = self.network.learned_variance
    self._check_variance()
    self._makers: dict[tuple, Callable[..., Array]] = {}

  def _check_variance(self) -> None:
    """The variance is learned by the hybrid loss, and by it alone."""
    if self.learned_variance != (self.weighting == 'hybrid'):
      has = str(self.learned_variance).lower()
      raise UserError(
        f'task.weighting={self.weighting!r}: goes with model.learned_variance='
        f'{str(not self.learned_variance).lower()}, which is {has}; hybrid is the loss that'
        ' teaches a variance'
      )
    uniform = isinstance(self.law, losses.Uniform)
    if self.weighting == 'hybrid' and not (isinstance(self.process, process_lib.DDPM) and uniform):
      raise UserError("task.weighting='hybrid': is of task.process=ddpm, and times=uniform")

  # -------- what the loop asks for --------

  @property
  def batch_size(self) -> int:
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    return 'images', self.data.batch_size

  def summary(self) -> str:
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    self.data.close()

  def init(self, key: Array) -> Variables:
    return self.network.init(key, self.data.image_shape)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """In evaluation each record has its own noise and time, the same ones at every step."""
    index, label = batch['index'], batch['label']
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    x0, rngs = self._inputs(batch['image'], keys, train=train), None
    if train:
      # A record's number makes another draw of each microbatch, and of each device's part.
      key = jax.random.fold_in(key, index[0])
      rngs = {'dropout': key}
      dropped = jax.vmap(lambda key: jax.random.bernoulli(key, self.drop_condition))(_each(keys, 1))
      label = jnp.where(dropped, -1, label)
      t = self._draw_times(jax.random.fold_in(key, 1), len(index))
    else:
      t = self.law.quantile(self.process, lattice(index))
    noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(_each(keys, 2))
    denoiser = self.network.denoiser(variables, label, as_trained=True, rngs=rngs)
    value = self._losses(denoiser, x0, t, noise)
    mask = batch['mask']
    total, weight = jnp.sum(value * mask), mask.sum()
    return total / weight, ({}, {'loss': (total, weight)})

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    return reading.training(self.data, split, mesh, seed)

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """'val': the loss on the evaluation split, with noise and times of the record's number."""
    batches = reading.evaluation(self.data, self.data.eval_split, mesh)
    measure = make_eval(self)
    return {'val': lambda variables: measure(variables, batches)}

  # -------- the loss's parts --------

  def _inputs(self, images: Array, keys: Array, *, train: bool) -> Array:
    """float32 `[B, H, W, C]` in [-1, 1]."""
    x = images.astype(jnp.float32) / 255
    if train:
      x, _ = self.augment(_each(keys, 0), x, jnp.zeros((len(x), 1)))
    return 2 * x - 1

  def _draw_times(self, key: Array, count: int) -> Array:
    return losses.sample_times(
      self.process, self.law, key, count, low_discrepancy=self.low_discrepancy
    )

  def _losses(self, denoiser: Denoiser, x0: Array, t: Array, noise: Array) -> Array:
    """float32 `[B]`."""
    if self.weighting == 'hybrid':
      return losses.hybrid(denoiser, x0, t, noise)
    return losses.loss(denoiser, x0, t, noise, weighting=self.weighting, law=self.law)

  # -------- the network as others know it --------

  def denoiser(
    self, variables: Variables, labels: Array | None = None, *, as_trained: bool = False
  ) -> Denoiser:
    """The network, with guidance and threshold unless it is wanted `as_trained`.

    labels: int `[B]`, -1 for none, or None: see `network.Network.denoiser`.
    """
    return self.network.denoiser(variables, labels, as_trained=as_trained)

  # -------- images --------

  def images(
    self,
    variables: Variables,
    keys: Array,
    labels: Any,
    mesh: Mesh,
    *,
    path: bool = False,
    constraint: samplers.Constraint | None = None,
    guide: Callable[[Denoiser, Array], Denoiser] | None = None,
  ) -> np.ndarray:
    """uint8 `[N, H, W, C]` of keys `[N]`, or with `path` `[N, FRAMES, H, W, C]`, from noise on.

    labels: as of `denoiser`, `[N]`. guide: (denoiser, labels) to another denoiser.
    Any number is drawn with one compilation, and no image depends on another. A frame is divided by
    the deviation that images of unit variance would have there.
    """
    shards, size = mesh_lib.batch_shards(mesh), PATHS if path else self.at_once
    make = self._maker(mesh, path, constraint, guide)
    data = np.asarray(jax.random.key_data(keys))
    labels = np.full(len(data), -1) if labels is None else np.asarray(labels)

    def some(rows: Any) -> Array:
      return make(variables, data[rows], labels[rows].astype(np.int32))

    rows: Any = np.arange(len(data))
    with mesh_lib.activate(mesh):
      return samplers.in_chunks(some, rows, -(-size // shards) * shards)

  def _maker(self, mesh, path, constraint, guide) -> Callable[..., Array]:
    """The compiled function of (variables, key data, labels); each is made once."""
    name = mesh, path, constraint, guide
    if name in self._makers:
      return self._makers[name]
    rows = mesh_lib.batch_sharding(mesh)

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def make(variables, data, labels):
      keys = jax.random.wrap_key_data(data)
      x = self.process.prior_sample(_each(keys, 0), self.data.image_shape)
      x, labels = lax.with_sharding_constraint((x, labels), rows)
      denoiser = self.denoiser(variables, labels)
      denoiser = guide(denoiser, labels) if guide else denoiser
      options = {'path': path, 'constraint': constraint}
      x = self.sampler(denoiser, x, _each(keys, 1), self.times, **options)
      return grids.to_bytes(self._frames(x) if path else x)

    self._makers[name] = make
    return make

  def _frames(self, states: Array) -> Array:
    """`[B, FRAMES, H, W, C]` of a sampler's states `[N + 1, B, H, W, C]`."""
    process, times = self.process, self.times
    chosen = np.linspace(0, len(times), min(FRAMES, len(times) + 1)).round().astype(int)
    std = np.append(np.sqrt(process.alpha(times) ** 2 + process.sigma(times) ** 2), 1.0)
    scale = jnp.asarray(std[chosen], states.dtype).reshape(-1, 1, 1, 1, 1)
    return (states[chosen] / scale).swapaxes(0, 1)

  def draw(self, variables: Variables, key: Array) -> dict[str, bytes]:
    """'grid.png': up to `shown` images, a row for each class if the network is told of classes."""
    if not self.shown:
      return {}
    labels, columns = grids.layout(self.shown, self.classes)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(labels)))
    images = self.images(variables, keys, labels, grids.mesh_of(variables))
    return {'grid.png': grids.png(grids.grid(images, columns))}

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
    """The verb eval: `evaluate.examine`."""
    return evaluate.examine(
      self,
      members,
      mesh,
      images=images,
      probes=probes,
      samples=samples,
      classifier=classifier,
      inception=inception,
    )

  def sample(
    self,
    variables: Variables,
    folder: str,
    *,
    samples: int = 8,
    seed: int = 0,
    label: Sequence[str] = (),
    prompt: Sequence[str] = (),
    path: bool = False,
    interpolate: bool = False,
    inpaint: str | None = None,
    mask: str | None = None,
    colourise: str | None = None,
    classifier: str | None = None,
  ) -> None:
    """The verb sample: images as PNG files in the folder, whose names go to stdout.

    `samples` of each label, or caption in `prompt`; without these, of each class (of the first 20)
      where the network is told of classes. Which noise it is depends on the seed and which of its
      label's samples an image is.
    path: also how they come from noise. interpolate: instead, the ways between `samples` pairs of
      images of the evaluation split, through the latents of the probability flow.
    inpaint: an image file, whose part that is white in the file `mask` is drawn anew. colourise: an
      image file, of which only the grey is kept. classifier: a workdir of the task classify; its
      labels guide the network, which need not know them.
    """
    request = grids.Request(samples, seed, tuple(label), tuple(prompt), path)
    painter = sample_lib.Painter(self, variables, folder, request)
    painter.paint(interpolate, inpaint, mask, colourise, classifier)

  @property
  def captions(self) -> Captions | None:
    return self.network.captions

  @property
  def classes(self) -> tuple[str, ...]:
    """Those that the network is told of."""
    return () if self.condition == 'none' else self.data.classes


# -------- building --------


def lattice(index: Array) -> Array:
  """float32 `[B]` in (0, 1) of record numbers: however many first ones, they are spread evenly.

  Multiples of the golden ratio, modulo 1, in integers of 32 bits.
  """
  golden = index.astype(jnp.uint32) * np.uint32(2654435769)
  return ((golden >> 8).astype(jnp.float32) + 0.5) * np.float32(2.0**-24)


def _each(keys: Array, number: int) -> Array:
  """The number-th key of each of keys `[B]`."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def _build(text: str, table: Mapping[str, Callable], key: str, **given: Any) -> Any:
  """What a spec such as 'heun(churn=10)' says, of a table."""
  with user_errors():
    where = f'task.{key}'
    return config_lib.build(spec.section(text, where), table, where, **given)


def _choice(key: str, value: str, choices: Collection[str]) -> None:
  if value not in choices:
    raise unknown(f'task.{key}={value!r}', value, f'no such {key}', choices)


def _require(key: str, value: Any, holds: bool, rule: str) -> None:
  if not holds:
    raise UserError(f'task.{key}={value!r}: {rule}')
