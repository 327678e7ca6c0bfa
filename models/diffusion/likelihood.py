"""Log-likelihoods by the probability flow (Song et al. 2021, arXiv 2011.13456, section D.2).

`bpd_ode` figures are made here, `bpd_vlb` ones in `bound`: the first are likelihoods of the flow's
own density, up to the solver's error and the probes', the second an upper bound for a chain.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models import ops
from models.diffusion import ode
from models.diffusion.parameterization import Denoiser


class Likelihood(NamedTuple):
  """log_prob: float `[B]` in nats, of the density at t_min. latent: `[B, ...]`, x_T.

  error: float `[B]`, the standard error of log_prob that its probes leave: 0 with the exact trace,
    NaN with a single probe, which cannot tell.
  evaluations: int32 `[B]` of the velocity and its divergence.
  """

  log_prob: Array
  error: Array
  evaluations: Array
  latent: Array


def log_prob(
  denoiser: Denoiser,
  x: Array,
  keys: Array | None = None,
  *,
  probes: int = 0,
  rtol: float = 1e-5,
  atol: float = 1e-5,
) -> Likelihood:
  """The likelihood of x `[B, ...]`, solved and compiled as one loop on the device.

  probes: 0 for the exact trace of the Jacobian, at the price of as many products with it as x has
    elements; else the number of Rademacher vectors in Hutchinson's estimate, the same along the
    whole path, drawn from keys `[B]`.

  Products are in forward mode: a gradient would run a convolution's slow backward pass in a loop.
  """
  vectors = None if probes == 0 else _rademacher(keys, probes, x)

  def field(state, t):
    with ops.use('plain'):  # the CPU's forms know no forward mode
      velocity, push = jax.linearize(lambda x: denoiser.velocity(x, t), state[0])
    if vectors is None:
      return velocity, _exact_trace(push, x)
    return velocity, _hutchinson(push, vectors)

  gain = jnp.zeros((x.shape[0], max(probes, 1)), x.dtype)  # of log-density, by each probe
  ends = denoiser.process.t_min, denoiser.process.T
  (latent, gain), evaluations = ode.solve(field, (x, gain), *ends, rtol=rtol, atol=atol)
  error = jnp.zeros_like(gain[:, 0]) if probes == 0 else _standard_error(gain)
  value = denoiser.process.prior_log_prob(latent) + gain.mean(1)
  return Likelihood(value, error, evaluations, latent)


def _rademacher(keys, probes, x):
  draw = functools.partial(jax.random.rademacher, shape=(probes, *x.shape[1:]), dtype=x.dtype)
  return jax.vmap(draw, out_axes=1)(keys)  # [K, B, ...]


def _hutchinson(push, vectors):
  """float `[B, K]`: v J v of each probe (Hutchinson 1989)."""
  pushed = jax.vmap(push)(vectors)
  return (vectors * pushed).reshape(*vectors.shape[:2], -1).sum(-1).T


def _exact_trace(push, x, chunk=64):
  """float `[B, 1]`: the sum of the Jacobian's diagonal, `chunk` of its columns at a time."""
  size = x[0].size

  def entry(i):
    basis = jax.nn.one_hot(i, size, dtype=x.dtype).reshape(x.shape[1:])
    return push(jnp.broadcast_to(basis, x.shape)).reshape(x.shape[0], size)[:, i]

  return jax.lax.map(entry, jnp.arange(size), batch_size=min(chunk, size)).sum(0)[:, None]


def _standard_error(values):
  """float `[B]` of the mean of values `[B, K]`."""
  count = values.shape[1]
  if count == 1:
    return jnp.full_like(values[:, 0], jnp.nan)
  return values.std(1, ddof=1) / np.sqrt(count)


# -------- images of 8 bits: level k of 0..255 is the number 2 k / 255 - 1 --------


def dequantize(levels: Array, keys: Array, *, count: int = 256) -> Array:
  """float32 `[B, ...]`: integer levels, each spread uniformly over its bin of width 2 / 255.

  The bins touch, so [-1, 1] grows by half a bin at both ends.
  """
  spread = jax.vmap(lambda key: jax.random.uniform(key, levels.shape[1:]))(keys)
  return 2 * (levels + spread - 0.5) / (count - 1) - 1


def bits_per_dim(log_prob: Array, dims: int, *, count: int = 256) -> Array:
  """float `[B]`, in bits a dimension, of integer levels from the density `[B]` after `dequantize`.

  On average at least the entropy of the levels: an upper bound for the discrete model that this
  density makes (Theis et al. 2016, arXiv 1511.01844, section 3.1). The offset is the bin's width:
  a density of one bin's mass is log2(255 / 2) = 6.994 bits above the mass.
  """
  return -log_prob / (dims * np.log(2)) + np.log2((count - 1) / 2)


def mean_and_error(values: Array | np.ndarray) -> tuple[float, float]:
  """The mean of values `[N]` of a data set and its standard error."""
  values = np.asarray(values, np.float64)
  return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
