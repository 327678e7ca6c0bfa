"""Bits/dim against exact values; metrics that separate broken samplers from a good one."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from data import pipeline
from data.images.loaders import InMemoryLoader
from data.images.source import ImageData
from models import lenet, resnet
from models.diffusion import inception, processes, samplers, vlb
from models.diffusion.process import Process, expand_like
from models.diffusion.table_sampler import Sampler
from tests.models.diffusion import denoising, mixture
from tests.train.tasks.diffusion import small_diffusion
from train import mesh as mesh_lib
from train.errors import UserError
from train.run import Weights
from train.tasks.classify import Classify
from train.tasks.diffusion import evaluate
from train.tasks.diffusion.options import SamplerOptions
from train.tasks.diffusion.task import Diffusion
from train.tasks.images import features

SHAPE = (4, 4, 1)
STD = 0.25
CLASSES = ('dark', 'light')
VP, DDIM = processes.VP(), samplers.DDIM()
MEANS = np.stack([np.full(SHAPE, -0.3), np.linspace(0, 0.6, 16).reshape(SHAPE)])


def levels(x):
  return np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)


def draw(seed, labels):
  noise = np.random.default_rng(seed).standard_normal((len(labels), *SHAPE))
  return levels(MEANS[labels] + STD * noise)


def true_bits(images, labels):
  """Returns bits per dimension `[N]` under the discretised Gaussian of each image's class."""
  edges = 2 * (images[..., None] + np.array([-0.5, 0.5])) / 255 - 1
  mass = np.diff(scipy.stats.norm(MEANS[labels][..., None], STD).cdf(edges))[..., 0]
  return -np.log2(mass).reshape(len(images), -1).mean(1)


class Data:
  """Two Gaussians as 8-bit images; the split is ordered by class, as folders are."""

  image_shape, classes = SHAPE, CLASSES
  train_split, eval_split, eval_batch_size = 'train', 'test', 48

  def __init__(self, stored_as=''):
    self.stored = stored_as
    self.labels = {'train': np.arange(500) % 2, 'test': np.repeat([0, 1], 250)}
    self.images = {name: draw(i, labels) for i, (name, labels) in enumerate(self.labels.items())}

  def num_examples(self, split):
    return len(self.labels[split])

  def stored_as(self, split):
    return self.stored

  def eval_batches(self, split, sharding, rows=None):
    labels = self.labels[split].astype(np.int32)
    memory = InMemoryLoader(self.images[split], labels, sharding)
    return pipeline.EvalBatches(memory, len(labels), self.eval_batch_size, rows)


@dataclasses.dataclass
class Exact:
  """A task with a perfect network, whose images depend on the keys and may be broken on purpose."""

  process: Process = VP
  condition: str = 'label'
  how: str = 'good'
  sampler: Sampler = DDIM
  timesteps: np.ndarray = dataclasses.field(default_factory=lambda: np.linspace(1, 0.1, 5))
  guidance_scale: float = 1.5
  learned_variance: bool = False
  sample_batch_size: int = 24
  data: Data = dataclasses.field(default_factory=Data)

  def denoiser(self, variables, labels=None, *, as_trained=False):
    assert as_trained
    std = variables['std']
    if labels is None:
      both = mixture.Mixture(MEANS, STD)
      return both.denoiser(self.process)
    means = jnp.asarray(MEANS)[labels].astype(jnp.float32)

    def x0(x, alpha, sigma):
      alpha, sigma = (expand_like(v, x) for v in (alpha, sigma))
      gain = alpha * std**2 / ((alpha * std) ** 2 + sigma**2)
      return means + gain * (x - alpha * means)

    return mixture.perfect(x0, self.process, 'eps')

  def images(self, variables, keys, labels, mesh):
    assert (labels is None) == (self.condition == 'none')
    seeds = np.asarray(jax.random.key_data(keys))
    labels = seeds[:, 1] % 2 if labels is None else labels
    good = draw(seeds.ravel(), labels)
    broken = {
      'good': good,
      'noisy': levels(2 * good / 255 - 1 + 0.4 * np.random.default_rng(0).normal(size=good.shape)),
      'dark': draw(seeds.ravel(), 0 * labels),
      'the same': np.repeat(good[:1], len(good), 0),
    }
    return broken[self.how]

  def evals(self, mesh):
    return {'val': lambda variables: {'loss': 0.25}}


