"""Our compiled training step on one device, as the loop runs it."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.turns import Burst
from train import mesh as mesh_lib
from train.step import init_state, make_step


def compile_step(
  task: Any, tx: optax.GradientTransformation, batch: Mapping[str, np.ndarray], **options: Any
) -> tuple[Any, Any, dict[str, jax.Array]]:
  """Returns the compiled step, the state before it, and the batch on the device.

  Args:
    task: a `train.task.Task`.
    tx: the optimizer.
    batch: as the task's loss takes it.
    **options: of `train.step.make_step`.
  """
  mesh = mesh_lib.make_mesh(devices=jax.devices()[:1])
  with mesh_lib.activate(mesh):
    state, shardings = init_state(task, tx, 0, mesh)
    placed = jax.device_put(dict(batch), mesh_lib.batch_sharding(mesh))
    step: Any = make_step(task, tx, shardings, **options)  # jitted, which its type does not say
    return step.lower(state, placed).compile(), state, placed


def make_burst(step: Any, state: Any, batch: Any) -> Burst:
  """Returns a function that runs n steps and waits for the last."""

  def burst(steps: int) -> None:
    nonlocal state
    for _ in range(steps):
      state, metrics = step(state, batch)
    float(metrics['loss'][0])

  return burst
