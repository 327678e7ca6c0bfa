"""One engine of `python -m benchmarks`: `python -m benchmarks.worker ENGINE NET BATCH`."""

import sys

from benchmarks import turns

# net -> image [H, W, C], classes
INPUTS = {
  'lenet': ((28, 28, 1), 10),
  'alexnet': ((224, 224, 3), 1000),
  'resnet20': ((32, 32, 3), 10),
  'resnet50': ((224, 224, 3), 1000),
}


def engine(name, net, batch):
  if name.startswith('torch'):
    from benchmarks import torch_nets

    _, layout, *compiled = name.split('-')
    options = {'layout': layout, 'compiled': bool(compiled)}
    return torch_nets.make_burst(net, batch, *INPUTS[net], **options)
  from benchmarks import jax_nets

  return jax_nets.make_burst(
    net, batch, *INPUTS[net], form=name.removeprefix('ours').removeprefix('-')
  )


def main(name, net, batch):
  burst, parameters = engine(name, net, int(batch))
  turns.serve(burst, parameters=parameters)


if __name__ == '__main__':
  main(*sys.argv[1:])
