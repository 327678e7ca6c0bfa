"""Consistency distillation: a diffusion model's probability flow in one step (Song et al. 2023,
arXiv 2303.01469).

All is of y = x_t / alpha and its noise level l = sigma / alpha, in which every process is Karras's.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import samplers, solvers
from models.diffusion.parameterization import SIGMA_DATA, Denoiser
from models.diffusion.process import Process, like


def level(process: Process, t: Array) -> Array:
  return process.sigma(t) / process.alpha(t)


def student(denoiser: Denoiser) -> Denoiser:
  """A denoiser's network as a consistency function: it tells y at t_min, not the mean of x_0.

  Equations 5 and, for the coefficients, appendix C: at t_min it is y itself, far from there
  what the denoiser says.
  """
  process = denoiser.process

  def predict(x, t):
    here, end = level(process, t), level(process, jnp.asarray(process.t_min, t.dtype))
    y, total = x / like(process.alpha(t), x), here**2 + SIGMA_DATA**2
    # F of x_0 = c_skip y + c_out F (Karras 2022, eq. 7).
    inner = denoiser.x0(x, t) - like(SIGMA_DATA**2 / total, x) * y
    inner = inner / like(here * SIGMA_DATA / jnp.sqrt(total), x)
    skip = SIGMA_DATA**2 / ((here - end) ** 2 + SIGMA_DATA**2)
    out = SIGMA_DATA * (here - end) / jnp.sqrt(total)
    return like(skip, x) * y + like(out, x) * inner

  return Denoiser(process, predict, 'x0')


def loss(
  learner: Denoiser,
  target: Denoiser,
  teacher: Denoiser,
  x0: Array,
  noise: Array,
  times: np.ndarray,
  index: Array,
) -> Array:
  """float32 `[B]`: how far what the learner says of x_t is from what the target says a step on.

  learner, target: of `student`; no gradient goes to the target. teacher: whose probability flow
    the step follows, by Heun's method. times: `[N]`, a grid's; index: `[B]` in 0..N-2, the steps.
  The distance is pseudo-Huber (Song and Dhariwal 2023, arXiv 2310.14189, section 3.3).
  """
  process = teacher.process
  t, s = (jnp.asarray(times, x0.dtype)[i] for i in (index, index + 1))
  x = process.marginal(x0, t, noise)
  said = learner.x0(x, t)
  wanted = lax.stop_gradient(target.x0(heun(teacher, x, t, s), s))
  square = jnp.square((said - wanted).astype(jnp.float32)).reshape(x0.shape[0], -1).sum(1)
  c = 0.00054 * np.sqrt(x0[0].size)
  return jnp.sqrt(square + c**2) - c


def heun(denoiser: Denoiser, x: Array, t: Array, s: Array) -> Array:
  """x_s `[B, ...]` from x_t along the probability flow, dy / dl = (y - x_0) / l."""
  process = denoiser.process
  here, there = (like(level(process, each), x) for each in (t, s))
  y = x / like(process.alpha(t), x)
  slope = (y - denoiser.x0(x, t)) / here
  moved = y + (there - here) * slope
  end = (moved - denoiser.x0(like(process.alpha(s), x) * moved, s)) / there
  return like(process.alpha(s), x) * (y + (there - here) * (slope + end) / 2)


def draw_steps(key: Array, count: int, steps: int) -> Array:
  """int32 `[count]` in 0..steps-1, evenly spread, in random order."""
  shift, order = jax.random.split(key)
  lattice = (jax.random.permutation(order, jnp.arange(count)) + jax.random.uniform(shift)) / count
  return jnp.minimum((lattice * steps).astype(jnp.int32), steps - 1)


@dataclasses.dataclass(frozen=True)
class Renoise(samplers.Tabled):
  """Algorithm 1: what the function says of x_t, with fresh noise for the next time."""

  def table(self, process, times):
    steps = solvers.steps_of(process, times)
    return steps.table(0.0 * steps.sigma, steps.next_alpha, steps.next_sigma)


def sampling_times(process: Process, steps: int) -> np.ndarray:
  """float64 `[steps]`: T, and what lies evenly between it and t_min on Karras's grid."""
  return solvers.edm(process, steps + 1)[:steps]
