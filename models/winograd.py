"""Convolution of stride 1 by Winograd's minimal filtering: Lavin & Gray 2015 (arXiv 1509.09308).

`F(m x m, r x r)` computes tiles of m x m outputs from tiles of n x n inputs, n = m + r - 1, as
`Y = A^T [(G g G^T) * (B^T d B)] A` (their equation 8). Summed over the input channels, the product
in the middle is n^2 matrix products over all tiles: of F(4 x 4, 3 x 3) 36 / 16 = 2.25
multiplications an output where the definition needs 9, of F(4 x 4, 5 x 5) 4 and not 25. XLA's CPU
backend multiplies matrices well and convolves badly, so it gains more than that. Against the
definition, float32 results differ by about 1e-6 of the largest output for n = 4, 1e-5 for more.
"""

import functools
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models.barrier import apart

# The more points, the worse the rounding: those with small powers come first.
POINTS = tuple(map(Fraction, ('0', '1', '-1', '2', '-2', '1/2', '-1/2')))

Pads = tuple[tuple[int, int], tuple[int, int]]


@functools.cache
def transforms(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(B^T, G, A^T) of F(m, r), after Cook and Toom.

  They multiply polynomials of m and of r coefficients by their values at n - 1 points and at
  infinity, between which they interpolate after Lagrange; the filter is the transpose of that.
  """
  points = POINTS[: m + r - 2]
  basis = [_polynomial([b for b in points if b != a]) for a in points]
  scale = [sum(c * a**k for k, c in enumerate(p)) for a, p in zip(points, basis, strict=True)]
  BT = [[*p, 0] for p in basis] + [_polynomial(points)]
  G = [[a**k / s for k in range(r)] for a, s in zip(points, scale, strict=True)]
  AT = [[a**i for a in points] + [int(i == m - 1)] for i in range(m)]
  return tuple(np.array(x, float) for x in (BT, [*G, [0] * (r - 1) + [1]], AT))


def _polynomial(roots):
  """Its coefficients, the constant first."""
  coefficients = [Fraction(1)]
  for root in roots:
    shifted = zip([0, *coefficients], [*coefficients, 0], strict=True)
    coefficients = [up - root * same for up, same in shifted]
  return coefficients


def convolve(x: Array, kernel: Array, pads: Pads, m: int) -> Array:
  """`[B, H, W, C]` with `[r, r, C, F]`, padded by less than r: `[B, H', W', F]`."""
  r = kernel.shape[0]
  _, G, AT = transforms(m, r)
  height, width = output_size(x.shape, pads, r)
  inputs = _input_tiles(x, pads, m, r)
  rows = apart(_combine(G, list(kernel), 0))  # [n, r, C, F]
  kernels = [u for row in rows for u in _each(G, list(row))]
  # One product each: XLA:CPU is slower at all of them as one batch.
  products = [a @ b for a, b in zip(inputs, kernels, strict=True)]
  tiles = (x.shape[0], -(-height // m), -(-width // m), kernel.shape[3])
  products = [p.reshape(tiles) for p in products]
  n = m + r - 1
  columns = [apart(_combine(AT, products[v::n], 2)) for v in range(n)]
  y = _combine(AT, columns, 4)  # [B, T, m, T, m, F]
  return y.reshape(tiles[0], tiles[1] * m, tiles[2] * m, tiles[3])[:, :height, :width]


def kernel_gradient(x: Array, dy: Array, pads: Pads, m: int, r: int) -> Array:
  """The gradient `[r, r, C, F]` of a kernel: `G^T [sum of (B^T d B)^T (A dY A^T)] G`."""
  n, G = m + r - 1, transforms(m, r)[1]
  inputs, outputs = _input_tiles(x, pads, m, r), _output_tiles(dy, m, r)
  products = [a.T @ b for a, b in zip(inputs, outputs, strict=True)]
  rows = _combine(G.T, [jnp.stack(products[u * n : (u + 1) * n]) for u in range(n)], 0)
  return _combine(G.T, [rows[:, v] for v in range(n)], 1)


def output_size(shape, pads: Pads, window: int) -> tuple[int, int]:
  height, width = (n + sum(side) - window + 1 for n, side in zip(shape[1:3], pads, strict=True))
  return height, width


def _input_tiles(x, pads, m, r):
  """`B^T d B` of each n x n tile d of the inputs: n^2 arrays `[B * tiles, C]`."""
  BT, n = transforms(m, r)[0], m + r - 1
  tiles = [-(-size // m) for size in output_size(x.shape, pads, r)]
  # The last tiles may reach beyond the image; those outputs are cut off again.
  sides = [(pads[i][0], tiles[i] * m + r - 1 - x.shape[i + 1] - pads[i][0]) for i in (0, 1)]
  x = apart(pad(x, *sides))
  rows = apart(_combine(BT, [_every(x, i, m, tiles[0], 1) for i in range(n)], 0))
  columns = [_every(rows, j, m, tiles[1], 3) for j in range(n)]
  return [v.reshape(-1, x.shape[-1]) for u in range(n) for v in _each(BT, [c[u] for c in columns])]


def _output_tiles(dy, m, r):
  """`A dY A^T` of each m x m tile of the outputs' gradient: n^2 arrays `[B * tiles, F]`."""
  A, n = transforms(m, r)[2].T, m + r - 1
  dy = apart(pad(dy, *((0, -size % m) for size in dy.shape[1:3])))
  dy = dy.reshape(dy.shape[0], dy.shape[1] // m, m, dy.shape[2] // m, m, -1)
  rows = apart(_combine(A, [dy[:, :, i] for i in range(m)], 0))  # [n, B, T, T, m, F]
  columns = [rows[..., j, :] for j in range(m)]
  return [v.reshape(-1, dy.shape[-1]) for u in range(n) for v in _each(A, [c[u] for c in columns])]


def pad(x, height, width):
  """By (low, high) of the image's sides, of which high may be negative."""
  return lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), (*height, 0), (*width, 0), (0, 0, 0)))


def _every(x, start, step, count, axis):
  return lax.slice_in_dim(x, start, start + (count - 1) * step + 1, step, axis)


def _each(matrix, arrays):
  """`matrix @ arrays`, each result an array and an expression of its own."""
  rows = [[c * a for c, a in zip(row, arrays, strict=True) if c] for row in matrix.tolist()]
  return [sum(terms[1:], start=terms[0]) for terms in rows]


def _combine(matrix, arrays, axis):
  """`matrix @ arrays`, the results along a new axis: one expression, so that XLA makes one loop."""
  shape = [1] * (arrays[0].ndim + 1)
  shape[axis] = -1
  columns = matrix.T.astype(arrays[0].dtype)
  terms = [
    jnp.expand_dims(a, axis) * c.reshape(shape) for a, c in zip(arrays, columns, strict=True)
  ]
  return sum(terms[1:], start=terms[0])
