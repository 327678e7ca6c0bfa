"""The contract of a diffusion process: x_t = alpha(t) x_0 + sigma(t) eps, with eps from N(0, I).

Each process is also a linear SDE dx = f(t) x dt + g(t) dw with these marginals: f = alpha' / alpha
and g² = d(sigma²)/dt - 2 f sigma² (Song et al. 2021, arXiv 2011.13456; Kingma et al. 2021,
arXiv 2107.00630). The six processes that are in use are in `processes`.

Times are floats of any shape. Methods compute with NumPy in float64 if the time is a NumPy array or
a Python number (timestep schedules, coefficient tables), and with JAX if it is a JAX array.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Times = Array | np.ndarray | float


def array_namespace(t: Times):
  """Returns the module that computes with `t`: `jax.numpy` for a JAX array, else `numpy`."""
  return jnp if isinstance(t, jax.Array) else np


def expand_like(t: Array, x: Array) -> Array:
  """Returns t `[B]` as `[B, 1, ...]`, of the rank and dtype of x `[B, ...]`, for broadcasting."""
  return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)).astype(x.dtype)


class Process:
  """A diffusion process. Time runs from data at 0 to noise at T.

  A subclass says `log_alpha`, `sigma`, `f`, `g2`, `inverse_log_snr` and `t_min`; all else follows.
  Every method maps times of any shape to float values of that shape.
  """

  @property
  def T(self) -> float:
    """The largest time, where x_T is nearly N(0, prior_std² I)."""
    return 1.0

  @property
  def t_min(self) -> float:
    """The smallest time at which a network is evaluated; > 0, so that sigma(t_min) > 0."""
    raise NotImplementedError

  @property
  def prior_std(self) -> float:
    """The standard deviation of the prior N(0, prior_std² I) that stands for x_T."""
    return 1.0

  @property
  def discrete_steps(self) -> int | None:
    """N of a chain that is defined at the times n / N, n = 1..N; None in continuous time."""
    return None

  def log_alpha(self, t: Times):
    """Returns log alpha(t), <= 0."""
    raise NotImplementedError

  def sigma(self, t: Times):
    """Returns the standard deviation of x_t given x_0."""
    raise NotImplementedError

  def f(self, t: Times):
    """Returns the drift over x, which is the derivative of log alpha."""
    raise NotImplementedError

  def g2(self, t: Times):
    """Returns g², the squared diffusion coefficient."""
    raise NotImplementedError

  # Schedules and losses are said in log_snr, which all processes have, and come back to t here.
  def inverse_log_snr(self, log_snr: Times):
    """Returns the time at which `log_snr` has this value."""
    raise NotImplementedError

  def c_noise(self, t: Times):
    """Returns t as the network's noise input (c_noise of Karras 2022, table 1).

    The default is DDPM's scale of a thousand steps.
    """
    return 1000.0 * t  # the range that the sinusoids of its embedding are made for

  def alpha(self, t: Times):
    """Returns the factor of x_0 in x_t."""
    return array_namespace(t).exp(self.log_alpha(t))

  def g(self, t: Times):
    """Returns the diffusion coefficient."""
    return array_namespace(t).sqrt(self.g2(t))

  def log_snr(self, t: Times):
    """Returns log(alpha² / sigma²), which falls with t; its derivative is -g² / sigma²."""
    return 2 * (self.log_alpha(t) - array_namespace(t).log(self.sigma(t)))

  def derivatives(self, t: Times):
    """Returns (d alpha / dt, d sigma / dt)."""
    # alpha' from f = alpha' / alpha, sigma' from g^2 = 2 sigma sigma' - 2 f sigma^2.
    f, sigma = self.f(t), self.sigma(t)
    return f * self.alpha(t), f * sigma + self.g2(t) / (2 * sigma)

  def add_noise(self, x0: Array, t: Array, eps: Array) -> Array:
    """Returns x_t `[B, ...]` from x_0 and eps `[B, ...]` at times `[B]` (Ho 2020, eq. 4)."""
    return expand_like(self.alpha(t), x0) * x0 + expand_like(self.sigma(t), x0) * eps

  def prior_sample(self, keys: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
    """Draws x_T `[B, *shape]` with keys `[B]`: an example depends on its own key alone."""
    # A key an example, so that a batch's size changes no sample.
    return self.prior_std * jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)

  def prior_log_prob(self, x: Array) -> Array:
    """Returns the prior's log-density of x `[B, ...]`, float `[B]` in nats."""
    x = x.reshape(x.shape[0], -1) / self.prior_std
    log_scale = math.log(self.prior_std) + 0.5 * math.log(2 * math.pi)  # of one dimension
    return -0.5 * jnp.square(x).sum(-1) - x.shape[1] * log_scale
