"""Lowers the programs of a config for a mesh of devices that need not be there."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jax.sharding import Mesh

from train import mesh as mesh_lib
from train.aot import flops as flops_lib
from train.loop import Loop
from train.optim import make_optimizer
from train.step import abstract_model, abstract_state, make_step
from train.task import Batch, Programs, Task


class Lowered(NamedTuple):
  """Programs that are to be compiled, and what they take.

  Attributes:
    programs: name -> `jax.stages.Lowered`, the training step last.
    params: abstract, with shardings, of the network.
    opt_state: likewise, of the optimiser; () where nothing is trained.
    batch: likewise; {} where there is none.
    flops: of the model, in all programs once. Of a loop whose turns only data will tell, such as
      games played to their ends, one turn.
  """

  programs: Mapping[str, Any]
  params: Any
  opt_state: Any = ()
  batch: Batch = ()
  flops: float = 0.0


def train(config: Mapping[str, Any], task: Task, mesh: Mesh) -> Lowered:
  """Lowers a training step.

  Args:
    config: completed.
    task: of the config.
    mesh: of the devices that the programs are for.

  Returns:
    By name what makes a batch on the devices ('play', 'inputs'; nothing for data that are read),
    and 'step', which updates the state.
  """
  loop = Loop(**config['train'])
  mesh_lib.check_batch(task.batch_size // task.updates_per_step, mesh, loop.accumulate)
  mesh_lib.check_context(task.text_length, mesh)
  updates = loop.steps * task.updates_per_step
  tx, schedule = make_optimizer(**config['optimizer'], steps=updates)
  state, shardings = abstract_state(task, tx, mesh, ema=loop.ema_decay > 0)
  with mesh_lib.activate(mesh):
    traced, batch = task.source('train', mesh, config['seed']).trace(state.eval_variables)
    step = make_step(
      task,
      tx,
      shardings,
      parallel=config['parallel'],
      accumulate=loop.accumulate,
      ema_decay=loop.ema_decay,
      schedule=schedule,
    )
    flops = flops_lib.of_programs(traced) + flops_lib.of_step(task, state.variables, batch)
    programs = {**_lower(traced), 'step': step.lower(state, batch)}
  return Lowered(programs, state.params, state.opt_state, batch, flops)


def sample(config: Mapping[str, Any], task: Task, mesh: Mesh) -> Lowered:
  """Lowers what the verb sample runs."""
  model = abstract_model(task, mesh)
  variables = {'params': model['params'], **model['extra']}
  with mesh_lib.activate(mesh):
    traced = task.trace_sample(variables, mesh)
  # Outside: what was traced may have a mesh of its own.
  return Lowered(_lower(traced), model['params'], flops=flops_lib.of_programs(traced))


def _lower(programs: Programs) -> dict[str, Any]:
  return {name: traced.lower() for name, traced in programs.items()}


VERBS = {'train': train, 'sample': sample}
