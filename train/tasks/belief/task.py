"""Task `belief`: a deep belief net, its RBMs one after another and then the whole."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.sharding import Mesh

import models
from data.images.source import ImageData
from models import dbn
from models.axes import bound_size
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.step import make_eval
from train.task import Batch, Batches, Evaluation, Metrics, Source, Variables
from train.tasks import classifier as classifier_lib
from train.tasks import reading
from train.tasks.belief import batches as batches_lib
from train.tasks.belief import evaluate, pictures
from train.tasks.belief.schedule import Greedy, Stage, UpDown, make_schedule
from train.tasks.belief.updates import Updates
from train.tasks.images.task import ImageTask
from train.workdir import write_bytes

PREVIEW = 10  # images of each class, drawn at each evaluation
PREVIEW_GIBBS = 200  # steps of their chains
MOVED = 'belief'  # the collection of momenta


class Belief(ImageTask):
  """The task `belief`.

  A step of the training loop is `mini_batches` updates in one compiled scan, each of
  `data.batch_size` images and at the rate of its stage. What the optimizer is given is minus their
  sum, which sgd with a learning rate of 1 and no momentum adds as it is.

  Args:
    model: the config's section; a deep belief net.
    data: images, whose pixels in [0, 1] are the probabilities of binary pixels.
    greedy: how one RBM after another is trained.
    updown: how the whole net is trained then.
    mini_batches: updates in one step of the training loop.
    per_class: images of each class to learn from, in mini-batches with each class alike; 0 takes
      all images, shuffled.
    validation: images held out of the training split, evaluated as 'val'.

  Raises:
    UserError: a value is out of range or does not fit the data.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ImageData,
    *,
    greedy: Greedy = Greedy(),  # noqa: B008 (frozen)
    updown: UpDown = UpDown(),  # noqa: B008
    mini_batches: int = 20,
    per_class: int = 0,
    validation: int = 0,
  ):
    least = {'mini_batches': (mini_batches, 1), 'per_class': (per_class, 0)}
    for key, (value, bound) in {**least, 'validation': (validation, 0)}.items():
      if value < bound:
        raise UserError(f'task.{key}={value}: must be at least {bound}')
    if per_class and data.batch_size % len(data.classes):
      raise UserError(
        f'data.batch_size={data.batch_size}: mini-batches with each class alike (task.per_class)'
        f' need a multiple of {len(data.classes)}, the number of classes'
      )
    with user_errors():
      self.model = models.build(**model, num_classes=len(data.classes))
    if not isinstance(self.model, dbn.DBN):
      raise UserError(f'model.name={model["name"]!r}: task belief trains RBMs; choose dbn')
    self.data, self.mini_batches = data, mini_batches
    self.num_rbms = len(self.model.hidden) + 1
    self.schedule = make_schedule(greedy, updown, self.num_rbms)
    self.updates = Updates(self.num_rbms, len(data.classes), mini_batches, data.batch_size)
    self.per_class, self.validation = per_class, validation
    self._choice: batches_lib.ImageChoice | None = None
    self._gather: Any = lambda params: params

  @property
  def metrics(self) -> Sequence[str]:
    """The metrics of every split that is evaluated."""
    names = ['loss', *classifier_lib.errors(np.zeros(1), len(self.data.classes))]
    return [f'{split}/{name}' for split in self._splits for name in names]

  @property
  def _splits(self) -> list[str]:
    full = any(stage.full for stage in self.schedule.stages)
    return ['test', *['val'] * bool(self.validation), 'trained', *['all'] * full]

  @property
  def batch_size(self) -> int:
    """Images in a step."""
    return self.mini_batches * self.data.batch_size

  def init(self, key: Array) -> Variables:
    """Returns the net's initial weights, and their momenta, which are 0."""
    variables = self.model.init(key, jnp.zeros((1, *self.data.image_shape)))
    return {**variables, MOVED: jax.tree.map(jnp.zeros_like, variables['params'])}

  # -------- training --------

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns a step's loss, whose gradient is minus the sum of its updates; momenta; metrics.

    The loss is the squared error an image of what the stage's RBM reconstructs of what it sees; in
    up-down stages, of the pixels made from the first layer. In evaluation it is the label's
    cross-entropy in nats.
    """
    if not train:
      return self._measure(variables, batch)
    if len(batch['label']) * max(bound_size('data'), 1) != self.batch_size:
      raise UserError(
        'train.accumulate: must be 1, since each mini-batch of task belief is an update;'
        ' data.batch_size and task.mini_batches say how many images a step has'
      )
    params = lax.stop_gradient(variables['params'])
    now = self.schedule.now(batch['step'][0])
    new, velocity, loss = self.updates(now, params, variables[MOVED], batch, key)
    # Made of the loss, so that pmap's sum of weights waits for those of the updates: XLA for a CPU
    # mixes up sums at a time of a program that comes from its cache.
    weight = len(batch['label']) + 0 * loss
    # The step divides the sum by the weight, and so must get the gradient times the weight.
    change = weight * sum(
      jnp.vdot(old - to, leaf)
      for old, to, leaf in zip(
        *map(jax.tree.leaves, (params, new, variables['params'])), strict=True
      )
    )
    total = loss + change - lax.stop_gradient(change)
    stage = (now.number + 1).astype(jnp.float32)
    metrics = {'loss': (total, weight), 'stage': (stage * weight, weight)}
    return total / weight, ({MOVED: velocity}, metrics)

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the stream of training batches."""
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream')
    choose = functools.partial(self.choice, mesh)
    return batches_lib.StagedSource(
      self.data, mesh, seed, self.schedule, choose, self.check_begun, self.batch_size
    )

  def choice(self, mesh: Mesh) -> batches_lib.ImageChoice:
    """Returns which images are for training and which for validation."""
    if self._choice is None:
      self._choice = batches_lib.ImageChoice(self.data, mesh, self.per_class, self.validation)
    return self._choice

  def check_begun(self, stage: Stage, variables: Variables) -> None:
    """Raises UserError for a stage that begins before the RBMs that it builds on were trained."""
    for layer in range(min(stage.layer, self.num_rbms)):
      if not dbn.is_trained(variables['params'], layer):
        raise UserError(
          f'stage {stage.name!r}, which begins at step {stage.start:,}, builds on RBM {layer + 1},'
          f' which was never trained: give task.greedy.steps[{layer}] some steps, or begin with'
          ' --init_from=RUN, one that has trained it'
        )

  # -------- evaluation --------

  def _measure(self, variables: Variables, batch: Batch) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the label's cross-entropy and the errors by the exact free energy of each label."""
    scores = self.scores(variables, batch['image'])
    label, mask = batch['label'], batch['mask']
    values = {
      'loss': optax.softmax_cross_entropy_with_integer_labels(scores, label),
      **classifier_lib.errors(classifier_lib.ranks(scores, label), scores.shape[-1]),
    }
    metrics = {name: (jnp.sum(x * mask), mask.sum()) for name, x in values.items()}
    return metrics['loss'][0] / mask.sum(), ({}, metrics)

  def scores(self, variables: Variables, images: Array) -> Array:
    """Returns log p(label | image) without its constant, `[B, K]`, of uint8 images."""
    scores: Any = self.model.apply({'params': variables['params']}, classifier_lib.to_unit(images))
    return scores

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns 'test', and by part of the training images: 'val' (held out), 'trained', 'all'.

    'val' is there if any are held out, 'all' if a last stage learns from all of them.
    """
    with user_errors():
      seen, met = self.data.image_shape, self.data.eval_image_shape
    if seen != met:
      raise UserError(
        f'images of {seen} are trained on and of {met} evaluated: data.decode_train and'
        ' data.decode_eval must come to one shape'
      )
    measure = make_eval(self)
    self._gather = jax.jit(lambda params: params, out_shardings=mesh_lib.replicated(mesh))

    def on(split: str) -> Evaluation:
      return lambda variables: measure(variables, self.batches(split, mesh))

    return {split: on(split) for split in self._splits}

  def batches(self, split: str, mesh: Mesh) -> Batches:
    """Returns the batches of what an evaluation is of."""
    if split == 'test':
      return reading.evaluation(self.data, self.data.eval_split, mesh)
    choice = self.choice(mesh)
    rows = {'val': choice.validation, 'trained': choice.training, 'all': choice.everything}[split]
    return reading.chosen(self.data, self.data.train_split, mesh, rows)

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[Mapping[str, float], Mapping[str, Any], Mapping[str, np.ndarray]]:
    """Evaluates one net, or the mean of several nets' probabilities, on the evaluation split."""
    return evaluate.examine(self, members, mesh)

  # -------- pictures --------

  def draw(self, variables: Variables, key: Array) -> Mapping[str, bytes]:
    """Returns a PNG of each trained layer's receptive fields, and samples by class once there are.

    A row of 'samples.png' is a class.
    """
    params = self._gather(variables['params'])  # a sharded net may be on other processes' devices
    trained = [layer for layer in range(self.num_rbms) if dbn.is_trained(params, layer)]
    files = {f'fields{layer + 1}.png': self._fields(params, layer) for layer in trained}
    if self.num_rbms - 1 in trained:
      labels = np.arange(min(len(self.data.classes), pictures.MAX_CLASSES))
      files['samples.png'] = self._sheet(params, key, labels, PREVIEW, PREVIEW_GIBBS)
    return files

  def _fields(self, params: dbn.Params, layer: int) -> bytes:
    fields = jax.device_get(jax.jit(dbn.fields, static_argnums=1)(params, layer))
    return pictures.fields(pictures.as_images(fields, self.data.image_shape))

  def _sheet(
    self, params: dbn.Params, key: Array, labels: np.ndarray, columns: int, gibbs_steps: int
  ) -> bytes:
    """Returns a PNG with a row of `columns` samples for each label."""
    wanted = jax.nn.one_hot(np.repeat(labels, columns), len(self.data.classes))
    drawn = jax.jit(dbn.sample)(params, jax.random.split(key, len(wanted)), wanted, gibbs_steps)
    images = pictures.as_images(jax.device_get(drawn), self.data.image_shape)
    return pictures.sheet(np.round(255 * images).astype(np.uint8), columns)

  def sample(
    self,
    variables: Variables,
    folder: str,
    *,
    label: Sequence[str] = (),
    samples: int = 10,
    gibbs_steps: int = 1000,
    seed: int = 0,
  ) -> None:
    """Writes `samples-SEED.png` for the verb sample: a row for each label, all by default."""
    if not dbn.is_trained(variables['params'], self.num_rbms - 1):
      raise UserError(
        f'the top RBM is not trained yet, from which images are drawn; its stage begins at step'
        f' {self._begins(self.num_rbms - 1):,}'
      )
    labels = pictures.class_numbers(label, self.data.classes)
    key = jax.random.key(seed)
    png = self._sheet(variables['params'], key, labels, samples, gibbs_steps)
    if mesh_lib.is_main():
      os.makedirs(folder, exist_ok=True)
      path = os.path.join(folder, f'samples-{seed}.png')
      write_bytes(path, png)
      print(path)

  def _begins(self, layer: int) -> int:
    """Returns the first step of the stage that trains an RBM; of a run that has none, 0."""
    return next((stage.start for stage in self.schedule.stages if stage.layer == layer), 0)
