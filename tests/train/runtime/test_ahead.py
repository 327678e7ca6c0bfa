"""The host waits in time: XLA's simulated devices lock up over too many programs in flight."""

import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

from tests.test_imports import ROOT
from train.runtime.ahead import Ahead

# A slow program, and behind it more than fit that are quick, in all of which the devices talk.
PROGRAM = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from train import step
from train.checkpoint import record

mesh = jax.make_mesh((2,), ('data',), axis_types=(AxisType.Auto,))
x = jax.device_put(jnp.ones((8, 100_000)), NamedSharding(mesh, PartitionSpec('data')))
slow = jax.jit(lambda x: jax.lax.fori_loop(0, 200, lambda _, y: jnp.sin(y) + 1e-9 * y.sum(), x))


class Task:
  def loss(self, variables, batch, key, *, train):
    return 0.0, ({}, {'loss': ((batch * variables).sum(), jnp.ones(()))})


"""


@pytest.mark.long
@pytest.mark.parametrize(
  'line',
  [
    'record.describe({str(i): y for i in range(100)})',
    'step.make_eval(Task())(1.0, [y] * 100)',
  ],
  ids=['checkpoint', 'evaluation'],
)
def test_many_programs_behind_a_slow_one_come_to_an_end(line):
  flags = '--xla_force_host_platform_device_count=2'
  code = f'{PROGRAM}\nfor _ in range(3):\n  y = slow(x)\n  {line}\nprint("done")'
  command, environment = [sys.executable, '-c', code], {**os.environ, 'XLA_FLAGS': flags}
  done = subprocess.run(
    command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
  )
  assert done.stdout == 'done\n', done.stderr


def test_it_waits_for_the_result_of_so_many_calls_before(monkeypatch):
  waited = []
  monkeypatch.setattr('jax.block_until_ready', lambda x: waited.append(int(x)))
  ahead = Ahead(2)
  for i in range(5):
    ahead(jnp.int32(i))
  assert waited == [0, 1, 2]
