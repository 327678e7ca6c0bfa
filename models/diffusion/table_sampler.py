"""The contract of a sampler, and the loop that runs a table of coefficients (`solvers.Table`).

Random numbers come from keys `[B]`, one per image, so that an image does not depend on the others
of its batch.
"""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.diffusion import solvers
from models.diffusion.denoiser import Denoiser
from models.diffusion.process import Process

# Maps (x `[B, ...]`, alpha, sigma, noise like x) to x in which what is known of the image is set to
# its noisy value at that level.
Constraint = Callable[[Array, Array, Array, Array], Array]


class Sampler(Protocol):
  """A method that turns noise into images."""

  def num_evaluations(self, num_steps: int) -> int | None:
    """Returns the network evaluations per image for so many timesteps; None if data-dependent."""
    ...

  def __call__(
    self,
    denoiser: Denoiser,
    x: Array,
    keys: Array,
    timesteps: np.ndarray,
    *,
    trajectory: bool = False,
    constraint: Constraint | None = None,
  ) -> Array:
    """Returns images `[B, ...]`, or with `trajectory` all states `[N + 1, B, ...]`.

    Args:
      denoiser: the model.
      x: `[B, ...]` the state at timesteps[0], usually noise from the prior.
      keys: `[B]`, one per image.
      timesteps: `[N]` decreasing times, see `timesteps`; not traced.
      trajectory: whether to return x, the states at timesteps[1:] and the images.
      constraint: imposed on x at the start and after each update.
    """
    ...


def normal_like(keys: Array, index, x: Array) -> Array:
  """Draws standard normal noise like x `[B, ...]`, the index-th of each of keys `[B]`."""
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
  return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)


def run_table(
  denoiser: Denoiser,
  table: solvers.Table,
  x: Array,
  keys: Array,
  *,
  trajectory: bool = False,
  constraint: Constraint | None = None,
  corrector: Callable[[Array, dict[str, Array]], Array] | None = None,
) -> Array:
  """Runs a table as one `lax.scan`; arguments and result are those of `Sampler`.

  corrector: maps (x, row) to the x at which the network is evaluated.
  """
  # Cast only now: differences of nearly equal numbers were taken in float64.
  rows = {k: jnp.asarray(v, x.dtype) for k, v in vars(table).items() if v is not None}
  rows['index'] = jnp.arange(len(table.t))
  # Known before tracing: a deterministic table draws none of its own.
  is_stochastic = bool(np.any(table.noise))

  def step(carry, row):
    x, aux, history = carry  # history: the k last predictions of x_0, the newest first
    x = corrector(x, row) if corrector else x
    x0, v = denoiser.x0_and_v(x, jnp.full(x.shape[:1], row['t']))
    history = (x0, *history[:-1])
    x, aux = _update(row, x, aux, history)
    # Four streams of noise a row: of the step, of its constraint, of a corrector and its
    # constraint.
    if is_stochastic:
      x += _noise_std(row, v) * normal_like(keys, 4 * row['index'], x)
    if constraint:
      # At the level of the new x, which the row's alpha and sigma are of.
      x = constraint(x, row['alpha'], row['sigma'], normal_like(keys, 4 * row['index'] + 1, x))
    return (x, aux, history), x if trajectory else None

  if constraint:
    noise = normal_like(keys, 4 * len(table.t) + 1, x)  # a stream beyond all rows'
    alpha, sigma = alpha_sigma(denoiser, table.t[0], x)
    x = constraint(x, alpha, sigma, noise)
  # Predictions that are not there yet have the coefficient 0 in the first rows.
  zeros = jnp.zeros_like(x)
  carry = (x, zeros, (zeros,) * table.x_from_x0.shape[1])
  (last, _, _), states = lax.scan(step, carry, rows)
  if not trajectory:
    return last
  if table.on_schedule is not None:
    # Heun's first rows end at states that are not of the trajectory.
    states = states[np.flatnonzero(table.on_schedule)]
  return jnp.concatenate([x[None], states])


def _update(row, x, aux, history):
  """Returns (x, aux) after a row of `solvers.Table`, without its noise."""

  def weighted(weights):
    return sum(weights[j] * x0 for j, x0 in enumerate(history))

  new = row['x_from_x'] * x + weighted(row['x_from_x0'])
  if 'x_from_aux' not in row:
    return new, aux
  # `x` is the state before the row, `aux` already that after it: see `solvers.Table`.
  aux = row['aux_from_x'] * x + row['aux_from_aux'] * aux
  if 'aux_from_x0' in row:
    aux += weighted(row['aux_from_x0'])
  return new + row['x_from_aux'] * aux, aux


def alpha_sigma(denoiser, t, x):
  """Returns (alpha, sigma) at the number t, of the dtype of x."""
  process = denoiser.process
  return jnp.asarray(process.alpha(t), x.dtype), jnp.asarray(process.sigma(t), x.dtype)


def _noise_std(row, v):
  """Returns the factor of the noise: a number, or `[B, ...]` for a learned variance."""
  if 'noise_large' not in row:
    return row['noise']
  if v is None:
    raise ValueError("sampler.variance='learned': the network predicts no variance")
  # In logarithms, so that the network puts out a fraction v and no tiny number.
  log_std = (1 - v) * jnp.log(row['noise']) + v * jnp.log(row['noise_large'])
  return jnp.where(row['noise'] > 0, jnp.exp(log_std), 0.0)  # none after the last step


class TableSampler:
  """A sampler that is a table with one network evaluation per timestep."""

  def table(self, process: Process, timesteps: np.ndarray) -> solvers.Table:
    """Returns the coefficients for these timesteps `[N]`."""
    raise NotImplementedError

  def num_evaluations(self, num_steps: int) -> int:
    return num_steps

  def __call__(
    self,
    denoiser: Denoiser,
    x: Array,
    keys: Array,
    timesteps: np.ndarray,
    *,
    trajectory: bool = False,
    constraint: Constraint | None = None,
  ) -> Array:
    table = self.table(denoiser.process, timesteps)
    return run_table(denoiser, table, x, keys, trajectory=trajectory, constraint=constraint)
