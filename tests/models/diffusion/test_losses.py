"""Losses: the same for every prediction, equal to likelihoods; distributions of training times."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.diffusion import losses, parameterization, processes, timesteps, vlb
from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.process import expand_like
from models.diffusion.table_sampler import normal_like
from tests.models.diffusion import mixture

VP = processes.VP()
DISTRIBUTIONS = {name: make() for name, make in losses.TIME_DISTRIBUTIONS.items()}


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def batch(seed=0, count=16):
  rng = np.random.default_rng(seed)
  return [jnp.asarray(x, jnp.float32) for x in rng.normal(size=(2, count, 4, 4, 1))]


def worse(denoiser):
  """Returns a denoiser with the same small error of x_0 for every prediction."""

  def predict(x, t):
    true = denoiser.predict(x, t)
    scale = parameterization.determinant(
      denoiser.process, denoiser.prediction, t
    ) / denoiser.process.sigma(t)
    return true + 0.1 * expand_like(scale, x) * jnp.cos(3 * x)

  return dataclasses.replace(denoiser, predict=predict)


# -------- losses --------


def test_simple_weighting_is_the_squared_error_of_eps():
  x0, noise = batch()
  t = jnp.linspace(0.1, 1, 16)
  denoiser = NetworkDenoiser(VP, lambda x, t: jnp.zeros_like(x), 'eps')
  got = losses.loss(denoiser, x0, t, noise)
  np.testing.assert_allclose(got, jnp.square(noise).mean((1, 2, 3)), rtol=1e-6)
  assert got.shape == (16,) and got.dtype == jnp.float32


@pytest.mark.parametrize('prediction', parameterization.PREDICTIONS)
@pytest.mark.parametrize('weighting', [w for w in losses.WEIGHTINGS if w != 'simple'])
def test_a_weighting_means_the_same_for_every_prediction(prediction, weighting):
  x0, noise = batch()
  data = mixture.gaussian(np.zeros((4, 4, 1)), 0.5)
  t = jnp.linspace(0.1, 0.9, 16)

  def value(prediction):
    # 'edm' scales its input, which `worse` would feel: no scale there but for the network's own.
    network = worse(dataclasses.replace(data.denoiser(VP, 'x0'), prediction='x0'))
    answer = lambda x, t: parameterization.convert(VP, 'x0', prediction, x, t, network.x0(x, t))  # noqa: E731

    def predict(x, t):
      return answer(x / expand_like(parameterization.c_in(VP, prediction, t), x), t)

    return losses.loss(NetworkDenoiser(VP, predict, prediction), x0, t, noise, weighting=weighting)

  np.testing.assert_allclose(value(prediction), value('x0'), rtol=2e-2)


def test_weights_by_their_papers():
  t = jnp.linspace(0.05, 0.95, 20)
  snr = jnp.exp(VP.log_snr(t))

  def of(prediction, weighting, process=VP, distribution='uniform'):
    return losses.weight(process, prediction, DISTRIBUTIONS[distribution], weighting, t)

  # Hang 2023, section 3.4, for predictions of eps, x_0 and v.
  least = jnp.minimum(snr, 5)
  np.testing.assert_allclose(of('eps', 'min_snr'), least / snr, rtol=1e-4)
  np.testing.assert_allclose(of('x0', 'min_snr'), least, rtol=1e-4)
  np.testing.assert_allclose(of('v', 'min_snr'), least / (snr + 1), rtol=1e-4)
  # Karras 2022, section 5: the weight times c_out² is 1.
  np.testing.assert_allclose(of('edm', 'edm', processes.EDM()), 1, rtol=1e-5)
  np.testing.assert_allclose(
    of('x0', 'edm', processes.EDM()), (t**2 + 0.25) / (0.5 * t) ** 2, rtol=1e-5
  )
  # Song 2021b: beta / (1 - alpha-bar) / 2 of eps, constant if its times are drawn so.
  span = VP.T - VP.t_min
  known = 0.5 * VP.g2(t) / VP.sigma(t) ** 2 * span
  np.testing.assert_allclose(of('eps', 'likelihood'), known, rtol=1e-4)
  drawn = of('eps', 'likelihood', distribution='importance')
  np.testing.assert_allclose(drawn, drawn[0], rtol=1e-4)
  for prediction in parameterization.PREDICTIONS:
    np.testing.assert_array_equal(of(prediction, 'simple'), 1)


@pytest.mark.long
@pytest.mark.parametrize('name', ['uniform', 'importance', 'log_normal'])
@pytest.mark.parametrize(
  'process', [VP, processes.SubVP(), processes.EDM(), processes.Flow()], ids=repr
)
def test_likelihood_weighting_gives_mutual_information(process, name):
  """For Gaussian data and a perfect network its mean is I(x_0; x_t) between the ends, half the
  logarithm of 1 + snr var (Guo et al. 2005), whatever the distribution of times."""
  if name == 'uniform' and process != VP:
    return  # too noisy an estimate, which is why there is importance sampling
  data, count, distribution = mixture.gaussian([0.0], 0.5), 40_000, DISTRIBUTIONS[name]
  distribution = losses.LogNormal(-3.0, 5.0) if name == 'log_normal' else distribution
  process = processes.VP(t_min=0.02) if name == 'uniform' else process
  t = losses.sample_times(process, distribution, jax.random.key(0), count, low_discrepancy=True)
  x0 = jnp.asarray(data.sample(0, count), jnp.float32)
  noise = jax.random.normal(jax.random.key(1), x0.shape)
  network = data.denoiser(process, 'edm')
  got = losses.loss(network, x0, t, noise, weighting='likelihood', distribution=distribution).mean()
  first, last = (
    0.5 * np.log1p(np.exp(process.log_snr(np.array(t))) * 0.25) for t in (process.t_min, process.T)
  )
  np.testing.assert_allclose(got, first - last, rtol=0.04)


# -------- times --------


@pytest.mark.parametrize('name', DISTRIBUTIONS)
@pytest.mark.parametrize(
  'process',
  [VP, processes.SubVP(), processes.VE(), processes.EDM(), processes.Flow()],
  ids=repr,
)
def test_density_is_the_inverse_slope_of_the_quantile(process, name):
  distribution = DISTRIBUTIONS[name]
  with jax.enable_x64(True):
    u = jnp.linspace(0.01, 0.99, 41)
    t, slope = jax.jvp(lambda u: distribution.quantile(process, u), (u,), (jnp.ones_like(u),))
    inside = (t > process.t_min) & (t < process.T)
    assert inside.sum() > 30 and (np.diff(t) > 0).all()
    np.testing.assert_allclose(
      distribution.density(process, t)[inside] * slope[inside], 1, rtol=1e-5
    )


@pytest.mark.parametrize('low_discrepancy', [False, True])
def test_times_of_ddpm_are_its_steps(low_discrepancy):
  process = processes.DDPM(steps=8)
  t = losses.sample_times(
    process, losses.Uniform(), jax.random.key(0), 800, low_discrepancy=low_discrepancy
  )
  steps, counts = np.unique(np.round(t * 8, 4), return_counts=True)
  np.testing.assert_array_equal(steps, np.arange(1, 9))
  assert (abs(counts - 100) <= (1 if low_discrepancy else 35)).all()


def test_low_discrepancy_times_are_even_and_shuffled():
  draw = lambda key: losses.sample_times(  # noqa: E731
    VP, losses.Uniform(), jax.random.key(key), 64, low_discrepancy=True
  )
  t = draw(0)
  gaps = np.diff(np.sort(t))
  np.testing.assert_allclose(gaps, 1 / 64, rtol=1e-2)
  assert not (np.diff(t) > 0).all() and abs(np.sort(draw(1)) - np.sort(t)).max() > 1e-4


# -------- the bound --------


@pytest.mark.long
def test_vlb_terms_sum_to_the_bound():
  """With the same noise, the terms of all steps are the bound's diffusion and reconstruction."""
  process = processes.DDPM(steps=12, beta_min=0.01, beta_max=0.5)
  data = mixture.gaussian(np.zeros((4, 4, 1)), 0.4)
  plain = data.denoiser(process, 'v')
  network = dataclasses.replace(
    plain, predict=lambda x, t: (plain.predict(x, t), jnp.full_like(x, 0.3))
  )
  x0 = jnp.round(jnp.clip(batch(count=2)[0] * 0.4, -1, 1) * 127.5 + 127.5) / 127.5 - 1
  times = timesteps.uniform(process, 12)
  known = vlb.bpd_vlb(network, x0, keys(2), times, variance='learned')
  total = 0
  for index, t in enumerate(times):
    t = jnp.full(2, t, jnp.float32)
    noise = normal_like(keys(2), index, x0)
    value, v = network.outputs(process.add_noise(x0, t, noise), t)
    error = value - parameterization.target(process, 'v', x0, noise, t)
    total += losses.vlb_term(network, x0, t, error, v)
  np.testing.assert_allclose(total, known.diffusion + known.reconstruction, rtol=1e-4)


@pytest.mark.long
def test_hybrid_loss_trains_the_variance_by_the_bound_alone():
  process = processes.DDPM(steps=12, beta_min=0.01, beta_max=0.5)
  x0, noise = batch(count=4)
  t = jnp.array([1, 3, 7, 12]) / 12

  def value(mean, v, bound_weight):
    network = NetworkDenoiser(process, lambda x, t: (mean * x, jnp.full_like(x, v)), 'eps')
    return losses.hybrid(network, x0, t, noise, vlb_weight=bound_weight).mean()

  gradient = jax.grad(value, (0, 1))
  mean_with, v_with = gradient(0.5, 0.5, 1e-3)
  mean_without, v_without = gradient(0.5, 0.5, 0.0)
  np.testing.assert_allclose(mean_with, mean_without, rtol=1e-6)
  assert v_without == 0 and v_with != 0 and np.isfinite(v_with)


def test_invalid_weighting_is_refused():
  with pytest.raises(ValueError, match=r"loss\.weighting='snr': choose from simple, eps, edm"):
    losses.weight(VP, 'eps', losses.Uniform(), 'snr', jnp.ones(1))
