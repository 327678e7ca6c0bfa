"""What networks and search trees see of a game of Go: planes of past boards, and small nodes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.go import chains as chains_lib
from mcts.go.state import Rules, State, chains_of, stones_of, to_play


def observe(rules: Rules, state: State) -> Array:
  """bool `[N, N, 2 K + 1]`, K = `history` (Silver et al. 2017, Methods, 'Neural network
  architecture'): own stones, opponent's stones, the same one turn ago, ...; then all ones if black
  is to move. Boards before the game's start are empty.
  """
  own, other = past_boards(rules, state, rules.history)  # [K, N^2]
  planes = jnp.stack([own, other], 1).reshape(-1, rules.points).T
  black = jnp.broadcast_to(to_play(state) == 0, (rules.points, 1))
  planes = jnp.concatenate([planes, black], 1)
  return planes.reshape(rules.size, rules.size, -1)


def past_boards(rules: Rules, state: State, boards: int) -> tuple[Array, Array]:
  """bool `[boards, N^2]` each: stones of the player to move and of the other, 0, 1, ... turns ago.

  Of each stone in the record the turns at which it stood, as bits, added up at its point: two
  stones never stand at one point at one time.
  """
  colour, point, gone = stones_of(rules, state)
  count = state.count.astype(jnp.int32)
  entry = jnp.arange(rules.max_moves)
  ago = np.arange(boards)[:, None]
  time = count - ago  # [boards, 1]
  stood = (entry[None] < time) & ((gone == 0)[None] | (gone[None] > time))
  stood &= (entry < count)[None] & (time >= state.start.astype(jnp.int32))
  bits = (stood.astype(jnp.uint32) << ago.astype(np.uint32)).sum(0, dtype=jnp.uint32)
  bits <<= jnp.where(colour == to_play(state), 0, boards).astype(jnp.uint32)
  total = jnp.zeros_like(bits, shape=(rules.points + 1,)).at[point].add(bits)[None, :-1]
  planes = (total >> np.arange(2 * boards, dtype=np.uint32)[:, None] & 1).astype(bool)
  return planes[:boards], planes[boards:]


# -------- trees --------


class Node(NamedTuple):
  """A position of a search tree: 101 bytes at 19x19.

  black, white: uint32 `[ceil(N^2 / 32)]`, bitboards.
  move: uint16, the action that led here.
  count: uint16, as the state's.
  passes: uint8, as the state's.
  """

  black: Array
  white: Array
  move: Array
  count: Array
  passes: Array


def pack(rules: Rules, state: State) -> Node:
  point, _ = rules.packing.unpack(state.record, state.record_high)
  move = point[jnp.maximum(state.count.astype(jnp.int32) - 1, 0)]
  black, white = (chains_lib.bitboard(chains_of(state) * sign > 0) for sign in (1, -1))
  return Node(black, white, move.astype(jnp.uint16), state.count, state.passes)


def unpack(rules: Rules, node: Node, root: State, line: Node, length: Array) -> State:
  """The turns on the line are added to the root's record; what each one captured is what of the
  record no longer stands on the next board.
  """
  colour, point, gone = stones_of(rules, root)
  entry = jnp.arange(rules.max_moves)

  def add(carry):
    i, point, gone = carry
    black, white, move, count, _ = jax.tree.map(lambda x: x[i], line)
    time = count.astype(jnp.int32)
    now = entry == time - 1
    point = jnp.where(now, move.astype(jnp.int32), point)
    gone = jnp.where(now & (time > root.count), 0, gone)
    words = jnp.concatenate([jnp.pad(x, (0, 1)) for x in (black, white)])
    where = colour * (words.shape[0] // 2) + (point >> 5)
    stands = (words[where] >> (point & 31).astype(jnp.uint32) & 1).astype(bool)
    lost = (entry < time) & (gone == 0) & (point < rules.points) & ~stands
    return i + 1, point, jnp.where(lost, time, gone)

  start = (jnp.zeros_like(length), point, gone)
  _, point, gone = lax.while_loop(lambda carry: carry[0] < length, add, start)
  black, white = (chains_lib.from_bitboard(x, rules.points) for x in (node.black, node.white))
  stones = black.astype(jnp.int32) - white.astype(jnp.int32)
  record, record_high = rules.packing.pack(point, gone)
  return root._replace(
    chains=chains_lib.label(stones, rules.size).astype(jnp.int16),
    record=record,
    record_high=record_high,
    count=node.count,
    passes=node.passes,
  )
