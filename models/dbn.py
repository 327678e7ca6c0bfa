"""The deep belief net of Hinton, Osindero and Teh (2006, Neural Computation 18:1527).

Directed layers of binary units below, and on top a restricted Boltzmann machine (RBM) whose visible
units are the last directed layer and a softmax group of labels. A directed layer has *recognition*
weights, which infer its units from the layer below, and *generation* weights, which make the layer
below from its units: equal while the layer is trained as an RBM, then free of one another.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.initializers import normal, zeros
from jax import Array

from models import boltzmann
from models.boltzmann import RBM
from models.layers import parameter

Params = Mapping[str, Any]  # of DBN: 'layer0', 'layer1', ... and 'top'

small = normal(0.01)  # Hinton, "A practical guide to training RBMs", section 8


class DirectedLayer(nn.Module):
  """Maps the layer below `[B, v]` to its units' probabilities `[B, h]`, by recognition.

  features: h.
  """

  features: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    sizes, axes = (x.shape[-1], self.features), ('features_in', 'features_out')
    kernel = parameter(self, 'recognition', small, sizes, axes)
    bias = parameter(self, 'recognition_bias', zeros, sizes[1:], axes[1:])
    parameter(self, 'generation', small, sizes[::-1], axes[::-1])
    parameter(self, 'generation_bias', zeros, sizes[:1], axes[:1])
    return jax.nn.sigmoid(x @ kernel + bias[None])


class LabelledRBM(nn.Module):
  """Maps visible units `[B, v]` to log p(label | visible) without its constant, `[B, K]`.

  Attributes:
    features: h, the hidden units.
    num_classes: K.
  """

  features: int
  num_classes: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    sizes, axes = (x.shape[-1], self.features), ('features_in', 'features_out')
    rbm = {
      'kernel': parameter(self, 'kernel', small, sizes, axes),
      'bias': parameter(self, 'bias', zeros, sizes[:1], axes[:1]),
      'hidden_bias': parameter(self, 'hidden_bias', zeros, sizes[1:], axes[1:]),
      'labels': parameter(self, 'labels', small, (self.num_classes, sizes[1]), (None, axes[1])),
      'label_bias': parameter(self, 'label_bias', zeros, (self.num_classes,), (None,)),
    }
    return boltzmann.label_scores(rbm, x)


class DBN(nn.Module):
  """Maps images `[B, ...]` in [0, 1] to log p(label | image) without its constant, `[B, K]`.

  The directed layers' units are inferred as probabilities, and each label is judged by the exact
  free energy that the top RBM gives to them with it (section 6).

  Attributes:
    num_classes: K.
    hidden: units of the directed layers.
    top: hidden units of the top RBM.
  """

  num_classes: int
  hidden: tuple[int, ...] = (500, 500)
  top: int = 2000

  @nn.compact
  def __call__(self, x: Array, *, train: bool = False) -> Array:
    del train
    x = x.reshape(x.shape[0], -1)
    for i, features in enumerate(self.hidden):
      x = DirectedLayer(features, name=f'layer{i}')(x)
    return LabelledRBM(self.top, self.num_classes, name='top')(x)


def dbn(num_classes: int, *, hidden: tuple[int, ...] = (500, 500), top: int = 2000) -> nn.Module:
  """Returns a deep belief net; see `DBN`.

  Args:
    num_classes: labels beside the visible units of the top RBM.
    hidden: units of the directed layers, from the pixels up.
    top: hidden units of the top RBM.
  """
  if not hidden or min(*hidden, top) < 1:
    raise ValueError(f'model.hidden={tuple(hidden)}, model.top={top}: at least one unit a layer')
  return DBN(num_classes, tuple(hidden), top)


def num_layers(params: Params) -> int:
  """Returns the number of directed layers."""
  return len(params) - 1


def rbm_of(params: Params, layer: int) -> RBM:
  """Returns a directed layer as the RBM that it is trained as, or the top one."""
  if layer == num_layers(params):
    return params['top']
  own = params[f'layer{layer}']
  return {
    'kernel': own['recognition'],
    'bias': own['generation_bias'],
    'hidden_bias': own['recognition_bias'],
  }


def with_rbm(params: Params, layer: int, rbm: RBM) -> Params:
  """Returns the net with a layer that is this RBM: its weights are tied."""
  if layer == num_layers(params):
    return {**params, 'top': rbm}
  own = {
    'recognition': rbm['kernel'],
    'recognition_bias': rbm['hidden_bias'],
    'generation': rbm['kernel'].T,
    'generation_bias': rbm['bias'],
  }
  return {**params, f'layer{layer}': own}


def is_trained(params: Params, layer: int) -> bool:
  """Returns whether an RBM was ever updated: its hidden biases begin as exact zeros."""
  return bool(jax.jit(lambda x: jnp.any(x != 0))(rbm_of(params, layer)['hidden_bias']))


def recognise(params: Params, layer: int, below: Array) -> Array:
  """Returns the log-odds of a directed layer's units, inferred from the layer below."""
  own = params[f'layer{layer}']
  return below @ own['recognition'] + own['recognition_bias'][None]


