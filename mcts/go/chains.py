"""Chains of stones on a Go board: their names, liberties and capture, and areas.

A board is `chains`, int32 `[N^2]`, row by row from the top: 0 for an empty point; for a stone the
index of one stone of its chain plus 1, the same for all of the chain, positive for black and
negative for white. A chain's name is its own as long as it lives.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata

COUNT_BITS = 11  # a board of 25 x 25 has 1,200 pairs of neighbours


def in_memory(*arrays: Array):
  """The same arrays, computed once and stored before anything uses them, on a CPU.

  XLA:CPU fuses cheap producers into every consumer, even into a gather that reads each element
  several times. It fuses nothing through a call that must not be inlined.
  """
  if jax.default_backend() == 'cpu':
    with set_xla_metadata(inlineable='false'):
      arrays = _identity(arrays)
  return arrays if len(arrays) > 1 else arrays[0]


_identity = jax.jit(lambda x: x)


@functools.cache
def neighbour_table(size: int) -> np.ndarray:
  """`[N^2 + 1, 4]`: the points above, below, left and right; N^2 beyond the edge, and of N^2."""
  points = size * size
  padded = np.full((size + 2, size + 2), points, np.int32)
  padded[1:-1, 1:-1] = np.arange(points).reshape(size, size)
  sides = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
  table = np.stack([x.ravel() for x in sides], -1)
  return np.concatenate([table, np.full((1, 4), points, np.int32)])


def neighbours(x: Array, size: int) -> list[Array]:
  """Of `[N^2]` the values above, below, left and right of each point, zero beyond the edge."""
  column = np.arange(size * size) % size
  zero = jnp.zeros((), x.dtype)
  shift = lambda n: lax.pad(x, zero, [(n, -n, 0)])  # noqa: E731
  left = jnp.where(column == 0, zero, shift(1))
  right = jnp.where(column == size - 1, zero, shift(-1))
  return [shift(size), shift(-size), left, right]


# A board with a border is a row above, N rows of N points and one more, and a row below, in one
# vector `[(N + 2) (N + 1)]`: all neighbours lie at fixed distances, which XLA:CPU reads as vectors.


def border(x: Array, size: int) -> Array:
  """`[N^2]` with a border of zeros."""
  return in_memory(jnp.pad(x.reshape(size, size), ((1, 1), (0, 1))).reshape(-1))


def on_board(size: int) -> np.ndarray:
  """The mask of what is not border, `[(N + 2) (N + 1)]`."""
  return np.pad(np.ones((size, size), bool), ((1, 1), (0, 1))).ravel()


def sides(x: Array, size: int) -> list[Array]:
  """Of a board with border the values above, below, left and right of each point `[N (N + 1)]`."""
  width = size + 1
  return [x[i : i + size * width] for i in (0, 2 * width, width - 1, width + 1)]


def middle(x: Array, size: int) -> Array:
  """A board with border without its first and last row, `[N (N + 1)]`, as `sides`."""
  return x[size + 1 : (size + 1) ** 2]


def inside(x: Array, size: int) -> Array:
  """The points `[..., N^2]` of `[..., N (N + 1)]`."""
  x = x.reshape(*x.shape[:-1], size, size + 1)[..., :size]
  return x.reshape(*x.shape[:-2], size * size)


def any_of(masks: list[Array]) -> Array:
  return functools.reduce(jnp.logical_or, masks)


def sums_by_chain(chains: Array, values: Array, points: int | None = None) -> Array:
  """`[N^2 + 1, K]`: the sum of values `[L, K]` over each chain, by the absolute name.

  points: N^2, where chains `[L]` have other elements than the points.
  """
  points = chains.shape[0] if points is None else points
  sums = jnp.zeros_like(values, shape=(points + 1, values.shape[1]))
  return sums.at[jnp.abs(chains)].add(values, mode='promise_in_bounds')


def liberties(chains: Array, size: int) -> Array:
  """`[N^2, 2]`: `bordered_liberties` of a board without border."""
  found = bordered_liberties(border(chains, size), size)
  return jnp.stack([inside(x, size) for x in found], -1)


def bordered_liberties(chains: Array, size: int) -> list[Array]:
  """uint32 `[N (N + 1)]` twice, of each point's empty neighbours x, numbered as on a board with
  border: their number, with the sum of x above it (`COUNT_BITS`), and the sum of x^2.

  Summed over a chain the number is that of its pseudo-liberties: each liberty counts once for every
  stone that it touches. So an empty point is a chain's only liberty exactly if it touches as many
  of its stones as the chain has pseudo-liberties; no set of liberties needs to be kept.
  """
  empty = (chains == 0) & on_board(size)
  index = np.arange(chains.shape[0], dtype=np.uint32)
  values = (jnp.where(empty, 1 + (index << COUNT_BITS), 0), jnp.where(empty, index * index, 0))
  return [sum(sides(in_memory(x), size)) for x in values]


def count_of(word: Array) -> Array:
  """The number in the first word of `bordered_liberties`."""
  return word & np.uint32(2**COUNT_BITS - 1)


def in_atari(word: Array, squares: Array) -> Array:
  """Whether a chain has one liberty, by its sums of the two of `bordered_liberties`.

  Of n numbers that are all equal, and of no others, n times the sum of squares is the square of the
  sum. Modulo 2^32 some other chain might pass.
  """
  total = word >> COUNT_BITS
  return count_of(word) * squares == total * total


def shared(ids: list[Array]) -> list[Array]:
  """For each of four neighbours' chains, how many of the four belong to it."""
  return [sum((a == b).astype(jnp.uint32) for b in ids) for a in ids]


