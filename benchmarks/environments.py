"""Steps a CPU second of the environments, and frames a CPU second of deep Q-learning.

python -m benchmarks.environments [NAME ...]

Random actions, sticky where the game is, 256 side by side in one program, each begun anew when it
ends. The training is that of `configs/dqn_minatar.py`: an update of 32 transitions for every 4
frames. CPU seconds are those of the process, all threads together: other work disturbs them least.
"""

import sys
import time
from typing import Any

import jax
import jax.numpy as jnp

from data.environments import ENVIRONMENTS, Environment
from train import config as config_lib
from train import mesh as mesh_lib
from train import verbs
from train.optim import make_optimizer
from train.step import init_state, make_step

SIDE_BY_SIDE, STEPS, REPEATS = 256, 400, 3


def random_play(environment: Environment) -> Any:
  """Returns the compiled program (states, keys) -> (states, keys), sum of rewards and planes."""

  def one(state, key):
    key, *own = jax.random.split(key, 4)
    action = jax.random.randint(own[0], (), 0, environment.num_actions)
    new, reward, terminal = environment.step(state, action, own[1])
    fresh = environment.init(own[2])
    new = jax.tree.map(lambda a, b: jnp.where(terminal, a, b), fresh, new)
    return new, key, reward + environment.observe(new).sum()

  def step(carry, _):
    *carry, seen = jax.vmap(one)(*carry)
    return tuple(carry), seen.sum()

  return jax.jit(lambda carry: jax.lax.scan(step, carry, None, STEPS))


def steps_a_second(environment: Environment) -> float:
  keys = jax.random.split(jax.random.key(0), SIDE_BY_SIDE)
  play, carry = random_play(environment), (jax.vmap(environment.init)(keys), keys)
  carry, _ = jax.block_until_ready(play(carry))
  begin = time.process_time()
  for _ in range(REPEATS):
    carry, _ = jax.block_until_ready(play(carry))
  return REPEATS * STEPS * SIDE_BY_SIDE / (time.process_time() - begin)


def frames_a_second(seeds: int, steps: int = 30) -> float:
  config = config_lib.load('configs/dqn_minatar.py')
  config = verbs.complete_config(config_lib.override(config, 'task.seeds', str(seeds)))
  task: Any = verbs.build_task(config)
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  tx, schedule = make_optimizer(**config['optimizer'], steps=1_000)
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh)
    update = make_step(task, tx, shardings, schedule=schedule)
    source = task.source('train', mesh, 0)
    carry = source.init(jax.random.key(0))
    begin = 0.0
    for step in range(1 + steps):  # the first compiles and plays the warm-up
      carry, batch = source.next(carry, step, state.eval_variables)
      state, _ = jax.block_until_ready(update(state, batch))
      begin = begin or time.process_time()
  frames = task.sizes.rows * task.sizes.num_envs * seeds * steps
  return frames / (time.process_time() - begin)


def main(names: list[str]) -> None:
  for name in names or [name for name in ENVIRONMENTS if name != 'atari']:
    environment: Any = ENVIRONMENTS[name]()
    print(f'{name:15} {steps_a_second(environment):12,.0f} steps a CPU second')
  if not names:
    for seeds in (1, 3):
      rate = frames_a_second(seeds)
      print(f'breakout, {seeds} seeds: {rate:10,.0f} frames a CPU second, an update for each 4')


if __name__ == '__main__':
  main(sys.argv[1:])
