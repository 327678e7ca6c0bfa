"""Errors of samplers against evaluations of the network: `python -m benchmarks.solvers`.

The data are mixtures of 10 Gaussians of deviation 0.15 in 8 dimensions, whose denoiser is known, in
DDPM's linear process. An error is the root mean square a dimension, over `--images` from each of
`--seeds` mixtures, against the probability flow solved with an adaptive method of order 8; in
brackets the median mixture's. The first is often that of a few images, which start so near to a
watershed of the flow that they end in another mode, an error of about 1 each.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from models.diffusion import ode, samplers, solvers
from models.diffusion import process as process_lib
from models.diffusion.parameterization import Denoiser
from models.diffusion.process import like

EVALUATIONS = (10, 18, 35, 50, 100, 200)

# Name, sampler, grid.
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
  return np.random.default_rng(seed).normal(size=(10, 8))


def mean(y, level, means, xp):
  """E[x_0 | x_0 + level z = y] `[B, D]`."""
  variance = STD**2 + level**2
  logits = -((y[:, None] - means[None]) ** 2).sum(-1) / (2 * variance)
  shares = xp.exp(logits - logits.max(1, keepdims=True))
  centre = shares @ means / shares.sum(1, keepdims=True)
  return centre + STD**2 / variance * (y - centre)


def denoiser(process, means):
  def predict(x, t):
    alpha, sigma = like(process.alpha(t), x), like(process.sigma(t), x)
    return mean(x / alpha, sigma / alpha, jnp.asarray(means, x.dtype), jnp)

  return Denoiser(process, predict, 'x0')


def solved(process, means, x):
  """The clean images at the end of the probability flow from x `[B, D]` at T."""
  alpha, sigma = process.alpha(process.T), process.sigma(process.T)

  def slope(log_level, y):
    y = y.reshape(x.shape)
    return (y - mean(y, np.exp(log_level), means, np)).ravel()

  ends = (np.log(sigma / alpha), np.log(1e-6))
  end = solve_ivp(slope, ends, (x / alpha).ravel(), method='DOP853', rtol=1e-11, atol=1e-12)
  return end.y[:, -1].reshape(x.shape)


def problems(process, seeds, images):
  """(means, x_T, solution) of each seed."""
  for seed in range(seeds):
    x = np.random.default_rng(100 + seed).normal(size=(images, 8))
    yield mixture(seed), x, solved(process, mixture(seed), x)


def errors(process, cases, sampler, times):
  """The root mean square of each case, NumPy `[cases]`."""
  run = jax.jit(lambda means, x: sampler(denoiser(process, means), x, None, times))
  return np.sqrt([np.square(run(means, x) - truth).mean() for means, x, truth in cases])


def error(process, cases, sampler, times):
  """The root mean square over all cases."""
  return float(np.sqrt(np.square(errors(process, cases, sampler, times)).mean()))


def show(values):
  return f'{np.sqrt(np.square(values).mean()):.2g} ({np.median(values):.2g})'


def steps_for(sampler, evaluations):
  """The longest grid that takes no more evaluations."""
  return max(n for n in range(2, evaluations + 1) if sampler.evaluations(n) <= evaluations)


def table(process, cases):
  """(name, grid, errors of all cases at each of `EVALUATIONS`) of each row."""
  for name, sampler, grid in ROWS:
    times = [solvers.grid(grid, process, steps_for(sampler, n)) for n in EVALUATIONS]
    yield name, grid, [errors(process, cases, sampler, t) for t in times]


def adaptive(process, cases):
  """(tolerance, mean evaluations, error) of the adaptive method."""
  ends = np.array([process.T, process.t_min])
  for tolerance in TOLERANCES:
    sampler = samplers.AdaptiveODE(tolerance, tolerance)
    count = jax.jit(
      lambda means, x, tolerance=tolerance: (
        ode.solve(
          denoiser(process, means).velocity, x, *ends, rtol=tolerance, atol=tolerance
        ).evaluations
      )
    )
    counts = [count(means, x).mean() for means, x, _ in cases]
    yield tolerance, float(np.mean(counts)) + 1, errors(process, cases, sampler, ends)


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.solvers')
  parser.add_argument('--seeds', type=int, default=12)
  parser.add_argument('--images', type=int, default=200)
  options = parser.parse_args()
  with jax.enable_x64(True):
    process = process_lib.DDPM()
    cases = list(problems(process, options.seeds, options.images))
    print(f'| method | grid | {" | ".join(map(str, EVALUATIONS))} |\n|---|---|{"---|" * 6}')
    for name, grid, row in table(process, cases):
      print(f'| {name} | {grid} | {" | ".join(map(show, row))} |', flush=True)
    print('\n| tolerance | evaluations | error |\n|---|---|---|')
    process = process_lib.VP()  # whose t_min is a hundredth, for the sake of the last tolerances
    cases = list(problems(process, options.seeds, options.images))
    for tolerance, count, e in adaptive(process, cases):
      print(f'| {tolerance:.0e} | {count:.0f} | {show(e)} |', flush=True)


if __name__ == '__main__':
  main()
