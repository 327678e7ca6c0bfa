"""Likelihoods against exact densities; the variational bound against its formulas and the truth."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from models.diffusion import likelihood, processes, timesteps
from models.diffusion import vlb as vlb_lib
from tests.models.diffusion import mixture

BITS = 1 / np.log(2)
SHORT = processes.DDPM(steps=200, beta_min=5e-4, beta_max=0.1)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def truth(data, process, x):
  """Returns log p of x at t_min, where the flow ends."""
  t = jnp.asarray(process.t_min, x.dtype)
  return data.log_prob(x, process.alpha(t), process.sigma(t))


# -------- the probability flow --------


@pytest.mark.long
@pytest.mark.parametrize(
  'process',
  [processes.VP(), processes.SubVP(), processes.VE(), processes.EDM(), processes.Flow()],
  ids=lambda p: type(p).__name__,
)
def test_exact_trace_gives_the_exact_density(process):
  """In double precision the remaining error is that x_T is not quite the prior."""
  data = mixture.eight_dimensional()
  with jax.enable_x64(True):
    x = jnp.asarray(data.sample(0, 6))
    got = jax.jit(lambda x: likelihood.log_prob(data.denoiser(process), x, rtol=1e-8, atol=1e-8))(x)
    # VE and EDM widen the prior by 1 part in 2500 and more; VP keeps alpha of 0.0066 at T.
    np.testing.assert_allclose(got.log_prob, truth(data, process, x), atol=0.06)
    prior = process.prior_log_prob(got.latent)
    left = truth_at_T(data, process, got.latent)
    np.testing.assert_allclose(got.log_prob - prior + left, truth(data, process, x), atol=3e-5)
    assert (got.error == 0).all()


def truth_at_T(data, process, x):
  t = jnp.asarray(process.T, x.dtype)
  return data.log_prob(x, process.alpha(t), process.sigma(t))


def images(seed, modes=10):
  """Returns a mixture in 784 dimensions, of mean about 0, and 4 samples."""
  means = np.random.default_rng(seed).normal(size=(modes, 28, 28, 1)) * 0.5
  data = mixture.Mixture(means - means.mean(0), 0.15)
  return data, data.sample(seed + 1, 4)


@pytest.mark.long
@pytest.mark.parametrize('process', [processes.VP(), processes.SubVP()], ids=['vp', 'subvp'])
def test_bias_in_784_dimensions(process):
  """At most 1e-5 bits a dimension in single precision, with the exact trace."""
  data, x = images(0)
  x = jnp.asarray(x, jnp.float32)
  got = jax.jit(lambda x: likelihood.log_prob(data.denoiser(process), x))(x)
  with jax.enable_x64(True):
    known = np.asarray(truth(data, process, jnp.asarray(np.asarray(x, np.float64))))
  error = (np.asarray(got.log_prob, np.float64) - known) * BITS / 784
  assert abs(error.mean()) < 1e-5, error
  assert (got.num_evaluations < 200).all()


@pytest.mark.long
def test_probe_estimate_is_within_its_standard_error():
  data = mixture.eight_dimensional()
  x = jnp.asarray(data.sample(0, 64), jnp.float32)

  def log_prob(probes):
    network = data.denoiser(processes.VP())
    return jax.jit(lambda x: likelihood.log_prob(network, x, keys(64), num_probes=probes))(x)

  many, few, one = log_prob(32), log_prob(4), log_prob(1)
  known = truth(data, processes.VP(), x)
  z = (many.log_prob - known) / many.error
  assert abs(z.mean()) < 0.5 and 0.7 < z.std() < 1.4
  ratio = jnp.sqrt(jnp.square(few.error).mean() / jnp.square(many.error).mean())
  assert 2 < ratio < 4  # sqrt(8)
  assert jnp.isnan(one.error).all() and jnp.isfinite(one.log_prob).all()


@pytest.fixture
def optimised():
  """Compiles as users do: without optimisation rounding depends on the batch, and so do steps."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


@pytest.mark.long
def test_an_image_does_not_depend_on_its_batch(optimised):
  data = mixture.eight_dimensional()
  x = jnp.asarray(data.sample(0, 3), jnp.float32)

  def run(chosen):
    network = data.denoiser(processes.VP())
    return likelihood.log_prob(network, x[chosen], keys(3)[chosen], num_probes=2)

  alone, among = run(np.array([1])), run(np.arange(3))
  np.testing.assert_allclose(alone.log_prob[0], among.log_prob[1], rtol=1e-4)
  assert alone.num_evaluations[0] == among.num_evaluations[1]


# -------- levels --------


def test_bits_per_dim_of_uniform_densities():
  """A uniform density over all bins is 8 bits; half as wide, 7."""
  width = 256 * 2 / 255
  for share, bits in ((1, 8), (2, 7)):
    log_prob = jnp.full(3, -10 * np.log(width / share))
    np.testing.assert_allclose(likelihood.bits_per_dim(log_prob, 10), bits, rtol=1e-6)


