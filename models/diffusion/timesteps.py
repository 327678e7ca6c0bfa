"""Timestep schedules: the times, from T down, at which a sampler evaluates the network.

A schedule is float64 `[N]`, decreasing; what follows its last time is the clean image.
"""

from collections.abc import Callable

import numpy as np

from models.diffusion.process import Process


def noise_level(process: Process, t: np.ndarray) -> np.ndarray:
  """Returns sigma / alpha at times t, the sigma of Karras 2022 for every process."""
  return np.exp(-0.5 * process.log_snr(t))


def time_of_noise_level(process: Process, level: np.ndarray) -> np.ndarray:
  """Returns the times with these values of sigma / alpha, clipped to [t_min, T]."""
  return np.clip(process.inverse_log_snr(-2 * np.log(level)), process.t_min, process.T)


def uniform(process: Process, num_steps: int) -> np.ndarray:
  """Returns times uniform in t; with DDPM's N steps, exactly its own."""
  return np.linspace(process.T, process.t_min, num_steps)


def log_snr(process: Process, num_steps: int) -> np.ndarray:
  """Returns times uniform in log_snr (DPM-Solver, Lu et al. 2022, arXiv 2206.00927, section 3)."""
  first, last = noise_level(process, np.array([process.T, process.t_min]))
  return time_of_noise_level(process, np.geomspace(first, last, num_steps))


def edm(process: Process, num_steps: int, *, rho: float = 7.0) -> np.ndarray:
  """Returns times uniform in (sigma / alpha)^(1 / rho), rho >= 0.1 (Karras 2022, eq. 5)."""
  _require('rho', rho, 0.1)
  first, last = noise_level(process, np.array([process.T, process.t_min])) ** (1 / rho)
  return time_of_noise_level(process, np.linspace(first, last, num_steps) ** rho)


def asinh(process: Process, num_steps: int, *, knee: float = 0.2) -> np.ndarray:
  """Returns times uniform in the arsinh of level / knee, with level = sigma / alpha.

  That is uniform in log(level) above the knee, and in the level below it. The clean image is the
  end of the same spacing, so few steps do not visit levels where nothing is left to do; many steps
  go down to t_min.
  """
  _require('knee', knee, 1e-6)
  first, least = np.arcsinh(noise_level(process, np.array([process.T, process.t_min])) / knee)
  spaced = np.linspace(first, max(least, first / num_steps), num_steps)
  return time_of_noise_level(process, knee * np.sinh(spaced))


def _require(name: str, value: float, least: float) -> None:
  """Raises ValueError unless a schedule's parameter is a number, and not below the least."""
  if not least <= value < np.inf:
    raise ValueError(f'timestep_schedule.{name}={value!r}: must be a number, at least {least}')


TIMESTEP_SCHEDULES: dict[str, Callable[..., np.ndarray]] = {
  'uniform': uniform,
  'log_snr': log_snr,
  'edm': edm,
  'asinh': asinh,
}


def timesteps(schedule: str, process: Process, num_steps: int, **kwargs) -> np.ndarray:
  """Returns the times `[num_steps]` of the schedule with this name.

  Raises ValueError for an unknown schedule and for fewer than 2 steps.
  """
  if schedule not in TIMESTEP_SCHEDULES:
    choices = ', '.join(TIMESTEP_SCHEDULES)
    raise ValueError(f'timestep_schedule={schedule!r}: choose from {choices}')
  if num_steps < 2:
    raise ValueError(f'num_steps={num_steps!r}: at least 2')
  return TIMESTEP_SCHEDULES[schedule](process, num_steps, **kwargs)
