"""The task `consistency`: distils a diffusion run into a network that draws in one step."""

import json
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
from models.diffusion import checks, consistency, timesteps
from models.diffusion.denoiser import NetworkDenoiser
from train.errors import UserError, user_errors
from train.run import load_weights
from train.task import Batch, Metrics, Source, Variables
from train.tasks import reading
from train.tasks.diffusion import evaluate
from train.tasks.diffusion.base import ImageGeneration, draw_noise, lattice, record_keys
from train.tasks.diffusion.options import (
  CONDITIONING,
  CONSISTENCY_SAMPLING,
  DISTILLATION,
  LOSS,
  Conditioning,
  ConsistencySampling,
  Distillation,
  require_unconditional,
)

SAME_TASK_KEYS = ('process', 'prediction', 'conditioning')  # must be as the teacher has them
FREE_MODEL_KEYS = ('dtype', 'remat', 'dropout')  # may differ from the teacher's
TEACHER = 'teacher'  # the collection of the teacher's parameters, which are kept with the run


class Consistency(ImageGeneration):
  """The task `consistency` (Song et al. 2023, arXiv 2303.01469, algorithm 2).

  teacher: the workdir of a diffusion run, needed to start and to train.
  process: must be the teacher's, as must the model and `conditioning`.
  prediction: must be the teacher's.
  distillation, sampling: see `options`.
  augment: augmentation of training images, as for the task classify.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ImageData,
    *,
    teacher: str,
    process: str = 'ddpm',
    prediction: str = 'eps',
    conditioning: Conditioning = CONDITIONING,
    distillation: Distillation = DISTILLATION,
    augment: str = '',
    sampling: ConsistencySampling = CONSISTENCY_SAMPLING,
  ):
    super().__init__(
      model,
      data,
      process=process,
      prediction=prediction,
      conditioning=conditioning,
      augment=augment,
      num_preview_samples=sampling.num_preview_samples,
      sample_batch_size=sampling.sample_batch_size,
      guidance_scale=distillation.guidance_scale,
    )
    self.teacher = teacher
    self.levels = timesteps.edm(self.process, distillation.num_levels)
    self.sampler = consistency.MultistepConsistency()
    self.timesteps = consistency.sampling_timesteps(self.process, sampling.num_steps)
    with user_errors():
      for times in (self.levels, self.timesteps):
        checks.check_timesteps(self.process, times)
    ours = {'process': process, 'prediction': prediction, 'conditioning': vars(conditioning)}
    self._initial_params = load_teacher(
      teacher, ours, model, self.meaning(), distillation.guidance_scale
    )

  def init(self, key: Array) -> Variables:
    """Returns the teacher's parameters, for the student and kept as the teacher.

    If the teacher's workdir is gone they are fresh: only their shapes count, to restore a run.
    """
    variables = dict(super().init(key))
    if self._initial_params is not None:
      variables['params'] = meta.replace_boxed(variables['params'], self._initial_params)
    return {**variables, TEACHER: jax.tree.map(jnp.copy, variables['params'])}

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the training batches, which begin with a UserError if there is no teacher."""
    source = super().source(split, mesh, seed)
    if self._initial_params is not None:
      return source
    error = UserError(f'task.teacher={self.teacher!r}: no run there; it is the one to distil')
    return reading.Lacking(source, error)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the mean loss; in evaluation noise and step depend on the record's number alone."""
    index, label, num_steps = batch['index'], batch['label'], len(self.levels) - 1
    keys = record_keys(key, index)
    x0 = self.inputs(batch['image'], keys, train=train)
    if train:
      key = jax.random.fold_in(jax.random.fold_in(key, index[0]), 1)
      step = consistency.draw_steps(key, len(index), num_steps)
    else:
      step = (lattice(index) * num_steps).astype(jnp.int32)
    teacher = self.network.denoiser({'params': variables[TEACHER]}, label)
    student = self.denoiser(variables, label)
    eps = draw_noise(keys, x0)
    values = consistency.loss(student, student, teacher, x0, eps, self.levels, step)
    total, weight = jnp.sum(values * batch['mask']), batch['mask'].sum()
    return total / weight, ({TEACHER: variables[TEACHER]}, {'loss': (total, weight)})

  def denoiser(
    self, variables: Variables, labels: Array | None = None, *, as_trained: bool = False
  ) -> NetworkDenoiser:
    """Returns the consistency function for labels int `[B]`, which takes no guidance."""
    own = {name: value for name, value in variables.items() if name != TEACHER}
    denoiser = self.network.denoiser(own, labels, as_trained=True)
    return consistency.consistency_function(denoiser)

  def examine(
    self,
    members: Sequence[Variables],
    mesh: Mesh,
    *,
    samples: int | None = None,
    classifier: str | None = None,
    inception: str | None = None,
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Evaluates the model for the verb `eval`; a consistency function has no likelihood."""
    options = evaluate.Options(samples=samples, classifier=classifier, inception=inception)
    return evaluate.examine(self, members, mesh, options, has_likelihood=False)


def load_teacher(
  workdir: str,
  task: Mapping[str, Any],
  model: Mapping[str, Any],
  meaning: Mapping[str, Any],
  guidance_scale: float,
) -> dict[str, Any] | None:
  """Loads the parameters of a diffusion run; None if there is no run in the workdir.

  Raises UserError unless its task is diffusion, its keys are those of `task` and `model`, its
  classes and images those of `meaning`, where it keeps them, and it can be guided by that scale.
  """
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return None
  weights = load_weights(workdir)
  theirs = weights.config
  where = f'task.teacher={workdir!r}'
  if theirs['task']['name'] != 'diffusion':
    raise UserError(f'{where}: a run of task {theirs["task"]["name"]}; it must be of diffusion')
  loss = theirs['task'].get('loss', vars(LOSS))
  require_unconditional(loss['cond_drop_prob'], guidance_scale)
  pairs = [(f'task.{name}', task[name], theirs['task'][name]) for name in SAME_TASK_KEYS]
  names = [name for name in theirs['model'] if name not in FREE_MODEL_KEYS]
  pairs += [(f'model.{name}', model.get(name), theirs['model'][name]) for name in names]
  pairs += [(name, meaning.get(name), its) for name, its in weights.meaning.items()]
  for name, ours, its in pairs:
    if json.loads(json.dumps(ours)) != its:  # as a run keeps it: a tuple is a list
      raise UserError(f'{name}={ours!r}: must be as the teacher in {workdir} has it, {its!r}')
  return weights.variables['params']
