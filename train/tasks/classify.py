"""Task `classify`: a network maps images to class scores (LeNet, AlexNet, ResNet)."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

import models
import models.summary
from data.images import augment as augment_lib
from data.images.source import ImageData
from train import mesh as mesh_lib
from train.errors import UserError
from train.step import make_eval
from train.task import Batch, Metrics, Source, Task, Variables
from train.tasks import classifier as classifier_lib
from train.tasks import reading


def cross_entropy(logits: Array, targets: Array) -> Array:
  """Returns `[B]`, in nats, from scores and the target distribution, both `[B, K]`."""
  return optax.softmax_cross_entropy(logits, targets)


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


Sample = tuple[np.ndarray, np.ndarray, np.ndarray]  # image, label, probabilities
NUM_PREVIEW_SAMPLES = 32  # images in the report: half of them misclassified, if there are so many
TOP5_FROM = 20  # classes; with fewer, the top-5 error says little


class Classify(Task):
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
      `train.tasks.classifier.VIEWS`, such as 'ten_crop(size=224)', over whose crops probabilities
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

  @property
  def model(self) -> nn.Module:
    """The network."""
    return self.classifier.model

  @property
  def batch_size(self) -> int:
    """Images in a training batch."""
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    """What rates count, and how many of it a batch has."""
    return 'images', self.data.batch_size

  def summary(self) -> str:
    """Returns a table of the network's layers."""
    return models.summary.table(self.model, self.input_shape)

  def close(self) -> None:
    """Closes the data."""
    self.data.close()

  def meaning(self) -> dict[str, Any]:
    """Returns the classes, whose order the scores have, and the shape of the images."""
    return {'classes': list(self.data.classes), 'image_shape': list(self.data.image_shape)}

  def fingerprints(self) -> Mapping[str, str]:
    """Returns split -> a hash of its data."""
    return self.data.fingerprints()

  @property
  def input_shape(self) -> tuple[int, int, int]:
    """The shape `[h, w, C]` of what the network sees: augmentation may crop the data's images."""
    batch = {
      'image': jax.ShapeDtypeStruct((2, *self.data.image_shape), jnp.uint8),
      'label': jax.ShapeDtypeStruct((2,), jnp.int32),
      'index': jax.ShapeDtypeStruct((2,), jnp.int32),
    }
    inputs = functools.partial(self._inputs, train=True)
    return jax.eval_shape(inputs, batch, jax.random.key(0))[0].shape[1:]

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
    wrong = logits.argmax(-1) != batch['label']
    values = {'loss': self.loss_function(logits, targets), 'error': wrong}
    if logits.shape[-1] >= TOP5_FROM:
      score = jnp.take_along_axis(logits, batch['label'][:, None], axis=-1)
      values['error_top5'] = jnp.sum(logits > score, axis=-1) >= 5
    weight = batch['mask'].sum()
    metrics = {name: (jnp.sum(x * batch['mask']), weight) for name, x in values.items()}
    return metrics['loss'][0] / weight, (extra, metrics)

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the stream of training batches."""
    return reading.training(self.data, split, mesh, seed)

  def evals(self, mesh: Mesh) -> Mapping[str, Callable[[Variables], Mapping[str, float]]]:
    """Returns 'test': loss and errors over the evaluation split."""
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
      images, targets = self.augment(keys, images, targets)
    else:
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

  def examine(
    self, ensemble: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Evaluates the mean of the probabilities of several networks, or of one.

    Args:
      ensemble: each network's variables.
      mesh: where they run.

    Returns:
      Metrics, metadata for `eval.json` (confusion matrix, class names), and arrays for the report
      (sample images with predictions, first-layer filters).
    """
    probabilities, labels, right, wrong = self._predict(ensemble, mesh)
    best = probabilities[np.arange(len(labels)), labels]
    metrics = {'test/error': float(np.mean(probabilities.argmax(-1) != labels))}
    if len(self.data.classes) >= TOP5_FROM:
      ranks = np.sum(probabilities > best[:, None], axis=-1)
      metrics['test/error_top5'] = float(np.mean(ranks >= 5))
    confusion = np.zeros((len(self.data.classes),) * 2, int)
    np.add.at(confusion, (labels, probabilities.argmax(-1)), 1)
    arrays = _stack((wrong[: NUM_PREVIEW_SAMPLES // 2] + right)[:NUM_PREVIEW_SAMPLES])
    kernels = [x for x in jax.tree.leaves(ensemble[0]['params']) if x.ndim == 4]
    # The first layer's kernel is the one that has as many inputs as images have channels.
    if first := [x for x in kernels if x.shape[2] == self.input_shape[-1]]:
      arrays['filters'] = np.asarray(first[0])
    return metrics, {'confusion': confusion.tolist(), 'classes': list(self.data.classes)}, arrays

  def _predict(
    self, ensemble: Sequence[Variables], mesh: Mesh
  ) -> tuple[np.ndarray, np.ndarray, list[Sample], list[Sample]]:
    """Returns probabilities `[N, K]`, labels `[N]`, and samples that are right and wrong."""

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def predict(ensemble: Sequence[Variables], batch: Batch) -> tuple[Array, ...]:
      key = jax.random.key(0)
      images, _ = self._inputs(batch, key, train=False)
      logits = [self._logits(v, images, batch, key, train=False)[0] for v in ensemble]
      mean = jnp.mean(jax.nn.softmax(jnp.stack(logits)), axis=0)
      return mean, batch['label'], batch['image'], batch['mask']

    probabilities, labels = [], []
    samples: dict[bool, list[Sample]] = {True: [], False: []}
    for batch in reading.evaluation(self.data, self.data.eval_split, mesh):
      *columns, mask = jax.device_get(predict(tuple(ensemble), batch))
      p, label, image = (column[mask > 0] for column in columns)
      for row in range(len(label)):
        kept = samples[bool(p[row].argmax() == label[row])]
        if len(kept) < NUM_PREVIEW_SAMPLES:
          kept.append((image[row], label[row], p[row]))
      probabilities.append(p)
      labels.append(label)
    return np.concatenate(probabilities), np.concatenate(labels), samples[True], samples[False]


def _stack(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
  images, labels, probabilities = (np.stack(x) for x in zip(*samples, strict=True))
  return {
    'images': images,
    'labels': labels,
    'predictions': probabilities.argmax(-1),
    'probabilities': probabilities.max(-1),
  }
