"""Quality measures against exact solutions, independent references and cases done by hand."""

import numpy as np
import pytest
import scipy.linalg

from models.diffusion import quality


def normal(seed, count, dims, mean=0.0, std=1.0):
  return mean + std * np.random.default_rng(seed).normal(size=(count, dims))


def covariance(seed, dims, rank=None):
  x = normal(seed, rank or dims, dims)
  return x.T @ x / dims


# -------- the Frechet distance --------


def test_frechet_of_commuting_covariances():
  """It is the squared distance of the means plus that of the standard deviations."""
  a, b = np.array([1.0, 2.0, 0.1]), np.array([3.0, 0.5, 1.0])
  axes = np.linalg.qr(normal(0, 3, 3))[0]
  got = quality.frechet(
    np.zeros(3), axes @ np.diag(a**2) @ axes.T, np.ones(3), axes @ np.diag(b**2) @ axes.T
  )
  assert got == pytest.approx(3 + np.square(a - b).sum(), rel=1e-12)


@pytest.mark.parametrize('dims', [2, 30])
def test_frechet_matches_the_matrix_square_root(dims):
  c1, c2 = covariance(1, dims), covariance(2, dims)
  mean = normal(3, 1, dims)[0]
  root = scipy.linalg.sqrtm(c1 @ c2).real
  known = mean @ mean + np.trace(c1 + c2 - 2 * root)
  assert quality.frechet(np.zeros(dims), c1, mean, c2) == pytest.approx(known, rel=1e-9)
  assert quality.frechet(mean, c2, np.zeros(dims), c1) == pytest.approx(known, rel=1e-9)


def test_frechet_of_singular_covariances():
  """With fewer examples than dimensions sqrtm warns, or returns complex numbers."""
  c = covariance(4, 50, rank=10)
  zero = np.zeros(50)
  assert quality.frechet(zero, c, zero, c) == pytest.approx(0, abs=1e-6 * np.trace(c))
  assert quality.frechet(zero, c, zero, 4 * c) == pytest.approx(np.trace(c), rel=1e-6)
  assert quality.frechet(zero, c, zero, 0 * c) == pytest.approx(np.trace(c), rel=1e-12)


def test_frechet_distance_of_samples():
  x = normal(0, 20_000, 4)
  assert quality.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
  assert quality.frechet_distance(x, x + 0.5) == pytest.approx(1.0, rel=1e-9)
  assert quality.frechet_distance(x, 3 * x) == pytest.approx(4 * np.trace(np.cov(x.T)), rel=1e-3)
  known = np.square([1, 0, 0, 0]).sum() + 4 * 0.5**2
  other = normal(1, 20_000, 4, np.array([1.0, 0, 0, 0]), 1.5)
  assert quality.frechet_distance(x, other) == pytest.approx(known, rel=0.05)


def test_frechet_distance_in_one_dimension():
  assert quality.frechet_distance([[0.0], [2.0]], [[1.0], [3.0]]) == pytest.approx(1)


# -------- the kernel distance --------


def test_mmd_by_hand():
  """One dimension, two examples on each side: kernels (x y + 1)³."""
  x, y = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
  known = 1 + 27 - 2 * (1 + 1 + 8 + 27) / 4
  assert quality.mmd2(x, y) == pytest.approx(known)


def test_mmd_is_unbiased_with_a_valid_standard_error():
  """Over many draws: the mean within its error, and the told errors as large as the scatter.

  The truth: E k(x, y) is the third moment of x·y / D + 1, known for these Gaussians.
  """
  dims, shift = 4, 0.5
  draws = [
    quality.kernel_distance(normal((0, i), 400, dims), normal((1, i), 400, dims, shift))
    for i in range(60)
  ]
  values, errors = np.array(draws).T

  def third(square_a, square_b, product):
    """E(1 + x·y / D)³ of means with these products, unit variances."""
    mean = product / dims
    variance = (dims + square_a + square_b) / dims**2
    # E (x·y)³ of unit Gaussians around means a, b: its third central moment is 6 a·b.
    skew = 6 * product / dims**3
    m = 1 + mean
    return m**3 + 3 * m * variance + skew

  square = dims * shift**2
  known = third(0, 0, 0) + third(square, square, square) - 2 * third(0, square, 0)
  scatter = values.std(ddof=1)
  assert abs(values.mean() - known) < 3 * scatter / np.sqrt(60)
  assert np.sqrt(np.square(errors).mean()) == pytest.approx(scatter, rel=0.3)


