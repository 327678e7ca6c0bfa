"""Consistency functions against exact solutions; distillation from a known flow."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.diffusion import consistency, processes, samplers, timesteps
from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.process import expand_like
from tests.models.diffusion import mixture
from tests.train.tasks.diffusion import small_diffusion
from train import mesh as mesh_lib
from train.errors import UserError
from train.run import Weights
from train.step import init_state, make_step
from train.tasks.diffusion import consistency as consistency_task
from train.tasks.diffusion.consistency import Consistency
from train.tasks.diffusion.options import Distillation
from train.tasks.diffusion.task import Diffusion

PROCESSES = [
  processes.EDM(),
  processes.VP(t_min=1e-3),
  processes.Flow(t_min=0.01),
  processes.DDPM(),
]
named = pytest.mark.parametrize('process', PROCESSES, ids=lambda p: type(p).__name__)


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@named
@pytest.mark.parametrize('prediction', ['eps', 'edm'])
def test_boundary_conditions_of_the_consistency_function(process, prediction):
  network = mixture.eight_dimensional().denoiser(process, prediction)
  learner, x = consistency.consistency_function(network), normal(5, 8)
  end = jnp.full(5, process.t_min)
  np.testing.assert_allclose(learner.x0(x, end), x / process.alpha(process.t_min), rtol=1e-4)
  far = jnp.full(5, process.T)
  x = process.prior_std * x
  np.testing.assert_allclose(learner.x0(x, far), network.x0(x, far), atol=0.05)


def exact(data, process):
  """Returns the exact consistency function of one Gaussian, whose flow scales x less its mean."""
  mean, std = jnp.asarray(data.means, jnp.float32), data.std

  def x0(x, t):
    here, end = (consistency.noise_level(process, each) for each in (t, process.t_min))
    scale = jnp.sqrt((std**2 + end**2) / (std**2 + here**2))
    return mean + expand_like(scale, x) * (x / expand_like(process.alpha(t), x) - mean)

  return NetworkDenoiser(process, x0, 'x0')


@named
def test_exact_consistency_function_has_no_loss(process):
  data = mixture.gaussian(np.linspace(-1, 1, 8), 0.3)
  network, right = data.denoiser(process), exact(data, process)
  wrong = consistency.consistency_function(network)
  x0 = jnp.asarray(data.sample(0, 200), jnp.float32)
  times = timesteps.edm(process, 40)
  index = consistency.draw_steps(jax.random.key(0), 200, 39)
  assert sorted(set(index.tolist())) == list(range(39))

  def loss(function):
    given = (network, x0, normal(200, 8), times, index)
    return consistency.loss(function, function, *given)

  assert loss(right).mean() < 0.02 * loss(wrong).mean()
  assert loss(right).shape == (200,)


@named
def test_multistep_sampling_of_the_exact_function_gives_the_data(process):
  data = mixture.gaussian(np.linspace(-1, 1, 8), 0.3)
  keys = jax.random.split(jax.random.key(0), 2000)
  x = process.prior_sample(keys, (8,))
  for steps in (1, 3):
    times = consistency.sampling_timesteps(process, steps)
    assert len(times) == steps and times[0] == pytest.approx(process.T)
    made = consistency.MultistepConsistency()(exact(data, process), x, keys, times)
    np.testing.assert_allclose(made.mean(0), data.means[0], atol=0.05)
    np.testing.assert_allclose(made.std(0), 0.3, rtol=0.08)


def test_no_gradient_goes_to_the_target():
  data = mixture.gaussian(np.zeros(8), 0.3)
  teacher = data.denoiser(processes.EDM())
  times, index = timesteps.edm(processes.EDM(), 10), jnp.arange(4)

  def scaled(by):
    return NetworkDenoiser(processes.EDM(), lambda x, t: by * x, 'x0')

  def loss(here, there):
    functions = scaled(here), scaled(there)
    return consistency.loss(*functions, teacher, normal(4, 8), normal(4, 8), times, index).sum()

  here, there = jax.grad(loss, (0, 1))(0.5, 0.5)
  assert here != 0 and there == 0


# -------- learning one --------


def init(key, width=64):
  sizes = [(9, width), (width, width), (width, width), (width, 8)]
  keys = jax.random.split(key, len(sizes))
  return [
    (jax.random.normal(k, s) / np.sqrt(s[0]), jnp.zeros((1, s[1])))
    for k, s in zip(keys, sizes, strict=True)
  ]


def network(params, process):
  def predict(x, t):
    y = jnp.concatenate([x, process.c_noise(t)[:, None]], 1)
    for kernel, bias in params[:-1]:
      y = jax.nn.silu(y @ kernel + bias)
    return y @ params[-1][0] + params[-1][1]

  return NetworkDenoiser(process, predict, 'edm')


STEPS = 1500


@pytest.mark.slow
def test_a_network_is_distilled_from_an_exact_teacher():
  """Ten modes in 8 dimensions, where one step of the teacher gives the mean of all modes."""
  data, process = mixture.eight_dimensional(), processes.EDM(sigma_max=20.0)
  teacher, times = data.denoiser(process), timesteps.edm(process, 18)
  tx = optax.adam(optax.cosine_decay_schedule(2e-3, STEPS))

  def learner(params):
    return consistency.consistency_function(network(params, process))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def train(params, state, key):
    def step(carry, key):
      params, state = carry
      k = jax.random.split(key, 4)
      modes = jnp.asarray(data.means, jnp.float32)[jax.random.randint(k[0], (256,), 0, 10)]
      x0 = modes + data.std * jax.random.normal(k[1], (256, 8))
      noise, index = jax.random.normal(k[2], (256, 8)), consistency.draw_steps(k[3], 256, 17)

      def loss(params):
        function = learner(params)
        return consistency.loss(function, function, teacher, x0, noise, times, index).mean()

      updates, state = tx.update(jax.grad(loss)(params), state)
      return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, state), jax.random.split(key, STEPS))[0]

  params = init(jax.random.key(0))
  params, _ = train(params, tx.init(params), jax.random.key(1))
  keys = jax.random.split(jax.random.key(2), 500)
  x = process.prior_sample(keys, (8,))
  solved = samplers.Multistep()(teacher, x, keys, timesteps.asinh(process, 60))
  one = consistency.MultistepConsistency()(
    learner(params), x, keys, consistency.sampling_timesteps(process, 1)
  )
  blind = teacher.x0(x, jnp.full(500, process.T))
  error, before = (float(jnp.sqrt(jnp.square(y - solved).mean())) for y in (one, blind))
  assert error < 0.75 * before


# -------- the task --------


@pytest.fixture
def teacher(tmp_path, monkeypatch):
  """Returns the workdir of a diffusion run, and the run."""
  task = small_diffusion.build(Diffusion, process='edm', prediction='edm')
  variables = mesh_lib.unbox(task.init(jax.random.key(5)))
  (tmp_path / 'config.json').write_text('{}')
  section = {'name': 'diffusion', 'process': 'edm', 'prediction': 'edm'}
  conditioning = {'on': 'label', 'caption': 'a picture of {}'}
  config = {'task': {**section, 'conditioning': conditioning}, 'model': {'name': 'dit'}}
  run = Weights(config, 7, variables, {})
  monkeypatch.setattr(consistency_task, 'load_weights', lambda workdir: run)
  return str(tmp_path), run


def distil(workdir, **settings):
  settings = {'process': 'edm', 'prediction': 'edm', **settings}
  return small_diffusion.build(Consistency, teacher=workdir, **settings)


@pytest.mark.slow
def test_student_starts_as_its_teacher_and_trains(teacher):
  task, mesh = (
    distil(teacher[0], distillation=Distillation(guidance_scale=2.0)),
    mesh_lib.make_mesh(),
  )
  tx = optax.adam(0.02)
  state, shardings = init_state(task, tx, 0, mesh)
  began = jax.device_get(state.params)
  for kept in (began, state.extra['teacher']):
    jax.tree.map(np.testing.assert_array_equal, kept, teacher[1].variables['params'])
  batches = task.source('train', mesh, 0)
  step = make_step(task, tx, shardings)
  evaluation = task.evals(mesh)['val']

  def loss(state):
    return evaluation({'params': state.params, **state.extra})['loss']

  before = loss(state)
  for i in range(30):
    state, _ = step(state, batches.next((), i, None)[1])
  assert loss(state) < 0.95 * before
  jax.tree.map(np.testing.assert_array_equal, state.extra['teacher'], began)
  assert not np.array_equal(state.params['bias'], began['bias'])
  variables = {'params': state.params, **state.extra}
  keys = jax.random.split(jax.random.key(0), 3)
  images = task.images(variables, keys, np.arange(3), mesh)
  assert images.shape == (3, 4, 4, 1) and images.dtype == np.uint8
  assert task.sampler.num_evaluations(len(task.timesteps)) == 1
  task.close()


def test_mismatch_with_the_teacher_is_reported(teacher, monkeypatch, tmp_path):
  workdir, run = teacher
  with pytest.raises(UserError, match=r"task.process='vp': must be as the teacher in .* 'edm'"):
    distil(workdir, process='vp')
  with pytest.raises(UserError, match='num_levels=1: must be at least 2'):
    distil(workdir, distillation=Distillation(num_levels=1))
  gone = distil(str(tmp_path / 'gone'))
  jax.eval_shape(gone.init, jax.random.key(0))  # what a run that is there is restored by
  with pytest.raises(UserError, match='no run there; it is the one to distil'):
    gone.source('train', mesh_lib.make_mesh(), 0).init(jax.random.key(0))
  config = {**run.config, 'task': {'name': 'classify'}}
  other = dataclasses.replace(run, config=config)
  monkeypatch.setattr(consistency_task, 'load_weights', lambda workdir: other)
  with pytest.raises(UserError, match='a run of task classify; it must be of diffusion'):
    distil(workdir)


def test_a_tuple_of_a_config_is_the_list_that_the_teacher_s_run_keeps(teacher, monkeypatch):
  workdir, run = teacher
  kept = {'name': 'unet', 'channel_multipliers': [1, 1]}
  run = dataclasses.replace(run, config={**run.config, 'model': kept})
  monkeypatch.setattr(consistency_task, 'load_weights', lambda workdir: run)
  task = {key: run.config['task'][key] for key in consistency_task.SAME_TASK_KEYS}
  for multipliers in ((1, 1), [1, 1]):
    model = {**kept, 'channel_multipliers': multipliers}
    assert consistency_task.load_teacher(workdir, task, model, {}, 0.0) is not None
  with pytest.raises(UserError, match=r'channel_multipliers=\(1, 2\): must be as the teacher'):
    consistency_task.load_teacher(workdir, task, {**kept, 'channel_multipliers': (1, 2)}, {}, 0.0)