def firsts(ids: list[Array]) -> list[Array]:
  """For each of four neighbours, whether no earlier one belongs to its chain."""
  none = jnp.ones_like(ids[0], dtype=bool)
  return [
    functools.reduce(jnp.logical_and, [a != b for b in ids[:j]], none) for j, a in enumerate(ids)
  ]


def label(stones: Array, size: int) -> Array:
  """Chains of a board that is given as int8 or so `[N^2]`: positive black, negative white, 0 empty.

  Each round every stone takes the largest name around and then the name of the stone that it is
  named after, so names travel in jumps that double.
  """
  colour = jnp.sign(stones).astype(jnp.int32)
  sides = [(side == colour) & (colour != 0) for side in neighbours(colour, size)]
  start = jnp.where(colour != 0, jnp.arange(1, size * size + 1), 0)

  def spread(carry):
    name, _ = carry
    around = [jnp.where(same, x, 0) for same, x in zip(sides, neighbours(name, size), strict=True)]
    new = in_memory(functools.reduce(jnp.maximum, around, name))
    new = jnp.where(colour != 0, new[jnp.maximum(new - 1, 0)], 0)
    new = in_memory(new)
    return new, jnp.any(new != name)

  name, _ = lax.while_loop(lambda carry: carry[1], spread, (start, jnp.any(start >= 0)))
  return name * colour


def eyes(view: Array, size: int) -> Array:
  """bool `[N^2]`: empty points whose neighbours are all own (positive), and safe.

  Safe if the opponent has at most one of the diagonal neighbours, at the edge none.
  """
  board = jnp.pad(jnp.sign(view).reshape(size, size), 1, constant_values=2)  # 2: beyond the edge
  at = lambda y, x: board[1 + y : 1 + y + size, 1 + x : 1 + x + size]  # noqa: E731
  around = [at(y, x) for y, x in ((-1, 0), (1, 0), (0, -1), (0, 1))]
  corners = [at(y, x) for y in (-1, 1) for x in (-1, 1)]
  hostile = sum((corner == -1).astype(jnp.int32) for corner in corners)
  edge = any_of([corner == 2 for corner in corners])
  surrounded = functools.reduce(jnp.logical_and, [side > 0 for side in around])
  return ((at(0, 0) == 0) & surrounded & (hostile <= jnp.where(edge, 0, 1))).reshape(-1)


# -------- rows of bits --------


def rows(mask: Array, size: int) -> Array:
  """A mask `[N^2]` as uint32 `[N]`, bit c of row r for point (r, c)."""
  bits = mask.reshape(size, size).astype(jnp.uint32) << np.arange(size, dtype=np.uint32)[None]
  return bits.sum(1, dtype=jnp.uint32)


def from_rows(x: Array, size: int) -> Array:
  """The mask `[N^2]` of `rows`."""
  bits = x[:, None] >> np.arange(size, dtype=np.uint32)[None]
  return (bits & 1).astype(bool).reshape(size * size)


def areas(chains: Array, size: int) -> tuple[Array, Array]:
  """Masks `[N^2]` of black's area and of white's: stones, and empty points reaching one colour."""
  empty = rows(chains == 0, size)
  stones = jnp.stack([rows(chains > 0, size), rows(chains < 0, size)])
  open_to = stones | empty[None]

  def dilate(carry):
    x, _ = carry
    none = jnp.zeros_like(x[:, :1])
    up, down = jnp.concatenate([x[:, 1:], none], 1), jnp.concatenate([none, x[:, :-1]], 1)
    new = (x | x << 1 | x >> 1 | up | down) & open_to
    return new, jnp.any(new != x)

  (black, white), _ = lax.while_loop(lambda c: c[1], dilate, (stones, jnp.any(empty >= 0)))
  return from_rows(black & ~white, size), from_rows(white & ~black, size)


# -------- bitboards --------


def bitboard(mask: Array) -> Array:
  """A mask `[N^2]` as uint32 words `[ceil(N^2 / 32)]`."""
  words = -(-mask.shape[0] // 32)
  bits = jnp.pad(mask.astype(jnp.uint32), (0, 32 * words - mask.shape[0])).reshape(words, 32)
  return (bits << np.arange(32, dtype=np.uint32)[None]).sum(1, dtype=jnp.uint32)


def from_bitboard(words: Array, points: int) -> Array:
  """The mask `[N^2]` of `bitboard`."""
  bits = words[:, None] >> np.arange(32, dtype=np.uint32)[None]
  return (bits & 1).astype(bool).reshape(-1)[:points]
