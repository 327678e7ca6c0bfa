"""Processes against their papers; conversions between predictions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from models.diffusion import parameterization, processes
from tests.models.diffusion import mixture

PROCESSES = {
  **{name: make() for name, make in processes.PROCESSES.items()},
  'cosine': processes.DDPM(schedule='cosine'),
  'short': processes.DDPM(steps=10, beta_min=0.01, beta_max=0.4),
}
every_process = pytest.mark.parametrize('process', PROCESSES.values(), ids=PROCESSES)


def times(process, count=101):
  """Returns times within the range, away from the kinks that DDPM has at its steps."""
  return np.linspace(process.t_min, process.T, count + 1)[:-1] + 0.47 * process.T / count / 9.7


# -------- processes --------


@pytest.mark.long
@every_process
def test_drift_and_diffusion_are_those_of_the_marginals(process):
  """alpha' = f alpha, (sigma²)' = 2 f sigma² + g², and `derivatives`."""
  with jax.enable_x64(True):
    t = jnp.asarray(times(process))
    alpha, alpha_rate = jax.jvp(process.alpha, (t,), (jnp.ones_like(t),))
    sigma, sigma_rate = jax.jvp(process.sigma, (t,), (jnp.ones_like(t),))
    np.testing.assert_allclose(process.f(t), alpha_rate / alpha, rtol=1e-9)
    gained = 2 * sigma * sigma_rate - 2 * alpha_rate / alpha * sigma**2
    np.testing.assert_allclose(process.g2(t), gained, rtol=1e-7)
    np.testing.assert_allclose(process.g(t) ** 2, gained, rtol=1e-7)
    for rate, known in zip(process.derivatives(t), (alpha_rate, sigma_rate), strict=True):
      np.testing.assert_allclose(rate, known, rtol=1e-7)


@every_process
def test_log_snr_decreases_and_is_inverted(process):
  t = times(process)
  log_snr = process.log_snr(t)
  assert (np.diff(log_snr) < 0).all()
  np.testing.assert_allclose(process.inverse_log_snr(log_snr), t, rtol=1e-7)


@every_process
def test_single_precision_keeps_the_marginals(process):
  """Near t_min too, where 1 - alpha² would cancel."""
  t = np.geomspace(process.t_min, process.T, 50).astype(np.float32)
  for name in ('alpha', 'sigma', 'f', 'g2'):
    exact = getattr(process, name)(t.astype(np.float64))
    np.testing.assert_allclose(getattr(process, name)(jnp.asarray(t)), exact, rtol=1e-4)
  log_snr = process.log_snr(t.astype(np.float64))
  back = np.asarray(process.inverse_log_snr(jnp.asarray(log_snr, jnp.float32)), np.float64)
  np.testing.assert_allclose(process.log_snr(back), log_snr, atol=2e-3)


@every_process
def test_x_T_is_nearly_the_prior(process):
  if process == PROCESSES['short']:
    return
  assert process.log_snr(process.T) < -7
  np.testing.assert_allclose(process.sigma(process.T), process.prior_std, rtol=2e-3)


def test_prior_sample_and_density():
  process = processes.VE(sigma_max=7.0)
  keys = jax.random.split(jax.random.key(0), 400)
  x = process.prior_sample(keys, (5, 2))
  assert x.shape == (400, 5, 2) and abs(np.std(x) - 7) < 0.3
  np.testing.assert_array_equal(process.prior_sample(keys[7:9], (5, 2)), x[7:9])
  known = scipy.stats.norm(scale=7).logpdf(x).sum((1, 2))
  np.testing.assert_allclose(process.prior_log_prob(x), known, rtol=1e-5)


def test_add_noise_has_the_mean_and_std_of_the_marginal():
  process, t = processes.SubVP(), jnp.array([0.1, 0.6])
  x0, noise = jnp.ones((2, 3, 3)), jnp.full((2, 3, 3), 2.0)
  known = process.alpha(t) + 2 * process.sigma(t)
  got = process.add_noise(x0, t, noise)
  np.testing.assert_allclose(got, np.broadcast_to(known[:, None, None], (2, 3, 3)), rtol=1e-6)


def test_papers_numbers():
  linear, cosine = PROCESSES['ddpm'], PROCESSES['cosine']
  # Ho 2020, section 4: betas from 1e-4 to 0.02; section 4.1: KL of the prior about 1e-5 bits.
  assert linear.betas[0] == 1e-4 and linear.betas[-1] == 0.02
  assert linear.alpha_bars[-1] == pytest.approx(4.036e-5, rel=1e-3)
  assert 0.5e-5 < 0.5 * linear.alpha_bars[-1] * 0.5 / np.log(2) < 2e-5
  # Nichol 2021, section 3.2: sqrt(beta_1) slightly below a pixel's bin, alpha-bar about linear in
  # the middle, betas at most 0.999.
  assert 0.75 / 127.5 < np.sqrt(cosine.betas[0]) < 1 / 127.5
  assert cosine.alpha_bars[499] == pytest.approx(0.4938, abs=1e-4)
  assert cosine.betas[-1] == 0.999
  # Song 2021, section C: VP's alpha at 1, VE's ends, and sub-VP below VP.
  assert processes.VP().alpha(1.0) == pytest.approx(np.exp(-0.25 * 19.9 - 0.05), rel=1e-12)
  assert processes.VE().sigma(0.0) == 0.01 and processes.VE().sigma(1.0) == pytest.approx(50)
  t = times(processes.VP())
  np.testing.assert_allclose(processes.SubVP().sigma(t), processes.VP().sigma(t) ** 2, rtol=1e-12)


def test_ddpm_marginals_at_its_steps():
  process = PROCESSES['cosine']
  t = np.arange(1, 1001) / 1000
  np.testing.assert_allclose(process.alpha(t) ** 2, process.alpha_bars, rtol=1e-12)
  bars = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
  np.testing.assert_allclose(process.alpha_bars[:-1], bars[:-1], rtol=1e-9)
  np.testing.assert_allclose(process.c_noise(t), np.arange(1000), atol=1e-9)


def test_ddpm_becomes_vp_with_more_steps():
  """With betas of beta(t) / N the difference falls as 1 / N (Song 2021, section B)."""
  t, errors = np.linspace(0.05, 1, 20), []
  for steps in (100, 1000, 10000):
    process = processes.DDPM(steps=steps, beta_min=0.1 / steps, beta_max=20 / steps)
    errors.append(abs(process.log_alpha(t) - processes.VP().log_alpha(t)).max())
  np.testing.assert_allclose(np.diff(np.log10(errors)), -1, atol=0.1)


def test_invalid_processes_are_refused():
  with pytest.raises(ValueError, match=r"process\.schedule='quadratic': choose from linear, cos"):
    processes.DDPM(schedule='quadratic')
  with pytest.raises(ValueError, match=r'process\.sigma_min=0'):
    processes.VE(sigma_min=0)
  with pytest.raises(ValueError, match=r'process\.T=1\.0'):
    processes.Flow(T=1.0)


# -------- predictions --------


@settings(max_examples=60)
@given(
  st.sampled_from(sorted(PROCESSES)),
  st.sampled_from(sorted(parameterization.PREDICTIONS)),
  st.sampled_from(sorted(parameterization.PREDICTIONS)),
  st.floats(0, 1),
  st.integers(0, 2**31),
)
def test_predictions_convert_to_each_other(name, prediction, to, share, seed):
  process = PROCESSES[name]
  with jax.enable_x64(True):
    t = jnp.full((2,), process.t_min + share * (process.T - process.t_min))
    x0, noise = np.random.default_rng(seed).normal(size=(2, 2, 3))
    x = process.add_noise(x0, t, noise)
    value = parameterization.target(process, prediction, x0, noise, t)
    got = parameterization.convert(process, prediction, to, x, t, value)
    known = parameterization.target(process, to, x0, noise, t)
    np.testing.assert_allclose(got, known, rtol=1e-6, atol=1e-6 * abs(known).max())


def test_targets_by_their_papers():
  t, x0, noise = jnp.array([0.3]), jnp.array([[2.0]]), jnp.array([[-1.0]])
  flow, vp, edm = processes.Flow(), processes.VP(), processes.EDM()
  assert parameterization.target(flow, 'flow', x0, noise, t).item() == -3  # eps - x_0
  v = vp.alpha(t) * -1 - vp.sigma(t) * 2
  np.testing.assert_allclose(parameterization.target(vp, 'v', x0, noise, t)[0], v, rtol=1e-6)
  score = 1 / vp.sigma(t)
  np.testing.assert_allclose(
    parameterization.target(vp, 'score', x0, noise, t)[0], score, rtol=1e-6
  )
  # Karras 2022, table 1: D = c_skip x + c_out F, F is of unit variance for data of sigma_data.
  x, total = edm.add_noise(x0, t, noise), 0.3**2 + 0.5**2
  f = parameterization.target(edm, 'edm', x0, noise, t)
  np.testing.assert_allclose(0.25 / total * x + 0.3 * 0.5 / np.sqrt(total) * f, x0, rtol=1e-6)
  assert parameterization.c_in(edm, 'edm', t).item() == pytest.approx(total**-0.5)


@every_process
def test_edm_input_and_target_have_unit_variance(process):
  """For data of standard deviation sigma_data."""
  t = times(process)
  a, b = parameterization.coefficients(process, 'edm', t)
  np.testing.assert_allclose((0.5 * a) ** 2 + b**2, 1, rtol=1e-9)
  variance = (0.5 * process.alpha(t)) ** 2 + process.sigma(t) ** 2
  np.testing.assert_allclose(parameterization.c_in(process, 'edm', t) ** 2 * variance, 1)


def test_flow_prediction_determines_x0_at_alpha_0():
  """There eps does not determine x_0."""
  t = jnp.array([1.0])
  flow = processes.Flow()
  got = parameterization.to_x0(flow, 'flow', jnp.array([[0.5]]), t, jnp.array([[-1.5]]))
  assert got.item() == 2
  assert not np.isfinite(parameterization.to_x0(flow, 'eps', jnp.ones((1, 1)), t, jnp.ones((1, 1))))


@pytest.mark.long
@pytest.mark.parametrize('prediction', parameterization.PREDICTIONS)
def test_denoiser_is_the_same_for_every_prediction(prediction):
  process, data = processes.VP(), mixture.eight_dimensional()
  with jax.enable_x64(True):
    t = jnp.array([0.02, 0.4, 1.0])
    x = process.add_noise(data.sample(0, 3), t, np.random.default_rng(1).normal(size=(3, 8)))
    denoiser = data.denoiser(process, prediction)
    alpha, sigma = process.alpha(t), process.sigma(t)
    np.testing.assert_allclose(denoiser.x0(x, t), data.x0(x, alpha, sigma), rtol=1e-8)
    score = jax.grad(lambda x: data.log_prob(x, alpha, sigma).sum())(x)
    np.testing.assert_allclose(denoiser.score(x, t), score, rtol=1e-8)
    np.testing.assert_allclose(denoiser.eps(x, t), -sigma[:, None] * score, rtol=1e-8)
    velocity = mixture.probability_flow(process, denoiser.score)(x, t)
    np.testing.assert_allclose(denoiser.velocity(x, t), velocity, rtol=1e-7)


@pytest.mark.long
def test_reverse_sde_of_a_gaussian_follows_the_marginals():
  """Backwards from t, mean and variance follow the forward marginals (Song 2021, eq. 6)."""
  process, data = processes.VP(), mixture.gaussian([1.5], 0.5)
  with jax.enable_x64(True):
    score, t, h = data.denoiser(process).score, jnp.array([0.4]), 1e-6
    drift = mixture.reverse_drift(process, score)
    mean = process.alpha(t) * 1.5

    def variance(t):
      return (process.alpha(t) * 0.5) ** 2 + process.sigma(t) ** 2

    slope = jax.jacfwd(lambda x: drift(x[None], t)[0])(mean)[0, 0]
    back = variance(t) - h * 2 * slope * variance(t) + h * process.g2(t)
    np.testing.assert_allclose(back, variance(t - h), rtol=1e-9)
    moved = mean - h * drift(mean[None], t)[0]
    np.testing.assert_allclose(moved, process.alpha(t - h) * 1.5, rtol=1e-9)


def test_an_unknown_prediction_names_the_choices():
  with pytest.raises(ValueError, match="prediction='noise': choose from eps, x0, v, score"):
    parameterization.coefficients(processes.VP(), 'noise', 0.5)
