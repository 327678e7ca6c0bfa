"""Lowers the programs of a config for a mesh of devices that need not be there."""

from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from train import mesh as mesh_lib
from train.loop import Loop
from train.optim import make_optimizer
from train.step import TrainState, abstract_state, make_step
from train.task import Batch, Programs, Task


def train(config: Mapping[str, Any], task: Task, mesh: Mesh) -> tuple[Programs, TrainState, Batch]:
  """Returns the programs of a training step, and the state and the batch that it takes.

  Args:
    config: completed.
    task: of the config.
    mesh: of the devices that the programs are for.

  Returns:
    By name what makes a batch on the devices ('play', 'inputs'; nothing for data that are read),
    and 'step', which updates the state; then the abstract state and batch.
  """
  loop = Loop(**config['train'])
  mesh_lib.check_batch(task.batch_size, mesh, loop.accumulate)
  tx, schedule = make_optimizer(**config['optimizer'], steps=loop.steps)
  state, shardings = abstract_state(task, tx, mesh, ema=loop.ema_decay > 0)
  programs, batch = task.source('train', mesh, config['seed']).lower(state.eval_variables)
  step = make_step(
    task,
    tx,
    shardings,
    parallel=config['parallel'],
    accumulate=loop.accumulate,
    ema_decay=loop.ema_decay,
    schedule=schedule,
  )
  return {**programs, 'step': step.lower(state, batch)}, state, batch
