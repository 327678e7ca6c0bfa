"""Samplers on data whose denoiser is known: orders of convergence, moments, papers' formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import solvers as bench
from models.diffusion import processes, samplers, solvers, timesteps
from models.diffusion.table_sampler import normal_like
from tests.models.diffusion import mixture

VP = processes.VP()
GAUSSIAN = mixture.gaussian([0.7], 0.5)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def draw(sampler, process, data, count, steps, schedule='uniform', shape=None, **kwargs):
  """Returns samples `[count, ...]` of a sampler with the exact denoiser of the data."""
  times = timesteps.timesteps(schedule, process, steps)
  network = data.denoiser(process)
  shape = data.means[0].shape if shape is None else shape

  def run(keys):
    x = process.prior_sample(jax.vmap(jax.random.fold_in, (0, None))(keys, 10**6), shape)
    return sampler(network, x, keys, times, **kwargs)

  return np.asarray(jax.jit(run)(keys(count)))


# -------- order of convergence --------


@pytest.fixture(scope='module')
def problem():
  with jax.enable_x64(True):
    yield next(bench.problems(VP, 1, 12))


@pytest.mark.long
@pytest.mark.parametrize(
  ('sampler', 'order', 'fewest'),
  [
    (samplers.DDIM(), 1, 80),
    (samplers.DPMSolver(), 2, 80),
    (samplers.Heun(), 2, 80),
    (samplers.Multistep(2), 2, 240),
    (samplers.Multistep(3), 3, 240),
    (samplers.Multistep(4), 4, 80),
  ],
  ids=str,
)
def test_order_of_convergence(problem, sampler, order, fewest):
  """The slope of the log error over two doublings of the steps is about -order."""
  counts = fewest * np.array([1, 2, 4])
  schedule = 'asinh' if isinstance(sampler, samplers.Multistep) else 'log_snr'
  with jax.enable_x64(True):
    errors = [
      bench.error(VP, [problem], sampler, timesteps.timesteps(schedule, VP, int(n))) for n in counts
    ]
  slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
  assert -order - 0.8 < slope < -order + 0.45, errors


def test_multistep_error_at_few_evaluations():
  """An error under 0.06 at 18 and 0.006 at 35 on 8-dimensional mixtures of deviation 0.15."""
  with jax.enable_x64(True):
    process = processes.DDPM()
    cases = list(bench.problems(process, 2, 64))
    for steps, bar in ((18, 0.06), (35, 0.006), (100, 1e-4)):
      times = timesteps.timesteps('asinh', process, steps)
      assert bench.error(process, cases, samplers.Multistep(), times) < bar


@pytest.mark.long
def test_the_adaptive_solver_reaches_its_tolerance(problem):
  means, x, truth = problem
  with jax.enable_x64(True):
    for tolerance, bar in ((1e-4, 3e-3), (1e-7, 1e-5)):
      sampler = samplers.AdaptiveODE(tolerance, tolerance)
      got = sampler(bench.denoiser(VP, means), jnp.asarray(x), None, np.array([1.0]))
      assert np.sqrt(np.square(got - truth).mean()) < bar


# -------- moments on Gaussians; orders of the stochastic methods --------


def moments(table, process, mean, std):
  """Returns the exact mean and variance of a table's samples for Gaussian data."""
  m, v = np.zeros(1), np.full((1, 1), process.prior_std**2)
  for i, t in enumerate(table.t):
    alpha, sigma = process.alpha(t), process.sigma(t)
    gain = alpha * std**2 / ((alpha * std) ** 2 + sigma**2)
    factor = table.x_from_x[i] + table.x_from_x0[i, 0] * gain
    m = factor * m + table.x_from_x0[i, 0] * (1 - gain * alpha) * mean
    v = factor**2 * v + table.noise[i] ** 2
  return m.item(), v.item()


STOCHASTIC = {
  'ancestral': lambda process, times: solvers.ancestral(process, times, 'small'),
  'large': lambda process, times: solvers.ancestral(process, times, 'large'),
  'ddim': lambda process, times: solvers.ddim(process, times, 0.5),
  'euler_maruyama': solvers.euler_maruyama,
  'reverse_diffusion': solvers.reverse_diffusion,
}


