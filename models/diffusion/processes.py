"""The diffusion processes of the papers, each with the symbols of its paper.

`PROCESSES` names them for configs. A new one is a subclass of `process.Process` and a line there.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from models.diffusion.process import Process, array_namespace


def require(holds: bool, name: str, value, rule: str) -> None:
  """Raises ValueError unless a process's parameter keeps the rule."""
  if not holds:
    raise ValueError(f'process.{name}={value!r}: {rule}')


@dataclasses.dataclass(frozen=True)
class VE(Process):
  """The variance-exploding SDE: sigma(t) = sigma_min (sigma_max / sigma_min)^t.

  Song et al. 2021 (arXiv 2011.13456), eq. 31 and section C: sigma(0) is sigma_min, not 0.

  sigma_min, sigma_max: sigma at t = 0 and t = 1.
  """

  sigma_min: float = 0.01
  sigma_max: float = 50.0
  t_min: float = 1e-5

  def __post_init__(self):
    require(0 < self.sigma_min < self.sigma_max, 'sigma_min', self.sigma_min, '> 0, < sigma_max')

  @property
  def prior_std(self) -> float:
    return self.sigma_max

  @property
  def log_ratio(self) -> float:
    return math.log(self.sigma_max / self.sigma_min)

  def log_alpha(self, t):
    return 0.0 * t

  def sigma(self, t):
    return self.sigma_min * array_namespace(t).exp(self.log_ratio * t)

  def f(self, t):
    return 0.0 * t

  def g2(self, t):
    return 2 * self.log_ratio * self.sigma(t) ** 2

  def inverse_log_snr(self, log_snr):
    return (-0.5 * log_snr - math.log(self.sigma_min)) / self.log_ratio

  def c_noise(self, t):
    """Returns log sigma, for random Fourier features (Song 2021, section C.1)."""
    return array_namespace(t).log(self.sigma(t))


@dataclasses.dataclass(frozen=True)
class VP(Process):
  """The variance-preserving SDE: beta(t) = beta_min + t (beta_max - beta_min), Song 2021, eq. 32.

  alpha² + sigma² = 1. beta_min, beta_max: beta at t = 0 and t = 1.
  """

  beta_min: float = 0.1
  beta_max: float = 20.0
  t_min: float = 1e-5

  def __post_init__(self):
    require(0 < self.beta_min <= self.beta_max, 'beta_min', self.beta_min, '> 0, <= beta_max')

  def beta(self, t):
    """Returns the rate at which the signal decays, of the shape of t."""
    return self.beta_min + t * (self.beta_max - self.beta_min)

  def log_alpha(self, t):
    return -0.5 * t * (self.beta_min + 0.5 * t * (self.beta_max - self.beta_min))

  def sigma(self, t):
    xp = array_namespace(t)
    return xp.sqrt(-xp.expm1(2 * self.log_alpha(t)))

  def f(self, t):
    return -0.5 * self.beta(t)

  def g2(self, t):
    return self.beta(t)

  def inverse_log_snr(self, log_snr):
    return self._time_of_integral(array_namespace(log_snr).logaddexp(0.0, -log_snr))

  def _time_of_integral(self, integral):
    """Returns the time up to which the integral of beta from 0 is `integral`."""
    slope = self.beta_max - self.beta_min
    # The root of a quadratic equation in the form that does not cancel near 0.
    root = array_namespace(integral).sqrt(self.beta_min**2 + 2 * slope * integral)
    return 2 * integral / (self.beta_min + root)

  def c_noise(self, t):
    return 999.0 * t


@dataclasses.dataclass(frozen=True)
class SubVP(VP):
  """The sub-VP SDE: alpha as in VP, and a smaller sigma = 1 - alpha² (Song 2021, eq. 29)."""

  def sigma(self, t):
    return -array_namespace(t).expm1(2 * self.log_alpha(t))

  def g2(self, t):
    return -self.beta(t) * array_namespace(t).expm1(4 * self.log_alpha(t))

  def inverse_log_snr(self, log_snr):
    xp = array_namespace(log_snr)
    ratio = xp.exp(0.5 * log_snr)  # alpha / (1 - alpha²)
    sigma = 2 / (1 + xp.sqrt(1 + 4 * ratio**2))
    # -log alpha in two forms: the first cancels where alpha is near 0, the second where sigma is.
    small, large = -xp.log1p(-xp.minimum(sigma, 0.99)), -2 * xp.log(ratio * sigma)
    return self._time_of_integral(xp.where(sigma < 0.5, small, large))


SCHEDULES = ('linear', 'cosine')


