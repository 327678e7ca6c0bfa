"""Losses of diffusion models, float `[B]` an example, and how their times are drawn.

A loss is the squared error of what the network predicts, times a weight of the time. Weights are
told for the error of x_0 and scaled to the prediction's own, so that one means the same for all.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import solvers, vlb
from models.diffusion.parameterization import SIGMA_DATA, Denoiser, determinant, target
from models.diffusion.process import DDPM, Process, like

# -------- times --------


class Times:
  """A law of times between t_min and T: `quantile` of uniform numbers, `density` in t."""

  def quantile(self, process: Process, u: Array) -> Array:
    raise NotImplementedError

  def density(self, process: Process, t: Array) -> Array:
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Uniform(Times):
  """Of DDPM: its steps, all alike."""

  def quantile(self, process, u):
    if isinstance(process, DDPM):
      return (jnp.floor(u * process.steps).clip(0, process.steps - 1) + 1) / process.steps
    return process.t_min + u * (process.T - process.t_min)

  def density(self, process, t):
    return 0.0 * t + (1.0 if isinstance(process, DDPM) else 1 / (process.T - process.t_min))


@dataclasses.dataclass(frozen=True)
class Importance(Times):
  """In proportion to g² / sigma², the likelihood weighting's variance (Song et al. 2021b,
  arXiv 2101.09258, section 4.3). That is the slope of log_snr: it is uniform, for every process.
  """

  def quantile(self, process, u):
    last, first = _log_snr_ends(process)
    return process.time(first + u * (last - first)).clip(process.t_min, process.T)

  def density(self, process, t):
    last, first = _log_snr_ends(process)
    return process.g2(t) / process.sigma(t) ** 2 / (first - last)


def _log_snr_ends(process):
  """At T, which is the least, and at t_min."""
  return float(process.log_snr(np.array(process.T))), float(
    process.log_snr(np.array(process.t_min))
  )


@dataclasses.dataclass(frozen=True)
class LogNormal(Times):
  """The level sigma / alpha has a normal logarithm (Karras 2022, table 1), cut at the ends."""

  mean: float = -1.2
  std: float = 1.2

  def _log_level(self, process, t):
    return -0.5 * process.log_snr(t)

  def _mass(self, process):
    ends = [self._log_level(process, np.array(t)) for t in (process.t_min, process.T)]
    return [jax.scipy.stats.norm.cdf((float(end) - self.mean) / self.std) for end in ends]

  def quantile(self, process, u):
    low, high = self._mass(process)
    level = self.mean + self.std * jax.scipy.special.ndtri(low + u * (high - low))
    return process.time(-2 * level).clip(process.t_min, process.T)

  def density(self, process, t):
    low, high = self._mass(process)
    z = (self._log_level(process, t) - self.mean) / self.std
    slope = 0.5 * process.g2(t) / process.sigma(t) ** 2  # of the level's logarithm
    return jnp.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) / self.std * slope / (high - low)


@dataclasses.dataclass(frozen=True)
class LogitNormal(Times):
  """t's share of its range has a normal logit (Esser et al. 2024, arXiv 2403.03206, eq. 19)."""

  mean: float = 0.0
  std: float = 1.0

  def quantile(self, process, u):
    share = jax.nn.sigmoid(self.mean + self.std * jax.scipy.special.ndtri(u))
    return process.t_min + share * (process.T - process.t_min)

  def density(self, process, t):
    span = process.T - process.t_min
    share = (t - process.t_min) / span
    z = (jnp.log(share) - jnp.log1p(-share) - self.mean) / self.std
    normal = jnp.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) / self.std
    return normal / (share * (1 - share) * span)


TIMES: dict[str, Callable[..., Times]] = {
  'uniform': Uniform,
  'importance': Importance,
  'log_normal': LogNormal,
  'logit_normal': LogitNormal,
}


def times_law(name: str, **kwargs) -> Times:
  """Raises ValueError for an unknown name."""
  if name not in TIMES:
    raise ValueError(f'loss.times={name!r}: choose from {", ".join(TIMES)}')
  return TIMES[name](**kwargs)


def sample_times(
  process: Process, law: Times, key: Array, count: int, *, low_discrepancy: bool = False
) -> Array:
  """float32 `[count]`. low_discrepancy: the uniform numbers are one shifted lattice, in random
  order, which takes most of the variance out of a batch's mean (Kingma 2021, section I.1).
  """
  if not low_discrepancy:
    u = jax.random.uniform(key, (count,), minval=1e-7)
    return law.quantile(process, u)
  shift, order = jax.random.split(key)
  lattice = jax.random.permutation(order, jnp.arange(count)) / count
  u = (lattice + jax.random.uniform(shift)) % 1.0
  return law.quantile(process, jnp.clip(u, 1e-7, 1 - 1e-7))


