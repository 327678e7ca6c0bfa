"""The adaptive solver, and latents of the probability flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.diffusion import ode, processes, samplers
from tests.models.diffusion import mixture

VP = processes.VP()


def test_each_example_has_its_own_steps():
  """dy/dt = -rate y: the fast one takes more steps, and none depends on its neighbours."""
  rates = jnp.array([[1.0], [50.0]])

  def solve(rates):
    return ode.solve(lambda y, t: -rates * y, jnp.ones_like(rates), 0.0, 2.0, rtol=1e-6, atol=1e-6)

  both, slow = solve(rates), solve(rates[:1])
  np.testing.assert_allclose(both.y[0, 0], np.exp(-2.0), rtol=1e-5)
  np.testing.assert_allclose(both.y[1, 0], 0, atol=1e-5)
  np.testing.assert_array_equal(both.y[0], slow.y[0])
  assert both.num_evaluations[0] == slow.num_evaluations[0] < both.num_evaluations[1]


def test_the_solver_has_order_five():
  """Error and tolerance agree over six orders of magnitude, forwards and backwards."""
  with jax.enable_x64(True):
    for start, end in ((0.0, 3.0), (3.0, 0.0)):
      y, counts = jnp.stack([jnp.sin(jnp.full(1, start)), jnp.cos(jnp.full(1, start))], 1), []
      for tolerance in (1e-5, 1e-8, 1e-11):
        field = lambda y, t: jnp.stack([y[:, 1], -y[:, 0]], 1)  # noqa: E731
        got = ode.solve(field, y, start, end, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(got.y[0], [np.sin(end), np.cos(end)], atol=30 * tolerance)
        counts.append(int(got.num_evaluations[0]))
      assert 1e3**0.15 < counts[2] / counts[1] < 1e3**0.25  # tolerance^(-1/5)


def test_unreached_end_is_nan():
  field = lambda y, t: y**2  # noqa: E731, blows up at t = 1 from 1
  y = jnp.array([[1.0], [0.1]])
  got = ode.solve(field, y, 0.0, 2.0, max_steps=60)
  assert np.isnan(got.y[0]) and got.y[1] == pytest.approx(1 / 8, rel=1e-4)


def test_latents_decode_to_their_images_and_interpolate():
  data = mixture.eight_dimensional()
  denoiser, x = data.denoiser(VP), jnp.asarray(data.sample(0, 6), jnp.float32)
  latents = samplers.encode(denoiser, x)
  assert 0.5 < latents.std() < 1.5
  decode = samplers.AdaptiveODE()
  back = decode(denoiser, latents, None, np.array([VP.T]))
  np.testing.assert_allclose(back, x, atol=2e-3)
  a, b = latents[:3], latents[3:]
  np.testing.assert_allclose(samplers.slerp(a, b, 0.0), a, atol=1e-5)
  np.testing.assert_allclose(samplers.slerp(a, b, 1.0), b, atol=1e-5)
  a = a / jnp.linalg.norm(a, axis=1, keepdims=True)
  b = b / jnp.linalg.norm(b, axis=1, keepdims=True)
  between = samplers.slerp(a, b, 0.3)
  np.testing.assert_allclose(jnp.linalg.norm(between, axis=1), 1, rtol=1e-5)
  angle = lambda u, v: np.arccos((u * v).sum(1))  # noqa: E731
  np.testing.assert_allclose(angle(a, between), 0.3 * angle(a, b), rtol=1e-3)
