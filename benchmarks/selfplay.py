"""Compares self-play with pgx's AlphaZero recipe, in one run: `python -m benchmarks.selfplay`.

Both play Go with the same network and as many simulations of Gumbel's search a move, and keep what
is to be learned of each position. Theirs is made of pgx and mctx as pgx's example is.
'pgx-plain' has the network in plain XLA convolutions, as the recipe comes; 'pgx-net' has it in our
form for CPUs. Each runs in both ways in which a program can use a CPU's cores (see benchmarks.go).
`--parts` gives what of our time the network takes, and what is neither network nor search.
"""

import argparse
import functools
import importlib.util
import os
import statistics
import time

import numpy as np

from benchmarks import turns
from train.runtime import host

MOVES = 4  # of each game in a call

# name: board, games at a time, blocks, channels, simulations
CPU_CASES = {
  '5x5-3x32': (5, 128, 3, 32, 24),  # configs/go_5x5.py
  '9x9-2x32': (9, 64, 2, 32, 32),
  '9x9-6x128': (9, 16, 6, 128, 32),  # the recipe's network and simulations
}
GPU_CASES = {'9x9-6x128': (9, 1_024, 6, 128, 32)}  # its games too
CASES = GPU_CASES if host.accelerator() else CPU_CASES


# -------- engines --------


def network(size, blocks, channels):
  """Returns variables, and apply(variables, planes) -> logits and values."""
  import jax
  import jax.numpy as jnp

  from models.alphazero import PolicyValue

  model = PolicyValue(size * size + 1, blocks, channels)
  variables = model.init(jax.random.key(0), jnp.zeros((1, size, size, 17)))
  return variables, lambda variables, planes: model.apply(variables, planes, train=False)[:2]


def ours(size, batch, simulations, apply):
  """Returns games before their first moves, and turn(games, key, variables) -> games, outputs."""
  import jax
  import jax.numpy as jnp

  from mcts.go import Go
  from mcts.search.policies import Gumbel
  from mcts.selfplay import actor
  from mcts.selfplay import replay as replay_lib
  from mcts.selfplay.settings import SearchSettings, SelfPlay

  game = Go(size)
  settings = SelfPlay(Gumbel(max_num_considered_actions=16), SearchSettings(simulations))
  actors = actor.init(game, settings, jax.random.split(jax.random.key(1), batch))
  replay = replay_lib.init(game, batch, game.max_length)

  def turn(games, key, variables):
    actors, replay = games
    look = functools.partial(apply, variables)
    actors, transition, _ = actor.play(game, settings, look, actors, key, jnp.float32(-1))
    return (actors, replay_lib.write(replay, transition)), transition.ended

  return (actors, replay), turn


def pgx(size, batch, simulations, apply):
  """Returns the same of pgx and mctx."""
  import jax
  import jax.numpy as jnp
  import mctx
  from pgx.experimental import auto_reset
  from pgx.go import Go

  env = Go(size=size)
  step, advance = jax.vmap(env.step), jax.vmap(auto_reset(env.step, env.init))

  def look(variables, states):
    logits, value = apply(variables, states.observation)
    return jnp.where(states.legal_action_mask, logits, jnp.finfo(logits.dtype).min), value

  def reward(states, player):
    return states.rewards[jnp.arange(player.shape[0]), player]

  def recurrent(variables, key, action, states):
    del key
    player, states = states.current_player, step(states, action)
    logits, value = look(variables, states)
    output = mctx.RecurrentFnOutput(
      reward=reward(states, player),
      discount=jnp.where(states.terminated, 0.0, -1.0),
      prior_logits=logits,
      value=jnp.where(states.terminated, 0.0, value),
    )
    return output, states

  def turn(states, key, variables):
    logits, value = look(variables, states)
    root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=states)
    policy = mctx.gumbel_muzero_policy(
      variables, key, root, recurrent, simulations, invalid_actions=~states.legal_action_mask
    )
    keys = jax.random.split(key, value.shape[0])
    new = advance(states, policy.action, keys)
    known = (states.observation, policy.action_weights, reward(new, states.current_player))
    return new, (*known, new.terminated)

  return jax.vmap(env.init)(jax.random.split(jax.random.key(1), batch)), turn


def make_burst(engine, case):
  """Returns a function (calls) that plays, and how many positions a call has."""
  import jax

  from benchmarks.go import spread
  from models import ops

  size, batch, blocks, channels, simulations = CASES[case]
  name, *_, form = engine.split('-')
  variables, apply = network(size, blocks, channels)
  games, turn = {'ours': ours, 'pgx': pgx}[name](size, batch, simulations, apply)

  def run(games, key, variables):
    keys = jax.random.split(key, MOVES)
    return jax.lax.scan(lambda games, key: turn(games, key, variables), games, keys)

  if form == 'devices':
    run, games = spread(run, games)
  run, box = jax.jit(run, donate_argnums=0), [games, jax.random.key(2)]
  formulation = 'plain' if engine.startswith('pgx-plain') else ops.formulation()

  def burst(calls):
    with ops.use(formulation):
      for _ in range(calls):
        box[1], key = jax.random.split(box[1])
        box[0], known = run(box[0], key, variables)
      jax.block_until_ready((box[0], known))

  return burst, MOVES * batch