VARIABLES = {'std': np.float32(STD)}


@pytest.fixture(scope='module')
def mesh():
  return mesh_lib.make_mesh(devices=jax.devices()[:4])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  """Compiles without optimisation: programs here take longer to compile than to run."""
  monkeypatch.setattr(jax, 'jit', denoising.jit)


def measure(task, mesh, **options):
  return evaluate.examine(task, [VARIABLES], mesh, evaluate.Options(**options))[:2]


# -------- likelihood --------


@pytest.mark.long
def test_bits_per_dim_of_a_perfect_network(mesh):
  """The only errors are of dequantisation and probes."""
  task = Exact()
  metrics, metadata = measure(task, mesh, images=0, probes=4)
  truth = true_bits(task.data.images['test'], task.data.labels['test'])
  error = metrics['bpd_ode_stderr']
  assert error == pytest.approx(truth.std() / np.sqrt(len(truth)), rel=0.2)
  assert abs(metrics['bpd_ode'] - truth.mean()) < error
  assert metrics['bpd_ode_probe_stderr'] == 0  # probes of a diagonal are exact
  assert -2 * metrics['bpd_vlb_stderr'] < metrics['bpd_vlb'] - truth.mean() < 0.1
  terms = [metrics[f'bpd_vlb_{name}'] for name in ('prior', 'diffusion', 'reconstruction')]
  assert metrics['bpd_vlb'] == pytest.approx(sum(terms), rel=1e-5)
  assert terms[0] < 1e-4 and metrics['bpd_vlb_stderr'] > metrics['bpd_vlb_prior_stderr'] >= 0
  assert metadata['bpd_ode']['images'] == metadata['bpd_vlb']['images'] == 500
  assert metadata['bpd_ode']['condition'] == 'label' and metadata['bpd_ode']['evaluations'] > 20
  json.dumps([metrics, metadata])


@pytest.mark.long
def test_wrong_network_has_more_bits_and_subsets_have_all_classes(mesh):
  task = Exact()
  found, metadata = evaluate.Evaluator(task, VARIABLES, mesh).likelihood(96, 0)
  assert metadata['bpd_ode']['images'] == 96 and metadata['bpd_ode']['trace'] == 'exact'
  rows = pipeline.even_rows(96, 500)
  images, labels = (x['test'][rows] for x in (task.data.images, task.data.labels))
  assert np.bincount(labels).tolist() == [48, 48]
  assert found['bpd_ode'] == pytest.approx(true_bits(images, labels).mean(), abs=0.02)
  assert found['bpd_ode_probe_stderr'] == 0
  wrong = {'std': np.float32(2 * STD)}
  worse, metadata = evaluate.Evaluator(task, wrong, mesh).likelihood(96, 1)
  assert worse['bpd_ode'] > found['bpd_ode'] + 0.3
  assert 'bpd_ode_probe_stderr' not in worse  # a single one cannot tell


@pytest.mark.long
def test_probe_error_is_reported_and_devices_agree(mesh):
  task = Exact(condition='none')
  here = evaluate.Evaluator(task, VARIABLES, mesh)
  found, metadata = here.likelihood(48, 3)
  assert 0 < found['bpd_ode_probe_stderr'] < found['bpd_ode_stderr']
  assert metadata['bpd_ode']['condition'] == 'none'
  there = evaluate.Evaluator(task, VARIABLES, mesh_lib.make_mesh(devices=jax.devices()[:1]))
  assert here.bound(48, 4)[0] == pytest.approx(there.bound(48, 4)[0], rel=1e-4)


def test_chain_of_the_bound(mesh):
  task = Exact(process=processes.DDPM(steps=20, beta_min=0.01, beta_max=0.4))
  metrics, metadata = evaluate.Evaluator(task, VARIABLES, mesh).bound(48, 64)
  assert metadata['bpd_vlb']['chain'] == 20 and metadata['bpd_vlb']['drawn'] == 19
  assert metrics['bpd_vlb'] > true_bits(task.data.images['test'], task.data.labels['test']).mean()
  for process in (processes.VP(), processes.EDM(), processes.VE(), processes.Flow()):
    times = vlb.chain_timesteps(process)
    level = process.sigma(times[-1]) / process.alpha(times[-1])
    assert len(times) == 1000 and level == pytest.approx(0.01, rel=1e-3)