# -------- weights, of the squared error of x_0, up to 'simple' --------


def _snr(process, t):
  return jnp.exp(process.log_snr(t))


def _simple(process, kind, t, density):
  """1 for the prediction's own error: of eps, Ho 2020's L_simple; of v, x0, flow their own."""
  return _own_scale(process, kind, t)


def _own_scale(process, kind, t):
  """What the squared error of x_0 is multiplied with to be that of the prediction."""
  return (determinant(process, kind, t) / process.sigma(t)) ** 2


def _eps(process, kind, t, density):
  """1 for the error of eps, whatever is predicted."""
  return _snr(process, t)


def _edm(process, kind, t, density):
  """(s² + sigma_data²) / (s sigma_data)² (Karras 2022, table 1), for log-normal levels s."""
  return _snr(process, t) + 1 / SIGMA_DATA**2


def _min_snr(process, kind, t, density, gamma=5.0):
  """min(snr, gamma) (Hang et al. 2023, arXiv 2303.09556, section 3.4)."""
  return jnp.minimum(_snr(process, t), gamma)


def _likelihood(process, kind, t, density):
  """g² / 2 for the error of the score (Song et al. 2021b, eq. 7), over the density of t.

  Its mean over the times is the part of -log p, in nats a dimension, that the network can change.
  """
  alpha, sigma = process.alpha(t), process.sigma(t)
  return 0.5 * process.g2(t) * (alpha / sigma**2) ** 2 / density


WEIGHTINGS: dict[str, Callable[..., Array]] = {
  'simple': _simple,
  'eps': _eps,
  'edm': _edm,
  'min_snr': _min_snr,
  'likelihood': _likelihood,
}


def weight(process: Process, kind: str, law: Times, weighting: str, t: Array) -> Array:
  """float `[B]`, for the squared error of the prediction. Raises ValueError for an unknown name."""
  if weighting not in WEIGHTINGS:
    raise ValueError(f'loss.weighting={weighting!r}: choose from {", ".join(WEIGHTINGS)}')
  value = WEIGHTINGS[weighting](process, kind, t, law.density(process, t))
  return value / _own_scale(process, kind, t)


def loss(
  denoiser: Denoiser,
  x0: Array,
  t: Array,
  noise: Array,
  *,
  weighting: str = 'simple',
  law: Times | None = None,
) -> Array:
  """float32 `[B]`, means over an example's elements. x0, noise: `[B, ...]`; t: `[B]` of `law`."""
  process, kind = denoiser.process, denoiser.kind
  value, _ = denoiser.outputs(process.marginal(x0, t, noise), t)
  error = value - target(process, kind, x0, noise, t)
  square = jnp.square(error.astype(jnp.float32)).reshape(x0.shape[0], -1).mean(1)
  return weight(process, kind, law or Uniform(), weighting, t) * square


def hybrid(
  denoiser: Denoiser, x0: Array, t: Array, noise: Array, *, bound_weight: float = 1e-3
) -> Array:
  """L_simple + bound_weight L_vlb, float32 `[B]` (Nichol and Dhariwal 2021, eq. 16).

  Of a DDPM whose network also predicts v; t: `[B]`, uniform steps. L_vlb, in bits a dimension, is
  estimated from the step at t, and teaches v alone: no gradient goes to the mean.
  """
  process = denoiser.process
  value, v = denoiser.outputs(process.marginal(x0, t, noise), t)
  error = value - target(process, denoiser.kind, x0, noise, t)
  simple = jnp.square(error.astype(jnp.float32)).reshape(x0.shape[0], -1).mean(1)
  term = bound_term(denoiser, x0, t, lax.stop_gradient(error), v)
  return simple + bound_weight * process.steps * term


def bound_term(denoiser: Denoiser, x0: Array, t: Array, error: Array, v: Array | None) -> Array:
  """float32 `[B]`, in bits a dimension: the bound's term of the step that leads down from t.

  error: of the prediction `[B, ...]`. v: its variance, as in `vlb.log_variance`.
  """
  process = denoiser.process
  steps = vlb.chain(process, solvers.uniform(process, process.steps))
  index = process.steps - jnp.round(t * process.steps).astype(int)
  row = {k: like(jnp.asarray(c, jnp.float32)[index], x0) for k, c in vars(steps).items()}
  log_var = vlb.log_variance(row, 'learned', v)
  # x_0 less its prediction.
  gap = like(process.sigma(t) / determinant(process, denoiser.kind, t), x0) * error
  decoded = vlb.decoder_nats(x0, x0 - gap, log_var)
  nats = jnp.where(like(index, x0) == process.steps - 1, decoded, vlb.kl(row, gap, log_var))
  return nats.astype(jnp.float32).reshape(x0.shape[0], -1).mean(1) / np.log(2)
