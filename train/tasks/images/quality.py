"""The quality of generated images: what the option --samples of the verb `eval` measures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from models.diffusion import quality
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.tasks.classifier import ranks
from train.tasks.images import features as features_lib
from train.tasks.images.batches import Columns, EvalData, SplitRunner
from train.tasks.images.features import FeatureExtractor, Features, few_samples

Metrics = dict[str, float]
Metadata = dict[str, Any]  # how the metrics were measured, for eval.json
Measured = tuple[Metrics, Metadata]
Draw = Callable[[int, np.ndarray | None], np.ndarray]  # (count, labels `[count]`) to uint8 images

MIN_SAMPLES = 20


def networks(
  classifier: str | None, inception: str | None, image_shape: tuple[int, ...]
) -> list[Features]:
  """Loads the networks whose features are compared: pixels if neither is given.

  classifier: workdir of a run. inception: file of weights of FID's network.
  """
  found = []
  if classifier is not None:
    found.append(features_lib.of_classifier(classifier, image_shape))
  if inception is not None:
    found.append(features_lib.of_inception(inception))
  return found or [features_lib.of_pixels()]


def check_count(**counts: int | None) -> None:
  """Raises UserError for fewer samples than a distance can be computed of."""
  for name, value in counts.items():
    if value is not None and value < MIN_SAMPLES:
      raise UserError(f'--{name}={value}: must be at least {MIN_SAMPLES}')


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Compares a model's samples with the evaluation split.

  batches: of the data. draw: draws samples. conditional: whether on labels.
  sampling: how samples are drawn, for eval.json.
  """

  batches: SplitRunner
  draw: Draw
  conditional: bool
  sampling: Mapping[str, Any]

  @property
  def data(self) -> EvalData:
    return self.batches.data

  def measure(self, count: int, networks: Sequence[Features]) -> list[Measured]:
    """Draws `count` images with the split's proportions of classes; compares by each network."""
    extractors = [FeatureExtractor(self.batches, network) for network in networks]
    reals = [extractor.split(self.data.eval_split) for extractor in extractors]
    real_labels = np.sort(reals[0][2])
    labels = real_labels[np.arange(count) * len(real_labels) // count]
    samples = self.draw(count, labels if self.conditional else None)
    return [
      self._compare(extractor, real, samples, labels)
      for extractor, real in zip(extractors, reals, strict=True)
    ]

  def _compare(
    self, extractor: FeatureExtractor, real: Columns, samples: np.ndarray, labels: np.ndarray
  ) -> Measured:
    """Returns the metrics of samples uint8 `[N, H, W, C]` against real images.

    `floor` in the metadata is the distance of as many training images. A model is better than that
    only if it has memorised them.

    real: features, scores and labels of the split. labels: int `[N]`, those of the samples.
    """
    data, network = self.data, extractor.network
    fake, scores = extractor.images(samples)
    metadata: Metadata = {
      **{'samples': len(samples), 'split': data.eval_split, 'images': len(real[0])},
      **{'dimensions': fake.shape[1], 'k': 3, **network.metadata, **self.sampling},
    }
    with user_errors():
      metrics = network.distances(real[0], fake)
      if data.train_split != data.eval_split:
        floor = extractor.split(data.train_split, len(samples))[0]
        metadata['floor'] = {'images': len(floor), **network.distances(real[0], floor)}
    if note := few_samples(network.name, min(len(fake), len(real[0])), fake.shape[1]):
      metadata['note'] = note
      if mesh_lib.is_main():
        print(note)
    if set(network.classes) >= set(data.classes):
      accuracy, found = self._classes(network, real, scores, labels)
      return metrics | accuracy, {f'quality-{network.name}': metadata | found}
    return metrics, {f'quality-{network.name}': metadata}

  def _classes(
    self, network: Features, real: Columns, scores: np.ndarray, labels: np.ndarray
  ) -> Measured:
    """Returns the samples' accuracy, and the classes that the network sees, by its scores."""
    names = self.data.classes
    ours, theirs = (x[:, network.columns(names)] for x in (scores, real[1]))
    counts = np.bincount(ours.argmax(-1), minlength=len(names)).tolist()
    correct = ranks(theirs, real[2]) == 0
    metadata: Metadata = {'classes': dict(zip(names, counts, strict=True))}
    metadata['accuracy_of_split'] = float(np.mean(correct))
    if not self.conditional:
      return {}, metadata
    found, name = quality.accuracy(ranks(ours, labels) == 0), f'accuracy-{network.name}'
    return {name: found.value, f'{name}_stderr': found.error}, metadata
