"""Evaluation of the task `gan`: distances to real images, and the Parzen estimate of 2014."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from data import pipeline
from models.gan import parzen
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.task import Evaluation, Variables, evaluate
from train.tasks import reading
from train.tasks.adversarial.options import DrawingOptions
from train.tasks.images import quality
from train.tasks.images.batches import EvalData, SplitRunner
from train.tasks.images.quality import Comparison, Measured

NUM_SAMPLES = 1000
PARZEN_SAMPLES = 10_000  # Gaussians of the estimate
VALIDATION = 1000  # images by which its sigma is chosen
MORE = (
  'more: --samples=N for the quality of images (--classifier=WORKDIR; --inception=FILE),'
  ' --parzen=test for the Parzen estimate of 2014'
)


@dataclasses.dataclass(frozen=True)
class EvalRequest:
  """The options of the verb `eval`; None leaves a measurement out.

  samples: images that are drawn and compared with the evaluation split's.
  classifier: workdir of a run whose features are compared.
  inception: file of weights of FID's network. Without either, pixels are compared.
  parzen: the split whose log-likelihood is estimated.
  """

  samples: int | None = None
  classifier: str | None = None
  inception: str | None = None
  parzen: str | None = None

  def __post_init__(self):
    quality.check_count(samples=self.samples)

  @property
  def quality(self) -> bool:
    return (self.samples, self.classifier, self.inception) != (None, None, None)


class JudgedTask(Protocol):
  """What an evaluation needs of a task: `task.GAN`."""

  data: Any  # an EvalData
  conditional: bool
  sampling: DrawingOptions

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]: ...

  def images(self, variables: Variables, keys: Array, labels: Any, mesh: Mesh) -> np.ndarray: ...


def examine(
  task: JudgedTask, ensemble: Sequence[Variables], mesh: Mesh, options: EvalRequest
) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
  """Returns metrics, metadata and arrays (none) for the verb `eval`.

  Without options these are the losses on the evaluation split. Raises UserError for more than one
  model.
  """
  if len(ensemble) > 1:
    raise UserError(f'{len(ensemble)} workdirs: adversarial networks are evaluated one by one')
  evaluator, measured = GanEvaluator(task, ensemble[0], mesh), []
  given = options.classifier, options.inception, task.data.image_shape
  networks = quality.networks(*given) if options.quality else []
  with mesh_lib.activate(mesh):
    if options.quality:
      measured += evaluator.quality(options.samples or NUM_SAMPLES, networks)
    if options.parzen is not None:
      measured.append(evaluator.parzen(options.parzen))
    if not measured:
      measured.append((evaluate(task.evals(mesh), ensemble[0]), {}))
      if mesh_lib.is_main():
        print(MORE)
  metrics = {name: value for each, _ in measured for name, value in each.items()}
  metadata = {name: value for _, each in measured for name, value in each.items()}
  return metrics, metadata, {}


@dataclasses.dataclass(frozen=True)
class GanEvaluator:
  """Measures one model: a task with its variables.

  mesh: the devices. seed: of the latents, which are drawn by an image's number.
  """

  task: JudgedTask
  variables: Variables
  mesh: Mesh
  seed: int = 0

  @property
  def data(self) -> EvalData:
    return self.task.data

  def draw(self, count: int, labels: np.ndarray | None) -> np.ndarray:
    """Draws uint8 `[count, H, W, C]`."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self.seed), np.arange(count))
    return self.task.images(self.variables, keys, labels, self.mesh)

  def quality(self, count: int, networks: Any) -> list[Measured]:
    """Draws `count` images and compares them with the split's by each network."""
    sampling = {'statistics_batch': self.task.sampling.statistics_batch}
    batches = SplitRunner(self.data, self.mesh)
    return Comparison(batches, self.draw, self.task.conditional, sampling).measure(count, networks)

  def parzen(self, split: str) -> Measured:
    """Returns the Parzen estimate of a split, beside what training images get by the same rule.

    sigma is the best of a grid for the first images of the evaluation split.
    """
    chosen_by = self.data.eval_split
    if split == chosen_by:
      raise UserError(
        f'--parzen={split}: sigma is chosen on data.eval_split, which must be another, such as'
        ' --config.data.eval_split=train[50000:]'
      )
    labels = np.arange(PARZEN_SAMPLES) % len(self.data.classes) if self.task.conditional else None
    test = self.pixels(split, None)
    validation = self.pixels(chosen_by, np.arange(VALIDATION))
    rows = pipeline.even_rows(PARZEN_SAMPLES, self.data.num_examples(self.data.train_split))
    sets = {
      'samples': flat(self.draw(PARZEN_SAMPLES, labels)),
      'training_images': self.pixels(self.data.train_split, rows),
    }
    found = {name: parzen.estimate(x, validation, test) for name, x in sets.items()}
    ours, theirs = found.values()
    metrics = {'parzen': ours.value, 'parzen_stderr': ours.error, 'parzen_sigma': ours.sigma}
    metadata = {
      **{'split': split, 'images': len(test), 'sigma_chosen_by': chosen_by},
      **{name: len(x) for name, x in sets.items()},
      'parzen_of_training_images': dataclasses.asdict(theirs),
    }
    if mesh_lib.is_main():
      print(
        f'Parzen estimate of {split} (historic: see docs/gan.md), in nats: {ours.value:.1f}'
        f' +- {ours.error:.1f} of {len(sets["samples"])} samples with sigma {ours.sigma:.3g};'
        f' {theirs.value:.1f} +- {theirs.error:.1f} of {len(rows)} training images with'
        f' {theirs.sigma:.3g}'
      )
    return metrics, {'parzen': metadata}

  def pixels(self, split: str, rows: np.ndarray | None) -> np.ndarray:
    """Returns pixels in [0, 1] of the records `rows` of a split, None for all, `[N, H W C]`."""
    with user_errors():
      count = self.data.num_examples(split)
    rows = np.arange(count) if rows is None else rows[rows < count]
    return flat(reading.images(self.data, split, self.mesh, rows))


def flat(images: np.ndarray) -> np.ndarray:
  """Returns uint8 images as float32 pixels in [0, 1], `[N, D]`."""
  return images.reshape(len(images), -1).astype(np.float32) / 255
