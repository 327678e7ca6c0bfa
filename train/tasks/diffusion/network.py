"""The network of a diffusion model: what it is told beside the noise, and the denoiser it makes."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import models
from models.diffusion import guidance
from models.diffusion.parameterization import Denoiser
from models.diffusion.process import Process
from train.config import UserError, user_errors
from train.task import Variables
from train.tasks.diffusion import captions as captions_lib

CONDITIONS = ('none', 'label', 'caption')
THRESHOLDS = ('none', *guidance.THRESHOLDS)


class Network:
  """A module that predicts, for a process, in whatever way it is told of classes.

  model: the section of the config. kind: of prediction. condition: of CONDITIONS. caption: see
    `captions.Captions`. scale, interval: of classifier-free guidance. threshold: of THRESHOLDS.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    classes: Sequence[str],
    process: Process,
    kind: str,
    *,
    condition: str,
    caption: str,
    scale: float,
    interval: tuple[float, float] | None,
    threshold: str,
  ):
    self.process, self.kind, self.condition = process, kind, condition
    self.scale, self.interval, self.threshold = scale, interval, threshold
    self.module = build(model, len(classes) if condition == 'label' else 0)
    self.captions = captions_lib.of(self.module, condition, caption, classes)
    self.learned_variance: bool = getattr(self.module, 'learned_variance', False)

  def init(self, key: Array, image_shape: tuple[int, ...]) -> Variables:
    """The module's variables; in `params` also the `captions` encoder's, where there is one."""
    key, text_key = jax.random.split(key)
    with user_errors():
      variables = self.module.init(key, jnp.zeros((1, *image_shape)), jnp.zeros(1))
    if self.captions is None:
      return variables
    return {**variables, 'params': {**variables['params'], **self.captions.init(text_key)}}

  def denoiser(
    self,
    variables: Variables,
    labels: Array | None = None,
    *,
    as_trained: bool = False,
    rngs: Any = None,
  ) -> Denoiser:
    """With guidance and threshold unless it is wanted `as_trained`; with dropout by `rngs`.

    labels: int `[B]`, -1 for none; of captions also bytes `[B, L]`, filled up with -1. None: images
      of no condition, of any batch.
    """
    told = self.told(variables, labels, rngs)
    predict = functools.partial(self.predict, variables, rngs)
    if told and self.scale != 1 and not as_trained:
      made = guidance.classifier_free(
        self.process, self.kind, predict, told, untold(told), self.scale, interval=self.interval
      )
    else:
      made = Denoiser(self.process, lambda x, t: predict(x, t, told), self.kind)
    plain = as_trained or self.threshold == 'none'
    return made if plain else guidance.threshold(made, self.threshold)

  def told(self, variables: Variables, labels: Array | None, rngs: Any) -> dict[str, Array]:
    """What the module gets of labels, by name."""
    if labels is None or self.condition == 'none':
      return {}
    if self.captions is None:
      return {'label': labels}
    return self.captions.read(variables['params'], labels, rngs)

  def predict(
    self, variables: Variables, rngs: Any, x: Array, t: Array, told: Mapping[str, Array]
  ) -> Any:
    """As `Denoiser.predict`."""
    out: Any = self.module.apply(
      variables, x, self.process.network_time(t), **told, train=rngs is not None, rngs=rngs
    )
    return tuple(jnp.split(out, 2, axis=-1)) if self.learned_variance else out


def build(section: Mapping[str, Any], num_classes: int) -> Any:
  """The module that `model` names, for so many classes; UserError if it is no denoiser."""
  name, made = section['name'], models.MODELS[section['name']]
  kind = getattr(made, 'func', made)
  if not inspect.isclass(kind) or 't' not in inspect.signature(kind.__call__).parameters:
    raise UserError(f'model.name={name!r}: takes no noise level, as unet and dit do')
  if num_classes and 'num_classes' not in inspect.signature(made).parameters:
    raise UserError(f"task.condition='label': model {name} takes no labels")
  given: dict[str, Any] = {'num_classes': num_classes} if num_classes else {}
  return models.build(**section, **given)


def untold(told: Mapping[str, Array]) -> dict[str, Array]:
  """As `told`, for the module without a condition."""
  if 'label' in told:
    return {'label': jnp.full_like(told['label'], -1)}
  return {'context': told['context'], 'mask': jnp.zeros_like(told['mask'])}
