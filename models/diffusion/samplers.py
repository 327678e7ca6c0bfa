"""Samplers: from noise x_T `[B, ...]` to images, in one compiled loop over a grid of times.

A sampler knows a network as a `Denoiser`. Randomness is of keys `[B]`, one an image, so that an
image does not depend on the others of its batch; `in_chunks` makes any number of them with one
compilation.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import ode, solvers
from models.diffusion.parameterization import Denoiser
from models.diffusion.process import Process, like

# (x `[B, ...]`, alpha, sigma, noise like x) to x with what is known put in at that level.
Constraint = Callable[[Array, Array, Array, Array], Array]


class Sampler(Protocol):
  def evaluations(self, steps: int) -> int | None:
    """Of the network, an image, with a grid of so many times; None where they depend on it."""

  def __call__(
    self,
    denoiser: Denoiser,
    x: Array,
    keys: Array,
    times: np.ndarray,
    *,
    path: bool = False,
    constraint: Constraint | None = None,
  ) -> Array:
    """Images `[B, ...]`, or with `path` all states `[N + 1, B, ...]`, x and the images included.

    x: `[B, ...]` at times[0]. keys: `[B]`. times: `[N]` of `solvers.grid`, concrete.
    """


def normal(keys: Array, index, x: Array) -> Array:
  """Noise like x `[B, ...]`, the index-th of each key's."""
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
  return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)


def run(
  denoiser: Denoiser,
  table: solvers.Table,
  x: Array,
  keys: Array,
  *,
  path: bool = False,
  constraint: Constraint | None = None,
  correct: Callable[[Array, dict[str, Array]], Array] | None = None,
) -> Array:
  """The loop of all samplers that are tables. correct: changes x before each evaluation."""
  rows = {k: jnp.asarray(v, x.dtype) for k, v in vars(table).items() if v is not None}
  rows['index'] = jnp.arange(len(table.time))
  noisy = bool(np.any(table.noise))

  def step(carry, row):
    x, kept, past = carry
    x = correct(x, row) if correct else x
    x0, v = denoiser.x0_and_v(x, jnp.full(x.shape[:1], row['time']))
    past = (x0, *past[:-1])
    x, kept = _combine(row, x, kept, past)
    if noisy:
      x += _deviation(row, v) * normal(keys, 4 * row['index'], x)
    if constraint:
      x = constraint(x, row['alpha'], row['sigma'], normal(keys, 4 * row['index'] + 1, x))
    return (x, kept, past), x if path else None

  if constraint:
    noise = normal(keys, 4 * len(table.time) + 1, x)
    x = constraint(x, *_level(denoiser, table.time[0], x), noise)
  zeros = jnp.zeros_like(x)
  (last, _, _), states = lax.scan(step, (x, zeros, (zeros,) * table.x0.shape[1]), rows)
  return _path(table, x, states) if path else last


def _combine(row, x, kept, past):
  """(x, kept) after a table's row, but for the noise; past: x_0 as last seen, the newest first."""

  def weighted(weights):
    return sum(weights[j] * x0 for j, x0 in enumerate(past))

  new = row['state'] * x + weighted(row['x0'])
  if 'anchor' not in row:
    return new, kept
  kept = row['keep'] * x + row['keep_kept'] * kept
  if 'keep_x0' in row:
    kept += weighted(row['keep_x0'])
  return new + row['anchor'] * kept, kept


def _path(table, x, states):
  if table.whole is not None:
    states = states[np.flatnonzero(table.whole)]
  return jnp.concatenate([x[None], states])


def _level(denoiser, t, x):
  """(alpha, sigma), of the dtype of x, at a number t."""
  process = denoiser.process
  return [jnp.asarray(c, x.dtype) for c in (process.alpha(t), process.sigma(t))]


def _deviation(row, v):
  """What the noise is multiplied with: a number, or of each element where v tells it."""
  if 'wide' not in row:
    return row['noise']
  if v is None:
    raise ValueError("sampler.variance='learned': the network predicts no variance")
  log_std = (1 - v) * jnp.log(row['noise']) + v * jnp.log(row['wide'])
  return jnp.where(row['noise'] > 0, jnp.exp(log_std), 0.0)


