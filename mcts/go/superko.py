"""The record of a game of Go, and which moves would repeat one of its positions.

A position's hash is a Zobrist hash by addition: the sum, modulo 2^32 in each of two words, of a
random 64-bit key for each stone on the board (colour and point). Two different positions have the
same hash with probability 2^-64. A sum can be taken apart: a stone's key is added when it is played
and subtracted when it is captured.

Hashes of all past positions would take 5.8 KB at 19x19. Instead the state keeps, for every stone
ever placed, its point and the time at which it was captured, 19 bits a turn. All past positions and
their hashes follow from that, backwards from the present one.

Time: position s is the board after s turns, and entry s of the record is the turn from position s
to s + 1. Stones set up before the first turn come first, as entries without a position of their
own. So a stone of entry e is on board s exactly if e < s and it was not captured at or before s.

Arrays, with M = `max_moves`, the most entries a record holds:

  point        int32 `[M]`, where the entry's stone was placed; N^2 for a pass
  captured_at  int32 `[M]`, the first position without that stone; 0 if it still stands
  stone        int32 `[M]`, colour * (N^2 + 1) + point, colour 0 for black: a row of `zobrist_keys`
"""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.go.chains import materialize

SEED = 2016
BLOCK = 16  # turns that `repeats` takes back at a time


@functools.cache
# Sums instead of the usual XOR, since scatters can add: `chains.sum_by_chain` hashes all chains.
def zobrist_keys(points: int) -> np.ndarray:
  """Returns uint32 `[2 (N^2 + 1), 2]`: the key of each stone, and zeros for the two passes."""
  random = np.random.default_rng(SEED)
  table = random.integers(2**32, size=(2, points + 1, 2), dtype=np.uint32)
  table[:, -1] = 0  # a pass changes no hash
  return table.reshape(-1, 2)


@dataclasses.dataclass(frozen=True)
class Packing:
  """The layout of a record in memory: point and time of capture of an entry share few bits.

  An entry is the number `point | captured_at << point_bits`. Its low 16 bits are one uint16 of
  `record`; the high bits of `entries_per_word` entries share a uint32 word of `record_high`. Word w
  holds entries w, w + num_words, w + 2 num_words, ... , in `high_bits` bits each from the lowest.

  Attributes:
    max_moves: M, the most entries.
    points: N^2.
  """

  max_moves: int
  points: int

  @property
  def point_bits(self) -> int:
    """Returns how many bits a point takes, N^2 for the pass included."""
    return self.points.bit_length()

  @property
  def high_bits(self) -> int:
    """Returns how many bits of an entry are beyond the first 16."""
    return max(0, self.point_bits + self.max_moves.bit_length() - 16)

  @property
  def entries_per_word(self) -> int:
    """Returns how many entries' high bits share a word."""
    return 32 // self.high_bits if self.high_bits else 1

  @property
  def num_words(self) -> int:
    """Returns the length of `record_high`."""
    return math.ceil(self.max_moves / self.entries_per_word) if self.high_bits else 0

  def unpack(self, low: Array, high: Array) -> tuple[Array, Array]:
    """Returns (point, captured_at), int32 `[M]` each, of `record` and `record_high`."""
    entry = low.astype(jnp.uint32)
    if self.high_bits:
      shifts = self.high_bits * np.arange(self.entries_per_word, dtype=np.uint32)[:, None]
      # [entries_per_word, num_words]: entries that share a word are far apart, so that row by row
      # these are in order, without a transposition.
      bits = (high[None] >> shifts) & np.uint32(2**self.high_bits - 1)
      entry |= bits.reshape(-1)[: self.max_moves] << 16
    point = entry & np.uint32(2**self.point_bits - 1)
    return point.astype(jnp.int32), (entry >> self.point_bits).astype(jnp.int32)

  def pack(self, point: Array, captured_at: Array) -> tuple[Array, Array]:
    """Returns `record` uint16 `[M]` and `record_high` uint32 `[num_words]`."""
    entry = point.astype(jnp.uint32) | captured_at.astype(jnp.uint32) << self.point_bits
    low = entry.astype(jnp.uint16)
    if not self.high_bits:
      return low, jnp.zeros_like(entry, shape=(0,))
    bits = jnp.pad(entry >> 16, (0, self.entries_per_word * self.num_words - self.max_moves))
    shifts = self.high_bits * np.arange(self.entries_per_word, dtype=np.uint32)[:, None]
    # Each entry has bits of its own: a sum joins them.
    words = bits.reshape(self.entries_per_word, self.num_words) << shifts
    return low, words.sum(0, dtype=jnp.uint32)


