"""The network of Jordan 2024: a first layer that whitens, kernels that begin as the identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import models
from models import airbench


def smooth_images(seed=0, count=16):
  """Returns images like nature's: neighbouring pixels and the three channels are much alike."""
  rng = np.random.default_rng(seed)
  x = np.cumsum(np.cumsum(rng.normal(size=(count, 33, 33, 3)), axis=1), axis=2)
  x = x[:, 1:, 1:] + 3 * x[:, 1:, 1:].mean(-1, keepdims=True)
  return ((x - x.mean((0, 1, 2))) / x.std((0, 1, 2))).astype(np.float32)


def filtered(images, kernel):
  numbers = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(images, kernel, (1, 1), 'VALID', dimension_numbers=numbers)


def test_components_are_an_orthonormal_basis_of_patches():
  basis = airbench.components().reshape(12, 12)
  np.testing.assert_allclose(basis @ basis.T, np.eye(12), atol=1e-7)


def test_whitened_patches_have_unit_variance_and_hardly_any_covariance():
  images = smooth_images()
  kernel = airbench.whitening(airbench.patch_variances(images), epsilon=0)
  assert kernel.shape == (2, 2, 3, 24)
  outputs = np.asarray(filtered(images, kernel)).reshape(-1, 24)
  np.testing.assert_allclose(outputs[:, :12], -outputs[:, 12:], atol=1e-4)
  covariance = np.cov(outputs[:, :12], rowvar=False)
  np.testing.assert_allclose(np.diag(covariance), 1, rtol=1e-3)
  before = np.corrcoef(filtered(images, np.eye(12).reshape(2, 2, 3, 12)).reshape(-1, 12).T)
  off = ~np.eye(12, dtype=bool)
  assert np.abs(covariance[off]).mean() < 0.2 * np.abs(before[off]).mean()


def test_a_new_kernel_repeats_its_inputs():
  kernel = airbench.partial_identity(jax.random.key(0), (3, 3, 4, 10))
  images = smooth_images(count=2)[..., [0, 1, 2, 0]]
  outputs = filtered(images, kernel)
  np.testing.assert_allclose(outputs[..., :4], images[:, 1:-1, 1:-1], rtol=1e-6)
  assert np.std(kernel[..., 4:]) > 0


def test_the_network_has_the_papers_size():
  network = models.build('airbench94', num_classes=10)
  variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  kernels = [x.size for x in jax.tree.leaves(variables['params']) if x.ndim == 4]
  # Of 24, 64, 64, 256, 256, 256 channels in, to 64, 64, 256, 256, 256, 256 out.
  pairs = ((24, 64), (64, 64), (64, 256), (256, 256), (256, 256), (256, 256))
  assert sorted(kernels) == sorted(9 * inputs * outputs for inputs, outputs in pairs)


def test_images_must_be_rgb():
  network = models.build('airbench94', num_classes=10)
  with pytest.raises(ValueError, match='must be RGB of 26 x 26 pixels or more'):
    network.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
