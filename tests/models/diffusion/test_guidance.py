"""Guidance and constraints, on data whose conditionals are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.diffusion import guidance, processes, samplers, timesteps
from models.diffusion.denoiser import NetworkDenoiser
from models.diffusion.process import expand_like
from tests.models.diffusion import mixture

VP = processes.VP()
MODES = np.array([[-1.0, 0.5], [1.0, -0.5], [0.0, 1.0]])
DATA = mixture.Mixture(MODES, 0.3)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def labelled(x, t, labels):
  """Returns the exact eps given the labels' modes; label 3 is no label."""
  alpha, sigma = VP.alpha(t), VP.sigma(t)
  parts = [mixture.gaussian(mode, 0.3) for mode in MODES] + [DATA]
  x0 = jnp.stack([part.x0(x, alpha, sigma) for part in parts])[labels, jnp.arange(len(x))]
  return (x - expand_like(alpha, x) * x0) / expand_like(sigma, x)


def guided(labels, scale, **kwargs):
  null = jnp.full_like(labels, 3)
  return guidance.classifier_free(VP, 'eps', labelled, labels, null, scale, **kwargs)


@pytest.mark.long
def test_classifier_free_guidance_is_linear_in_its_scale():
  x = jax.random.normal(jax.random.key(0), (3, 2))
  t, labels = jnp.array([0.1, 0.5, 0.9]), jnp.arange(3)
  without, given = labelled(x, t, labels * 0 + 3), labelled(x, t, labels)
  for scale in (0.0, 1.0, 2.5):
    known = without + scale * (given - without)
    np.testing.assert_allclose(guided(labels, scale).eps(x, t), known, atol=1e-4)


def test_guidance_is_limited_to_its_interval():
  x = jax.random.normal(jax.random.key(0), (4, 2))
  t, labels = jnp.array([0.05, 0.2, 0.4, 0.9]), jnp.zeros(4, int)
  level = np.exp(-0.5 * VP.log_snr(t))
  between = guided(labels, 3.0, interval=(float(level[0]) + 0.01, float(level[2]))).eps(x, t)
  always, never = guided(labels, 3.0).eps(x, t), guided(labels, 1.0).eps(x, t)
  inside = np.array([False, True, True, False])[:, None]
  np.testing.assert_allclose(between, np.where(inside, always, never), atol=1e-5)


def test_guidance_calls_the_network_once():
  sizes = []

  def predict(x, t, labels):
    sizes.append(len(x))
    return x

  network = guidance.classifier_free(VP, 'eps', predict, jnp.zeros(5), jnp.ones(5), 2.0)
  network.eps(jnp.ones((5, 2)), jnp.ones(5))
  assert sizes == [10]


@pytest.mark.long
def test_a_perfect_classifier_makes_the_unconditional_model_conditional():
  """score + grad log p(y | x_t) is the score given y: exactly, for mixtures."""
  x, t = jax.random.normal(jax.random.key(0), (5, 2)), jnp.linspace(0.05, 1, 5)

  def log_prob(x, t):
    alpha, sigma = VP.alpha(t), VP.sigma(t)
    given = mixture.gaussian(MODES[1], 0.3).log_prob(x, alpha, sigma)
    return given - np.log(3) - DATA.log_prob(x, alpha, sigma)

  for kind in ('eps', 'edm'):
    got = guidance.by_classifier(DATA.denoiser(VP, kind), log_prob).score(x, t)
    known = mixture.gaussian(MODES[1], 0.3).denoiser(VP).score(x, t)
    np.testing.assert_allclose(got, known, rtol=1e-3, atol=1e-3)
  times = timesteps.timesteps('edm', VP, 30)
  network = guidance.by_classifier(DATA.denoiser(VP), log_prob)
  noise = VP.prior_sample(keys(200), (2,))
  images = samplers.Ancestral()(network, noise, keys(200, 1), times)
  np.testing.assert_allclose(images.mean(0), MODES[1], atol=0.07)


