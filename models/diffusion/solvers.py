"""Time grids, and the methods that are a table: each new state is a sum over what was seen before.

A method turns a process and its grid into coefficients, on the host in float64. `samplers` runs any
such table with one loop. Methods read in the variables of Karras et al. 2022 (arXiv 2206.00364),
section 3: y = x / alpha and the noise level s = sigma / alpha, where the probability flow is
dy/ds = (y - x0(y, s)) / s for every process.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from models.diffusion.process import Process


def noise_level(process: Process, t: np.ndarray) -> np.ndarray:
  """sigma / alpha at times t."""
  return np.exp(-0.5 * process.log_snr(t))


def time_of(process: Process, level: np.ndarray) -> np.ndarray:
  """The time of a noise level, within the process's range."""
  return np.clip(process.time(-2 * np.log(level)), process.t_min, process.T)


# -------- grids: float64 times [N] from T down; what follows the last is the clean image --------


def uniform(process: Process, steps: int) -> np.ndarray:
  """Uniform in t: with as many steps as DDPM has, its own."""
  return np.linspace(process.T, process.t_min, steps)


def log_snr(process: Process, steps: int) -> np.ndarray:
  first, last = noise_level(process, np.array([process.T, process.t_min]))
  return time_of(process, np.geomspace(first, last, steps))


def edm(process: Process, steps: int, *, rho: float = 7.0) -> np.ndarray:
  """Uniform in the noise level's power 1 / rho (Karras 2022, eq. 5)."""
  first, last = noise_level(process, np.array([process.T, process.t_min])) ** (1 / rho)
  return time_of(process, np.linspace(first, last, steps) ** rho)


def asinh(process: Process, steps: int, *, knee: float = 0.2) -> np.ndarray:
  """Uniform in asinh(level / knee): in the logarithm of the level above the knee, in it below.

  As the clean image is the end of the same spacing, few steps do not go to levels where there is
  nothing left to do; t_min bounds many.
  """
  first, least = np.arcsinh(noise_level(process, np.array([process.T, process.t_min])) / knee)
  return time_of(process, knee * np.sinh(np.linspace(first, max(least, first / steps), steps)))


GRIDS: dict[str, Callable[..., np.ndarray]] = {
  'uniform': uniform,
  'log_snr': log_snr,
  'edm': edm,
  'asinh': asinh,
}


def grid(name: str, process: Process, steps: int, **kwargs) -> np.ndarray:
  """Times of that name. Raises ValueError for an unknown name and for fewer than 2 steps."""
  if name not in GRIDS:
    raise ValueError(f'sampler.grid={name!r}: choose from {", ".join(GRIDS)}')
  if steps < 2:
    raise ValueError(f'sampler.steps={steps!r}: at least 2')
  return GRIDS[name](process, steps, **kwargs)


# -------- tables --------


@dataclasses.dataclass(frozen=True)
class Table:
  """One row an evaluation of the network, of which x_0 is read; float64, k the history.

  kept = keep x + keep_kept kept + sum_j keep_x0[j] (x_0 of j evaluations ago)
  x = state x + anchor kept + sum_j x0[j] (x_0 of j evaluations ago) + noise z

  time: `[R]` of the evaluation.
  state, anchor, keep, keep_kept: `[R]`. x0, keep_x0: `[R, k]`. None are zeros.
  whole: bool `[R]`, whether x after the row is at a time of the grid; None if always.
  noise: `[R]` the deviation of what is added; with learned variances (Nichol 2021, eq. 15) it is
    interpolated in its logarithm from here, v = 0, to `wide` `[R]`, v = 1.
  alpha, sigma: `[R]` of the state after the row.
  """

  time: np.ndarray
  state: np.ndarray
  x0: np.ndarray
  noise: np.ndarray
  alpha: np.ndarray
  sigma: np.ndarray
  wide: np.ndarray | None = None
  anchor: np.ndarray | None = None
  keep: np.ndarray | None = None
  keep_kept: np.ndarray | None = None
  keep_x0: np.ndarray | None = None
  whole: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Steps:
  """The two ends of each step of a grid; the last ends at the clean image, alpha 1 and sigma 0.

  All float64 `[N]`: t, alpha, sigma where a step begins; next_alpha, next_sigma where it ends.
  ratio: alpha / next_alpha. gained: the variance of x given the step's end, > 0.
  """

  t: np.ndarray
  alpha: np.ndarray
  sigma: np.ndarray
  next_alpha: np.ndarray
  next_sigma: np.ndarray

  @property
  def ratio(self) -> np.ndarray:
    return self.alpha / self.next_alpha

  @property
  def gained(self) -> np.ndarray:
    return self.sigma**2 - (self.ratio * self.next_sigma) ** 2

  @property
  def posterior_std(self) -> np.ndarray:
    """Of the step's end, given x and x_0 (Ho 2020, eq. 7, for any process)."""
    return np.sqrt(self.gained) * self.next_sigma / self.sigma

  def table(self, state, x0, noise, **more) -> Table:
    x0 = x0 if x0.ndim == 2 else x0[:, None]
    return Table(self.t, state, x0, noise, self.next_alpha, self.next_sigma, **more)


