"""Denoisers made of denoisers, and constraints for samplers: conditions met without retraining."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.diffusion.parameterization import Denoiser
from models.diffusion.process import Process, like
from models.diffusion.samplers import Constraint


def classifier_free(
  process: Process,
  kind: str,
  predict: Callable[[Array, Array, Any], Array],
  labels: Any,
  null: Any,
  scale: float,
  *,
  interval: tuple[float, float] | None = None,
) -> Denoiser:
  """unconditional + scale (conditional - unconditional): Ho and Salimans 2022, arXiv 2207.12598,
  eq. 6, whose w is scale - 1.

  predict: (x, t, labels), called once with both halves, 2 B examples. labels, null: pytrees of
    `[B, ...]`, null what stands for no condition. A learned variance is the conditional one.
  interval: noise levels sigma / alpha between which the scale holds; it is 1 elsewhere
    (Kynkäänniemi et al. 2024, arXiv 2404.07724).
  """

  def guided(x, t):
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), (x, t, labels), (x, t, null))
    out = predict(*both)
    value, v = out if isinstance(out, tuple) else (out, None)
    with_label, without = jnp.split(value, 2)
    value = without + like(_scale(process, scale, interval, t), x) * (with_label - without)
    return value if v is None else (value, v[: len(x)])

  return Denoiser(process, guided, kind)


def _scale(process, scale, interval, t):
  if interval is None:
    return jnp.full(t.shape, scale)
  level = jnp.exp(-0.5 * process.log_snr(t))
  return jnp.where((interval[0] < level) & (level <= interval[1]), scale, 1.0)


def by_classifier(
  denoiser: Denoiser, log_prob: Callable[[Array, Array], Array], scale: float = 1.0
) -> Denoiser:
  """The score plus scale times the gradient of log_prob(x_t, t) `[B]`, of a condition given x_t.

  Song 2021 (arXiv 2011.13456), section I.1; Dhariwal and Nichol 2021 (2105.05233), section 4.
  """

  def eps(x, t):
    gradient = jax.grad(lambda x: log_prob(x, t).sum())(x)
    return denoiser.eps(x, t) - like(scale * denoiser.process.sigma(t), x) * gradient

  return Denoiser(denoiser.process, eps, 'eps')


THRESHOLDS = ('static', 'dynamic')


def threshold(denoiser: Denoiser, kind: str, *, percentile: float = 0.995) -> Denoiser:
  """x_0 kept in [-1, 1] (Saharia et al. 2022, arXiv 2205.11487, section 2.3).

  kind: 'static' clips; 'dynamic' clips to an image's own percentile of |x_0|, if above 1, and
    divides by it.
  """
  if kind not in THRESHOLDS:
    raise ValueError(f'sampler.threshold={kind!r}: choose from {", ".join(THRESHOLDS)}')

  def x0(x, t):
    value, v = denoiser.x0_and_v(x, t)
    value = _bounded(value, kind, percentile)
    return value if v is None else (value, v)

  return Denoiser(denoiser.process, x0, 'x0')


def _bounded(x0, kind, percentile):
  if kind == 'static':
    return jnp.clip(x0, -1, 1)
  bound = jnp.quantile(abs(x0).reshape(x0.shape[0], -1), percentile, axis=1)
  bound = like(jnp.maximum(bound, 1), x0)
  return jnp.clip(x0, -bound, bound) / bound


# -------- constraints: Song 2021, section I.2 and I.3 --------


def inpaint(known: Array, mask: Array) -> Constraint:
  """At each level what is known is put in, with that level's noise.

  known: `[B, ...]`. mask: `[B, ...]`, 1 where it counts.

  The rest is drawn given the noisy known part, which is what the paper approximates the condition
  with: wrong at high levels, right at low ones, where a corrector brings the images there.
  """

  def constrain(x, alpha, sigma, noise):
    return jnp.where(mask > 0, alpha * known + sigma * noise, x)

  return constrain


# An orthonormal basis of colours, the grey one first.
COLOURS = np.array(
  [[1, 1, 1] / np.sqrt(3), [1, -1, 0] / np.sqrt(2), [1, 1, -2] / np.sqrt(6)], np.float32
)


def colourise(grey: Array) -> Constraint:
  """Images `[B, H, W, 3]` whose mean over the colours is grey `[B, H, W, 1]`."""
  known = grey * np.float32(np.sqrt(3))

  def constrain(x, alpha, sigma, noise):
    rest = (x @ COLOURS.T)[..., 1:]
    first = alpha * known + sigma * noise[..., :1]  # noise has the same law in any such basis
    return jnp.concatenate([first, rest], -1) @ COLOURS

  return constrain
