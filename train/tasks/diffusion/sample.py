"""The verb `sample` of diffusion models: images from noise, or from a part that is known."""

import functools
import io
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import Array
from jax.sharding import Mesh

from data.images import modes
from models.diffusion import guidance, samplers
from models.diffusion.denoiser import Denoiser
from models.diffusion.table_sampler import Constraint
from train import mesh as mesh_lib
from train.errors import UserError
from train.task import Variables
from train.tasks import reading
from train.tasks.diffusion.captions import Captions
from train.tasks.images import features, grids
from train.tasks.images.grids import (
  MAX_CLASSES,
  ImageRequest,
  class_numbers,
  grid,
  mesh_of,
  png,
  strips,
)
from train.workdir import free_path, write_bytes

STAGES = 11  # images of an interpolation
TOLERANCE = 1e-3  # of the probability flow both ways; a byte's step is 0.008


class DrawingTask(Protocol):
  """What the verb needs of a task, such as `base.ImageGeneration`."""

  data: Any  # an EvalData
  timesteps: np.ndarray

  @property
  def guidance_scale(self) -> float: ...

  @property
  def captions(self) -> Captions | None: ...

  @property
  def classes(self) -> tuple[str, ...]: ...

  def denoiser(
    self, variables: Variables, labels: Array | None = None, *, as_trained: bool = False
  ) -> Denoiser: ...

  def images(
    self,
    variables: Variables,
    keys: Array,
    labels: Any,
    mesh: Mesh,
    *,
    trajectory: bool = False,
    constraint: Constraint | None = None,
    guide: Callable[[Denoiser, Array], Denoiser] | None = None,
    latents: bool = False,
  ) -> np.ndarray: ...


