"""Pictures of a deep belief net: receptive fields, and sheets of samples."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from train.errors import unknown

GAP = 2  # pixels between images
MIN_SIDE = 32  # pixels; smaller images are enlarged to about this
MAX_CLASSES = 20  # rows where no labels are asked for
MAX_FIELDS = 100  # units whose fields are shown


def as_images(x: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Returns vectors of pixels `[N, v]` as `[N, H, W, C]`."""
  return np.asarray(x, np.float32).reshape(-1, *shape)


def fields(images: np.ndarray) -> bytes:
  """Returns a PNG of the first receptive fields of `[N, H, W, C]`, each on its own range.

  Grey is 0: brighter pixels excite the unit, darker ones inhibit it.
  """
  images = images[:MAX_FIELDS]
  largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
  grey = np.round(127.5 + 127.5 * images / np.maximum(largest, 1e-12)).astype(np.uint8)
  return sheet(grey, 20 if len(grey) > 10 else len(grey))


def sheet(images: np.ndarray, columns: int) -> bytes:
  """Returns a PNG of images uint8 `[N, H, W, C]`, row by row on white."""
  scale = max(1, MIN_SIDE // images.shape[1])
  images = images.repeat(scale, 1).repeat(scale, 2)
  missing = -len(images) % columns
  padding = [(0, missing), (0, GAP), (0, GAP), (0, 0)]
  tiles = np.pad(images, padding, constant_values=255)
  tiles[len(images) :] = 255
  rows = len(tiles) // columns
  _, height, width, channels = tiles.shape
  grid = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
  grid = grid.reshape(rows * height, columns * width, channels)
  grid = np.pad(grid, [(GAP, 0), (GAP, 0), (0, 0)], constant_values=255)
  file = io.BytesIO()
  Image.fromarray(grid if channels == 3 else grid[..., 0]).save(file, 'PNG')
  return file.getvalue()


def class_numbers(asked: Sequence[str], classes: Sequence[str]) -> np.ndarray:
  """Returns the numbers of classes that are asked for by name or number, commas between them.

  No name is all of them, up to MAX_CLASSES.

  Raises:
    UserError: no class of that name or number.
  """
  names = [name.strip() for text in asked for name in text.split(',')]
  numbers = {str(i): i for i in range(len(classes))} | {c: i for i, c in enumerate(classes)}
  for name in names:
    if name not in numbers:
      raise unknown(f'--label={name}', name, 'no such class', classes)
  return np.array([numbers[name] for name in names] or range(min(len(classes), MAX_CLASSES)))