# -------- where the time goes --------


def parts(case, rounds):
  """Measures the shares of the network, and of all but the search, in a move of self-play.

  Each is timed alone: as many evaluations as a move has, and the search of the same positions. The
  move includes writing the replay.
  """
  import jax

  from mcts.engines import players
  from mcts.go import Go
  from mcts.search import evaluators, simulate
  from mcts.search.policies import Gumbel

  size, batch, blocks, channels, simulations = CASES[case]
  variables, apply = network(size, blocks, channels)
  games, turn = ours(size, batch, simulations, apply)
  key, game = jax.random.key(2), Go(size)

  def search(states, key, variables):
    evaluate = evaluators.network(game, functools.partial(apply, variables))
    choose = players.search_player(
      game, evaluate, Gumbel(max_num_considered_actions=16), simulations
    )
    return choose(states, simulate.fold_in(jax.random.split(key, batch), 0))

  move = jax.jit(turn, donate_argnums=0).lower(games, key, variables).compile()
  search = jax.jit(search).lower(games[0].state, key, variables).compile()
  observe, look = jax.jit(jax.vmap(game.observe)), jax.jit(apply)
  times, empty = [], size * size // 2  # moves until the boards are no longer so
  for i in range(empty + rounds):
    key = jax.random.fold_in(key, i)
    seen = seconds(look, variables, observe(games[0].state))[0]
    alone = seconds(search, games[0].state, key, variables)[0]
    spent, (games, _) = seconds(move, games, key, variables)
    times.append((spent, alone, seen * (1 + simulations)))
  whole, alone, looks = np.array(times[empty:]).T
  return {'network': turns.ratios(looks, whole), 'rest': turns.ratios(whole - alone, whole)}


def seconds(program, *args):
  """Returns the seconds of one call, and its result."""
  import jax

  start = time.perf_counter()
  result = jax.block_until_ready(program(*args))
  return time.perf_counter() - start, result


# -------- turns --------


def work(engine, case):
  """Runs as an engine's process."""
  burst, positions = make_burst(engine, case)
  turns.serve(burst, positions=positions)


def start(engine, case):
  """Starts an engine's process."""
  environment = {}
  if engine.endswith('-devices'):
    flags = os.environ.get('XLA_FLAGS', host.settings()['XLA_FLAGS'])
    environment['XLA_FLAGS'] = f'{flags} --xla_force_host_platform_device_count={os.cpu_count()}'
  return turns.Worker(engine, 'benchmarks.selfplay', ('--worker', engine, case), **environment)


def engines():
  """Returns the names of the engines that can run here."""
  forms = ['threads'] if host.accelerator() else ['threads', 'devices']
  has_pgx = importlib.util.find_spec('pgx') and importlib.util.find_spec('mctx')
  names = ['ours', *['pgx-plain', 'pgx-net'] * bool(has_pgx)]
  return [f'{name}-{form}' for name in names for form in forms]


def compare(case, rounds, seconds):
  """Returns rows of the table, whose ratios are ours to theirs in positions a second."""
  workers = [start(engine, case) for engine in engines()]
  times = turns.measure(workers, rounds, seconds)
  best = {turns.fastest(times, name) for name in ('ours', 'pgx-plain', 'pgx-net')}
  ours_best = turns.fastest(times, 'ours')
  assert ours_best is not None, 'ours runs everywhere'
  mine = times[ours_best]
  return [
    {
      'engine': worker.engine,
      'best': worker.engine in best,
      'positions_per_second': worker.about['positions'] / statistics.median(times[worker.engine]),
      **turns.ratios(times[worker.engine], mine),
    }
    for worker in workers
  ]


def show(case, rows):
  """Prints the table of a case."""
  size, batch, blocks, channels, simulations = CASES[case]
  print(
    f'\n{size}x{size}, {batch} games, network of {blocks} blocks with {channels} channels, '
    f'{simulations} simulations: ours to each, of * the better form'
  )
  for row in rows:
    name = row['engine'] + '*' * row['best']
    rate = f'{row["positions_per_second"]:10,.1f} positions/s'
    print(f'  {name:20} {rate} {turns.show(row):>24}', flush=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.selfplay')
  parser.add_argument('--cases', default=','.join(CASES), help='some of %(default)s')
  parser.add_argument('--rounds', type=turns.at_least(1), default=7)
  parser.add_argument('--seconds', type=float, default=1.5, help='of a burst, about')
  parser.add_argument('--parts', action='store_true', help='where the time goes')
  parser.add_argument('--json', help='a file for the figures')
  parser.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.worker:
    return work(*options.worker)
  cases = turns.words(parser, '--cases', options.cases, CASES)
  host.use_compilation_cache()
  results = []
  for case in cases:
    rows = compare(case, options.rounds, options.seconds)
    results.append({'case': case, 'rows': rows})
    show(case, rows)
    if options.parts:
      results[-1] |= (found := parts(case, 10 * options.rounds))
      print(f'  network: {turns.show(found["network"])} of a move')
      print(f'  neither network nor search: {turns.show(found["rest"])} of a move', flush=True)
    turns.save(options.json, rounds=options.rounds, cases=results)


if __name__ == '__main__':
  main()
