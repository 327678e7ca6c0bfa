"""Task `classify`: a network maps images to class scores (LeNet, AlexNet, ResNet)."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from scipy import special

import models
import models.summary
from data import pipeline
from data.images import augment as augment_lib
from data.images.source import ImageData
from train import mesh as mesh_lib
from train.errors import UserError, shown, user_errors
from train.step import make_eval
from train.task import Batch, Metrics, Source, Variables
from train.tasks import classifier as classifier_lib
from train.tasks import reading
from train.tasks.images.task import ImageTask


def cross_entropy(logits: Array, targets: Array) -> Array:
  """Returns `[B]`, in nats, from scores and the target distribution, both `[B, K]`."""
  # Safe: a score of minus infinity costs nothing where the target is 0.
  return optax.safe_softmax_cross_entropy(logits, targets)


def squared_error(logits: Array, targets: Array) -> Array:
  """Returns `[B]`: the mean over the K outputs of the squared distance to the targets.

  The target is +1 for the class and -1 for the others (LeCun et al. 1998). Scores and targets are
  `[B, K]`, targets in [0, 1].
  """
  return jnp.mean((logits - (2 * targets - 1)) ** 2, axis=-1)


LOSSES: Mapping[str, Callable[[Array, Array], Array]] = {
  'cross_entropy': cross_entropy,
  'squared_error': squared_error,
}


NUM_PREVIEW_SAMPLES = 32  # images in the report: half of them misclassified, if there are so many


class Classify(ImageTask):
  """The task `classify`.

  Args:
    model: the config's section.
    data: images and labels.
    loss: a key of LOSSES.
    label_smoothing: the share of the target given evenly to all classes (Szegedy et al. 2016, arXiv
      1512.00567, section 7).
    mean: of the images as floats in [0, 1], one number or one for each channel.
    std: likewise; the network sees (image - mean) / std.
    augment: functions of `data.images.augment` that run inside the compiled step, such as
      'random_crop(padding=4)|flip()'.
    view: what the network sees of a test image: '' (all of it), or a function of
      `data.images.augment.VIEWS`, such as 'ten_crop(size=224)', over whose crops probabilities
      are averaged.

  Raises:
    UserError: a value is unknown or outside of its range.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ImageData,
    *,
    loss: str = 'cross_entropy',
    label_smoothing: float = 0.0,
    mean: float | tuple[float, ...] = 0.0,
    std: float | tuple[float, ...] = 1.0,
    augment: str = '',
    view: str = '',
  ):
    if loss not in LOSSES:
      raise UserError(f'task.loss={loss!r}: no such loss; choose from {", ".join(LOSSES)}')
    if not 0 <= label_smoothing < 1:
      raise UserError(f'task.label_smoothing={label_smoothing}: must be in [0, 1)')
    self.data = data
    self.classifier = classifier_lib.build(
      model, len(data.classes), data.image_shape[-1], mean=mean, std=std, view=view
    )
    self.features = self.classifier.features
    self.loss_function = LOSSES[loss]
    self.label_smoothing = label_smoothing
    self.augment = augment_lib.parse(augment, 'task.augment', data.image_shape)
    self._others: tuple[Classify, ...] = ()  # the other members of an ensemble

  @property
  def model(self) -> nn.Module:
    """The network."""
    return self.classifier.model

  @property
  def metrics(self) -> Sequence[str]:
    """The metrics of the evaluation split."""
    return [
      'test/loss',
      *(f'test/{name}' for name in classifier_lib.errors(np.zeros(1), len(self.data.classes))),
    ]

  def summary(self) -> str:
    """Returns a table of the network's layers."""
    return models.summary.table(self.model, self.input_shape)

  @property
  def input_shape(self) -> tuple[int, int, int]:
    """The shape `[h, w, C]` of what the network sees: augmentation may crop the data's images."""
    return self._input_shape(self.data.image_shape, train=True)

  def _input_shape(self, shape: Sequence[int], *, train: bool) -> tuple[int, int, int]:
    batch = {
      'image': jax.ShapeDtypeStruct((2, *shape), jnp.uint8),
      'label': jax.ShapeDtypeStruct((2,), jnp.int32),
      'index': jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    inputs = functools.partial(self._inputs, train=train)
    return jax.eval_shape(inputs, batch, jax.random.key(0))[0].shape[1:]

  def _check_shapes(self) -> None:
    """Raises UserError unless the network takes the images of training and of evaluation."""
    with user_errors():
      theirs = self._input_shape(self.data.eval_image_shape, train=False)
    if (ours := self.input_shape) == theirs:
      return
    variables = jax.eval_shape(self.init, jax.random.key(0))
    apply = functools.partial(self.model.apply, train=False)
    try:
      jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((1, *theirs), jnp.float32))
    except (ValueError, flax.errors.FlaxError) as error:
      sizes = [' x '.join(map(str, shape)) for shape in (ours, theirs)]
      raise UserError(
        f'the network is trained on images of {sizes[0]} and evaluated on {sizes[1]}, and takes one'
        ' size only: data.decode_train with task.augment, and data.decode_eval with task.view, must'
        ' come to the same'
      ) from error

  def init(self, key: Array) -> Variables:
    """Returns the network's initial variables."""
    return self.model.init(key, jnp.zeros((1, *self.input_shape)), train=False)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the mean loss, the other collections after the step, and metrics.

    Args:
      variables: the network's.
      batch: `image` `[B, H, W, C]`, `label` int32 `[B]`, `index` int32 `[B]` the record numbers,
        `mask` `[B]`, 0 for padding.
      key: of augmentation and dropout.
      train: whether these act.
    """
    images, targets = self._inputs(batch, key, train=train)
    logits, extra = self._logits(variables, images, batch, key, train=train)
    ranks = classifier_lib.ranks(logits, batch['label'])
    values = {
      'loss': self.loss_function(logits, targets),
      **classifier_lib.errors(ranks, logits.shape[-1]),
    }
    weight = batch['mask'].sum()
    metrics = {name: (jnp.sum(x * batch['mask']), weight) for name, x in values.items()}
    return metrics['loss'][0] / weight, (extra, metrics)

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the stream of training batches."""
    return reading.training(self.data, split, mesh, seed)

  def evals(self, mesh: Mesh) -> Mapping[str, Callable[[Variables], Mapping[str, float]]]:
    """Returns 'test': loss and errors over the evaluation split.

    Raises UserError for images that a network of those of training does not take.
    """
    self._check_shapes()
    batches = reading.evaluation(self.data, self.data.eval_split, mesh)
    measure = make_eval(self)
    return {'test': lambda variables: measure(variables, batches)}

  # -------- inputs and outputs of the network --------

  def _inputs(self, batch: Batch, key: Array, *, train: bool) -> tuple[Array, Array]:
    """Returns what the network sees `[B * crops, h, w, C]`, and the targets `[B, K]`."""
    images = classifier_lib.to_unit(batch['image'])
    targets = jax.nn.one_hot(batch['label'], len(self.data.classes))
    if train:
      targets = optax.smooth_labels(targets, self.label_smoothing)
      # A key for each example, not for the batch: the same images whatever the number of devices.
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch['index'])
      with user_errors():
        images, targets = self.augment(keys, images, targets)
    else:
      with user_errors():
        images = self.classifier.views(images)
    return self.classifier.normalise(images), targets

  def _logits(
    self, variables: Variables, images: Array, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, Variables]:
    """Returns scores `[B, K]` and the other collections after the call."""
    if train:
      # The record's number again: another mask on each device and in each microbatch.
      rngs = {'dropout': jax.random.fold_in(key, batch['index'][0])}
      mutable = [name for name in variables if name != 'params']
      return self.model.apply(variables, images, train=True, rngs=rngs, mutable=mutable)
    return self.classifier.scores(variables, images, len(batch['label'])), {}

  # -------- the verb eval --------

  def join(self, others: Sequence[Any], *, same_model: bool) -> None:
    """Takes the tasks of an ensemble's other members, each with its own model and inputs."""
    del same_model
    self._others = tuple(others)

  def examine(
    self, ensemble: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Evaluates the mean of the probabilities of several networks, or of one.

    Args:
      ensemble: each network's variables, in the order of the members (`join`).
      mesh: where they run.

    Returns:
      Metrics, metadata for `eval.json` (confusion matrix, class names), and arrays for the report
      (sample images with predictions, first-layer filters).
    """
    scores, labels = self._ensemble_scores(ensemble, mesh)
    classifier_lib.report_not_finite(scores)
    ranks = classifier_lib.ranks(scores, labels)
    predicted = classifier_lib.predictions(scores, labels)
    values = classifier_lib.errors(ranks, scores.shape[-1])
    metrics = {f'test/{name}': float(np.mean(wrong)) for name, wrong in values.items()}
    confusion = np.zeros((len(self.data.classes),) * 2, int)
    np.add.at(confusion, (labels, predicted), 1)
    arrays = self._examples(scores, labels, predicted, mesh)
    kernels = [x for x in jax.tree.leaves(ensemble[0]['params']) if x.ndim == 4]
    # The first layer's kernel is the one that has as many inputs as images have channels.
    if first := [x for x in kernels if x.shape[2] == self.input_shape[-1]]:
      arrays['filters'] = np.asarray(first[0])
    return metrics, {'confusion': confusion.tolist(), 'classes': list(self.data.classes)}, arrays

  def _ensemble_scores(
    self, ensemble: Sequence[Variables], mesh: Mesh
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the members' scores `[N, K]` as of one network, and labels `[N]`."""
    scores, labels = self._scores(ensemble[0], mesh)
    others = self._others or [self] * (len(ensemble) - 1)
    members = [
      self._scores_of(other, variables, mesh, labels)
      for other, variables in zip(others, ensemble[1:], strict=True)
    ]
    return classifier_lib.average([scores, *members]), labels

  def _scores(self, variables: Variables, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores `[N, K]` and labels `[N]` of the evaluation split."""

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def score(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      key = jax.random.key(0)
      images, _ = self._inputs(batch, key, train=False)
      logits, _ = self._logits(variables, images, batch, key, train=False)
      return logits, batch['label'], batch['mask']

    rows = []
    for batch in reading.evaluation(self.data, self.data.eval_split, mesh):
      *columns, mask = jax.device_get(score(variables, batch))
      rows.append([column[mask > 0] for column in columns])
    scores, labels = (np.concatenate(column) for column in zip(*rows, strict=True))
    return scores, labels

  def _scores_of(
    self, other: 'Classify', variables: Variables, mesh: Mesh, labels: np.ndarray
  ) -> np.ndarray:
    """Returns another member's scores `[N, K]` of the images with our labels `[N]`, our classes.

    Raises:
      UserError: it is evaluated on other images, or on other classes.
    """
    ours, theirs = self.data.classes, other.data.classes
    if set(ours) != set(theirs):
      raise UserError(f'an ensemble of classes {shown(ours)} and {shown(theirs)}: must be the same')
    order = np.array([theirs.index(name) for name in ours])
    scores, their_labels = other._scores(variables, mesh)
    if not np.array_equal(order[labels], their_labels):
      raise UserError(
        f'an ensemble evaluated on {len(labels)} and {len(their_labels)} images: must be the same'
        ' images in the same order; give data.eval_split or data.data_dir to all of them'
      )
    return scores[:, order]

  def _examples(
    self, scores: np.ndarray, labels: np.ndarray, predicted: np.ndarray, mesh: Mesh
  ) -> dict[str, np.ndarray]:
    """Returns images of the split with their labels and predictions, wrong ones first."""
    wrong, right = (np.flatnonzero(x) for x in (predicted != labels, predicted == labels))
    # Drawn evenly, since the split may be in the order of classes.
    wrong = wrong[pipeline.even_rows(NUM_PREVIEW_SAMPLES // 2, len(wrong))]
    right = right[pipeline.even_rows(NUM_PREVIEW_SAMPLES - len(wrong), len(right))]
    rows = np.concatenate([wrong, right])
    with np.errstate(invalid='ignore'):  # of scores that are not finite
      probabilities = special.softmax(scores[rows].astype(np.float64), axis=-1)
    return {
      'images': reading.images(self.data, self.data.eval_split, mesh, rows),
      'labels': labels[rows],
      'predictions': predicted[rows],
      'probabilities': probabilities[np.arange(len(rows)), predicted[rows]],
    }