@pytest.mark.parametrize('name', STOCHASTIC)
def test_weak_order_one(name):
  """The error of the variance falls as 1 / N."""
  counts, errors = (400, 800, 1600), []
  for n in counts:
    m, v = moments(STOCHASTIC[name](VP, timesteps.uniform(VP, n)), VP, 0.7, 0.5)
    errors.append(abs(v - 0.25))
    assert abs(m - 0.7) < 0.01
  slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
  assert -1.2 < slope < -0.8, errors


@pytest.mark.long
@pytest.mark.parametrize(
  ('sampler', 'tolerance'),
  [
    (samplers.Ancestral(), 0.07),
    (samplers.Ancestral('large'), 0.04),
    (samplers.DDIM(eta=1.0), 0.07),
    (samplers.EulerMaruyama(), 0.04),
    (samplers.PredictorCorrector(snr=0.1), 0.04),
    (samplers.PredictorCorrector('ddim', snr=0.1), 0.04),
    (samplers.Heun(churn=40), 0.02),
    (samplers.DPMSolver(), 0.02),
    (samplers.Multistep(), 0.02),
    (samplers.AdaptiveODE(), 0.02),
  ],
  ids=str,
)
@pytest.mark.parametrize('process', [processes.VP(), processes.EDM()], ids=['vp', 'edm'])
def test_mean_and_std_of_a_gaussian(process, sampler, tolerance):
  """Within 2 %, except for methods of order one with 150 steps."""
  data = mixture.gaussian(np.full(64, 0.7), 0.5)  # 64 dimensions: Langevin's step is of norms
  x = draw(sampler, process, data, 256, 150, 'edm' if process == processes.EDM() else 'uniform')
  assert x.shape == (256, 64)
  np.testing.assert_allclose(x.mean(), 0.7, atol=0.02)
  np.testing.assert_allclose(x.std(), 0.5, rtol=tolerance)


@pytest.mark.long
@pytest.mark.parametrize(
  'process', [make() for make in processes.PROCESSES.values()], ids=processes.PROCESSES
)
@pytest.mark.parametrize('sampler', [samplers.Ancestral(), samplers.Multistep()], ids=str)
def test_modes_are_sampled_in_proportion_for_every_process(process, sampler):
  data = mixture.Mixture(np.array([[-1.0, 0.5], [1.0, -0.5]]), 0.1)
  x = draw(sampler, process, data, 400, 60, 'log_snr')
  right = x[:, 0] > 0
  assert abs(right.mean() - 0.5) < 0.1
  np.testing.assert_allclose(x[right].mean(0), data.means[1], atol=0.03)
  np.testing.assert_allclose(x[right].std(0), 0.1, rtol=0.25)


@pytest.mark.parametrize('corrector', samplers.CORRECTORS)
def test_langevin_steps_mix_and_keep_the_marginal(corrector):
  """200 steps at t = 0.3 decorrelate x but keep its standard deviation."""
  data, t = mixture.gaussian(np.zeros(200), 0.5), 0.3
  scale = np.sqrt((VP.alpha(t) * 0.5) ** 2 + VP.sigma(t) ** 2)
  x = scale * jax.random.normal(jax.random.key(1), (64, 200))
  sampler = samplers.PredictorCorrector('ddim', corrector, snr=0.05, corrector_steps=200)
  run = jax.jit(lambda x: sampler(data.denoiser(VP), x, keys(64), np.array([t])))
  # The last predictor is the mean of the clean image, a multiple of x.
  alpha, sigma = VP.alpha(t), VP.sigma(t)
  after = run(x) / (alpha * 0.25 / scale**2)
  np.testing.assert_allclose(after.std(), scale, rtol=0.02)
  correlation = np.corrcoef(np.ravel(after), np.ravel(x))[0, 1]
  rate = 0.05**2 * (2 if corrector == 'langevin' else 2 * sigma**2 / scale**2)
  np.testing.assert_allclose(correlation, np.exp(-200 * rate), atol=0.05)


# -------- the papers' formulas --------


