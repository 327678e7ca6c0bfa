"""The parts of the U-Net, each against its definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import attention as attention_lib
from models import ops
from models.diffusion import conditioning, unet_blocks
from tests.models.diffusion.denoising import assert_close, jit, normals


def defined_group_norm(x, scale, bias, shift, groups, epsilon, silu):
  """Returns group normalisation by its definition (Wu & He 2018, equations 1 to 3)."""
  x = x + shift[:, None, None]
  grouped = x.reshape(*x.shape[:3], groups, -1)
  mean, var = (f(grouped, (1, 2, 4), keepdims=True) for f in (jnp.mean, jnp.var))
  y = ((grouped - mean) / jnp.sqrt(var + epsilon)).reshape(x.shape)
  y = y * scale[:, None, None] + bias[:, None, None]
  return jax.nn.silu(y) if silu else y


@pytest.mark.parametrize('silu', [True, False])
def test_group_norm_and_its_gradients_match_the_definition(silu):
  x, scale, bias = 2 + normals(3, 4, 5, 12), normals(3, 12, seed=1), normals(3, 12, seed=2)
  shift, weights = normals(3, 12, seed=3), normals(3, 4, 5, 12, seed=4)

  def value_and_gradients(norm):
    def loss(*args):
      return (norm(*args, 3, 1e-6, silu) * weights).sum()

    return jit(jax.value_and_grad(loss, (0, 1, 2, 3)))(x, scale, bias, shift)

  assert_close(*map(value_and_gradients, (defined_group_norm, unet_blocks.group_norm)))


def test_group_norm_by_hand():
  x = np.array([1.0, 3, 5, 7, 0, 0, 0, 4], np.float32).reshape(1, 1, 1, 8)
  one, zero = np.ones((1, 8), np.float32), np.zeros((1, 8), np.float32)
  y = unet_blocks.group_norm(x, 2 * one, one, zero, 2, 0.0, False)
  np.testing.assert_allclose(
    y[0, 0, 0, [0, 3, 4, 7]],
    [1 - 6 / 5**0.5, 1 + 6 / 5**0.5, 1 - 2 / 3**0.5, 1 + 6 / 3**0.5],
    rtol=1e-5,
  )


def test_groups_divide_the_channels_and_have_four_each():
  assert [unet_blocks.groups_of(c, 32) for c in (128, 96, 32, 12, 4, 2)] == [32, 24, 8, 3, 1, 1]
  assert unet_blocks.groups_of(96, 8) == 8
  assert unet_blocks.groups_of(64, 32, least=1) == 32


def test_attention_equals_attention_with_a_full_mask():
  q, k, v, weights = (normals(2, 9, 3, 4, seed=i) for i in range(4))

  def value_and_gradients(*mask):
    return jit(
      jax.value_and_grad(lambda *qkv: (attention_lib.full(*qkv, *mask) * weights).sum(), (0, 1, 2))
    )(q, k, v)

  assert_close(value_and_gradients(), value_and_gradients(np.ones((2, 9), bool)))


@pytest.mark.parametrize('taps', unet_blocks.TAPS.values())
def test_upsampling_is_the_transpose_of_downsampling(taps):
  x = normals(1, 8, 6, 2)
  y = normals(1, 4, 3, 2, seed=1)
  down, up = (functools.partial(unet_blocks.resample, to=to, taps=taps) for to in ('down', 'up'))
  transposed = jit(jax.linear_transpose(down, x))(y)[0]
  np.testing.assert_allclose(jit(up)(y), 4 * transposed, atol=1e-6)
  down = jit(down)
  means = x.reshape(1, 4, 2, 3, 2, 2).mean((2, 4))
  assert np.allclose(down(x), means, atol=1e-6) == (len(taps) == 2)
  np.testing.assert_allclose(down(np.ones((1, 8, 6, 2), np.float32))[0, 1:-1, 1:-1], 1, atol=1e-6)


def test_fir_downsampling_commutes_with_convolution():
  """Convolving first, at full resolution, gives the same."""
  x, kernel = normals(1, 8, 8, 2), normals(3, 3, 2, 3, seed=1)
  ours = ops.conv(unet_blocks.blur(x, (1, 3, 3, 1)), kernel, strides=(2, 2), padding='VALID')
  y = ops.conv(x, kernel, padding=((2, 2), (2, 2)))
  taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1])[:, :, None, None] / 64 * np.eye(3)
  other = ops.conv(y, taps.astype(np.float32), strides=(2, 2), padding='VALID')
  np.testing.assert_allclose(ours, other, atol=1e-5)


def test_noise_embeddings():
  y = conditioning.sinusoids(np.array([0.0, 3.0]), 6)
  rates = np.array([1, 1e-2, 1e-4])
  np.testing.assert_allclose(y[1], [*np.sin(3 * rates), *np.cos(3 * rates)], atol=1e-6)
  y = conditioning.sinusoids(np.array([3.0]), 4, freq_shift=0)
  np.testing.assert_allclose(y[0, :2], np.sin([3, 0.03]), atol=1e-6)
  waves = conditioning.fourier_features(np.array([0.0, 0.3]), 400)
  np.testing.assert_allclose(waves[0], [0] * 200 + [1] * 200)
  assert abs(np.mean(waves[1, 200:])) < 0.2  # rates of 100 radians: all phases
