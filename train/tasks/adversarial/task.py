"""The task `gan`: the losses of both networks in one step, and images that are drawn."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

import models
from data.images import augment as augment_lib
from data.images.source import ImageData
from models import ops
from models.gan import AdversarialNetworks, latents, spectral
from models.gan.losses import LOSSES
from train import mesh as mesh_lib
from train.errors import UserError, unknown, user_errors
from train.step import make_eval
from train.task import Batch, Evaluation, Metrics, Programs, Source, Variables
from train.tasks import reading
from train.tasks.adversarial import evaluate
from train.tasks.adversarial import sample as sample_lib
from train.tasks.adversarial.drawing import ImageDrawer, record_keys
from train.tasks.adversarial.options import REGULARIZATION, SAMPLING, DrawingOptions, Regularization
from train.tasks.images import grids
from train.tasks.images.task import ImageTask

NETWORKS = ('gan', 'dcgan')
# Of a pixel, whose logit is an initial bias. A border that is never quite black gives images away.
MEAN_RANGE = 1e-7, 1 - 1e-7
MAX_INTERPOLATIONS = 8  # rows of the sheet that is drawn in training


class Judged(NamedTuple):
  """The discriminator's logits `[B]`.

  real: of real images.
  fake: of generated ones, as the discriminator's loss sees them: constants.
  fooled: the same numbers as the generator's loss sees them: the discriminator is a constant.
  """

  real: Array
  fake: Array
  fooled: Array


class GAN(ImageTask):
  """The task `gan`; images are floats in [0, 1].

  One scalar loss is differentiated once, as the loop has it: the sum of both networks' losses, in
  which each takes the other for a constant (`stop_gradient`). So each network's gradient is that of
  its own loss, in whatever way the step is compiled. Both are updated at the same time, as in the
  code of Goodfellow et al. 2014, rather than one after the other. The optimiser `adversarial` has
  a section for each of them.

  Args:
    model: the config's section.
    data: images.
    loss: a name of `models.gan.losses.LOSSES`.
    conditional: whether both networks are told the class.
    latent: how latents are distributed, 'normal' or 'uniform'.
    augment: operations of `data.images.augment` on real images, such as 'flip()'.
    mean_bias: begins with the generator's output at the mean of the training images: its bias is
      their logit (Goodfellow et al. 2014's code).
    regularization: of the discriminator.
    sampling: how images are drawn.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ImageData,
    *,
    loss: str = 'non_saturating',
    conditional: bool = False,
    latent: str = 'normal',
    augment: str = '',
    mean_bias: bool = False,
    regularization: Regularization = REGULARIZATION,
    sampling: DrawingOptions = SAMPLING,
  ):
    for key, value, choices in (
      ('task.loss', loss, LOSSES),
      ('task.latent', latent, latents.DISTRIBUTIONS),
      ('model.name', model['name'], NETWORKS),
    ):
      if value not in choices:
        raise unknown(f'{key}={value!r}', value, 'not for task gan', choices)
    self.data, self.objective, self.conditional = data, LOSSES[loss], conditional
    self.latent, self.mean_bias = latent, mean_bias
    self.regularization, self.sampling = regularization, sampling
    self.augment = augment_lib.parse(augment, 'task.augment', data.image_shape)
    shape = tuple(data.image_shape)
    self.networks = build(model, image_shape=shape, num_classes=len(self.classes))
    self.drawer = ImageDrawer(self.networks, latent, sampling)

  # -------- the contract of a task --------

  @property
  def classes(self) -> tuple[str, ...]:
    """The classes that both networks are told; () for none."""
    return tuple(self.data.classes) if self.conditional else ()

  @property
  def metrics(self) -> Sequence[str]:
    names = 'discriminator_loss', 'generator_loss', 'accuracy_real', 'accuracy_fake', 'loss'
    return [f'val/{name}' for name in names]

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    return reading.training(self.data, split, mesh, seed)

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns 'val': the losses on the evaluation split, whose images D was not trained on."""
    with user_errors():
      ours, theirs = self.data.image_shape, self.data.eval_image_shape
    if ours != theirs:
      shapes = [' x '.join(map(str, shape)) for shape in (ours, theirs)]
      rule = f'makes images of {shapes[0]}, data.decode_eval of {shapes[1]}: must be the same'
      raise UserError(f'data.decode_train {rule}')
    batches = reading.evaluation(self.data, self.data.eval_split, mesh)
    measure = make_eval(self)
    return {'val': lambda variables: measure(variables, batches)}

  # -------- the loss --------

  def init(self, key: Array) -> Variables:
    """Returns fresh variables.

    Collections: `params` and `batch_stats` of the generator and the discriminator, of which the
    latter has moments of real and of generated images apart; `spectral`, its singular vectors.
    """
    key, other = jax.random.split(key)
    z, labels = jnp.zeros((1, self.networks.latent_size)), jnp.zeros(1, jnp.int32)
    with user_errors():
      variables = dict(self.networks.init({'params': key, 'dropout': key}, z, labels))
    if self.mean_bias:
      variables['params'] = self._with_mean_bias(variables['params'])
    if 'batch_stats' in variables:
      stats = variables['batch_stats']
      judge = stats.get('discriminator', {})
      kinds = {'real': judge, 'fake': jax.tree.map(jnp.copy, judge)}
      variables['batch_stats'] = {'generator': stats['generator'], **kinds}
    if self.regularization.spectral_norm:
      kernels = mesh_lib.unbox(variables['params'])['discriminator']
      variables['spectral'] = spectral.vectors(kernels, other)
    return variables

  def _with_mean_bias(self, params: Any) -> Any:
    if 'output' not in params['generator']:
      raise UserError('task.mean_bias=True: is for model.name=gan, whose last layer has a bias')
    bias = jnp.asarray(self._mean_logits)
    output = params['generator']['output']
    boxed = jax.tree.map(lambda _: bias, output['bias'])
    return {**params, 'generator': {**params['generator'], 'output': {**output, 'bias': boxed}}}

  @functools.cached_property
  def _mean_logits(self) -> np.ndarray:
    mesh = mesh_lib.make_mesh(1, 1, 1, devices=jax.local_devices()[:1])
    with user_errors(), jax.ensure_compile_time_eval():  # `init` is traced
      mean = self.data.mean_image(mesh_lib.batch_sharding(mesh)).ravel().clip(*MEAN_RANGE)
    return np.log(mean / (1 - mean))

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the mean of both losses' sum; metrics have each. A latent is drawn a record."""
    keys, label, mask = record_keys(key, batch['index']), batch['label'], batch['mask']
    real = batch['image'].astype(jnp.float32) / 255
    if train:
      real, _ = self.augment(nth_keys(keys, 0), real, jnp.zeros((len(real), 1)))
    z = latents.draw(nth_keys(keys, 1), self.networks.latent_size, self.latent)
    # Microbatches and devices draw their own dropout, by their first record's number.
    dropout = jax.random.fold_in(key, batch['index'][0]) if train else key
    judge, judged, extra = self._play(variables, real, z, label, dropout, train)
    values = {
      'discriminator_loss': self.objective.discriminator(judged.real, judged.fake),
      'generator_loss': self.objective.generator(judged.fooled),
      'accuracy_real': (judged.real > 0).astype(jnp.float32),
      'accuracy_fake': (judged.fake < 0).astype(jnp.float32),
    }
    values['loss'] = values['discriminator_loss'] + values['generator_loss']
    if train and self.regularization.r1:
      values['r1'] = self._penalty(judge, real, key)
      values['loss'] += values['r1']
    metrics = {name: (jnp.sum(x * mask), mask.sum()) for name, x in values.items()}
    return metrics['loss'][0] / mask.sum(), (extra, metrics)

  def _play(
    self, variables: Variables, real: Array, z: Array, label: Array, key: Array, train: bool
  ) -> tuple[Any, Judged, Variables]:
    """Returns the discriminator, its logits, and the variables other than `params`."""
    params, stats = variables['params'], dict(variables.get('batch_stats', {}))
    extra = {name: value for name, value in variables.items() if name != 'params'}
    fake, stats['generator'] = self._apply(
      'generate', params, stats.get('generator', {}), z, label, train=train
    )
    weights = params['discriminator']
    if 'spectral' in extra:
      weights, new = spectral.normalise(weights, extra['spectral'])
      extra['spectral'] = new if train else extra['spectral']

    def judge(weights: Any, kind: str, images: Array) -> tuple[Array, Any]:
      rngs = {'dropout': jax.random.fold_in(key, ('real', 'fake').index(kind))}
      given = {'discriminator': weights}, stats.get(kind, {}), images, label
      return self._apply('discriminate', *given, train=train, rngs=rngs)

    logits, real_stats = judge(weights, 'real', real)
    # The same computation twice, which the compiler does once; only their gradients differ.
    fakes, fake_stats = judge(weights, 'fake', lax.stop_gradient(fake))
    fooled, _ = judge(lax.stop_gradient(weights), 'fake', fake)
    if 'batch_stats' in extra:
      kinds = {'real': real_stats, 'fake': fake_stats}
      extra['batch_stats'] = {'generator': stats['generator'], **kinds}
    of_real = functools.partial(judge, weights, 'real')
    return lambda x: of_real(x)[0], Judged(logits, fakes, fooled), extra

  def _apply(
    self, method: str, params: Any, stats: Any, *inputs: Array, train: bool, rngs: Any = None
  ) -> tuple[Array, Any]:
    """Returns what a network's method gives, and its statistics."""
    network = 'generator' if method == 'generate' else 'discriminator'
    variables = {'params': params, 'batch_stats': {network: stats}}
    out, new = self.networks.apply(
      variables, *inputs, train=train, rngs=rngs, method=method, mutable=['batch_stats']
    )
    return out, new.get('batch_stats', {}).get(network, stats)

  def _penalty(self, judge: Any, real: Array, key: Array) -> Array:
    """Returns R1 `[B]`, at random in one of `r1_interval` steps and as many times as large."""
    options = self.regularization

    def penalty(real: Array) -> Array:
      with ops.use('plain'):  # a CPU's forms have no second derivatives
        return spectral.squared_gradients(judge, real)

    share = 1 / options.r1_interval
    acts = jax.random.bernoulli(key, share)  # one key for all microbatches and devices
    found = lax.cond(acts, penalty, lambda real: jnp.zeros(len(real)), real)
    return options.r1 / 2 / share * found

  # -------- images --------

  def images(
    self, variables: Variables, keys: Array, labels: np.ndarray | None, mesh: Mesh
  ) -> np.ndarray:
    """Draws an image for each of keys `[N]`, uint8 `[N, H, W, C]`."""
    return self.drawer.images(variables, keys, labels, mesh)

  def trace_sample(self, variables: Variables, mesh: Mesh) -> Programs:
    """Returns the program that draws a batch of images."""
    return self.drawer.trace(variables, mesh)

  def draw(self, variables: Variables, key: Array) -> Mapping[str, bytes]:
    """Returns 'grid.png' and 'interpolation.png', of the same latents at each evaluation."""
    del key  # so that the pictures of a run show one image as it changes
    count, mesh = self.sampling.num_preview_samples, grids.mesh_of(variables)
    if not count:
      return {}
    labels, columns = grids.layout(count, self.classes)
    keys = record_keys(jax.random.key(0), np.arange(len(labels)))
    try:
      images = self.images(variables, keys, labels.clip(0), mesh)
      paths = sample_lib.interpolations(self.drawer, variables, min(count, MAX_INTERPOLATIONS), 0)
    except grids.Diverged as error:
      return {'grid.txt': f'{error}\n'.encode()}
    sheets = {'grid.png': grids.grid(images, columns), 'interpolation.png': grids.strips(paths)}
    return {name: grids.png(pixels) for name, pixels in sheets.items()}

  def sample(
    self,
    variables: Variables,
    folder: str,
    *,
    samples: int = 8,
    seed: int = 0,
    label: Sequence[str] = (),
    interpolate: bool = False,
  ) -> None:
    """Draws images for the verb `sample`: PNG files in the folder, whose names go to stdout."""
    request = grids.ImageRequest(samples, seed, tuple(label), (), False)
    sample_lib.write(self.drawer, self.classes, variables, folder, request, interpolate=interpolate)

  def examine(
    self,
    members: Sequence[Variables],
    mesh: Mesh,
    *,
    samples: int | None = None,
    classifier: str | None = None,
    inception: str | None = None,
    parzen: str | None = None,
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Evaluates the model for the verb `eval`; see `evaluate.EvalRequest`."""
    options = evaluate.EvalRequest(samples, classifier, inception, parzen)
    return evaluate.examine(self, members, mesh, options)


def build(
  section: Mapping[str, Any], image_shape: tuple[int, ...], num_classes: int
) -> AdversarialNetworks:
  """Builds the networks that the section `model` names; UserError for images they cannot draw."""
  with user_errors():
    return models.build(**section, image_shape=image_shape, num_classes=num_classes)


def nth_keys(keys: Array, n: int) -> Array:
  """Returns the n-th key of each of keys `[B]`."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, n)
