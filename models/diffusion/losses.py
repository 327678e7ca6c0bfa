"""Losses of diffusion models, float `[B]`, and the distributions of training times.

A loss is the squared error of the network's prediction times a weight of the time. Weightings are
defined for the squared error of x_0 and converted to the prediction at hand, so that a weighting
means the same whatever the network predicts.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import timesteps, vlb
from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.parameterization import SIGMA_DATA, determinant, target
from models.diffusion.process import Process, expand_like

# -------- training times --------


class TimeDistribution:
  """A distribution of training times on [t_min, T]."""

  def quantile(self, process: Process, u: Array) -> Array:
    """Returns the times `[B]` at the probabilities u `[B]` in (0, 1)."""
    raise NotImplementedError

  def density(self, process: Process, t: Array) -> Array:
    """Returns the density at times `[B]`, with respect to t."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Uniform(TimeDistribution):
  """Uniform on [t_min, T]; for a discrete chain over its N steps (Ho 2020, algorithm 1)."""

  def quantile(self, process, u):
    if steps := process.discrete_steps:
      return (jnp.floor(u * steps).clip(0, steps - 1) + 1) / steps  # clip: u may be rounded up to 1
    return process.t_min + u * (process.T - process.t_min)

  def density(self, process, t):
    return 0.0 * t + (1.0 if process.discrete_steps else 1 / (process.T - process.t_min))


@dataclasses.dataclass(frozen=True)
class Importance(TimeDistribution):
  """Density proportional to g² / sigma², for the likelihood weighting.

  It makes that weighting constant (Song et al. 2021b, arXiv 2101.09258, section 4.3). As
  g² / sigma² is the slope of log_snr, log_snr is uniform, for every process.
  """

  def quantile(self, process, u):
    last, first = _log_snr_ends(process)
    # The clip is for rounding: the inverse may end a little beyond [t_min, T].
    return process.inverse_log_snr(first + u * (last - first)).clip(process.t_min, process.T)

  def density(self, process, t):
    last, first = _log_snr_ends(process)
    return process.g2(t) / process.sigma(t) ** 2 / (first - last)


def _log_snr_ends(process: Process) -> tuple[float, float]:
  """Returns log_snr at T, where it is least, and at t_min."""
  # On the host and in float64, since these are constants of the compiled loss.
  at_T, at_t_min = (float(process.log_snr(np.array(t))) for t in (process.T, process.t_min))
  return at_T, at_t_min


@dataclasses.dataclass(frozen=True)
class LogNormal(TimeDistribution):
  """The noise level sigma / alpha is log-normal, truncated to [t_min, T] (Karras 2022, table 1).

  mean, std: P_mean and P_std, of log(sigma / alpha).
  """

  mean: float = -1.2
  std: float = 1.2

  def __post_init__(self):
    require_positive(self.std)

  def _log_level(self, process, t):
    return -0.5 * process.log_snr(t)

  def _truncation(self, process):
    """Returns the normal's cumulative probabilities at t_min and T."""
    ends = [self._log_level(process, np.array(t)) for t in (process.t_min, process.T)]
    return [jax.scipy.stats.norm.cdf((float(end) - self.mean) / self.std) for end in ends]

  def quantile(self, process, u):
    # Truncated rather than clipped: no times pile up at the ends, so that there is a density.
    low, high = self._truncation(process)
    log_level = self.mean + self.std * jax.scipy.special.ndtri(low + u * (high - low))
    return process.inverse_log_snr(-2 * log_level).clip(process.t_min, process.T)

  def density(self, process, t):
    low, high = self._truncation(process)
    z = (self._log_level(process, t) - self.mean) / self.std
    # Change of variables: the density of log_level times the slope.
    slope = 0.5 * process.g2(t) / process.sigma(t) ** 2  # d log_level / dt
    return jnp.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) / self.std * slope / (high - low)


