"""Samplers as tables of coefficients: each new state is a linear combination of what was seen.

A method turns a process and its timesteps into a `Table`, on the host in float64, and `samplers`
runs any table in one compiled loop. To read a method, use the variables of Karras et al. 2022
(arXiv 2206.00364), section 3: y = x / alpha and the noise level s = sigma / alpha, in which the
probability flow ODE is dy/ds = (y - x0(y, s)) / s for every process.

Papers: DDPM, Ho et al. 2020 (arXiv 2006.11239); DDIM, Song et al. 2021a (arXiv 2010.02502); score
SDEs, Song et al. 2021 (arXiv 2011.13456); EDM, Karras et al. 2022; DPM-Solver++, Lu et al. 2022
(arXiv 2211.01095); UniPC, Zhao et al. 2023 (arXiv 2302.04867).
"""

import dataclasses

import numpy as np

from models.diffusion.process import Process
from models.diffusion.timesteps import noise_level, time_of_noise_level


@dataclasses.dataclass(frozen=True)
class Table:
  """A linear multistep sampler: row i holds the coefficients applied after network evaluation i.

  With R evaluations, D_j the x_0 predicted j evaluations ago (D_0 is the newest) and z fresh
  standard normal noise, a row updates the state x and an auxiliary state aux, which some methods
  need (Heun: x at the start of the step; multistep: the corrected x):

    aux' = aux_from_x x + aux_from_aux aux + sum_j aux_from_x0[j] D_j
    x'   = x_from_x x + x_from_aux aux' + sum_j x_from_x0[j] D_j + noise z

  All are float64 `[R]`, or `[R, k]` where a row has a history of k predictions. None means zeros.

  t: the time of the evaluation.
  x_from_x, x_from_x0, x_from_aux, aux_from_x, aux_from_aux, aux_from_x0: as above.
  noise: the standard deviation of the added noise. With a learned variance (Nichol 2021, eq. 15)
    its logarithm is interpolated from here, at v = 0, to `noise_large`, at v = 1.
  alpha, sigma: of the marginal of x'.
  on_schedule: bool, whether x' is at one of the timesteps (Heun's first rows are not); None:
    always.
  """

  t: np.ndarray
  x_from_x: np.ndarray
  x_from_x0: np.ndarray
  noise: np.ndarray
  alpha: np.ndarray
  sigma: np.ndarray
  noise_large: np.ndarray | None = None
  x_from_aux: np.ndarray | None = None
  aux_from_x: np.ndarray | None = None
  aux_from_aux: np.ndarray | None = None
  aux_from_x0: np.ndarray | None = None
  on_schedule: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Steps:
  """The coefficients of the steps from t to the next time s; the last step ends at the clean image.

  All float64 `[N]`. There the last step has alpha_s = 1 and sigma_s = 0.
  """

  t: np.ndarray
  alpha_t: np.ndarray
  sigma_t: np.ndarray
  alpha_s: np.ndarray
  sigma_s: np.ndarray

  @property
  def alpha_ts(self) -> np.ndarray:
    """alpha_t / alpha_s, the factor of x_s in x_t (Kingma 2021, section A)."""
    return self.alpha_t / self.alpha_s

  @property
  def var_ts(self) -> np.ndarray:
    """The variance of x_t given x_s, > 0; beta_t in a chain of DDPM's."""
    return self.sigma_t**2 - (self.alpha_ts * self.sigma_s) ** 2

  @property
  def posterior_std(self) -> np.ndarray:
    """The standard deviation of x_s given x_t and x_0; beta-tilde^(1/2) (Ho 2020, eq. 7)."""
    return np.sqrt(self.var_ts) * self.sigma_s / self.sigma_t

  def table(self, x_from_x, x_from_x0, noise, **columns) -> Table:
    """Returns the table with a row for each step, x_from_x0 `[N]` or `[N, k]`."""
    x_from_x0 = x_from_x0 if x_from_x0.ndim == 2 else x_from_x0[:, None]
    return Table(self.t, x_from_x, x_from_x0, noise, self.alpha_s, self.sigma_s, **columns)


