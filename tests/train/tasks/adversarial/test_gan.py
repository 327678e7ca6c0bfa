"""The task `gan`: both networks' gradients, its steps on any layout of devices, and images."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.stopping import StoppingSource
from tests.train.tasks.adversarial import small_gan as small
from train import mesh as mesh_lib
from train.errors import Halted, UserError
from train.loop import Loop
from train.tasks.adversarial.task import GAN

HARD = {'regularization': {'r1': 1.0, 'r1_interval': 2, 'spectral_norm': True}}


def losses(made, variables, batch, key=None, train=False):
  key = jax.random.key(0) if key is None else key
  metrics = jax.jit(lambda v: made.loss(v, batch, key, train=train)[1][1])(variables)
  return {name: float(total) / float(weight) for name, (total, weight) in metrics.items()}


# -------- the loss --------


@pytest.mark.long
@pytest.mark.parametrize('model', small.MODELS)
@pytest.mark.parametrize('loss', ['non_saturating', 'hinge'])
def test_each_network_has_the_gradient_of_its_own_loss(model, loss):
  """By a small step of each network: its own loss changes as the gradient says."""
  made = small.task(model, loss=loss)
  variables, batch = small.variables(made), small.batch_of(made)

  @jax.jit
  def both(params):
    value, (_, metrics) = made.loss(
      {**variables, 'params': params}, batch, jax.random.key(0), train=True
    )
    return value, [metrics[f'{name}_loss'][0] / 16 for name in ('generator', 'discriminator')]

  (_, (g_loss, d_loss)), grads = jax.value_and_grad(both, has_aux=True)(variables['params'])
  for name, before in (('generator', g_loss), ('discriminator', d_loss)):
    square = sum(float((x**2).sum()) for x in jax.tree.leaves(grads[name]))
    rate = 1e-2 / square**0.5
    moved = jax.tree.map(
      lambda p, g, rate=rate: p - rate * g, variables['params'][name], grads[name]
    )
    g_after, d_after = both({**variables['params'], name: moved})[1]
    fallen = before - (g_after if name == 'generator' else d_after)
    assert fallen == pytest.approx(rate * square, rel=0.3)


@pytest.mark.parametrize('model', small.MODELS)
def test_an_untrained_discriminator_stands_at_chance(model):
  made = small.task(model)
  variables = small.variables(made)
  params = dict(variables['params'])
  params['discriminator'] = jax.tree.map(jnp.zeros_like, params['discriminator'])
  found = losses(made, {**variables, 'params': params}, small.batch_of(made))
  assert found['discriminator_loss'] == pytest.approx(2 * np.log(2))
  assert found['generator_loss'] == pytest.approx(np.log(2))
  assert found['loss'] == pytest.approx(3 * np.log(2))


def test_real_and_generated_images_have_moments_of_their_own():
  made = small.task('dcgan', settings={'width': 8}, of=small.data(decode_train='resize(16)'))
  variables, batch = small.variables(made), small.batch_of(made)
  _, (extra, _) = jax.jit(lambda v: made.loss(v, batch, jax.random.key(0), train=True))(variables)
  stats = extra['batch_stats']
  means = [stats[kind]['norm1']['mean'] for kind in ('real', 'fake')]
  assert set(stats) == {'generator', 'real', 'fake'} and abs(means[0] - means[1]).max() > 1e-4
  assert abs(stats['generator']['norm0']['mean']).max() > 0


def test_a_record_has_its_own_latent_and_padding_counts_for_nothing():
  made = small.task()
  variables, batch = small.variables(made, scale=30), small.batch_of(made)
  halves = [jax.tree.map(lambda x, i=i: x[i::2], batch) for i in range(2)]
  same = [{**half, 'image': halves[0]['image']} for half in halves]
  first, second = (losses(made, variables, half)['generator_loss'] for half in same)
  assert first != second
  half_masked = {**batch, 'mask': jnp.arange(16) % 2 == 0}
  half_masked['mask'] = half_masked['mask'].astype(jnp.float32)
  expected = losses(made, variables, halves[0])
  assert losses(made, variables, half_masked) == pytest.approx(expected, rel=1e-5)


def test_the_penalty_acts_in_some_steps_for_all_others():
  made = small.task(regularization={'r1': 2.0, 'r1_interval': 4})
  variables, batch = small.variables(made), small.batch_of(made)
  loss = jax.jit(lambda key: made.loss(variables, batch, key, train=True)[1][1]['r1'][0])
  found = np.array([loss(jax.random.key(i)) for i in range(80)])
  whole = small.task(regularization={'r1': 2.0, 'r1_interval': 1})
  every = losses(whole, variables, batch, train=True)['r1'] * 16
  assert 8 <= (found > 0).sum() <= 32
  assert found[found > 0].mean() == pytest.approx(4 * every, rel=0.2)  # dropout differs
  assert 'r1' not in losses(made, variables, batch)


def test_the_generator_begins_at_the_mean_image():
  made = small.task(mean_bias=True)
  bias = np.asarray(small.variables(made)['params']['generator']['output']['bias'])
  mean = np.mean([small.batch_of(made, i)['image'] for i in range(89)], (0, 1)).ravel() / 255
  centre = (mean > 0.2) & (mean < 0.8)
  np.testing.assert_allclose(1 / (1 + np.exp(-bias[centre])), mean[centre], atol=0.02)
  with pytest.raises(UserError, match=r'task\.mean_bias=True: is for model\.name=gan'):
    small.variables(small.task('dcgan', mean_bias=True))


# -------- steps --------


@pytest.mark.long
@pytest.mark.parametrize(('model', 'section'), [('gan', {}), ('dcgan', {}), ('dcgan', HARD)])
def test_eight_devices_train_as_one(model, section):
  made = small.task(model, conditional=True, **section)
  state, metrics = small.run(made)
  other, again = small.run(small.task(model, conditional=True, **section), (2, 2, 2))
  for a, b in zip(metrics, again, strict=True):
    assert a == pytest.approx(b, abs=1e-4)
  small.close(state.params, other.params, atol=1e-4)
  small.close(state.extra, other.extra, atol=1e-4)


@pytest.mark.long
def test_a_replica_a_device_trains_as_one_program(monkeypatch):
  """Without dropout, of which each replica draws its own."""
  monkeypatch.setattr('models.gan.mlp.Dropout.__call__', lambda self, x, *, train: x)
  for model, section in (('gan', {}), ('dcgan', HARD)):
    state, metrics = small.run(small.task(model, **section), (4, 1, 1))
    other, again = small.run(small.task(model, **section), (4, 1, 1), parallel='pmap')
    for a, b in zip(metrics, again, strict=True):
      assert a == pytest.approx(b, abs=1e-4)
    small.close(state.params, other.params, atol=1e-4)


@pytest.mark.long
def test_microbatches_of_the_mlp_add_up_to_the_whole(monkeypatch):
  monkeypatch.setattr('models.gan.mlp.Dropout.__call__', lambda self, x, *, train: x)
  state, metrics = small.run(small.task())
  other, again = small.run(small.task(), accumulate=4)
  for a, b in zip(metrics, again, strict=True):
    assert a == pytest.approx(b, abs=1e-4)
  small.close(state.params, other.params, atol=1e-4)


@pytest.mark.long
def test_training_makes_the_discriminator_tell_and_the_generator_fool():
  _, metrics = small.run(small.task(of=small.data(batch_size=64)), steps=80)
  assert metrics[-1]['discriminator_loss'] < 1.3 < metrics[0]['discriminator_loss']
  assert metrics[-1]['generator_loss'] > metrics[0]['generator_loss']


class Interrupted(GAN):
  """A task that is interrupted at step 2."""

  def source(self, split, mesh, seed):
    return StoppingSource(super().source(split, mesh, seed), 2)


def train(workdir, kind=GAN, model='dcgan', **section):
  made, (tx, schedule) = small.task(model, kind, **section), small.optimizer()
  loop = Loop(steps=4, log_every=1, eval_every=2, best='', ema_decay=0.9)
  loop.run(made, tx, schedule, small.mesh_of(), str(workdir), seed=0)
  drawn = {path.name: path.read_bytes() for path in (workdir / 'samples').iterdir()}
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  return drawn, [{k: v for k, v in x.items() if not k.startswith('time/')} for x in lines]


@pytest.mark.long
def test_a_resumed_run_is_the_same_run(tmp_path):
  straight = train(tmp_path / 'a', **HARD)
  train(tmp_path / 'b', Interrupted, **HARD)
  assert train(tmp_path / 'b', **HARD) == straight
  drawn, lines = straight
  names = [f'0000000{i}-{name}.png' for i in (2, 4) for name in ('grid', 'interpolation')]
  assert sorted(drawn) == names and len(set(drawn.values())) == 4
  assert len({line['train/loss'] for line in lines if 'train/loss' in line}) == 4


@pytest.mark.long
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr('models.gan.latents.draw', lambda keys, size, how: latents_of_nan(keys, size))
  with pytest.raises(Halted, match='not finite'):
    train(tmp_path, model='gan')


def latents_of_nan(keys, size):
  return jnp.full((len(keys), size), jnp.nan)


# -------- images --------


@pytest.fixture(scope='module')
def labelled():
  made = small.task('dcgan', conditional=True, of=small.data(decode_train='resize(16)'))
  return made, small.variables(made, scale=20)  # else all images are grey


def test_images_are_independent_of_their_batch_and_compiled_once(labelled):
  made, variables = labelled
  mesh, keys, labels = small.mesh_of(), jax.random.split(jax.random.key(3), 20), np.arange(20) % 10
  all_of_them = made.images(variables, keys, labels, mesh)
  assert (all_of_them.shape, all_of_them.dtype) == ((20, 16, 16, 1), np.uint8)
  np.testing.assert_array_equal(
    made.images(variables, keys[5:8], labels[5:8], mesh), all_of_them[5:8]
  )
  [(_, draw)] = made.drawer._compiled.values()
  assert draw._cache_size() == 1
  assert (made.images(variables, keys[5:8], labels[5:8] + 1, mesh) != all_of_them[5:8]).any()


def test_eight_devices_draw_what_one_does(labelled):
  made, variables = labelled
  keys, labels = jax.random.split(jax.random.key(0), 10), np.arange(10)
  drawn = [
    made.images(variables, keys, labels, small.mesh_of(layout)).astype(int)
    for layout in ((1, 1, 1), (4, 2, 1))
  ]
  assert abs(drawn[0] - drawn[1]).max() <= 1


def test_images_are_drawn_by_the_statistics_of_fixed_latents(labelled):
  made, variables = labelled
  keys, labels = jax.random.split(jax.random.key(0), 4), np.arange(4)
  other = {**variables, 'batch_stats': jax.tree.map(lambda x: x + 1, variables['batch_stats'])}
  ours = made.images(variables, keys, labels, small.mesh_of())
  np.testing.assert_array_equal(made.images(other, keys, labels, small.mesh_of()), ours)
  running = small.task('dcgan', conditional=True, of=made.data, sampling={'statistics_batch': 0})
  theirs = running.images(other, keys, labels, small.mesh_of())
  assert (theirs != running.images(variables, keys, labels, small.mesh_of())).any()


def test_the_pictures_of_a_run_are_of_the_same_latents(labelled):
  made, variables = labelled
  first, second = (made.draw(variables, jax.random.key(i)) for i in (0, 1))
  assert first == second and sorted(first) == ['grid.png', 'interpolation.png']
  broken = jax.tree.map(lambda x: x * jnp.nan, variables)
  assert 'diverged' in made.draw(broken, jax.random.key(0))['grid.txt'].decode()


def test_the_verb_sample_draws_rows_of_labels_and_paths(labelled, tmp_path, capsys):
  made, variables = labelled
  made.sample(variables, str(tmp_path), samples=3, label=['3', '7'])
  made.sample(variables, str(tmp_path), samples=2, label=['3'], interpolate=True)
  made.sample(variables, str(tmp_path), samples=3, label=['3', '7'])
  names = ['grid-0-2.png', 'grid-0.png', 'interpolation-0.png']
  found = sorted(path.name for path in tmp_path.iterdir())
  assert len(found) == 3 and set(found) >= set(names[1:])
  assert capsys.readouterr().out.count('.png') == 3
  with pytest.raises(UserError, match='--label=12: no such class'):
    made.sample(variables, str(tmp_path), label=['12'])
  plain = small.task()
  with pytest.raises(UserError, match=r'--label=3: the networks are not told labels \(task.cond'):
    plain.sample(small.variables(plain), str(tmp_path), label=['3'])


def test_what_the_verb_sample_runs_can_be_traced_for_a_mesh():
  for model in small.MODELS:
    made, mesh = small.task(model), small.mesh_of((2, 1, 1))
    shapes = mesh_lib.unbox(jax.eval_shape(made.init, jax.random.key(0)))
    with mesh_lib.activate(mesh):
      traced = made.trace_sample(shapes, mesh)
    assert 'sample' in traced and all(program.lower() for program in traced.values())


# -------- mistakes --------


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'loss': 'wgan'}, "task.loss='wgan': not for task gan"),
    ({'latent': 'cauchy'}, "task.latent='cauchy': not for task gan.*normal, uniform"),
    ({'settings': {'name': 'lenet'}}, "model.name='lenet': not for task gan.*gan, dcgan"),
    ({'settings': {'hidden': (0,)}}, r'model.hidden=\(0,\): must be at least 1'),
    ({'augment': 'flop()'}, 'task.augment'),
    ({'regularization': {'r1': -1.0}}, r'task.regularization.r1=-1.0: must be at least 0'),
    ({'regularization': {'r1_interval': 0}}, 'r1_interval=0: must be at least 1'),
    ({'sampling': {'sample_batch_size': 0}}, 'sample_batch_size=0: must be at least 1'),
    ({'sampling': {'statistics_batch': -1}}, 'statistics_batch=-1: must be at least 0'),
  ],
)
def test_a_mistake_in_the_config_is_named(options, words):
  with pytest.raises((UserError, ValueError), match=words):
    small.variables(small.task(**options))


def test_images_of_other_sizes_are_refused_with_what_to_do():
  odd = small.data(decode_train='resize(9)', decode_eval='resize(9)')
  with pytest.raises(UserError, match=r'images of 9 x 9: DCGAN needs sides .* can resize them'):
    small.variables(small.task('dcgan', of=odd))
  mixed = small.task('dcgan', of=small.data(decode_eval='resize(16)'))
  with pytest.raises(
    UserError, match=r'makes images of 8 x 8 x 1, data\.decode_eval of 16 x 16 x 1'
  ):
    mixed.evals(small.mesh_of())
