"""One engine in a process of its own: `python -m benchmarks.worker ENGINE NET BATCH`.

Says {"ready": ...} when it has compiled; then for each number of steps on stdin runs one and then
these, and says how many seconds these took: a virtual machine takes back what memory an idle
process has freed, and the first step pays for it. Between two orders it does nothing, so engines
never overlap.
"""

import json
import sys
import time

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

  return jax_nets.make_burst(net, batch, *INPUTS[net], formulation=name.removeprefix('ours-'))


def main(name, net, batch):
  burst, parameters = engine(name, net, int(batch))
  burst(2)
  print(json.dumps({'ready': name, 'parameters': parameters}), flush=True)
  for line in sys.stdin:
    burst(1)
    start = time.perf_counter()
    burst(int(line))
    print(json.dumps(time.perf_counter() - start), flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
