"""The training loop: one for every task.

The device never waits for the host: batches come prefetched, steps are dispatched ahead of the
device, and metrics are fetched an interval late.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from train import mesh as mesh_lib
from train.checkpoint import Checkpointer
from train.checkpoint.failures import NotSaved
from train.checkpoint.place import moved, place
from train.errors import Halted, UserError
from train.logging import samples
from train.logging.metrics import MetricLog, NonFinite
from train.logging.progress import of_task
from train.logging.tensorboard import TensorBoard
from train.runtime.ahead import Ahead
from train.runtime.preemption import Preemption
from train.runtime.profile import Profile
from train.runtime.watchdog import PATIENCE, Watchdog
from train.step import TrainState, init_state, make_step
from train.task import Task, Variables, check_best, evaluate
from train.workdir import lock

LOG = functools.partial(MetricLog, writers=(TensorBoard,))


@dataclasses.dataclass(frozen=True)
class Loop:
  """How long to train, and what to do how often: the section `train` of a config. Times in steps.

  Attributes:
    steps: updates in all.
    log_every: a line of metrics, averaged over the steps since the line before.
    eval_every: evaluations, each followed by a checkpoint; 0: only at the end.
    checkpoint_every: checkpoints between evaluations; 0: none.
    keep: how many of the newest checkpoints stay, beside the best one.
    best: the metric that decides which checkpoint is the best.
    best_mode: whether the least ('min') or the greatest ('max') value of `best` is the best.
    accumulate: microbatches a step, whose gradients are averaged.
    ema_decay: of the moving average of the weights, which is then what is evaluated; 0: none. Early
      steps have a smaller one (`train.step.warmed_up`).
  """

  steps: int
  log_every: int = 100
  eval_every: int = 0
  checkpoint_every: int = 0
  keep: int = 2
  best: str = 'test/error'
  best_mode: Literal['min', 'max'] = 'min'
  accumulate: int = 1
  ema_decay: float = 0.0

  def __post_init__(self) -> None:
    for name, least in {
      'steps': 1,
      'log_every': 1,
      'eval_every': 0,
      'checkpoint_every': 0,
      'keep': 1,
      'accumulate': 1,
    }.items():
      if getattr(self, name) < least:
        raise UserError(f'train.{name}={getattr(self, name)}: must be at least {least}')
    # Nearer to 1, float32 adds nothing to an average.
    if not 0 <= self.ema_decay <= 1 - 2**-20:
      raise UserError(f'train.ema_decay={self.ema_decay}: must be in [0, 1), at most 1 - 2**-20')
    if self.best_mode not in ('min', 'max'):
      raise UserError(f'train.best_mode={self.best_mode!r}: choose from min, max')

  def run(
    self,
    task: Task,
    tx: optax.GradientTransformation,
    schedule: Callable,
    mesh: Mesh,
    workdir: str,
    *,
    seed: int = 0,
    parallel: str = 'jit',
    profile: tuple[int, int] | None = None,
    on_start: Callable[[int, Variables], None] = lambda step, variables: None,
    begin: Callable[[Variables], Variables] | None = None,
    watchdog: float | None = None,
    log: Callable[..., MetricLog] = LOG,
  ) -> bool:
    """Trains, or resumes what the workdir holds; returns whether all steps are done.

    `on_start` is called with the first step and its variables; `begin` makes fresh variables those
    of step 0, where there is no checkpoint; `log` makes the log, with its writers; `profile` is the
    first step to trace and the one to stop at; `watchdog` is for how many seconds without a step
    the run may go on, 0 for ever, None for ten minutes of several processes.

    Raises:
      Halted: the loss or the gradient became NaN or infinite; `workdir/nan` holds the state before.
        Or the workdir could not be written to, or was removed.
      KeyboardInterrupt: Ctrl-C, after the checkpoint.
    """
    mesh_lib.check_batch(task.batch_size // task.updates_per_step, mesh, self.accumulate)
    mesh_lib.check_context(task.text_length, mesh)
    # A replica under `pmap` is a program of one device, in which there is no mesh to constrain to.
    scope = mesh_lib.activate(mesh) if parallel == 'jit' else contextlib.nullcontext()
    with scope, lock(workdir) as check_workdir:
      session = _Session(
        self, task, tx, schedule, mesh, workdir, seed, parallel, begin, log, check_workdir
      )
      if watchdog is None:
        watchdog = PATIENCE if jax.process_count() > 1 else 0
      with contextlib.closing(Watchdog(watchdog, workdir)) as guard, contextlib.closing(session):
        trace = Profile(workdir, profile)
        trace.check(session.step, self.steps)
        on_start(session.step, session.state.variables)
        return session.run(trace, guard)


class _Session:
  """One process's part of a run, from where the workdir stands to the last step."""

  def __init__(
    self, settings, task, tx, schedule, mesh, workdir, seed, parallel, begin, log, check_workdir
  ):
    self.settings, self.task, self.mesh, self.workdir = settings, task, mesh, workdir
    self.seed, self.check_workdir = seed, check_workdir
    self.place, self.moved = place(mesh, settings.accumulate), ''
    self.state, self.shardings = init_state(task, tx, seed, mesh, ema=settings.ema_decay > 0)
    self.train_step = make_step(
      task,
      tx,
      self.shardings,
      parallel=parallel,
      accumulate=settings.accumulate,
      ema_decay=settings.ema_decay,
      schedule=schedule,
    )
    self.source = task.source('train', mesh, seed)
    # 1 for the source, 2 for what is drawn (`_draw`): streams of the seed that never meet.
    self.carry = self.source.init(jax.random.fold_in(jax.random.key(seed), 1))
    self.evals = task.evals(mesh)
    check_best(task, self.evals, settings.best, settings.best_mode, default=Loop.best)
    self.log: MetricLog = log(workdir, write=mesh_lib.is_main())
    mesh_lib.barrier('start')  # the checkpointer waits with less patience
    self.checkpoints = Checkpointer(
      os.path.join(workdir, 'checkpoints'),
      keep=settings.keep,
      best=settings.best,
      mode=settings.best_mode,
    )
    self.preemption = Preemption()
    # After all of the parts above, whose states it sets.
    self.step = self.saved = self._restore(begin)
    devices, show = list(mesh.devices.flat), mesh_lib.is_main()
    self.progress = of_task(task, devices, settings.steps, start=self.step, show=show)

  def close(self) -> None:
    with contextlib.ExitStack() as stack:  # each, whatever goes wrong with another
      stack.callback(self.preemption.close)
      stack.enter_context(contextlib.suppress(NotSaved))  # `run` has waited, and said so
      for part in (self.checkpoints, self.log, self.progress):
        stack.callback(part.close)

  # -------- the loop --------

  def run(self, trace: Profile, watchdog: Watchdog) -> bool:
    """Returns whether all steps are done."""
    settings, step = self.settings, self.step
    if self.moved:
      self.progress.note(self.moved)
    try:
      for step in self._steps(trace, watchdog):
        last = step == settings.steps
        # Log, evaluate, save, in this order: a checkpoint holds the lines that are not written yet.
        if last or step % settings.log_every == 0:
          self.check_workdir()
          self.log.close_interval(step, self.progress.rates())
          self.progress.show(self.log.latest)
        if last or _due(step, settings.eval_every):
          # With its metrics, by which the best checkpoint is chosen.
          with watchdog.aside('evaluation'):
            self._save(step, self._evaluate(step))
        elif _due(step, settings.checkpoint_every):
          with watchdog.aside('checkpoint'):
            self._save(step)
        # All processes agree on the step: a checkpoint is written by all of them.
        if self.preemption.requested(step):
          self._save(step)
          self.checkpoints.wait()
          self.progress.note(f'asked to stop: saved step {step}; the same command resumes')
          if self.preemption.by_hand and step < settings.steps:
            raise KeyboardInterrupt
          break
      with watchdog.aside('checkpoint'):
        self.checkpoints.wait()
    except NonFinite as error:
      self._halt(error)
    except OSError as error:  # a full disk, a folder that is gone
      raise Halted(f'{self.workdir}: {_reason(error)}; {self._last_good()}') from error
    return step >= settings.steps

  def _steps(self, trace: Profile, watchdog: Watchdog) -> Iterator[int]:
    """Runs the steps, and yields after each how many are done."""
    ahead = Ahead()
    for step in range(self.step, self.settings.steps):
      trace.at(step, self.state.step)
      # Self-play plays with the weights that are evaluated; sources of files ignore them.
      self.carry, batch = self.source.next(self.carry, step, self.state.eval_variables)
      self.state, metrics = self.train_step(self.state, batch)
      self.log.add(step + 1, metrics)
      if ahead(metrics):  # waits for the step of some calls before, not for this one
        watchdog.step()
      self.progress.update(step + 1)
      yield step + 1
    trace.at(self.settings.steps, self.state.step)

  def _evaluate(self, step: int) -> dict[str, float]:
    self.check_workdir()
    self.log.drain()  # stops here if a step was not finite
    with self.progress.paused():
      variables = self.state.eval_variables
      metrics = evaluate(self.evals, variables)
    self.log.write(step, metrics)
    self.progress.report(step, metrics)
    with self.progress.paused():
      self._draw(step, variables)
    return metrics

  def _draw(self, step: int, variables: Variables) -> None:
    """Writes what the task draws, if it does; the key depends on the seed and the step alone."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), 2), step)
    files = self.task.draw(variables, key)
    # `draw` runs on all processes, since its arrays may be spread over them; one writes.
    if not files or not mesh_lib.is_main():
      return
    samples.write(self.workdir, step, files)
    self.log.show(step, files)
    for name, contents in files.items():
      text = samples.excerpt(contents) if name.endswith('.txt') else f'in {samples.FOLDER}/'
      self.progress.note(f'step {step}  {name}: {text}')

  # -------- what outlives the process --------

  def _save(self, step: int, metrics: Mapping[str, float] | None = None) -> None:
    if step == self.saved:  # the last step may have been due for several reasons
      return
    self.check_workdir()
    # Lines that are still open go into the checkpoint, so that a resumed run writes the same ones.
    pending = self.log.state()  # stops here if a step was not finite
    meta = {'metrics': dict(metrics or {}), 'log': pending, 'place': self.place}
    self.checkpoints.save(step, *_items(self.state, self.carry), meta)
    self.saved = step

  def _restore(self, begin: Callable[[Variables], Variables] | None) -> int:
    """Takes over what the workdir holds, or else begins; returns the number of steps done."""
    # The fresh state says shapes and shardings, on this mesh, whatever mesh the checkpoint is from.
    shapes = jax.tree.map(_abstract, (self.state, self.carry))
    restored = self.checkpoints.restore(*_items(*shapes))
    if restored is None:
      if begin is None:
        self.log.restore(None, 0)
        return 0
      variables = dict(begin(self.state.variables))
      return self._begin_from({'params': variables.pop('params'), 'extra': variables})
    step, model, train, meta = restored
    # Weights alone, as imported ones are: no optimiser, key or step to go on with.
    if train is None:
      return self._begin_from(model)
    self.state = TrainState(
      train['step'], train['key'], model['params'], model['extra'], train['opt_state'], model['ema']
    )
    self.carry = train['carry']
    self.log.restore(meta['log'], step)
    self.moved = moved(meta.get('place', self.place), self.place)
    return step

  def _begin_from(self, model: Mapping[str, Any]) -> int:
    """Starts at step 0 from imported weights."""
    params = model['params']
    # A copy, since the step donates both: donated buffers must not be shared.
    average = jax.tree.map(jnp.copy, params) if self.settings.ema_decay > 0 else ()
    self.state = self.state.replace(params=params, extra=model['extra'], ema=average)
    self.log.restore(None, 0)
    return 0

  def _last_good(self) -> str:
    with contextlib.suppress(NotSaved):
      self.checkpoints.wait()
    folders = pathlib.Path(self.workdir, 'checkpoints').glob('*/')
    steps = [int(folder.name) for folder in folders if folder.name.isdecimal()]
    return f'the last good checkpoint is step {max(steps)}' if steps else 'no checkpoint is there'

  def _halt(self, error: NonFinite) -> None:
    """Saves the state before the bad step, and its batch."""
    step, folder = error.step - 1, os.path.join(self.workdir, 'nan')
    if mesh_lib.is_main():
      shutil.rmtree(folder, ignore_errors=True)
    mesh_lib.barrier('nan')
    # The device kept the state before the bad step and marked it (`step._halt_unless`).
    state = self.state.replace(step=~self.state.step)
    with contextlib.closing(Checkpointer(folder, best=None)) as checkpoints:
      checkpoints.save(step, *_items(state, self.carry), {'metrics': {}, 'error': str(error)})
    _, batch = self.source.next(self.carry, step, state.eval_variables)
    if mesh_lib.is_main():
      leaves = jax.tree_util.tree_leaves_with_path(batch)
      local: dict[str, Any] = {jax.tree_util.keystr(k, simple=True): _local(x) for k, x in leaves}
      np.savez(os.path.join(folder, f'batch-{step}.npz'), **local)
    raise Halted(
      f'{error}: the state before step {error.step} and its batch are in {folder};'
      f' {self._last_good()}'
    )


def _reason(error: OSError) -> str:
  file = f' ({error.filename})' if error.filename else ''
  return f'{error.strerror}{file}' if error.strerror else str(error)


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0


def _items(state: TrainState, carry: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the two parts of a checkpoint: the model, and what only training needs."""
  model = {'params': state.params, 'extra': state.extra, 'ema': state.ema}
  train = {'step': state.step, 'key': state.key, 'opt_state': state.opt_state, 'carry': carry}
  return model, train


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _local(leaf: jax.Array) -> np.ndarray:
  """Returns the rows of a global array that this process holds."""
  # Replicas hold the same rows: one of each is kept.
  shards = {shard.index[0].start or 0: shard.data for shard in leaf.addressable_shards}
  return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])