class SampleWriter:
  """Draws what a request asks of a task, into PNG files of the folder."""

  def __init__(self, task: DrawingTask, variables: Variables, folder: str, request: ImageRequest):
    self.task, self.variables = task, variables
    self.folder, self.request = folder, request
    self.mesh = mesh_of(variables)

  def write(
    self,
    interpolate: bool = False,
    inpaint: str | None = None,
    mask: str | None = None,
    colourise: str | None = None,
    classifier: str | None = None,
    latents: bool = False,
  ) -> None:
    """Draws images by the one method that is given; UserError for two at a time.

    Args:
      interpolate: draws interpolations between `samples` pairs of images of the evaluation split,
        through the latents of the probability flow.
      inpaint: an image file, of which the part that is white in the file `mask` is drawn anew.
      mask: an image file.
      colourise: an image file, of which only the grey values are kept.
      classifier: a workdir of the task classify, whose gradient guides an unconditional network.
      latents: writes arrays instead of images, for the decoder of an autoencoder.
    """
    given = {'inpaint': inpaint, 'colourise': colourise, 'classifier': classifier}
    chosen = [name for name, value in given.items() if value is not None]
    chosen += ['interpolate'] * interpolate + ['latents'] * latents
    if (mask is None) != (inpaint is None):
      raise UserError('--inpaint=FILE and --mask=FILE go together')
    if len(chosen) > 1:
      raise UserError(f'{" and ".join(f"--{name}" for name in chosen)}: one of them at a time')
    if interpolate:
      self.interpolate()
    elif inpaint is not None and mask is not None:
      self.inpaint(inpaint, mask)
    elif colourise is not None:
      self.colourise(colourise)
    elif classifier is not None:
      self.by_classifier(classifier)
    elif latents:
      self.draw_latents()
    else:
      self.draw()

  def draw(self, name: str = 'grid', rows: np.ndarray | None = None, **options: Any) -> None:
    """Draws a grid with a row for each label or caption, else a square; and trajectories if asked.

    name: of the file. rows: labels, instead of the request's. options: of the task's `images`.
    """
    request, labels = self.request, self.rows() if rows is None else rows
    count, columns = 1, math.ceil(request.samples**0.5)
    if labels is not None:
      count, columns = len(labels), request.samples
      labels = np.repeat(labels, request.samples, axis=0)
    how = (self.variables, request.keys(count), labels, self.mesh)
    self.save(name, grid(self.task.images(*how, **options), columns))
    if request.trajectories:
      self.save('path', strips(self.task.images(*how, trajectory=True, **options)))

  def draw_latents(self) -> None:
    """Writes `latents-SEED.npy`, float32 `[N, H, W, C]`, the samples of each label in a row."""
    request, labels = self.request, self.rows()
    count = 1 if labels is None else len(labels)
    labels = None if labels is None else np.repeat(labels, request.samples, axis=0)
    keys = request.keys(count)
    found = self.task.images(self.variables, keys, labels, self.mesh, latents=True)
    buffer = io.BytesIO()
    np.save(buffer, found)
    self.save_bytes(f'latents-{request.seed}.npy', buffer.getvalue())

  def rows(self) -> np.ndarray | None:
    """Returns labels int `[rows]` or captions `[rows, L]`; None for an unconditional network."""
    request, captions = self.request, self.task.captions
    if request.labels and request.prompts:
      raise UserError('--label and --prompt: one of them at a time')
    if request.prompts and captions is None:
      raise UserError(f"--prompt={request.prompts[0]}: needs task.conditioning.on='caption'")
    if captions is not None and request.prompts:
      return np.stack([captions.tokens(text) for text in request.prompts])
    if not self.task.classes:
      if request.labels:
        raise UserError(f'--label={request.labels[0]}: the network is not conditioned on labels')
      return None
    if request.labels:
      return class_numbers(request.labels, self.task.classes)
    return np.arange(min(len(self.task.classes), MAX_CLASSES))

  # -------- from a known part --------

  def inpaint(self, image: str, mask: str) -> None:
    """Draws the image file with the white part of the mask file drawn anew."""
    shape = self.task.data.image_shape
    known, hole = read_image(image, shape, 'inpaint'), read_image(mask, (*shape[:2], 1), 'mask')
    if not (hole >= 128).any():
      raise UserError(f'--mask={mask}: nothing in it is white, so that nothing would be drawn')
    kept = jnp.asarray(np.broadcast_to(hole < 128, shape))
    self.draw('inpaint', constraint=guidance.inpaint(to_floats(known)[None], kept[None]))

  def colourise(self, image: str) -> None:
    """Draws colours for the image file, of which only the grey values are used."""
    shape = self.task.data.image_shape
    if shape[-1] != 3:
      raise UserError(f'--colourise={image}: the network draws images of {shape[-1]} channels')
    grey = to_floats(read_image(image, shape, 'colourise')).mean(-1, keepdims=True)
    self.draw('colourise', constraint=guidance.colourise(grey[None]))

  def by_classifier(self, workdir: str) -> None:
    """Draws images of an unconditional network guided by the labels of a classifier."""
    if self.task.classes:
      raise UserError(f"--classifier={workdir}: is for a network of task.conditioning.on='none'")
    network = features.of_classifier(workdir, self.task.data.image_shape)
    names, labels = network.classes, self.request.labels
    rows = class_numbers(labels, names) if labels else np.arange(min(len(names), MAX_CLASSES))

    def guide(denoiser: Denoiser, labels: Array) -> Denoiser:
      def log_prob(x: Array, t: Array) -> Array:
        # The classifier was trained on clean images, so it is given the denoiser's x_0.
        _, scores = network.function(network.variables, (denoiser.x0(x, t) + 1) / 2)
        return jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], axis=-1)[:, 0]

      return guidance.by_classifier(denoiser, log_prob, self.task.guidance_scale)

    self.draw('classifier', rows, guide=guide)

  def interpolate(self) -> None:
    """Draws a row for each pair of images of the evaluation split, which are at its ends."""
    count = self.request.samples
    pairs = to_floats(self.real_images(2 * count)).reshape(count, 2, *self.task.data.image_shape)

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(self.mesh))
    def interpolation(variables: Variables, pair: Array) -> tuple[Array, Array]:
      denoiser = self.task.denoiser(variables, as_trained=True)
      ends = samplers.encode(denoiser, pair, rtol=TOLERANCE, atol=TOLERANCE)
      a, b = (jnp.broadcast_to(end, (STAGES, *end.shape)) for end in ends)
      latents = samplers.slerp(a, b, jnp.linspace(0, 1, STAGES).reshape(-1, 1, 1, 1))
      keys = jax.random.split(jax.random.key(0), STAGES)  # unused: the solver is deterministic
      solve = samplers.AdaptiveODE(TOLERANCE, TOLERANCE)
      x = solve(denoiser, latents, keys, self.task.timesteps)
      return grids.to_bytes(x), grids.has_diverged(x)

    with mesh_lib.activate(self.mesh):
      rows = [jax.device_get(interpolation(self.variables, pair)) for pair in pairs]
    diverged = np.stack([bad.any() for _, bad in rows])
    grids.require_images(diverged, f'the probability flow to a tolerance of {TOLERANCE}')
    self.save('interpolation', strips(np.stack([images for images, _ in rows])))

  def real_images(self, count: int) -> np.ndarray:
    """Returns uint8 `[count, H, W, C]` of the evaluation split, chosen by the seed."""
    data = self.task.data
    total = data.num_examples(data.eval_split)
    if count > total:
      raise UserError(f'samples={count // 2}: {data.eval_split} has {total} images')
    rows = np.random.default_rng(self.request.seed).permutation(total)[:count]
    return reading.images(data, data.eval_split, self.mesh, rows)

  def save(self, name: str, pixels: np.ndarray) -> None:
    """Writes `NAME-SEED.png`, or a name beside it that is free, and prints its path."""
    self.save_bytes(f'{name}-{self.request.seed}.png', png(pixels))

  def save_bytes(self, name: str, contents: bytes) -> None:
    if mesh_lib.is_main():
      os.makedirs(self.folder, exist_ok=True)
      path = free_path(os.path.join(self.folder, name))
      write_bytes(path, contents)
      print(path)


def read_image(path: str, shape: tuple[int, ...], flag: str) -> np.ndarray:
  """Returns the pixels of a file, uint8 of the shape [H, W, C]; UserError for another size."""
  try:
    image = modes.open_image(pathlib.Path(path).read_bytes())
    if modes.is_transparent(image):
      if flag == 'mask':
        raise ValueError('is transparent in parts; a mask is opaque, white where --inpaint draws')
      logging.warning('--%s=%s: is transparent in parts, which are taken as white', flag, path)
    pixels = np.asarray(modes.flatten(image, shape[-1]).convert(modes.CHANNELS[shape[-1]]))
  except Exception as error:  # PIL raises nearly any on a damaged file
    raise UserError(f'--{flag}={path}: {error}') from error
  if pixels.shape[:2] != tuple(shape[:2]):
    have, want = (' x '.join(map(str, size[:2])) for size in (pixels.shape, shape))
    raise UserError(f'--{flag}={path}: has {have} pixels; the network draws {want}')
  return pixels.reshape(shape)


def to_floats(images: np.ndarray) -> Array:
  """Returns uint8 images as float32 in [-1, 1]."""
  return 2 * jnp.asarray(images, jnp.float32) / 255 - 1