@dataclasses.dataclass(frozen=True)
class LogitNormal(TimeDistribution):
  """(t - t_min) / (T - t_min) is logit-normal (Esser et al. 2024, arXiv 2403.03206, eq. 19).

  mean, std: of the logit.
  """

  mean: float = 0.0
  std: float = 1.0

  def __post_init__(self):
    require_positive(self.std)

  def quantile(self, process, u):
    fraction = jax.nn.sigmoid(self.mean + self.std * jax.scipy.special.ndtri(u))
    return process.t_min + fraction * (process.T - process.t_min)

  def density(self, process, t):
    span = process.T - process.t_min
    fraction = (t - process.t_min) / span
    z = (jnp.log(fraction) - jnp.log1p(-fraction) - self.mean) / self.std
    # Over the slope of the sigmoid, fraction (1 - fraction), which maps the logit to the time.
    normal = jnp.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) / self.std
    return normal / (fraction * (1 - fraction) * span)


def require_positive(std: float) -> None:
  """Raises ValueError unless a distribution's standard deviation is one."""
  if not 0 < std < np.inf:
    raise ValueError(f'loss.time_distribution.std={std!r}: must be a number above 0')


TIME_DISTRIBUTIONS: dict[str, Callable[..., TimeDistribution]] = {
  'uniform': Uniform,
  'importance': Importance,
  'log_normal': LogNormal,
  'logit_normal': LogitNormal,
}


def sample_times(
  process: Process,
  distribution: TimeDistribution,
  key: Array,
  count: int,
  *,
  low_discrepancy: bool = False,
) -> Array:
  """Draws training times, float32 `[count]`.

  low_discrepancy: spreads the probabilities evenly, as one lattice with a random shift in random
    order, which removes most of the variance of a batch's mean loss (Kingma 2021, section I.1).
  """
  # Probabilities stay off 0 and 1, where normal quantiles are infinite.
  if not low_discrepancy:
    u = jax.random.uniform(key, (count,), minval=1e-7)
    return distribution.quantile(process, u)
  shift, order = jax.random.split(key)
  # In random order, or an example's place in the batch would go with its noise level.
  lattice = jax.random.permutation(order, jnp.arange(count)) / count
  u = (lattice + jax.random.uniform(shift)) % 1.0
  return distribution.quantile(process, jnp.clip(u, 1e-7, 1 - 1e-7))


# -------- weightings of the squared error of x_0 --------


def _snr(process, t):
  return jnp.exp(process.log_snr(t))


def _prediction_scale(process, prediction, t):
  """Returns the ratio of the prediction's squared error to that of x_0."""
  # At given x_t the errors of all predictions are proportional to that of x_0.
  return (determinant(process, prediction, t) / process.sigma(t)) ** 2


def _simple(process, prediction, t, density):
  """Weighs the prediction's own error by 1: for eps, L_simple (Ho 2020, eq. 14)."""
  return _prediction_scale(process, prediction, t)


def _eps(process, prediction, t, density):
  """Weighs the error of eps by 1, whatever the network predicts."""
  return _snr(process, t)


def _edm(process, prediction, t, density):
  """Returns (s² + sigma_data²) / (s sigma_data)² for s = sigma / alpha (Karras 2022, table 1)."""
  return _snr(process, t) + 1 / SIGMA_DATA**2  # snr = 1 / s^2


def _min_snr(process, prediction, t, density, gamma=5.0):
  """Returns min(snr, gamma) (Hang et al. 2023, arXiv 2303.09556, section 3.4)."""
  return jnp.minimum(_snr(process, t), gamma)


def _likelihood(process, prediction, t, density):
  """Weighs the error of the score by g² / 2 (Song et al. 2021b, eq. 7), over the density of t.

  The mean over times is the part of -log p, in nats per dimension, that the network can change.
  """
  # The score's error is alpha / sigma^2 times that of x_0. Over the density the mean of drawn times
  # is the integral over t, whatever they are drawn from.
  alpha, sigma = process.alpha(t), process.sigma(t)
  return 0.5 * process.g2(t) * (alpha / sigma**2) ** 2 / density


# Name -> function of (process, prediction, t `[B]`, density of t `[B]`) that returns `[B]`.
WEIGHTINGS: dict[str, Callable[..., Array]] = {
  'simple': _simple,
  'eps': _eps,
  'edm': _edm,
  'min_snr': _min_snr,
  'likelihood': _likelihood,
}


