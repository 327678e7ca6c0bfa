"""Distances between generated and real images, computed on features `[N, D]` of the two sets.

Everything is NumPy in float64 on the host. A measure's name says which network's features were
compared: a Frechet distance is called FID only with those of `inception`.
"""

from typing import NamedTuple

import numpy as np

ROWS = 1000  # rows of a matrix of pairwise distances that are held at a time

# -------- the Frechet distance --------


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the mean `[D]` and the unbiased covariance `[D, D]` of features `[N, D]`."""
  features = checked(features)
  return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
  """Returns the squared 2-Wasserstein distance of two Gaussians.

  |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^(1/2)), for means `[D]` and covariances `[D, D]`.
  Dowson and Landau 1982; Heusel et al. 2017 (arXiv 1706.08500), eq. 6.
  """
  # C1 C2 has the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2), which are real and, but for
  # rounding, not negative, even where the covariances are singular.
  values, vectors = np.linalg.eigh(cov1)
  root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
  product = np.linalg.eigvalsh(root @ cov2 @ root)
  trace = np.trace(cov1) + np.trace(cov2) - 2 * np.sqrt(product.clip(0)).sum()
  return float(np.square(mean1 - mean2).sum() + max(trace, 0.0))


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
  """Returns the Frechet distance of Gaussians fitted to two sets `[N, D]` and `[M, D]`.

  It is biased upwards by about a constant over the number of examples: compare equal numbers.
  """
  check_dimensions(real, fake)
  return frechet(*moments(real), *moments(fake))


# -------- the kernel distance --------


class Estimate(NamedTuple):
  """A value and its standard error."""

  value: float
  error: float


def kernel_distance(real: np.ndarray, fake: np.ndarray, *, size: int = 1000) -> Estimate:
  """Returns KID: the unbiased squared maximum mean discrepancy with the kernel (x·y / D + 1)³.

  Binkowski et al. 2018 (arXiv 1801.01401). The estimate may be negative. It is the mean over
  disjoint subsets of `size` examples, or of a tenth of them if that is less. Disjoint subsets give
  a valid standard error; the usual hundred overlapping ones have the same mean but are not
  independent. Raises ValueError for fewer than 20 examples.
  """
  real, fake = check_dimensions(real, fake)
  count = min(len(real), len(fake))
  size = min(size, count // 10)
  if size < 2:
    raise ValueError(f'{count} examples: the kernel distance needs at least 20 on both sides')
  starts = range(0, count - size + 1, size)
  values = np.array([mmd2(real[i : i + size], fake[i : i + size]) for i in starts])
  return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
  """Returns the unbiased MMD² of sets `[n, D]` and `[m, D]` (Gretton et al. 2012, eq. 3)."""

  def kernel(a, b):
    return (a @ b.T / a.shape[1] + 1) ** 3

  def mean_of_pairs(a):
    k = kernel(a, a)
    return (k.sum() - np.trace(k)) / (len(a) * (len(a) - 1))

  return float(mean_of_pairs(x) + mean_of_pairs(y) - 2 * kernel(x, y).mean())


# -------- manifolds --------


class Manifolds(NamedTuple):
  """Measures by neighbourhoods: the ball around an example up to its k-th neighbour in its own set.

  precision: fraction of generated examples in some real neighbourhood; recall: fraction of real
    examples in some generated one (Kynkäänniemi et al. 2019, arXiv 1904.06991, section 2).
  density: mean number of real neighbourhoods around a generated example, over k; coverage: fraction
    of real neighbourhoods that hold one (Naeem et al. 2020, arXiv 2002.09797, section 3).
  """

  precision: float
  recall: float
  density: float
  coverage: float


def manifolds(real: np.ndarray, fake: np.ndarray, *, k: int = 3) -> Manifolds:
  """Returns precision, recall, density and coverage of sets `[N, D]` and `[M, D]`.

  k: which neighbour bounds a neighbourhood. All depend on N and M, too. Raises ValueError unless
  both are above k.
  """
  real, fake = check_dimensions(real, fake)
  if min(len(real), len(fake)) <= k:
    raise ValueError(f'{min(len(real), len(fake))} examples: must be more than k={k}')
  centre = real.mean(0)  # smaller numbers lose less to rounding in `squared_distances`
  real, fake = real - centre, fake - centre
  real_radius, fake_radius = radii(real, k), radii(fake, k)
  holds = np.zeros(len(real), bool)
  holding = np.zeros(len(fake), int)
  recalled = 0
  for i in range(0, len(real), ROWS):
    square = squared_distances(real[i : i + ROWS], fake)
    inside = square <= real_radius[i : i + ROWS, None]
    holding += inside.sum(0)
    holds[i : i + ROWS] = inside.any(1)
    recalled += (square <= fake_radius).any(1).sum()
  return Manifolds(
    float((holding > 0).mean()),
    float(recalled / len(real)),
    float(holding.mean() / k),
    float(holds.mean()),
  )


def radii(x: np.ndarray, k: int) -> np.ndarray:
  """Returns the squared distance to the k-th nearest of the others, `[N]`."""
  blocks = (squared_distances(x[i : i + ROWS], x) for i in range(0, len(x), ROWS))
  # The nearest, number 0, is the example itself.
  return np.concatenate([np.partition(block, k, axis=1)[:, k] for block in blocks])


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Returns squared distances `[n, m]` between rows of x `[n, D]` and y `[m, D]`."""
  square = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
  return square.clip(0)


# -------- accuracy --------


def accuracy(correct: np.ndarray) -> Estimate:
  """Returns the mean of `correct`, bool `[N]`, and its standard error, 0 for one example."""
  mean = float(np.mean(correct))
  return Estimate(mean, float(np.sqrt(mean * (1 - mean) / max(len(correct) - 1, 1))))


# -------- checks --------


def checked(features: np.ndarray) -> np.ndarray:
  """Returns features as float64 `[N, D]`; ValueError if N < 2 or a value is not finite."""
  features = np.asarray(features, np.float64)
  if features.ndim != 2 or len(features) < 2:
    raise ValueError(f'features of shape {features.shape}: must be [N, D] of 2 examples or more')
  if bad := int((~np.isfinite(features)).any(1).sum()):
    raise ValueError(f'features: those of {bad} of {len(features)} examples are not finite')
  return features


def check_dimensions(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns both sets of features checked; ValueError if they differ in D."""
  real, fake = checked(real), checked(fake)
  if real.shape[1] != fake.shape[1]:
    raise ValueError(f'features of {real.shape[1]} and {fake.shape[1]} numbers: must be the same')
  return real, fake