def test_ancestral_is_algorithm_2_of_ddpm():
  process = processes.DDPM(steps=20, beta_min=0.01, beta_max=0.4)
  table = solvers.ancestral(process, timesteps.uniform(process, 20), 'large')
  small = solvers.ancestral(process, timesteps.uniform(process, 20), 'small')
  x, x0 = 1.3, -0.4
  for n in range(1, 21):
    beta, bar = process.betas[n - 1], process.alpha_bars[n - 1]
    before = process.alpha_bars[n - 2] if n > 1 else 1.0
    eps = (x - np.sqrt(bar) * x0) / np.sqrt(1 - bar)
    mean = (x - beta / np.sqrt(1 - bar) * eps) / np.sqrt(1 - beta)
    assert table.x_from_x[20 - n] * x + table.x_from_x0[20 - n, 0] * x0 == pytest.approx(mean)
    tilde = (1 - before) / (1 - bar) * beta
    assert small.noise[20 - n] == pytest.approx(np.sqrt(tilde), abs=1e-8)
    assert table.noise[20 - n] == pytest.approx(np.sqrt(beta) if n > 1 else 0)


def test_reverse_diffusion_matches_the_paper_for_vp():
  """x_{i-1} = (2 - sqrt(1 - beta)) x_i + beta score + sqrt(beta) z (Song 2021, section E)."""
  process = processes.DDPM()
  table = solvers.reverse_diffusion(process, timesteps.uniform(process, 1000))
  beta, bar = process.betas[1:][::-1], process.alpha_bars[1:][::-1]
  x, x0 = 1.3, -0.4
  score = -(x - np.sqrt(bar) * x0) / (1 - bar)
  known = (2 - np.sqrt(1 - beta)) * x + beta * score
  np.testing.assert_allclose(
    table.x_from_x[:-1] * x + table.x_from_x0[:-1, 0] * x0, known, rtol=1e-9
  )
  np.testing.assert_allclose(table.noise[:-1], np.sqrt(beta), rtol=1e-9)


def test_ddim_of_a_rectified_flow_is_eulers_method():
  flow, data = processes.Flow(), mixture.eight_dimensional()
  times, denoiser = timesteps.uniform(flow, 7), data.denoiser(flow, 'flow')
  x = y = jax.random.normal(jax.random.key(0), (3, 8))
  for t, s in zip(times, [*times[1:], 0.0], strict=True):
    y = y - (t - s) * denoiser.velocity(y, jnp.full(3, t, jnp.float32))
  np.testing.assert_allclose(samplers.DDIM()(denoiser, x, keys(3), times), y, atol=1e-4)


def test_ddim_with_eta_1_is_ancestral():
  a, b = (
    draw(s, VP, mixture.eight_dimensional(), 4, 12, 'edm')
    for s in (samplers.DDIM(eta=1.0), samplers.Ancestral())
  )
  np.testing.assert_allclose(a, b, atol=1e-4)


def test_heun_is_algorithm_2_of_karras():
  edm, data = processes.EDM(), mixture.eight_dimensional()
  sampler = samplers.Heun(churn=3, churn_min=0.05, churn_max=50, noise_scale=1.007)
  levels = np.append(timesteps.edm(edm, 9), 0.0)
  x = y = 80 * jax.random.normal(jax.random.key(0), (4, 8))

  def slope(y, level):
    return (y - data.x0(y, np.ones(4), np.full(4, level))) / level

  for i in range(9):
    raised = levels[i]
    if 0.05 <= raised <= 50:
      raised *= 1 + min(3 / 9, np.sqrt(2) - 1)
      noise = normal_like(keys(4), 4 * (2 * i - 1), x)
      y = y + np.sqrt(raised**2 - levels[i] ** 2) * 1.007 * noise
    d = slope(y, raised)
    new = y + (levels[i + 1] - raised) * d
    if i < 8:
      new = y + (levels[i + 1] - raised) * (d + slope(new, levels[i + 1])) / 2
    y = new
  got = sampler(data.denoiser(edm, 'edm'), x, keys(4), levels[:-1])
  np.testing.assert_allclose(got, y, atol=2e-3)


