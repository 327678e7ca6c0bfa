"""One step from noise to images: a diffusion run distilled into a consistency function."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from jax import Array
from jax.sharding import Mesh

from data.images.source import ImageData
from models.diffusion import consistency, solvers
from models.diffusion.parameterization import Denoiser
from train.config import UserError
from train.task import Batch, Metrics, Source, Variables
from train.tasks.diffusion import evaluate
from train.tasks.diffusion.task import Diffusion, lattice

SAME = ('process', 'prediction', 'condition', 'caption')  # of the task, as its teacher has them
FREE = ('dtype', 'remat', 'dropout')  # of the model
TEACHER = 'teacher'  # the collection of its parameters, which are kept with the run


class Consistency(Diffusion):
  """The task `consistency` (Song et al. 2023, arXiv 2303.01469, algorithm 2).

  teacher: the workdir of a diffusion run, needed to begin with and to train. process, prediction,
    condition, caption and the model are the teacher's. teacher_guidance: its scale, which the
    function learns to do without.
  levels: the times between which the teacher makes its steps.
  steps: of sampling, 1 or a few. shown, at_once: as of the task diffusion.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ImageData,
    *,
    teacher: str,
    process: str = 'ddpm',
    prediction: str = 'eps',
    condition: str = 'none',
    caption: str = 'a picture of {}',
    teacher_guidance: float = 1.0,
    levels: int = 18,
    augment: str = '',
    steps: int = 1,
    shown: int = 36,
    at_once: int = 64,
  ):
    for name, value, least in (('levels', levels, 2), ('steps', steps, 1)):
      if value < least:
        raise UserError(f'task.{name}={value}: must be at least {least}')
    super().__init__(
      model,
      data,
      process=process,
      prediction=prediction,
      condition=condition,
      caption=caption,
      guidance=teacher_guidance,
      augment=augment,
      shown=shown,
      at_once=at_once,
    )
    self.teacher, self.levels = teacher, solvers.edm(self.process, levels)
    self.sampler = consistency.Renoise()
    self.times = consistency.sampling_times(self.process, steps)
    ours = {'process': process, 'prediction': prediction, 'condition': condition}
    self._begin = parameters_of(teacher, {**ours, 'caption': caption}, model)

  # -------- what the loop asks for --------

  def init(self, key: Array) -> Variables:
    """Both begin as the teacher; where its workdir is gone, these are shapes for a restored run."""
    fresh = dict(super().init(key))
    if self._begin is not None:
      fresh['params'] = meta.replace_boxed(fresh['params'], self._begin)
    return {**fresh, TEACHER: jax.tree.map(jnp.copy, fresh['params'])}

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    if self._begin is None:
      raise UserError(f'task.teacher={self.teacher!r}: no run there; it is the one to distil')
    return super().source(split, mesh, seed)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """In evaluation each record has its own noise and step, the same ones every time."""
    index, label, steps = batch['index'], batch['label'], len(self.levels) - 1
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    x0 = self._inputs(batch['image'], keys, train=train)
    if train:
      key = jax.random.fold_in(jax.random.fold_in(key, index[0]), 1)
      step = consistency.draw_steps(key, len(index), steps)
    else:
      step = (lattice(index) * steps).astype(jnp.int32)
    noise = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 2), x0.shape[1:]))(keys)
    teacher = super().denoiser({'params': variables[TEACHER]}, label)
    learner = self.denoiser(variables, label)
    values = consistency.loss(learner, learner, teacher, x0, noise, self.levels, step)
    total, weight = jnp.sum(values * batch['mask']), batch['mask'].sum()
    return total / weight, ({TEACHER: variables[TEACHER]}, {'loss': (total, weight)})

  # -------- what others ask for --------

  def denoiser(
    self, variables: Variables, labels: Array | None = None, *, as_trained: bool = False
  ) -> Denoiser:
    """The consistency function."""
    own = {name: value for name, value in variables.items() if name != TEACHER}
    return consistency.student(super().denoiser(own, labels, as_trained=True))

  def examine(  # type: ignore[override]
    self,
    members: Sequence[Variables],
    mesh: Mesh,
    *,
    samples: int | None = None,
    classifier: str | None = None,
    inception: str | None = None,
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """As of the task diffusion; a consistency function has no likelihood."""
    options: dict[str, Any] = {'samples': samples, 'classifier': classifier}
    return evaluate.examine(self, members, mesh, **options, inception=inception, glance=False)


def parameters_of(
  workdir: str, task: Mapping[str, Any], model: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Those of a diffusion run, None where there is no run. UserError if it is of something else."""
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return None
  from train import verbs  # which knows all tasks

  run = verbs.load_run(workdir)
  theirs = run.config
  where = f'task.teacher={workdir!r}'
  if theirs['task']['name'] != 'diffusion':
    raise UserError(f'{where}: a run of task {theirs["task"]["name"]}; it must be of diffusion')
  pairs = [(f'task.{name}', task[name], theirs['task'][name]) for name in SAME]
  names = [name for name in theirs['model'] if name not in FREE]
  pairs += [(f'model.{name}', model.get(name), theirs['model'][name]) for name in names]
  for name, ours, its in pairs:
    if ours != its:
      raise UserError(f'{name}={ours!r}: must be as the teacher in {workdir} has it, {its!r}')
  run.task.close()
  return jax.device_get(run.variables['params'])