def test_dequantized_bytes_fill_their_bins():
  levels = jnp.tile(jnp.array([[0], [128], [255]]), (1, 4000))
  x = likelihood.dequantize(levels, keys(3))
  centre = 2 * np.array([0, 128, 255]) / 255 - 1
  np.testing.assert_allclose(x.mean(1), centre, atol=2e-4)
  np.testing.assert_allclose(x.max(1) - x.min(1), 2 / 255, rtol=1e-2)


def test_bits_per_dim_of_dequantized_bytes_is_their_entropy():
  """A discretised Gaussian has a known entropy."""
  data = mixture.gaussian(np.zeros(50), 0.2)
  levels = np.clip(np.round((data.sample(0, 40) + 1) * 127.5), 0, 255).astype(int)
  x = likelihood.dequantize(jnp.asarray(levels), keys(40))
  got = jax.jit(lambda x: likelihood.log_prob(data.denoiser(processes.VP()), x))(x)
  mean, error = likelihood.mean_and_error(likelihood.bits_per_dim(got.log_prob, 50))
  edges = scipy.stats.norm(scale=0.2).cdf((np.arange(257) - 0.5) * 2 / 255 - 1)
  mass = np.diff(edges)
  entropy = -(mass * np.log2(np.maximum(mass, 1e-300))).sum()
  assert error < 0.03 and abs(mean - entropy) < 3 * error


# -------- the bound --------


def gaussian_levels(count, dims=30, seed=0):
  """Returns a Gaussian, images of its bytes, and the true bits per dimension of each."""
  data = mixture.gaussian(np.zeros(dims), 0.3)
  levels = np.clip(np.round((data.sample(seed, count) + 1) * 127.5), 0, 255)
  edges = (levels[..., None] + np.array([-0.5, 0.5])) * 2 / 255 - 1
  mass = np.diff(scipy.stats.norm(scale=0.3).cdf(edges))[..., 0]
  return data, jnp.asarray(2 * levels / 255 - 1, jnp.float32), -np.log2(mass).mean(1)


def vlb(denoiser, x0, variance='small', times=None, num_terms=0):
  times = timesteps.uniform(denoiser.process, denoiser.process.steps) if times is None else times
  options = {'variance': variance, 'num_terms': num_terms}
  return jax.jit(lambda x: vlb_lib.bpd_vlb(denoiser, x, keys(len(x)), times, **options))(x0)


def error_of_x0(process, t):
  """Returns the variance of x_0 given x_t."""
  return 1 / (1 / 0.3**2 + np.exp(process.log_snr(t)))


def test_bound_exceeds_the_truth_by_the_known_gap():
  """Each step costs its gain in signal-to-noise, times the error of x_0 before it, by half: of a
  perfect denoiser the sum is known (Kingma 2021, eq. 13)."""
  data, x0, true = gaussian_levels(64)
  times = timesteps.uniform(SHORT, 200)
  got = vlb(data.denoiser(SHORT), x0)
  gains = np.diff(np.exp(SHORT.log_snr(times)))
  known = 0.5 * (gains * error_of_x0(SHORT, times[:-1])).sum() * BITS
  assert got.diffusion.mean() == pytest.approx(known, rel=0.05)
  assert got.total.mean() > true.mean()
  large = vlb(data.denoiser(SHORT), x0, 'large')
  assert large.total.mean() > true.mean()


@pytest.mark.long
def test_drawn_terms_are_unbiased():
  """Their scatter falls with their number."""
  data, x0, _ = gaussian_levels(256)
  times, network = timesteps.uniform(SHORT, 200), data.denoiser(SHORT)
  whole = vlb(network, x0)
  few = [vlb(network, x0, num_terms=count) for count in (4, 16)]
  for each in few:
    difference = np.asarray(each.diffusion - whole.diffusion)
    assert abs(difference.mean()) < 3 * difference.std() / 16
    np.testing.assert_allclose(each.prior, whole.prior)
    gap = np.asarray(each.reconstruction - whole.reconstruction)  # other noise
    assert abs(gap.mean()) < 4 * gap.std() / 16
  spread = [np.std(each.diffusion - whole.diffusion) for each in few]
  assert spread[1] < 0.8 * spread[0]
  assert vlb_lib._term_probs(SHORT, times).sum() == pytest.approx(1)


def test_bound_of_many_steps_is_nearly_tight():
  data, x0, true = gaussian_levels(32)
  process = processes.VP(t_min=1e-4)
  got = vlb(data.denoiser(process), x0, 'large', timesteps.log_snr(process, 1000))
  assert true.mean() < got.total.mean() < true.mean() + 0.15


