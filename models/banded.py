"""Convolution of few channels, stride 1, as the product of tiles with a banded matrix.

A convolution such as LeNet's, from 1 channel to 6, is too thin for XLA's CPU backend to run well.
With s x s pixels taken as one it has `s^2 C` channels in and `s^2 F` out, and a matrix of weights
of which some are zeros: more multiplications, in a form that runs well.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from models.barrier import apart
from models.winograd import Pads, output_size, pad


def convolve(x: Array, kernel: Array, pads: Pads, s: int) -> Array:
  """`[B, H, W, C]` with `[h, h, C, F]`: `[B, H', W', F]`, a product for each s x s of these."""
  h, F = kernel.shape[0], kernel.shape[3]
  height, width = output_size(x.shape, pads, h)
  tiles = (-(-height // s), -(-width // s))
  reach = -(-(s + h - 1) // s)  # an output's tile and the inputs' tiles that it sees, a side
  x = _tiles(x, pads, s, *(t + reach - 1 for t in tiles))
  parts = [x[:, i : i + tiles[0], j : j + tiles[1]] for i in range(reach) for j in range(reach)]
  rows = apart(jnp.concatenate(parts, -1))
  y = apart(rows.reshape(-1, rows.shape[-1]) @ apart(_band(kernel, s, reach)))
  y = y.reshape(-1, *tiles, s, s, F).swapaxes(2, 3)
  return y.reshape(-1, tiles[0] * s, tiles[1] * s, F)[:, :height, :width]


def _tiles(x, pads, s, rows, columns):
  """`[B, rows, columns, s * s * C]`: the padded image's tiles, zeros beyond it."""
  sizes = zip(x.shape[1:3], pads, (rows, columns), strict=True)
  x = pad(x, *((low, count * s - n - low) for n, (low, _), count in sizes))
  x = x.reshape(x.shape[0], rows, s, columns, s, -1)
  return apart(x.swapaxes(2, 3)).reshape(x.shape[0], rows, columns, -1)


def _band(kernel, s, reach):
  """`[reach^2 s^2 C, s^2 F]`: the weight of each input of a tile for each of its outputs."""
  h, _, C, F = kernel.shape
  inputs, outputs, taps = np.ogrid[: reach * s, :s, :h]
  seen = (inputs - outputs == taps).astype(np.float32)
  seen = np.einsum('iqa,jrb->ijqrab', seen, seen).reshape(-1, h * h).astype(kernel.dtype)
  band = (seen @ kernel.reshape(h * h, -1)).reshape(reach, s, reach, s, s, s, C, F)
  return band.transpose(0, 2, 1, 3, 6, 4, 5, 7).reshape(-1, s * s * F)