def make_steps(process: Process, timesteps: np.ndarray) -> Steps:
  """Returns the steps between timesteps `[N]`. Raises ValueError unless these decrease."""
  t = np.asarray(timesteps, np.float64)
  if not (np.diff(t) < 0).all():
    raise ValueError(f'timesteps from {t[0]} to {t[-1]}: each must be below the one before')
  alpha, sigma = process.alpha(t), process.sigma(t)
  # The last step ends at the clean image, wherever the timesteps end.
  return Steps(t, alpha, sigma, np.append(alpha[1:], 1.0), np.append(sigma[1:], 0.0))


def ddim(process: Process, timesteps: np.ndarray, eta: float) -> Table:
  """Returns DDIM (Song et al. 2021a, eq. 12 and 16); eta = 0 is the exponential Euler method.

  For a rectified flow eta = 0 is Euler's method on the velocity; eta = 1 is ancestral sampling.
  """
  s = make_steps(process, timesteps)
  # x_s = alpha_s x_0 + sqrt(sigma_s^2 - noise^2) eps + noise z, and eps = (x_t - alpha_t x_0) /
  # sigma_t.
  noise = eta * s.posterior_std
  x_from_x = np.sqrt(s.sigma_s**2 - noise**2) / s.sigma_t
  return s.table(x_from_x, s.alpha_s - x_from_x * s.alpha_t, noise)


def ancestral(process: Process, timesteps: np.ndarray, variance: str) -> Table:
  """Returns ancestral sampling from q(x_s | x_t, x_0) (Ho 2020, algorithm 2 and eq. 7).

  variance: 'large' is beta_t, 'small' beta-tilde_t (section 3.2), 'learned' between the two. The
    last step adds no noise.
  """
  s = make_steps(process, timesteps)
  large = np.where(s.sigma_s > 0, np.sqrt(s.var_ts), 0.0)  # the last step adds none
  noise = large if variance == 'large' else s.posterior_std
  # The mean of q(x_s | x_t, x_0), for any alpha and sigma (Kingma et al. 2021).
  x_from_x = s.alpha_ts * (s.sigma_s / s.sigma_t) ** 2
  noise_large = large if variance == 'learned' else None
  x_from_x0 = s.alpha_s * s.var_ts / s.sigma_t**2
  return s.table(x_from_x, x_from_x0, noise, noise_large=noise_large)


def _denoise_last(x_from_x, x_from_x0, noise):
  """Replaces the last row by the prediction of x_0, as the paper's code does."""
  x_from_x[-1], x_from_x0[-1], noise[-1] = 0.0, 1.0, 0.0
  return x_from_x, x_from_x0, noise


def euler_maruyama(process: Process, timesteps: np.ndarray) -> Table:
  """Returns Euler-Maruyama on the reverse SDE (Song et al. 2021, eq. 6 and section 4.1)."""
  s = make_steps(process, timesteps)
  dt = s.t - np.append(s.t[1:], 0.0)  # the last one is not used: `_denoise_last`
  f_dt, g2_dt = process.f(s.t) * dt, process.g2(s.t) * dt
  # x - (f x - g^2 score) dt, where score = (alpha x_0 - x) / sigma^2.
  x_from_x, x_from_x0 = 1 - f_dt - g2_dt / s.sigma_t**2, g2_dt * s.alpha_t / s.sigma_t**2
  return s.table(*_denoise_last(x_from_x, x_from_x0, np.sqrt(g2_dt)))


def reverse_diffusion(process: Process, timesteps: np.ndarray) -> Table:
  """Returns the reverse of the discretised forward chain (Song et al. 2021, eq. 46)."""
  s = make_steps(process, timesteps)
  # (2 - alpha_ts) x + var_ts score, the score as in `euler_maruyama`.
  ratio = s.var_ts / s.sigma_t**2
  return s.table(*_denoise_last(2 - s.alpha_ts - ratio, ratio * s.alpha_t, np.sqrt(s.var_ts)))


