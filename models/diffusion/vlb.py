"""The discrete variational bound of a chain of denoising steps: Ho 2020, eq. 5, of any process.

`bpd_vlb` figures are made here. The chain is a grid of times: DDPM's own, or fewer of them (Nichol
and Dhariwal 2021, arXiv 2102.09672, section 4).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import solvers
from models.diffusion.parameterization import Denoiser
from models.diffusion.process import like
from models.diffusion.samplers import normal


class Bound(NamedTuple):
  """Float `[B]` each, in bits a dimension."""

  prior: Array  # KL(q(x_T | x_0) || p(x_T))
  diffusion: Array  # sum of KL(q(x_s | x_t, x_0) || p(x_s | x_t))
  reconstruction: Array  # -log p(x_0 | x_t) at the least t

  @property
  def total(self) -> Array:
    return self.prior + self.diffusion + self.reconstruction


@dataclasses.dataclass(frozen=True)
class Chain:
  """The reverse steps p(x_s | x_t), float64 `[N]` each; the last goes to the clean image.

  small, large: the logarithms of beta-tilde and beta (Ho 2020, section 3.2). At the last step,
  where beta-tilde is 0, it is the step's before, as in Nichol and Dhariwal's section 3.1.
  state, x0: the mean of q(x_s | x_t, x_0) is state x_t + x0 x_0.
  """

  t: np.ndarray
  state: np.ndarray
  x0: np.ndarray
  small: np.ndarray
  large: np.ndarray


def chain(process, times: np.ndarray) -> Chain:
  table = solvers.ancestral(process, times, 'small')
  steps = solvers.steps_of(process, times)
  small = 2 * np.log(np.append(table.noise[:-1], table.noise[-2]))
  return Chain(table.time, table.state, table.x0[:, 0], small, np.log(steps.gained))


def log_variance(row, variance: str, v: Array | None):
  """Of p(x_s | x_t): a number, or `[B, ...]` if 'learned', from v (Nichol 2021, eq. 15)."""
  if variance != 'learned':
    return row[variance]
  if v is None:
    raise ValueError("variance='learned': the network predicts no variance")
  return (1 - v) * row['small'] + v * row['large']


def kl(row, error: Array, log_var) -> Array:
  """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) in nats, of each element `[B, ...]`.

  row: of a `Chain`. error: what the predicted x_0 is beside the true one.
  """
  scaled = jnp.square(row['x0'] * error) * jnp.exp(-log_var)
  ratio = row['small'] - log_var
  return 0.5 * (jnp.exp(ratio) - 1 - ratio + scaled)


def decoder_nats(x0: Array, mean: Array, log_var, *, count: int = 256) -> Array:
  """-log p(x_0) in nats `[B, ...]`: a Gaussian's mass in each level's bin (Ho 2020, eq. 13).

  x0: level k of 0..count - 1 is 2 k / (count - 1) - 1; the outer bins reach to infinity.
  """
  inverse = jnp.exp(-0.5 * log_var)
  upper, lower = ((x0 - mean + side / (count - 1)) * inverse for side in (1, -1))
  log_cdf, log_above = jax.scipy.stats.norm.logcdf(upper), jax.scipy.stats.norm.logsf(lower)
  # In the upper tail the two probabilities above are subtracted, else the two below: both small.
  flipped = lower > 0
  high = jnp.where(flipped, jax.scipy.stats.norm.logsf(lower), jax.scipy.stats.norm.logcdf(upper))
  low = jnp.where(flipped, jax.scipy.stats.norm.logsf(upper), jax.scipy.stats.norm.logcdf(lower))
  inner = high + jnp.log1p(-jnp.exp(jnp.minimum(low - high, -1e-7)))
  level = (x0 + 1) * (count - 1) / 2
  return -jnp.where(level < 0.5, log_cdf, jnp.where(level > count - 1.5, log_above, inner))


def bpd_vlb(
  denoiser: Denoiser,
  x0: Array,
  keys: Array,
  times: np.ndarray,
  *,
  variance: str = 'small',
  count: int = 0,
) -> Bound:
  """The bound for images x0 `[B, ...]` of 256 levels in [-1, 1], with one draw of noise a time.

  times: `[N]`, a grid's. variance: of p(x_s | x_t), 'small', 'large' or 'learned'.
  count: so many of the diffusion terms are drawn for each image and weighted, which leaves their
    sum without bias; 0: all of them.
  """
  steps = chain(denoiser.process, times)
  values = {name: jnp.asarray(value, x0.dtype) for name, value in vars(steps).items()}

  def look(number, index):
    """(rows, the prediction of x_0, the variance's logarithm) from noise at the indexed times."""
    t = values['t'][index]
    x = denoiser.process.marginal(x0, t, normal(keys, number, x0))
    mean, v = denoiser.x0_and_v(x, t)
    row = {name: like(value[index], x0) for name, value in values.items()}
    return row, mean, log_variance(row, variance, v)

  def add(total, drawn):
    number, index, weight = drawn
    row, mean, log_var = look(number, index)
    last = index == len(steps.t) - 1
    decoded = _sum(decoder_nats(x0, mean, jnp.broadcast_to(log_var, x0.shape)))
    term = weight * _sum(jnp.broadcast_to(kl(row, x0 - mean, log_var), x0.shape))
    diffusion, reconstruction = total
    return (diffusion + jnp.where(last, 0, term), jnp.where(last, decoded, reconstruction)), None

  zeros = jnp.zeros(x0.shape[:1], x0.dtype)
  drawn = _terms(denoiser.process, times, keys, count, x0.dtype)
  (diffusion, reconstruction), _ = lax.scan(add, (zeros, zeros), drawn)
  scale = x0[0].size * np.log(2)
  terms = (prior_nats(denoiser.process, x0, times[0]), diffusion, reconstruction)
  return Bound(*(term / scale for term in terms))


def _terms(process, times: np.ndarray, keys: Array, count: int, dtype):
  """(number `[K]`, step `[K, B]`, weight `[K, B]`) of the terms, the reconstruction last."""
  last = len(times) - 1
  if count == 0:
    step = jnp.broadcast_to(jnp.arange(last + 1)[:, None], (last + 1, len(keys)))
    return jnp.arange(last + 1), step, jnp.ones(step.shape, dtype)
  odds = _odds(process, times)
  shift = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, last + 1)))(keys)
  # One shifted lattice an image, of the distribution's quantiles.
  u = (jnp.arange(count)[:, None] + shift[None]) / count
  step = jnp.searchsorted(jnp.asarray(odds.cumsum()[:-1], u.dtype), u, side='right')
  weight = jnp.asarray(1 / (count * odds), dtype)[step]
  step, weight = (
    jnp.concatenate([x, jnp.full((1, len(keys)), end, x.dtype)])
    for x, end in ((step, last), (weight, 1))
  )
  return jnp.arange(count + 1), step, weight


def _odds(process, times: np.ndarray) -> np.ndarray:
  """float64 `[N - 1]`: of drawing each step but the last, which is no diffusion term.

  Four in five as such a term would be for Gaussian data of the deviation 0.5 (Kingma 2021, eq. 13).
  """
  snr = np.exp(process.log_snr(times))
  cost = np.diff(snr) / (4 + snr[:-1])
  return 0.8 * cost / cost.sum() + 0.2 / len(cost)


def prior_nats(process, x0: Array, t: float) -> Array:
  """float `[B]`: KL(q(x_t | x_0) || N(0, prior_std² I))."""
  alpha, sigma = (float(c) / process.prior_std for c in (process.alpha(t), process.sigma(t)))
  return _sum(0.5 * (sigma**2 + (alpha * x0) ** 2 - 1) - np.log(sigma))


def _sum(x):
  return x.reshape(x.shape[0], -1).sum(1)
