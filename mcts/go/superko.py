"""The record of a game of Go, and which moves would repeat one of its positions.

A position's hash is the sum, modulo 2^32 in each of two words, of a random 64-bit key a stone: two
different positions have the same hash with probability 2^-64. Hashes of all
past positions would take 5.8 KB at 19x19. Instead the state keeps, for every stone ever placed, its
point and the time at which it was captured, 19 bits a turn, from which all hashes follow.

The times are positions: position s is the board after s turns, and the turn from s to s + 1 is
entry s of the record. Stones that were set up come first, as entries without a position.
"""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.go.chains import in_memory

SEED = 2016
BLOCK = 16  # turns that are taken back at a time


@functools.cache
def keys(points: int) -> np.ndarray:
  """uint32 `[2 (N^2 + 1), 2]`, the key of each stone.

  The stone of colour c (0 black, 1 white) at p is number c (N^2 + 1) + p; a pass is a stone with
  the key 0.
  """
  random = np.random.default_rng(SEED)
  table = random.integers(2**32, size=(2, points + 1, 2), dtype=np.uint32)
  table[:, -1] = 0
  return table.reshape(-1, 2)


@dataclasses.dataclass(frozen=True)
class Packing:
  """How a turn's point and its stone's time of capture are packed: 16 bits, and the rest apart.

  turns: M, the most entries.
  points: N^2.
  """

  turns: int
  points: int

  @property
  def point_bits(self) -> int:
    return self.points.bit_length()

  @property
  def high_bits(self) -> int:
    """Bits of an entry beyond the first 16."""
    return max(0, self.point_bits + self.turns.bit_length() - 16)

  @property
  def slots(self) -> int:
    """Entries whose high bits share a word."""
    return 32 // self.high_bits if self.high_bits else 1

  @property
  def words(self) -> int:
    return math.ceil(self.turns / self.slots) if self.high_bits else 0

  def unpack(self, low: Array, high: Array) -> tuple[Array, Array]:
    """int32 `[M]` each: the points, and the position at which the stone was gone (0: never)."""
    entry = low.astype(jnp.uint32)
    if self.high_bits:
      shifts = self.high_bits * np.arange(self.slots, dtype=np.uint32)[:, None]
      bits = (high[None] >> shifts) & np.uint32(2**self.high_bits - 1)
      entry |= bits.reshape(-1)[: self.turns] << 16
    point = entry & np.uint32(2**self.point_bits - 1)
    return point.astype(jnp.int32), (entry >> self.point_bits).astype(jnp.int32)

  def pack(self, point: Array, gone: Array) -> tuple[Array, Array]:
    entry = point.astype(jnp.uint32) | gone.astype(jnp.uint32) << self.point_bits
    low = entry.astype(jnp.uint16)
    if not self.high_bits:
      return low, jnp.zeros_like(entry, shape=(0,))
    bits = jnp.pad(entry >> 16, (0, self.slots * self.words - self.turns))
    shifts = self.high_bits * np.arange(self.slots, dtype=np.uint32)[:, None]
    return low, (bits.reshape(self.slots, self.words) << shifts).sum(0, dtype=jnp.uint32)


def earliest(stone: Array, count: Array, staying: Array, points: int) -> Array:
  """int32 `[]`: no position before this one has all of the stones on the board that stay.

  stone: int32 `[M]`, each entry's number of stone, of which the first `count` are in use.
  staying: bool `[2, N^2]`, black and white stones that no move may remove.

  A stone was on no board before its colour was played at its point for the first time. In most
  positions that was a few turns ago for one of the stones, so that few boards are to be compared.
  """
  turns = stone.shape[0]
  entry = jnp.arange(turns)
  first = jnp.full_like(stone, turns, shape=(2 * (points + 1),))
  stone = jnp.where(entry < count, stone, points)
  first = first.at[stone].min(entry, mode='promise_in_bounds')
  first = first.reshape(2, points + 1)[:, :points]
  return jnp.max(jnp.where(staying, first + 1, 0))


def repeats(
  stone: Array, gone: Array, count: Array, low: Array, every: int, delta: Array, points: int
) -> Array:
  """bool `[N^2]`: which moves would repeat a position.

  stone, gone: int32 `[M]`, each entry's number of stone and time of capture.
  count: int32 `[]`, entries in use, and so the present position.
  low: int32 `[]`, the first position to compare with.
  every: 1 to compare with all from the present one backwards, 2 with every other, from the last.
  delta: uint32 `[2, N^2]`, what a move adds to the hash: it repeats s if it is s's difference.

  Differences of hashes follow from the record backwards, a block of turns at a time.
  """
  key = in_memory(jnp.asarray(keys(points))[stone])  # [M, 2]
  ago = jnp.arange(BLOCK)
  before = (ago[:, None] > ago[None])[:, :, None]

  def block(carry):
    high, difference, found = carry
    slot = jnp.where((gone <= high) & (gone > high - BLOCK), high - gone, BLOCK)
    lost = jnp.zeros_like(key, shape=(BLOCK + 1, 2)).at[slot].add(key, mode='promise_in_bounds')
    time = high - ago
    placed = jnp.where((time > 0)[:, None], key[jnp.maximum(time - 1, 0)], 0)
    undone = lost[:-1] - placed  # [BLOCK, 2], of the turn that led to each position
    there = difference[None] + jnp.where(before, undone[None], 0).sum(1, dtype=jnp.uint32)
    compared = (time >= low) & ((count - time) % every == every - 1)
    there, compared = in_memory(there, compared)
    same = (there[:, 0, None] == delta[0][None]) & (there[:, 1, None] == delta[1][None])
    found |= (same & compared[:, None]).any(0)
    return high - BLOCK, difference + undone.sum(0, dtype=jnp.uint32), found

  start = (count, jnp.zeros_like(key[0]), delta[0] != delta[0])
  return lax.while_loop(lambda carry: carry[0] >= low, block, start)[2]
