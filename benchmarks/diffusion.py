"""A diffusion U-Net on a CPU against PyTorch's, in one run: `python -m benchmarks.diffusion`.

28 x 28 images, widths 32, 64, 64, batch 64, float32; as many parameters on both sides.

cases: `train` is a whole step (noise, loss, gradients, AdamW, the average of the weights) and
`sample` a step of DDIM for a batch, of which an image takes 50. Ours is the task `diffusion`: its
compiled step, as the loop runs it, and its images, drawn in a compiled loop.
engines: `ours`, and `ours-plain`, the formulation for accelerators; diffusers' UNet2DModel with
default settings as `torch`, and with huge pages and the fused optimiser as `torch-nchw` and
`torch-channels_last`. `torch-channels_last-compiled` runs only if named: it compiles for minutes.

A ratio compares neighbouring bursts, seconds of theirs over ours: median, 10th to 90th percentile.
"""

import argparse
import importlib.util
import statistics
import time
import types
from typing import Any

from benchmarks import turns
from train.runtime import host

SHAPE = {
  'channels': 32,
  'channel_multipliers': (1, 2, 2),
  'num_res_blocks': 2,
  'attention_resolutions': (7,),
  'head_width': 8,
  'groups': 8,
}
IMAGE, BATCH = (28, 28, 1), 64
PARAMETERS = 1_623_169
STEPS = 50  # of DDIM per image
CALL = 5  # steps in one call of a sampler

CASES = ('train', 'sample')
OURS = ('ours', 'ours-plain')
TORCH = ('torch', 'torch-nchw', 'torch-channels_last')
COMPILED = 'torch-channels_last-compiled'


# -------- our engine --------


def our_task():
  from train.tasks.diffusion.options import SamplerOptions
  from train.tasks.diffusion.task import Diffusion

  data: Any = types.SimpleNamespace(
    image_shape=IMAGE, batch_size=BATCH, classes=tuple('0123456789')
  )
  sampling = SamplerOptions(num_steps=CALL, sample_batch_size=BATCH)
  return Diffusion({'name': 'unet', **SHAPE}, data, sampling=sampling)


def our_training():
  import jax
  import numpy as np
  import optax

  from train import mesh as mesh_lib
  from train.step import init_state, make_step

  start = time.perf_counter()
  task, tx, rng = our_task(), optax.adamw(1e-4), np.random.default_rng(0)
  values = {
    'image': rng.integers(256, size=(BATCH, *IMAGE)).astype(np.uint8),
    'label': rng.integers(10, size=BATCH).astype(np.int32),
    'index': np.arange(BATCH, dtype=np.int32),
    'mask': np.ones(BATCH, np.float32),
  }
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh, ema=True)
    batch = jax.device_put(values, mesh_lib.batch_sharding(mesh))
    step_fn: Any = make_step(task, tx, shardings, ema_decay=0.999)
    step = step_fn.lower(state, batch).compile()

  def burst(steps):
    nonlocal state
    for _ in range(steps):
      state, metrics = step(state, batch)
    float(metrics['loss'][0])

  about = {
    'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
    'compile_seconds': time.perf_counter() - start,
    'temporary_mb': step.memory_analysis().temp_size_in_bytes / 1e6,
  }
  return burst, about


def our_sampling():
  import jax

  from train import mesh as mesh_lib

  start, task = time.perf_counter(), our_task()
  variables = jax.jit(lambda key: mesh_lib.unbox(task.init(key)))(jax.random.key(0))
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  keys = jax.random.split(jax.random.key(1), BATCH)

  def burst(calls):
    for _ in range(calls):
      task.images(variables, keys, None, mesh)

  burst(1)
  parameters = sum(x.size for x in jax.tree.leaves(variables))
  return burst, {'parameters': parameters, 'compile_seconds': time.perf_counter() - start}


def ours(case):
  return our_training() if case == 'train' else our_sampling()


def make_burst(engine, case):
  """Returns a function (calls) that runs the case so often, and metadata of the engine."""
  if engine == 'ours':
    return ours(case)
  if engine == 'ours-plain':
    from models import ops

    with ops.use('plain'):
      return ours(case)
  from benchmarks import torch_unet

  layout, *compiled = engine.split('-')[1:] or ['nchw']
  options = {'layout': layout, 'compiled': bool(compiled)}
  if case == 'sample':
    burst, parameters = torch_unet.sampling(SHAPE, IMAGE, BATCH, STEPS, CALL, **options)
  else:
    fused = engine != 'torch'
    burst, parameters = torch_unet.training(SHAPE, IMAGE, BATCH, fused=fused, **options)
  return burst, {'parameters': parameters}


# -------- turns --------


def engines():
  there = all(importlib.util.find_spec(name) for name in ('torch', 'diffusers'))
  return [*OURS, *TORCH] if there else [*OURS]


def start(engine, case):
  # 'torch' runs without the allocator settings of all others.
  bare = {'GLIBC_TUNABLES': ''} if engine == 'torch' else {}
  return turns.Worker(engine, 'benchmarks.diffusion', ('--worker', engine, case), **bare)


def measure(case, rounds, seconds, names):
  """Returns the rows of the table; `ratio` is the engine's seconds over ours."""
  workers = [start(engine, case) for engine in names]
  about = {worker.engine: worker.about for worker in workers}
  if {row['parameters'] for row in about.values()} != {PARAMETERS}:
    raise RuntimeError(f'{PARAMETERS:,} parameters were wanted: {about}')
  times, rows = turns.measure(workers, rounds, seconds), []
  steps = CALL if case == 'sample' else 1
  for engine, t in times.items():
    step = statistics.median(t) / steps
    images = BATCH / step / (STEPS if case == 'sample' else 1)
    row = {'engine': engine, 'ms': 1e3 * step, 'images_per_second': images}
    rows.append({**row, **turns.ratios(t, times['ours']), **about[engine]})
  return rows


def show(case, rows):
  print(f'\n{case}, batch {BATCH}')
  for row in rows:
    print(
      f'  {row["engine"]:30} {row["ms"]:9,.1f} ms a step {row["images_per_second"]:9,.1f} images/s'
      f' {turns.show(row):>20}',
      flush=True,
    )


def main():
  parser = argparse.ArgumentParser(
    description=__doc__,
    prog='python -m benchmarks.diffusion',
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--cases', default=','.join(CASES), help='of %(default)s')
  parser.add_argument('--engines', help='a comma-separated list of the above')
  parser.add_argument(
    '--rounds', type=turns.at_least(1), default=9, help='bursts of each engine; default %(default)s'
  )
  parser.add_argument(
    '--seconds', type=float, default=1.0, help='length of a burst, at least one call'
  )
  parser.add_argument('--json', help='a file for the figures')
  parser.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.worker:
    burst, about = make_burst(*options.worker)
    return turns.serve(burst, **about)
  chosen = options.engines or ','.join(engines())
  there = [*engines(), *[COMPILED] * ('torch' in engines())]
  names = turns.words(parser, '--engines', chosen, there, needs='ours')
  cases = turns.words(parser, '--cases', options.cases, CASES)
  host.use_compilation_cache()
  results = {}
  for case in cases:
    results[case] = measure(case, options.rounds, options.seconds, names)
    show(case, results[case])
    turns.save(options.json, rounds=options.rounds, cases=results)


if __name__ == '__main__':
  main()
