"""The train state and the compiled train step: the same function under `jit` and under `pmap`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from models.cpu.order import in_turn
from train import gradients
from train import mesh as mesh_lib
from train.errors import UserError
from train.runtime.ahead import Ahead
from train.task import Batch, Metrics, Task, Variables

PARALLEL = ('jit', 'pmap')


class TrainState(struct.PyTreeNode):
  """The state that a training step updates.

  Attributes:
    step: int32 `[]`, the number of updates done; ~step (negative) once one was not finite.
    key: typed PRNG key; the key of a step is fold_in(key, step), so no step depends on another's.
    params: float32 pytree.
    extra: the variables other than params (`batch_stats`).
    opt_state: optax's.
    ema: exponential moving average of params, or () if there is none.
  """

  step: Array
  key: Array
  params: Any
  extra: Any
  opt_state: Any
  ema: Any

  @property
  def variables(self) -> Variables:
    """Returns the variables that are trained."""
    return {'params': self.params, **self.extra}

  @property
  def eval_variables(self) -> Variables:
    """Returns the variables to evaluate: with averaged weights where an average is kept."""
    return {'params': self.ema or self.params, **self.extra}


def init_state(
  task: Task, tx: optax.GradientTransformation, seed: int, mesh: Mesh, *, ema: bool = False
) -> tuple[TrainState, Any]:
  """Returns a fresh state, made in place on its devices, and the sharding of each of its leaves."""
  init = functools.partial(_init, task, tx, ema)
  _, shardings = abstract_state(task, tx, mesh, ema=ema)
  # Made where it belongs: no device need hold the whole of a model that is sharded.
  make = jax.jit(lambda seed: mesh_lib.unbox(init(seed)), out_shardings=shardings)
  return make(jnp.uint32(seed)), shardings  # an argument: one compiled program for all seeds


def abstract_state(
  task: Task, tx: optax.GradientTransformation, mesh: Mesh, *, ema: bool = False
) -> tuple[TrainState, Any]:
  """Returns shapes and shardings of a state that is never made, and the shardings alone.

  The devices of the mesh need not be there.
  """
  seed = jax.ShapeDtypeStruct((), jnp.uint32)
  boxed = jax.eval_shape(functools.partial(_init, task, tx, ema), seed)
  shardings = mesh_lib.shardings(boxed, mesh)
  return mesh_lib.abstract(mesh_lib.unbox(boxed), shardings), shardings


def _init(task: Task, tx: optax.GradientTransformation, ema: bool, seed: Array) -> TrainState:
  init_key, key = jax.random.split(jax.random.key(seed))
  extra = dict(task.init(init_key))
  params = extra.pop('params')
  step = jnp.zeros((), jnp.int32)
  # A copy, since donated buffers must not be shared.
  average = jax.tree.map(jnp.copy, params) if ema else ()
  return TrainState(step, key, params, extra, tx.init(params), average)


def abstract_model(task: Task, mesh: Mesh, *, ema: bool = False) -> dict[str, Any]:
  """Shapes and shardings of `params`, `extra` and `ema`, of a model that was never made."""
  boxed = dict(jax.eval_shape(lambda: task.init(jax.random.key(0))))
  extra = mesh_lib.abstract(mesh_lib.unbox(boxed), mesh_lib.shardings(boxed, mesh))
  params = extra.pop('params')
  return {'params': params, 'extra': extra, 'ema': params if ema else ()}


def make_step(
  task: Task,
  tx: optax.GradientTransformation,
  shardings: Any,
  *,
  parallel: str = 'jit',
  accumulate: int = 1,
  ema_decay: float = 0.0,
  schedule: Callable[[Array], Array] | None = None,
) -> Any:
  """Returns the compiled step: (state, batch) -> (state, metrics). It donates the state.

  'jit' partitions one program over the mesh. 'pmap' runs a replica on each device, which sees its
  part of the batch alone and averages gradients; it needs a mesh of `data` only.
  """
  mesh = shardings.step.mesh

  update = functools.partial(_update, task, tx, accumulate, ema_decay, schedule)
  if task.updates_itself and schedule is not None:
    update = functools.partial(_own_update, task, ema_decay, schedule)
  step = functools.partial(_updates, update, task.updates_per_step)
  if parallel == 'jit':
    # The batch's own sharding is kept: what a source yields is sharded already.
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, mesh_lib.replicated(mesh)))
  if parallel == 'pmap':
    return _pmap(step, mesh)
  raise UserError(
    f'parallel={parallel!r}: no such way to run a step; choose from {", ".join(PARALLEL)}'
  )


def _pmap(step: Callable, mesh: Mesh) -> '_Replicas':
  devices = mesh.shape['data']
  if devices != mesh.size:
    raise UserError(
      "parallel='pmap': replicates parameters, so mesh.fsdp and mesh.tensor must be 1, and so must"
      f' mesh.context; got {mesh.shape["fsdp"]}, {mesh.shape["tensor"]}, {mesh.shape["context"]}'
    )
  # [B, ...] to [devices, B / devices, ...], which stays where it is: axis 0 is split over `data`.
  split = jax.jit(
    lambda batch: jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch),
    out_shardings=NamedSharding(mesh, PartitionSpec('data')),
  )
  mapped = jax.pmap(
    lambda state, batch: step(state, batch, 'data'),
    axis_name='data',
    in_axes=(None, 0),  # None: replicated, in the layout that 'jit' has, so checkpoints fit both
    out_axes=None,
    donate_argnums=0,
    devices=list(mesh.devices.flat),
  )
  return _Replicas(split, mapped)


@dataclasses.dataclass(frozen=True)
class _Replicas:
  """A step under `pmap`, called and lowered as a jitted one."""

  split: Any
  mapped: Any

  def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    return self.mapped(state, self.split(batch))

  def lower(self, state: TrainState, batch: Batch) -> Any:
    return self.mapped.lower(state, jax.eval_shape(self.split, batch))


def _updates(
  update: Callable, count: int, state: TrainState, batch: Batch, axis: str | None = None
) -> tuple[TrainState, Metrics]:
  """Makes `count` updates, one after another, each of its own part of the batch."""
  if count == 1:
    return update(state, batch, axis)
  state, metrics = lax.scan(
    lambda x, part: update(x, part, axis), state, gradients.parts(batch, count)
  )
  return state, jax.tree.map(lambda x: x.sum(0), metrics)


def _update(
  task: Task,
  tx: optax.GradientTransformation,
  accumulate: int,
  ema_decay: float,
  schedule: Callable[[Array], Array] | None,
  state: TrainState,
  batch: Batch,
  axis: str | None = None,
) -> tuple[TrainState, Metrics]:
  key = jax.random.fold_in(state.key, state.step)  # of the step alone: a resumed run draws the same

  def sums(params: Any, extra: Any, batch: Batch) -> tuple[Array, tuple[Any, Metrics]]:
    _, (extra, metrics) = task.loss({'params': params, **extra}, batch, key, train=True)
    # The sum, not the mean. Collections that the state lacks would change its structure: dropped.
    return metrics['loss'][0], ({name: extra[name] for name in state.extra}, metrics)

  loss_value, grads, extra, metrics = gradients.of_batch(
    accumulate, sums, state.params, state.extra, batch, axis
  )
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema = _averaged(ema_decay, state, params)
  grad_norm = optax.tree.norm(grads)  # before the optimiser clips
  measured = {'grad_norm': grad_norm}
  if schedule is not None:
    measured['learning_rate'] = jnp.float32(schedule(state.step))
  metrics = {**metrics, **{name: (value, jnp.ones(())) for name, value in measured.items()}}
  finite = jnp.isfinite(loss_value) & jnp.isfinite(grad_norm)
  # No branch and no wait for the host: a bad step is computed and then not taken.
  new = state.replace(step=state.step + 1, params=params, extra=extra, opt_state=opt_state, ema=ema)
  return _halt_unless(finite, state, new), metrics


def _own_update(
  task: Task,
  ema_decay: float,
  schedule: Callable[[Array], Array],
  state: TrainState,
  batch: Batch,
  axis: str | None = None,
) -> tuple[TrainState, Metrics]:
  """Takes a step of a task that updates its parameters itself; the rate is the schedule's."""
  key, rate = jax.random.fold_in(state.key, state.step), jnp.float32(schedule(state.step))
  params, metrics = task.update(state.params, batch, key, rate, axis)
  ema = _averaged(ema_decay, state, params)
  finite = jnp.all(jnp.array([jnp.isfinite(total) for total, _ in metrics.values()]))
  new = state.replace(step=state.step + 1, params=params, ema=ema)
  return _halt_unless(finite, state, new), {**metrics, 'learning_rate': (rate, jnp.ones(()))}


