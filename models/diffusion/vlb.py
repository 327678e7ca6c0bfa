"""The variational bound of a chain of denoising steps (Ho 2020, eq. 5), for any process.

The metric `bpd_vlb` is computed here. The chain is a sequence of timesteps: DDPM's own, or fewer
(Nichol and Dhariwal 2021, arXiv 2102.09672, section 4).
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import solvers
from models.diffusion import timesteps as timesteps_lib
from models.diffusion.denoiser import Denoiser
from models.diffusion.process import Process, expand_like
from models.diffusion.table_sampler import normal_like

CHAIN_STEPS = 1000  # where the process has no steps of its own
CHAIN_LEVEL = 0.01  # the smallest noise level of that chain, for images in [-1, 1]


class Bound(NamedTuple):
  """The terms of the bound, float `[B]` each, in bits per dimension."""

  prior: Array  # KL(q(x_T | x_0) || p(x_T))
  diffusion: Array  # sum of KL(q(x_s | x_t, x_0) || p(x_s | x_t))
  reconstruction: Array  # -log p(x_0 | x_t) at the smallest t

  @property
  def total(self) -> Array:
    return self.prior + self.diffusion + self.reconstruction


@dataclasses.dataclass(frozen=True)
class Chain:
  """The reverse steps p(x_s | x_t), float64 `[N]` each; the last goes to the clean image.

  t: the time at which a step starts.
  coef_xt, coef_x0: the mean of q(x_s | x_t, x_0) is coef_xt x_t + coef_x0 x_0 (Ho 2020, eq. 7).
  log_var_small, log_var_large: the logarithms of beta-tilde and beta (Ho 2020, section 3.2). In the
    last step, where beta-tilde is 0, the value of the step before (Nichol 2021, section 3.1).
  """

  t: np.ndarray
  coef_xt: np.ndarray
  coef_x0: np.ndarray
  log_var_small: np.ndarray
  log_var_large: np.ndarray


def reverse_chain(process: Process, timesteps: np.ndarray) -> Chain:
  """Returns the reverse steps between timesteps `[N]`."""
  table = solvers.ancestral(process, timesteps, 'small')
  log_var_large = np.log(solvers.make_steps(process, timesteps).var_ts)
  log_var_small = 2 * np.log(np.append(table.noise[:-1], table.noise[-2]))
  return Chain(table.t, table.x_from_x, table.x_from_x0[:, 0], log_var_small, log_var_large)


def chain_timesteps(process: Process) -> np.ndarray:
  """Returns the bound's chain `[N]`: the process's own steps, or CHAIN_STEPS uniform in log_snr.

  The latter ends at about the noise level of DDPM's last step. Less noise is finer than the values
  of a byte, and a chain that goes on pays bits for nothing.
  """
  if process.discrete_steps:
    return timesteps_lib.uniform(process, process.discrete_steps)
  ends = np.array([process.T, process.t_min])
  first, last = timesteps_lib.noise_level(process, ends)
  levels = np.geomspace(first, max(last, CHAIN_LEVEL), CHAIN_STEPS)
  return timesteps_lib.time_of_noise_level(process, levels)


def log_variance(row: Mapping[str, Array], variance: str, v: Array | None) -> Array:
  """Returns the logarithm of the variance of p(x_s | x_t).

  row: of a `Chain`, by the names of its fields. variance: 'small', 'large', or 'learned', which
    interpolates with v `[B, ...]` (Nichol 2021, eq. 15).
  """
  if variance != 'learned':
    return row[f'log_var_{variance}']
  if v is None:
    raise ValueError("variance='learned': the network predicts no variance")
  return (1 - v) * row['log_var_small'] + v * row['log_var_large']


def kl(row: Mapping[str, Array], x0_error: Array, log_var: Array) -> Array:
  """Returns KL(q(x_s | x_t, x_0) || p(x_s | x_t)) of each element `[B, ...]`, in nats.

  row: of a `Chain`. x0_error: `[B, ...]`, x_0 less its prediction. log_var: of p.
  """
  scaled = jnp.square(row['coef_x0'] * x0_error) * jnp.exp(-log_var)
  ratio = row['log_var_small'] - log_var
  return 0.5 * (jnp.exp(ratio) - 1 - ratio + scaled)


def decoder_nats(x0: Array, mean: Array, log_var: Array, *, count: int = 256) -> Array:
  """Returns -log p(x_0 | x_t) `[B, ...]` in nats: a Gaussian's mass in x_0's bin (Ho 2020, eq. 13).

  x0: `[B, ...]` values 2 k / (count - 1) - 1 of bytes k; the outer bins reach to infinity. mean,
    log_var: of the Gaussian.
  """
  inverse = jnp.exp(-0.5 * log_var)
  upper, lower = ((x0 - mean + side / (count - 1)) * inverse for side in (1, -1))
  log_cdf, log_above = jax.scipy.stats.norm.logcdf(upper), jax.scipy.stats.norm.logsf(lower)
  # Probabilities of the same tail are subtracted, the upper one if the bin lies above the mean: in
  # the other tail both would be nearly 1.
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
  timesteps: np.ndarray,
  *,
  variance: str = 'small',
  num_terms: int = 0,
) -> Bound:
  """Returns an unbiased estimate of the bound, one draw of noise for each term (Ho 2020, eq. 5).

  Args:
    denoiser: the model.
    x0: `[B, ...]` 8-bit images in [-1, 1].
    keys: `[B]`, one per image.
    timesteps: `[N]` decreasing times of the chain.
    variance: of p(x_s | x_t), 'small', 'large' or 'learned'.
    num_terms: how many of the N - 1 diffusion terms are drawn for each image, weighted by the
      inverse of their probability; 0 for all.
  """
  chain = reverse_chain(denoiser.process, timesteps)
  values = {name: jnp.asarray(value, x0.dtype) for name, value in vars(chain).items()}

  def predict(stream, index):
    """Returns (rows, predicted x_0, log variance) from noisy images at the steps index `[B]`."""
    t = values['t'][index]
    x = denoiser.process.add_noise(x0, t, normal_like(keys, stream, x0))
    mean, v = denoiser.x0_and_v(x, t)
    row = {name: expand_like(value[index], x0) for name, value in values.items()}
    return row, mean, log_variance(row, variance, v)

  def add(total, term):
    stream, index, weight = term
    row, mean, log_var = predict(stream, index)
    is_last = index == len(chain.t) - 1
    decoder = _sum(decoder_nats(x0, mean, jnp.broadcast_to(log_var, x0.shape)))
    nats = weight * _sum(jnp.broadcast_to(kl(row, x0 - mean, log_var), x0.shape))
    diffusion, reconstruction = total
    diffusion += jnp.where(is_last, 0, nats)
    return (diffusion, jnp.where(is_last, decoder, reconstruction)), None

  zeros = jnp.zeros(x0.shape[:1], x0.dtype)
  drawn = _draw_terms(denoiser.process, timesteps, keys, num_terms, x0.dtype)
  (diffusion, reconstruction), _ = lax.scan(add, (zeros, zeros), drawn)
  scale = x0[0].size * np.log(2)
  terms = (prior_nats(denoiser.process, x0, timesteps[0]), diffusion, reconstruction)
  return Bound(*(term / scale for term in terms))


def _draw_terms(process, timesteps: np.ndarray, keys: Array, count: int, dtype):
  """Draws (noise stream `[K]`, step `[K, B]`, weight `[K, B]`), the reconstruction's last."""
  last = len(timesteps) - 1
  if count == 0:
    step = jnp.broadcast_to(jnp.arange(last + 1)[:, None], (last + 1, len(keys)))
    return jnp.arange(last + 1), step, jnp.ones(step.shape, dtype)
  probs = _term_probs(process, timesteps)
  shift = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, last + 1)))(keys)
  # One lattice per image with a random shift, mapped by the quantiles of the distribution.
  u = (jnp.arange(count)[:, None] + shift[None]) / count
  step = jnp.searchsorted(jnp.asarray(probs.cumsum()[:-1], u.dtype), u, side='right')
  weight = jnp.asarray(1 / (count * probs), dtype)[step]
  step, weight = (
    jnp.concatenate([x, jnp.full((1, len(keys)), end, x.dtype)])
    for x, end in ((step, last), (weight, 1))
  )
  return jnp.arange(count + 1), step, weight


def _term_probs(process, timesteps: np.ndarray) -> np.ndarray:
  """Returns the probability of drawing each diffusion term, float64 `[N - 1]`.

  With probability 0.8 proportional to what the term is for Gaussian data of standard deviation 0.5
  (Kingma 2021, eq. 13), else uniform.
  """
  snr = np.exp(process.log_snr(timesteps))
  cost = np.diff(snr) / (4 + snr[:-1])
  return 0.8 * cost / cost.sum() + 0.2 / len(cost)


def prior_nats(process: Process, x0: Array, t: float) -> Array:
  """Returns KL(q(x_t | x_0) || N(0, prior_std² I)), float `[B]` in nats."""
  alpha, sigma = (float(c) / process.prior_std for c in (process.alpha(t), process.sigma(t)))
  return _sum(0.5 * (sigma**2 + (alpha * x0) ** 2 - 1) - np.log(sigma))


def _sum(x):
  return x.reshape(x.shape[0], -1).sum(1)
