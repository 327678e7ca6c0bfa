"""Guidance: denoisers made of denoisers, and constraints for samplers, without retraining."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models.diffusion.denoiser import Denoiser, NetworkDenoiser, Output, split_output
from models.diffusion.process import Process, expand_like
from models.diffusion.table_sampler import Constraint


def classifier_free(
  process: Process,
  prediction: str,
  predict: Callable[[Array, Array, Any], Output],
  cond: Any,
  null_cond: Any,
  scale: float,
  *,
  interval: tuple[float, float] | None = None,
) -> NetworkDenoiser:
  """Returns the denoiser with classifier-free guidance: uncond + scale (cond - uncond).

  Ho and Salimans 2022 (arXiv 2207.12598), eq. 6, whose w is scale - 1. A learned variance is the
  conditional one.

  Args:
    process: the diffusion process.
    prediction: what `predict` returns, a name of `parameterization.PREDICTIONS`.
    predict: maps (x, t, cond) to an `Output`; called once, with a batch of 2 B.
    cond: the condition, a pytree of `[B, ...]`.
    null_cond: like cond, what the network takes for no condition.
    scale: the guidance scale; 1 is no guidance.
    interval: noise levels sigma / alpha between which the scale is used, with 1 elsewhere
      (Kynkäänniemi et al. 2024, arXiv 2404.07724); None for all.
  """

  def guided(x, t):
    # One call on 2 B rows: two would trace and compile the network twice. An example's two are
    # neighbours, so that they stay on the example's device.
    both = jax.tree.map(_interleave, (x, t, cond), (x, t, null_cond))
    value, v = split_output(predict(*both))
    given, uncond = _apart(value)
    # At given x_t all predictions are affine in each other: guiding one of them guides the score.
    value = uncond + expand_like(_scale_at(process, scale, interval, t), x) * (given - uncond)
    return value if v is None else (value, _apart(v)[0])

  return NetworkDenoiser(process, guided, prediction)


def _interleave(a: Array, b: Array) -> Array:
  """Returns `[2 B, ...]`: a[0], b[0], a[1], b[1], ..."""
  return jnp.stack([a, b], 1).reshape(-1, *a.shape[1:])


def _apart(rows: Array) -> tuple[Array, Array]:
  """Returns the a and the b of `_interleave`."""
  pairs = rows.reshape(-1, 2, *rows.shape[1:])
  return pairs[:, 0], pairs[:, 1]


def _scale_at(process, scale, interval, t):
  if interval is None:
    return jnp.full(t.shape, scale)
  level = jnp.exp(-0.5 * process.log_snr(t))  # sigma / alpha
  return jnp.where((interval[0] < level) & (level <= interval[1]), scale, 1.0)


def by_classifier(
  denoiser: Denoiser, log_prob: Callable[[Array, Array], Array], scale: float = 1.0
) -> NetworkDenoiser:
  """Returns the denoiser with classifier guidance: score + scale grad log p(y | x_t).

  Song et al. 2021 (arXiv 2011.13456), section I.1; Dhariwal and Nichol 2021 (arXiv 2105.05233),
  section 4. log_prob: maps (x_t `[B, ...]`, t `[B]`) to log p(y | x_t) `[B]`.
  """

  def eps(x, t):
    # Row b of the sum depends on x[b] alone, so one gradient gives all rows theirs.
    gradient = jax.grad(lambda x: log_prob(x, t).sum())(x)
    # eps = -sigma score.
    return denoiser.eps(x, t) - expand_like(scale * denoiser.process.sigma(t), x) * gradient

  return NetworkDenoiser(denoiser.process, eps, 'eps')


THRESHOLDS = ('static', 'dynamic')


def threshold(denoiser: Denoiser, method: str, *, percentile: float = 0.995) -> NetworkDenoiser:
  """Returns the denoiser with x_0 kept in [-1, 1].

  Saharia et al. 2022 (arXiv 2205.11487), section 2.3.

  method: 'static' clips; 'dynamic' clips to the image's own percentile of |x_0|, where that is
    above 1, and divides by it.
  """
  if method not in THRESHOLDS:
    raise ValueError(f'sampler.threshold={method!r}: choose from {", ".join(THRESHOLDS)}')

  def x0(x, t):
    value, v = denoiser.x0_and_v(x, t)
    value = _bound(value, method, percentile)
    return value if v is None else (value, v)

  return NetworkDenoiser(denoiser.process, x0, 'x0')


def _bound(x0, method, percentile):
  if method == 'static':
    return jnp.clip(x0, -1, 1)
  # Division by the bound brings saturated pixels back inside, where clipping would pin them to +-1.
  bound = jnp.quantile(abs(x0).reshape(x0.shape[0], -1), percentile, axis=1)
  bound = expand_like(jnp.maximum(bound, 1), x0)
  return jnp.clip(x0, -bound, bound) / bound


# -------- constraints (Song et al. 2021, sections I.2 and I.3) --------


def inpaint(known: Array, mask: Array) -> Constraint:
  """Returns the constraint that replaces the known part by its noisy value at each level.

  known: `[B, ...]` the image. mask: `[B, ...]`, 1 where it is known.

  The rest is then sampled given the noisy known part, the paper's approximation of the condition.
  It is wrong at high noise levels and right at low ones, so corrector steps are needed there.
  """

  def constrain(x, alpha, sigma, noise):
    return jnp.where(mask > 0, alpha * known + sigma * noise, x)

  return constrain


# An orthonormal basis of the colour space; the first vector is grey.
COLOURS = np.array(
  [[1, 1, 1] / np.sqrt(3), [1, -1, 0] / np.sqrt(2), [1, 1, -2] / np.sqrt(6)], np.float32
)


def colourise(grey: Array) -> Constraint:
  """Returns the constraint that the mean of the colours `[B, H, W, 3]` is grey `[B, H, W, 1]`."""
  known = grey * np.float32(np.sqrt(3))  # the coordinate of (g, g, g) on the first vector

  def constrain(x, alpha, sigma, noise):
    rest = (x @ COLOURS.T)[..., 1:]  # [B, H, W, 2], what grey does not say
    first = (
      alpha * known + sigma * noise[..., :1]
    )  # noise has the same distribution in any such basis
    return jnp.concatenate([first, rest], -1) @ COLOURS  # orthonormal: the transpose turns back

  return constrain