def steps_of(process: Process, times: np.ndarray) -> Steps:
  """Raises ValueError unless the times `[N]` fall."""
  times = np.asarray(times, np.float64)
  if not (np.diff(times) < 0).all():
    raise ValueError(f'times from {times[0]} to {times[-1]}: each must be below the one before')
  alpha, sigma = process.alpha(times), process.sigma(times)
  return Steps(times, alpha, sigma, np.append(alpha[1:], 1.0), np.append(sigma[1:], 0.0))


def ddim(process: Process, times: np.ndarray, eta: float) -> Table:
  """Song et al. 2021 (arXiv 2010.02502), eq. 12 and 16; at eta 0 the exponential Euler method.

  Of a rectified flow that is Euler's method on its velocity; at eta 1 ancestral sampling.
  """
  s = steps_of(process, times)
  noise = eta * s.posterior_std
  state = np.sqrt(s.next_sigma**2 - noise**2) / s.sigma
  return s.table(state, s.next_alpha - state * s.alpha, noise)


def ancestral(process: Process, times: np.ndarray, variance: str) -> Table:
  """Ho 2020, algorithm 2: q(x_s | x_t, x_0) with the variance 'small', 'large' or 'learned'.

  'large' is beta_t in a chain of DDPM's, 'small' its beta-tilde (section 3.2). The last adds none.
  """
  s = steps_of(process, times)
  large = np.where(s.next_sigma > 0, np.sqrt(s.gained), 0.0)
  noise = large if variance == 'large' else s.posterior_std
  state = s.ratio * (s.next_sigma / s.sigma) ** 2
  wide = large if variance == 'learned' else None
  return s.table(state, s.next_alpha * s.gained / s.sigma**2, noise, wide=wide)


def _denoise_last(state, x0, noise):
  """The last row replaced by the mean of the clean image."""
  state[-1], x0[-1], noise[-1] = 0.0, 1.0, 0.0
  return state, x0, noise


def euler_maruyama(process: Process, times: np.ndarray) -> Table:
  """Euler's method on the reverse SDE (Song 2021, arXiv 2011.13456, section 4.1)."""
  s = steps_of(process, times)
  span = s.t - np.append(s.t[1:], 0.0)
  drift, gained = process.f(s.t) * span, process.g2(s.t) * span
  state, x0 = 1 - drift - gained / s.sigma**2, gained * s.alpha / s.sigma**2
  return s.table(*_denoise_last(state, x0, np.sqrt(gained)))


def reverse_diffusion(process: Process, times: np.ndarray) -> Table:
  """The reverse of the discrete chain's f and G (Song 2021, eq. 46), of any process."""
  s = steps_of(process, times)
  share = s.gained / s.sigma**2
  return s.table(*_denoise_last(2 - s.ratio - share, share * s.alpha, np.sqrt(s.gained)))


def dpm_solver_2m(process: Process, times: np.ndarray) -> Table:
  """DPM-Solver++(2M), Lu et al. 2022 (arXiv 2211.01095), algorithm 2; first and last of order 1."""
  s = steps_of(process, times)
  h = -np.diff(np.log(s.sigma / s.alpha))
  past = np.zeros(len(s.t))
  past[1:-1] = h[1:] / h[:-1] / 2  # 1 / (2 r)
  total = s.next_alpha - s.alpha * s.next_sigma / s.sigma
  x0 = total[:, None] * np.stack([1 + past, -past], 1)
  return s.table(s.next_sigma / s.sigma, x0, np.zeros(len(s.t)))


