"""What the verb sample does for diffusion models: images of noise, or of what is known of them."""

import functools
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from data.images.decode import MODES
from models.diffusion import guidance, samplers
from models.diffusion.parameterization import Denoiser
from train import mesh as mesh_lib
from train.config import UserError
from train.task import Variables
from train.tasks import reading
from train.tasks.diffusion import features, grids
from train.tasks.diffusion.grids import CLASSES, Request, grid, mesh_of, numbers, png, strips
from train.workdir import write_bytes

STAGES = 11  # of a way between two images
TOLERANCE = 1e-3  # of the flow there and back, in which a level of a byte is 0.008


class Painter:
  """Draws what a request asks of a task `Diffusion`, into files of the folder."""

  def __init__(self, task: Any, variables: Variables, folder: str, request: Request):
    self.task, self.variables, self.folder, self.request = task, variables, folder, request
    self.mesh = mesh_of(variables)

  def paint(
    self,
    interpolate: bool,
    inpaint: str | None,
    mask: str | None,
    colourise: str | None,
    classifier: str | None,
  ) -> None:
    """The one that is asked for; UserError for two, which would contradict each other."""
    given = {'inpaint': inpaint, 'colourise': colourise, 'classifier': classifier}
    chosen = [name for name, value in given.items() if value is not None]
    chosen += ['interpolate'] * interpolate
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
    else:
      self.draw()

  def draw(self, kind: str = 'grid', rows: np.ndarray | None = None, **options: Any) -> None:
    """A row for each label or caption, else a square; and with `path` a row for each image."""
    request, labels = self.request, self.rows() if rows is None else rows
    count, columns = 1, math.ceil(request.samples**0.5)
    if labels is not None:
      count, columns = len(labels), request.samples
      labels = np.repeat(labels, request.samples, axis=0)
    how = (self.variables, request.keys(count), labels, self.mesh)
    self.keep(kind, grid(self.task.images(*how, **options), columns))
    if request.path:
      self.keep('path', strips(self.task.images(*how, path=True, **options)))

  def rows(self) -> np.ndarray | None:
    """What the rows show: int `[rows]`, or tokens `[rows, L]`; None if nothing is told."""
    request, captions = self.request, self.task.captions
    if request.labels and request.prompts:
      raise UserError('--label and --prompt: one of them at a time')
    if request.prompts and captions is None:
      raise UserError(f"--prompt={request.prompts[0]}: needs task.condition='caption'")
    if request.prompts:
      return np.stack([captions.tokens(text) for text in request.prompts])
    if not self.task.classes:
      if request.labels:
        raise UserError(f'--label={request.labels[0]}: the network is told of no labels')
      return None
    if request.labels:
      return numbers(request.labels, self.task.classes)
    return np.arange(min(len(self.task.classes), CLASSES))

  # -------- of what is known --------

  def inpaint(self, image: str, mask: str) -> None:
    """`image` with what is white in `mask` drawn anew."""
    shape = self.task.data.image_shape
    known, hole = read_image(image, shape, 'inpaint'), read_image(mask, (*shape[:2], 1), 'mask')
    kept = jnp.asarray(np.broadcast_to(hole < 128, shape))
    self.draw('inpaint', constraint=guidance.inpaint(to_floats(known)[None], kept[None]))

  def colourise(self, image: str) -> None:
    """`image` in colours of which nothing but the grey is known."""
    shape = self.task.data.image_shape
    if shape[-1] != 3:
      raise UserError(f'--colourise={image}: the network draws images of {shape[-1]} channels')
    grey = to_floats(read_image(image, shape, 'colourise')).mean(-1, keepdims=True)
    self.draw('colourise', constraint=guidance.colourise(grey[None]))

  def by_classifier(self, workdir: str) -> None:
    """Labels that a classifier knows guide the network, which is told of none."""
    if self.task.classes:
      raise UserError(f"--classifier={workdir}: is for a network of task.condition='none'")
    network = features.of_classifier(workdir, self.task.data.image_shape)
    names, labels = network.classes, self.request.labels
    rows = numbers(labels, names) if labels else np.arange(min(len(names), CLASSES))

    def guide(denoiser: Denoiser, labels: Array) -> Denoiser:
      def log_prob(x: Array, t: Array) -> Array:
        # The classifier knows clean images: it sees what the denoiser makes of x.
        _, scores = network.function(network.variables, (denoiser.x0(x, t) + 1) / 2)
        return jnp.take_along_axis(jax.nn.log_softmax(scores), labels[:, None], axis=-1)[:, 0]

      return guidance.by_classifier(denoiser, log_prob, self.task.guidance)

    self.draw('classifier', rows, guide=guide)

  def interpolate(self) -> None:
    """A row for each pair of images of the evaluation split, which stand at its ends."""
    count = self.request.samples
    pairs = to_floats(self.real(2 * count)).reshape(count, 2, *self.task.data.image_shape)

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(self.mesh))
    def way(variables: Variables, pair: Array) -> Array:
      denoiser = self.task.denoiser(variables, as_trained=True)
      ends = samplers.encode(denoiser, pair, rtol=TOLERANCE, atol=TOLERANCE)
      a, b = (jnp.broadcast_to(end, (STAGES, *end.shape)) for end in ends)
      latents = samplers.slerp(a, b, jnp.linspace(0, 1, STAGES).reshape(-1, 1, 1, 1))
      keys = jax.random.split(jax.random.key(0), STAGES)  # of no use: nothing is random
      solve = samplers.AdaptiveODE(TOLERANCE, TOLERANCE)
      return grids.to_bytes(solve(denoiser, latents, keys, self.task.times))

    with mesh_lib.activate(self.mesh):
      ways = [np.asarray(way(self.variables, pair)) for pair in pairs]
    self.keep('interpolation', strips(np.stack(ways)))

  def real(self, count: int) -> np.ndarray:
    """uint8 `[count, H, W, C]`, of the evaluation split, chosen by the seed."""
    data, found = self.task.data, []
    whole = jax.jit(lambda x: x, out_shardings=mesh_lib.replicated(self.mesh))
    for batch in reading.evaluation(data, data.eval_split, self.mesh):
      image, mask = jax.device_get(whole((batch['image'], batch['mask'])))
      found.append(image[mask > 0])
    images = np.concatenate(found)
    if count > len(images):
      raise UserError(f'samples={count // 2}: {data.eval_split} has {len(images)} images')
    return images[np.random.default_rng(self.request.seed).permutation(len(images))[:count]]

  def keep(self, kind: str, pixels: np.ndarray) -> None:
    """As `kind-SEED.png`."""
    if mesh_lib.is_main():
      os.makedirs(self.folder, exist_ok=True)
      path = os.path.join(self.folder, f'{kind}-{self.request.seed}.png')
      write_bytes(path, png(pixels))
      print(path)


def read_image(path: str, shape: tuple[int, ...], flag: str) -> np.ndarray:
  """uint8 of the shape [H, W, C], in which the file must be; UserError otherwise."""
  try:
    with Image.open(path) as image:
      pixels = np.asarray(image.convert(MODES[shape[-1]]))
  except (OSError, SyntaxError, ValueError) as error:
    raise UserError(f'--{flag}={path}: {error}') from error
  if pixels.shape[:2] != tuple(shape[:2]):
    have, want = (' x '.join(map(str, size[:2])) for size in (pixels.shape, shape))
    raise UserError(f'--{flag}={path}: has {have} pixels; the network draws {want}')
  return pixels.reshape(shape)


def to_floats(images: np.ndarray) -> Array:
  """uint8 to float32 in [-1, 1]."""
  return 2 * jnp.asarray(images, jnp.float32) / 255 - 1
