"""A random permutation that is computed where it is asked for, and never stored."""

import math

import numpy as np

FEISTEL_ROUNDS = 4  # of both halves


def permuted(positions: np.ndarray, size: int, seed: tuple[int, ...]) -> np.ndarray:
  """Returns the images [n] of positions [n] under a random permutation of range(size).

  It is computed, not stored: a Feistel cipher on pairs (p // b, p % b) in a x b >= size values,
  applied again to what falls outside (Black and Rogaway 2002, "Ciphers with arbitrary finite
  domains", method 3).
  """
  a = math.isqrt(size - 1) + 1
  b = -(-size // a)
  keys = np.random.default_rng(seed).integers(0, 1 << 63, (FEISTEL_ROUNDS, 2), np.uint64)

  def encrypt(values: np.ndarray) -> np.ndarray:
    left, right = np.divmod(values, np.uint64(b))
    for first, second in keys:
      left = (left + _mixed(right + first)) % np.uint64(a)
      right = (right + _mixed(left + second)) % np.uint64(b)
    return left * np.uint64(b) + right

  values = encrypt(positions.astype(np.uint64))
  while (outside := values >= size).any():
    values[outside] = encrypt(values[outside])
  return values.astype(np.int64)


def _mixed(values: np.ndarray) -> np.ndarray:
  """Returns a hash of uint64 values below 2^62 (Steele et al. 2014, SplitMix64's finalizer)."""
  values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return (values ^ (values >> np.uint64(31))) >> np.uint64(2)  # a sum with it does not overflow
