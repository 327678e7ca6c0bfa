"""Samplers: from noise x_T `[B, ...]` to images, in one compiled loop over the timesteps.

The methods of the papers differ mostly in their table of coefficients (`solvers`), which
`table_sampler` runs. What does not fit a table, Langevin corrections and the adaptive ODE solver,
is here; `sample_in_batches` draws any number of images with one compilation.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import ode, solvers
from models.diffusion.denoiser import Denoiser
from models.diffusion.process import Process, expand_like
from models.diffusion.table_sampler import (
  Sampler,
  TableSampler,
  alpha_sigma,
  normal_like,
  run_table,
)


def require(holds: bool, name: str, value, rule: str) -> None:
  """Raises ValueError unless a sampler's parameter keeps the rule."""
  if not holds:
    raise ValueError(f'sampler.{name}={value!r}: {rule}')


def require_choice(name: str, value: str, choices) -> None:
  """Raises ValueError unless a sampler's parameter is one of the choices."""
  require(value in choices, name, value, f'choose from {", ".join(choices)}')


VARIANCES = ('small', 'large', 'learned')


@dataclasses.dataclass(frozen=True)
class Ancestral(TableSampler):
  """Ancestral sampling (Ho 2020, algorithm 2).

  variance: 'small' (beta-tilde), 'large' (beta) or 'learned' (Nichol and Dhariwal 2021, eq. 15).
  """

  variance: str = 'small'

  def __post_init__(self):
    require_choice('variance', self.variance, VARIANCES)

  def table(self, process, timesteps):
    return solvers.ancestral(process, timesteps, self.variance)


@dataclasses.dataclass(frozen=True)
class DDIM(TableSampler):
  """DDIM (Song et al. 2021a, eq. 12). eta: in [0, 1]; 0 is deterministic, 1 ancestral sampling."""

  eta: float = 0.0

  def __post_init__(self):
    require(0 <= self.eta <= 1, 'eta', self.eta, 'must be in [0, 1]')

  def table(self, process, timesteps):
    return solvers.ddim(process, timesteps, self.eta)


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(TableSampler):
  """Euler-Maruyama on the reverse SDE (Song et al. 2021, section 4.1)."""

  def table(self, process, timesteps):
    return solvers.euler_maruyama(process, timesteps)


@dataclasses.dataclass(frozen=True)
class DPMSolver(TableSampler):
  """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2)."""

  def table(self, process, timesteps):
    return solvers.dpm_solver_2m(process, timesteps)


@dataclasses.dataclass(frozen=True)
class Multistep(TableSampler):
  """An exponential Adams method with a corrector, see `solvers.multistep`.

  order: values of x_0 in the polynomial, 1..8. knee: noise level sigma / alpha below which x_0 is
    taken to change with the square of the level.
  """

  order: int = 4
  knee: float = 0.5

  def __post_init__(self):
    require(1 <= self.order <= 8, 'order', self.order, 'must be in 1..8')
    require(0 < self.knee < np.inf, 'knee', self.knee, 'must be a noise level > 0')

  def table(self, process, timesteps):
    return solvers.multistep(process, timesteps, self.order, self.knee)


@dataclasses.dataclass(frozen=True)
class Heun(TableSampler):
  """Heun's method with churn (Karras 2022, algorithm 2); churn = 0 is algorithm 1.

  churn, churn_min, churn_max, noise_scale: the paper's S_churn, S_min, S_max, S_noise.
  """

  churn: float = 0.0
  churn_min: float = 0.0
  churn_max: float = float('inf')
  noise_scale: float = 1.0

  def __post_init__(self):
    for name in ('churn', 'noise_scale'):
      value = getattr(self, name)
      require(0 <= value < np.inf, name, value, 'must be a number >= 0')
    ordered = 0 <= self.churn_min <= self.churn_max
    require(ordered, 'churn_min', self.churn_min, f'must be >= 0, <= churn_max={self.churn_max}')

  def num_evaluations(self, num_steps: int) -> int:
    return 2 * num_steps - 1  # the last step is Euler's, to the clean image

  def table(self, process, timesteps):
    churn = (self.churn, self.churn_min, self.churn_max, self.noise_scale)
    return solvers.heun(process, timesteps, *churn)


# -------- other samplers --------

PREDICTORS: dict[str, Callable[[Process, np.ndarray], solvers.Table]] = {
  'reverse_diffusion': solvers.reverse_diffusion,
  'euler_maruyama': solvers.euler_maruyama,
  'ancestral': lambda process, timesteps: solvers.ancestral(process, timesteps, 'small'),
  'ddim': lambda process, timesteps: solvers.ddim(process, timesteps, 0.0),
}
CORRECTORS = ('langevin', 'annealed')


