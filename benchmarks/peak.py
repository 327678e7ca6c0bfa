"""The best speed of matrix products on this machine: `python -m benchmarks.peak`.

They are square and in float32, by XLA and, where it is installed, by PyTorch.
"""

import argparse
import statistics
import time
from collections.abc import Callable

from benchmarks import turns
from train.runtime import host


def xla(size: int) -> Callable[[], object]:
  """Returns a function that multiplies two matrices [size, size] by XLA."""
  import jax
  import jax.numpy as jnp

  a = jnp.ones((size, size))
  multiply = jax.jit(jnp.matmul)
  return lambda: jax.block_until_ready(multiply(a, a))


def pytorch(size: int) -> Callable[[], object]:
  """Returns a function that multiplies two matrices [size, size] by PyTorch."""
  import torch

  a = torch.ones(size, size)
  return lambda: a @ a


def gflops(multiply: Callable[[], object], size: int, rounds: int) -> float:
  """Returns GFLOP/s, by the median of the rounds."""
  multiply()
  times = []
  for _ in range(rounds):
    start = time.perf_counter()
    multiply()
    times.append(time.perf_counter() - start)
  return 2 * size**3 / statistics.median(times) / 1e9


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.peak')
  parser.add_argument('--sizes', type=turns.at_least(1), nargs='+', default=[512, 1024, 2048])
  parser.add_argument('--rounds', type=turns.at_least(1), default=20)
  options = parser.parse_args()
  host.tune()
  engines = {'XLA': xla} | ({'PyTorch': pytorch} if turns.installed('torch') else {})
  for size in options.sizes:
    for name, make in engines.items():
      rate = gflops(make(size), size, options.rounds)
      print(f'{size:5} x {size:<5} {name:8} {rate:8.0f} GFLOP/s', flush=True)


if __name__ == '__main__':
  main()
