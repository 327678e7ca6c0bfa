"""Checks that a process, its loss and its timesteps fit each other, and fit float32.

Each raises a ValueError before anything is compiled. Without them a setting that float32 cannot
hold, or a sampler that starts from another distribution than x_T has, makes images of nothing.
"""

import jax.numpy as jnp
import numpy as np

from models.diffusion import losses, solvers, timesteps
from models.diffusion.parameterization import SIGMA_DATA
from models.diffusion.process import Process

LEAST_NOISE = 10.0  # sigma / alpha at T: a hundredth of x_T's variance is left of unit data
PRIOR_TOLERANCE = 0.05  # of the prior's standard deviation, relative to sigma(T)


def check_process(process: Process) -> None:
  """Raises ValueError unless float32 holds the process, and it ends in the noise of its prior."""
  with np.errstate(all='ignore'):
    ends = np.array([process.t_min, process.T], np.float32).astype(np.float64)
    alpha, sigma = process.alpha(ends), process.sigma(ends)
    level = timesteps.noise_level(process, ends)
    positive = np.array([ends, sigma, level, 1 / level**2], np.float32)
    others = np.array([alpha, process.f(ends), process.g2(ends)], np.float32)
    held = np.isfinite(others).all()
  if not held or not np.isfinite(positive).all() or not (positive > 0).all():
    raise ValueError(
      f'process={process!r}: float32 does not hold its times, alpha, sigma and (sigma / alpha)²'
      f' from t_min={process.t_min} to T={process.T}; take values that are nearer to 1'
    )
  if level[1] < LEAST_NOISE:
    raise ValueError(
      f'process={process!r}: does not end in the noise that samplers start from: alpha² is'
      f' {alpha[1] ** 2:.3g} there, and sigma / alpha {level[1]:.3g}, not {LEAST_NOISE:g} or more;'
      ' take a larger sigma_max, beta_max or T, and for ddpm more steps, or beta_min=0.1/steps and'
      ' beta_max=20/steps'
    )
  if abs(sigma[1] / process.prior_std - 1) > PRIOR_TOLERANCE:
    raise ValueError(
      f'process={process!r}: sigma(T)={sigma[1]:.4g} is not prior_std={process.prior_std:.4g}, with'
      ' which samplers start'
    )


def kept_nats(process: Process, dims: int) -> float:
  """Returns what x_T tells of an image of `dims` numbers of variance SIGMA_DATA², in nats.

  It is KL(q(x_T | x_0) || p(x_T)) but for the variances: the larger the image, the more noise hides
  it (Song and Ermon 2020, arXiv 2006.09011, technique 1).
  """
  level = timesteps.noise_level(process, np.array(process.T))
  return float(0.5 * dims * (SIGMA_DATA / level) ** 2)


def check_timesteps(process: Process, times: np.ndarray) -> None:
  """Raises ValueError unless timesteps `[N]` fall from T to t_min in float32."""
  single = np.float32(times)  # of the compiled sampler
  falls = np.isfinite(single).all() and (np.diff(single) < 0).all()
  whole = falls and np.isclose(times[0], process.T, rtol=1e-3) and times[-1] > 0.999 * process.t_min
  if not whole:
    raise ValueError(
      f'{len(times)} timesteps from {times[0]:g} to {times[-1]:g}: must start at T={process.T:g}'
      f' and fall step by step, in float32, to t_min={process.t_min:g} or above; change the number'
      ' of steps or the timestep schedule'
    )


def check_loss(
  process: Process, prediction: str, distribution: losses.TimeDistribution, weighting: str
) -> None:
  """Raises ValueError unless training times spread over [t_min, T] and their weights are finite."""
  t = distribution.quantile(process, jnp.linspace(1e-7, 1 - 1e-7, 17))
  weights = losses.weight(process, prediction, distribution, weighting, t)
  first, last = float(t.min()), float(t.max())  # NaN if a time is
  spread = 0.999 * process.t_min <= first < last <= 1.001 * process.T
  if not spread or not np.isfinite(weights).all():
    raise ValueError(
      f'loss.time_distribution={distribution!r} and weighting={weighting!r} of {process!r} with'
      f' prediction={prediction!r}: times from {first:g} to {last:g} have weights from'
      f' {float(weights.min()):g} to {float(weights.max()):g}; times must spread from'
      f' {process.t_min:g} to {process.T:g}, and float32 hold the weights'
    )


def drawn_std(process: Process, table: solvers.Table) -> float:
  """Returns the standard deviation of what a table draws of Gaussian data of SIGMA_DATA.

  The best network for such data predicts x_0 as a multiple of x, so that the state of a sampler (x,
  aux and the history of predictions) is Gaussian too, and its covariance is found row by row.
  """
  history = table.x_from_x0.shape[1]
  alpha, sigma = process.alpha(table.t), process.sigma(table.t)
  gain = alpha * SIGMA_DATA**2 / ((alpha * SIGMA_DATA) ** 2 + sigma**2)
  covariance = np.zeros((2 + history, 2 + history))
  covariance[0, 0] = process.prior_std**2
  for i in range(len(table.t)):
    row = {name: column[i] for name, column in vars(table).items() if column is not None}
    predictions = np.eye(2 + history, k=-1)[2:]  # each moves one place back
    predictions[0] = gain[i] * np.eye(2 + history)[0]
    step = _linear_step(row, predictions)
    covariance = step @ covariance @ step.T
    covariance[0, 0] += row['noise'] ** 2
  return float(np.sqrt(covariance[0, 0]))


def _linear_step(row: dict[str, np.ndarray], predictions: np.ndarray) -> np.ndarray:
  """Returns the matrix of a row of `solvers.Table` from the state before to the one after it."""
  x, aux = np.eye(predictions.shape[1])[:2]
  new = row['x_from_x'] * x + row['x_from_x0'] @ predictions
  if 'x_from_aux' in row:
    aux = row['aux_from_x'] * x + row['aux_from_aux'] * aux
    aux = aux + row['aux_from_x0'] @ predictions if 'aux_from_x0' in row else aux
    new = new + row['x_from_aux'] * aux
  return np.stack([new, aux, *predictions])
