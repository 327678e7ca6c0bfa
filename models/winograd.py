"""3x3 convolution of stride 1 by Winograd's minimal filtering: Lavin & Gray 2015 (arXiv 1509.09308).

`F(m x m, 3 x 3)` computes tiles of m x m outputs from tiles of n x n inputs, n = m + 2, as
`Y = A^T [(G g G^T) * (B^T d B)] A` (their equation 8). Summed over the input channels, the product in
the middle is n^2 matrix products over all tiles, 36 / 16 = 2.25 multiplications an output for m = 4,
4 for m = 2, where the definition needs 9. XLA's CPU backend multiplies matrices well and convolves
badly, so it gains more than that. float32 errors are 1e-6 of the largest output for m = 2, 1e-5 for 4.

Both gradients are computed the same way: the input's is the convolution of the output's with the
turned kernel, and the kernel's, by the transpose of the equation, is `G^T [V^T (A dY A^T)] G`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# (B^T, G, A^T) of each m; interpolation points 0, 1, -1, (2, -2,) and infinity.
TRANSFORMS = {
  2: (
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
  ),
  4: (
    np.array(
      [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
      ]
    ),
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
  ),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv3x3(x, kernel, pads, m: int):
  """`[B, H, W, C]` with `[3, 3, C, F]`, padded by `pads` of at most 2, in tiles of `m x m` outputs."""
  height, width = _size(x.shape, pads)
  products = _each(jnp.matmul, _input_tiles(x, pads, m), _sandwich(TRANSFORMS[m][1], _grid(kernel)))
  tiles = _sandwich(TRANSFORMS[m][2], products)  # m x m arrays [B * tiles, F]
  shape = (x.shape[0], -(-height // m), -(-width // m), kernel.shape[-1])
  tiles = [[tile.reshape(shape) for tile in row] for row in tiles]
  y = jnp.stack([jnp.stack(row, 3) for row in tiles], 2)  # [B, T, m, T, m, F]
  return y.reshape(shape[0], shape[1] * m, shape[2] * m, shape[3])[:, :height, :width]


def _forward(x, kernel, pads, m):
  return conv3x3(x, kernel, pads, m), (x, kernel)


def _backward(pads, m, saved, dy):
  x, kernel = saved
  turned = kernel[::-1, ::-1].swapaxes(2, 3)
  dx = conv3x3(dy, turned, tuple((2 - low, 2 - high) for low, high in pads), m)
  products = _each(lambda v, d: v.T @ d, _input_tiles(x, pads, m), _output_tiles(dy, m))
  dkernel = _sandwich(TRANSFORMS[m][1].T, products)
  return dx, jnp.stack([jnp.stack(row) for row in dkernel])


conv3x3.defvjp(_forward, _backward)


def _size(shape, pads):
  return tuple(n + low + high - 2 for n, (low, high) in zip(shape[1:3], pads, strict=True))


def _input_tiles(x, pads, m):
  """`B^T d B` of each n x n tile d of the inputs: n x n arrays `[B * tiles, C]`."""
  tiles = [-(-size // m) for size in _size(x.shape, pads)]
  # Up to the last tile's end; the outputs there are cut off again.
  sides = [(low, t * m + 2 - n - low) for n, (low, _), t in zip(x.shape[1:3], pads, tiles, strict=True)]
  x = jnp.pad(x, ((0, 0), *sides, (0, 0)))
  transform = TRANSFORMS[m][0]
  rows = _combine(transform, [_every(x, i, m, tiles[0], 1) for i in range(m + 2)])
  columns = [[_every(row, j, m, tiles[1], 2) for j in range(m + 2)] for row in rows]
  return [[v.reshape(-1, v.shape[-1]) for v in _combine(transform, row)] for row in columns]


def _output_tiles(dy, m):
  """`A dY A^T` of each m x m tile of the outputs' gradient: n x n arrays `[B * tiles, F]`."""
  height, width = (-size % m for size in dy.shape[1:3])
  dy = jnp.pad(dy, ((0, 0), (0, height), (0, width), (0, 0)))
  dy = dy.reshape(dy.shape[0], dy.shape[1] // m, m, dy.shape[2] // m, m, -1)
  tiles = _sandwich(TRANSFORMS[m][2].T, [[dy[:, :, a, :, b] for b in range(m)] for a in range(m)])
  return [[tile.reshape(-1, tile.shape[-1]) for tile in row] for row in tiles]


def _every(x, start, step, count, axis):
  return lax.slice_in_dim(x, start, start + (count - 1) * step + 1, step, axis)


def _grid(kernel):
  return [list(row) for row in kernel]


def _each(function, left, right):
  return [[function(a, b) for a, b in zip(p, q, strict=True)] for p, q in zip(left, right, strict=True)]


def _sandwich(matrix, grid):
  """`matrix @ grid @ matrix.T` for a grid (list of rows) of arrays."""
  columns = [_combine(matrix, column) for column in zip(*grid, strict=True)]
  return [_combine(matrix, row) for row in zip(*columns, strict=True)]


def _combine(matrix, arrays):
  """`matrix @ arrays` for a list of arrays, spelt out: few entries differ from 0 and 1, and it fuses."""
  out = []
  for row in matrix.tolist():
    terms = [a if c == 1 else c * a for c, a in zip(row, arrays, strict=True) if c]
    out.append(functools.reduce(jnp.add, terms))
  return out
