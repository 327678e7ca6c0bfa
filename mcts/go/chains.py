"""Chains of stones on a Go board: their ids, liberties and capture, and area.

Layouts of a board of size N; point (row, column) has row 0 at the top.

  flat       `[N^2]`            index row * N + column
  padded     `[N (N + 1)]`      index row * (N + 1) + column: each row ends with one empty column
  bordered   `[(N + 2)(N + 1)]` padded, with an empty row above and one below

On a padded board the neighbours of index i are i - (N + 1), i + (N + 1), i - 1 and i + 1, and what
lies beyond the left or right edge is the empty column. The border rows do the same for top and
bottom, so that a neighbour is a plain slice, which XLA:CPU vectorises where it would not a gather.

`chains` is a board of int32: 0 for an empty point; for a stone the id of its chain, negated for
white. An id is the flat index of one stone of the chain plus 1, so that ids are in [1, N^2] and
tables by chain have N^2 + 1 rows, row 0 for no chain. Which stone gives the id does not matter.

Liberties are counted without sets, by *pseudo-liberties*: each empty point counts once for every
stone of the chain that it touches. `pseudo_liberties` gives each stone its sums over its empty
neighbours, which `sum_by_chain` adds up; a chain is in atari exactly if all of its
pseudo-liberties are one point, which their number, sum and sum of squares tell (`in_atari`).
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import forms
from models.cpu import order

COUNT_BITS = 11  # a board of 25 x 25 has 1,200 pairs of neighbours


def materialize(*arrays: Array):
  """Returns the same arrays, on a CPU computed once and stored before anything uses them.

  XLA:CPU fuses cheap producers into every consumer, even into a gather that reads each element
  several times (`models.cpu.order.apart`).
  """
  if forms.formulation() == 'cpu':
    arrays = order.apart(arrays)
  return arrays if len(arrays) > 1 else arrays[0]


# -------- neighbours --------


@functools.cache
def neighbour_table(size: int) -> np.ndarray:
  """Returns int32 `[N^2 + 1, 4]`: the flat indices above, below, left and right of each point.

  N^2 stands for what is beyond the edge; row N^2 (the pass) has four of these.
  """
  points = size * size
  padded = np.full((size + 2, size + 2), points, np.int32)
  padded[1:-1, 1:-1] = np.arange(points).reshape(size, size)
  neighbours = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
  table = np.stack([x.ravel() for x in neighbours], -1)
  return np.concatenate([table, np.full((1, 4), points, np.int32)])


def neighbours(x: Array, size: int) -> list[Array]:
  """Returns the values above, below, left and right of each point, zero beyond the edge.

  Args:
    x: `[N^2]`, a flat board.
    size: N.
  """
  column = np.arange(size * size) % size
  zero = jnp.zeros((), x.dtype)
  # A pad that is negative at one end shifts without a gather.
  shift = lambda n: lax.pad(x, zero, [(n, -n, 0)])  # noqa: E731
  # Across the left edge lies the last point of the row above, which is no neighbour.
  left = jnp.where(column == 0, zero, shift(1))
  right = jnp.where(column == size - 1, zero, shift(-1))
  return [shift(size), shift(-size), left, right]


def add_border(x: Array, size: int) -> Array:
  """Returns the flat board `[N^2]` as a bordered one, `[(N + 2)(N + 1)]`, zeros on the border."""
  return materialize(jnp.pad(x.reshape(size, size), ((1, 1), (0, 1))).reshape(-1))


def is_point(size: int) -> np.ndarray:
  """Returns bool `[(N + 2)(N + 1)]`: which entries of a bordered board are points."""
  return np.pad(np.ones((size, size), bool), ((1, 1), (0, 1))).ravel()


def bordered_neighbours(x: Array, size: int) -> list[Array]:
  """Returns padded boards `[N (N + 1)]`: the bordered x above, below, left and right."""
  width = size + 1
  return [x[i : i + size * width] for i in (0, 2 * width, width - 1, width + 1)]


def drop_border_rows(x: Array, size: int) -> Array:
  """Returns the padded board `[N (N + 1)]` of a bordered one."""
  return x[size + 1 : (size + 1) ** 2]


def drop_padding(x: Array, size: int) -> Array:
  """Returns the flat boards `[..., N^2]` of padded ones `[..., N (N + 1)]`."""
  x = x.reshape(*x.shape[:-1], size, size + 1)[..., :size]
  return x.reshape(*x.shape[:-2], size * size)


def any_of(masks: list[Array]) -> Array:
  """Returns the elementwise "or" of masks of one shape."""
  return functools.reduce(jnp.logical_or, masks)


# -------- liberties --------


def sum_by_chain(chains: Array, values: Array, points: int | None = None) -> Array:
  """Returns `[N^2 + 1, K]`: the sum of values over the stones of each chain, by chain id.

  Args:
    chains: `[L]`, a board of any layout.
    values: `[L, K]`.
    points: N^2, needed where L is not N^2.
  """
  points = chains.shape[0] if points is None else points
  sums = jnp.zeros_like(values, shape=(points + 1, values.shape[1]))
  # Colours need no tables of their own: an id is a stone's index, so no two chains share one. Row 0
  # collects what stands on empty points, and means nothing.
  return sums.at[jnp.abs(chains)].add(values, mode='promise_in_bounds')


def pseudo_liberties(chains: Array, size: int) -> Array:
  """Returns uint32 `[N^2, 2]`: `bordered_pseudo_liberties` of flat chains `[N^2]`."""
  words = bordered_pseudo_liberties(add_border(chains, size), size)
  return jnp.stack([drop_padding(x, size) for x in words], -1)


def bordered_pseudo_liberties(chains: Array, size: int) -> list[Array]:
  """Returns two padded boards of uint32 `[N (N + 1)]`, sums over each point's empty neighbours.

  Let x be a neighbour's index on the bordered board. The first word is the neighbours' number, with
  the sum of x above its lowest `COUNT_BITS` bits; the second is the sum of x^2. Both wrap modulo
  2^32. `pseudo_liberty_count` and `in_atari` read their sums over a chain.

  Args:
    chains: `[(N + 2)(N + 1)]`, a bordered board.
    size: N.
  """
  empty = (chains == 0) & is_point(size)  # the border is 0 as well
  index = np.arange(chains.shape[0], dtype=np.uint32)
  words = (jnp.where(empty, 1 + (index << COUNT_BITS), 0), jnp.where(empty, index * index, 0))
  return [sum_of(bordered_neighbours(materialize(x), size)) for x in words]


def pseudo_liberty_count(word: Array) -> Array:
  """Returns the number of pseudo-liberties in the first of the two words."""
  return word & np.uint32(2**COUNT_BITS - 1)


def in_atari(word: Array, squares: Array) -> Array:
  """Returns whether a chain has exactly one liberty, by its sums of the two words.

  By Cauchy-Schwarz n * sum(x^2) = (sum x)^2 holds exactly if all n numbers x are equal. The
  arithmetic is modulo 2^32, so that a chain of several liberties might pass too. No rule depends on
  that: superko (`moves.legal`) would only compare with more positions than it must.
  """
  total = word >> COUNT_BITS  # sum x
  return pseudo_liberty_count(word) * squares == total * total


def sum_of(arrays: list[Array]) -> Array:
  """Returns the elementwise sum of arrays of one shape, from the first to the last."""
  return sum(arrays[1:], arrays[0])


def same_chain_counts(ids: list[Array]) -> list[Array]:
  """Returns how many of a point's four neighbours are of each one's chain.

  A chain whose pseudo-liberties are that many has this point as its only liberty: a stone here by
  the opponent captures it.
  """
  return [sum_of([(a == b).astype(jnp.uint32) for b in ids]) for a in ids]


def is_first_of_chain(ids: list[Array]) -> list[Array]:
  """Returns which of a point's four neighbours have none of their chain before them.

  So what a chain contributes to a sum over neighbours is added once.
  """
  none = jnp.ones_like(ids[0], dtype=bool)
  return [
    functools.reduce(jnp.logical_and, [a != b for b in ids[:j]], none) for j, a in enumerate(ids)
  ]


# -------- whole boards --------


def label(stones: Array, size: int) -> Array:
  """Returns chains int32 `[N^2]` of a board given by its stones alone.

  Each round every stone takes the largest id around it, and then the id of the stone that this id
  points to (pointer jumping), so that the number of rounds is logarithmic in a chain's length.

  Args:
    stones: `[N^2]`, any integers: positive for black, negative for white, 0 for empty.
    size: N.
  """
  colour = jnp.sign(stones).astype(jnp.int32)
  # 4 of [N^2], the same in every round.
  same_colour = [(side == colour) & (colour != 0) for side in neighbours(colour, size)]
  start = jnp.where(colour != 0, jnp.arange(1, size * size + 1), 0)  # each stone a chain

  def spread(carry):
    ids, _ = carry
    around = [
      jnp.where(same, x, 0) for same, x in zip(same_colour, neighbours(ids, size), strict=True)
    ]
    new = materialize(functools.reduce(jnp.maximum, around, ids))
    # An id names a stone of the same chain, so that stone's id is of this chain, too.
    new = jnp.where(colour != 0, new[jnp.maximum(new - 1, 0)], 0)
    new = materialize(new)
    return new, jnp.any(new != ids)

  # `start >= 0` is always true: a way to write True that varies over devices as the carry does.
  ids, _ = lax.while_loop(lambda carry: carry[1], spread, (start, jnp.any(start >= 0)))
  return ids * colour


def eyes(view: Array, size: int) -> Array:
  """Returns bool `[N^2]`: the simple eyes of the player whose stones are positive.

  An eye is an empty point whose neighbours are all the player's, where the opponent has at most
  one of the four diagonal neighbours, or at the edge none. It is the usual test of playouts: a move
  there never helps, but some of these eyes are false.

  Args:
    view: `[N^2]`, chains or stones, the player's positive.
    size: N.
  """
  board = jnp.pad(jnp.sign(view).reshape(size, size), 1, constant_values=2)  # 2: beyond the edge
  at = lambda y, x: board[1 + y : 1 + y + size, 1 + x : 1 + x + size]  # noqa: E731
  around = [at(y, x) for y, x in ((-1, 0), (1, 0), (0, -1), (0, 1))]
  corners = [at(y, x) for y in (-1, 1) for x in (-1, 1)]
  # Two opposing corners make an eye false in the middle, one at the edge.
  hostile = sum_of([(corner == -1).astype(jnp.int32) for corner in corners])
  edge = any_of([corner == 2 for corner in corners])
  surrounded = functools.reduce(jnp.logical_and, [side > 0 for side in around])
  return ((at(0, 0) == 0) & surrounded & (hostile <= jnp.where(edge, 0, 1))).reshape(-1)


def areas(chains: Array, size: int) -> tuple[Array, Array]:
  """Returns black's area and white's, bool `[N^2]` each (docs/go_rules.md, "The end").

  A player's area is its stones and the empty points that reach its colour alone. Both colours flood
  the empty points at once, a row of bits a word.
  """
  empty = to_bit_rows(chains == 0, size)
  stones = jnp.stack([to_bit_rows(chains > 0, size), to_bit_rows(chains < 0, size)])
  open_to = stones | empty[None]  # [2, N]: each colour floods its own stones and what is empty

  def dilate(carry):
    x, _ = carry
    none = jnp.zeros_like(x[:, :1])
    up, down = jnp.concatenate([x[:, 1:], none], 1), jnp.concatenate([none, x[:, :-1]], 1)
    # Bits that leave a row are on no point of `open_to`.
    new = (x | x << 1 | x >> 1 | up | down) & open_to
    return new, jnp.any(new != x)

  (black, white), _ = lax.while_loop(lambda c: c[1], dilate, (stones, jnp.any(empty >= 0)))
  # What both reach is neutral: no stone stands there, and it touches both colours.
  return from_bit_rows(black & ~white, size), from_bit_rows(white & ~black, size)


# -------- bits --------


def to_bit_rows(mask: Array, size: int) -> Array:
  """Returns uint32 `[N]` of a mask `[N^2]`: bit c of word r is point (r, c)."""
  bits = mask.reshape(size, size).astype(jnp.uint32) << np.arange(size, dtype=np.uint32)[None]
  return bits.sum(1, dtype=jnp.uint32)


def from_bit_rows(x: Array, size: int) -> Array:
  """Returns the mask bool `[N^2]` of bit rows `[N]`."""
  bits = x[:, None] >> np.arange(size, dtype=np.uint32)[None]
  return (bits & 1).astype(bool).reshape(size * size)


def to_bitboard(mask: Array) -> Array:
  """Returns uint32 `[ceil(N^2 / 32)]` of a mask `[N^2]`: bit i % 32 of word i // 32 is point i."""
  words = -(-mask.shape[0] // 32)
  bits = jnp.pad(mask.astype(jnp.uint32), (0, 32 * words - mask.shape[0])).reshape(words, 32)
  return (bits << np.arange(32, dtype=np.uint32)[None]).sum(1, dtype=jnp.uint32)


def from_bitboard(words: Array, points: int) -> Array:
  """Returns the mask bool `[points]` of a bitboard."""
  bits = words[:, None] >> np.arange(32, dtype=np.uint32)[None]
  return (bits & 1).astype(bool).reshape(-1)[:points]
