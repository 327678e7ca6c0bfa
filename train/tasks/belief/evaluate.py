"""The verb eval: errors by the exact free energy of each label, and what the report shows."""

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh
from scipy import special

from data import pipeline
from data.images.source import ImageData
from models import dbn
from train import mesh as mesh_lib
from train.task import Batch, Batches, Variables
from train.tasks import classifier, reading
from train.tasks.belief import pictures

NUM_PREVIEW_SAMPLES = 32  # test images in the report, half of them misclassified if there are any

Examined = tuple[Mapping[str, float], Mapping[str, Any], Mapping[str, np.ndarray]]


class Scored(Protocol):
  """What is needed of the task."""

  data: ImageData

  def scores(self, variables: Variables, images: Array) -> Array: ...

  def batches(self, split: str, mesh: Mesh) -> Batches: ...


def examine(task: Scored, members: Sequence[Variables], mesh: Mesh) -> Examined:
  """Evaluates one net, or the mean of several nets' probabilities, on the evaluation split.

  Returns:
    Metrics, metadata (confusion matrix, class names), and arrays for the report (test images with
    predictions, receptive fields of the first layer).
  """
  params = members[0]['params']
  if not dbn.is_trained(params, dbn.num_layers(params)) and mesh_lib.is_main():
    print('the top RBM is not trained yet: labels are guessed by chance', file=sys.stderr)
  scored = [score(task, variables, mesh) for variables in members]
  scores, labels = classifier.average([scores for scores, _ in scored]), scored[0][1]
  classifier.report_not_finite(scores)
  wrong = classifier.errors(classifier.ranks(scores, labels), scores.shape[-1])
  metrics = {f'test/{name}': float(np.mean(values)) for name, values in wrong.items()}
  predicted = classifier.predictions(scores, labels)
  classes = list(task.data.classes)
  confusion = np.zeros((len(classes), len(classes)), int)
  np.add.at(confusion, (labels, predicted), 1)
  rows = examples(labels, predicted, NUM_PREVIEW_SAMPLES)
  with np.errstate(invalid='ignore'):  # of scores that are not finite
    probabilities = special.softmax(scores[rows].astype(np.float64), axis=-1)
  whole = jax.jit(dbn.fields, static_argnums=1, out_shardings=mesh_lib.replicated(mesh))
  fields = pictures.as_images(jax.device_get(whole(params, 0)), task.data.image_shape)
  arrays = {
    'images': reading.images(task.data, task.data.eval_split, mesh, rows),
    'labels': labels[rows],
    'predictions': predicted[rows],
    'probabilities': probabilities[np.arange(len(rows)), predicted[rows]],
    'filters': np.moveaxis(fields, 0, -1),
  }
  return metrics, {'confusion': confusion.tolist(), 'classes': classes}, arrays


def score(task: Scored, variables: Variables, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
  """Returns scores `[N, K]` and labels `[N]` of the evaluation split."""

  @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
  def of_batch(variables: Variables, batch: Batch) -> tuple[Array, ...]:
    return task.scores(variables, batch['image']), batch['label'], batch['mask']

  parts = []
  for batch in task.batches('test', mesh):
    *columns, mask = jax.device_get(of_batch(variables, batch))
    parts.append([column[mask > 0] for column in columns])
  scores, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
  return scores, labels


def examples(labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
  """Returns up to `count` records of `[N]`, wrong ones first: half of all, if there are so many."""
  wrong, right = (np.flatnonzero(x) for x in (predicted != labels, predicted == labels))
  wrong = wrong[pipeline.even_rows(count // 2, len(wrong))]
  right = right[pipeline.even_rows(count - len(wrong), len(right))]
  return np.concatenate([wrong, right])
