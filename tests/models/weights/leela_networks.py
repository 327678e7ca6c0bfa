"""Small random networks in Leela Zero's format, and the format's definition in NumPy."""

import numpy as np

from models.weights import leelaz
from models.weights.leelaz import NetworkSizes


def random_arrays(seed: int, size: int, blocks: int = 1, channels: int = 4) -> list[np.ndarray]:
  """Returns the arrays of a network with biases, means and variances that all matter."""
  rng = np.random.default_rng(seed)
  arrays = []
  for what, count in NetworkSizes(size, blocks, channels, 2, 1, 256).lines:
    outputs = count if 'kernel' not in what and 'weights' not in what else None
    if 'variances' in what:
      arrays.append(rng.uniform(0.3, 2.0, count))
    elif outputs:
      arrays.append(rng.normal(0, 0.2, count))
    else:
      scale = 0.3 if 'kernel' in what else 0.1
      arrays.append(rng.normal(0, scale, count))
  return [array.astype(np.float32) for array in arrays]


def planes_of(boards: np.ndarray, black: bool) -> np.ndarray:
  """Returns Leela Zero's 18 planes `[18, N, N]`, the lowest row first.

  Args:
    boards: `[8, N, N]`, the newest first; 1 black, -1 white, row 0 at the top.
    black: whether black is to move.
  """
  own = boards if black else -boards
  whole = np.ones_like(boards[:1])
  planes = [own == 1, own == -1, whole == black, whole != black]
  return np.concatenate(planes).astype(np.float64)[:, ::-1]


def forward(arrays, planes: np.ndarray) -> tuple[np.ndarray, float]:
  """Returns the move probabilities `[N^2 + 1]` and the tanh of the value, as they are defined."""
  size = planes.shape[1]
  lines = iter([array.astype(np.float64) for array in arrays])

  def conv(x, window):
    kernel, bias, mean, var = (next(lines) for _ in range(4))
    kernel = kernel.reshape(len(bias), len(x), window, window)
    y = np.zeros((len(bias), size, size))
    wide = np.pad(x, ((0, 0), (window // 2,) * 2, (window // 2,) * 2))
    for i in range(window):
      for j in range(window):
        y += np.einsum('oc,cyx->oyx', kernel[:, :, i, j], wide[:, i : i + size, j : j + size])
    y = y + bias[:, None, None] - mean[:, None, None]
    return y / np.sqrt(var[:, None, None] + 1e-5)

  def dense(x):
    weights, bias = next(lines), next(lines)
    return weights.reshape(len(bias), -1) @ x.ravel() + bias

  x = np.maximum(conv(planes, 3), 0)
  for _ in range((len(arrays) - 18) // 8):
    y = np.maximum(conv(x, 3), 0)
    x = np.maximum(conv(y, 3) + x, 0)
  logits = dense(np.maximum(conv(x, 1), 0))
  hidden = np.maximum(dense(np.maximum(conv(x, 1), 0)), 0)
  exp = np.exp(logits - logits.max())
  return exp / exp.sum(), float(np.tanh(dense(hidden)[0]))


def written(path, seed: int = 0, size: int = 19, version: int = 1, **sizes: int):
  """Writes a random network; returns its path and arrays."""
  arrays = random_arrays(seed, size, **sizes)
  leelaz.write(path, arrays, version)
  return path, arrays
