"""Restricted Boltzmann machines: units that are all joined to those of the other side alone.

A machine is a dict of arrays, for v visible and h hidden units and perhaps K labels:

  kernel [v, h], bias [v], hidden_bias [h], and of one with labels: labels [K, h], label_bias [K].

Visible and hidden units are `[B, v]` and `[B, h]`, labels one-hot `[B, K]` or None. Keys are one
for each example, `[B]`, so that a draw does not depend on how the batch is split.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

RBM = Mapping[str, Array]


@jax.custom_jvp
def softplus(x: Array) -> Array:
  """Returns log(1 + exp(x)), whose derivative is the sigmoid that sampling has computed already."""
  return jax.nn.softplus(x)


# jax.nn's own derivative is exp(x - softplus(x)): the value again, of which learning needs nothing.
softplus.defjvps(lambda tangent, _, x: jax.nn.sigmoid(x) * tangent)


def hidden_logits(rbm: RBM, v: Array, y: Array | None = None) -> Array:
  """Returns the log-odds of the hidden units, `[B, h]`."""
  logits = v @ rbm['kernel'] + rbm['hidden_bias'][None]
  return logits if y is None else logits + y @ rbm['labels']


def visible_logits(rbm: RBM, h: Array) -> Array:
  """Returns the log-odds of the visible units, `[B, v]`."""
  return h @ rbm['kernel'].T + rbm['bias'][None]


def label_logits(rbm: RBM, h: Array) -> Array:
  """Returns the labels' logits, a softmax group of which one is on, `[B, K]`."""
  return h @ rbm['labels'].T + rbm['label_bias'][None]


def free_energy(rbm: RBM, v: Array, y: Array | None = None) -> Array:
  """Returns F `[B]`, of which exp(-F) is in proportion to p(v, y): the hidden units summed out."""
  energy = -v @ rbm['bias'] - softplus(hidden_logits(rbm, v, y)).sum(-1)
  return energy if y is None else energy - y @ rbm['label_bias']


def label_scores(rbm: RBM, v: Array) -> Array:
  """Returns minus the free energy with each label, less what all labels share, `[B, K]`."""
  shared = v @ rbm['kernel'] + rbm['hidden_bias'][None]

  def of_label(label: tuple[Array, Array]) -> Array:
    weights, bias = label
    return bias + softplus(shared + weights[None]).sum(-1)

  # One label at a time: all at once would need K times the memory.
  return lax.map(of_label, (rbm['labels'], rbm['label_bias'])).T


def fold(keys: Array, number: Any) -> Array:
  """Returns keys `[B]` made of keys `[B]` and one number."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)


def bernoulli(keys: Array, logits: Array) -> Array:
  """Draws binary units `[B, n]`, float32, from their log-odds."""
  uniform = jax.vmap(lambda key: jax.random.uniform(key, logits.shape[1:]))(keys)
  return (uniform < jax.nn.sigmoid(logits)).astype(jnp.float32)


def one_of(keys: Array, logits: Array) -> Array:
  """Draws one label of each softmax group, one-hot `[B, K]`."""
  drawn = jax.vmap(jax.random.categorical)(keys, logits)
  return jax.nn.one_hot(drawn, logits.shape[-1])


def gibbs(
  rbm: RBM,
  keys: Array,
  v: Array,
  y: Array | None,
  steps: Any,
  *,
  sample_visible: bool,
  clamp_labels: bool = False,
) -> tuple[Array, Array | None]:
  """Returns visible units and labels after alternating Gibbs sampling from v and y.

  Args:
    rbm: the machine.
    keys: `[B]`.
    v: visible units, binary or probabilities.
    y: one-hot labels, or None.
    steps: at least 1; may be traced.
    sample_visible: whether visible units are drawn, or stay the probabilities (as in CD-1, where it
      is less noisy).
    clamp_labels: whether y stays what it is.
  """

  def step(i: Any, units: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
    v, y = units
    now = fold(keys, i)
    h = bernoulli(fold(now, 0), hidden_logits(rbm, v, y))
    logits = visible_logits(rbm, h)
    v = bernoulli(fold(now, 1), logits) if sample_visible else jax.nn.sigmoid(logits)
    if y is not None and not clamp_labels:
      y = one_of(fold(now, 2), label_logits(rbm, h))
    return v, y

  # The first outside of the loop, where XLA finds that the free energy needs its product as well.
  return lax.fori_loop(1, steps, step, step(0, (v, y)))


def contrast(
  rbm: RBM, data: tuple[Array, Array | None], model: tuple[Array, Array | None]
) -> Array:
  """Returns the sum over examples of F(data) - F(model).

  With the model's samples held fixed its gradient is <v h>_model - <v h>_data, contrastive
  divergence's, hidden units by their probabilities (Hinton 2002).
  """
  return jnp.sum(free_energy(rbm, *data) - free_energy(rbm, *model))


def cross_entropy(logits: Array, targets: Array) -> Array:
  """Returns the sum over examples and units of -log p(targets), in nats, for targets in [0, 1]."""
  return jnp.sum(softplus(logits) - targets * logits)
