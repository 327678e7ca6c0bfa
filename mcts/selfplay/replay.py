"""Positions of self-play, kept where they were played until newer ones take their places.

Each slot of play has a ring of L positions. A position is written when it is played; when its game
ends it is told where in the ring that was, and what is known of the end stands there: nothing is
ever copied. All slots play in step, so they write to the same place of their rings.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts.game import Game
from mcts.search.tree import dataclass

PENDING = -1  # `end` of a position whose game goes on


@dataclass
class Entry:
  """One position of each of S slots, and how the game stands after its move.

  planes: bool `[S, H, W, C]` as the player to move sees them; legal: bool `[S, A]`.
  policy: float32 `[S, A]` the search's; value: float32 `[S]` its value, for the player to move.
  player: int32 `[S]`, 0 or 1, to move.
  good: bool `[S]` whether the policy is to be learned: searched in full.
  outcome: float32 `[S]` 1, -1 or 0 as the player 0 has won, lost or drawn; of a game that goes on
    it means nothing.
  over: bool `[S]` whether the game ended with this move.
  extras: pytree `[S, ...]` what else is known of the end, with `known`: bool `[S]`, whether it is.
  """

  planes: Array
  legal: Array
  policy: Array
  value: Array
  player: Array
  good: Array
  outcome: Array
  over: Array
  known: Array
  extras: Any


@dataclass
class Replay:
  """S rings of L places; bools as bits, the policy in 16 bits.

  planes: uint8 `[S, L, H W C / 8]`; legal: uint8 `[S, L, A / 8]`; policy: float16 `[S, L, A]`.
  end: int32 `[S, L]` the place of the last position of the same game, PENDING while it goes on.
  count: int32 `[S]` the positions that the slot has ever written, alike in all slots.
  The others are as in `Entry`, `[S, L, ...]`.
  """

  planes: Array
  legal: Array
  policy: Array
  value: Array
  player: Array
  good: Array
  outcome: Array
  known: Array
  extras: Any
  end: Array
  count: Array


def start(game: Game, slots: int, length: int, extras: Any = None) -> Replay:
  """Empty rings; extras: shapes of one slot's. Raises ValueError for planes that are not bool."""
  planes = jax.eval_shape(lambda: game.observe(game.init()))
  if planes.dtype != bool:
    raise ValueError(f'game {game.name}: its planes are {planes.dtype}; bool ones can be kept')

  def room(shape, dtype):
    return jnp.zeros((slots, length, *shape), dtype)

  return Replay(
    planes=room((_bytes(planes.size),), jnp.uint8),
    legal=room((_bytes(game.num_actions),), jnp.uint8),
    policy=room((game.num_actions,), jnp.float16),
    value=room((), jnp.float32),
    player=room((), jnp.int8),
    good=room((), bool),
    outcome=room((), jnp.int8),
    known=room((), bool),
    extras=jax.tree.map(lambda x: room(x.shape, x.dtype), extras or {}),
    end=room((), jnp.int32),
    count=jnp.zeros(slots, jnp.int32),
  )