def generate(params: Params, layer: int, above: Array) -> Array:
  """Returns the log-odds of the units below a directed layer, made from its own."""
  own = params[f'layer{layer}']
  return above @ own['generation'] + own['generation_bias'][None]


def infer(params: Params, v: Array, layers: int) -> Array:
  """Returns the probabilities that reach `layers` directed layers up, as in a mean field."""
  for i in range(layers):
    v = jax.nn.sigmoid(recognise(params, i, v))
  return v


def up_down(
  params: Params, keys: Array, v: Array, y: Array, gibbs_steps: Any
) -> tuple[list[Array], tuple[Array, Array], list[Array]]:
  """Returns what a pass up, the top RBM's Gibbs sampling and a pass down draw (appendix B).

  Returns:
    Units of the layers from the pixels up (wake), the top RBM's visible units and labels after
    `gibbs_steps`, and units from the pixels up made from these (sleep); pixels are probabilities.
  """
  wake = [v]
  for i in range(num_layers(params)):
    wake.append(boltzmann.bernoulli(boltzmann.fold(keys, i), recognise(params, i, wake[-1])))
  up = boltzmann.fold(keys, num_layers(params))
  fantasy, label = boltzmann.gibbs(params['top'], up, wake[-1], y, gibbs_steps, sample_visible=True)
  assert label is not None
  return (
    wake,
    (fantasy, label),
    generated(params, boltzmann.fold(keys, num_layers(params) + 1), fantasy),
  )


def generated(params: Params, keys: Array, units: Array) -> list[Array]:
  """Returns the layers from the pixels up to `units`, the last directed layer's, drawn downwards.

  Pixels are probabilities.
  """
  layers = [units]
  for i in reversed(range(1, num_layers(params))):
    layers.append(boltzmann.bernoulli(boltzmann.fold(keys, i), generate(params, i, layers[-1])))
  layers.append(jax.nn.sigmoid(generate(params, 0, layers[-1])))
  return layers[::-1]


def up_down_objective(
  params: Params,
  wake: list[Array],
  fantasy: tuple[Array, Array],
  sleep: list[Array],
  y: Array,
) -> Array:
  """Returns a sum over examples whose gradient is that of the up-down algorithm (section 5).

  Generation learns to make what recognition inferred of the data (wake), recognition to infer what
  generation made (sleep), and the top RBM by contrastive divergence. All units are held fixed.
  """
  layers = range(num_layers(params))
  making = sum(boltzmann.cross_entropy(generate(params, i, wake[i + 1]), wake[i]) for i in layers)
  inferring = sum(
    boltzmann.cross_entropy(recognise(params, i, sleep[i]), sleep[i + 1]) for i in layers
  )
  return making + inferring + boltzmann.contrast(params['top'], (wake[-1], y), fantasy)


def sample(params: Params, keys: Array, labels: Array, gibbs_steps: int) -> Array:
  """Returns images as probabilities `[B, v]`, of the clamped labels one-hot `[B, K]`.

  The top RBM's chain begins from its visible units' biases and runs for `gibbs_steps`.
  """
  top = params['top']
  v = jnp.broadcast_to(top['bias'][None], (len(labels), len(top['bias'])))
  v = boltzmann.bernoulli(boltzmann.fold(keys, 0), v)
  v, _ = boltzmann.gibbs(
    top, boltzmann.fold(keys, 1), v, labels, gibbs_steps, sample_visible=True, clamp_labels=True
  )
  return generated(params, boltzmann.fold(keys, 2), v)[0]


def fields(params: Params, layer: int) -> Array:
  """Returns what the units of a layer see, `[h, v]` in pixels: through products of the weights.

  layer: of 0 the recognition weights themselves; that of the top RBM comes last.
  """
  seen = rbm_of(params, layer)['kernel']
  for i in reversed(range(layer)):
    seen = params[f'layer{i}']['recognition'] @ seen
  return seen.T
