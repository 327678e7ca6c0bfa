"""What a network predicts of x_t = alpha x_0 + sigma eps, and how one prediction becomes another.

Each is a combination a(t) x_0 + b(t) eps. With x_t it makes two equations for x_0 and eps, of
determinant alpha b - sigma a. Where that is 0, at alpha = 0 for 'eps' and 'score', at sigma = 0 for
'x0', the prediction says nothing of the other part; 'v', 'edm', and 'flow' always do.
"""

import dataclasses
from collections.abc import Callable

from jax import Array

from models.diffusion.process import Process, Times, like, numpy_of

SIGMA_DATA = 0.5  # the standard deviation of the data in Karras 2022, table 1


def _eps(process, t):
  return 0.0 * t, 0.0 * t + 1


def _x0(process, t):
  return 0.0 * t + 1, 0.0 * t


def _v(process, t):
  """v = alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512, section 4)."""
  return -process.sigma(t), process.alpha(t)


def _score(process, t):
  return 0.0 * t, -1 / process.sigma(t)


def _flow(process, t):
  """alpha' x_0 + sigma' eps, the velocity of the probability flow; eps - x_0 if rectified."""
  return process.rates(t)


def _edm(process, t):
  """F of D = c_skip x + c_out F (Karras 2022, eq. 7), of any process in the scale of its x_t."""
  alpha, sigma = process.alpha(t), process.sigma(t)
  total = numpy_of(t).sqrt(sigma**2 + (alpha * SIGMA_DATA) ** 2)
  return sigma / (SIGMA_DATA * total), -SIGMA_DATA * alpha / total


# (process, t) to (a, b), of t's shape.
PREDICTIONS: dict[str, Callable[[Process, Times], tuple]] = {
  'eps': _eps,
  'x0': _x0,
  'v': _v,
  'score': _score,
  'flow': _flow,
  'edm': _edm,
}


def coefficients(process: Process, kind: str, t: Times) -> tuple:
  """(a, b) of the prediction a x_0 + b eps. Raises ValueError for an unknown kind."""
  if kind not in PREDICTIONS:
    raise ValueError(f'prediction={kind!r}: choose from {", ".join(PREDICTIONS)}')
  return PREDICTIONS[kind](process, t)


def determinant(process: Process, kind: str, t: Times):
  """alpha b - sigma a; over -sigma, what an error of x_0 becomes in the prediction."""
  a, b = coefficients(process, kind, t)
  return process.alpha(t) * b - process.sigma(t) * a


def target(process: Process, kind: str, x0: Array, noise: Array, t: Array) -> Array:
  """What a network of that kind should predict `[B, ...]`; t: `[B]`."""
  a, b = coefficients(process, kind, t)
  return like(a, x0) * x0 + like(b, x0) * noise


def to_x0(process: Process, kind: str, x: Array, t: Array, value: Array) -> Array:
  """x_0 `[B, ...]` from x_t, t `[B]` and a prediction."""
  _, b = coefficients(process, kind, t)
  det = determinant(process, kind, t)
  return like(b / det, x) * x - like(process.sigma(t) / det, x) * value


def to_eps(process: Process, kind: str, x: Array, t: Array, value: Array) -> Array:
  a, _ = coefficients(process, kind, t)
  det = determinant(process, kind, t)
  return like(process.alpha(t) / det, x) * value - like(a / det, x) * x


def convert(process: Process, kind: str, to: str, x: Array, t: Array, value: Array) -> Array:
  """A prediction of one kind as one of another."""
  if kind == to:
    return value
  x0 = to_x0(process, kind, x, t, value)
  return target(process, to, x0, to_eps(process, kind, x, t, value), t)


def input_scale(process: Process, kind: str, t: Times):
  """What x_t is multiplied with for the network: for 'edm' to unit variance, else nothing."""
  if kind != 'edm':
    return 0.0 * t + 1
  return 1 / numpy_of(t).sqrt(process.sigma(t) ** 2 + (process.alpha(t) * SIGMA_DATA) ** 2)


@dataclasses.dataclass(frozen=True)
class Denoiser:
  """A process and a function that predicts: all that samplers and likelihoods know of a network.

  predict: (x `[B, ...]`, scaled by `input_scale`; t `[B]`) to the prediction `[B, ...]`, or to a
    pair (prediction, v) where the variance is learned too, v as in Nichol 2021, eq. 15.
  kind: what is predicted, of `PREDICTIONS`.
  """

  process: Process
  predict: Callable[[Array, Array], Array | tuple[Array, Array]]
  kind: str = 'eps'

  def outputs(self, x: Array, t: Array) -> tuple[Array, Array | None]:
    """The prediction and v, None where the variance is not learned."""
    out = self.predict(like(input_scale(self.process, self.kind, t), x) * x, t)
    return out if isinstance(out, tuple) else (out, None)

  def x0_and_v(self, x: Array, t: Array) -> tuple[Array, Array | None]:
    value, v = self.outputs(x, t)
    return to_x0(self.process, self.kind, x, t, value), v

  def _as(self, kind: str, x: Array, t: Array) -> Array:
    return convert(self.process, self.kind, kind, x, t, self.outputs(x, t)[0])

  def x0(self, x: Array, t: Array) -> Array:
    return self._as('x0', x, t)

  def eps(self, x: Array, t: Array) -> Array:
    return self._as('eps', x, t)

  def score(self, x: Array, t: Array) -> Array:
    return self._as('score', x, t)

  def velocity(self, x: Array, t: Array) -> Array:
    """dx/dt of the probability flow."""
    return self._as('flow', x, t)
