"""Random legal play of Go, ours and others' side by side in one run: `python -m benchmarks.go`.

A step is one move of one game: the mask of legal moves, an action drawn from it uniformly, the
move, the outcome, and a new game where one has ended. Each engine is a process of its own, and
short bursts take turns, so that a machine that slows down slows all of them. Ours and pgx run in
both ways in which a program can use a CPU's cores: XLA's threads over one batch, and one device a
core with its part of the batch; the better one counts. Ours forbids superko in the mask, the
others only the simple ko. OpenSpiel's C++ is driven move by move from Python, on one core.
"""

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
WARM = 64  # games that are played until they differ; then copied to fill a batch


# -------- engines: seconds = burst(steps) --------


def ours(size):
  """(init, step) of one game: step(state, key) -> state, its bytes."""
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
  import jax
  import jax.numpy as jnp

  bits = jax.random.bits(key, mask.shape) >> 1
  return jnp.argmax(jnp.where(mask, bits + 1, 0))


def make_burst(engine, size, batch):
  """A function (calls) that plays, and the steps of a call and the bytes of a state."""
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

  games = jax.tree.map(lambda x: jnp.repeat(x[None], min(WARM, batch), 0), state)
  games, _ = jax.jit(functools.partial(play, size * size))(games, jax.random.key(1))
  games = jax.tree.map(
    lambda x: jnp.tile(x, (-(-batch // WARM), *[1] * (x.ndim - 1)))[:batch], games
  )
  length = max(1, {'ours': 2**16, 'pgx': 2**19 // size**2}[name] // batch // 4)
  run = functools.partial(play, length)
  if form == 'devices':
    run, games = spread(run, games)
  run, box = jax.jit(run, donate_argnums=0), [games, jax.random.key(2)]

  def burst(calls):
    for _ in range(calls):
      box[1], key = jax.random.split(box[1])
      box[0], outcome = run(box[0], key)
    jax.block_until_ready((box[0], outcome))

  return burst, length * batch, sum(x.nbytes for x in jax.tree.leaves(state))


def spread(run, games):
  """One part of the batch for each device, with keys of its own."""
  import jax
  from jax.sharding import AxisType, NamedSharding, PartitionSpec

  mesh = jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))
  split, whole = PartitionSpec('data'), PartitionSpec()

  def part(games, key):
    return run(games, jax.random.fold_in(key, jax.lax.axis_index('data')))

  # pgx begins games from constants, which do not vary over devices: the check would refuse it.
  spread = jax.shard_map(
    part, mesh=mesh, in_specs=(split, whole), out_specs=(split, split), check_vma=False
  )
  return spread, jax.device_put(games, NamedSharding(mesh, split))


def openspiel(size):
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
  burst, steps, nbytes = make_burst(engine, size, batch)
  burst(1)
  print(json.dumps({'steps': steps, 'bytes': nbytes}), flush=True)
  for line in sys.stdin:
    start = time.perf_counter()
    burst(int(line))
    print(json.dumps(time.perf_counter() - start), flush=True)


class Worker:
  def __init__(self, engine, size, batch):
    self.engine = engine
    environment = dict(os.environ)
    if engine.endswith('-devices'):
      flags = f'--xla_force_host_platform_device_count={os.cpu_count()}'
      environment['XLA_FLAGS'] = f'{environment.get("XLA_FLAGS", "")} {flags}'
    command = [sys.executable, '-m', 'benchmarks.go', '--worker', engine, str(size), str(batch)]
    pipe = subprocess.PIPE
    self.process = subprocess.Popen(
      command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True
    )
    about = self.read()
    self.steps, self.bytes = about['steps'], about['bytes']

  def read(self):
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(f'{self.engine}: ended with status {self.process.wait()}')
    return json.loads(line)

  def rate(self, calls):
    """Steps a second."""
    self.process.stdin.write(f'{calls}\n')
    self.process.stdin.flush()
    return self.steps * calls / self.read()

  def close(self):
    self.process.stdin.close()
    self.process.wait()


def engines(accelerator):
  forms = ['threads'] if accelerator else ['threads', 'devices']
  names = ['ours'] + ['pgx'] * bool(importlib.util.find_spec('pgx'))
  return [f'{n}-{f}' for n in names for f in forms] + ['openspiel'] * bool(
    importlib.util.find_spec('pyspiel')
  )


def measure(size, batch, rounds, seconds, accelerator):
  """Engine -> steps a second of each round; engine -> bytes a state."""
  with contextlib.ExitStack() as stack:
    workers = [
      stack.enter_context(contextlib.closing(Worker(e, size, batch))) for e in engines(accelerator)
    ]
    calls = {w.engine: max(1, round(seconds * w.rate(1) / w.steps)) for w in workers}
    rates = {w.engine: [] for w in workers}
    for _ in range(rounds):
      for worker in workers:
        rates[worker.engine].append(worker.rate(calls[worker.engine]))
  return rates, {w.engine: w.bytes for w in workers}


def report(size, batch, rates, nbytes):
  best = {
    name: max((e for e in rates if e.startswith(name)), key=lambda e: statistics.median(rates[e]))
    for name in ('ours', 'pgx', 'openspiel')
    if any(e.startswith(name) for e in rates)
  }
  for engine, values in rates.items():
    pairs = sorted(a / b for a, b in zip(rates[best['ours']], values, strict=True))
    low, high = pairs[len(pairs) // 10], pairs[-1 - len(pairs) // 10]
    ratio = f'{statistics.median(pairs):.2f} ({low:.2f} to {high:.2f})'
    mark = '*' if engine in best.values() else ' '
    row = f'{statistics.median(values):12,.0f} | {nbytes[engine] or "":>6} | {ratio}'
    print(f'| {size}x{size} | {batch:5} | {engine:13}{mark} | {row} |', flush=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--sizes', type=int, nargs='+', default=[9, 19], help='9 and 19 with pgx')
  parser.add_argument('--batches', type=int, nargs='+', default=[64, 1024])
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--seconds', type=float, default=0.7, help='of a burst, about')
  parser.add_argument('--accelerator', action='store_true', help='JAX runs on a GPU or TPU')
  parser.add_argument('--worker', nargs=3, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.worker:
    engine, size, batch = options.worker
    return work(engine, int(size), int(batch))
  print('| board | batch | engine | steps/s | bytes a state | ours to it, median (10 % to 90 %) |')
  print('|---|---|---|---|---|---|')
  for size in options.sizes:
    for batch in options.batches:
      rates, nbytes = measure(size, batch, options.rounds, options.seconds, options.accelerator)
      report(size, batch, rates, nbytes)


if __name__ == '__main__':
  main()
