"""Training steps of ours and of PyTorch's, side by side in one run: `python -m benchmarks`.

Both sides get huge pages. A ratio is of neighbouring bursts: median, and 10th to 90th percentile.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import nets, turns
from train.runtime import host

# Functions of `models.ops` that have a form of their own for CPUs.
FORMS = 'conv', 'dense', 'max_pool', 'avg_pool', 'local_response_norm', 'batch_moments'


def engines(gpu: bool, without: Sequence[str]) -> list[str]:
  """Returns the engines' names: ours, ours without single forms, and PyTorch's if installed."""
  names = ['ours', 'ours-plain', *(f'ours-without-{name}' for name in without)]
  if turns.installed('torch'):
    names += ['torch-nchw', 'torch-channels_last'] + ['torch-channels_last-compiled'] * gpu
  return names


def measure(
  net: str, batch: int, rounds: int, seconds: float, names: Sequence[str]
) -> dict[str, list[float]]:
  """Returns engine -> seconds a step, of each round."""
  workers = [turns.Worker(e, 'benchmarks', ('--worker', e, net, batch)) for e in names]
  sizes = {worker.engine: worker.about['parameters'] for worker in workers}
  if len(set(sizes.values())) > 1:
    raise RuntimeError(f'{net}: these are different networks: {sizes}')
  return turns.measure(workers, rounds, seconds)


def summarize(times: Mapping[str, Sequence[float]], batch: int) -> list[dict[str, Any]]:
  """Returns rows of the table; ratios are to the PyTorch engine of the smallest median."""
  best, rows = turns.fastest(times, 'torch'), []
  for engine, t in times.items():
    median = statistics.median(t)
    row = {'engine': engine, 'ms': 1e3 * median, 'images_per_second': batch / median}
    if best:
      row |= {**turns.ratios(times[best], t), 'against': best}
    rows.append(row)
  return rows


def show(net: str, batch: int, rows: Sequence[Mapping[str, Any]]) -> None:
  """Prints the table."""
  print(f'\n{net}, batch {batch}')
  for row in rows:
    ratio = turns.show(row) if 'ratio' in row else ''
    print(
      f'  {row["engine"]:30} {row["ms"]:9.2f} ms {row["images_per_second"]:10,.1f} images/s {ratio}'
    )


def main() -> None:
  """Runs the command."""
  parser = turns.parser('benchmarks', __doc__, rounds=12, seconds=0.8)
  parser.add_argument('--nets', default=','.join(nets.BATCHES), help='some of %(default)s')
  parser.add_argument('--without', default='', help='also without our form of: max_pool,dense,...')
  options = parser.parse_args()
  if options.worker:
    engine, net, batch = options.worker
    burst, parameters = nets.make_burst(engine, net, int(batch))
    return turns.serve(burst, parameters=parameters)
  chosen = turns.words(parser, '--nets', options.nets, nets.BATCHES)
  gpu = host.accelerator()
  names = engines(gpu, turns.words(parser, '--without', options.without, FORMS))
  host.use_compilation_cache()
  results = {}
  for net in chosen:
    batch = (nets.GPU_BATCHES if gpu else nets.BATCHES)[net]
    times = measure(net, batch, options.rounds, options.seconds, names)
    results[net] = {'batch': batch, 'rows': (rows := summarize(times, batch))}
    show(net, batch, rows)
    turns.save(options.json, rounds=options.rounds, nets=results)


if __name__ == '__main__':
  main()
