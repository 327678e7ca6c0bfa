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
from data import spec
from data.images import augment as augment_lib
from data.images.source import ImageData
from train import mesh as mesh_lib
from train.config import UserError
from train.step import make_eval
from train.task import Batch, Metrics, Source, Variables
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


def center_crop(images: Array, *, size: int) -> Array:
  """Returns the centre of images `[B, H, W, C]` as one view, `[B, 1, size, size, C]`."""
  return augment_lib.center_crop(images, size)[:, None]


def ten_crop(images: Array, *, size: int) -> Array:
  """Returns corners, centre and their mirror images: `[B, H, W, C]` to `[B, 10, size, size, C]`."""
  return augment_lib.ten_crop(images, size)


VIEWS: Mapping[str, Callable[..., Array]] = {'center_crop': center_crop, 'ten_crop': ten_crop}


Sample = tuple[np.ndarray, np.ndarray, np.ndarray]  # image, label, probabilities
NUM_PREVIEW_SAMPLES = 32  # images in the report: half of them misclassified, if there are so many
TOP5_FROM = 20  # classes; with fewer, the top-5 error says little


class Classify:
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
    view: what the network sees of a test image: '' (all of it), or a function of VIEWS, such as
      'ten_crop(size=224)', over whose crops probabilities are averaged.

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
    self.model = models.build(**{**model, 'num_classes': len(data.classes)})
    self.loss_function = LOSSES[loss]
    self.label_smoothing = label_smoothing
    self.mean, self.std = (_per_channel(x, data.image_shape[-1]) for x in (mean, std))
    self.augment = augment_lib.parse(augment, 'task.augment')
    self.view = _view(view)

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
    images = batch['image']
    if images.dtype == jnp.uint8:
      images = images.astype(jnp.float32) / 255
    targets = jax.nn.one_hot(batch['label'], len(self.data.classes))
    if train:
      targets = optax.smooth_labels(targets, self.label_smoothing)
      # A key for each example, not for the batch: the same images whatever the number of devices.
      keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch['index'])
      images, targets = self.augment(keys, images, targets)
    else:
      images = self.view(images)  # [B, crops, h, w, C]
      images = images.reshape(-1, *images.shape[2:])
    return (images - self.mean) / self.std, targets

  def _logits(
    self, variables: Variables, images: Array, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, Variables]:
    """Returns scores `[B, K]` and the other collections after the call.

    The scores of several crops are the logarithm of their mean probability.
    """
    if train:
      # The record's number again: another mask on each device and in each microbatch.
      rngs = {'dropout': jax.random.fold_in(key, batch['index'][0])}
      mutable = [name for name in variables if name != 'params']
      return self.model.apply(variables, images, train=True, rngs=rngs, mutable=mutable)
    logits: Any = self.model.apply(variables, images, train=False)
    crops = images.shape[0] // batch['label'].shape[0]
    if crops > 1:
      scores = jax.nn.log_softmax(logits.reshape(-1, crops, logits.shape[-1]))
      logits = jax.nn.logsumexp(scores, axis=1) - jnp.log(crops)
    return logits, {}

  def features(self, variables: Variables, images: Array) -> tuple[Array, Array]:
    """Returns the last layer's inputs `[B, D]` and scores `[B, K]` for uint8 images `[B, H, W, C]`.

    The inputs are averaged over crops.
    """
    seen: list[Array] = []

    def look(call: Callable, args: tuple, kwargs: Mapping, context: Any) -> Any:
      # The last layer is the last call among the network's own layers, not those inside of them.
      if len(context.module.path) == 1 and args:
        seen.append(args[0])
      return call(*args, **kwargs)

    batch = {'image': images, 'label': jnp.zeros(len(images), jnp.int32)}
    inputs, _ = self._inputs(batch, jax.random.key(0), train=False)
    with nn.intercept_methods(look):
      logits, _ = self._logits(variables, inputs, batch, jax.random.key(0), train=False)
    crops = len(inputs) // len(images)
    return seen[-1].astype(jnp.float32).reshape(len(images), crops, -1).mean(1), logits

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


def _view(text: str) -> Callable[[Array], Array]:
  """Returns a map of `[B, H, W, C]` to `[B, crops, h, w, C]`, for text as 'ten_crop(size=224)'."""
  views = spec.parse(text, VIEWS, 'task.view')
  if len(views) > 1:
    raise UserError(f'task.view={text!r}: one view at most')
  return views[0] if views else lambda images: images[:, None]


def _per_channel(value: float | Sequence[float], channels: int) -> np.ndarray:
  """Returns float32 `[1, 1, 1, C]` or `[1, 1, 1, 1]`, for images `[B, H, W, C]`."""
  numbers = np.atleast_1d(np.asarray(value, np.float32))
  if len(numbers) not in (1, channels):
    raise UserError(
      f'task.mean or task.std has {len(numbers)} numbers: one, or one a channel ({channels})'
    )
  return numbers.reshape(1, 1, 1, -1)