def _averaged(decay: float, state: TrainState, params: Any) -> Any:
  """Returns the moving average of the weights after a step; () if there is none."""
  if not decay:
    return ()
  rate = 1 - warmed_up(decay, state.step)
  # Not a weighted sum, whose rounding would move an average of weights that do not change.
  return jax.tree.map(lambda mean, new: mean + rate * (new - mean), state.ema, params)


def warmed_up(decay: float, step: Array) -> Array:
  """Returns the average's decay at a step: min(decay, (1 + step) / (10 + step)).

  Without it the first 1 / (1 - decay) steps would mostly average the initial weights. It is the
  convention of DDPM's and the score SDEs' code, TensorFlow's `num_updates`.
  """
  return jnp.minimum(decay, (1 + step) / (10 + step))


def _halt_unless(finite: Array, old: TrainState, new: TrainState) -> TrainState:
  """Returns `new` if it is finite; else, from then on, `old` with its step negated.

  The host reads metrics late: by then the state is still the one before the bad step.
  """
  going = finite & (old.step >= 0)
  # ~step rather than -step, which would not be negative at step 0.
  halted = old.replace(step=jnp.where(old.step >= 0, ~old.step, old.step))
  # Averaged weights are computed from the old weights, and those from the optimiser's old state.
  for name in ('ema', 'params'):
    part = jax.tree.map(functools.partial(jnp.where, going), getattr(new, name), getattr(old, name))
    part, going = in_turn(part, going)
    new, halted = new.replace(**{name: part}), halted.replace(**{name: part})
  # `params` and `ema` are one object in both by now, and are not selected a second time.
  return jax.tree.map(lambda a, b: a if a is b else jnp.where(going, a, b), new, halted)


def make_eval(task: Task) -> Callable[[Variables, Any], dict[str, float]]:
  """Averages the task's metrics over batches: (variables, batches) -> name -> mean."""

  @jax.jit
  def measure(variables: Variables, batch: Batch) -> Metrics:
    _, (_, metrics) = task.loss(variables, batch, jax.random.key(0), train=False)
    return metrics

  def evaluate(variables: Variables, batches: Any) -> dict[str, float]:
    sums, ahead = [], Ahead()
    for batch in batches:
      sums.append(measure(variables, batch))
      ahead(sums[-1])  # else every batch would be in memory at once
    # One transfer an evaluation; added in float64, as float32 stops counting at 2**24.
    sums = jax.device_get(sums)
    return mean_metrics(jax.tree.map(lambda *parts: np.sum(parts, dtype=np.float64), *sums))

  return evaluate


def mean_metrics(metrics: Mapping[str, tuple[Any, Any]]) -> dict[str, float]:
  """Returns sum over weight, by metric; UserError for one without weight."""
  if empty := [name for name, (_, weight) in metrics.items() if not weight]:
    raise UserError(f'{", ".join(empty)}: nothing to measure, the evaluation split has no weight')
  return {name: float(total) / float(weight) for name, (total, weight) in metrics.items()}
