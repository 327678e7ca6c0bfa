"""The verb `sample` of the task `gan`: grids of images, and paths between latents."""

import math
import os

import jax
import numpy as np

from models.gan import latents
from train import mesh as mesh_lib
from train.errors import UserError
from train.task import Variables
from train.tasks.adversarial.drawing import ImageDrawer
from train.tasks.images import grids
from train.workdir import free_path, write_bytes

STAGES = 11  # images of an interpolation


def write(
  drawer: ImageDrawer,
  classes: tuple[str, ...],
  variables: Variables,
  folder: str,
  request: grids.ImageRequest,
  *,
  interpolate: bool,
) -> None:
  """Writes `grid-SEED.png`, or `interpolation-SEED.png`, and prints its path.

  A grid has a row for each label of conditional networks; else it is a square.

  classes: those that the networks are told; () for none.
  """
  rows = chosen(classes, request.labels)
  if interpolate:
    paths = interpolations(drawer, variables, request.samples, request.seed, rows)
    return save(folder, f'interpolation-{request.seed}.png', grids.strips(paths))
  labels = None if rows is None else np.repeat(rows, request.samples)
  columns = math.ceil(request.samples**0.5) if rows is None else request.samples
  keys = request.keys(1 if rows is None else len(rows))
  images = drawer.images(variables, keys, labels, grids.mesh_of(variables))
  save(folder, f'grid-{request.seed}.png', grids.grid(images, columns))


def chosen(classes: tuple[str, ...], labels: tuple[str, ...]) -> np.ndarray | None:
  """Returns the classes of a request, int `[rows]`; None for networks that are told none."""
  if not classes:
    if labels:
      raise UserError(f'--label={labels[0]}: the networks are not told labels (task.conditional)')
    return None
  if labels:
    return grids.class_numbers(labels, classes)
  return np.arange(min(len(classes), grids.MAX_CLASSES))


def interpolations(
  drawer: ImageDrawer, variables: Variables, count: int, seed: int, rows: np.ndarray | None = None
) -> np.ndarray:
  """Returns images on paths between `count` pairs of latents, uint8 `[count, STAGES, H, W, C]`.

  rows: the labels of the paths in turn; None for all in turn.
  """
  keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), np.arange(2 * count))
  ends = latents.draw(keys, drawer.networks.latent_size, drawer.latent)
  paths = np.asarray(latents.interpolate(ends[::2], ends[1::2], STAGES, drawer.latent))
  names = np.arange(max(drawer.networks.num_classes, 1)) if rows is None else rows
  labels = np.repeat(np.resize(names, count), STAGES)
  z = paths.reshape(-1, paths.shape[-1])
  images = drawer.images_of(variables, z, labels, grids.mesh_of(variables))
  return images.reshape(count, STAGES, *images.shape[1:])


def save(folder: str, name: str, pixels: np.ndarray) -> None:
  """Writes a PNG, or one beside it whose name is free, and prints its path."""
  if mesh_lib.is_main():
    os.makedirs(folder, exist_ok=True)
    path = free_path(os.path.join(folder, name))
    write_bytes(path, grids.png(pixels))
    print(path)