def multistep(process: Process, times: np.ndarray, order: int, knee: float) -> Table:
  """x_0 as the polynomial through its last `order` values, integrated exactly.

  The polynomial is in u = log(level² + knee²) / 2. x_0 changes with the logarithm of the level
  where that is large, as DPM-Solver has it, but with its square where the data are nearly clean.
  So u is finite at the clean image, and the last step keeps the order: it is the polynomial there.

  Each evaluation also corrects the step that led to it (a predictor and corrector of Adams's, as
  in UniPC, Zhao et al. 2023, arXiv 2302.04867, algorithm 1): `kept` is the corrected state.
  """
  s = steps_of(process, times)
  count, level = len(s.t), np.append(s.sigma / s.alpha, 0.0)
  x0, keep_x0 = np.zeros((2, count, order))
  for i in range(count):
    seen = level[max(0, i - order + 1) : i + 1][::-1]
    x0[i, : len(seen)] = s.next_alpha[i] * _integrals(seen, level[i], level[i + 1], knee)
    if i > 0:
      keep_x0[i, : len(seen)] = s.alpha[i] * _integrals(seen, level[i - 1], level[i], knee)
  ratio, first = s.next_sigma / s.sigma, np.arange(count) == 0
  kept = {'keep': 1.0 * first, 'keep_kept': np.append(0.0, ratio[:-1]), 'keep_x0': keep_x0}
  return s.table(np.zeros(count), x0, np.zeros(count), anchor=ratio, **kept)


def _integrals(seen: np.ndarray, begin: float, end: float, knee: float) -> np.ndarray:
  """end * (the integral from end to begin of L_j(u(s)) / s² ds), L_j Lagrange's polynomials.

  seen: levels `[k]`, their nodes.
  """

  def u(level):
    return 0.5 * np.log(level**2 + knee**2)

  def lagrange(at):  # [k, points]
    others = [np.delete(u(seen), j) for j in range(len(seen))]
    products = [
      np.prod([(u(at) - v) / (u(seen[j]) - v) for v in others[j]], axis=0) * np.ones_like(at)
      for j in range(len(seen))
    ]
    return np.stack(products)

  if end == 0:
    return lagrange(np.zeros(1))[:, 0]
  points, weights = np.polynomial.legendre.leggauss(32)
  half = 0.5 * np.log(begin / end)
  at = end * np.exp(half * (1 + points))
  return lagrange(at) @ (half * weights * end / at)


def _churned(level: np.ndarray, churn: float, least: float, most: float) -> np.ndarray:
  """Levels raised by gamma, where they are between `least` and `most`; none above the first."""
  gamma = min(churn / len(level), np.sqrt(2) - 1)
  raised = np.where((least <= level) & (level <= most), level * (1 + gamma), level)
  return np.minimum(raised, level[0])


def heun(
  process: Process,
  times: np.ndarray,
  churn: float,
  churn_min: float,
  churn_max: float,
  noise: float,
) -> Table:
  """Karras 2022, algorithm 2: two rows a step, one for the last. No level is raised above T's."""
  level = noise_level(process, steps_of(process, times).t)
  raised = _churned(level, churn, churn_min, churn_max)
  times_raised = np.where(raised > level, time_of(process, raised), times)
  begin, end = raised[:-1], level[1:]  # of all steps but the last
  rows = 2 * len(level) - 1
  table = {name: np.zeros(rows) for name in ('time', 'state', 'anchor', 'noise', 'alpha', 'sigma')}
  x0, first, second = np.zeros((rows, 2)), slice(0, -1, 2), slice(1, None, 2)
  alpha, next_alpha, after = (process.alpha(t) for t in (times_raised, times[1:], times_raised[1:]))
  alpha = alpha[:-1]
  # Euler's step from the raised level.
  table['time'][::2], table['time'][second] = times_raised, times[1:]
  table['state'][first] = next_alpha * end / (alpha * begin)
  x0[first, 0] = next_alpha * (1 - end / begin)
  # The mean of the slopes at both ends, then up to the next raised level.
  half = 0.5 * (end - begin)
  table['anchor'][second] = after / alpha * (1 + half / begin)
  table['state'][second] = after / next_alpha * half / end
  x0[second] = -after[:, None] * np.stack([half / end, half / begin], 1)
  table['noise'][second] = after * noise * np.sqrt(raised[1:] ** 2 - level[1:] ** 2)
  table['alpha'][first], table['sigma'][first] = next_alpha, next_alpha * end
  table['alpha'][second], table['sigma'][second] = after, after * raised[1:]
  x0[-1, 0] = table['alpha'][-1] = 1.0
  keep = np.arange(rows) % 2 == 0
  whole = np.append(~keep[:-1], True)
  return Table(**table, x0=x0, keep=1.0 * keep, keep_kept=1.0 * ~keep, whole=whole)