@dataclasses.dataclass(frozen=True)
class DDPM(Process):
  """The chain of DDPM: steps n = 1..N at times t = n / N (Ho et al. 2020, arXiv 2006.11239).

  Between steps log alpha is linear in t: a VP process whose beta(t) is constant over each step.

  steps: N. With other than 1,000 steps beta_min=0.1/N and beta_max=20/N end in the same noise.
  schedule: 'linear': beta_n from beta_min to beta_max (Ho 2020, section 4); 'cosine': Nichol and
    Dhariwal 2021 (arXiv 2102.09672), eq. 17, with their `offset` s and betas of at most 0.999.
  """

  steps: int = 1000
  schedule: str = 'linear'
  beta_min: float = 1e-4
  beta_max: float = 0.02
  offset: float = 0.008

  def __post_init__(self):
    # In float32 the times n / N of more steps are not told apart.
    require(1 <= self.steps <= 10_000, 'steps', self.steps, 'from 1 to 10,000')
    choices = f'choose from {", ".join(SCHEDULES)}'
    require(self.schedule in SCHEDULES, 'schedule', self.schedule, choices)
    require(
      0 < self.beta_min <= self.beta_max < 1, 'beta_min', self.beta_min, '> 0, <= beta_max < 1'
    )
    require(0 <= self.offset < 1, 'offset', self.offset, 'from 0 to below 1')
    of_other = ('offset',) if self.schedule == 'linear' else ('beta_min', 'beta_max')
    for name in of_other:
      value, rule = getattr(self, name), f'has no effect with schedule={self.schedule!r}'
      require(value == getattr(DDPM, name), name, value, rule)

  @property
  def t_min(self) -> float:
    return 1 / self.steps

  @property
  def discrete_steps(self) -> int:
    return self.steps

  @functools.cached_property
  def betas(self) -> np.ndarray:
    """beta_1..beta_N, float64 `[N]`."""
    if self.schedule == 'linear':
      return np.linspace(self.beta_min, self.beta_max, self.steps)
    t = np.arange(self.steps + 1) / self.steps
    bars = np.cos((t + self.offset) / (1 + self.offset) * np.pi / 2) ** 2
    return np.minimum(1 - bars[1:] / bars[:-1], 0.999)

  @functools.cached_property
  def log_alphas(self) -> np.ndarray:
    """Half the logarithm of alpha-bar at steps 0..N, float64 `[N + 1]`."""
    return np.append(0.0, 0.5 * np.cumsum(np.log1p(-self.betas)))

  @property
  def alpha_bars(self) -> np.ndarray:
    """alpha-bar_1..alpha-bar_N, the products of 1 - beta_n (Ho 2020, eq. 4), float64 `[N]`."""
    return np.exp(2 * self.log_alphas[1:])

  def log_alpha(self, t):
    return array_namespace(t).interp(t * self.steps, np.arange(self.steps + 1), self.log_alphas)

  def sigma(self, t):
    xp = array_namespace(t)
    return xp.sqrt(-xp.expm1(2 * self.log_alpha(t)))

  def f(self, t):
    xp = array_namespace(t)
    slopes = xp.asarray(np.diff(self.log_alphas) * self.steps)
    # The slope of the step that ends at t. A time that rounding put just above n / N is of step n.
    step = xp.ceil(t * self.steps - 1e-3).astype(int) - 1
    return slopes[xp.clip(step, 0, self.steps - 1)]

  def g2(self, t):
    return -2 * self.f(t)

  def inverse_log_snr(self, log_snr):
    xp = array_namespace(log_snr)
    log_alpha = -0.5 * xp.logaddexp(0.0, -log_snr)
    steps = np.arange(self.steps + 1)
    return xp.interp(-log_alpha, -self.log_alphas, steps) / self.steps

  def c_noise(self, t):
    """Returns n - 1, from 0, as the code of Ho 2020 counts steps."""
    return t * self.steps - 1


@dataclasses.dataclass(frozen=True)
class EDM(Process):
  """Time is the noise level: sigma(t) = t, alpha = 1 (Karras et al. 2022, arXiv 2206.00364).

  sigma_min, sigma_max: the smallest and largest noise level (table 1, column "Ours").
  """

  sigma_min: float = 0.002
  sigma_max: float = 80.0

  def __post_init__(self):
    require(0 < self.sigma_min < self.sigma_max, 'sigma_min', self.sigma_min, '> 0, < sigma_max')

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

  def inverse_log_snr(self, log_snr):
    return array_namespace(log_snr).exp(-0.5 * log_snr)

  def c_noise(self, t):
    """Returns log(sigma) / 4 (Karras 2022, table 1)."""
    return 0.25 * array_namespace(t).log(t)


@dataclasses.dataclass(frozen=True)
class Flow(Process):
  """Rectified flow, flow matching: x_t = (1 - t) x_0 + t eps.

  Liu et al. 2022 (arXiv 2209.03003), eq. 1; Lipman et al. 2023 (arXiv 2210.02747), eq. 20. Those
  papers have the data at t = 1; here it is at 0, as for all processes. At t = 1 alpha is 0 and f, g
  and log_snr are infinite, so T is a little less: a signal-to-noise ratio of 1e-6, a fortieth of
  what VP leaves at its end.
  """

  T: float = 0.999
  t_min: float = 1e-4

  def __post_init__(self):
    require(0 < self.t_min < self.T < 1, 'T', self.T, '> t_min, < 1, where nothing is left of x_0')

  def log_alpha(self, t):
    return array_namespace(t).log1p(-t)

  def alpha(self, t):
    return 1.0 - t

  def sigma(self, t):
    return 1.0 * t

  def f(self, t):
    return -1 / (1 - t)

  def g2(self, t):
    return 2 * t / (1 - t)

  def derivatives(self, t):
    return 0.0 * t - 1, 0.0 * t + 1

  def inverse_log_snr(self, log_snr):
    return 1 / (1 + array_namespace(log_snr).exp(0.5 * log_snr))


PROCESSES: dict[str, Callable[..., Process]] = {
  've': VE,
  'vp': VP,
  'subvp': SubVP,
  'ddpm': DDPM,
  'edm': EDM,
  'flow': Flow,
}
