"""Single convolutions on a CPU beside PyTorch's, in one run: `python -m benchmarks.layers`.

Forward, and both gradients (of a first layer that of the kernel alone), float32. Engines: `ours`,
`ours-plain` (XLA's own convolution), and PyTorch's two layouts. A ratio is of medians: the better
layout to ours, above 1 where ours is the faster.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks import turns
from train.runtime import host

# name: batch, side of the image, channels, side of the kernel, filters, stride, padding, groups
LAYERS = {
  'lenet 1': (128, 28, 1, 5, 6, 1, 2, 1),
  'lenet 2': (128, 14, 6, 5, 16, 1, 0, 1),
  'alexnet 1': (8, 227, 3, 11, 96, 4, 0, 1),
  'alexnet 2': (8, 27, 96, 5, 256, 1, 2, 2),
  'alexnet 3': (8, 13, 256, 3, 384, 1, 1, 1),
  'resnet20 1': (128, 32, 16, 3, 16, 1, 1, 1),
  'resnet20 1-2': (128, 32, 16, 3, 32, 2, 1, 1),
  'resnet20 2': (128, 16, 32, 3, 32, 1, 1, 1),
  'resnet20 3': (128, 8, 64, 3, 64, 1, 1, 1),
  'resnet50 stem': (8, 224, 3, 7, 64, 2, 3, 1),
  'resnet50 1x1': (8, 56, 64, 1, 256, 1, 0, 1),
  'resnet50 3x3': (8, 56, 64, 3, 64, 1, 1, 1),
  'resnet50 stride': (8, 56, 128, 3, 128, 2, 1, 1),
  'resnet50 last': (8, 7, 512, 3, 512, 1, 1, 1),
  'unet 28': (64, 28, 32, 3, 32, 1, 1, 1),
  'unet 14': (64, 14, 64, 3, 64, 1, 1, 1),
  'go 9x9': (16, 9, 128, 3, 128, 1, 1, 1),
  'go 19x19': (8, 19, 192, 3, 192, 1, 1, 1),
}
PARTS = ('forward', 'gradients')

Calls = dict[str, Callable[[], object]]  # by part


def our_calls(form: str, layer: str) -> Calls:
  """Returns the compiled parts of a layer in the formulation 'cpu' or 'plain'."""
  import jax
  import jax.numpy as jnp

  from models import ops

  batch, size, channels, side, filters, stride, pad, groups = LAYERS[layer]
  x = jax.random.normal(jax.random.key(0), (batch, size, size, channels))
  kernel = jax.random.normal(jax.random.key(1), (side, side, channels // groups, filters))

  def forward(x, kernel):
    pads = ((pad, pad), (pad, pad))
    return ops.conv(x, kernel, strides=(stride, stride), padding=pads, groups=groups)

  def gradients(x, kernel, dy):
    if channels <= 3:
      return jax.vjp(lambda kernel: forward(x, kernel), kernel)[1](dy)
    return jax.vjp(forward, x, kernel)[1](dy)

  with ops.use(form):
    first = jax.jit(forward).lower(x, kernel).compile()
    dy = jnp.ones_like(first(x, kernel))
    second = jax.jit(gradients).lower(x, kernel, dy).compile()
  return {
    'forward': lambda: jax.block_until_ready(first(x, kernel)),
    'gradients': lambda: jax.block_until_ready(second(x, kernel, dy)),
  }


def torch_calls(layout: str, layer: str) -> Calls:
  """Returns PyTorch's parts of a layer in the layout 'nchw' or 'channels_last'."""
  import torch

  batch, size, channels, side, filters, stride, pad, groups = LAYERS[layer]
  memory = torch.channels_last if layout == 'channels_last' else torch.contiguous_format
  x = torch.randn(batch, channels, size, size).to(memory_format=memory)
  kernel = torch.randn(filters, channels // groups, side, side).to(memory_format=memory)
  settings = [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], groups

  def forward():
    return torch.ops.aten.convolution(x, kernel, None, *settings)

  dy = torch.ones_like(forward())
  wanted = [channels > 3, True, False]
  return {
    'forward': forward,
    'gradients': lambda: torch.ops.aten.convolution_backward(dy, x, kernel, [0], *settings, wanted),
  }


def make_burst(engine: str, layer: str, part: str) -> turns.Burst:
  """Returns a function of n calls of a layer's part."""
  library, _, form = engine.partition('-')
  call = (torch_calls if library == 'torch' else our_calls)(form or 'cpu', layer)[part]

  def burst(count: int) -> None:
    for _ in range(count):
      call()

  return burst


def measure(layer: str, part: str, rounds: int, seconds: float) -> dict[str, float]:
  """Returns engine -> milliseconds a call, the median of the rounds."""
  engines = ['ours', 'ours-plain']
  if turns.installed('torch'):
    engines += ['torch-nchw', 'torch-channels_last']
  module = 'benchmarks.layers'
  workers = [turns.Worker(e, module, ('--worker', e, layer, part)) for e in engines]
  times = turns.measure(workers, rounds, seconds)
  return {engine: 1e3 * statistics.median(t) for engine, t in times.items()}


def ratios(ms: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
  """Returns engine of ours -> the ratio of PyTorch's better layout to it, of each layer."""
  best = [min(t for e, t in row.items() if e.startswith('torch')) for row in ms]
  return {e: [b / row[e] for b, row in zip(best, ms, strict=True)] for e in ('ours', 'ours-plain')}


def main() -> None:
  """Runs the command."""
  parser = turns.parser('benchmarks.layers', __doc__, rounds=5, seconds=0.2)
  parser.add_argument('--layers', default=','.join(LAYERS), help='some of %(default)s')
  options = parser.parse_args()
  if options.worker:
    return turns.serve(make_burst(*options.worker))
  layers = turns.words(parser, '--layers', options.layers, LAYERS)
  host.use_compilation_cache()
  results: dict[str, dict[str, dict[str, float]]] = {}
  for part in PARTS:
    results[part] = {}
    for layer in layers:
      row = measure(layer, part, options.rounds, options.seconds)
      results[part][layer] = row
      print(f'{layer:16} {part:10}', *(f'{e} {t:.3f} ms ' for e, t in row.items()), flush=True)
    if layers and turns.installed('torch'):
      for engine, found in ratios(list(results[part].values())).items():
        spread = min(found), statistics.median(found), max(found)
        print(f'{part}, PyTorch to {engine}:', *(f'{value:.2f}' for value in spread))
    turns.save(options.json, rounds=options.rounds, milliseconds=results)


if __name__ == '__main__':
  main()
