"""Random legal play of Go, ours and others' side by side in one run: `python -m benchmarks.go`.

A step is one move of one game: the mask of legal moves, an action drawn from it uniformly, the
move, the outcome, and a new game where one has ended. Ours and pgx run in both ways in which a
program can use a CPU's cores: XLA's threads over one batch, and one device for each core with its
part of the batch; the faster one counts. Ours forbids superko in the mask, the others only the
simple ko. OpenSpiel's C++ is driven move by move from Python, on one core.
"""

import argparse
import functools
import importlib.util
import os
import statistics

from benchmarks import turns
from train.runtime import host

WARM_UP_GAMES = 64  # played until they differ, and then copied to fill a batch


# -------- engines --------


def ours(size):
  """Returns (init, step) of one game of ours: step(state, key) -> (state, outcome)."""
  import jax
  import jax.numpy as jnp

  from mcts.go import Go

  game = Go(size)

  def step(state, key):
    state = game.step(state, choose(game.legal(state), key))
    over, outcome = game.done(state), game.value(state)
    new = game.init()
    return jax.tree.map(lambda a, b: jnp.where(over, a, b), new, state), over * outcome

  return game.init, step


def pgx(size):
  """Returns (init, step) of one game of pgx's."""
  import jax
  import pgx
  from pgx.experimental import auto_reset

  env = pgx.make(f'go_{size}x{size}')
  advance = auto_reset(env.step, env.init)

  def step(state, key):
    state = advance(state, choose(state.legal_action_mask, key), key)
    return state, state.rewards[0]

  return lambda: env.init(jax.random.key(0)), step


def choose(mask, key):
  """Returns a legal action drawn uniformly from the mask `[A]`."""
  import jax
  import jax.numpy as jnp

  bits = jax.random.bits(key, mask.shape) >> 1
  return jnp.argmax(jnp.where(mask, bits + 1, 0))


