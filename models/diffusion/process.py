"""Diffusion processes in one form: x_t = alpha(t) x_0 + sigma(t) eps, eps from N(0, I).

Each is also a linear SDE dx = f(t) x dt + g(t) dw with these marginals: f = alpha' / alpha and
g² = d(sigma²)/dt - 2 f sigma² (Song et al. 2021, arXiv 2011.13456; Kingma et al. 2021, 2107.00630).

Times are floats of any shape. NumPy's (and Python's) are computed with NumPy in float64, as grids
and schedules want it; JAX arrays with JAX.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Times = Array | np.ndarray | float


def numpy_of(t: Times):
  """The module that computes with `t`."""
  return jnp if isinstance(t, jax.Array) else np


def like(t: Array, x: Array) -> Array:
  """`t` `[B]` as `[B, 1, ...]`, of the rank and dtype of `x` `[B, ...]`."""
  return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)).astype(x.dtype)


def check(holds: bool, name: str, value, rule: str) -> None:
  if not holds:
    raise ValueError(f'process.{name}={value!r}: {rule}')


class Process:
  """What all processes share. Time runs from data at 0 to noise at T.

  T: the largest time. t_min: the least at which a network is asked; > 0, as sigma(t_min) is.
  prior_std: the standard deviation of the prior N(0, prior_std² I), which stands for x_T.
  """

  T: float = 1.0
  t_min: float
  prior_std: float = 1.0

  def log_alpha(self, t: Times):
    raise NotImplementedError

  def sigma(self, t: Times):
    raise NotImplementedError

  def f(self, t: Times):
    """The drift is f(t) x."""
    raise NotImplementedError

  def g2(self, t: Times):
    """The square of the diffusion coefficient."""
    raise NotImplementedError

  def time(self, log_snr: Times):
    """The inverse of `log_snr`."""
    raise NotImplementedError

  def network_time(self, t: Times):
    """t as a network is told it: in the thousand steps of DDPM, where nothing else is said."""
    return 1000.0 * t

  def alpha(self, t: Times):
    return numpy_of(t).exp(self.log_alpha(t))

  def g(self, t: Times):
    return numpy_of(t).sqrt(self.g2(t))

  def log_snr(self, t: Times):
    """log(alpha² / sigma²), which falls with t; its derivative is -g² / sigma²."""
    return 2 * (self.log_alpha(t) - numpy_of(t).log(self.sigma(t)))

  def rates(self, t: Times):
    """(alpha', sigma'): the derivatives by t."""
    f, sigma = self.f(t), self.sigma(t)
    return f * self.alpha(t), f * sigma + self.g2(t) / (2 * sigma)

  def marginal(self, x0: Array, t: Array, noise: Array) -> Array:
    """x_t `[B, ...]` from x_0 and eps `[B, ...]` at times `[B]`."""
    return like(self.alpha(t), x0) * x0 + like(self.sigma(t), x0) * noise

  def prior_sample(self, keys: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """`[B, *shape]` from keys `[B]`, one an example: it does not depend on its neighbours."""
    return self.prior_std * jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)

  def prior_log_prob(self, x: Array) -> Array:
    """float `[B]`, in nats, of x `[B, ...]`."""
    x = x.reshape(x.shape[0], -1) / self.prior_std
    log_scale = math.log(self.prior_std) + 0.5 * math.log(2 * math.pi)
    return -0.5 * jnp.square(x).sum(-1) - x.shape[1] * log_scale


@dataclasses.dataclass(frozen=True)
class VE(Process):
  """The variance explodes: sigma(t) = sigma_min (sigma_max / sigma_min)^t (Song 2021, eq. 31).

  The kernel has this deviation down to t = 0, where sigma_min stays, as in the paper's section C.
  """

  sigma_min: float = 0.01
  sigma_max: float = 50.0
  t_min: float = 1e-5

  def __post_init__(self):
    check(0 < self.sigma_min < self.sigma_max, 'sigma_min', self.sigma_min, '> 0, < sigma_max')

  @property
  def prior_std(self) -> float:
    return self.sigma_max

  @property
  def log_ratio(self) -> float:
    return math.log(self.sigma_max / self.sigma_min)

  def log_alpha(self, t):
    return 0.0 * t

  def sigma(self, t):
    return self.sigma_min * numpy_of(t).exp(self.log_ratio * t)

  def f(self, t):
    return 0.0 * t

  def g2(self, t):
    return 2 * self.log_ratio * self.sigma(t) ** 2

  def time(self, log_snr):
    return (-0.5 * log_snr - math.log(self.sigma_min)) / self.log_ratio

  def network_time(self, t):
    """log sigma (section C.1 of Song 2021), for random Fourier features."""
    return numpy_of(t).log(self.sigma(t))


@dataclasses.dataclass(frozen=True)
class VP(Process):
  """The variance is preserved: beta(t) = beta_min + t (beta_max - beta_min) (Song 2021, eq. 32)."""

  beta_min: float = 0.1
  beta_max: float = 20.0
  t_min: float = 1e-5

  def __post_init__(self):
    check(0 < self.beta_min <= self.beta_max, 'beta_min', self.beta_min, '> 0, <= beta_max')

  def beta(self, t):
    return self.beta_min + t * (self.beta_max - self.beta_min)

  def log_alpha(self, t):
    return -0.5 * t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

  def sigma(self, t):
    xp = numpy_of(t)
    return xp.sqrt(-xp.expm1(2 * self.log_alpha(t)))

  def f(self, t):
    return -0.5 * self.beta(t)

  def g2(self, t):
    return self.beta(t)

  def time(self, log_snr):
    return self._time_of_integral(numpy_of(log_snr).logaddexp(0.0, -log_snr))

  def _time_of_integral(self, integral):
    """Where beta, integrated from 0, has reached `integral`."""
    slope = self.beta_max - self.beta_min
    root = numpy_of(integral).sqrt(self.beta_min**2 + 2 * slope * integral)
    return 2 * integral / (self.beta_min + root)

  def network_time(self, t):
    return 999.0 * t


@dataclasses.dataclass(frozen=True)
class SubVP(VP):
  """alpha as VP's, sigma = 1 - alpha², below VP's (Song 2021, eq. 13 and 29)."""

  def sigma(self, t):
    return -numpy_of(t).expm1(2 * self.log_alpha(t))

  def g2(self, t):
    return -self.beta(t) * numpy_of(t).expm1(4 * self.log_alpha(t))

  def time(self, log_snr):
    xp = numpy_of(log_snr)
    ratio = xp.exp(0.5 * log_snr)  # alpha / (1 - alpha²)
    sigma = 2 / (1 + xp.sqrt(1 + 4 * ratio**2))
    # Of the two forms the one that does not cancel: sigma is near 0, or alpha is.
    small, large = -xp.log1p(-xp.minimum(sigma, 0.99)), -2 * xp.log(ratio * sigma)
    return self._time_of_integral(xp.where(sigma < 0.5, small, large))


SCHEDULES = ('linear', 'cosine')


@dataclasses.dataclass(frozen=True)
class DDPM(Process):
  """Steps n = 1..N at times t = n / N (Ho et al. 2020, arXiv 2006.11239).

  schedule: 'linear': beta_n from beta_min to beta_max (Ho 2020, section 4); 'cosine': Nichol and
    Dhariwal 2021 (arXiv 2102.09672), eq. 17, with their `offset` s and betas of at most 0.999.

  In between, log alpha is linear in t: a VP process whose beta(t) is constant over each step.
  """

  steps: int = 1000
  schedule: str = 'linear'
  beta_min: float = 1e-4
  beta_max: float = 0.02
  offset: float = 0.008

  def __post_init__(self):
    check(self.steps >= 1, 'steps', self.steps, 'at least 1')
    choices = f'choose from {", ".join(SCHEDULES)}'
    check(self.schedule in SCHEDULES, 'schedule', self.schedule, choices)
    check(0 < self.beta_min <= self.beta_max < 1, 'beta_min', self.beta_min, '> 0, <= beta_max < 1')

  @property
  def t_min(self) -> float:
    return 1 / self.steps

  @functools.cached_property
  def betas(self) -> np.ndarray:
    """float64 `[N]`."""
    if self.schedule == 'linear':
      return np.linspace(self.beta_min, self.beta_max, self.steps)
    t = np.arange(self.steps + 1) / self.steps
    bars = np.cos((t + self.offset) / (1 + self.offset) * np.pi / 2) ** 2
    return np.minimum(1 - bars[1:] / bars[:-1], 0.999)

  @functools.cached_property
  def log_alphas(self) -> np.ndarray:
    """float64 `[N + 1]` at steps 0..N: half the logarithm of alpha-bar."""
    return np.append(0.0, 0.5 * np.cumsum(np.log1p(-self.betas)))

  @property
  def alpha_bars(self) -> np.ndarray:
    """float64 `[N]`, the paper's: products of 1 - beta up to and with step n."""
    return np.exp(2 * self.log_alphas[1:])

  def log_alpha(self, t):
    return numpy_of(t).interp(t * self.steps, np.arange(self.steps + 1), self.log_alphas)

  def sigma(self, t):
    xp = numpy_of(t)
    return xp.sqrt(-xp.expm1(2 * self.log_alpha(t)))

  def f(self, t):
    xp = numpy_of(t)
    slopes = xp.asarray(np.diff(self.log_alphas) * self.steps)
    # Of the step that ends at t: a time a rounding above n / N still belongs to step n.
    step = xp.ceil(t * self.steps - 1e-3).astype(int) - 1
    return slopes[xp.clip(step, 0, self.steps - 1)]

  def g2(self, t):
    return -2 * self.f(t)

  def time(self, log_snr):
    xp = numpy_of(log_snr)
    log_alpha = -0.5 * xp.logaddexp(0.0, -log_snr)
    steps = np.arange(self.steps + 1)
    return xp.interp(-log_alpha, -self.log_alphas, steps) / self.steps

  def network_time(self, t):
    """n - 1, from 0, as in the paper's code."""
    return t * self.steps - 1


