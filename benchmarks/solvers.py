"""Errors of samplers against network evaluations: `python -m benchmarks.solvers`.

The data are mixtures of 10 Gaussians of standard deviation 0.15 in 8 dimensions, which have an
exact denoiser, in DDPM's linear process. An error is the root mean square per dimension, over
`--images` from each of `--seeds` mixtures, against the probability flow solved with an adaptive
method of order 8; the median mixture's is in brackets. The first is often due to a few images,
which start so near to a watershed of the flow that they end in another mode, with an error of about
1 each.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from benchmarks import turns
from models.diffusion import ode, processes, samplers, timesteps
from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.process import expand_like

EVALUATIONS = (10, 18, 35, 50, 100, 200)

# Name, sampler, timestep schedule.
ROWS = (
  ('DDIM', samplers.DDIM(), 'uniform'),
  ('DDIM', samplers.DDIM(), 'edm'),
  ('DDIM', samplers.DDIM(), 'asinh'),
  ('Heun', samplers.Heun(), 'edm'),
  ('Heun', samplers.Heun(), 'asinh'),
  ('DPM-Solver++(2M)', samplers.DPMSolver(), 'uniform'),
  ('DPM-Solver++(2M)', samplers.DPMSolver(), 'log_snr'),
  ('DPM-Solver++(2M)', samplers.DPMSolver(), 'edm'),
  ('DPM-Solver++(2M)', samplers.DPMSolver(), 'asinh'),
  ('multistep, order 2', samplers.Multistep(2), 'asinh'),
  ('multistep, order 3', samplers.Multistep(3), 'asinh'),
  ('multistep, order 4', samplers.Multistep(4), 'asinh'),
  ('multistep, order 4', samplers.Multistep(4), 'log_snr'),
  ('multistep, order 4', samplers.Multistep(4), 'edm'),
)
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
STD = 0.15


def mixture(seed):
  """Returns the means of a mixture, `[10, 8]`."""
  return np.random.default_rng(seed).normal(size=(10, 8))


def mean(y, level, means, xp):
  """Returns E[x_0 | x_0 + level z = y] `[B, D]`."""
  variance = STD**2 + level**2
  logits = -((y[:, None] - means[None]) ** 2).sum(-1) / (2 * variance)
  weights = xp.exp(logits - logits.max(1, keepdims=True))
  centre = weights @ means / weights.sum(1, keepdims=True)
  return centre + STD**2 / variance * (y - centre)


def denoiser(process, means):
  def predict(x, t):
    alpha, sigma = expand_like(process.alpha(t), x), expand_like(process.sigma(t), x)
    return mean(x / alpha, sigma / alpha, jnp.asarray(means, x.dtype), jnp)

  return NetworkDenoiser(process, predict, 'x0')


def solved(process, means, x):
  """Returns the clean images at the end of the probability flow from x `[B, D]` at T."""
  alpha, sigma = process.alpha(process.T), process.sigma(process.T)

  def slope(log_level, y):
    y = y.reshape(x.shape)
    return (y - mean(y, np.exp(log_level), means, np)).ravel()

  ends = (np.log(sigma / alpha), np.log(1e-6))
  end = solve_ivp(slope, ends, (x / alpha).ravel(), method='DOP853', rtol=1e-11, atol=1e-12)
  return end.y[:, -1].reshape(x.shape)


def problems(process, seeds, images):
  """Yields (means, x_T, solution) of each seed."""
  for seed in range(seeds):
    x = np.random.default_rng(100 + seed).normal(size=(images, 8))
    yield mixture(seed), x, solved(process, mixture(seed), x)


def errors(process, cases, sampler, times):
  """Returns the root mean square error of each case, NumPy `[cases]`."""
  run = jax.jit(lambda means, x: sampler(denoiser(process, means), x, None, times))
  return np.sqrt([np.square(run(means, x) - truth).mean() for means, x, truth in cases])


def error(process, cases, sampler, times):
  """Returns the root mean square error over all cases."""
  return float(np.sqrt(np.square(errors(process, cases, sampler, times)).mean()))


def show(values):
  return f'{np.sqrt(np.square(values).mean()):.2g} ({np.median(values):.2g})'


def steps_for(sampler, evaluations):
  """Returns the largest number of timesteps that takes no more evaluations."""
  return max(n for n in range(2, evaluations + 1) if sampler.num_evaluations(n) <= evaluations)


def table(process, cases):
  """Yields (name, schedule, errors of all cases at each of `EVALUATIONS`) of each row."""
  for name, sampler, schedule in ROWS:
    times = [timesteps.timesteps(schedule, process, steps_for(sampler, n)) for n in EVALUATIONS]
    yield name, schedule, [errors(process, cases, sampler, t) for t in times]


def adaptive(process, cases):
  """Yields (tolerance, mean evaluations, error) of the adaptive method."""
  ends = np.array([process.T, process.t_min])
  for tolerance in TOLERANCES:
    sampler = samplers.AdaptiveODE(tolerance, tolerance)
    count = jax.jit(
      lambda means, x, tolerance=tolerance: (
        ode.solve(
          denoiser(process, means).velocity, x, *ends, rtol=tolerance, atol=tolerance
        ).num_evaluations
      )
    )
    counts = [count(means, x).mean() for means, x, _ in cases]
    yield tolerance, float(np.mean(counts)) + 1, errors(process, cases, sampler, ends)


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.solvers')
  parser.add_argument('--seeds', type=turns.at_least(1), default=12)
  parser.add_argument('--images', type=turns.at_least(1), default=200)
  options = parser.parse_args()
  with jax.enable_x64(True):
    process = processes.DDPM()
    cases = list(problems(process, options.seeds, options.images))
    print(f'| method | schedule | {" | ".join(map(str, EVALUATIONS))} |\n|---|---|{"---|" * 6}')
    for name, schedule, row in table(process, cases):
      print(f'| {name} | {schedule} | {" | ".join(map(show, row))} |', flush=True)
    print('\n| tolerance | evaluations | error |\n|---|---|---|')
    vp = processes.VP()  # its t_min is a hundredth of DDPM's, which the last tolerances need
    cases = list(problems(vp, options.seeds, options.images))
    for tolerance, count, e in adaptive(vp, cases):
      print(f'| {tolerance:.0e} | {count:.0f} | {show(e)} |', flush=True)


if __name__ == '__main__':
  main()