def test_eval_without_options_is_cheap_and_names_the_options(mesh, capsys):
  metrics, metadata = measure(Exact(), mesh)
  assert metrics['val/loss'] == 0.25 and 'bpd_ode' not in metrics
  assert metadata['bpd_vlb']['drawn'] == 8
  assert capsys.readouterr().out == evaluate.MORE + '\n'


def test_jpeg_is_reported(mesh, capsys):
  metadata = measure(Exact(data=Data('JPEG')), mesh)[1]
  assert metadata['bpd_vlb']['source'] == 'JPEG' and evaluate.JPEG in capsys.readouterr().out
  pixels = evaluate.Evaluator(Exact(), VARIABLES, mesh)
  assert 'source' not in pixels.metadata(5)


def test_nonfinite_values_are_reported(mesh):
  with pytest.raises(UserError, match='no finite value for 48 of 48 images'):
    evaluate.Evaluator(Exact(), {'std': np.float32(np.nan)}, mesh).bound(48, 2)


def test_a_single_image_has_no_standard_error(mesh):
  metrics, _ = evaluate.Evaluator(Exact(), VARIABLES, mesh).bound(1, 2)
  assert set(metrics) == {'bpd_vlb', 'bpd_vlb_prior', 'bpd_vlb_diffusion', 'bpd_vlb_reconstruction'}
  assert np.isfinite(list(metrics.values())).all()


def test_a_loss_that_is_not_finite_is_no_result(mesh):
  class Broken(Exact):
    def evals(self, mesh):
      return {'val': lambda variables: {'loss': float('nan')}}

  with pytest.raises(UserError, match='val/loss: no finite value'):
    measure(Broken(), mesh)


# -------- images --------


def judge(name='judge'):
  """Returns a network whose features are pixels and whose scores favour the nearest class."""

  def function(variables, images):
    x = images.reshape(len(images), -1).astype(jnp.float32) / 127.5 - 1
    means = jnp.asarray(MEANS.reshape(2, -1), jnp.float32)
    return x, -jnp.square(x[:, None] - means[None]).sum(-1)

  return features.Features(name, function, {}, CLASSES, {'of': 'a test'})


@pytest.fixture(scope='module')
def by_judge(mesh):
  """Returns a function of how images are drawn to (metrics, metadata)."""

  def found(how, condition='label'):
    evaluator = evaluate.Evaluator(Exact(how=how, condition=condition), VARIABLES, mesh)
    [measured] = evaluator.quality(400, [judge()])
    return measured

  return found


def test_a_good_sampler_is_as_good_as_the_training_images(by_judge):
  metrics, metadata = by_judge('good')
  floor = metadata['quality-judge']['floor']
  assert metrics['FD-judge'] < 1.5 * floor['FD-judge']
  assert metrics['KD-judge'] < 3 * metrics['KD-judge_stderr']
  assert metrics['accuracy-judge'] > 0.99
  for name in ('precision', 'recall', 'coverage', 'density'):
    assert metrics[f'{name}-judge'] > 0.8 * floor[f'{name}-judge']
  assert metadata['quality-judge']['classes'] == {'dark': 200, 'light': 200}
  drawing = {'sampler': 'DDIM(eta=0.0)', 'steps': 5, 'evaluations': 5, 'guidance': 1.5}
  assert metadata['quality-judge'].items() >= {**drawing, 'of': 'a test', 'samples': 400}.items()
  json.dumps([metrics, metadata])


def test_each_metric_detects_a_broken_sampler(by_judge):
  good, _ = by_judge('good')
  noisy, _ = by_judge('noisy')
  dark, metadata = by_judge('dark')
  same, _ = by_judge('the same')
  for broken in (noisy, dark, same):
    assert broken['FD-judge'] > 2 * good['FD-judge']
    assert broken['KD-judge'] > good['KD-judge'] + 3 * good['KD-judge_stderr']
    assert broken['coverage-judge'] < 0.7 * good['coverage-judge']
  assert noisy['precision-judge'] < 0.5 * good['precision-judge']
  assert noisy['density-judge'] < 0.5 * good['density-judge']
  assert dark['recall-judge'] < 0.6 and dark['precision-judge'] > 0.9 * good['precision-judge']
  assert dark['accuracy-judge'] == pytest.approx(0.5, abs=0.01)
  assert dark['accuracy-judge_stderr'] == pytest.approx(0.5 / np.sqrt(399), rel=0.05)
  assert metadata['quality-judge']['classes']['dark'] == 400
  assert same['recall-judge'] == 0


