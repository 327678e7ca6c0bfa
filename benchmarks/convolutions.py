"""Convolutions in the form of models/cpu.py beside XLA's own: `python -m benchmarks.convolutions`.

One at a time, float32: forward alone, as in search and sampling, and with both gradients. The two
forms take turns in one process; a ratio is plain to ours, above 1 where ours is the faster.
"""

import argparse
import time

from benchmarks import turns
from train import host

# name: batch, sides of the image, channels, of the kernel: side, channels, stride
CASES = {
  'tic-tac-toe': (128, (3, 3), 32, 3, 32, 1),
  'go 5x5': (128, (5, 5), 32, 3, 32, 1),
  'connect four': (256, (6, 7), 32, 3, 32, 1),
  'connect four, 64': (256, (6, 7), 64, 3, 64, 1),
  'go 9x9': (64, (9, 9), 32, 3, 32, 1),
  'go 9x9, 128': (16, (9, 9), 128, 3, 128, 1),
  'go 19x19, 192': (8, (19, 19), 192, 3, 192, 1),
  'lenet, first': (128, (28, 28), 1, 5, 6, 1),
  'alexnet, first': (8, (227, 227), 3, 11, 96, 4),
  'resnet20, first part': (128, (32, 32), 16, 3, 16, 1),
  'resnet20, second': (128, (16, 16), 32, 3, 32, 1),
  'resnet20, third': (128, (8, 8), 64, 3, 64, 1),
}


def forms(case):
  """'forward' and 'training' -> each form of `ops` -> a function that runs it once."""
  import jax
  import jax.numpy as jnp

  from models import ops

  batch, sides, channels, window, filters, stride = CASES[case]
  x = jax.random.normal(jax.random.key(0), (batch, *sides, channels))
  kernel = jax.random.normal(jax.random.key(1), (window, window, channels, filters))

  def forward(x, kernel):
    return ops.conv(x, kernel, strides=(stride, stride), padding='VALID' if stride > 1 else 'SAME')

  def training(x, kernel):
    y, pullback = jax.vjp(forward, x, kernel)
    return y, *pullback(jnp.ones_like(y))

  def compiled(f, form):
    with ops.use(form):  # a function of its own: JAX would know f, and take the other form's
      program = jax.jit(lambda x, kernel: f(x, kernel)).lower(x, kernel).compile()
    return lambda: jax.block_until_ready(program(x, kernel))

  return {
    f.__name__: {form: compiled(f, form) for form in ops.FORMULATIONS} for f in (forward, training)
  }


def measure(pair, rounds):
  """Form -> seconds of each round; the first is not counted."""
  times = {name: [] for name in pair}
  for _ in range(rounds + 1):
    for name, run in pair.items():
      start = time.perf_counter()
      run()
      times[name].append(time.perf_counter() - start)
  return {name: t[1:] for name, t in times.items()}


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.convolutions')
  parser.add_argument('--rounds', type=int, default=40)
  parser.add_argument('--json', help='a file for the figures')
  options = parser.parse_args()
  host.tune()
  results = {}
  for case in CASES:
    found = {what: measure(pair, options.rounds) for what, pair in forms(case).items()}
    results[case] = {what: turns.ratios(t['plain'], t['cpu']) for what, t in found.items()}
    rows = '  '.join(f'{what} {turns.show(row)}' for what, row in results[case].items())
    print(f'{case:22} {rows}', flush=True)
  turns.save(options.json, rounds=options.rounds, cases=results)


if __name__ == '__main__':
  main()