class Tabled:
  """A sampler that is a table, with an evaluation a time of the grid."""

  def table(self, process: Process, times: np.ndarray) -> solvers.Table:
    raise NotImplementedError

  def evaluations(self, steps: int) -> int:
    return steps

  def __call__(self, denoiser, x, keys, times, *, path=False, constraint=None) -> Array:
    table = self.table(denoiser.process, times)
    return run(denoiser, table, x, keys, path=path, constraint=constraint)


VARIANCES = ('small', 'large', 'learned')


def check(holds: bool, name: str, value, rule: str) -> None:
  if not holds:
    raise ValueError(f'sampler.{name}={value!r}: {rule}')


@dataclasses.dataclass(frozen=True)
class Ancestral(Tabled):
  """variance: 'small' (beta-tilde), 'large' (beta), 'learned' (Nichol and Dhariwal 2021)."""

  variance: str = 'small'

  def __post_init__(self):
    choices = f'choose from {", ".join(VARIANCES)}'
    check(self.variance in VARIANCES, 'variance', self.variance, choices)

  def table(self, process, times):
    return solvers.ancestral(process, times, self.variance)


@dataclasses.dataclass(frozen=True)
class DDIM(Tabled):
  """eta: in [0, 1]; 0 adds no noise, 1 as much as ancestral sampling."""

  eta: float = 0.0

  def __post_init__(self):
    check(0 <= self.eta <= 1, 'eta', self.eta, 'must be in [0, 1]')

  def table(self, process, times):
    return solvers.ddim(process, times, self.eta)


@dataclasses.dataclass(frozen=True)
class EulerMaruyama(Tabled):
  def table(self, process, times):
    return solvers.euler_maruyama(process, times)


@dataclasses.dataclass(frozen=True)
class DPMSolver(Tabled):
  """DPM-Solver++(2M)."""

  def table(self, process, times):
    return solvers.dpm_solver_2m(process, times)


@dataclasses.dataclass(frozen=True)
class Multistep(Tabled):
  """`solvers.multistep`: an exponential Adams method of this order with a last step to match."""

  order: int = 4
  knee: float = 0.5

  def __post_init__(self):
    check(1 <= self.order <= 8, 'order', self.order, 'must be in 1..8')
    check(self.knee > 0, 'knee', self.knee, 'must be a noise level > 0')

  def table(self, process, times):
    return solvers.multistep(process, times, self.order, self.knee)


@dataclasses.dataclass(frozen=True)
class Heun(Tabled):
  """Karras 2022, algorithm 2: S_churn, S_min, S_max, S_noise are its parameters.

  churn 0 is the deterministic sampler of algorithm 1.
  """

  churn: float = 0.0
  churn_min: float = 0.0
  churn_max: float = float('inf')
  noise: float = 1.0

  def __post_init__(self):
    check(self.churn >= 0, 'churn', self.churn, 'must be >= 0')

  def evaluations(self, steps: int) -> int:
    return 2 * steps - 1

  def table(self, process, times):
    return solvers.heun(process, times, self.churn, self.churn_min, self.churn_max, self.noise)


PREDICTORS = {
  'reverse_diffusion': solvers.reverse_diffusion,
  'euler_maruyama': solvers.euler_maruyama,
  'ancestral': lambda process, times: solvers.ancestral(process, times, 'small'),
  'ddim': lambda process, times: solvers.ddim(process, times, 0.0),
}


CORRECTORS = ('langevin', 'annealed')


