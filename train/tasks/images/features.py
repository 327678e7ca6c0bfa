"""The features by which images are compared: of a classifier trained here, FID's, or pixels."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.diffusion import inception, quality
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.run import load_weights
from train.task import Batch, Variables
from train.tasks import classifier
from train.tasks.images.batches import Columns, SplitRunner


@dataclasses.dataclass(frozen=True)
class Features:
  """A network whose features are compared.

  name: in the names of metrics: a Frechet distance is FD-name, and FID for FID's network alone.
  function: maps (variables, uint8 images `[B, H, W, C]`) to features `[B, D]`, scores `[B, K]`.
  variables: the network's.
  classes: the classes of the scores; () if they have no meaning.
  metadata: for eval.json.
  """

  name: str
  function: Callable[[Any, Array], tuple[Array, Array]]
  variables: Any
  classes: tuple[str, ...]
  metadata: Mapping[str, Any]

  def columns(self, classes: Sequence[str]) -> np.ndarray:
    """Returns which scores are of these classes, in their order."""
    return np.array([self.classes.index(name) for name in classes])

  def distances(self, real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """Returns the metrics of features `[N, D]` and `[M, D]`; manifolds use min(N, M) of each."""
    ours = f'FD-{self.name}', f'KD-{self.name}'
    frechet, kernel = ('FID', 'KID') if self.name == INCEPTION else ours
    real, fake = shuffle(real), shuffle(fake)  # subsets must be like the whole
    distance, count = quality.kernel_distance(real, fake), min(len(real), len(fake))
    manifolds = quality.manifolds(real[:count], fake[:count])
    return {
      frechet: quality.frechet_distance(real, fake),
      kernel: distance.value,
      f'{kernel}_stderr': distance.error,
      **{f'{name}-{self.name}': value for name, value in manifolds._asdict().items()},
    }


def few_samples(name: str, count: int, dimensions: int) -> str:
  """Returns what to know of a Frechet distance of `count` samples; '' if they are enough."""
  if count > dimensions:
    return ''
  return (
    f'the Frechet distance of {name} is of {count} samples in {dimensions} dimensions, whose'
    f' covariance has no full rank: it is far too large, and comparable at equal numbers alone;'
    f' --samples={dimensions + 1} or more'
  )


def shuffle(x: np.ndarray) -> np.ndarray:
  """Returns the rows in a random order, the same one each time."""
  return np.random.default_rng(0).permutation(x)


INCEPTION, PIXELS = 'inception', 'pixels'


def of_pixels() -> Features:
  """Returns pixels as features, values in [0, 1], with one meaningless score."""

  def function(variables: Variables, images: Array) -> tuple[Array, Array]:
    del variables
    x = images.reshape(len(images), -1).astype(jnp.float32) / 255
    return x, jnp.zeros((len(images), 1))

  return Features(PIXELS, function, {}, (), {})


def of_classifier(workdir: str, image_shape: tuple[int, ...]) -> Features:
  """Loads the features of a run's network, the inputs of its last layer.

  Raises UserError for a run of another task than classify, or of images of another shape than the
  image_shape of those to be compared.
  """
  weights = load_weights(workdir)
  config, task, meaning = weights.config, weights.config['task'], weights.meaning
  if (name := task['name']) != 'classify':
    raise UserError(
      f'--classifier={workdir}: a run of task {name}, which has no features; it must be of task'
      ' classify'
    )
  if not meaning:
    raise UserError(
      f'--classifier={workdir}: keeps no meaning.json, so its classes are not known;'
      f' `launch.py train --workdir={workdir}` writes it'
    )
  if tuple(meaning['image_shape']) != tuple(image_shape):
    theirs, ours = (' x '.join(map(str, x)) for x in (meaning['image_shape'], image_shape))
    raise UserError(f'--classifier={workdir}: is of images of {theirs}, and not {ours}')
  classes = tuple(meaning['classes'])
  inputs = {name: task[name] for name in ('mean', 'std', 'view')}
  network = classifier.build(config['model'], len(classes), image_shape[-1], **inputs)
  metadata = {'classifier': workdir, 'step': weights.step}
  name = config['model']['name']
  return Features(name, network.features, weights.variables, classes, metadata)


def of_inception(path: str) -> Features:
  """Loads the network of FID with weights from a file; UserError if they are not that network's."""
  with user_errors():
    variables = inception.load(path)
  metadata = {'weights': path, 'sha256': inception.checksum(path)}
  return Features(INCEPTION, inception.features, variables, (), metadata)


class FeatureExtractor:
  """Features of many images, with a network that is compiled once."""

  def __init__(self, batches: SplitRunner, network: Features):
    def extract(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      return *network.function(variables, batch['image']), batch['label']

    self.batches, self.network = batches, network
    self.variables = jax.device_put(network.variables, mesh_lib.replicated(batches.mesh))
    self.extract = batches.compile(extract)

  def split(self, split: str, count: int = 0) -> Columns:
    """Returns features, scores and labels of `count` images of a split, 0 for all."""
    return self.batches.over_split(self.extract, self.variables, count, split)

  def images(self, images: np.ndarray) -> Columns:
    """Returns features and scores of uint8 `[N, H, W, C]`."""
    sharding = mesh_lib.batch_sharding(self.batches.mesh)
    size = self.batches.data.eval_batch_size

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
    return self.batches.over(self.extract, self.variables, batches, len(starts))[:2]
