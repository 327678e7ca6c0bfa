"""Log-likelihoods by the probability flow ODE (Song et al. 2021, arXiv 2011.13456, section D.2).

The metric `bpd_ode` is computed here: the likelihood under the flow's own density, up to the errors
of the solver and of the trace estimate. `bpd_vlb`, an upper bound for a chain of denoising steps,
is computed in `vlb`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from models import ops
from models.diffusion import ode
from models.diffusion.denoiser import Denoiser


class Likelihood(NamedTuple):
  """Log-likelihoods of a batch.

  log_prob: float `[B]` in nats, of the density at t_min.
  error: float `[B]`, the standard error of log_prob due to the trace estimate: 0 with the exact
    trace, NaN with a single probe, from which it cannot be estimated.
  num_evaluations: int32 `[B]`, evaluations of the velocity and its divergence.
  latent: `[B, ...]`, x_T.
  """

  log_prob: Array
  error: Array
  num_evaluations: Array
  latent: Array


def log_prob(
  denoiser: Denoiser,
  x: Array,
  keys: Array | None = None,
  *,
  num_probes: int = 0,
  rtol: float = 1e-5,
  atol: float = 1e-5,
) -> Likelihood:
  """Returns the log-likelihood of x `[B, ...]` (Song et al. 2021, eq. 39 and 40).

  The state and its log-density are integrated together, in one loop on the device.

  Args:
    denoiser: the model.
    x: `[B, ...]` dequantized images at t_min.
    keys: `[B]`, for the probes; may be None without any.
    num_probes: Rademacher vectors in Hutchinson's estimate of the divergence, fixed along the whole
      trajectory; 0 for the exact trace, which needs as many Jacobian products as x has elements.
    rtol: relative tolerance of the ODE solver.
    atol: absolute tolerance of the ODE solver.
  """
  # Fixed over the trajectory: probes that change would be noise to the solver's error estimate.
  vectors = None if num_probes == 0 else _rademacher(keys, num_probes, x)

  def field(state, t):
    # Products with the Jacobian are in forward mode, since a gradient would run the slow backward
    # pass of a convolution in a loop. The formulations for CPUs have no forward mode.
    with ops.use('plain'):
      # Linearised once, for all probes of this evaluation.
      velocity, push = jax.linearize(lambda x: denoiser.velocity(x, t), state[0])
    if vectors is None:
      return velocity, _exact_trace(push, x)
    return velocity, _hutchinson(push, vectors)

  # d log p / dt along the flow is minus the divergence, so log p(x) = log p_T(x_T) + its integral.
  gain = jnp.zeros((x.shape[0], max(num_probes, 1)), x.dtype)  # of log-density, for each probe
  ends = denoiser.process.t_min, denoiser.process.T
  (latent, gain), num_evaluations = ode.solve(field, (x, gain), *ends, rtol=rtol, atol=atol)
  # Each probe integrates an estimate of its own; their spread is the trace estimate's error.
  error = jnp.zeros_like(gain[:, 0]) if num_probes == 0 else _standard_error(gain)
  value = denoiser.process.prior_log_prob(latent) + gain.mean(1)
  return Likelihood(value, error, num_evaluations, latent)


def _rademacher(keys, num_probes, x):
  draw = functools.partial(jax.random.rademacher, shape=(num_probes, *x.shape[1:]), dtype=x.dtype)
  # Of all +-1 vectors: v_i^2 = 1, so the diagonal of the Jacobian adds no variance.
  return jax.vmap(draw, out_axes=1)(keys)  # [K, B, ...]


def _hutchinson(push, vectors):
  """Returns v J v for each of K probes v, float `[B, K]` (Hutchinson 1989)."""
  pushed = jax.vmap(push)(vectors)
  return (vectors * pushed).reshape(*vectors.shape[:2], -1).sum(-1).T


def _exact_trace(push, x, chunk=64):
  """Returns the Jacobian's trace, float `[B, 1]`, from `chunk` columns at a time."""
  size = x[0].size

  def entry(i):
    # One column for all rows at once: row b's output depends on row b's input alone.
    basis = jax.nn.one_hot(i, size, dtype=x.dtype).reshape(x.shape[1:])
    return push(jnp.broadcast_to(basis, x.shape)).reshape(x.shape[0], size)[:, i]

  return jax.lax.map(entry, jnp.arange(size), batch_size=min(chunk, size)).sum(0)[:, None]


def _standard_error(values):
  """Returns the standard error of the mean of values `[B, K]`, float `[B]`."""
  count = values.shape[1]
  if count == 1:
    return jnp.full_like(values[:, 0], jnp.nan)
  return values.std(1, ddof=1) / np.sqrt(count)


# -------- 8-bit images: the byte k in 0..255 is the value 2 k / 255 - 1 --------


def dequantize(levels: Array, keys: Array, *, count: int = 256) -> Array:
  """Returns uniformly dequantized images, float32 `[B, ...]`, from bytes `[B, ...]`.

  Each value is spread over its bin of width 2 / 255. The bins touch, so [-1, 1] grows by half a bin
  at both ends. keys: `[B]`. count: the number of byte values.
  """
  # Without it a density could grow without bound at the 256 values that there are.
  spread = jax.vmap(lambda key: jax.random.uniform(key, levels.shape[1:]))(keys)
  return 2 * (levels + spread - 0.5) / (count - 1) - 1


def bits_per_dim(log_prob: Array, dims: int, *, count: int = 256) -> Array:
  """Returns bits per dimension `[B]` from the log-density `[B]` of dequantized images.

  An upper bound of the discrete model's, in expectation (Theis et al. 2016, arXiv 1511.01844,
  section 3.1). The offset is the bin's width: log2(255 / 2) = 6.994 bits turn a density into the
  probability of a bin. dims: elements of an image.
  """
  return -log_prob / (dims * np.log(2)) + np.log2((count - 1) / 2)


def mean_and_error(values: Array | np.ndarray) -> tuple[float, float]:
  """Returns the mean of values `[N]` and its standard error, infinite for a single value."""
  values = np.asarray(values, np.float64)
  if len(values) == 1:
    return float(values[0]), float('inf')
  return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