@dataclasses.dataclass(frozen=True)
class PredictorCorrector:
  """Song 2021, algorithms 2 to 5: Langevin steps at each level before its predictor.

  corrector: how long a step is. 'langevin': 2 (snr |z| / |score|)², the paper's, of each image's
    own norms, where its code takes the batch's means: for many dimensions. 'annealed':
    2 (snr sigma)² (Song and Ermon 2019, arXiv 1907.05600, algorithm 1), the same for all.
  snr: the paper's r. corrections: Langevin steps a level.
  """

  predictor: str = 'reverse_diffusion'
  corrector: str = 'langevin'
  snr: float = 0.16
  corrections: int = 1

  def __post_init__(self):
    choices = f'choose from {", ".join(PREDICTORS)}'
    check(self.predictor in PREDICTORS, 'predictor', self.predictor, choices)
    choices = f'choose from {", ".join(CORRECTORS)}'
    check(self.corrector in CORRECTORS, 'corrector', self.corrector, choices)
    check(self.snr > 0, 'snr', self.snr, 'must be > 0')
    check(self.corrections >= 0, 'corrections', self.corrections, 'must be >= 0')

  def evaluations(self, steps: int) -> int:
    return steps * (1 + self.corrections)

  def __call__(self, denoiser, x, keys, times, *, path=False, constraint=None):
    table = PREDICTORS[self.predictor](denoiser.process, times)

    def correct(x, row):
      level = _level(denoiser, row['time'], x)
      t = jnp.full(x.shape[:1], row['time'])

      def langevin(i, x):
        index = 4 * (row['index'] * self.corrections + i)
        score, z = denoiser.score(x, t), normal(keys, index + 2, x)
        size = like(self._size(score, z, level[1]), x)
        x = x + size * score + jnp.sqrt(2 * size) * z
        return constraint(x, *level, normal(keys, index + 3, x)) if constraint else x

      return lax.fori_loop(0, self.corrections, langevin, x)

    correct = correct if self.corrections else None
    return run(denoiser, table, x, keys, path=path, constraint=constraint, correct=correct)

  def _size(self, score, z, sigma):
    """float `[B]`: of a Langevin step."""
    if self.corrector == 'annealed':
      return jnp.broadcast_to(2 * (self.snr * sigma) ** 2, score.shape[:1])
    axes = tuple(range(1, z.ndim))
    ratio = jnp.square(z).sum(axes) / jnp.maximum(jnp.square(score).sum(axes), 1e-20)
    return 2 * self.snr**2 * ratio


@dataclasses.dataclass(frozen=True)
class AdaptiveODE:
  """The probability flow by an adaptive method, from times[0] to t_min, then x_0 as seen there.

  Of the grid only its ends count.
  """

  rtol: float = 1e-5
  atol: float = 1e-5

  def evaluations(self, steps: int) -> None:
    return None

  def __call__(self, denoiser, x, keys, times, *, path=False, constraint=None):
    if path or constraint:
      raise ValueError("sampler.name='ode': it has no grid, hence no path, and takes no constraint")
    ends = (float(times[0]), denoiser.process.t_min)
    x = ode.solve(denoiser.velocity, x, *ends, rtol=self.rtol, atol=self.atol).y
    return denoiser.x0(x, jnp.full(x.shape[:1], ends[1], x.dtype))


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


def build(name: str, **kwargs) -> Sampler:
  """The sampler of that name, e.g. `build('ddim', eta=0.5)`.

  Raises ValueError for an unknown name, and for values that the sampler refuses.
  """
  check(name in SAMPLERS, 'name', name, f'choose from {", ".join(SAMPLERS)}')
  return SAMPLERS[name](**kwargs)


def in_chunks(make: Callable[[Array], Array], keys: Array, chunk: int) -> np.ndarray:
  """make(keys `[chunk]`), a compiled function, over any number of keys `[N]`: `[N, ...]` in NumPy.

  Every call has `chunk` keys, the last one's filled up, so there is one compilation; as each image
  is of its key alone, neither `chunk` nor N changes it.
  """
  count = keys.shape[0]
  parts = []
  for start in range(0, count, chunk):
    index = np.minimum(np.arange(start, start + chunk), count - 1)
    parts.append(np.asarray(make(keys[index])))
  return np.concatenate(parts)[:count]


def encode(denoiser: Denoiser, x: Array, *, rtol: float = 1e-5, atol: float = 1e-5) -> Array:
  """The latents x_T `[B, ...]` of images by the probability flow, from t_min on."""
  process = denoiser.process
  return ode.solve(denoiser.velocity, x, process.t_min, process.T, rtol=rtol, atol=atol).y


def slerp(a: Array, b: Array, share) -> Array:
  """Between latents `[B, ...]` on the great circle: a at share 0, b at 1 (DDIM, section 5.3)."""
  axes = tuple(range(1, a.ndim))
  norms = jnp.sqrt(jnp.square(a).sum(axes) * jnp.square(b).sum(axes))
  angle = like(jnp.arccos(jnp.clip((a * b).sum(axes) / norms, -1 + 1e-6, 1 - 1e-6)), a)
  return (jnp.sin((1 - share) * angle) * a + jnp.sin(share * angle) * b) / jnp.sin(angle)
