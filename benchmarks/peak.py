"""What products of matrices reach at best on this machine: `python -m benchmarks.peak`.

Square ones in float32, by XLA and, where it is installed, by PyTorch: the median of the rounds.
"""

import argparse
import importlib.util
import statistics
import time

from train.runtime import host


def xla(size):
  import jax
  import jax.numpy as jnp

  a = jnp.ones((size, size))
  multiply = jax.jit(jnp.matmul)
  return lambda: jax.block_until_ready(multiply(a, a))


def pytorch(size):
  import torch

  a = torch.ones(size, size)
  return lambda: a @ a


def gflops(multiply, size, rounds):
  multiply()
  times = []
  for _ in range(rounds):
    start = time.perf_counter()
    multiply()
    times.append(time.perf_counter() - start)
  return 2 * size**3 / statistics.median(times) / 1e9


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.peak')
  parser.add_argument('--sizes', type=int, nargs='+', default=[512, 1024, 2048])
  parser.add_argument('--rounds', type=int, default=20)
  options = parser.parse_args()
  host.tune()
  engines = {'XLA': xla} | ({'PyTorch': pytorch} if importlib.util.find_spec('torch') else {})
  for size in options.sizes:
    for name, make in engines.items():
      rate = gflops(make(size), size, options.rounds)
      print(f'{size:5} x {size:<5} {name:8} {rate:8.0f} GFLOP/s', flush=True)


if __name__ == '__main__':
  main()