def test_the_floor_of_a_sorted_set_is_that_of_a_shuffled_one(mesh):
  floors = []
  for labels in (np.arange(500) % 2, np.arange(500) >= 250):
    task = Exact()
    task.data.labels['train'] = labels.astype(int)
    task.data.images['train'] = draw(0, labels.astype(int))
    [(_, metadata)] = evaluate.Evaluator(task, VARIABLES, mesh).quality(100, [judge()])
    floors.append(metadata['quality-judge']['floor']['FD-judge'])
  assert floors[1] == pytest.approx(floors[0], rel=0.3)  # of batches of one class: ten times that


def test_too_few_samples_for_a_frechet_distance_are_told(mesh, capsys):
  metadata = measure(Exact(), mesh, samples=20)[1]['quality-pixels']
  assert 'note' not in metadata and capsys.readouterr().out == ''
  assert '20 samples in 20 dimensions' in features.few_samples('x', 20, 20)
  assert features.few_samples('x', 21, 20) == ''


def test_features_that_are_not_finite_are_no_distance(mesh):
  def function(variables, images):
    x = images.reshape(len(images), -1).astype(jnp.float32)
    return x.at[3].set(jnp.nan), jnp.zeros((len(images), 1))

  broken = features.Features('broken', function, {}, (), {})
  with pytest.raises(UserError, match=r'features: those of \d+ of \d+ examples are not finite'):
    evaluate.Evaluator(Exact(), VARIABLES, mesh).quality(40, [broken])


def test_a_judge_with_classes_in_another_order_is_asked_by_name(mesh):
  turned = judge()

  def there(variables, images):
    x, scores = turned.function(variables, images)
    return x, scores[:, ::-1]

  other = dataclasses.replace(turned, function=there, classes=CLASSES[::-1])
  [(metrics, metadata)] = evaluate.Evaluator(Exact(), VARIABLES, mesh).quality(40, [other])
  assert metrics['accuracy-judge'] > 0.95
  assert metadata['quality-judge']['classes'] == {'dark': 20, 'light': 20}


def test_without_labels_there_is_no_accuracy(by_judge):
  metrics, metadata = by_judge('good', 'none')
  assert (
    'accuracy-judge' not in metrics and sum(metadata['quality-judge']['classes'].values()) == 400
  )
  assert metrics['KD-judge'] < 3 * metrics['KD-judge_stderr']


def test_samples_alone_are_compared_as_pixels(mesh):
  metrics, _ = measure(Exact(), mesh, samples=40)
  assert {'FD-pixels', 'KD-pixels', 'precision-pixels'} < set(metrics)
  assert 'FID' not in metrics and 'bpd_vlb' not in metrics


def test_fid_is_named_for_inception_only(mesh, monkeypatch, tmp_path):
  """Checks the names of metrics and the file's checksum; the network has tests of its own."""
  path = tmp_path / 'weights.npz'
  path.write_bytes(b'abc')
  monkeypatch.setattr(inception, 'load', lambda path: {})
  monkeypatch.setattr(inception, 'features', judge().function)
  metrics, metadata = measure(Exact(), mesh, samples=40, inception=str(path))
  assert {'FID', 'KID', 'KID_stderr', 'precision-inception'} < set(metrics)
  assert metadata['quality-inception']['sha256'].startswith('ba7816bf')
  assert not any('accuracy' in name for name in metrics)


@pytest.mark.parametrize(
  'options, message',
  [
    ({'images': -1}, '--images=-1: must be at least 0'),
    ({'probes': -2}, '--probes=-2: must be at least 0'),
    ({'samples': 5}, '--samples=5: must be at least 20'),
    ({'inception': '/none.npz'}, '/none.npz: no such file'),
  ],
)
def test_invalid_options_are_reported(mesh, options, message):
  with pytest.raises(UserError, match=message):
    measure(Exact(), mesh, **options)
  with pytest.raises(UserError, match='one by one'):
    evaluate.examine(Exact(), [VARIABLES] * 2, mesh, evaluate.Options())


