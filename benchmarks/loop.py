"""The overhead of the training loop over its bare compiled step: `python -m benchmarks.loop`.

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
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from benchmarks import steps as steps_lib
from benchmarks import turns
from data.images.source import ImageData
from train import mesh as mesh_lib
from train.errors import UserError
from train.loop import Loop
from train.step import init_state, make_step
from train.tasks.classify import Classify

LEARNING_RATE = 0.01


def loop_seconds(task: Any, tx: optax.GradientTransformation, mesh: Mesh, steps: int) -> float:
  """Returns the seconds a step that the loop logs, without its first interval."""
  with tempfile.TemporaryDirectory() as workdir:
    Loop(steps=steps, log_every=steps // 4).run(task, tx, lambda step: LEARNING_RATE, mesh, workdir)
    lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  rates = [json.loads(line).get('time/images_per_second') for line in lines]
  return statistics.mean(task.batch_size / rate for rate in rates[1:] if rate)


def bare_step(task: Any, tx: optax.GradientTransformation, mesh: Mesh) -> Callable[[int], float]:
  """Returns a function that runs n steps on one batch and returns the seconds a step."""
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh)
    _, batch = task.source('train', mesh, 0).next((), 0, None)
    step: Any = make_step(task, tx, shardings, schedule=lambda step: jnp.float32(LEARNING_RATE))
    burst = steps_lib.make_burst(step.lower(state, batch).compile(), state, batch)

  def seconds(steps: int) -> float:
    start = time.perf_counter()
    burst(steps)
    return (time.perf_counter() - start) / steps

  return seconds


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.loop')
  parser.add_argument('--net', default='lenet')
  parser.add_argument('--batch', type=turns.at_least(1), default=128)
  parser.add_argument('--steps', type=turns.at_least(8), default=200, help='of a turn')
  parser.add_argument('--turns', type=turns.at_least(1), default=7)
  options = parser.parse_args()
  data = ImageData(dataset='digits', batch_size=options.batch)
  try:
    task = Classify({'name': options.net}, data)
  except (UserError, ValueError) as error:
    parser.error(str(error))
  tx, mesh = optax.sgd(LEARNING_RATE, 0.9), mesh_lib.make_mesh()
  bare_seconds = bare_step(task, tx, mesh)
  bare_seconds(options.steps)
  ratios = []
  for _ in range(options.turns):
    bare, loop = bare_seconds(options.steps), loop_seconds(task, tx, mesh, options.steps)
    ratios.append(loop / bare - 1)
    print(f'bare {1e3 * bare:.2f} ms, loop {1e3 * loop:.2f} ms: {ratios[-1]:+.1%}', flush=True)
  print(f'{options.net}: overhead {statistics.median(ratios):+.1%} in the median')


if __name__ == '__main__':
  main()
