"""Consistency distillation: the probability flow of a diffusion model in one step.

Song et al. 2023 (arXiv 2303.01469). The formulas are in y = x_t / alpha and the noise level l =
sigma / alpha, in which every process is that of Karras et al. 2022.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import solvers, timesteps
from models.diffusion.denoiser import Denoiser, NetworkDenoiser
from models.diffusion.parameterization import SIGMA_DATA
from models.diffusion.process import Process, expand_like
from models.diffusion.table_sampler import TableSampler


def noise_level(process: Process, t: Array) -> Array:
  """Returns sigma / alpha at times t."""
  return process.sigma(t) / process.alpha(t)


def consistency_function(denoiser: Denoiser) -> NetworkDenoiser:
  """Returns f(x_t, t), the end of the probability flow at t_min, with the denoiser's network as F.

  f = c_skip y + c_out F with c_skip(t_min) = 1 and c_out(t_min) = 0 (eq. 5 and appendix C): at
  t_min f is y itself, and at high noise levels it is about the denoiser's x_0.
  """
  process = denoiser.process

  def predict(x, t):
    level = noise_level(process, t)
    end = noise_level(process, jnp.asarray(process.t_min, t.dtype))
    y, norm = x / expand_like(process.alpha(t), x), level**2 + SIGMA_DATA**2
    # F solves x_0 = c_skip y + c_out F with the coefficients of Karras 2022, eq. 7 and table 1.
    F = denoiser.x0(x, t) - expand_like(SIGMA_DATA**2 / norm, x) * y
    F = F / expand_like(level * SIGMA_DATA / jnp.sqrt(norm), x)
    c_skip = SIGMA_DATA**2 / ((level - end) ** 2 + SIGMA_DATA**2)
    c_out = SIGMA_DATA * (level - end) / jnp.sqrt(norm)
    return expand_like(c_skip, x) * y + expand_like(c_out, x) * F

  return NetworkDenoiser(process, predict, 'x0')


def loss(
  student: Denoiser,
  target: Denoiser,
  teacher: Denoiser,
  x0: Array,
  eps: Array,
  timesteps: np.ndarray,
  index: Array,
) -> Array:
  """Returns the consistency distillation loss, float32 `[B]` (algorithm 2).

  It is the pseudo-Huber distance (Song and Dhariwal 2023, arXiv 2310.14189, section 3.3) between
  the student at x_t and the target at x_s, which is one step of the teacher's flow nearer to the
  data.

  Args:
    student: the consistency function in training.
    target: the consistency function that it should agree with; no gradient goes to it.
    teacher: the diffusion model, whose probability flow is followed by Heun's method.
    x0: `[B, ...]` clean images.
    eps: `[B, ...]` standard normal noise.
    timesteps: `[N]` decreasing times.
    index: int `[B]` in 0..N - 2, the step from t = timesteps[index] to s = timesteps[index + 1].
  """
  process = teacher.process
  t, s = (jnp.asarray(timesteps, x0.dtype)[i] for i in (index, index + 1))
  x = process.add_noise(x0, t, eps)
  output = student.x0(x, t)
  wanted = lax.stop_gradient(target.x0(heun(teacher, x, t, s), s))
  square = jnp.square((output - wanted).astype(jnp.float32)).reshape(x0.shape[0], -1).sum(1)
  c = 0.00054 * np.sqrt(x0[0].size)
  return jnp.sqrt(square + c**2) - c


def heun(denoiser: Denoiser, x: Array, t: Array, s: Array) -> Array:
  """Returns x_s `[B, ...]` from x_t by a Heun step of dy/dl = (y - x_0) / l."""
  process = denoiser.process
  level_t, level_s = (expand_like(noise_level(process, each), x) for each in (t, s))
  y = x / expand_like(process.alpha(t), x)
  slope_t = (y - denoiser.x0(x, t)) / level_t
  euler = y + (level_s - level_t) * slope_t
  slope_s = (euler - denoiser.x0(expand_like(process.alpha(s), x) * euler, s)) / level_s
  return expand_like(process.alpha(s), x) * (y + (level_s - level_t) * (slope_t + slope_s) / 2)


def draw_steps(key: Array, count: int, num_steps: int) -> Array:
  """Draws steps, int32 `[count]` in 0..num_steps - 1, evenly spread and in random order."""
  shift, order = jax.random.split(key)
  lattice = (jax.random.permutation(order, jnp.arange(count)) + jax.random.uniform(shift)) / count
  return jnp.minimum((lattice * num_steps).astype(jnp.int32), num_steps - 1)


@dataclasses.dataclass(frozen=True)
class MultistepConsistency(TableSampler):
  """Multistep consistency sampling: f(x_t, t), then fresh noise for the next time (algorithm 1)."""

  def table(self, process, timesteps):
    steps = solvers.make_steps(process, timesteps)
    return steps.table(0.0 * steps.sigma_t, steps.alpha_s, steps.sigma_s)


def sampling_timesteps(process: Process, num_steps: int) -> np.ndarray:
  """Returns T and the times that divide EDM's schedule evenly, float64 `[num_steps]`."""
  return timesteps.edm(process, num_steps + 1)[:num_steps]
