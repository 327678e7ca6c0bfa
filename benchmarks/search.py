"""Compares the search with mctx, in one run with short turns: `python -m benchmarks.search`.

Trees alone: no game, and an evaluator that costs nothing. A ratio is of neighbouring turns, mctx's
time over ours: median, and 10th to 90th percentile. Temporaries are what XLA says of the compiled
programs. `--scaling` gives our own cost from 16 to 2,048 simulations and from 1 to 1,024 games;
`--net` the search of Go by a network of 4 blocks beside what the network alone would allow.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import turns
from mcts.search import Expansion, search
from mcts.search.policies import Gumbel, Puct
from mcts.search.selection import SelectionPolicy
from mcts.search.tree import Root
from train.runtime import host

# With mctx's default selection, so that the trees are the same; and with AlphaZero's.
POLICIES: dict[str, SelectionPolicy] = {
  'puct': Puct(fpu='lowest', rescale_q=True),
  'puct of AlphaZero': Puct(),
  'gumbel': Gumbel(),
}

# name: selection policy, batch, actions, simulations, priors
CASES = {
  '9x9-128': ('puct', 32, 82, 128, 'uniform'),
  '9x9-512': ('puct', 32, 82, 512, 'uniform'),
  'line-128': ('puct', 32, 82, 128, 'line'),
  'line-128-alphazero': ('puct of AlphaZero', 32, 82, 128, 'line'),
  'gumbel-128': ('gumbel', 32, 82, 128, 'uniform'),
  'gumbel-512': ('gumbel', 32, 82, 512, 'uniform'),
  '19x19-800': ('gumbel', 32, 362, 800, 'uniform'),
}


def priors(kind, actions):
  """Returns uniform logits, or all mass on one action: every simulation follows one long line."""
  return np.where(np.arange(actions) == 3, 20.0 if kind == 'line' else 0.0, 0.0).astype(np.float32)


def our_search(policy, batch, actions, simulations, kind, **options):
  """Returns our search, compiled: key -> trees."""
  logits = priors(kind, actions)

  def expand(leaf):
    lanes = leaf.action.shape[0]
    value = jnp.zeros(lanes)
    return Expansion((), jnp.broadcast_to(logits, (lanes, actions)), value, value > 0)

  def run(key):
    value = jnp.zeros(batch)
    root = Root((), (), jnp.broadcast_to(logits, (batch, actions)), value, value > 0)
    return search(
      root, expand, key, num_simulations=simulations, selection=POLICIES[policy], **options
    )

  return jax.jit(run)


def mctx_search(policy, batch, actions, simulations, kind):
  """Returns mctx's search of the same trees, compiled: key -> trees."""
  import mctx

  logits = priors(kind, actions)

  def recurrent(params, key, action, embedding):
    del params, key
    zero = jnp.zeros(action.shape)
    shape = (action.shape[0], actions)
    output = mctx.RecurrentFnOutput(
      reward=zero, discount=zero - 1, prior_logits=jnp.broadcast_to(logits, shape), value=zero
    )
    return output, embedding

  def run(key):
    zero = jnp.zeros(batch)
    root = mctx.RootFnOutput(
      prior_logits=jnp.broadcast_to(logits, (batch, actions)), value=zero, embedding=zero
    )
    if policy == 'gumbel':
      run_policy = mctx.gumbel_muzero_policy
    else:
      run_policy = functools.partial(mctx.muzero_policy, dirichlet_fraction=0.0)
    return run_policy((), key, root, recurrent, simulations).search_tree

  return jax.jit(run)


def compiled(function, *args):
  """Returns the program, run once, and the MB of its temporaries and of its results."""
  program = function.lower(*args).compile()
  jax.block_until_ready(program(*args))
  memory = program.memory_analysis()
  return program, memory.temp_size_in_bytes / 1e6, memory.output_size_in_bytes / 1e6


def seconds(program, *args):
  """Returns the seconds of one call."""
  start = time.perf_counter()
  jax.block_until_ready(program(*args))
  return time.perf_counter() - start


def turn(program, args, enough):
  """Returns the mean seconds of as many runs as take `enough` seconds, at least one."""
  spent = [seconds(program, *args)]
  while sum(spent) < enough:
    spent.append(seconds(program, *args))
  return sum(spent) / len(spent)


def compare(name, rounds, enough):
  """Times both sides in turns; prints medians and the ratio."""
  case = CASES[name]
  key = (jax.random.key(0),)
  ours, our_temporary, our_tree = compiled(our_search(*case), *key)
  theirs, their_temporary, their_tree = compiled(mctx_search(*case), *key)
  times = np.array(
    [[turn(program, key, enough) for program in (ours, theirs)] for _ in range(rounds)]
  )
  simulations = case[1] * case[3]
  rate = simulations / np.median(times, 0)
  found = turns.ratios(times[:, 1].tolist(), times[:, 0].tolist())
  print(
    f'{name:20} ours {rate[0]:9,.0f} sims/s, tree {our_tree:5.1f} MB, temporaries '
    f'{our_temporary:6.2f} MB; mctx {rate[1]:9,.0f}, {their_tree:6.1f}, {their_temporary:6.1f}; '
    f'ratio {turns.show(found)}',
    flush=True,
  )
  return {
    'case': name,
    'ours_per_second': rate[0],
    'mctx_per_second': rate[1],
    'temporaries_mb': our_temporary,
    'mctx_temporaries_mb': their_temporary,
    **found,
  }


