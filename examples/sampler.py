"""A diffusion sampler on your own score function: python -m examples.sampler

The data are a mixture of two Gaussians, of which the score is known exactly at every time.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm

from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.processes import VP
from models.diffusion.samplers import Heun
from models.diffusion.timesteps import timesteps

MEANS, WEIGHTS, STD = jnp.array([-2.0, 1.0]), jnp.array([0.3, 0.7]), 0.3
process = VP()


def log_p(x, t):
  """Returns log p_t of one x []: x_t = alpha x_0 + sigma eps is a mixture of Gaussians, too."""
  alpha, sigma = process.alpha(t), process.sigma(t)
  return logsumexp(jnp.log(WEIGHTS) + norm.logpdf(x, alpha * MEANS, jnp.hypot(alpha * STD, sigma)))


def score(x, t):
  """Returns the gradient of log p_t for x [B, 1] at times t [B]."""
  return jax.vmap(jax.grad(log_p))(x[:, 0], t)[:, None]


# 'score' is what the function predicts; for one that returns E[x_0 | x_t], write 'x0'.
denoiser = NetworkDenoiser(process, score, 'score')
keys = jax.random.split(jax.random.key(0), 50_000)  # a key for each example
noise = process.prior_sample(keys, (1,))
x = np.asarray(Heun()(denoiser, noise, keys, timesteps('edm', process, 40)))
mean, second = WEIGHTS @ MEANS, WEIGHTS @ (MEANS**2 + STD**2)
print(f'mean {x.mean():.3f}, exactly {mean:.3f}')
print(f'standard deviation {x.std():.3f}, exactly {jnp.sqrt(second - mean**2):.3f}')
