"""Whose features images are compared by: those of a classifier trained here, FID's, or pixels."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.diffusion import inception, quality
from train import mesh as mesh_lib
from train.config import UserError, user_errors
from train.task import Batch, Variables


@dataclasses.dataclass(frozen=True)
class Features:
  """A function (variables, uint8 images [B, H, W, C]) to features [B, D] and scores [B, K].

  name: of the measures: a Frechet distance is called FD-name, and FID of FID's network alone.
  classes: what the scores are of, () where that is no matter.
  facts: for eval.json.
  """

  name: str
  function: Callable[[Any, Array], tuple[Array, Array]]
  variables: Any
  classes: tuple[str, ...]
  facts: Mapping[str, Any]

  def distances(self, real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """The metrics of features [N, D] and [M, D]; manifolds are of equal numbers of both."""
    ours = f'FD-{self.name}', f'KD-{self.name}'
    frechet, kernel = ('FID', 'KID') if self.name == INCEPTION else ours
    real, fake = shuffled(real), shuffled(fake)  # parts of them are to be like the whole
    distance, count = quality.kernel_distance(real, fake), min(len(real), len(fake))
    shares = quality.manifolds(real[:count], fake[:count])
    return {
      frechet: quality.frechet_distance(real, fake),
      kernel: distance.value,
      f'{kernel}_stderr': distance.error,
      **{f'{name}-{self.name}': value for name, value in shares._asdict().items()},
    }


def shuffled(x: np.ndarray) -> np.ndarray:
  return np.random.default_rng(0).permutation(x)


INCEPTION, PIXELS = 'inception', 'pixels'


def of_pixels() -> Features:
  """Values in [0, 1]; one score, which says nothing."""

  def function(variables: Variables, images: Array) -> tuple[Array, Array]:
    del variables
    x = images.reshape(len(images), -1).astype(jnp.float32) / 255
    return x, jnp.zeros((len(images), 1))

  return Features(PIXELS, function, {}, (), {})


def of_classifier(workdir: str, image_shape: tuple[int, ...]) -> Features:
  """Those that the last layer of a run's network sees. UserError for another task or other images.

  image_shape: of the images to be compared.
  """
  from train import verbs  # which knows all tasks

  run = verbs.load_run(workdir)
  task: Any = run.task
  if not hasattr(task, 'features'):
    raise UserError(
      f'--classifier={workdir}: a run of task {run.config["task"]["name"]}, which has'
      ' no features; it must be of task classify'
    )
  if tuple(task.data.image_shape) != tuple(image_shape):
    theirs, ours = (' x '.join(map(str, x)) for x in (task.data.image_shape, image_shape))
    raise UserError(f'--classifier={workdir}: is of images of {theirs}, and not {ours}')
  variables = jax.device_get(run.variables)
  facts = {'classifier': workdir, 'step': run.step}
  task.close()
  name = run.config['model']['name']
  return Features(name, task.features, variables, tuple(task.data.classes), facts)


def of_inception(path: str) -> Features:
  """The network of FID, with weights from a file; UserError where it is not that network's."""
  with user_errors():
    variables = inception.load(path)
  facts = {'weights': path, 'sha256': inception.checksum(path)}
  return Features(INCEPTION, inception.features, variables, (), facts)


class Viewer:
  """A network that looks at images for a `evaluate.Measurer`, compiled once."""

  def __init__(self, measurer: Any, network: Features):
    def view(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      return *network.function(variables, batch['image']), batch['label']

    self.measurer, self.network = measurer, network
    self.variables = jax.device_put(network.variables, mesh_lib.replicated(measurer.mesh))
    self.view = measurer.compiled(view)

  def split(self, split: str, count: int = 0) -> list[np.ndarray]:
    """Features, scores and labels of `count` images, 0 for all."""
    return self.measurer.over_split(self.view, self.variables, count, split)

  def images(self, images: np.ndarray) -> list[np.ndarray]:
    """Features and scores of uint8 [N, H, W, C]."""
    sharding = mesh_lib.batch_sharding(self.measurer.mesh)
    size = self.measurer.task.data.eval_batch_size

    def batch(start: int) -> Batch:
      rows = np.arange(start, start + size, dtype=np.int32)
      columns = {
        'image': images[np.minimum(rows, len(images) - 1)],
        'label': np.zeros(size, np.int32),
        'index': rows,
        'mask': (rows < len(images)).astype(np.float32),
      }
      return {
        name: jax.make_array_from_callback(x.shape, sharding, x.__getitem__)
        for name, x in columns.items()
      }

    starts = range(0, len(images), size)
    batches = map(batch, starts)
    return self.measurer.over(self.view, self.variables, batches, len(starts))[:2]
