"""Data whose scores and densities are known: mixtures of Gaussians of one deviation, of any shape.

A Gaussian is a mixture of one. All that diffusion code asks of a network is here in closed form.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from models.diffusion.parameterization import Denoiser, input_scale, target
from models.diffusion.process import like


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
  """means: float64 `[K, ...]`, all equally likely; std: of each element around its mean."""

  means: np.ndarray
  std: float

  @property
  def dims(self):
    return self.means[0].size

  def _shares(self, x, alpha, sigma):
    """(log of each component's share of the density at x_t `[B, K]`, x flat, means flat)."""
    x, means = x.reshape(x.shape[0], -1), jnp.asarray(self.means, x.dtype).reshape(-1, self.dims)
    variance = like(jnp.broadcast_to((alpha * self.std) ** 2 + sigma**2, x.shape[:1]), x)
    alpha = like(jnp.broadcast_to(alpha, x.shape[:1]), x)
    # |x - alpha m|² without a [B, K, D], which is most of the work in many dimensions.
    square = (x**2).sum(1, keepdims=True) - 2 * alpha * (x @ means.T)
    square += alpha**2 * (means**2).sum(1)[None]
    log_scale = 0.5 * self.dims * jnp.log(2 * math.pi * variance) + math.log(len(means))
    return -square / (2 * variance) - log_scale, x, means, alpha, variance

  def log_prob(self, x, alpha=1.0, sigma=0.0):
    """float `[B]`, in nats, of x_t `[B, ...]`."""
    return jax.nn.logsumexp(self._shares(x, alpha, sigma)[0], axis=1)

  def x0(self, x, alpha, sigma):
    """E[x_0 | x_t] `[B, ...]`; alpha, sigma: `[B]` or numbers."""
    shares, flat, means, alpha, variance = self._shares(x, alpha, sigma)
    mean = jax.nn.softmax(shares, axis=1) @ means
    return (mean + alpha * self.std**2 / variance * (flat - alpha * mean)).reshape(x.shape)

  def denoiser(self, process, kind='eps'):
    return perfect(self.x0, process, kind)

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

  def denoiser(self, process, kind='eps'):
    return perfect(self.x0, process, kind)


def perfect(x0_of, process, kind):
  """A network of that kind that predicts E[x_0 | x_t] = x0_of(x, alpha, sigma)."""

  def predict(x, t):
    x = x / like(input_scale(process, kind, t), x)
    alpha, sigma = process.alpha(t), process.sigma(t)
    x0 = x0_of(x, alpha, sigma)
    noise = (x - like(alpha, x) * x0) / like(sigma, x)
    return target(process, kind, x0, noise, t)

  return Denoiser(process, predict, kind)


def gaussian(mean, std):
  return Mixture(np.asarray(mean, np.float64)[None], std)


def eight_dimensional(seed=0):
  """Ten modes of deviation 0.15 in 8 dimensions, their means from N(0, I)."""
  return Mixture(np.random.default_rng(seed).normal(size=(10, 8)), 0.15)
