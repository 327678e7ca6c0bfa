"""How near generated images are to real ones, measured on features `[N, D]` of the two.

All is computed on the host in float64. Whose features they are belongs to a measure's name: a
Frechet distance is FID with those of one network alone, the one in `inception`.
"""

from typing import NamedTuple

import numpy as np

ROWS = 1000  # of a matrix of pairs that are held at a time

# -------- the Frechet distance --------


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The mean `[D]` and the covariance `[D, D]`, over N - 1, of features `[N, D]`."""
  features = checked(features)
  return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
  """|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^(1/2)): the squared 2-Wasserstein distance of two Gaussians
  (Dowson and Landau 1982; Heusel et al. 2017, arXiv 1706.08500, eq. 6).

  C1 C2 has the eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2), which are real and, but for
  rounding, not negative, also where the covariances are singular.
  """
  values, vectors = np.linalg.eigh(cov1)
  root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
  product = np.linalg.eigvalsh(root @ cov2 @ root)
  trace = np.trace(cov1) + np.trace(cov2) - 2 * np.sqrt(product.clip(0)).sum()
  return float(np.square(mean1 - mean2).sum() + max(trace, 0.0))


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
  """Of Gaussians with the moments of two sets `[N, D]` and `[M, D]`.

  Fewer examples make it larger, by about a constant over their number: compare equal numbers.
  """
  check_dimensions(real, fake)
  return frechet(*moments(real), *moments(fake))


# -------- the kernel distance --------


class Estimate(NamedTuple):
  """error: the standard error of `value`."""

  value: float
  error: float


def kernel_distance(real: np.ndarray, fake: np.ndarray, *, size: int = 1000) -> Estimate:
  """KID (Binkowski et al. 2018, arXiv 1801.01401): the squared maximum mean discrepancy with the
  kernel (x·y / D + 1)³, without bias, so that it may be negative.

  The mean over subsets of `size` pairs, or of a tenth of the examples where that is less. No two
  subsets share an example, which makes their scatter an honest error: the usual hundred that
  overlap estimate the same distance, but their scatter says less than it seems to.
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
  """The unbiased estimate of sets `[n, D]` and `[m, D]` (Gretton et al. 2012, eq. 3)."""

  def kernel(a, b):
    return (a @ b.T / a.shape[1] + 1) ** 3

  def others(a):
    """The mean over pairs of two examples."""
    k = kernel(a, a)
    return (k.sum() - np.trace(k)) / (len(a) * (len(a) - 1))

  return float(others(x) + others(y) - 2 * kernel(x, y).mean())


# -------- manifolds --------


class Manifolds(NamedTuple):
  """Of Kynkäänniemi et al. 2019 (arXiv 1904.06991), section 2: `precision`, the share of generated
  examples among the real ones, `recall`, the share of real ones among the generated. `Among` is
  within the distance of an example to its k-th neighbour of its own set.

  Of Naeem et al. 2020 (arXiv 2002.09797), section 3: `density`, in how many real neighbourhoods a
  generated example lies, over k; and `coverage`, the share of these neighbourhoods that hold one.
  """

  precision: float
  recall: float
  density: float
  coverage: float


def manifolds(real: np.ndarray, fake: np.ndarray, *, k: int = 3) -> Manifolds:
  """k: which neighbour bounds a neighbourhood. Depends on the numbers of examples, too."""
  real, fake = check_dimensions(real, fake)
  if min(len(real), len(fake)) <= k:
    raise ValueError(f'{min(len(real), len(fake))} examples: must be more than k={k}')
  centre = real.mean(0)  # what distances are computed from should be small
  real, fake = real - centre, fake - centre
  real_radius, fake_radius = radii(real, k), radii(fake, k)
  holds = np.zeros(len(real), bool)
  holding = np.zeros(len(fake), int)
  recalled = 0
  for i in range(0, len(real), ROWS):
    square = squares(real[i : i + ROWS], fake)
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
  """`[N]`: the squared distance to the k-th nearest of the others."""
  parts = (squares(x[i : i + ROWS], x) for i in range(0, len(x), ROWS))
  return np.concatenate([np.partition(part, k, axis=1)[:, k] for part in parts])  # 0th: itself


def squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Squared distances `[n, m]`."""
  square = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
  return square.clip(0)


# -------- shares --------


def share(right: np.ndarray) -> Estimate:
  """The mean of `right`, bool `[N]`, and its standard error; that of one example is 0."""
  mean = float(np.mean(right))
  return Estimate(mean, float(np.sqrt(mean * (1 - mean) / max(len(right) - 1, 1))))


# -------- inputs --------


def checked(features: np.ndarray) -> np.ndarray:
  """float64 `[N, D]`; ValueError for less than two examples, or where one is not finite."""
  features = np.asarray(features, np.float64)
  if features.ndim != 2 or len(features) < 2:
    raise ValueError(f'features of shape {features.shape}: must be [N, D] of 2 examples or more')
  if bad := int((~np.isfinite(features)).any(1).sum()):
    raise ValueError(f'features: those of {bad} of {len(features)} examples are not finite')
  return features


def check_dimensions(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  real, fake = checked(real), checked(fake)
  if real.shape[1] != fake.shape[1]:
    raise ValueError(f'features of {real.shape[1]} and {fake.shape[1]} numbers: must be the same')
  return real, fake
