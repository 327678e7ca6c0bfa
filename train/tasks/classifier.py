"""A trained classifier as a function of images: what its network sees of them, scores, features.

The task `classify` is made of it, and so is whatever judges or guides by another run's classifier.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import special

import models
from data import spec
from data.images import augment as augment_lib
from train import mesh as mesh_lib
from train.errors import UserError
from train.task import Variables

TOP5_FROM = 20  # classes; with fewer, the top-5 error says little


@dataclasses.dataclass
class Classifier:
  """A network for images, and what it sees of them.

  Attributes:
    model: maps `[B, h, w, C]` to float32 scores `[B, K]`.
    mean: float32 `[1, 1, 1, C]` or `[1, 1, 1, 1]`, of images in [0, 1].
    std: likewise; the network sees (image - mean) / std.
    view: maps images `[B, H, W, C]` to `[B, crops, h, w, C]` in evaluation.
  """

  model: nn.Module
  mean: np.ndarray
  std: np.ndarray
  view: Callable[[Array], Array]

  def views(self, images: Array) -> Array:
    """Returns what the network sees in evaluation, `[B * crops, h, w, C]`, not yet normalised."""
    seen = self.view(images)
    return seen.reshape(-1, *seen.shape[2:])

  def normalise(self, images: Array) -> Array:
    """Returns images in [0, 1] as the network sees them."""
    return (images - self.mean) / self.std

  def scores(self, variables: Variables, inputs: Array, count: int) -> Array:
    """Returns scores `[count, K]` for normalised inputs `[count * crops, h, w, C]`.

    The scores of several crops are the logarithm of their mean probability.
    """
    logits: Any = self.model.apply(variables, inputs, train=False)
    crops = len(inputs) // count
    if crops > 1:
      log_p = jax.nn.log_softmax(logits.reshape(-1, crops, logits.shape[-1]))
      logits = jax.nn.logsumexp(log_p, axis=1) - jnp.log(crops)
    return logits

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

    inputs = self.normalise(self.views(to_unit(images)))
    with nn.intercept_methods(look):
      scores = self.scores(variables, inputs, len(images))
    crops = len(inputs) // len(images)
    return seen[-1].astype(jnp.float32).reshape(len(images), crops, -1).mean(1), scores


def build(
  model: Mapping[str, Any],
  num_classes: int,
  channels: int,
  *,
  mean: float | Sequence[float],
  std: float | Sequence[float],
  view: str,
) -> Classifier:
  """Returns a classifier as the sections `model` and `task` of a config say.

  Args:
    model: the config's section.
    num_classes: K.
    channels: C of the images.
    mean: of the images in [0, 1], one number or one for each channel.
    std: likewise.
    view: '' for the whole image, or a function of `data.images.augment.VIEWS`.

  Raises:
    UserError: a value is unknown or does not fit the images.
  """
  module = models.build(**{**model, 'num_classes': num_classes})
  centre, scale = (per_channel(x, channels) for x in (mean, std))
  if not (np.isfinite(centre).all() and (scale > 0).all() and np.isfinite(scale).all()):
    raise UserError(f'task.mean={mean}, task.std={std}: finite numbers, and std above 0')
  return Classifier(module, centre, scale, parse_view(view))


# -------- scores --------


def ranks(scores: Any, labels: Any) -> Any:
  """Returns how many other classes are not below the label, int `[B]`; 0 where it is predicted.

  Ties count against the network, and so does a score that is not finite.

  Args:
    scores: `[B, K]`, logits or log-probabilities: after a softmax large ones tie. JAX or NumPy.
    labels: int `[B]`.
  """
  xp = scores.__array_namespace__()
  own = xp.take_along_axis(scores, labels[:, None], axis=-1)
  # Not `scores > own`, which is false of NaN and of equal scores.
  others = (~(scores < own)).sum(-1) - 1
  return others + ~xp.isfinite(own[:, 0])


def predictions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the class of the highest score, int `[N]`; of a tie with the label the other one."""
  others = scores.copy()
  others[np.arange(len(labels)), labels] = -np.inf
  return np.where(ranks(scores, labels) == 0, labels, others.argmax(-1))


def average(members: Sequence[np.ndarray]) -> np.ndarray:
  """Returns scores `[N, K]`: a network's own, or the logarithm of several networks' mean softmax.

  members: scores `[N, K]` of each. In float64, where the softmax of large scores has no ties.
  """
  if len(members) == 1:
    return members[0]
  with np.errstate(invalid='ignore'):  # scores that are not finite make NaN, which counts as wrong
    log_p = [special.log_softmax(scores.astype(np.float64), axis=-1) for scores in members]
    return special.logsumexp(log_p, axis=0) - np.log(len(members))


def errors(ranks: Any, num_classes: int) -> dict[str, Any]:
  """Returns whether each example is wrong, bool `[B]`, by metric; ranks: of `classifier.ranks`."""
  top5 = {'error_top5': ranks >= 5} if num_classes >= TOP5_FROM else {}
  return {'error': ranks >= 1, **top5}


def report_not_finite(scores: np.ndarray) -> None:
  """Prints how many of the scores `[N, K]` are no numbers, if any; they count as wrong."""
  bad = ~np.isfinite(scores).all(-1)
  if bad.any() and mesh_lib.is_main():
    first = int(bad.argmax())
    print(
      f'{bad.sum()} of {len(bad)} images have scores that are not finite, such as number {first};'
      ' they count as wrong',
      file=sys.stderr,
    )


# -------- inputs --------


def to_unit(images: Array) -> Array:
  """Returns uint8 images as floats in [0, 1]; floats as they are."""
  return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def parse_view(text: str) -> Callable[[Array], Array]:
  """Returns a map of `[B, H, W, C]` to `[B, crops, h, w, C]`, for text as 'ten_crop(size=224)'."""
  views = spec.parse(text, augment_lib.VIEWS, 'task.view')
  if len(views) > 1:
    raise UserError(f'task.view={text!r}: one view at most')
  return views[0] if views else lambda images: images[:, None]


def per_channel(value: float | Sequence[float], channels: int) -> np.ndarray:
  """Returns float32 `[1, 1, 1, C]` or `[1, 1, 1, 1]`, for images `[B, H, W, C]`."""
  numbers = np.atleast_1d(np.asarray(value, np.float32))
  if len(numbers) not in (1, channels):
    raise UserError(
      f'task.mean or task.std has {len(numbers)} numbers: one, or one a channel ({channels})'
    )
  return numbers.reshape(1, 1, 1, -1)