@dataclasses.dataclass(frozen=True)
class EDM(Process):
  """sigma(t) = t, alpha = 1 (Karras et al. 2022, arXiv 2206.00364, table 1's last column)."""

  sigma_min: float = 0.002
  sigma_max: float = 80.0

  def __post_init__(self):
    check(0 < self.sigma_min < self.sigma_max, 'sigma_min', self.sigma_min, '> 0, < sigma_max')

  @property
  def T(self) -> float:
    return self.sigma_max

  @property
  def t_min(self) -> float:
    return self.sigma_min

  @property
  def prior_std(self) -> float:
    return self.sigma_max

  def log_alpha(self, t):
    return 0.0 * t

  def sigma(self, t):
    return 1.0 * t

  def f(self, t):
    return 0.0 * t

  def g2(self, t):
    return 2.0 * t

  def time(self, log_snr):
    return numpy_of(log_snr).exp(-0.5 * log_snr)

  def network_time(self, t):
    """c_noise of table 1."""
    return 0.25 * numpy_of(t).log(t)


@dataclasses.dataclass(frozen=True)
class Flow(Process):
  """x_t = (1 - t) x_0 + t eps (Liu et al. 2022, 2209.03003; Lipman et al. 2023, 2210.02747).

  Noise is at 1, where those papers have the data. There alpha is 0, and f, g and log_snr infinite:
  T stops short, with a signal-to-noise ratio of 1e-6, a fortieth of what VP leaves.
  """

  T: float = 0.999
  t_min: float = 1e-4

  def __post_init__(self):
    check(0 < self.t_min < self.T < 1, 'T', self.T, '> t_min, < 1, where nothing is left of x_0')

  def log_alpha(self, t):
    return numpy_of(t).log1p(-t)

  def alpha(self, t):
    return 1.0 - t

  def sigma(self, t):
    return 1.0 * t

  def f(self, t):
    return -1 / (1 - t)

  def g2(self, t):
    return 2 * t / (1 - t)

  def rates(self, t):
    return 0.0 * t - 1, 0.0 * t + 1

  def time(self, log_snr):
    return 1 / (1 + numpy_of(log_snr).exp(0.5 * log_snr))


PROCESSES: dict[str, Callable[..., Process]] = {
  've': VE,
  'vp': VP,
  'subvp': SubVP,
  'ddpm': DDPM,
  'edm': EDM,
  'flow': Flow,
}


def build(name: str, **kwargs) -> Process:
  """The process of that name, e.g. `build('ddpm', schedule='cosine')`.

  Raises ValueError for an unknown name, and for values that the process refuses.
  """
  check(name in PROCESSES, 'name', name, f'choose from {", ".join(PROCESSES)}')
  return PROCESSES[name](**kwargs)


Score = Callable[[Array, Array], Array]  # (x `[B, ...]`, t `[B]`) to the score `[B, ...]`


def reverse_drift(process: Process, score: Score) -> Score:
  """The drift f x - g² score of the SDE that runs from T to 0 (Song 2021, eq. 6); g stays."""
  return lambda x, t: like(process.f(t), x) * x - like(process.g2(t), x) * score(x, t)


def probability_flow(process: Process, score: Score) -> Score:
  """dx/dt = f x - g² score / 2 of the ODE with the same marginals (Song 2021, eq. 13)."""
  return lambda x, t: like(process.f(t), x) * x - 0.5 * like(process.g2(t), x) * score(x, t)
