"""The memory of a compiled training step: `python -m benchmarks.memory`.

The state (parameters, momentum, running statistics) goes in and comes out in the same buffers:
`aliased` has to be all of it, and `output` beyond that next to nothing.
"""

import argparse

import jax

from benchmarks import jax_nets, turns
from benchmarks.nets import BATCHES, INPUTS


def megabytes(net: str) -> dict[str, float]:
  """Returns the megabytes of one device's program, by what they hold."""
  step, state, _ = jax_nets.compile_step(net, BATCHES[net], *INPUTS[net])
  analysis = step.memory_analysis()
  return {
    'parameters': sum(x.nbytes for x in jax.tree.leaves(state.params)) / 1e6,
    'state': sum(x.nbytes for x in jax.tree.leaves(state)) / 1e6,
    'aliased': analysis.alias_size_in_bytes / 1e6,
    'output beyond': (analysis.output_size_in_bytes - analysis.alias_size_in_bytes) / 1e6,
    'temporary': analysis.temp_size_in_bytes / 1e6,
  }


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.memory')
  parser.add_argument('--nets', default=','.join(BATCHES), help='some of %(default)s')
  for net in turns.words(parser, '--nets', parser.parse_args().nets, BATCHES):
    row = '  '.join(f'{name} {size:,.3f}' for name, size in megabytes(net).items())
    print(f'{net}, batch {BATCHES[net]}, MB: {row}')


if __name__ == '__main__':
  main()