def dpm_solver_2m(process: Process, timesteps: np.ndarray) -> Table:
  """Returns DPM-Solver++(2M) (Lu et al. 2022, algorithm 2); first and last step are of order 1."""
  s = make_steps(process, timesteps)
  # The paper's lambda is log(alpha / sigma).
  h = -np.diff(np.log(s.sigma_t / s.alpha_t))  # steps of lambda
  past = np.zeros(len(s.t))
  # The first step has no value before it; the last has an infinite h, so its order is 1 as well.
  past[1:-1] = h[1:] / h[:-1] / 2  # 1 / (2 r)
  total = s.alpha_s - s.alpha_t * s.sigma_s / s.sigma_t  # alpha_s (1 - e^-h)
  x_from_x0 = total[:, None] * np.stack([1 + past, -past], 1)  # (1 + 1 / (2 r)) D_0 - 1 / (2 r) D_1
  return s.table(s.sigma_s / s.sigma_t, x_from_x0, np.zeros(len(s.t)))


def multistep(process: Process, timesteps: np.ndarray, order: int, knee: float) -> Table:
  """Returns an exponential Adams method: x_0 is a polynomial through its last `order` values.

  The ODE is integrated exactly for that polynomial in u = log(level² + knee²) / 2, with level =
  sigma / alpha. Where the level is large x_0 changes with its logarithm, as in DPM-Solver; where
  the image is nearly clean it changes with its square. u is finite at the clean image, so the last
  step keeps the order: there x_0 is the polynomial's value.

  Each evaluation also corrects the step that led to it, a predictor and corrector as in UniPC
  (algorithm 1): aux is the corrected state, from which the next step starts.
  """
  s = make_steps(process, timesteps)
  # (y / s)' = -x_0 / s^2, so y(end) = end / begin y(begin) + end (the integral of x_0 / s^2), and
  # with x = alpha y the factor of x is sigma_s / sigma_t.
  count, level = len(s.t), np.append(s.sigma_t / s.alpha_t, 0.0)
  x_from_x0, aux_from_x0 = np.zeros((2, count, order))
  for i in range(count):
    nodes = level[max(0, i - order + 1) : i + 1][::-1]  # the newest first, as the history
    predicted = _integrals(nodes, level[i], level[i + 1], knee)
    x_from_x0[i, : len(nodes)] = s.alpha_s[i] * predicted
    if i > 0:
      # The step before again, now that x_0 is known at its end: implicit, at no evaluation more.
      corrected = _integrals(nodes, level[i - 1], level[i], knee)
      aux_from_x0[i, : len(nodes)] = s.alpha_t[i] * corrected
  ratio, is_first = s.sigma_s / s.sigma_t, np.arange(count) == 0
  return s.table(
    np.zeros(count),
    x_from_x0,
    np.zeros(count),
    x_from_aux=ratio,
    aux_from_x=1.0 * is_first,
    aux_from_aux=np.append(0.0, ratio[:-1]),
    aux_from_x0=aux_from_x0,
  )


def _integrals(nodes: np.ndarray, begin: float, end: float, knee: float) -> np.ndarray:
  """Returns end * (the integral of L_j(u(s)) / s² over s from end to begin), for all j, `[k]`.

  nodes: levels `[k]`; L_j are Lagrange's polynomials through them.
  """

  def u(level):
    return 0.5 * np.log(level**2 + knee**2)

  def lagrange(at):  # [k, points]
    others = [np.delete(u(nodes), j) for j in range(len(nodes))]
    products = [
      np.prod([(u(at) - v) / (u(nodes[j]) - v) for v in others[j]], axis=0) * np.ones_like(at)
      for j in range(len(nodes))
    ]
    return np.stack(products)

  # All of the weight end / s^2 is then at s = 0, where the formula below would divide by 0.
  if end == 0:  # the limit: the polynomial's value at the clean image
    return lagrange(np.zeros(1))[:, 0]
  # ds / s^2 = d(log s) / s: in log s the integrand is smooth over many orders of magnitude.
  points, weights = np.polynomial.legendre.leggauss(32)
  half = 0.5 * np.log(begin / end)
  at = end * np.exp(half * (1 + points))  # Gauss-Legendre in the logarithm of the level
  return lagrange(at) @ (half * weights * end / at)


