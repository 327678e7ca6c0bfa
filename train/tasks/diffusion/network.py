"""The network of a diffusion task: its condition, and the denoiser that is made of it."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

import models
from models.diffusion import guidance
from models.diffusion.denoiser import DenoisingNetwork, NetworkDenoiser, Output
from models.diffusion.process import Process
from train.errors import UserError, user_errors
from train.task import Variables
from train.tasks.diffusion import captions as captions_lib
from train.tasks.diffusion.options import Conditioning

Condition = dict[str, Array]  # the network's inputs `label`, or `context` and `mask`, by name


class ConditionalNetwork:
  """A network that predicts for a process, conditioned on labels or captions.

  module: the network. captions: the encoder of captions, or None.
  guidance_scale, guidance_interval, threshold: see `options.Sampling`.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    classes: Sequence[str],
    process: Process,
    prediction: str,
    conditioning: Conditioning,
    *,
    guidance_scale: float = 1.0,
    guidance_interval: tuple[float, float] | None = None,
    threshold: str = 'none',
  ):
    self.process, self.prediction, self.conditioning = process, prediction, conditioning
    self.guidance_scale, self.guidance_interval = guidance_scale, guidance_interval
    self.threshold = threshold
    self.module = build(model, len(classes) if conditioning.on == 'label' else 0)
    width = self.module.context_width
    self.captions = captions_lib.build(conditioning, classes, width)
    self.learned_variance = self.module.learned_variance

  def init(self, key: Array, image_shape: tuple[int, ...]) -> Variables:
    """Returns fresh variables; `params` holds those of the caption encoder, too."""
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
  ) -> NetworkDenoiser:
    """Returns the denoiser of these variables.

    Args:
      variables: the network's, as `init` makes them.
      labels: int `[B]`, -1 for no label; for captions also bytes `[B, L]`, padded with -1. None: no
        condition, for any batch.
      as_trained: whether to leave out guidance and threshold.
      rngs: keys for dropout; None for none.
    """
    cond = self.encode(variables, labels, rngs)
    predict = functools.partial(self.predict, variables, rngs)
    if cond and self.guidance_scale != 1 and not as_trained:
      made = guidance.classifier_free(
        self.process,
        self.prediction,
        predict,
        cond,
        null_condition(cond),
        self.guidance_scale,
        interval=self.guidance_interval,
      )
    else:
      made = NetworkDenoiser(self.process, lambda x, t: predict(x, t, cond), self.prediction)
    plain = as_trained or self.threshold == 'none'
    return made if plain else guidance.threshold(made, self.threshold)

  def encode(self, variables: Variables, labels: Array | None, rngs: Any) -> Condition:
    """Returns the network's condition for labels; {} for none."""
    if labels is None or self.conditioning.on == 'none':
      return {}
    if self.captions is None:
      return {'label': labels}
    return self.captions.encode(variables['params'], labels, rngs)

  def predict(self, variables: Variables, rngs: Any, x: Array, t: Array, cond: Condition) -> Output:
    """Returns the network's prediction `[B, H, W, C]`, and v if it learns the variance."""
    out = self.module.apply(
      variables,
      x,
      self.process.c_noise(t),
      label=cond.get('label'),
      context=cond.get('context'),
      mask=cond.get('mask'),
      train=rngs is not None,
      rngs=rngs,
    )
    if not self.learned_variance:
      return out
    value, v = jnp.split(out, 2, axis=-1)
    return value, v


def build(section: Mapping[str, Any], num_classes: int) -> DenoisingNetwork:
  """Builds the network that the section `model` names; UserError if it is no denoising network."""
  if section['name'] not in models.DENOISING_NETWORKS:
    choices = ', '.join(models.DENOISING_NETWORKS)
    raise UserError(f'model.name={section["name"]!r}: takes no noise level; choose from {choices}')
  given: dict[str, Any] = {'num_classes': num_classes} if num_classes else {}
  return models.build(**section, **given)


def null_condition(cond: Condition) -> Condition:
  """Returns the condition that the network takes for none, of the shapes of cond."""
  if 'label' in cond:
    return {'label': jnp.full_like(cond['label'], -1)}
  return {'context': cond['context'], 'mask': jnp.zeros_like(cond['mask'])}
