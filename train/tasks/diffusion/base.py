"""What the tasks `diffusion` and `consistency` share: a conditional network that draws images."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from data.images import augment as augment_lib
from data.images.source import ImageData
from models.diffusion import checks, parameterization, samplers
from models.diffusion.denoiser import Denoiser
from models.diffusion.process import Process
from models.diffusion.processes import PROCESSES
from models.diffusion.table_sampler import Constraint, Sampler
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.step import make_eval
from train.task import Batch, Evaluation, Metrics, Programs, Source, Variables
from train.tasks import reading
from train.tasks.diffusion import sample as sample_lib
from train.tasks.diffusion.captions import Captions
from train.tasks.diffusion.network import ConditionalNetwork
from train.tasks.diffusion.options import Conditioning, build_spec, require_choice
from train.tasks.images import grids
from train.tasks.images.task import ImageTask

TRAJECTORY_BATCH = 8  # images whose trajectories are drawn at a time
FRAMES = 11  # states of a trajectory that are shown

Guide = Callable[[Denoiser, Array], Denoiser]  # (denoiser, labels `[B]`) to a guided denoiser


class ImageGeneration(ImageTask):
  """A task whose network removes noise and draws images, which are floats in [-1, 1].

  A subclass says `loss`, `sampler`, `timesteps` and perhaps `denoiser`. The byte k of an image is
  the value 2 k / 255 - 1.
  """

  sampler: Sampler
  timesteps: np.ndarray

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ImageData,
    *,
    process: str,
    prediction: str,
    conditioning: Conditioning,
    augment: str,
    num_preview_samples: int,
    sample_batch_size: int,
    **guidance: Any,
  ):
    require_choice('prediction', prediction, parameterization.PREDICTIONS)
    self.data, self.conditioning = data, conditioning
    self.process: Process = build_spec(process, PROCESSES, 'process')
    with user_errors():
      checks.check_process(self.process)
    self.augment = augment_lib.parse(augment, 'task.augment', data.image_shape)
    self.num_preview_samples = num_preview_samples
    self.sample_batch_size = sample_batch_size
    self.network = ConditionalNetwork(
      model, self.classes, self.process, prediction, conditioning, **guidance
    )
    self._compiled_samplers: dict[tuple, Callable[..., Any]] = {}

  # -------- the contract of a task --------

  @property
  def metrics(self) -> Sequence[str]:
    return ('val/loss',)

  def init(self, key: Array) -> Variables:
    return self.network.init(key, self.data.image_shape)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    raise NotImplementedError

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[Mapping[str, float], Mapping[str, Any], Mapping[str, np.ndarray]]:
    raise NotImplementedError

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    self.check_sampling()
    return reading.training(self.data, split, mesh, seed)

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns 'val': the loss on the evaluation split, with noise by the record's number."""
    with user_errors():
      ours, theirs = self.data.image_shape, self.data.eval_image_shape
    if ours != theirs:
      shapes = [' x '.join(map(str, shape)) for shape in (ours, theirs)]
      rule = f'makes images of {shapes[0]}, data.decode_eval of {shapes[1]}: must be the same'
      raise UserError(f'data.decode_train {rule}')
    batches = reading.evaluation(self.data, self.data.eval_split, mesh)
    measure = make_eval(self)
    return {'val': lambda variables: measure(variables, batches)}

  # -------- the network --------

  def denoiser(
    self, variables: Variables, labels: Array | None = None, *, as_trained: bool = False
  ) -> Denoiser:
    """Returns the denoiser for labels int `[B]`, see `ConditionalNetwork.denoiser`."""
    return self.network.denoiser(variables, labels, as_trained=as_trained)

  def inputs(self, images: Array, keys: Array, *, train: bool) -> Array:
    """Returns x_0, float32 `[B, H, W, C]` in [-1, 1], augmented in training with keys `[B]`."""
    x = images.astype(jnp.float32) / 255
    if train:
      x, _ = self.augment(nth_keys(keys, 0), x, jnp.zeros((len(x), 1)))
    return 2 * x - 1

  @property
  def condition(self) -> str:
    """What the network is conditioned on, of `options.CONDITIONS`."""
    return self.conditioning.on

  @property
  def guidance_scale(self) -> float:
    return self.network.guidance_scale

  @property
  def learned_variance(self) -> bool:
    return self.network.learned_variance

  @property
  def captions(self) -> Captions | None:
    return self.network.captions

  @property
  def classes(self) -> tuple[str, ...]:
    """The classes that the network is conditioned on; () for none."""
    return () if self.condition == 'none' else self.data.classes

  def check_sampling(self) -> None:
    """Raises UserError for a guidance scale that a network without a condition cannot follow."""
    if self.guidance_scale != 1 and self.condition == 'none':
      raise UserError(
        f"guidance_scale={self.guidance_scale:g} with task.conditioning.on='none': the network has"
        ' no condition to be guided by; set it to 1 (`sample --classifier` guides without)'
      )

  # -------- images --------

  def images(
    self,
    variables: Variables,
    keys: Array,
    labels: Any,
    mesh: Mesh,
    *,
    trajectory: bool = False,
    constraint: Constraint | None = None,
    guide: Guide | None = None,
    latents: bool = False,
  ) -> np.ndarray:
    """Draws images, uint8 `[N, H, W, C]`, or their trajectories `[N, FRAMES, H, W, C]`.

    Any number of images is drawn with one compilation, and an image depends on its key and label
    alone. Raises grids.Diverged if the sampler overflows.

    Args:
      variables: the network's.
      keys: `[N]`, one per image.
      labels: `[N]` as for `denoiser`; None for no condition.
      mesh: the devices.
      trajectory: whether to return the states from noise to image. A frame is divided by the
        standard deviation that x_t has for images of unit variance.
      constraint: see `table_sampler.Constraint`.
      guide: makes another denoiser of the denoiser.
      latents: whether to return what the sampler ends with, float32, instead of bytes.
    """
    if guide is None:
      self.check_sampling()
    shards = mesh_lib.batch_shards(mesh)
    size = TRAJECTORY_BATCH if trajectory else self.sample_batch_size
    sample = self._compiled_sampler(mesh, trajectory, constraint, guide, latents)
    data = np.asarray(jax.random.key_data(keys))
    labels = np.full(len(data), -1) if labels is None else np.asarray(labels)

    def batch(rows: Any) -> tuple[Array, Array]:
      return sample(variables, data[rows], labels[rows].astype(np.int32))

    rows: Any = np.arange(len(data))
    # What a sampler cannot do it says while it is traced.
    with mesh_lib.activate(mesh), user_errors():
      pixels, diverged = samplers.sample_in_batches(batch, rows, -(-size // shards) * shards)
    how = f'{self.sampler!r}, {len(self.timesteps)} steps, guidance scale {self.guidance_scale:g}'
    change = 'take more steps, a smaller scale or another sampler (task.sampling)'
    grids.require_images(diverged, f'{how}: {change}')
    return pixels

  def _compiled_sampler(self, mesh, trajectory, constraint, guide, latents=False) -> Any:
    """Returns (variables, key data, labels) -> bytes, or floats, and which samples diverged."""
    name = mesh, trajectory, constraint, guide, latents
    if name in self._compiled_samplers:
      return self._compiled_samplers[name]
    rows = mesh_lib.batch_sharding(mesh)

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def sample(variables, data, labels):
      keys = jax.random.wrap_key_data(data)
      x = self.process.prior_sample(nth_keys(keys, 0), self.data.image_shape)
      x, labels = lax.with_sharding_constraint((x, labels), rows)
      denoiser = self.denoiser(variables, labels)
      denoiser = guide(denoiser, labels) if guide else denoiser
      options = {'trajectory': trajectory, 'constraint': constraint}
      x = self.sampler(denoiser, x, nth_keys(keys, 1), self.timesteps, **options)
      x = self._frames(x) if trajectory else x
      return x if latents else grids.to_bytes(x), grids.has_diverged(x)

    self._compiled_samplers[name] = sample
    return sample

  def trace_sample(self, variables: Variables, mesh: Mesh) -> Programs:
    """Returns the program that draws a batch of images."""
    shards = mesh_lib.batch_shards(mesh)
    size = -(-self.sample_batch_size // shards) * shards
    keys = jax.eval_shape(lambda: jax.random.key_data(jax.random.split(jax.random.key(0), size)))
    labels = jax.ShapeDtypeStruct((size,), jnp.int32)
    sampler = self._compiled_sampler(mesh, False, None, None)
    return {'sample': sampler.trace(variables, keys, labels)}

  def _frames(self, states: Array) -> Array:
    """Returns `[B, FRAMES, H, W, C]` of a sampler's states `[N + 1, B, H, W, C]`."""
    process, t = self.process, self.timesteps
    chosen = np.linspace(0, len(t), min(FRAMES, len(t) + 1)).round().astype(int)
    std = np.append(np.sqrt(process.alpha(t) ** 2 + process.sigma(t) ** 2), 1.0)
    scale = jnp.asarray(std[chosen], states.dtype).reshape(-1, 1, 1, 1, 1)
    return (states[chosen] / scale).swapaxes(0, 1)

  def draw(self, variables: Variables, key: Array) -> dict[str, bytes]:
    """Returns 'grid.png': up to `num_preview_samples` images, a row for each class.

    Where samples diverge, as an untrained network's may, it returns 'grid.txt', which says so.
    """
    if not self.num_preview_samples:
      return {}
    labels, columns = grids.layout(self.num_preview_samples, self.classes)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(labels)))
    try:
      images = self.images(variables, keys, labels, grids.mesh_of(variables))
    except grids.Diverged as error:
      return {'grid.txt': f'{error}\n'.encode()}
    return {'grid.png': grids.png(grids.grid(images, columns))}

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
    latents: bool = False,
  ) -> None:
    """Draws images for the verb `sample`: PNG files in the folder, whose names go to stdout.

    The noise of an image depends on the seed and on its number among the samples of its label.

    Args:
      variables: the network's.
      folder: where the files go.
      samples: images for each label or caption; without these, for each class (of the first 20).
      seed: of the noise.
      label: names or numbers of classes.
      prompt: captions.
      path: whether to draw the trajectories from noise, too.
      interpolate: whether to; of this and what follows at most one, see `SampleWriter.write`.
      inpaint: an image file.
      mask: an image file.
      colourise: an image file.
      classifier: a workdir.
      latents: whether to write arrays.
    """
    request = grids.ImageRequest(samples, seed, tuple(label), tuple(prompt), path)
    writer = sample_lib.SampleWriter(self, variables, folder, request)
    writer.write(interpolate, inpaint, mask, colourise, classifier, latents)


# -------- keys and fixed random numbers --------


def record_keys(key: Array, index: Array) -> Array:
  """Returns a key `[B]` for each record number int `[B]`."""
  return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def nth_keys(keys: Array, n: int) -> Array:
  """Returns the n-th key of each of keys `[B]`."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, n)


def draw_noise(keys: Array, x0: Array) -> Array:
  """Draws eps `[B, ...]` like x0, with the third key of each of keys `[B]`."""
  return jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(nth_keys(keys, 2))


def lattice(index: Array) -> Array:
  """Returns fixed uniform numbers for records, float32 `[B]` in (0, 1), from record numbers `[B]`.

  The first N are evenly spread for any N: multiples of the golden ratio modulo 1, in 32-bit
  integers.
  """
  golden = index.astype(jnp.uint32) * np.uint32(2654435769)
  return ((golden >> 8).astype(jnp.float32) + 0.5) * np.float32(2.0**-24)