def earliest_possible_repeat(
  stone: Array, num_entries: Array, staying: Array, points: int
) -> Array:
  """Returns int32 `[]`: the first position that a move from here could possibly repeat.

  A repeated position contains all stones on the board that the move cannot remove, and a stone was
  on no board before its colour was first played at its point. In most positions that was a few
  turns ago for one of the stones, so that `repeats` has few boards to compare.

  Args:
    stone: int32 `[M]`, of which the first `num_entries` are in use.
    num_entries: int32 `[]`.
    staying: bool `[2, N^2]`, black and white stones that no move may remove.
    points: N^2.
  """
  max_moves = stone.shape[0]
  entry = jnp.arange(max_moves)
  # By stone, the entry that first placed it; max_moves: none.
  first = jnp.full_like(stone, max_moves, shape=(2 * (points + 1),))
  stone = jnp.where(entry < num_entries, stone, points)  # unused ones count as black's pass
  first = first.at[stone].min(entry, mode='promise_in_bounds')
  first = first.reshape(2, points + 1)[:, :points]
  # A stone of entry e is on no board before e + 1. All that stay must be there: the last decides.
  return jnp.max(jnp.where(staying, first + 1, 0))


def repeats(
  stone: Array,
  captured_at: Array,
  now: Array,
  earliest: Array,
  every: int,
  delta: Array,
  points: int,
) -> Array:
  """Returns bool `[N^2]`: which moves would repeat a position.

  A move that adds `delta` to the hash repeats position s exactly if delta = hash(s) - hash(now).
  The differences hash(s) - hash(now) follow from the record backwards from s = now, `BLOCK` turns
  in one round of the loop: undoing the turn to position s takes its stone's key away, and adds the
  keys of the stones that it captured.

  Args:
    stone: int32 `[M]`.
    captured_at: int32 `[M]`.
    now: int32 `[]`, the present position, which is the number of entries.
    earliest: int32 `[]`, the first position to compare with.
    every: 1 to compare with all positions, 2 with every other one, now - 1 first: those in which
      the opponent is to move, as after the move.
    delta: uint32 `[2, N^2]`, what a move at each point adds to the hash.
    points: N^2.
  """
  key = materialize(jnp.asarray(zobrist_keys(points))[stone])  # [M, 2]
  # Row i of a block is position high - i. What was undone before it is a sum over the rows above,
  # which as a masked sum of BLOCK^2 terms is one fused operation.
  ago = jnp.arange(BLOCK)
  undone_before = (ago[:, None] > ago[None])[:, :, None]  # [BLOCK, BLOCK, 1]

  def block(carry):
    high, difference, found = carry  # difference: hash(high) - hash(now)
    # What the turn to position high - i captured is in row i; other stones go to the last row.
    row = jnp.where((captured_at <= high) & (captured_at > high - BLOCK), high - captured_at, BLOCK)
    captured = jnp.zeros_like(key, shape=(BLOCK + 1, 2))
    captured = captured.at[row].add(key, mode='promise_in_bounds')
    time = high - ago
    placed = jnp.where((time > 0)[:, None], key[jnp.maximum(time - 1, 0)], 0)
    undone = captured[:-1] - placed  # [BLOCK, 2], hash(time - 1) - hash(time)
    there = difference[None] + jnp.where(undone_before, undone[None], 0).sum(1, dtype=jnp.uint32)
    # With `every` = 1 also the present position: the suicide of a single stone leaves it as it is.
    compared = (time >= earliest) & ((now - time) % every == every - 1)
    there, compared = materialize(there, compared)
    # [BLOCK, N^2], by both words of the hash.
    same = (there[:, 0, None] == delta[0][None]) & (there[:, 1, None] == delta[1][None])
    found |= (same & compared[:, None]).any(0)
    return high - BLOCK, difference + undone.sum(0, dtype=jnp.uint32), found

  start = (now, jnp.zeros_like(key[0]), delta[0] != delta[0])  # so that all varies as delta does
  # Few rounds in most positions: `earliest` is seldom long ago.
  return lax.while_loop(lambda carry: carry[0] >= earliest, block, start)[2]
