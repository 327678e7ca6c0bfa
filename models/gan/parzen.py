"""The Parzen window estimate of a likelihood from samples: historic, and easily misled.

A Gaussian of standard deviation sigma stands on each sample; the density is their mean. It was how
models that have samples but no likelihood were compared until 2016. It prefers blurred means to
images (Theis, van den Oord and Bethge 2016, arXiv 1511.01844, section 3.2), so a number belongs
beside what as many training images get by the same rule.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

SIGMAS = np.logspace(-1, 0, 10)  # the grid of Goodfellow et al. 2014's code
ROWS = 1000  # images whose distances to all samples are held at a time


@dataclasses.dataclass(frozen=True)
class ParzenEstimate:
  """Mean log-likelihood of images in nats, its standard error over images, and sigma."""

  value: float
  error: float
  sigma: float


def estimate(samples: np.ndarray, validation: np.ndarray, test: np.ndarray) -> ParzenEstimate:
  """Returns the estimate for `test`; sigma is the best of SIGMAS for `validation`.

  All three are `[N, D]` in [0, 1]. Goodfellow et al. 2014, section 5.
  """
  fits = [log_likelihood(samples, validation, sigma).mean() for sigma in SIGMAS]
  sigma = float(SIGMAS[int(np.argmax(fits))])
  found = log_likelihood(samples, test, sigma)
  return ParzenEstimate(float(found.mean()), float(found.std() / np.sqrt(len(found))), sigma)


def log_likelihood(samples: np.ndarray, images: np.ndarray, sigma: float) -> np.ndarray:
  """Returns log mean_i N(x; samples_i, sigma² I) in nats for each image, float64 `[N]`."""
  parts = (images[i : i + ROWS] for i in range(0, len(images), ROWS))
  logs = [np.asarray(_log_mean_exp(samples, x, sigma), np.float64) for x in parts]
  normaliser = samples.shape[1] * np.log(sigma * np.sqrt(2 * np.pi))
  return np.concatenate(logs) - normaliser


@functools.partial(jax.jit, static_argnums=2)
def _log_mean_exp(samples: Array, x: Array, sigma: float) -> Array:
  product = jnp.matmul(x, samples.T, precision='highest')
  square = jnp.square(x).sum(1)[:, None] + jnp.square(samples).sum(1)[None] - 2 * product
  return jax.nn.logsumexp(-square / (2 * sigma**2), axis=1) - np.log(len(samples))