def scaling(enough):
  """Times our search alone by simulations, by games and by leaves in parallel."""
  cases = [(32, simulations, 1) for simulations in (16, 32, 64, 128, 256, 512, 1024, 2048)]
  cases += [(games, 128, 1) for games in (1, 4, 16, 64, 256, 1024)]
  cases += [(1, 1024, leaves) for leaves in (1, 4, 16, 64)]
  return [
    report(*case, kind, enough)
    for case in cases
    for kind in ('uniform', 'line')
    if kind == 'uniform' or case[0] * case[1] <= 2**15  # a line is as deep as there are simulations
  ]


def report(games, simulations, leaves, kind, enough):
  """Times one case of `scaling`; prints it and returns it for the JSON file."""
  run = our_search('puct of AlphaZero', games, 82, simulations, kind, num_parallel_leaves=leaves)
  program, temporary, tree = compiled(run, jax.random.key(0))
  spent = turn(program, (jax.random.key(0),), enough)
  rate = games * simulations / spent
  print(
    f'{games:5} games, {simulations:5} simulations, {leaves:2} leaves, {kind:8}'
    f'{1e6 * spent / simulations:8.1f} us a simulation of the batch, {rate:10,.0f} sims/s, '
    f'tree {tree:7.1f} MB, temporaries {temporary:6.2f} MB',
    flush=True,
  )
  case = {'games': games, 'simulations': simulations, 'leaves': leaves, 'priors': kind}
  return {**case, 'per_second': rate, 'tree_mb': tree, 'temporaries_mb': temporary}


# -------- with a network --------


def residual_network(key, size, channels=64, blocks=4, planes=17):
  """Returns parameters, and `apply(parameters, observations) -> (logits, values)`."""
  keys = iter(jax.random.split(key, 2 * blocks + 3))

  def kernel(inputs, outputs, width=3):
    scale = (2 / (inputs * width * width)) ** 0.5
    return scale * jax.random.normal(next(keys), (width, width, inputs, outputs))

  parameters = {
    'stem': kernel(planes, channels),
    'blocks': [(kernel(channels, channels), kernel(channels, channels)) for _ in range(blocks)],
    'policy': 0.01 * jax.random.normal(next(keys), (size * size * channels, size * size + 1)),
    'value': 0.01 * jax.random.normal(next(keys), (size * size * channels, 1)),
  }

  def conv(x, kernel):
    layout = ('NHWC', 'HWIO', 'NHWC')
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=layout)

  def apply(parameters, x):
    x = jax.nn.relu(conv(x.astype(jnp.float32), parameters['stem']))
    for first, second in parameters['blocks']:
      x = jax.nn.relu(x + 0.5 * conv(jax.nn.relu(conv(x, first)), second))
    x = x.reshape(x.shape[0], -1)
    return x @ parameters['policy'], jnp.tanh(x @ parameters['value'])[:, 0]

  return parameters, apply


def with_network(rounds, *, size=9, batch=32, simulations=128):
  """Measures the search's simulations a second as a share of the network's evaluations."""
  import mcts
  from mcts.search import evaluators

  game = mcts.Go(size)
  planes = jax.eval_shape(game.observe, jax.eval_shape(game.init)).shape[-1]
  parameters, apply = residual_network(jax.random.key(0), size, planes=planes)

  def run(parameters, key):
    evaluate = evaluators.network(game, functools.partial(apply, parameters))
    states = jax.vmap(lambda _: game.init())(jnp.arange(batch))
    root = evaluators.make_root(game, evaluate)(states, key)
    expand = evaluators.make_expand(game, evaluate)
    return search(root, expand, key, num_simulations=simulations, selection=Puct())

  def alone(parameters, x):  # as many evaluations, each waiting for the one before
    def evaluate(_, total):
      logits, values = apply(parameters, x + 0 * total)
      return total + values.sum() + logits.sum()

    return jax.lax.fori_loop(0, simulations, evaluate, jnp.zeros(()))

  searching, temporary, _ = compiled(jax.jit(run), parameters, jax.random.key(1))
  x = jax.random.normal(jax.random.key(2), (batch, size, size, planes))
  evaluating, _, _ = compiled(jax.jit(alone), parameters, x)
  times = np.array(
    [
      [seconds(searching, parameters, jax.random.key(1)), seconds(evaluating, parameters, x)]
      for _ in range(rounds)
    ]
  )
  rates = batch * simulations / np.median(times, 0)
  share = turns.ratios(times[:, 1].tolist(), times[:, 0].tolist())
  print(
    f'Go {size}x{size}, batch {batch}, {simulations} simulations: {rates[0]:,.0f} sims/s, the '
    f'network alone {rates[1]:,.0f}: share {turns.show(share)}, temporaries {temporary:.1f} MB'
  )
  return {'ours_per_second': rates[0], 'network_per_second': rates[1], **share}


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.search')
  parser.add_argument('--cases', default=','.join(CASES), help='some of %(default)s, or none')
  parser.add_argument('--rounds', type=turns.at_least(1), default=7)
  parser.add_argument('--seconds', type=float, default=0.2, help='of a turn, at least one search')
  parser.add_argument('--scaling', action='store_true', help='ours alone, by simulations and games')
  parser.add_argument('--net', action='store_true', help='Go, beside the network alone')
  parser.add_argument('--json', help='a file for the figures')
  options = parser.parse_args()
  names = turns.words(parser, '--cases', options.cases, CASES)
  host.tune()  # may start this process anew, as launch.py does; both sides live in it
  cases = [compare(name, options.rounds, options.seconds) for name in names]
  grown = scaling(options.seconds) if options.scaling else None
  share = with_network(options.rounds) if options.net else None
  turns.save(options.json, rounds=options.rounds, cases=cases, scaling=grown, network=share)


if __name__ == '__main__':
  main()