def weight(
  process: Process, prediction: str, distribution: TimeDistribution, weighting: str, t: Array
) -> Array:
  """Returns the weight `[B]` of the prediction's squared error at times `[B]`.

  Raises ValueError for an unknown weighting.
  """
  if weighting not in WEIGHTINGS:
    raise ValueError(f'loss.weighting={weighting!r}: choose from {", ".join(WEIGHTINGS)}')
  # 'simple' cancels to 1; the others are meant for x_0's error and become the prediction's.
  value = WEIGHTINGS[weighting](process, prediction, t, distribution.density(process, t))
  return value / _prediction_scale(process, prediction, t)


# -------- losses --------


def loss(
  denoiser: NetworkDenoiser,
  x0: Array,
  t: Array,
  eps: Array,
  *,
  weighting: str = 'simple',
  distribution: TimeDistribution | None = None,
) -> Array:
  """Returns the weighted squared error, float32 `[B]`, the mean over an example's elements.

  Args:
    denoiser: the network in training.
    x0: `[B, ...]` clean images in [-1, 1].
    t: `[B]` times, drawn from `distribution`.
    eps: `[B, ...]` standard normal noise.
    weighting: a name of `WEIGHTINGS`.
    distribution: of the times; None for uniform.
  """
  process, prediction = denoiser.process, denoiser.prediction
  value, _ = denoiser.outputs(process.add_noise(x0, t, eps), t)
  error = value - target(process, prediction, x0, eps, t)
  square = jnp.square(error.astype(jnp.float32)).reshape(x0.shape[0], -1).mean(1)  # [B]
  return weight(process, prediction, distribution or Uniform(), weighting, t) * square


def hybrid(
  denoiser: NetworkDenoiser, x0: Array, t: Array, eps: Array, *, vlb_weight: float = 1e-3
) -> Array:
  """Returns L_simple + vlb_weight L_vlb, float32 `[B]` (Nichol and Dhariwal 2021, eq. 16).

  For a discrete chain and a network that also predicts v. L_vlb, in bits per dimension, is
  estimated from the one step at t, and trains v alone: no gradient goes to the mean.

  Args:
    denoiser: the network in training.
    x0: `[B, ...]` clean images in [-1, 1].
    t: `[B]` steps n / N, drawn uniformly.
    eps: `[B, ...]` standard normal noise.
    vlb_weight: lambda of the paper.
  """
  process = denoiser.process
  value, v = denoiser.outputs(process.add_noise(x0, t, eps), t)
  error = value - target(process, denoiser.prediction, x0, eps, t)
  simple = jnp.square(error.astype(jnp.float32)).reshape(x0.shape[0], -1).mean(1)
  # Stopped, so that L_simple alone trains the mean (Nichol and Dhariwal 2021, section 3.1).
  term = vlb_term(denoiser, x0, t, lax.stop_gradient(error), v)
  return simple + vlb_weight * _num_steps(process) * term  # t is one of N steps


def vlb_term(
  denoiser: NetworkDenoiser, x0: Array, t: Array, error: Array, v: Array | None
) -> Array:
  """Returns the bound's term L_{n-1} at t = n / N, float32 `[B]` in bits per dimension.

  Ho 2020, eq. 5. error: `[B, ...]` of the prediction. v: `[B, ...]`, see `vlb.log_variance`.
  """
  process = denoiser.process
  num_steps = _num_steps(process)
  chain = vlb.reverse_chain(process, timesteps.uniform(process, num_steps))
  index = num_steps - jnp.round(t * num_steps).astype(int)  # [B]; row 0 is t = 1
  row = {k: expand_like(jnp.asarray(c, jnp.float32)[index], x0) for k, c in vars(chain).items()}
  log_var = vlb.log_variance(row, 'learned', v)
  # From the prediction's error to that of x_0: the KL needs differences alone.
  scale = process.sigma(t) / determinant(process, denoiser.prediction, t)
  x0_error = expand_like(scale, x0) * error  # x_0 less its prediction
  decoder = vlb.decoder_nats(x0, x0 - x0_error, log_var)
  is_last = expand_like(index, x0) == num_steps - 1
  nats = jnp.where(is_last, decoder, vlb.kl(row, x0_error, log_var))
  return nats.astype(jnp.float32).reshape(x0.shape[0], -1).mean(1) / np.log(2)


def _num_steps(process: Process) -> int:
  if process.discrete_steps is None:
    raise ValueError("loss.weighting='hybrid': needs a discrete chain of steps, such as ddpm")
  return process.discrete_steps