def _churned(level: np.ndarray, churn: float, churn_min: float, churn_max: float) -> np.ndarray:
  """Returns the levels raised by 1 + gamma where they are in [churn_min, churn_max]."""
  gamma = min(churn / len(level), np.sqrt(2) - 1)  # as algorithm 2 caps it
  raised = np.where((churn_min <= level) & (level <= churn_max), level * (1 + gamma), level)
  return np.minimum(raised, level[0])  # the process has no times above T


def heun(
  process: Process,
  timesteps: np.ndarray,
  churn: float,
  churn_min: float,
  churn_max: float,
  noise_scale: float,
) -> Table:
  """Returns Heun's method with churn (Karras 2022, algorithm 2).

  Each step has two rows, Euler's step and the correction to the mean slope; the last step has one.
  churn, churn_min, churn_max, noise_scale: the paper's S_churn, S_min, S_max, S_noise.
  """
  level = noise_level(process, make_steps(process, timesteps).t)
  raised = _churned(level, churn, churn_min, churn_max)
  # A level that is not raised keeps its time, without a rounding by the inverse.
  t_raised = np.where(raised > level, time_of_noise_level(process, raised), timesteps)
  # In y = x / alpha the slope at (y, s) is (y - x_0) / s; coefficients below go back to x.
  begin, end = raised[:-1], level[1:]  # of all steps but the last
  rows, euler, correct = 2 * len(level) - 1, slice(0, -1, 2), slice(1, None, 2)
  columns = ('t', 'x_from_x', 'x_from_aux', 'noise', 'alpha', 'sigma')
  c, x_from_x0 = {name: np.zeros(rows) for name in columns}, np.zeros((rows, 2))
  alpha, alpha_s, alpha_next = (
    process.alpha(t) for t in (t_raised[:-1], timesteps[1:], t_raised[1:])
  )
  c['t'][::2], c['t'][correct] = t_raised, timesteps[1:]
  # Euler's step from the raised level; aux keeps the x that it starts from.
  c['x_from_x'][euler] = alpha_s * end / (alpha * begin)
  x_from_x0[euler, 0] = alpha_s * (1 - end / begin)
  # From aux again with the mean of the slopes at both ends, then noise up to the next raised level.
  half = 0.5 * (end - begin)
  c['x_from_aux'][correct] = alpha_next / alpha * (1 + half / begin)
  c['x_from_x'][correct] = alpha_next / alpha_s * half / end
  x_from_x0[correct] = -alpha_next[:, None] * np.stack([half / end, half / begin], 1)
  # Independent noise adds variances: this much lifts the level to the raised one.
  c['noise'][correct] = alpha_next * noise_scale * np.sqrt(raised[1:] ** 2 - level[1:] ** 2)
  c['alpha'][euler], c['sigma'][euler] = alpha_s, alpha_s * end
  c['alpha'][correct], c['sigma'][correct] = alpha_next, alpha_next * raised[1:]
  # The last step ends at the clean image, where Euler's step is x_0 itself.
  x_from_x0[-1, 0] = c['alpha'][-1] = 1.0
  starts = np.arange(rows) % 2 == 0
  on_schedule = np.append(~starts[:-1], True)
  keep = {'aux_from_x': 1.0 * starts, 'aux_from_aux': 1.0 * ~starts}  # Euler's row sets aux
  return Table(**c, x_from_x0=x_from_x0, **keep, on_schedule=on_schedule)
