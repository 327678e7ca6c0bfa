"""Images of a diffusion model as PNG files: grids, and trajectories from noise."""

import dataclasses
import io
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from PIL import Image

from train import mesh as mesh_lib
from train.errors import UserError, unknown
from train.task import Variables

GAP = 2  # pixels between the images of a grid
MIN_SIDE = 64  # pixels; smaller images are enlarged to about this
LARGEST = 1e6  # beyond it a sampler has overflown; noise of all processes in use is far below
MAX_CLASSES = 20  # rows that are drawn where no labels are asked for

# -------- pixels --------


class Diverged(UserError):
  """Some samples are no images: nothing that is made of them means anything."""


def to_bytes(x: Array) -> Array:
  """Returns float images in [-1, 1] as uint8, rounded and clipped."""
  return jnp.clip(jnp.round((x + 1) * 127.5), 0, 255).astype(jnp.uint8)


def has_diverged(x: Array) -> Array:
  """Returns which of `[B, ...]` are no images, bool `[B]`; bytes would be black or white."""
  inside = jnp.abs(x) <= LARGEST  # false of NaN
  return ~inside.reshape(len(x), -1).all(-1)


def require_images(diverged: np.ndarray, how: str) -> None:
  """Raises Diverged if any of the samples `[N]` did; how: in which way they were drawn."""
  if diverged.any():
    first = int(diverged.argmax())
    raise Diverged(
      f'{diverged.sum()} of {len(diverged)} samples diverged, such as number {first}: not finite,'
      f' or beyond {LARGEST:g} where images are in [-1, 1]; drawn with {how}'
    )


def grid(images: np.ndarray, columns: int) -> np.ndarray:
  """Returns one image `[h, w, C]` of images uint8 `[N, H, W, C]`, row by row on white."""
  images = enlarge(images, max(1, MIN_SIDE // images.shape[1]))
  count, height, width, channels = images.shape
  down, right = height + GAP, width + GAP
  pixels = np.full((-(-count // columns) * down + GAP, columns * right + GAP, channels), 255)
  for i, image in enumerate(images):
    top, left = GAP + i // columns * down, GAP + i % columns * right
    pixels[top : top + height, left : left + width] = image
  return pixels.astype(np.uint8)


def enlarge(images: np.ndarray, factor: int) -> np.ndarray:
  """Returns bicubic enlargements: a digit of 8 x 8 squares is hard to read."""
  if factor == 1:
    return images
  size = images.shape[2] * factor, images.shape[1] * factor
  pictures = (image_of(x).resize(size, Image.Resampling.BICUBIC) for x in images)
  return np.stack([np.asarray(x).reshape(size[1], size[0], -1) for x in pictures])


def strips(trajectories: np.ndarray) -> np.ndarray:
  """Returns one image of trajectories uint8 `[N, frames, H, W, C]`, a row each."""
  return grid(trajectories.reshape(-1, *trajectories.shape[2:]), trajectories.shape[1])


def image_of(pixels: np.ndarray) -> Image.Image:
  """Returns the PIL image of uint8 `[H, W, C]` with 1, 3 or 4 channels."""
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png(pixels: np.ndarray) -> bytes:
  """Returns the contents of a PNG file."""
  buffer = io.BytesIO()
  image_of(pixels).save(buffer, 'PNG')
  return buffer.getvalue()


def layout(count: int, classes: Sequence[str]) -> tuple[np.ndarray, int]:
  """Returns labels `[N]` for at most `count` images, and the number of columns of their grid.

  A row for each of the first MAX_CLASSES classes; without classes labels of -1 and a square.
  """
  if not classes:
    return np.full(count, -1), math.ceil(count**0.5)
  rows = min(len(classes), MAX_CLASSES, count)
  return np.repeat(np.arange(rows), count // rows), count // rows


def mesh_of(variables: Variables) -> Mesh:
  """Returns the mesh of devices that holds the variables."""
  sharding = jax.tree.leaves(variables)[0].sharding
  if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
    return sharding.mesh
  return mesh_lib.make_mesh(1, 1, 1, devices=list(sharding.device_set)[:1])


# -------- requests --------


@dataclasses.dataclass(frozen=True)
class ImageRequest:
  """What the verb `sample` is asked for.

  samples: images for each label or caption.
  seed: of the noise.
  labels: names of classes, or their numbers.
  prompts: captions.
  trajectories: whether to draw the trajectories from noise, too.
  """

  samples: int
  seed: int
  labels: tuple[str, ...]
  prompts: tuple[str, ...]
  trajectories: bool

  def __post_init__(self):
    if self.samples < 1:
      raise UserError(f'samples={self.samples}: must be at least 1')
    if not 0 <= self.seed < 2**63:
      raise UserError(f'seed={self.seed}: must be at least 0 and less than 2**63')

  def keys(self, rows: int) -> Array:
    """Returns keys `[rows * samples]`, the same in each row."""
    numbers = np.tile(np.arange(self.samples), rows)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self.seed), numbers)


def class_numbers(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
  """Returns the classes, int `[rows]`, of labels: names, or else numbers, or several with commas.

  Raises UserError for a label that is neither.
  """
  parts = [part for x in labels for part in ([x] if x in classes else x.split(','))]
  found = []
  for part in parts:
    if part not in classes and not (part.isdecimal() and int(part) < len(classes)):
      raise unknown(f'--label={part}', part, 'no such class', classes)
    found.append(classes.index(part) if part in classes else int(part))
  return np.array(found)
