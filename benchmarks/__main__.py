"""Training steps of ours and of PyTorch's, side by side in one run: `python -m benchmarks`.

Each engine is a process of its own; short bursts take turns, so that a machine that slows down
slows all of them. Both sides get huge pages. A ratio is of neighbouring bursts: median, and 10th to
90th percentile.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

from train import host

ROOT = pathlib.Path(__file__).parents[1]
BATCHES = {'lenet': 128, 'alexnet': 8, 'resnet20': 128, 'resnet50': 8}
PAUSE = 0.3  # s before a burst: OpenMP's threads spin on for a while after PyTorch's last step
GPU_BATCHES = {'lenet': 128, 'alexnet': 256, 'resnet20': 128, 'resnet50': 256}


class Worker:
  def __init__(self, engine, net, batch):
    self.engine = engine
    command = [sys.executable, '-m', 'benchmarks.worker', engine, net, str(batch)]
    pipe = subprocess.PIPE
    self.process = subprocess.Popen(
      command, cwd=ROOT, env=environment(), stdin=pipe, stdout=pipe, text=True
    )
    self.parameters = self.read()['parameters']

  def read(self):
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(f'{self.engine}: ended with status {self.process.wait()}')
    return json.loads(line)

  def burst(self, steps):
    """Seconds a step."""
    self.process.stdin.write(f'{steps}\n')
    self.process.stdin.flush()
    return self.read() / steps

  def close(self):
    self.process.stdin.close()
    self.process.wait()


def environment():
  """As `launch.py` sets it; PyTorch reads the huge pages alone."""
  settings = {'GLIBC_TUNABLES': host.HUGE_PAGES}
  if host.knows_eigen_flag() and not host.accelerator():
    settings['XLA_FLAGS'] = host.EIGEN_CONVOLUTIONS
  return {**settings, **os.environ, 'GLIBC_TUNABLES': host.HUGE_PAGES}


def engines(gpu):
  names = ['ours', 'ours-plain']
  if importlib.util.find_spec('torch'):
    names += ['torch-nchw', 'torch-channels_last'] + ['torch-channels_last-compiled'] * gpu
  return names


def measure(net, batch, rounds, seconds, gpu):
  """Engine -> seconds a step of each round."""
  with contextlib.ExitStack() as stack:
    workers = [stack.enter_context(contextlib.closing(Worker(e, net, batch))) for e in engines(gpu)]
    sizes = {worker.engine: worker.parameters for worker in workers}
    if len(set(sizes.values())) > 1:
      raise RuntimeError(f'{net}: these are different networks: {sizes}')
    steps = {w.engine: max(1, round(seconds / w.burst(2))) for w in workers}
    times = {w.engine: [] for w in workers}
    for i in range(rounds):
      for worker in workers[i % len(workers) :] + workers[: i % len(workers)]:
        time.sleep(PAUSE)
        times[worker.engine].append(worker.burst(steps[worker.engine]))
  return times


def summarize(times, batch):
  """Rows of the table; ratios are to the PyTorch engine that is fastest in the median."""
  medians = {engine: statistics.median(t) for engine, t in times.items()}
  peers = [engine for engine in times if engine.startswith('torch')]
  best = min(peers, key=medians.get, default=None)
  rows = []
  for engine, t in times.items():
    row = {
      'engine': engine,
      'ms': 1e3 * medians[engine],
      'images_per_second': batch / medians[engine],
    }
    if best:
      ratios = np.array(times[best]) / np.array(t)
      row['ratio'] = float(np.median(ratios))
      row['ratio_p10'], row['ratio_p90'] = np.percentile(ratios, [10, 90]).tolist()
      row['against'] = best
    rows.append(row)
  return rows


def show(net, batch, rows):
  print(f'\n{net}, batch {batch}')
  for row in rows:
    ratio = ''
    if 'ratio' in row:
      ratio = f'{row["ratio"]:6.2f} [{row["ratio_p10"]:.2f}, {row["ratio_p90"]:.2f}]'
    print(
      f'  {row["engine"]:30} {row["ms"]:9.2f} ms {row["images_per_second"]:10,.1f} images/s {ratio}'
    )


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks')
  parser.add_argument('--nets', default=','.join(BATCHES), help='some of %(default)s')
  parser.add_argument('--rounds', type=int, default=12)
  parser.add_argument('--seconds', type=float, default=0.8, help='of a burst, at least one step')
  parser.add_argument('--json', help='a file for the figures')
  options = parser.parse_args()
  host.use_compilation_cache()
  gpu = host.accelerator()
  results = {}
  for net in options.nets.split(','):
    batch = (GPU_BATCHES if gpu else BATCHES)[net]
    times = measure(net, batch, options.rounds, options.seconds, gpu)
    results[net] = {'batch': batch, 'rows': summarize(times, batch)}
    show(net, batch, results[net]['rows'])
  if options.json:
    from train import tools
    from train.workdir import write_json

    write_json(options.json, {**tools.provenance(), 'rounds': options.rounds, 'nets': results})


if __name__ == '__main__':
  main()