# -------- the task diffusion --------


@pytest.mark.long
def test_diffusion_is_measured(mesh):
  task = small_diffusion.build(Diffusion, sampling=SamplerOptions(num_steps=4, guidance_scale=2.0))
  variables = mesh_lib.unbox(task.init(jax.random.key(0)))
  metrics, metadata, _ = task.examine([variables], mesh, samples=40)
  assert metrics['FD-pixels'] > metadata['quality-pixels']['floor']['FD-pixels']
  metrics, metadata, _ = task.examine([variables], mesh)
  assert {'val/loss', 'bpd_vlb', 'bpd_vlb_prior'} < set(metrics)
  assert metadata['bpd_vlb']['images'] == 360 and metadata['bpd_vlb']['condition'] == 'label'
  metrics, _ = evaluate.Evaluator(task, variables, mesh).likelihood(96, 1)
  assert metrics['bpd_ode'] > 0
  task.close()


# -------- features of a classifier --------


def classifier(model):
  task = Classify(
    {'name': 'lenet'}, ImageData('digits', decode_train='resize(8)', decode_eval='resize(8)')
  )
  task.classifier.model = model
  with jax.default_device(jax.devices()[0]):
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return task, denoising.random_values(shapes)


@pytest.mark.parametrize(
  'model, last, width',
  [
    (lenet.LeNet(10), 'output', 84),
    (resnet.ResNet(10, (1, 1), 4, False, False, 'v1', False, 'global', 'float32'), 'full', 8),
  ],
  ids=['lenet', 'resnet'],
)
def test_features_are_the_inputs_of_the_last_layer(model, last, width):
  task, variables = classifier(model)
  images = np.random.default_rng(0).integers(256, size=(3, 8, 8, 1)).astype(np.uint8)
  found, logits = jax.jit(task.features)(variables, images)
  assert found.shape == (3, width) and found.dtype == jnp.float32
  layer = variables['params'][last]
  np.testing.assert_allclose(found @ layer['kernel'] + layer['bias'][None], logits, rtol=1e-4)
  known = task.model.apply(variables, images / np.float32(255), train=False)
  np.testing.assert_allclose(known, logits, rtol=1e-4, atol=1e-5)
  task.close()


def test_a_run_of_a_classifier(monkeypatch):
  task, variables = classifier(lenet.LeNet(10))
  section = {'name': 'classify', 'mean': 0.0, 'std': 1.0, 'view': ''}
  config = {'model': {'name': 'lenet'}, 'task': section}
  run = Weights(config, 7, variables, task.meaning())
  monkeypatch.setattr(features, 'load_weights', lambda workdir: run)
  found = features.of_classifier('runs/x', (8, 8, 1))
  assert found.name == 'lenet' and found.classes == tuple('0123456789')
  assert found.metadata == {'classifier': 'runs/x', 'step': 7}
  images = np.random.default_rng(0).integers(256, size=(3, 8, 8, 1)).astype(np.uint8)
  for ours, theirs in zip(
    found.function(variables, images), task.features(variables, images), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)
  with pytest.raises(UserError, match='is of images of 8 x 8 x 1, and not 28 x 28 x 1'):
    features.of_classifier('runs/x', (28, 28, 1))
  unnamed = dataclasses.replace(run, meaning={})
  monkeypatch.setattr(features, 'load_weights', lambda workdir: unnamed)
  with pytest.raises(UserError, match=r'keeps no meaning.json, so its classes are not known'):
    features.of_classifier('runs/x', (8, 8, 1))
  other = dataclasses.replace(run, config={**config, 'task': {'name': 'language'}})
  monkeypatch.setattr(features, 'load_weights', lambda workdir: other)
  with pytest.raises(UserError, match='of task language'):
    features.of_classifier('runs/x', (8, 8, 1))


def test_stored_format_of_images(tmp_path):
  from PIL import Image

  assert ImageData('digits').stored_as('train') == ''
  for name in ('JPEG', 'PNG'):
    folder = tmp_path / name / 'train' / 'a'
    folder.mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(folder / f'x.{name.lower()}')
    data = ImageData('folder', str(tmp_path / name), eval_split='train')
    assert data.stored_as('train') == name
