"""What a network predicts of x_t = alpha x_0 + sigma eps, and how predictions are converted.

Each prediction is a linear combination a(t) x_0 + b(t) eps. Together with x_t it makes two
equations for x_0 and eps, with determinant alpha b - sigma a. Where the determinant is 0 (at alpha
= 0 for 'eps' and 'score', at sigma = 0 for 'x0') the other part cannot be recovered; 'v', 'edm' and
'flow' always determine both.

| prediction | a x_0 + b eps | paper |
|---|---|---|
| eps | eps | Ho et al. 2020 (arXiv 2006.11239), eq. 14 |
| x0 | x_0 | |
| v | alpha eps - sigma x_0 | Salimans and Ho 2022 (arXiv 2202.00512), section 4 |
| score | -eps / sigma | Song et al. 2021 (arXiv 2011.13456), eq. 7 |
| flow | alpha' x_0 + sigma' eps, the velocity dx/dt | Lipman et al. 2023 (arXiv 2210.02747) |
| edm | F of D = c_skip x + c_out F(c_in x) | Karras et al. 2022 (arXiv 2206.00364), eq. 7 |
"""

from collections.abc import Callable

from jax import Array

from models.diffusion.process import Process, Times, array_namespace, expand_like

SIGMA_DATA = 0.5  # the standard deviation of the data (Karras 2022, table 1)


# `0.0 * t` is a zero of the shape and kind of t: a float, NumPy's or JAX's.
def _eps(process, t):
  return 0.0 * t, 0.0 * t + 1


def _x0(process, t):
  return 0.0 * t + 1, 0.0 * t


def _v(process, t):
  return -process.sigma(t), process.alpha(t)


def _score(process, t):
  return 0.0 * t, -1 / process.sigma(t)


def _flow(process, t):
  return process.derivatives(t)


def _edm(process, t):
  # F = (x_0 - c_skip x) / c_out with x = alpha x_0 + sigma eps, for any process in the scale of
  # x_t.
  # With norm below: c_skip = alpha sigma_data^2 / norm^2, c_out = sigma sigma_data / norm.
  alpha, sigma = process.alpha(t), process.sigma(t)
  norm = array_namespace(t).sqrt(sigma**2 + (alpha * SIGMA_DATA) ** 2)
  return sigma / (SIGMA_DATA * norm), -SIGMA_DATA * alpha / norm


# Name -> function of (process, t) that returns (a, b), of the shape of t.
PREDICTIONS: dict[str, Callable[[Process, Times], tuple]] = {
  'eps': _eps,
  'x0': _x0,
  'v': _v,
  'score': _score,
  'flow': _flow,
  'edm': _edm,
}


def coefficients(process: Process, prediction: str, t: Times) -> tuple:
  """Returns (a, b) of the prediction a x_0 + b eps, each of the shape of t.

  Raises ValueError for an unknown prediction.
  """
  if prediction not in PREDICTIONS:
    raise ValueError(f'prediction={prediction!r}: choose from {", ".join(PREDICTIONS)}')
  return PREDICTIONS[prediction](process, t)


def determinant(process: Process, prediction: str, t: Times):
  """Returns alpha b - sigma a: over -sigma, the prediction's error for an error 1 of x_0."""
  a, b = coefficients(process, prediction, t)
  return process.alpha(t) * b - process.sigma(t) * a


def target(process: Process, prediction: str, x0: Array, eps: Array, t: Array) -> Array:
  """Returns the network's target `[B, ...]` for x_0 and eps `[B, ...]` at times `[B]`."""
  a, b = coefficients(process, prediction, t)
  return expand_like(a, x0) * x0 + expand_like(b, x0) * eps


def to_x0(process: Process, prediction: str, x: Array, t: Array, value: Array) -> Array:
  """Returns x_0 `[B, ...]` from x_t `[B, ...]`, t `[B]` and the predicted value `[B, ...]`."""
  # Cramer's rule on x_t = alpha x_0 + sigma eps and value = a x_0 + b eps, here and in `to_eps`.
  _, b = coefficients(process, prediction, t)
  det = determinant(process, prediction, t)
  return expand_like(b / det, x) * x - expand_like(process.sigma(t) / det, x) * value


def to_eps(process: Process, prediction: str, x: Array, t: Array, value: Array) -> Array:
  """Returns eps `[B, ...]` from x_t `[B, ...]`, t `[B]` and the predicted value `[B, ...]`."""
  a, _ = coefficients(process, prediction, t)
  det = determinant(process, prediction, t)
  return expand_like(process.alpha(t) / det, x) * value - expand_like(a / det, x) * x


def convert(process: Process, prediction: str, to: str, x: Array, t: Array, value: Array) -> Array:
  """Returns the predicted value `[B, ...]` as the prediction `to`, such as eps from v."""
  if prediction == to:
    return value
  # By way of x_0 and eps: two formulas for each prediction, instead of one for each pair.
  x0 = to_x0(process, prediction, x, t, value)
  return target(process, to, x0, to_eps(process, prediction, x, t, value), t)


def c_in(process: Process, prediction: str, t: Times):
  """Returns the factor of x_t at the network's input: for 'edm' to unit variance, else 1.

  Karras 2022, table 1.
  """
  if prediction != 'edm':
    return 0.0 * t + 1
  xp = array_namespace(t)
  return 1 / xp.sqrt(process.sigma(t) ** 2 + (process.alpha(t) * SIGMA_DATA) ** 2)
