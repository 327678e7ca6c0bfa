"""How good a diffusion model is: likelihoods in bits a dimension, and measures of its images.

Likelihoods by the probability flow, `bpd_ode`, and bounds of a chain of steps, `bpd_vlb`, are of
different models: they stand beside each other, and nothing is made of both. Measures of images
have the name of the network whose features they are of.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from models.diffusion import likelihood, quality, solvers
from models.diffusion import process as process_lib
from models.diffusion import vlb as bound
from models.diffusion.parameterization import Denoiser
from train import mesh as mesh_lib
from train.config import UserError
from train.logging.progress import Progress
from train.task import Batch, Variables, evaluate
from train.tasks import reading
from train.tasks.diffusion import features as features_lib
from train.tasks.diffusion.features import Features

Found = tuple[dict[str, float], dict[str, Any]]  # metrics, and facts for eval.json
Measure = Callable[[Variables, Batch], tuple[Array, ...]]  # columns [B, ...]

STEPS = 1000  # of the bound's chain, where the process has no steps of its own
LAST = 0.01  # the least noise level of that chain, of images in [-1, 1]
DRAWN = 64  # of its steps that are computed for each image
GLANCE = 1000, 8  # images and steps of the bound that plain `eval` gives
PROBES = 1
SAMPLES = 1000
LEAST = 20  # samples
MORE = (
  'more: --images=N for bits/dim by ODE and bound (0: the whole split; --probes=K), --samples=N for'
  ' the quality of images (--classifier=WORKDIR; --inception=FILE)'
)
JPEG = (
  'the images are stored as JPEG, which takes bits out of them: their bits/dim are not comparable'
  " with a paper's, unless its images were the same files"
)


def examine(
  task: Any,
  members: Sequence[Variables],
  mesh: Mesh,
  *,
  images: int | None = None,
  probes: int | None = None,
  samples: int | None = None,
  classifier: str | None = None,
  inception: str | None = None,
  glance: bool = True,
) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
  """What the verb eval does for a task like `Diffusion`: metrics, facts, arrays (none).

  Without options the loss on the evaluation split and, at a `glance`, the bound of some images.

  images: bits/dim of so many images of the split, 0 for all of it; probes: of the trace in the ODE,
    0 for the exact one.
  samples: images that are drawn and compared with the split's, in the features of the run
    `classifier`, of FID's network with weights from the file `inception`, or else as pixels. The
    papers' FIDs are against the images of training: --config.data.eval_split=train.
  """
  if len(members) > 1:
    raise UserError(f'{len(members)} workdirs: diffusion models are evaluated one by one')
  _require('images', images, 0)
  _require('probes', probes, 0)
  _require('samples', samples, LEAST)
  measurer, found = Measurer(task, members[0], mesh), []
  networks = _networks(task, classifier, inception)
  with mesh_lib.activate(mesh):
    if images is not None or probes is not None:
      found.append(measurer.bound(images or 0, DRAWN))
      found.append(measurer.likelihood(images or 0, PROBES if probes is None else probes))
    if samples is not None or networks:
      count = SAMPLES if samples is None else samples
      found += measurer.quality(count, networks or [features_lib.of_pixels()])
    if not found:
      found = [measurer.loss()]
      if glance:
        found.append(measurer.bound(*GLANCE))
        _note(MORE)
  metrics = {name: value for measured, _ in found for name, value in measured.items()}
  facts = {name: fact for _, facts in found for name, fact in facts.items()}
  if any(fact.get('source') == 'JPEG' for fact in facts.values()):
    _note(JPEG)
  return metrics, facts, {}


def _require(name: str, value: int | None, least: int) -> None:
  if value is not None and value < least:
    raise UserError(f'--{name}={value}: must be at least {least}')


def _networks(task: Any, classifier: str | None, inception: str | None) -> list[Features]:
  found = []
  if classifier is not None:
    found.append(features_lib.of_classifier(classifier, task.data.image_shape))
  if inception is not None:
    found.append(features_lib.of_inception(inception))
  return found


def _note(text: str) -> None:
  if mesh_lib.is_main():
    print(text)


@dataclasses.dataclass(frozen=True)
class Measurer:
  """What is measured, and where.

  task: has `data`, `process`, `condition`, `learned_variance`, `sampler`, `times`, `guidance`,
    `at_once`, `evals`, `denoiser` and `images`, as `Diffusion` has them.
  """

  task: Any
  variables: Variables
  mesh: Mesh
  seed: int = 0

  # -------- likelihood --------

  def loss(self) -> Found:
    """As at each evaluation in training."""
    return evaluate(self.task.evals(self.mesh), self.variables), {}

  def likelihood(self, count: int, probes: int) -> Found:
    """`bpd_ode` of `count` images of the split, 0 for all, and its standard error over images.

    It is of the probability flow of the network as it was trained, without guidance.

    `bpd_ode_probe_stderr` is the part of that error which probes of the trace leave: what more of
    them would take away. A single probe cannot tell.
    """
    dims = int(np.prod(self.task.data.image_shape))

    def measure(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      x = likelihood.dequantize(batch['image'], self.keys(batch['index'], 0))
      keys = self.keys(batch['index'], 1)
      found = likelihood.log_prob(self.denoiser(variables, batch), x, keys, probes=probes)
      bits = likelihood.bits_per_dim(found.log_prob, dims)
      return bits, found.error / (dims * np.log(2)), found.evaluations

    found = self.over_split(self.compiled(measure), self.variables, count)
    bits, errors, evaluations = found
    self.check_finite('bpd_ode', bits)
    mean, error = likelihood.mean_and_error(bits)
    metrics = {'bpd_ode': mean, 'bpd_ode_stderr': error}
    if probes != 1:
      metrics['bpd_ode_probe_stderr'] = float(np.sqrt(np.square(errors).mean() / len(bits)))
    facts = {
      **self.facts(len(bits)),
      'dequantization': 'uniform',
      'trace': f'{probes} Rademacher probes an image' if probes else 'exact',
      'tolerance': 1e-5,
      't_min': float(self.task.process.t_min),
      'evaluations': float(evaluations.mean()),
    }
    return metrics, {'bpd_ode': facts}

  def bound(self, count: int, drawn: int) -> Found:
    """`bpd_vlb` of `count` images of the split, 0 for all, and its three terms.

    drawn: of the chain's steps, for each image; the bound is without bias, and the standard error
      over images holds their scatter, too.
    """
    process, variance = self.task.process, 'learned' if self.task.learned_variance else 'large'
    times = chain_times(process)
    drawn = min(drawn, len(times) - 1)

    def measure(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      x0 = 2 * batch['image'].astype(np.float32) / 255 - 1
      keys, denoiser = self.keys(batch['index'], 2), self.denoiser(variables, batch)
      found = bound.bpd_vlb(denoiser, x0, keys, times, variance=variance, count=drawn)
      return found.total, *found

    total, *terms = self.over_split(self.compiled(measure), self.variables, count)
    self.check_finite('bpd_vlb', total)
    mean, error = likelihood.mean_and_error(total)
    metrics = {'bpd_vlb': mean, 'bpd_vlb_stderr': error}
    for name, values in zip(bound.Bound._fields, terms, strict=True):
      metrics[f'bpd_vlb_{name}'], metrics[f'bpd_vlb_{name}_stderr'] = likelihood.mean_and_error(
        values
      )
    facts = {'chain': len(times), 'drawn': drawn, 'variance': variance}
    return metrics, {'bpd_vlb': {**self.facts(len(total)), **facts}}

  def denoiser(self, variables: Variables, batch: Batch) -> Denoiser:
    """The network as it was trained, told what it is told of the batch's images."""
    labels = None if self.task.condition == 'none' else batch['label']
    return self.task.denoiser(variables, labels, as_trained=True)

  def facts(self, count: int) -> dict[str, Any]:
    """Of what bits are counted."""
    data = self.task.data
    facts = {'split': data.eval_split, 'images': count, 'condition': self.task.condition}
    if source := data.stored_as(data.eval_split):
      facts['source'] = source
    return facts

  def check_finite(self, name: str, values: np.ndarray) -> None:
    if bad := int((~np.isfinite(values)).sum()):
      raise UserError(f'{name}: no finite value for {bad} of {len(values)} images')

  # -------- images --------

  def quality(self, count: int, networks: Sequence[Features]) -> list[Found]:
    """`count` images are drawn, of the split's mixture of classes, and compared by each network."""
    viewers = [features_lib.Viewer(self, network) for network in networks]
    reals = [viewer.split(self.task.data.eval_split) for viewer in viewers]
    real = np.sort(reals[0][2])
    labels = real[np.arange(count) * len(real) // count]
    drawn = self.draw(count, None if self.task.condition == 'none' else labels)
    return [
      self.compare(viewer, real, drawn, labels) for viewer, real in zip(viewers, reals, strict=True)
    ]

  def compare(
    self,
    viewer: features_lib.Viewer,
    real: Sequence[np.ndarray],
    drawn: np.ndarray,
    labels: np.ndarray,
  ) -> Found:
    """real: features, scores and labels of the split. drawn: uint8 [N, H, W, C] of labels [N].

    `floor` in the facts is the distance of as many training images, which no model can be
    expected to come under, unless it has learned them by heart.
    """
    data, network = self.task.data, viewer.network
    fake, scores = viewer.images(drawn)
    metrics = network.distances(real[0], fake)
    facts: dict[str, Any] = {
      **{'samples': len(drawn), 'split': data.eval_split, 'images': len(real[0])},
      **{'dimensions': fake.shape[1], 'k': 3, **network.facts, **self.drawing_facts()},
    }
    if data.train_split != data.eval_split:
      floor = viewer.split(data.train_split, len(drawn))[0]
      facts['floor'] = {'images': len(floor), **network.distances(real[0], floor)}
    if network.classes and network.classes == tuple(data.classes):
      counts = np.bincount(scores.argmax(-1), minlength=len(data.classes))
      facts['classes'] = dict(zip(network.classes, counts.tolist(), strict=True))
      facts['accuracy_of_split'] = float(np.mean(real[1].argmax(-1) == real[2]))
      if self.task.condition != 'none':
        right, name = quality.share(scores.argmax(-1) == labels), f'accuracy-{network.name}'
        metrics |= {name: right.value, f'{name}_stderr': right.error}
    return metrics, {f'quality-{network.name}': facts}

  def drawing_facts(self) -> dict[str, Any]:
    task, steps = self.task, len(self.task.times)
    evaluations = task.sampler.evaluations(steps)
    facts = {'sampler': repr(task.sampler), 'steps': steps, 'evaluations': evaluations}
    return {**facts, 'guidance': task.guidance}

  def draw(self, count: int, labels: np.ndarray | None) -> np.ndarray:
    """uint8 [count, H, W, C], by the task's sampler; with a bar on a terminal."""
    shards = mesh_lib.batch_shards(self.mesh)
    size = -(-self.task.at_once // shards) * shards
    keys, parts = self.keys(np.arange(count), 3), []
    for start in self.shown(range(0, count, size), size, -(-count // size)):
      part = slice(start, start + size)
      told = None if labels is None else labels[part]
      parts.append(self.task.images(self.variables, keys[part], told, self.mesh))
    return np.concatenate(parts)

  # -------- how --------

  def keys(self, numbers: Any, use: int) -> Array:
    """One an image, by its number [N]; use: what for."""
    key = jax.random.fold_in(jax.random.key(self.seed), use)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)

  def compiled(self, function: Measure) -> Measure:
    """The function of a batch, with the batch's mask as one more column."""

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(self.mesh))
    def measure(variables: Variables, batch: Batch) -> tuple[Array, ...]:
      return *function(variables, batch), batch['mask']

    return measure

  def over_split(
    self, measure: Measure, variables: Variables, count: int = 0, split: str = ''
  ) -> list[np.ndarray]:
    """The columns [N, ...] of a compiled function over `count` images of a split, 0 for all.

    They are taken from batches spread over the split, whose images may be in the order of classes.
    """
    data, split = self.task.data, split or self.task.data.eval_split
    batches = reading.evaluation(data, split, self.mesh)
    chosen = spread(count, data.num_examples(split), data.eval_batch_size)
    here = (batch for number, batch in enumerate(batches) if number in chosen)
    return [x[: count or None] for x in self.over(measure, variables, here, len(chosen))]

  def over(
    self, measure: Measure, variables: Variables, batches: Iterable[Batch], total: int
  ) -> list[np.ndarray]:
    rows = []
    for batch in self.shown(batches, self.task.data.eval_batch_size, total):
      *columns, mask = jax.device_get(measure(variables, batch))
      rows.append([column[mask > 0] for column in columns])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]

  def shown(self, items: Iterable[Any], size: int, total: int) -> Iterator[Any]:
    """The items, of `size` images each, with a bar on a terminal."""
    progress = Progress(total, size, unit='images', show=mesh_lib.is_main())
    with contextlib.closing(progress):
      for number, item in enumerate(items, 1):
        yield item
        progress.update(number)


def spread(count: int, examples: int, size: int) -> frozenset[int]:
  """The numbers of batches of `size` that hold `count` of the examples, 0 for all of these."""
  needed, whole = -(-count // size), examples // size
  if count == 0 or needed > whole:
    return frozenset(range(-(-examples // size)))
  return frozenset((np.arange(needed) * whole // needed).tolist())


def chain_times(process: process_lib.Process) -> np.ndarray:
  """[N]: the bound's chain, DDPM's own or one of `STEPS`, even in the logarithm of the noise.

  The latter ends at the level at which DDPM's does: less noise than that is finer than the levels
  of a byte, and a chain pays for it in vain.
  """
  if isinstance(process, process_lib.DDPM):
    return solvers.uniform(process, process.steps)
  first, last = solvers.noise_level(process, np.array([process.T, process.t_min]))
  return solvers.time_of(process, np.geomspace(first, max(last, LAST), STEPS))
