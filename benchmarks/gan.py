"""Training steps of GANs against PyTorch's, in one run: `python -m benchmarks.gan`.

nets: `gan`, the networks of 2014 on 28 x 28 images in batches of 100; `dcgan32` and `dcgan64`,
DCGAN for 32 x 32 x 3 with 32 and 64 channels at the finest level, in batches of 64; all float32.
A step draws latents and updates both networks with Adam; as many parameters on both sides.
engines: `ours`, and `ours-plain`, the formulation for accelerators; PyTorch with the fused
optimiser as `torch-nchw` and `torch-channels_last`, which updates one network after the other.

A ratio compares neighbouring bursts, seconds of the faster of theirs over ours: median, 10th to
90th percentile.
"""

import statistics
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import turns
from train.runtime import host

# Image [H, W, C], batch, and the section `model`.
NETS: dict[str, tuple[tuple[int, int, int], int, dict[str, Any]]] = {
  'gan': ((28, 28, 1), 100, {'name': 'gan'}),
  'dcgan32': ((32, 32, 3), 64, {'name': 'dcgan', 'width': 32}),
  'dcgan64': ((32, 32, 3), 64, {'name': 'dcgan', 'width': 64}),
}
CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}
OURS, TORCH = ('ours', 'ours-plain'), ('torch-nchw', 'torch-channels_last')


def ours(net: str) -> tuple[turns.Burst, int]:
  """Returns a function of n of our steps, and the number of parameters."""
  import jax
  import numpy as np
  import optax

  from benchmarks import steps
  from train.tasks.adversarial.task import GAN

  shape, size, model = NETS[net]
  data: Any = types.SimpleNamespace(image_shape=shape, batch_size=size, classes=())
  rng = np.random.default_rng(0)
  batch: dict[str, np.ndarray] = {
    'image': rng.integers(256, size=(size, *shape)).astype(np.uint8),
    'label': np.zeros(size, np.int32),
    'index': np.arange(size, dtype=np.int32),
    'mask': np.ones(size, np.float32),
  }
  step, state, placed = steps.compile_step(GAN(model, data), optax.adam(2e-4, b1=0.5), batch)
  count = sum(x.size for x in jax.tree.leaves(state.params))
  return steps.make_burst(step, state, placed), count


def make_burst(engine: str, net: str) -> tuple[turns.Burst, int]:
  """Returns a function of n training steps, and the number of parameters of both networks."""
  if engine == 'ours':
    return ours(net)
  if engine == 'ours-plain':
    from models import ops

    with ops.use('plain'):
      return ours(net)
  from benchmarks import torch_gan

  shape, size, model = NETS[net]
  return torch_gan.make_burst(shape, size, model, engine.removeprefix('torch-'))


def summarize(times: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
  """Returns rows of the table; ratios are of the faster of PyTorch's to each."""
  best, rows = turns.fastest(times, 'torch'), []
  for engine, t in times.items():
    row: dict[str, Any] = {'engine': engine, 'ms': 1e3 * statistics.median(t)}
    rows.append(row | ({**turns.ratios(times[best], t), 'against': best} if best else {}))
  return rows


def start(engine: str, net: str, clock: str) -> turns.Worker:
  """Returns the process of an engine."""
  return turns.Worker(engine, 'benchmarks.gan', ('--worker', engine, net, clock))


def main() -> None:
  """Runs the command."""
  parser = turns.parser('benchmarks.gan', __doc__, rounds=10, seconds=1.0)
  parser.add_argument('--nets', default=','.join(NETS), help='some of %(default)s')
  parser.add_argument('--cpu', action='store_true', help="the processor's time, not the wall's")
  options = parser.parse_args()
  if options.worker:
    engine, net, clock = options.worker
    burst, parameters = make_burst(engine, net)
    return turns.serve(burst, CLOCKS[clock], parameters=parameters)
  engines = [*OURS, *(TORCH if turns.installed('torch') else ())]
  chosen = turns.words(parser, '--nets', options.nets, NETS)
  host.use_compilation_cache()
  results = {}
  for net in chosen:
    workers = [start(e, net, 'cpu' if options.cpu else 'wall') for e in engines]
    sizes = {worker.engine: worker.about['parameters'] for worker in workers}
    if len(set(sizes.values())) > 1:
      raise RuntimeError(f'{net}: these are different networks: {sizes}')
    results[net] = rows = summarize(turns.measure(workers, options.rounds, options.seconds))
    print(f'\n{net}, {sizes["ours"]:,} parameters, batch {NETS[net][1]}')
    for row in rows:
      ratio = turns.show(row) if 'ratio' in row else ''
      print(f'  {row["engine"]:20} {row["ms"]:9.2f} ms {ratio}')
    turns.save(options.json, rounds=options.rounds, nets=results)


if __name__ == '__main__':
  main()