@pytest.mark.long
def test_learned_variance_interpolates_small_and_large():
  process, data = (
    processes.DDPM(steps=20, beta_min=0.01, beta_max=0.4),
    mixture.eight_dimensional(),
  )
  plain = data.denoiser(process)

  def samples(variance, v=None):
    learned = plain if v is None else dataclasses.replace(plain, predict=with_v(v))
    sampler, times = samplers.Ancestral(variance), timesteps.uniform(process, 20)
    return sampler(learned, jnp.ones((2, 8)), keys(2), times)

  def with_v(v):
    return lambda x, t: (plain.predict(x, t), jnp.full_like(x, v))

  np.testing.assert_allclose(samples('learned', 0.0), samples('small'), atol=1e-4)
  np.testing.assert_allclose(samples('learned', 1.0), samples('large'), atol=1e-4)
  assert abs(samples('learned', 0.5) - samples('small')).max() > 1e-2
  with pytest.raises(ValueError, match='predicts no variance'):
    samples('learned')


# -------- loops, trajectories, batches --------


EACH = [
  make() for name, make in samplers.SAMPLERS.items() if name != 'ode'
] + [samplers.PredictorCorrector(corrector_steps=2)]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize('sampler', EACH, ids=str)
def test_num_evaluations_is_right(sampler):
  denoiser, calls = GAUSSIAN.denoiser(VP), []

  def predict(x, t):
    calls.append(t)
    return denoiser.predict(x, t)

  counted = dataclasses.replace(denoiser, predict=predict)
  with jax.disable_jit():
    sampler(counted, jnp.ones((2, 1)), keys(2), timesteps.timesteps('edm', VP, 5))
  assert len(calls) == sampler.num_evaluations(5)


@pytest.mark.long
@pytest.mark.parametrize('sampler', EACH, ids=str)
def test_trajectory_leads_from_noise_to_image(sampler):
  x, times = jnp.ones((2, 1)), timesteps.timesteps('edm', VP, 6)
  path = sampler(GAUSSIAN.denoiser(VP), x, keys(2), times, trajectory=True)
  assert path.shape == (7, 2, 1)
  np.testing.assert_array_equal(path[0], x)
  last = sampler(GAUSSIAN.denoiser(VP), x, keys(2), times)
  np.testing.assert_allclose(path[-1], last, rtol=1e-6)


def test_any_number_of_images_with_one_compilation():
  traces, times = [], timesteps.timesteps('edm', VP, 5)

  @jax.jit
  def make(keys):
    traces.append(keys.shape)
    x = VP.prior_sample(keys, (1,))
    return samplers.Ancestral()(GAUSSIAN.denoiser(VP), x, keys, times)

  all_keys = keys(11)
  images = samplers.sample_in_batches(make, all_keys, 4)
  assert images.shape == (11, 1) and traces == [(4,)]
  np.testing.assert_array_equal(samplers.sample_in_batches(make, all_keys[:6], 4), images[:6])
  np.testing.assert_allclose(samplers.sample_in_batches(make, all_keys, 3), images, rtol=1e-5)


def test_schedules_decrease_from_T_within_range():
  for process in (make() for make in processes.PROCESSES.values()):
    for name in timesteps.TIMESTEP_SCHEDULES:
      for steps in (2, 10, 500):
        times = timesteps.timesteps(name, process, steps)
        assert times.shape == (steps,) and times[0] == pytest.approx(process.T)
        assert (np.diff(times) < 0).all() and times[-1] >= process.t_min
  level = timesteps.noise_level(VP, timesteps.timesteps('edm', VP, 18))
  np.testing.assert_allclose(np.diff(level ** (1 / 7), 2), 0, atol=1e-9)
  t = timesteps.uniform(processes.DDPM(), 1000)
  np.testing.assert_allclose(t * 1000, np.arange(1000, 0, -1))


def test_invalid_samplers_are_refused():
  with pytest.raises(ValueError, match=r'sampler\.eta=2: must be in \[0, 1\]'):
    samplers.DDIM(eta=2)
  with pytest.raises(ValueError, match=r"sampler\.variance='big': choose from small, large"):
    samplers.Ancestral('big')
  with pytest.raises(ValueError, match=r"timestep_schedule='cosine': choose from uniform"):
    timesteps.timesteps('cosine', VP, 10)
  with pytest.raises(ValueError, match='each must be below'):
    solvers.ddim(VP, np.array([0.1, 0.5]), 0.0)