def make_burst(engine, size, batch):
  """Returns (burst, steps of a call, bytes of a state); burst(calls) plays and waits."""
  name, _, form = engine.partition('-')
  if name == 'openspiel':
    return openspiel(size)
  import jax
  import jax.numpy as jnp

  init, step = {'ours': ours, 'pgx': pgx}[name](size)
  state = init()

  def play(length, states, key):
    def turn(states, key):
      keys = jax.random.split(key, jax.tree.leaves(states)[0].shape[0])
      return jax.vmap(step)(states, keys)

    states, outcomes = jax.lax.scan(turn, states, jax.random.split(key, length))
    return states, outcomes.sum(0)

  games = jax.tree.map(lambda x: jnp.repeat(x[None], min(WARM_UP_GAMES, batch), 0), state)
  games, _ = jax.jit(functools.partial(play, size * size))(games, jax.random.key(1))
  games = jax.tree.map(
    lambda x: jnp.tile(x, (-(-batch // WARM_UP_GAMES), *[1] * (x.ndim - 1)))[:batch], games
  )
  length = max(1, {'ours': 2**16, 'pgx': 2**19 // size**2}[name] // batch // 4)
  run = functools.partial(play, length)
  if form == 'devices':
    run, games = spread(run, games)
  compiled, box = jax.jit(run, donate_argnums=0), [games, jax.random.key(2)]

  def burst(calls):
    for _ in range(calls):
      box[1], key = jax.random.split(box[1])
      box[0], outcome = compiled(box[0], key)
    jax.block_until_ready((box[0], outcome))

  return burst, length * batch, sum(x.nbytes for x in jax.tree.leaves(state))


def spread(run, games):
  """Returns run(games, key, *shared) by parts of the batch on all devices, and the games there."""
  import jax
  from jax.sharding import AxisType, NamedSharding, PartitionSpec

  mesh = jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))
  split, whole = PartitionSpec('data'), PartitionSpec()

  def part(games, key, *shared):
    return run(games, jax.random.fold_in(key, jax.lax.axis_index('data')), *shared)

  def on_devices(games, key, *shared):
    places = (split, whole, *[whole] * len(shared))
    # pgx begins games from constants, which do not vary over devices: the check would refuse it.
    spread = jax.shard_map(
      part, mesh=mesh, in_specs=places, out_specs=(split, split), check_vma=False
    )
    return spread(games, key, *shared)

  return on_devices, jax.device_put(games, NamedSharding(mesh, split))


def openspiel(size):
  """Returns the same as `make_burst`, of OpenSpiel's game driven from Python."""
  import random

  import pyspiel

  game = pyspiel.load_game(f'go(board_size={size},komi=7.5)')
  box, steps = [game.new_initial_state()], 1000

  def burst(calls):
    for _ in range(calls * steps):
      if box[0].is_terminal():
        box[0] = game.new_initial_state()
      box[0].apply_action(random.choice(box[0].legal_actions()))

  return burst, steps, None


# -------- turns --------


def work(engine, size, batch):
  """Serves bursts of one engine, in a worker process."""
  burst, steps, nbytes = make_burst(engine, size, batch)
  turns.serve(burst, steps=steps, bytes=nbytes)


def start(engine, size, batch):
  """Returns a worker process that plays with one engine when its turn comes."""
  environment = {}
  if engine.endswith('-devices'):
    flags = os.environ.get('XLA_FLAGS', '')
    environment['XLA_FLAGS'] = f'{flags} --xla_force_host_platform_device_count={os.cpu_count()}'
  return turns.Worker(engine, 'benchmarks.go', ('--worker', engine, size, batch), **environment)


def engines():
  """Returns the engines that are installed, in both forms where the device is a CPU."""
  forms = ['threads'] if host.accelerator() else ['threads', 'devices']
  names = ['ours'] + ['pgx'] * bool(importlib.util.find_spec('pgx'))
  found = [f'{name}-{form}' for name in names for form in forms]
  return found + ['openspiel'] * bool(importlib.util.find_spec('pyspiel'))


def measure(size, batch, rounds, seconds):
  """Returns the table's rows; a ratio is our steps per second divided by the engine's."""
  workers = [start(engine, size, batch) for engine in engines()]
  times, rows = turns.measure(workers, rounds, seconds), []
  ours = turns.fastest(times, 'ours')
  assert ours is not None, 'engines() begins with ours'
  best = [turns.fastest(times, name) for name in ('ours', 'pgx', 'openspiel')]
  for worker in workers:
    calls, (steps, nbytes) = times[worker.engine], worker.about.values()
    # A call of one engine may be more steps than a call of another.
    each = [t / steps for t in calls]
    mine = [t / workers[0].about['steps'] for t in times[ours]]
    rows.append(
      {
        'engine': worker.engine,
        'best': worker.engine in best,
        'steps_per_second': 1 / statistics.median(each),
        'bytes': nbytes,
        **turns.ratios(each, mine),
      }
    )
  return rows


def main():
  """Measures all engines at all sizes and batches, and prints tables."""
  parser = argparse.ArgumentParser(description=__doc__, prog='python -m benchmarks.go')
  parser.add_argument(
    '--sizes', type=turns.at_least(2), nargs='+', default=[9, 19], help='9 and 19 with pgx'
  )
  parser.add_argument('--batches', type=turns.at_least(1), nargs='+', default=[64, 1024])
  parser.add_argument('--rounds', type=turns.at_least(1), default=7)
  parser.add_argument('--seconds', type=float, default=0.7, help='of a burst, about')
  parser.add_argument('--json', help='a file for the figures')
  parser.add_argument('--worker', nargs=3, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.worker:
    engine, size, batch = options.worker
    return work(engine, int(size), int(batch))
  host.use_compilation_cache()
  results = []
  for size in options.sizes:
    for batch in options.batches:
      rows = measure(size, batch, options.rounds, options.seconds)
      results.append({'size': size, 'batch': batch, 'rows': rows})
      show(size, batch, rows)
      turns.save(options.json, rounds=options.rounds, cases=results)


def show(size, batch, rows):
  """Prints a table."""
  print(f'\n{size}x{size}, batch {batch}: ours to each, of * the better form')
  for row in rows:
    name = row['engine'] + '*' * row['best']
    bytes_ = f'{row["bytes"]:,} bytes a state' if row['bytes'] else ''
    print(
      f'  {name:16} {row["steps_per_second"]:12,.0f} steps/s {turns.show(row):>24}  {bytes_}',
      flush=True,
    )


if __name__ == '__main__':
  main()
