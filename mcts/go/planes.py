"""What a network and a search tree see of a game of Go: planes of past boards, and small nodes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.go import chains as chains_lib
from mcts.go.state import Rules, State, chains_of, stones_of, to_play


def observe(rules: Rules, state: State) -> Array:
  """Returns the planes of AlphaGo Zero, bool `[N, N, 2 K + 1]` (unbatched).

  Silver et al. 2017, Methods, 'Neural network architecture': X_t, Y_t, X_{t-1}, Y_{t-1}, ... with
  K = `history` boards, X the stones of the player to move and Y the opponent's; then a plane of
  ones if black is to move. Boards before the game's start are empty.
  """
  own, other = past_boards(rules, state, rules.history)  # [K, N^2]
  planes = jnp.stack([own, other], 1).reshape(-1, rules.points).T
  black = jnp.broadcast_to(to_play(state) == 0, (rules.points, 1))
  planes = jnp.concatenate([planes, black], 1)
  return planes.reshape(rules.size, rules.size, -1)


def past_boards(rules: Rules, state: State, boards: int) -> tuple[Array, Array]:
  """Returns the last boards, bool `[boards, N^2]` twice: stones of the player to move, the others.

  Row i is the board i turns ago. For each stone in the record the turns at which it stood are bits
  of one word, own stones' in the low half; the words are added up at the stones' points. No carry
  arises, since two stones never stand at one point at one time.
  """
  colour, point, captured_at = stones_of(rules, state)
  now = state.num_entries.astype(jnp.int32)
  entry = jnp.arange(rules.max_moves)
  ago = np.arange(boards)[:, None]
  time = now - ago  # [boards, 1]
  stood = (entry[None] < time) & ((captured_at == 0)[None] | (captured_at[None] > time))
  # Boards before the first turn are empty, though the stones set up are in the record.
  stood &= (entry < now)[None] & (time >= state.num_setup.astype(jnp.int32))
  # [M]: bit i for i turns ago. 2 K bits fit into a word, as K is at most 16.
  bits = (stood.astype(jnp.uint32) << ago.astype(np.uint32)).sum(0, dtype=jnp.uint32)
  bits <<= jnp.where(colour == to_play(state), 0, boards).astype(jnp.uint32)
  # [1, N^2]; passes went to the last place. One scatter of M words makes all 2 K planes.
  total = jnp.zeros_like(bits, shape=(rules.points + 1,)).at[point].add(bits)[None, :-1]
  planes = (total >> np.arange(2 * boards, dtype=np.uint32)[:, None] & 1).astype(bool)  # [2 K, N^2]
  return planes[:boards], planes[boards:]


# -------- nodes of search trees --------


class Node(NamedTuple):
  """A position in a search tree: 101 bytes at 19x19, where a state has 2.5 KB.

  Attributes:
    black: uint32 `[ceil(N^2 / 32)]`, a bitboard (`chains.to_bitboard`).
    white: likewise.
    move: uint16, the action that led here.
    num_entries: uint16, as the state's.
    passes: uint8, as the state's.
  """

  black: Array
  white: Array
  move: Array
  num_entries: Array
  passes: Array


def pack(rules: Rules, state: State) -> Node:
  """Returns the node of a state (unbatched)."""
  point, _ = rules.packing.unpack(state.record, state.record_high)
  # Junk before any move: the root's own move is never read.
  move = point[jnp.maximum(state.num_entries.astype(jnp.int32) - 1, 0)]
  black, white = (chains_lib.to_bitboard(chains_of(state) * sign > 0) for sign in (1, -1))
  return Node(black, white, move.astype(jnp.uint16), state.num_entries, state.passes)


def unpack(rules: Rules, node: Node, root: State, line: Node, length: Array) -> State:
  """Returns the state of a node, from the root's record and the line of nodes between.

  Each node of the line adds its move to the record. What that move captured are the stones of the
  record that do not stand on its board. The chains are labelled anew, so their ids may differ from
  those of a state that was reached by `step`.

  Args:
    rules: the options.
    node: the last of the line, or the root's own where length is 0.
    root: the state at the tree's root.
    line: `[D, ...]`, the nodes from the root's child down to and with `node`.
    length: int32 `[]`, how many of the line are valid.
  """
  colour, point, captured_at = stones_of(rules, root)
  entry = jnp.arange(rules.max_moves)

  def add(carry):
    i, point, captured_at = carry
    black, white, move, num_entries, _ = jax.tree.map(lambda x: x[i], line)
    time = num_entries.astype(jnp.int32)
    now = entry == time - 1
    point = jnp.where(now, move.astype(jnp.int32), point)
    captured_at = jnp.where(now & (time > root.num_entries), 0, captured_at)
    # A word more for each colour: the pass, point N^2, may lie behind the last.
    words = jnp.concatenate([jnp.pad(x, (0, 1)) for x in (black, white)])
    where = colour * (words.shape[0] // 2) + (point >> 5)  # [M]
    stands = (words[where] >> (point & 31).astype(jnp.uint32) & 1).astype(bool)
    # Gone from the board, though the record says that it stands: captured by this move.
    lost = (entry < time) & (captured_at == 0) & (point < rules.points) & ~stands
    return i + 1, point, jnp.where(lost, time, captured_at)

  start = (jnp.zeros_like(length), point, captured_at)
  _, point, captured_at = lax.while_loop(lambda carry: carry[0] < length, add, start)
  black, white = (chains_lib.from_bitboard(x, rules.points) for x in (node.black, node.white))
  stones = black.astype(jnp.int32) - white.astype(jnp.int32)
  record, record_high = rules.packing.pack(point, captured_at)
  return root._replace(
    # A node keeps 2 bits of a point where chain ids take 16: they are found anew here.
    chains=chains_lib.label(stones, rules.size).astype(jnp.int16),
    record=record,
    record_high=record_high,
    num_entries=node.num_entries,
    passes=node.passes,
  )
