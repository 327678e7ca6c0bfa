"""Images of a diffusion model as a user sees them: grids, and paths from noise, as PNG files."""

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
from train.config import UserError, unknown
from train.task import Variables

GAP = 2  # pixels between the images of a grid
SIDE = 64  # pixels that an image has in a grid, at least about
CLASSES = 20  # of more only these are drawn unless labels are asked for

# -------- pixels --------


def to_bytes(x: Array) -> Array:
  """float [-1, 1] to uint8, the nearest level; what is beyond is cut off."""
  return jnp.clip(jnp.round((x + 1) * 127.5), 0, 255).astype(jnp.uint8)


def grid(images: np.ndarray, columns: int) -> np.ndarray:
  """Images uint8 `[N, H, W, C]`, row by row, as one `[h, w, C]` on white; small ones enlarged."""
  images = enlarged(images, max(1, SIDE // images.shape[1]))
  count, height, width, channels = images.shape
  down, right = height + GAP, width + GAP
  pixels = np.full((-(-count // columns) * down + GAP, columns * right + GAP, channels), 255)
  for i, image in enumerate(images):
    top, left = GAP + i // columns * down, GAP + i % columns * right
    pixels[top : top + height, left : left + width] = image
  return pixels.astype(np.uint8)


def enlarged(images: np.ndarray, times: int) -> np.ndarray:
  """Bicubic: a digit of 8 x 8 squares is hard to read."""
  if times == 1:
    return images
  size = images.shape[2] * times, images.shape[1] * times
  pictures = (image_of(x).resize(size, Image.Resampling.BICUBIC) for x in images)
  return np.stack([np.asarray(x).reshape(size[1], size[0], -1) for x in pictures])


def strips(paths: np.ndarray) -> np.ndarray:
  """Paths uint8 `[N, frames, H, W, C]` as one image: a row each, noise at the left."""
  return grid(paths.reshape(-1, *paths.shape[2:]), paths.shape[1])


def image_of(pixels: np.ndarray) -> Image.Image:
  """Of uint8 `[H, W, C]` with 1, 3 or 4 channels."""
  return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def png(pixels: np.ndarray) -> bytes:
  """A file's contents."""
  buffer = io.BytesIO()
  image_of(pixels).save(buffer, 'PNG')
  return buffer.getvalue()


def layout(count: int, classes: Sequence[str]) -> tuple[np.ndarray, int]:
  """Labels `[N]` of at most `count` images, and a grid's columns: a row for each class, of the
  first CLASSES; without classes -1 and a square."""
  if not classes:
    return np.full(count, -1), math.ceil(count**0.5)
  rows = min(len(classes), CLASSES, count)
  return np.repeat(np.arange(rows), count // rows), count // rows


def mesh_of(variables: Variables) -> Mesh:
  """The mesh that holds them."""
  sharding = jax.tree.leaves(variables)[0].sharding
  if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, Mesh):
    return sharding.mesh
  return mesh_lib.make_mesh(1, 1, 1, devices=list(sharding.device_set)[:1])


# -------- what is asked for --------


@dataclasses.dataclass(frozen=True)
class Request:
  """`samples` images of each of the labels, which are names of classes or their numbers, or of each
  caption in `prompts`."""

  samples: int
  seed: int
  labels: tuple[str, ...]
  prompts: tuple[str, ...]
  path: bool

  def __post_init__(self):
    if self.samples < 1:
      raise UserError(f'samples={self.samples}: must be at least 1')
    if not 0 <= self.seed < 2**63:
      raise UserError(f'seed={self.seed}: must be at least 0 and less than 2**63')

  def keys(self, rows: int) -> Array:
    """`[rows * samples]`: the same ones in each row."""
    numbers = np.tile(np.arange(self.samples), rows)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self.seed), numbers)


def numbers(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
  """int `[rows]` of labels, each a class's name, or else its number; several joined by commas."""
  parts = [part for x in labels for part in ([x] if x in classes else x.split(','))]
  found = []
  for part in parts:
    if part not in classes and not (part.isdecimal() and int(part) < len(classes)):
      raise unknown(f'--label={part}', part, 'no such class', classes)
    found.append(classes.index(part) if part in classes else int(part))
  return np.array(found)
