"""Adversarial networks: their sizes, what they minimise, latents, and what keeps them smooth."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import models
from models import ops
from models.gan import latents, parzen, spectral
from models.gan.losses import LOSSES
from tests.models.test_ops import assert_same, normal


def build(name, shape, classes=0, **options):
  return models.build(name, image_shape=shape, num_classes=classes, **options)


def shapes(module):
  z, label = jnp.zeros((2, module.latent_size)), jnp.zeros(2, jnp.int32)
  return nn.unbox(jax.eval_shape(module.init, jax.random.key(0), z, label))


def parameters(module):
  params = shapes(module)['params']
  count = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))  # noqa: E731
  return count(params['generator']), count(params['discriminator'])


# -------- networks --------


def test_the_networks_of_2014_have_their_sizes():
  generator = 100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 784 + 784
  discriminator = 784 * 1200 + 1200 + 240 * 1200 + 1200 + 240 + 1
  assert parameters(build('gan', (28, 28, 1))) == (generator, discriminator)


def test_dcgan_of_64_pixels_is_the_papers():
  """Kernels of 5 x 5 from 1024 channels of 4 x 4 to 128 of 32 x 32, figure 1 of the paper."""
  params = shapes(build('dcgan', (64, 64, 3), width=128, window=5))['params']['generator']
  assert params['project']['kernel'].shape == (100, 4 * 4 * 1024)
  kernels = [params[f'conv{i}']['kernel'].shape for i in range(4)]
  assert kernels == [(5, 5, 512, 1024), (5, 5, 256, 512), (5, 5, 128, 256), (5, 5, 3, 128)]


@pytest.mark.long
@pytest.mark.parametrize(
  ('shape', 'grid'), [((28, 28, 1), 7), ((32, 32, 3), 4), ((64, 64, 3), 4), ((8, 8, 1), 4)]
)
def test_images_of_any_side_that_halves(shape, grid):
  net = build('dcgan', shape, 3, width=4, latent_size=5)
  z, label = normal(0, 2, 5), jnp.array([0, 2])
  variables = nn.unbox(net.init(jax.random.key(0), z, label))
  image = net.apply(variables, z, label, method='generate', train=False)
  assert image.shape == (2, *shape) and image.min() >= 0 and image.max() <= 1
  assert net.apply(variables, image, label, method='discriminate', train=False).shape == (2,)
  width = 4 << (round(math.log2(shape[0] / grid)) - 1)
  assert variables['params']['generator']['project']['kernel'].shape[1] == grid * grid * width


@pytest.mark.parametrize('side', [27, 36, 6])
def test_sides_that_do_not_halve_are_refused(side):
  with pytest.raises(ValueError, match=f'images of {side} x {side}: DCGAN needs sides that halve'):
    shapes(build('dcgan', (side, side, 3)))


def test_both_networks_hear_the_label():
  for name, options in (('gan', {'hidden': (8,), 'maxout': (8,)}), ('dcgan', {'width': 4})):
    net = build(name, (8, 8, 1), 3, latent_size=5, **options)
    z, labels = normal(0, 2, 5)[:1].repeat(2, 0), jnp.array([0, 1])
    variables = nn.unbox(net.init(jax.random.key(0), z, labels))
    drawn = net.apply(variables, z, labels, method='generate', train=False)
    assert abs(drawn[0] - drawn[1]).max() > 1e-4
    same = drawn[:1].repeat(2, 0)
    logits = net.apply(variables, same, labels, method='discriminate', train=False)
    assert logits[0] != logits[1]


@pytest.mark.parametrize(('channels', 'features', 'window'), [(16, 8, 4), (8, 3, 5), (4, 1, 2)])
def test_the_transposed_convolution_has_two_forms(channels, features, window):
  x, kernel = normal(0, 4, 6, 5, channels), normal(1, window, window, features, channels)
  assert_same(lambda x, k: ops.conv_transpose(x, k, strides=(2, 2)), x, kernel)


def test_the_transposed_convolution_is_the_transpose():
  """<conv(x), y> = <x, conv_transpose(y)>, which says all of it."""
  x, y, kernel = normal(0, 2, 8, 6, 3), normal(1, 2, 4, 3, 5), normal(2, 4, 4, 3, 5)
  there = (ops.conv(x, kernel, strides=(2, 2)) * y).sum()
  back = (x * ops.conv_transpose(y, kernel, strides=(2, 2))).sum()
  assert there == pytest.approx(float(back), rel=1e-4)


# -------- losses --------


@pytest.mark.parametrize('name', LOSSES)
def test_chance_is_where_all_logits_are_0(name):
  loss, zero = LOSSES[name], jnp.zeros(3)
  found = loss.discriminator(zero, zero)[0], loss.generator(zero)[0]
  assert found == pytest.approx(loss.chance)


@pytest.mark.parametrize('name', LOSSES)
def test_losses_are_finite_and_signed_at_any_logit(name):
  loss, sure = LOSSES[name], jnp.array([1e6])
  assert loss.discriminator(sure, -sure) == 0 and np.isfinite(loss.discriminator(-sure, sure))
  assert jax.grad(lambda x: loss.generator(x)[0])(-jnp.ones(1)) < 0  # G wants larger logits
  assert np.isfinite(loss.generator(-sure)).all()


def test_the_minimax_game_saturates_where_the_other_does_not():
  slope = {
    name: float(jax.grad(lambda x, f=LOSSES[name].generator: f(x)[0])(jnp.array([-20.0]))[0])
    for name in ('saturating', 'non_saturating')
  }
  assert abs(slope['saturating']) < 1e-6 and slope['non_saturating'] == pytest.approx(-1)


# -------- latents --------


@pytest.mark.parametrize('name', latents.DISTRIBUTIONS)
def test_latents_have_unit_variance_and_their_own_keys(name):
  keys = jax.random.split(jax.random.key(0), 200)
  z = np.asarray(latents.draw(keys, 50, name))
  assert z.mean() == pytest.approx(0, abs=0.03) and z.var() == pytest.approx(1, abs=0.05)
  np.testing.assert_array_equal(latents.draw(keys[3:4], 50, name), z[3:4])


@pytest.mark.parametrize('name', latents.DISTRIBUTIONS)
def test_paths_keep_what_latents_are_like(name):
  a, b = (latents.draw(jax.random.split(jax.random.key(i), 4), 100, name) for i in (0, 1))
  path = np.asarray(latents.interpolate(a, b, 5, name))
  np.testing.assert_allclose(path[:, 0], a, atol=1e-5)
  np.testing.assert_allclose(path[:, -1], b, atol=1e-5)
  if name == 'uniform':
    assert abs(path).max() <= 3**0.5
  else:  # on the straight line the middle's norm would be 0.7 of this
    assert np.linalg.norm(path[:, 2], axis=-1) == pytest.approx(10, abs=1.5)


# -------- smoothness --------


def test_spectral_normalisation_makes_the_largest_singular_value_1():
  params = {'conv': {'kernel': jnp.asarray(normal(0, 4, 4, 3, 8))}, 'bias': jnp.ones(2)}
  vectors = spectral.vectors(params, jax.random.key(0))
  for _ in range(100):
    divided, vectors = spectral.normalise(params, vectors)
  matrix = np.asarray(divided['conv']['kernel']).reshape(-1, 8)
  assert np.linalg.svd(matrix)[1][0] == pytest.approx(1, abs=1e-3)
  assert jax.tree.structure(divided) == jax.tree.structure(params)


def test_the_gradient_of_a_normalised_kernel_knows_its_norm():
  """It is orthogonal to the kernel: a longer one is divided by more."""
  kernel = jnp.asarray(normal(0, 6, 4))
  vectors = spectral.vectors({'kernel': kernel}, jax.random.key(0))
  for _ in range(100):
    _, vectors = spectral.normalise({'kernel': kernel}, vectors)
  loss = lambda k: (spectral.normalise({'kernel': k}, vectors)[0]['kernel'] * kernel**2).sum()  # noqa: E731
  assert (jax.grad(loss)(kernel) * kernel).sum() == pytest.approx(0, abs=1e-3)


def test_squared_gradients_of_a_linear_discriminator_are_its_weights():
  weights = normal(0, 4, 4, 1)
  found = spectral.squared_gradients(
    lambda x: (x * weights[None]).sum((1, 2, 3)), normal(1, 3, 4, 4, 1)
  )
  np.testing.assert_allclose(found, np.full(3, (weights**2).sum()), rtol=1e-5)


# -------- Parzen --------


def test_the_parzen_estimate_is_a_mixture_of_gaussians():
  samples, x = normal(0, 7, 3), normal(1, 5, 3)
  pdfs = [scipy.stats.multivariate_normal(m, 0.25 * np.eye(3)).pdf(x) for m in samples]
  found = parzen.log_likelihood(samples, x, 0.5)
  np.testing.assert_allclose(found, np.log(np.mean(pdfs, 0)), rtol=1e-4)


def test_sigma_is_the_best_of_the_grid_for_other_images_than_those_measured():
  rng = np.random.default_rng(0)
  samples, validation, test = (
    np.float32(0.3 * rng.normal(size=(n, 20))) for n in (2000, 1500, 1500)
  )
  found = parzen.estimate(samples, validation, test)
  fits = {s: parzen.log_likelihood(samples, validation, s).mean() for s in parzen.SIGMAS}
  assert found.sigma == max(fits, key=fits.get)
  assert 0.1 < found.sigma < 0.4 and found.error < 1
  assert found.value == pytest.approx(parzen.log_likelihood(samples, test, found.sigma).mean())
