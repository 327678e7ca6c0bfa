"""What the loop costs over its bare compiled step: `python -m benchmarks.loop`.

Runs of the loop (input, metrics, log; the evaluation and the checkpoint at the end are not counted)
take turns with as many calls of the same step on one batch. The overhead is the median over the
turns of the ratio of their times a step, less 1.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
import time

import jax
import optax

from data.images.source import ImageData
from train import mesh as mesh_lib
from train.loop import Loop
from train.step import init_state, make_step
from train.tasks import Classify


def loop_seconds(task, tx, mesh, steps):
  """Seconds a step as the loop's own log has them, without its first interval."""
  with tempfile.TemporaryDirectory() as workdir:
    Loop(steps=steps, log_every=steps // 4).run(task, tx, lambda step: 0.01, mesh, workdir)
    lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  rates = [json.loads(line).get('time/images_per_second') for line in lines]
  return statistics.mean(task.batch_size / rate for rate in rates[1:] if rate)


def bare_burst(task, tx, mesh):
  """A function that runs n steps on one batch and says how many seconds a step took."""
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh)
    _, batch = task.source('train', mesh, 0).next((), 0, None)
    step = make_step(task, tx, shardings, schedule=lambda step: 0.01).lower(state, batch).compile()

  def burst(steps):
    nonlocal state
    start = time.perf_counter()
    for _ in range(steps):
      state, metrics = step(state, batch)
    jax.block_until_ready(metrics)
    return (time.perf_counter() - start) / steps

  return burst


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.loop')
  parser.add_argument('--net', default='lenet')
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--steps', type=int, default=200, help='of a turn')
  parser.add_argument('--turns', type=int, default=7)
  options = parser.parse_args()
  data = ImageData(dataset='digits', batch_size=options.batch)
  task, tx, mesh = Classify({'name': options.net}, data), optax.sgd(0.01, 0.9), mesh_lib.make_mesh()
  burst = bare_burst(task, tx, mesh)
  burst(options.steps)
  ratios = []
  for _ in range(options.turns):
    bare, loop = burst(options.steps), loop_seconds(task, tx, mesh, options.steps)
    ratios.append(loop / bare - 1)
    print(f'bare {1e3 * bare:.2f} ms, loop {1e3 * loop:.2f} ms: {ratios[-1]:+.1%}', flush=True)
  print(f'{options.net}: overhead {statistics.median(ratios):+.1%} in the median')


if __name__ == '__main__':
  main()
