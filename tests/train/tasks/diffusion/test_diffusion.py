"""Diffusion models as a task: the loss, its evaluation, and images on any layout of devices."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.diffusion import guidance
from models.diffusion.denoiser import NetworkDenoiser
from tests.models.diffusion.denoising import jit
from tests.train.stopping import StoppingSource
from tests.train.tasks.diffusion import toy_diffusion as small
from train import mesh as mesh_lib
from train.errors import UserError
from train.loop import Loop
from train.tasks.diffusion.base import FRAMES, lattice
from train.tasks.diffusion.task import Diffusion

LABELLED = {'conditioning': {'on': 'label'}}
CAPTIONED = {'conditioning': {'on': 'caption'}, 'model': {'context_width': 16}}


@pytest.fixture(scope='module')
def labelled():
  made = small.task(**LABELLED)
  return made, small.variables(made)


# -------- training --------


@pytest.mark.long
def test_training_lowers_the_loss_from_1():
  _, losses = small.run(small.task(**LABELLED), steps=60, tx=optax.adam(1e-2))
  assert losses[0] == pytest.approx(1, abs=0.1)
  assert np.mean(losses[-5:]) < 0.6


@pytest.mark.long
def test_eight_devices_train_as_one():
  found, losses = small.run(small.task(**LABELLED), steps=2)
  other, again = small.run(small.task(**LABELLED), (2, 2, 2), steps=2)
  assert again == pytest.approx(losses, abs=1e-5)
  small.close(found, other, atol=1e-5)


def test_microbatches_draw_their_own_noise_and_times():
  made = small.task()
  variables, key, batch = small.variables(made), jax.random.key(0), small.batch_of(made)
  loss = jit(lambda batch: made.loss(variables, batch, key, train=True)[0])
  halves = [jax.tree.map(lambda x, i=i: x[i::2], batch) for i in range(2)]
  same_pictures = [{**half, 'image': halves[0]['image']} for half in halves]
  assert abs(loss(same_pictures[0]) - loss(same_pictures[1])) > 1e-4


@pytest.mark.long
def test_conditions_are_dropped_with_their_probability():
  """Counts the records, of 16, whose loss depends on their label."""

  def heard(drop):
    made = small.task(**LABELLED, loss={'cond_drop_prob': drop})
    variables, batch = small.variables(made), small.batch_of(made)

    @jit
    def losses(labels):
      told = {**batch, 'label': labels}
      return made.loss(variables, told, jax.random.key(0), train=True)[0]

    labels = batch['label']
    others = [losses(labels.at[i].set((labels[i] + 1) % 10)) for i in range(16)]
    return sum(abs(other - losses(labels)) > 1e-6 for other in others)

  assert (heard(0.0), heard(1.0)) == (16, 0)
  assert 4 <= heard(0.5) <= 12


@pytest.mark.long
def test_evaluation_loss_is_deterministic(labelled):
  made, variables = labelled
  mesh = small.mesh_of()
  first = made.evals(mesh)['val'](variables)['loss']
  assert made.evals(mesh)['val'](variables)['loss'] == first
  other = small.task(of=small.data(eval_batch_size=49), **LABELLED)
  assert other.evals(mesh)['val'](variables)['loss'] == pytest.approx(first, rel=1e-5)
  batch = next(iter(made.data.eval_batches('test', mesh_lib.batch_sharding(mesh))))
  again = {**batch, 'label': (batch['label'] + 1) % 10}
  loss = jit(lambda batch: made.loss(variables, batch, jax.random.key(0), train=False)[0])
  losses = [loss(b) for b in (batch, again)]
  assert abs(losses[0] - losses[1]) > 1e-3  # labels are told, all of them


def test_the_lattice_is_even_for_any_number_of_records():
  for count in (7, 100, 5000):
    u = np.sort(lattice(jnp.arange(count)))
    assert abs(u - (np.arange(count) + 0.5) / count).max() < 4 / count
  assert lattice(jnp.array([0, -1])).min() > 0 and lattice(jnp.arange(10**5)).max() < 1


class Interrupted(Diffusion):
  """A task that is interrupted at step 2."""

  def source(self, split, mesh, seed):
    return StoppingSource(super().source(split, mesh, seed), 2)


def train(workdir, kind=Diffusion):
  made, tx = small.task(kind, **LABELLED), optax.adam(1e-3)
  loop = Loop(steps=4, log_every=1, eval_every=2, best='val/loss', ema_decay=0.9)
  loop.run(made, tx, lambda step: 1e-3, mesh_lib.make_mesh(), str(workdir), seed=0)
  drawn = {path.name: path.read_bytes() for path in (workdir / 'samples').iterdir()}
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return drawn, [{k: v for k, v in x.items() if not k.startswith('time/')} for x in lines]


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(tmp_path):
  straight = train(tmp_path / 'a')
  train(tmp_path / 'b', Interrupted)
  assert train(tmp_path / 'b') == straight
  drawn, lines = straight
  assert sorted(drawn) == ['00000002-grid.png', '00000004-grid.png']
  assert len(set(drawn.values())) == 2
  assert len({line['train/loss'] for line in lines if 'train/loss' in line}) == 4


# -------- images --------


def test_images_are_independent_and_compiled_once(labelled):
  made, variables = labelled
  mesh, keys, labels = small.mesh_of(), small.keys_of(20), np.arange(20) % 10
  all_of_them = made.images(variables, keys, labels, mesh)
  assert (all_of_them.shape, all_of_them.dtype) == ((20, 8, 8, 1), np.uint8)
  some = made.images(variables, keys[5:8], labels[5:8], mesh)
  np.testing.assert_array_equal(some, all_of_them[5:8])
  [make] = made._compiled_samplers.values()
  assert make._cache_size() == 1
  others = made.images(variables, keys[5:8], labels[5:8] + 1, mesh)
  assert abs(others.astype(int) - some).max() > 8


def test_eight_devices_draw_what_one_does(labelled):
  made, variables = labelled
  keys, labels = small.keys_of(10), np.arange(10)
  drawn = [
    made.images(variables, keys, labels, small.mesh_of(layout)).astype(int)
    for layout in ((1, 1, 1), (4, 2, 1))
  ]
  assert abs(drawn[0] - drawn[1]).max() <= 1
  assert drawn[0].std() > 20


@pytest.mark.long
@pytest.mark.parametrize(
  ('sampler', 'options', 'schedule'),
  [
    ('ancestral(variance=large)', {}, 'uniform'),
    ('predictor_corrector(corrector=annealed, snr=0.1)', {'process': 've'}, 'edm(rho=5)'),
    ('heun(churn=2)', {'process': 'edm', 'prediction': 'edm'}, 'uniform'),
    ('multistep(order=3)', {'process': 'flow', 'prediction': 'flow'}, 'asinh'),
    ('ode(rtol=0.1, atol=0.1)', {'process': 'subvp(beta_max=10)'}, 'uniform'),
  ],
)
def test_samplers_processes_and_schedules_are_chosen_by_specs(sampler, options, schedule):
  sampling = {'sampler': sampler, 'timestep_schedule': schedule, 'threshold': 'dynamic'}
  made = small.task(loss={'time_distribution': 'importance'}, sampling=sampling, **options)
  images = made.images(small.variables(made, noise=0.1), small.keys_of(3), None, small.mesh_of())
  assert len({image.tobytes() for image in images}) == 3
  assert made.timesteps.shape == (5,)


def test_trajectory_leads_from_noise_to_image(labelled):
  made, variables = labelled
  keys, labels = small.keys_of(3), np.arange(3)
  images = made.images(variables, keys, labels, small.mesh_of())
  paths = made.images(variables, keys, labels, small.mesh_of(), trajectory=True)
  assert paths.shape == (3, min(FRAMES, 5 + 1), 8, 8, 1)
  assert abs(paths[:, -1].astype(int) - images).max() <= 1
  noise = made.process.prior_sample(
    jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys), (8, 8, 1)
  )
  levels = np.clip(np.round((noise + 1) * 127.5), 0, 255)
  assert abs(paths[:, 0] - levels).max() <= 1


def test_guidance_and_threshold_act_in_sampling_only(labelled):
  plain, variables = labelled
  made = small.task(**LABELLED, sampling={'guidance_scale': 3.0, 'threshold': 'static'})
  x, t, labels = jax.random.normal(jax.random.key(0), (4, 8, 8, 1)), jnp.full(4, 0.5), jnp.arange(4)
  given = eps(plain, variables, labels, x, t)
  without = eps(plain, variables, None, x, t)
  assert abs(given - without).max() > 0.1
  as_trained = eps(made, variables, labels, x, t, as_trained=True)
  np.testing.assert_allclose(as_trained, given, atol=1e-5)
  guided = NetworkDenoiser(made.process, lambda x, t: without + 3 * (given - without))
  known = guidance.threshold(guided, 'static').eps(x, t)
  np.testing.assert_allclose(eps(made, variables, labels, x, t), known, atol=1e-4)


def eps(made, variables, labels, x, t, **how):
  return jit(lambda v, labels: made.denoiser(v, labels, **how).eps(x, t))(variables, labels)


@pytest.mark.long
def test_a_learned_variance_is_trained_guided_and_sampled_with():
  made = small.task(
    **LABELLED,
    model={'learned_variance': True},
    loss={'weighting': 'hybrid'},
    sampling={'guidance_scale': 2.0, 'sampler': 'ancestral(variance=learned)'},
  )
  variables = small.variables(made, noise=0.1)
  batch = small.batch_of(made)
  value = jit(lambda v: made.loss(v, batch, jax.random.key(0), train=True)[0])(variables)
  assert 0.3 < value < 3
  images = made.images(variables, small.keys_of(2), np.arange(2), small.mesh_of())
  assert images.std() > 20


# -------- captions --------


def test_captions_of_labels_are_encoded():
  made = small.task(
    model=CAPTIONED['model'], conditioning={'on': 'caption', 'caption': 'a handwritten {}'}
  )
  assert made.captions.texts[3] == 'a handwritten three'
  variables = small.variables(made)
  x, t = jax.random.normal(jax.random.key(0), (3, 8, 8, 1)), jnp.full(3, 0.5)
  read = jit(lambda v, labels: made.denoiser(v, labels).eps(x, t))
  by_label = read(variables, jnp.array([3, 4, -1]))
  texts = 'a handwritten three', 'a handwritten four', ''
  tokens = np.stack([made.captions.tokens(text) for text in texts])
  np.testing.assert_allclose(read(variables, tokens), by_label, atol=1e-5)
  nothing = eps(made, variables, None, x, t)
  np.testing.assert_allclose(by_label[2], nothing[2], atol=1e-5)
  assert abs(by_label[:2] - nothing[:2]).max((1, 2, 3)).min() > 1e-2
  others = read(variables, jnp.array([4, 3, -1]))
  assert abs(by_label[:2] - others[:2]).max((1, 2, 3)).min() > 1e-3
  with pytest.raises(UserError, match='bytes; a caption has 32 at most'):
    made.captions.tokens('a very long caption, ' * 4)


@pytest.mark.long
def test_the_encoder_of_captions_is_trained():
  made = small.task(**CAPTIONED)
  batch = small.batch_of(made)
  loss = lambda v: made.loss(v, batch, jax.random.key(0), train=True)[0]  # noqa: E731
  gradient = jit(jax.grad(loss))(small.variables(made))['params']['captions']
  assert all(
    abs(gradient[name]['embedding']).max() > 0 for name in ('token_embed', 'position_embed')
  )


# -------- invalid options --------


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'process': 'vpp'},
      r"task\.process\.name='vpp': no such name .*mean vp.*choose from ve, ",
    ),
    ({'process': 'vp(beta=3)'}, r'task\.process\.beta=3: unknown key .*choose from name, beta_min'),
    (
      {'process': 'ddpm(steps=100)'},
      r'does not end in the noise that samplers start from: alpha² is',
    ),
    ({'process': 'edm(sigma_max=1e30)'}, 'float32 does not hold'),
    (
      {'process': 'edm', 'sampling': {'timestep_schedule': 'edm(rho=0)'}},
      r'timestep_schedule\.rho=0\.0: must be a number, at least 0\.1',
    ),
    (
      {'sampling': {'sampler': 'ancestral(variance=learned)'}},
      r"variance=learned\)': needs model\.learned_variance=true",
    ),
    (
      {'loss': {'cond_drop_prob': 0.0}, 'sampling': {'guidance_scale': 2.0}, **LABELLED},
      r'guidance_scale=2 with task\.loss\.cond_drop_prob=0: guidance needs a network',
    ),
    (
      {'sampling': {'guidance_interval': (2.0, 1.0)}},
      'guidance_interval=.*: must be two noise levels',
    ),
    ({'process': 'vp(3)'}, r"task\.process='vp\(3\)': write NAME or NAME\(key=value\)"),
    ({'process': 'vp(beta_min=0)'}, r'process\.beta_min=0.0: > 0, <= beta_max'),
    ({'sampling': {'sampler': 'ddim(eta=2)'}}, r'sampler\.eta=2.0: must be in \[0, 1\]'),
    (
      {'sampling': {'sampler': 'heun(churn=much)'}},
      r"task\.sampling\.sampler\.churn='much': must be a float",
    ),
    ({'sampling': {'timestep_schedule': 'edm(rho='}}, r"timestep_schedule='edm\(rho=': write NAME"),
    (
      {'loss': {'time_distribution': 'normal'}},
      r'time_distribution\.name.*choose from uniform, importance, log_normal',
    ),
    ({'prediction': 'noise'}, r"task\.prediction='noise': no such prediction; choose from eps, x0"),
    ({'loss': {'weighting': 'snr'}}, r"task\.loss\.weighting='snr'.*did you mean min_snr.*hybrid"),
    ({'conditioning': {'on': 'labels'}}, r"task\.conditioning\.on='labels'.*did you mean label\?"),
    (
      {'sampling': {'threshold': 'soft'}},
      r"task\.sampling\.threshold='soft': .*choose from none, static, dynamic",
    ),
    ({'loss': {'cond_drop_prob': 1.5}}, r'task\.loss\.cond_drop_prob=1\.5: must be in \[0, 1\]'),
    ({'sampling': {'num_steps': 1}}, r'task\.sampling\.num_steps=1: must be at least 2'),
    ({'loss': {'weighting': 'hybrid'}}, r'model\.learned_variance=true, which is false'),
    ({'model': {'learned_variance': True}}, r'model\.learned_variance=false, which is true'),
    (
      {'conditioning': {'on': 'caption'}},
      r"task\.conditioning\.on='caption': needs model\.context_width",
    ),
    ({'model': {'context_width': 8}}, r"context_width=8: is for task\.conditioning\.on='caption'"),
    (
      {**CAPTIONED, 'conditioning': {'on': 'caption', 'caption': 'a digit'}},
      r"conditioning\.caption='a digit': needs \{\}",
    ),
  ],
  ids=str,
)
def test_invalid_options_are_reported_in_one_line(options, message):
  with pytest.raises(UserError, match=message) as error:
    small.task(**options)
  assert '\n' not in str(error.value)


def test_unsuitable_networks_are_refused():
  with pytest.raises(UserError, match=r"model\.name='lenet5': takes no noise level"):
    Diffusion({'name': 'lenet5'}, small.data())
  with pytest.raises(UserError, match=r'images of 8 x 8: model\.patch=3 must divide both'):
    small.task(model={'patch': 3}).init(jax.random.key(0))


def test_guidance_without_a_condition_is_refused_where_it_would_act():
  made = small.task(sampling={'guidance_scale': 3.0})
  with pytest.raises(UserError, match=r"guidance_scale=3 with task\.conditioning\.on='none'"):
    made.source('train', small.mesh_of(), 0)
  with pytest.raises(UserError, match='has no condition to be guided by'):
    made.images({}, small.keys_of(2), None, small.mesh_of())


def test_images_of_evaluation_have_the_shape_of_those_of_training():
  made = small.task(of=small.data(decode_eval='resize(12)'))
  with pytest.raises(
    UserError, match=r'makes images of 8 x 8 x 1, data\.decode_eval of 12 x 12 x 1'
  ):
    made.evals(small.mesh_of())


def test_a_sampler_that_does_not_fit_the_process_is_told_once(capsys):
  made = small.task(process='edm', prediction='edm', sampling={'num_steps': 50})
  for _ in range(2):
    made.check_sampling()
  [line] = capsys.readouterr().err.splitlines()
  assert 'DDIM(eta=0.0) with 50 timesteps does not fit EDM' in line
  assert 'would draw images with 0.15; take another timestep_schedule' in line
  fits = {'num_steps': 50, 'timestep_schedule': 'edm'}
  small.task(process='edm', prediction='edm', sampling=fits).check_sampling()
  assert capsys.readouterr().err == ''


def test_noise_that_does_not_hide_large_images_is_told(capsys, monkeypatch):
  made = small.task(process='ve(sigma_max=12)', sampling={'sampler': 'ode'})
  monkeypatch.setattr(made.data, 'image_shape', (32, 32, 3))
  made.check_sampling()
  told = capsys.readouterr().err
  assert 'does not hide images of 32 x 32 x 3: about 2.7 nats of each are left' in told


def test_what_a_run_means_is_its_images_and_the_classes_of_its_condition(labelled):
  assert labelled[0].meaning() == {'image_shape': [8, 8, 1], 'classes': list('0123456789')}
  assert small.task().meaning() == {'image_shape': [8, 8, 1]}
