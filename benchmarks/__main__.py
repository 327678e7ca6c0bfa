"""Training steps of ours and of PyTorch's, side by side in one run: `python -m benchmarks`.

Both sides get huge pages. A ratio is of neighbouring bursts: median, and 10th to 90th percentile.
"""

import argparse
import importlib.util
import statistics

from benchmarks import turns
from train.runtime import host

BATCHES = {'lenet': 128, 'alexnet': 8, 'resnet20': 128, 'resnet50': 8}
GPU_BATCHES = {'lenet': 128, 'alexnet': 256, 'resnet20': 128, 'resnet50': 256}


def engines(gpu, without):
  names = ['ours', 'ours-plain', *(f'ours-without-{name}' for name in without)]
  if importlib.util.find_spec('torch'):
    names += ['torch-nchw', 'torch-channels_last'] + ['torch-channels_last-compiled'] * gpu
  return names


def measure(net, batch, rounds, seconds, gpu, without):
  """Engine -> seconds a step of each round."""
  workers = [turns.Worker(e, 'benchmarks.worker', (e, net, batch)) for e in engines(gpu, without)]
  sizes = {worker.engine: worker.about['parameters'] for worker in workers}
  if len(set(sizes.values())) > 1:
    raise RuntimeError(f'{net}: these are different networks: {sizes}')
  return turns.measure(workers, rounds, seconds)


def summarize(times, batch):
  """Rows of the table; ratios are to the PyTorch engine that is fastest in the median."""
  best, rows = turns.fastest(times, 'torch'), []
  for engine, t in times.items():
    median = statistics.median(t)
    row = {'engine': engine, 'ms': 1e3 * median, 'images_per_second': batch / median}
    if best:
      row |= {**turns.ratios(times[best], t), 'against': best}
    rows.append(row)
  return rows


def show(net, batch, rows):
  print(f'\n{net}, batch {batch}')
  for row in rows:
    ratio = turns.show(row) if 'ratio' in row else ''
    print(
      f'  {row["engine"]:30} {row["ms"]:9.2f} ms {row["images_per_second"]:10,.1f} images/s {ratio}'
    )


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks')
  parser.add_argument('--nets', default=','.join(BATCHES), help='some of %(default)s')
  parser.add_argument('--rounds', type=int, default=12)
  parser.add_argument('--seconds', type=float, default=0.8, help='of a burst, at least one step')
  parser.add_argument('--json', help='a file for the figures')
  parser.add_argument('--without', default='', help='also without our form of: max_pool,dense,...')
  options = parser.parse_args()
  without = list(filter(None, options.without.split(',')))
  host.use_compilation_cache()
  gpu = host.accelerator()
  results = {}
  for net in options.nets.split(','):
    batch = (GPU_BATCHES if gpu else BATCHES)[net]
    times = measure(net, batch, options.rounds, options.seconds, gpu, without)
    results[net] = {'batch': batch, 'rows': summarize(times, batch)}
    show(net, batch, results[net]['rows'])
  turns.save(options.json, rounds=options.rounds, nets=results)


if __name__ == '__main__':
  main()