def test_static_and_dynamic_threshold():
  x0 = jnp.array([[0.2, -0.4, 0.9, 0.1], [0.5, -2.0, 4.0, 1.0]])
  network = NetworkDenoiser(VP, lambda x, t: x0, 'x0')
  x, t = jnp.ones((2, 4)), jnp.ones(2)
  static = guidance.threshold(network, 'static').x0(x, t)
  np.testing.assert_allclose(static, jnp.clip(x0, -1, 1), atol=1e-6)
  dynamic = guidance.threshold(network, 'dynamic', percentile=1.0).x0(x, t)
  np.testing.assert_allclose(dynamic, [x0[0], x0[1] / 4], atol=1e-6)
  mostly = guidance.threshold(network, 'dynamic', percentile=2 / 3).x0(x, t)
  np.testing.assert_allclose(mostly[1], jnp.clip(x0[1], -2, 2) / 2, atol=1e-6)
  with pytest.raises(ValueError, match="'soft': choose from static, dynamic"):
    guidance.threshold(network, 'soft')


def test_threshold_keeps_the_learned_variance():
  network = NetworkDenoiser(VP, lambda x, t: (4 * x, 0.1 * x), 'x0')
  x0, v = guidance.threshold(network, 'static').x0_and_v(jnp.ones((1, 2)), jnp.ones(1))
  np.testing.assert_allclose(x0, 1)
  np.testing.assert_allclose(v, 0.1)


# -------- constraints --------

CORRELATED = mixture.Normal(np.array([0.2, -0.3]), np.array([[0.5, 0.35], [0.35, 0.4]]))


@pytest.mark.long
def test_inpainting_a_gaussian_needs_a_corrector():
  """The conditional mean of the rest is wrong without Langevin steps, right with many."""
  count, known = 2000, 1.0
  mean = -0.3 + 0.35 / 0.5 * (known - 0.2)
  std = np.sqrt(0.4 - 0.35**2 / 0.5)
  mask = jnp.tile(jnp.array([[1.0, 0.0]]), (count, 1))
  constraint, times = guidance.inpaint(known * mask, mask), timesteps.timesteps('edm', VP, 40)
  x = VP.prior_sample(keys(count), (2,))
  bias = {}
  for corrections in (0, 16):
    sampler = samplers.PredictorCorrector('ancestral', 'annealed', 0.4, corrections)
    images = jax.jit(
      lambda x, sampler=sampler: sampler(
        CORRELATED.denoiser(VP), x, keys(count, 1), times, constraint=constraint
      )
    )(x)
    np.testing.assert_allclose(images[:, 0], known, atol=1e-5)
    np.testing.assert_allclose(images[:, 1].std(), std, rtol=0.06)
    bias[corrections] = abs(images[:, 1].mean() - mean)
  assert bias[16] < 0.05 and bias[0] > 0.15


def test_inpainting_samples_the_matching_mode():
  data = mixture.Mixture(np.array([[-1.0, -1.0], [1.0, 1.0]]), 0.1)
  mask = jnp.tile(jnp.array([[1.0, 0.0]]), (64, 1))
  known = jnp.where(jnp.arange(64)[:, None] % 2 == 0, 1.0, -1.0) * mask
  x = VP.prior_sample(keys(64), (2,))
  constraint, times = guidance.inpaint(known, mask), timesteps.timesteps('edm', VP, 40)
  run = jax.jit(
    lambda x: samplers.PredictorCorrector(snr=0.2)(
      data.denoiser(VP), x, keys(64, 1), times, constraint=constraint
    )
  )
  images = run(x)
  assert (jnp.sign(images[:, 1]) == known[:, 0]).mean() > 0.9


def test_colourisation_keeps_the_grey_values():
  """Each image also belongs to the mode that has its grey value."""
  tints = np.array([[0.6, 0.0, 0.3], [-0.6, -0.3, 0.0]])
  data = mixture.Mixture(np.broadcast_to(tints[:, None, None], (2, 2, 2, 3)).copy(), 0.05)
  which = np.arange(16) % 2
  grey = jnp.asarray(data.means[which].mean(-1, keepdims=True), jnp.float32)
  x, times = VP.prior_sample(keys(16), (2, 2, 3)), timesteps.timesteps('edm', VP, 40)
  run = jax.jit(
    lambda x: samplers.Ancestral()(
      data.denoiser(VP), x, keys(16, 1), times, constraint=guidance.colourise(grey)
    )
  )
  images = run(x)
  np.testing.assert_allclose(images.mean(-1, keepdims=True), grey, atol=1e-5)
  assert (abs(images.mean((1, 2)) - tints[which]).max(1) < 0.1).mean() > 0.9


def test_colour_basis_is_orthonormal():
  np.testing.assert_allclose(guidance.COLOURS @ guidance.COLOURS.T, np.eye(3), atol=1e-6)