def test_kernel_distance_of_equal_distributions_is_zero():
  got = quality.kernel_distance(normal(0, 3000, 8), normal(1, 2000, 8))
  assert abs(got.value) < 3 * got.error
  far = quality.kernel_distance(normal(0, 3000, 8), normal(1, 2000, 8, 0.3))
  assert far.value > 5 * far.error


# -------- manifolds --------


def test_manifolds_by_hand():
  """On a line, k=1: real ones at 0, 1, 10, 12; generated at 0.5, 5, 20, 26."""
  real, fake = (np.array(x)[:, None] for x in ([0.0, 1, 10, 12], [0.5, 5, 20, 26]))
  got = quality.manifolds(real, fake, k=1)
  # Real radii 1, 1, 2, 2: they hold 0.5 twice, nothing else.
  assert got.precision == 1 / 4 and got.density == 2 / 4 and got.coverage == 2 / 4
  # Generated radii 4.5, 4.5, 6, 6: all real ones but 10 and 12 lie within; 20 - 6 = 14.
  assert got.recall == 2 / 4
  assert quality.manifolds(fake, real, k=1).precision == got.recall


def test_manifolds_match_pairwise_loops(monkeypatch):
  monkeypatch.setattr(quality, 'ROWS', 7)  # several parts
  real, fake, k = normal(0, 40, 3), normal(1, 30, 3, 0.4), 3

  def radius(x, i):
    return np.sort([np.linalg.norm(x[i] - y) for y in x])[k]

  def within(x, y):
    return np.array([[np.linalg.norm(a - b) <= radius(x, i) for b in y] for i, a in enumerate(x)])

  real_holds, fake_holds = within(real, fake), within(fake, real)
  known = (
    real_holds.any(0).mean(),
    fake_holds.any(0).mean(),
    real_holds.sum(0).mean() / k,
    real_holds.any(1).mean(),
  )
  np.testing.assert_allclose(quality.manifolds(real, fake, k=k), known)


def test_lost_modes_lower_recall_and_noise_lowers_precision():
  real = np.concatenate([normal(0, 300, 2), normal(1, 300, 2, 50.0)])
  one_mode = quality.manifolds(real, normal(2, 600, 2))
  assert one_mode.precision > 0.9 and one_mode.recall < 0.6 and one_mode.coverage < 0.6
  wide = np.concatenate([normal(3, 300, 2, 0, 10.0), normal(4, 300, 2, 50.0, 10.0)])
  noisy = quality.manifolds(real, wide)
  assert noisy.precision < 0.3 and noisy.density < 0.3 and noisy.recall > 0.9
  same = quality.manifolds(real, np.concatenate([normal(5, 300, 2), normal(6, 300, 2, 50.0)]))
  assert same.precision > 0.9 and same.recall > 0.9
  assert same.coverage == pytest.approx(1 - 0.5**3, abs=0.05)  # Naeem 2020, eq. 9
  assert same.density == pytest.approx(1, abs=0.15)


def test_manifolds_are_translation_invariant():
  real, fake = normal(0, 50, 3), normal(1, 50, 3)
  assert quality.manifolds(real, fake) == quality.manifolds(real + 1e5, fake + 1e5)


# -------- shares and inputs --------


def test_accuracy():
  got = quality.accuracy(np.arange(10) < 8)
  assert got.value == 0.8 and got.error == pytest.approx(np.sqrt(0.8 * 0.2 / 9))
  assert quality.accuracy(np.array([True])) == (1, 0)


@pytest.mark.parametrize(
  'real, fake, message',
  [
    (np.zeros((5, 2)), np.zeros((5, 3)), '2 and 3 numbers'),
    (np.zeros((5, 2)), np.full((5, 2), np.nan), '5 of 5 examples are not finite'),
    (np.zeros((1, 2)), np.zeros((5, 2)), '2 examples or more'),
  ],
)
@pytest.mark.parametrize(
  'measure', [quality.frechet_distance, quality.kernel_distance, quality.manifolds]
)
def test_invalid_features_are_refused(measure, real, fake, message):
  with pytest.raises(ValueError, match=message):
    measure(real, fake)


def test_too_few_examples_are_refused():
  with pytest.raises(ValueError, match='at least 20'):
    quality.kernel_distance(np.zeros((19, 2)), np.zeros((50, 2)))
  with pytest.raises(ValueError, match='more than k=3'):
    quality.manifolds(np.zeros((3, 2)), np.zeros((50, 2)))
