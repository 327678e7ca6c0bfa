"""The image networks of `python -m benchmarks`: their inputs, batch sizes and engines."""

from benchmarks import turns

BATCHES = {'lenet': 128, 'alexnet': 8, 'resnet20': 128, 'resnet50': 8}
GPU_BATCHES = {'lenet': 128, 'alexnet': 256, 'resnet20': 128, 'resnet50': 256}

# Image [H, W, C], and number of classes.
INPUTS = {
  'lenet': ((28, 28, 1), 10),
  'alexnet': ((224, 224, 3), 1000),
  'resnet20': ((32, 32, 3), 10),
  'resnet50': ((224, 224, 3), 1000),
}


def make_burst(engine: str, net: str, batch: int) -> tuple[turns.Burst, int]:
  """Returns a function of n training steps, and the number of the network's parameters.

  Args:
    engine: 'ours', 'ours-plain', 'ours-without-NAME' or 'torch-LAYOUT[-compiled]'.
    net: a key of INPUTS.
    batch: images a step.
  """
  shape, classes = INPUTS[net]
  if engine.startswith('torch'):
    from benchmarks import torch_nets

    _, layout, *compiled = engine.split('-')
    return torch_nets.make_burst(net, batch, shape, classes, layout=layout, compiled=bool(compiled))
  from benchmarks import jax_nets

  form = engine.removeprefix('ours').removeprefix('-')
  return jax_nets.make_burst(net, batch, shape, classes, form=form)
