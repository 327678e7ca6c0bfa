"""Input pipelines beside grain's and tf.data's: `python -m benchmarks.input`.

Images: JPEGs of ImageNet's sizes in ArrayRecord shards (TFRecord for tf.data), shuffled, decoded,
an inception crop of each resized to 224 x 224 (bilinear), and mirrored. Texts: shuffled windows of
1,024 tokens of a mapped file, and whole documents packed into such rows. A rate is by the seconds
of processor time, in all threads and processes of a pipeline: it is that of one core.

  ours, grain           as many threads as cores; -processes: as many processes
  tf.data               resizes without antialiasing, as it does by default: another picture
  tf.data-antialias     resizes as the others

Grain and TensorFlow are part of `pip install '.[bench]'`.
"""

import functools
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from benchmarks import input_engines as made
from benchmarks import turns

CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1

IMAGES: dict[str, Callable[[pathlib.Path], made.Batches]] = {
  'ours': functools.partial(made.our_images, workers=CORES),
  'ours-processes': functools.partial(made.our_images, workers=CORES, processes=CORES),
  'grain': functools.partial(made.grain_images, workers=CORES),
  'grain-processes': functools.partial(made.grain_images, workers=CORES, processes=CORES),
  'tf.data': functools.partial(made.tf_images, workers=CORES),
  'tf.data-antialias': functools.partial(made.tf_images, workers=CORES, antialias=True),
}
STREAM = {'ours': made.our_rows, 'grain': made.grain_rows, 'tf.data': made.tf_rows}
CASES: dict[str, tuple[str, Mapping[str, Any], int]] = {  # unit, engines, units of a batch
  'images': ('images', IMAGES, made.BATCH),
  'windows': (
    'tokens',
    {name: functools.partial(engine, packing='stream') for name, engine in STREAM.items()},
    made.ROWS * made.ROW,
  ),
  'documents': (
    'tokens',
    {
      'ours': functools.partial(made.our_rows, packing='documents'),
      'grain': functools.partial(made.grain_rows, packing='documents'),
    },
    made.ROWS * made.ROW,
  ),
}


def processor_seconds() -> float:
  """Returns the processor's time of this process and of those that it has started."""
  spent = time.process_time()
  for children in pathlib.Path('/proc/self/task').glob('*/children'):
    for number in children.read_text().split():
      fields = pathlib.Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()
      spent += (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
  return spent


def settle() -> None:
  """Waits until what is read ahead is there, so that a burst pays for as much as it takes."""
  before = -1.0
  while (now := processor_seconds()) - before > 0.003:
    before = now
    time.sleep(0.5)


def work(case: str, engine: str, root: str) -> None:
  """Serves the bursts of an engine, in batches that end on the device."""
  batches = CASES[case][1][engine](pathlib.Path(root))

  def burst(calls: int) -> None:
    for _ in range(calls):
      jax.block_until_ready(jax.device_put(next(batches)))
    settle()

  turns.serve(burst, clock=processor_seconds)


def engines(case: str) -> list[str]:
  """Returns the engines of a case whose libraries are installed."""
  needs = {'grain': 'grain', 'tf.data': 'tensorflow'}
  names = CASES[case][1]
  return [name for name in names if turns.installed(needs.get(name.partition('-')[0], 'numpy'))]


def measure(
  case: str, root: str, rounds: int, seconds: float, names: Sequence[str]
) -> list[dict[str, Any]]:
  """Returns rows of the table; ratios are of ours to each engine's rate."""
  quiet = {'TF_CPP_MIN_LOG_LEVEL': '3'}
  workers = [
    turns.Worker(name, 'benchmarks.input', ('--worker', case, name, root), **quiet)
    for name in names
  ]
  times, rows = turns.measure(workers, rounds, seconds), []
  for engine, t in times.items():
    rate = CASES[case][2] / statistics.median(t)
    rows.append({'engine': engine, 'rate': rate, **turns.ratios(t, times['ours'])})
  return rows


def show(case: str, rows: list[dict[str, Any]]) -> None:
  """Prints the table."""
  unit = CASES[case][0]
  print(f'\n{case}: {unit} a second of one core; how many times as fast ours is')
  for row in rows:
    print(f'  {row["engine"]:20} {row["rate"]:15,.0f}  {turns.show(row)}')


def main() -> None:
  """Runs the command."""
  parser = turns.parser('benchmarks.input', __doc__, rounds=8, seconds=2.0)
  parser.add_argument('--cases', default=','.join(CASES), help='some of %(default)s')
  parser.add_argument(
    '--images', type=turns.at_least(made.BATCH), default=512, help='made at first'
  )
  parser.add_argument('--engines', default=','.join(IMAGES), help='some of %(default)s')
  options = parser.parse_args()
  if options.worker:
    return work(*options.worker)
  chosen, results = turns.words(parser, '--cases', options.cases, CASES), {}
  wanted = turns.words(parser, '--engines', options.engines, IMAGES, needs='ours')
  with tempfile.TemporaryDirectory() as root:
    made.write_images(pathlib.Path(root), options.images if 'images' in chosen else 1)
    made.write_tokens(pathlib.Path(root))
    for case in chosen:
      names = [name for name in engines(case) if name in wanted]
      results[case] = measure(case, root, options.rounds, options.seconds, names)
      show(case, results[case])
      turns.save(options.json, rounds=options.rounds, load=os.getloadavg(), cases=results)


if __name__ == '__main__':
  main()
