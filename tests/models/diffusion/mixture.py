"""Data with exact scores and densities: mixtures of Gaussians with one standard deviation.

A Gaussian is a mixture of one. Everything that diffusion code asks of a network has a closed form.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.parameterization import c_in, target
from models.diffusion.process import expand_like


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
  """A mixture of K equally likely Gaussians.

  means: float64 `[K, ...]`. std: of each element around its mean.
  """

  means: np.ndarray
  std: float

  @property
  def dims(self):
    return self.means[0].size

  def _log_parts(self, x, alpha, sigma):
    """Returns each component's log-density at x_t `[B, K]` and x, means, alpha, variance, flat."""
    x, means = x.reshape(x.shape[0], -1), jnp.asarray(self.means, x.dtype).reshape(-1, self.dims)
    variance = expand_like(jnp.broadcast_to((alpha * self.std) ** 2 + sigma**2, x.shape[:1]), x)
    alpha = expand_like(jnp.broadcast_to(alpha, x.shape[:1]), x)
    # |x - alpha m|² without a [B, K, D], which is most of the work in many dimensions.
    square = (x**2).sum(1, keepdims=True) - 2 * alpha * (x @ means.T)
    square += alpha**2 * (means**2).sum(1)[None]
    log_scale = 0.5 * self.dims * jnp.log(2 * math.pi * variance) + math.log(len(means))
    return -square / (2 * variance) - log_scale, x, means, alpha, variance

  def log_prob(self, x, alpha=1.0, sigma=0.0):
    """Returns the log-density of x_t `[B, ...]`, float `[B]` in nats."""
    return jax.nn.logsumexp(self._log_parts(x, alpha, sigma)[0], axis=1)

  def x0(self, x, alpha, sigma):
    """Returns E[x_0 | x_t] `[B, ...]`; alpha, sigma: `[B]` or numbers."""
    log_parts, flat, means, alpha, variance = self._log_parts(x, alpha, sigma)
    mean = jax.nn.softmax(log_parts, axis=1) @ means
    return (mean + alpha * self.std**2 / variance * (flat - alpha * mean)).reshape(x.shape)

  def denoiser(self, process, prediction='eps'):
    return perfect(self.x0, process, prediction)

  def sample(self, seed, count):
    rng = np.random.default_rng(seed)
    chosen = self.means[rng.integers(len(self.means), size=count)]
    return chosen + self.std * rng.standard_normal(chosen.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Normal:
  """A Gaussian of mean `[D]` and covariance `[D, D]`."""

  mean: np.ndarray
  cov: np.ndarray

  def x0(self, x, alpha, sigma):
    def one(x, alpha, sigma):
      mean, cov = jnp.asarray(self.mean, x.dtype), jnp.asarray(self.cov, x.dtype)
      total = alpha**2 * cov + sigma**2 * jnp.eye(len(mean), dtype=x.dtype)
      return mean + alpha * cov @ jnp.linalg.solve(total, x - alpha * mean)

    return jax.vmap(one)(x, alpha, sigma)

  def denoiser(self, process, prediction='eps'):
    return perfect(self.x0, process, prediction)


def perfect(x0_of, process, prediction):
  """Returns the denoiser of a network that predicts E[x_0 | x_t] = x0_of(x, alpha, sigma)."""

  def predict(x, t):
    x = x / expand_like(c_in(process, prediction, t), x)
    alpha, sigma = process.alpha(t), process.sigma(t)
    x0 = x0_of(x, alpha, sigma)
    noise = (x - expand_like(alpha, x) * x0) / expand_like(sigma, x)
    return target(process, prediction, x0, noise, t)

  return NetworkDenoiser(process, predict, prediction)


def gaussian(mean, std):
  return Mixture(np.asarray(mean, np.float64)[None], std)


def eight_dimensional(seed=0):
  """Returns ten modes of standard deviation 0.15 in 8 dimensions, with means from N(0, I)."""
  return Mixture(np.random.default_rng(seed).normal(size=(10, 8)), 0.15)


# -------- the paper's definitions, from a score --------


def reverse_drift(process, score):
  """Returns the drift f x - g² score of the reverse SDE (Song et al. 2021, eq. 6)."""
  return lambda x, t: expand_like(process.f(t), x) * x - expand_like(process.g2(t), x) * score(x, t)


def probability_flow(process, score):
  """Returns dx/dt = f x - g² score / 2 of the probability flow ODE (Song et al. 2021, eq. 13)."""
  return lambda x, t: (
    expand_like(process.f(t), x) * x - 0.5 * expand_like(process.g2(t), x) * score(x, t)
  )