@pytest.mark.long
def test_ode_likelihood_is_below_the_bound():
  data, x0, _ = gaussian_levels(32)
  levels = jnp.round((x0 + 1) * 127.5)
  x = likelihood.dequantize(levels, keys(32))
  flow = jax.jit(lambda x: likelihood.log_prob(data.denoiser(processes.VP()), x))(x)
  bpd_ode = likelihood.bits_per_dim(flow.log_prob, 30)
  assert bpd_ode.mean() < vlb(data.denoiser(SHORT), x0).total.mean()


def test_prior_term_is_the_kl_of_gaussians():
  x0 = jnp.linspace(-1, 1, 12).reshape(3, 4)
  for process in (processes.DDPM(steps=50), processes.VE()):
    times = timesteps.uniform(process, 50)
    alpha, sigma = process.alpha(process.T), process.sigma(process.T) / process.prior_std
    mean = alpha * x0 / process.prior_std
    known = 0.5 * (sigma**2 + mean**2 - 1 - np.log(sigma**2)).mean(1) * BITS
    network = mixture.gaussian(np.zeros(4), 0.5).denoiser(process)
    got = vlb_lib.bpd_vlb(network, x0, keys(3), times)
    np.testing.assert_allclose(got.prior, known, rtol=1e-3, atol=1e-6)


def test_diffusion_term_is_the_kl_of_gaussians():
  """Against scipy-free algebra on the posterior of Ho 2020, eq. 7, with both variances."""
  process = processes.DDPM(steps=20, beta_min=0.01, beta_max=0.4)
  steps = vlb_lib.reverse_chain(process, timesteps.uniform(process, 20))
  n = 7  # of 1..20
  row = {name: value[20 - n] for name, value in vars(steps).items()}
  beta, bar, before = process.betas[n - 1], process.alpha_bars[n - 1], process.alpha_bars[n - 2]
  tilde = (1 - before) / (1 - bar) * beta
  gap = 0.3 * np.sqrt(before) * beta / (1 - bar)  # of the means, for an error 0.3 of x_0
  for name, var in (('small', tilde), ('large', beta)):
    known = 0.5 * (np.log(var / tilde) + (tilde + gap**2) / var - 1)
    log_var = vlb_lib.log_variance(row, name, None)
    assert vlb_lib.kl(row, np.float64(0.3), log_var) == pytest.approx(known, rel=1e-5)
  assert vlb_lib.log_variance(row, 'learned', 0.25) == pytest.approx(
    0.75 * np.log(tilde) + 0.25 * np.log(beta)
  )


@pytest.mark.parametrize('std', [0.002, 0.05, 1.0])
@pytest.mark.parametrize('mean', [-1.02, 0.1, 0.999])
def test_decoder_is_a_distribution_over_bytes(mean, std):
  levels = np.arange(256)
  nats = vlb_lib.decoder_nats(
    jnp.asarray(2 * levels / 255 - 1, jnp.float32), jnp.full(256, mean), 2 * np.log(std)
  )
  assert jnp.isfinite(nats).all()
  np.testing.assert_allclose(np.exp(-nats).sum(), 1, rtol=1e-3)
  edges = np.concatenate([[-np.inf], 2 * levels[1:] / 255 - 1 - 1 / 255, [np.inf]])
  mass = np.diff(scipy.stats.norm(mean, std).cdf(edges))
  likely = mass > 1e-6
  np.testing.assert_allclose(np.exp(-nats)[likely], mass[likely], rtol=2e-2)


@pytest.mark.long
def test_optimal_variances_make_a_bound_of_few_steps_tight():
  """Reverse steps are Gaussian for Gaussian data, with a known variance: no gap is left."""
  data, x0, true = gaussian_levels(64)
  plain, times = data.denoiser(SHORT), timesteps.uniform(SHORT, 20)
  steps = vlb_lib.reverse_chain(SHORT, times)
  posterior = np.where(steps.coef_xt > 0, np.exp(steps.log_var_small), 0)
  right = np.log(posterior + steps.coef_x0**2 * error_of_x0(SHORT, times))
  v = (right - steps.log_var_small) / (steps.log_var_large - steps.log_var_small)

  def predict(x, t):
    here = jnp.asarray(v, x.dtype)[jnp.argmin(abs(t[:, None] - times[None]), 1)]
    return plain.predict(x, t), jnp.broadcast_to(here[:, None], x.shape)

  learned = vlb(dataclasses.replace(plain, predict=predict), x0, 'learned', times).total
  assert learned.mean() == pytest.approx(true.mean(), abs=0.1)
  for variance in ('small', 'large'):
    assert vlb(plain, x0, variance, times).total.mean() > learned.mean() + 0.1
  with pytest.raises(ValueError, match='predicts no variance'):
    vlb(plain, x0, 'learned', times)