@dataclasses.dataclass(frozen=True)
class PredictorCorrector:
  """Langevin steps at each noise level, then a predictor (Song et al. 2021, algorithms 2 to 5).

  predictor: a name of `PREDICTORS`.
  corrector: the rule for the Langevin step size. 'langevin': 2 (snr |z| / |score|)², with each
    image's own norms (the paper's code takes the batch's mean norms); meant for many dimensions.
    'annealed': 2 (snr sigma)² for all images (Song and Ermon 2019, arXiv 1907.05600, algorithm 1).
  snr: r of the paper. corrector_steps: Langevin steps per noise level.
  """

  predictor: str = 'reverse_diffusion'
  corrector: str = 'langevin'
  snr: float = 0.16
  corrector_steps: int = 1

  def __post_init__(self):
    require_choice('predictor', self.predictor, PREDICTORS)
    require_choice('corrector', self.corrector, CORRECTORS)
    require(0 < self.snr < np.inf, 'snr', self.snr, 'must be a number > 0')
    require(self.corrector_steps >= 0, 'corrector_steps', self.corrector_steps, 'must be >= 0')

  def num_evaluations(self, num_steps: int) -> int:
    return num_steps * (1 + self.corrector_steps)

  def __call__(self, denoiser, x, keys, timesteps, *, trajectory=False, constraint=None):
    table = PREDICTORS[self.predictor](denoiser.process, timesteps)

    def correct(x, row):
      # Corrections keep the level: they run at the row's own t, before the predictor leaves it.
      alpha, sigma = alpha_sigma(denoiser, row['t'], x)
      t = jnp.full(x.shape[:1], row['t'])

      def langevin(i, x):
        index = 4 * (row['index'] * self.corrector_steps + i)  # streams 2, 3 of `run_table`'s four
        # Evaluated anew in each step, as x has moved.
        score, z = denoiser.score(x, t), normal_like(keys, index + 2, x)
        size = expand_like(self._step_size(score, z, sigma), x)
        # Langevin dynamics: in the limit of small steps its stationary distribution is p(x_t).
        x = x + size * score + jnp.sqrt(2 * size) * z
        return constraint(x, alpha, sigma, normal_like(keys, index + 3, x)) if constraint else x

      return lax.fori_loop(0, self.corrector_steps, langevin, x)

    corrector = correct if self.corrector_steps else None
    options = {'trajectory': trajectory, 'constraint': constraint}
    return run_table(denoiser, table, x, keys, corrector=corrector, **options)

  def _step_size(self, score, z, sigma):
    """Returns the size of a Langevin step, float `[B]`."""
    if self.corrector == 'annealed':
      return jnp.broadcast_to(2 * (self.snr * sigma) ** 2, score.shape[:1])
    # |z|^2 / |score|^2, so that the signal to noise ratio of the step is `snr` at every level.
    axes = tuple(range(1, z.ndim))
    ratio = jnp.square(z).sum(axes) / jnp.maximum(jnp.square(score).sum(axes), 1e-20)
    return 2 * self.snr**2 * ratio


@dataclasses.dataclass(frozen=True)
class AdaptiveODE:
  """The probability flow ODE from timesteps[0] to t_min, then x_0 as predicted there.

  rtol, atol: the tolerances of a step. Other timesteps than the first are ignored.
  """

  rtol: float = 1e-5
  atol: float = 1e-5

  def __post_init__(self):
    for name in ('rtol', 'atol'):
      value = getattr(self, name)
      require(0 < value < np.inf, name, value, 'must be a number > 0')

  def num_evaluations(self, num_steps: int) -> None:
    return None

  def __call__(self, denoiser, x, keys, timesteps, *, trajectory=False, constraint=None):
    if trajectory or constraint:
      raise ValueError("sampler.name='ode': has no trajectory on timesteps and no constraints")
    # Not to 0: the velocity divides by sigma, and below t_min no network was trained.
    start, end = float(timesteps[0]), denoiser.process.t_min
    x = ode.solve(denoiser.velocity, x, start, end, rtol=self.rtol, atol=self.atol).y
    return denoiser.x0(x, jnp.full(x.shape[:1], end, x.dtype))


SAMPLERS: dict[str, Callable[..., Sampler]] = {
  'ancestral': Ancestral,
  'ddim': DDIM,
  'euler_maruyama': EulerMaruyama,
  'predictor_corrector': PredictorCorrector,
  'heun': Heun,
  'dpm_solver': DPMSolver,
  'multistep': Multistep,
  'ode': AdaptiveODE,
}


# -------- latents, batches --------


def sample_in_batches(sample: Callable[[Any], Any], keys: Any, batch_size: int) -> Any:
  """Returns sample(keys) for any number of keys `[N]`, an array `[N, ...]` or several, as NumPy.

  `sample` is a compiled function of keys `[batch_size]`. The last batch is padded, so there is one
  compilation; as an image depends on its key alone, neither batch_size nor N changes it.
  """
  count = keys.shape[0]
  batches = []
  for start in range(0, count, batch_size):
    index = np.minimum(np.arange(start, start + batch_size), count - 1)  # the last key fills up
    batches.append(jax.device_get(sample(keys[index])))
  return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *batches)


def encode(denoiser: Denoiser, x: Array, *, rtol: float = 1e-5, atol: float = 1e-5) -> Array:
  """Returns the latents x_T `[B, ...]` of images by the probability flow ODE from t_min to T."""
  process = denoiser.process
  return ode.solve(denoiser.velocity, x, process.t_min, process.T, rtol=rtol, atol=atol).y


def slerp(a: Array, b: Array, fraction) -> Array:
  """Interpolates latents `[B, ...]` on the great circle, a at 0 to b at 1 (DDIM, section 5.3)."""
  axes = tuple(range(1, a.ndim))
  # On the straight line between them the norm would shrink, half way to 0.7 of it: noise unlike
  # any that was seen in training.
  norms = jnp.sqrt(jnp.square(a).sum(axes) * jnp.square(b).sum(axes))
  cosine = jnp.clip((a * b).sum(axes) / norms, -1 + 1e-6, 1 - 1e-6)
  # The clip keeps sin(angle) off 0, for latents that are equal or opposite.
  angle = expand_like(jnp.arccos(cosine), a)
  return (jnp.sin((1 - fraction) * angle) * a + jnp.sin(fraction * angle) * b) / jnp.sin(angle)