def _bytes(bits: int) -> int:
  return -(-bits // 8)


# -------- writing --------


def write(replay: Replay, entry: Entry) -> Replay:
  """Adds a position to each ring, and ends the games that are over."""
  slots, length = replay.end.shape
  place = replay.count[0] % length

  def put(ring, x):
    x = x.astype(ring.dtype).reshape(slots, 1, *ring.shape[2:])
    start = (jnp.zeros_like(place), place, *(jnp.zeros_like(place),) * (ring.ndim - 2))
    return lax.dynamic_update_slice(ring, x, start)

  same = ('policy', 'value', 'player', 'good', 'outcome', 'known')
  end = put(replay.end, jnp.full((slots,), PENDING))
  return dataclasses.replace(
    replay,
    **{name: put(getattr(replay, name), getattr(entry, name)) for name in same},
    planes=put(replay.planes, _pack(entry.planes)),
    legal=put(replay.legal, _pack(entry.legal)),
    extras=jax.tree.map(put, replay.extras, entry.extras),
    # A slot has one game at a time: all that is pending in its ring is of this one.
    end=jnp.where(entry.over[:, None] & (end == PENDING), place, end),
    count=replay.count + 1,
  )


def _pack(x: Array) -> Array:
  return jnp.packbits(x.reshape(x.shape[0], -1), axis=-1)


# -------- reading --------


def window_plies(replay_length: int, slots: int, played: Array, first: int) -> Array:
  """int32 `[]`: how many of a slot's latest positions are read, of `slots` slots in all.

  The window grows with the positions played, N, as c (1 + beta ((N / c)^alpha - 1) / alpha) with
  alpha = 0.75, beta = 0.4 and c = `first` (Wu 2019, appendix C), up to all there is; with c = 0 it
  is that from the start.
  """
  if not first:
    return jnp.full_like(played, replay_length)
  share = jnp.maximum(played.astype(jnp.float32) * slots / first, 1.0)
  size = first * (1 + 0.4 * (share**0.75 - 1) / 0.75)
  plies = jnp.ceil(jnp.minimum(size / slots, replay_length))
  return jnp.maximum(plies, 1).astype(played.dtype)


def valid(replay: Replay, window: Array) -> Array:
  """bool `[S, L]`: the positions to learn from, of games that are over, in the `window`."""
  length = replay.end.shape[1]
  age = (replay.count[:, None] - 1 - jnp.arange(length)[None]) % length
  return replay.good & (replay.end != PENDING) & (age < window)


def sample(game: Game, replay: Replay, key: Array, count: int, window: Array) -> dict[str, Any]:
  """`count` positions, each valid one as likely as any other, each turned or mirrored at random.

  planes: bool `[n, H, W, C]`; legal: bool and policy: float32 `[n, A]`; value: float32 `[n]` the
  search's, and outcome: float32 `[n]` the game's, both for the player to move; player: int32 `[n]`;
  extras, known: of the end; turn: int32 `[n]` the symmetry. If nothing is valid, mask: float32
  `[n]` is 0, else 1.
  """
  draw_key, turn_key = jax.random.split(key)
  upto = jnp.cumsum(valid(replay, window).reshape(-1), dtype=jnp.int32)
  number = jax.random.randint(draw_key, (count,), 0, jnp.maximum(upto[-1], 1))
  at = jnp.minimum(jnp.searchsorted(upto, number, side='right'), upto.size - 1)
  slot, place = at // replay.end.shape[1], at % replay.end.shape[1]
  turn = jax.random.randint(turn_key, (count,), 0, game.symmetries.count)
  end = jnp.maximum(replay.end[slot, place], 0)
  player = replay.player[slot, place].astype(jnp.int32)
  shape = jax.eval_shape(lambda: game.observe(game.init())).shape
  planes = _unpack(replay.planes[slot, place], int(np.prod(shape))).reshape(count, *shape)
  turned = jax.vmap(game.symmetries.policy)
  return {
    'planes': jax.vmap(game.symmetries.board)(planes, turn),
    'legal': turned(_unpack(replay.legal[slot, place], game.num_actions), turn),
    'policy': turned(replay.policy[slot, place].astype(jnp.float32), turn),
    'value': replay.value[slot, place],
    'outcome': replay.outcome[slot, end].astype(jnp.float32) * (1 - 2 * player),
    'player': player,
    'known': replay.known[slot, end],
    'extras': jax.tree.map(lambda x: x[slot, end], replay.extras),
    'turn': turn,
    'mask': jnp.full((count,), upto[-1] > 0).astype(jnp.float32),
  }


def _unpack(x: Array, bits: int) -> Array:
  return jnp.unpackbits(x, axis=-1, count=bits).astype(bool)
