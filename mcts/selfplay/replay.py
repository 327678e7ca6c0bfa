"""The replay: a ring buffer of positions for each environment, sampled uniformly.

Each of E environments has a ring of L positions on the device that plays it. All environments move
in step, so all write to the same place of their rings. A position is written when it is played.
When its game ends it is given the place of the game's last position, where what is known of the
end stands. So no position is ever copied or written twice.
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
class Transition:
  """One position of each of E environments, and how its game stands after the move.

  planes: bool `[E, H, W, C]` as the player to move sees them. legal: bool `[E, A]`.
  policy: float32 `[E, A]` the search's. value: float32 `[E]` the search's, for the player to move.
  player: int32 `[E]`, 0 or 1, to move.
  trainable: bool `[E]`, whether the position is learned from: the newest network searched it in
    full, and the move is no random opening.
  outcome: float32 `[E]` 1, -1 or 0 as player 0 has won, lost or drawn; meaningless before the end.
  ended: bool `[E]`, whether the game ended with this move.
  aux_known: bool `[E]`, whether the game was played to its end, so that `aux` holds.
  aux: pytree `[E, ...]` of `Game.aux_targets`, {} without.
  """

  planes: Array
  legal: Array
  policy: Array
  value: Array
  player: Array
  trainable: Array
  outcome: Array
  ended: Array
  aux_known: Array
  aux: Any


@dataclass
class Replay:
  """E rings of L positions; booleans as bits, the policy in 16 bits.

  planes: uint8 `[E, L, H W C / 8]`. legal: uint8 `[E, L, A / 8]`. policy: float16 `[E, L, A]`.
  end: int32 `[E, L]` the place of the last position of the same game, PENDING while it goes on.
  count: int32 `[E]` the positions that the environment has ever written, the same in all.
  The others are as in `Transition`, `[E, L, ...]`.
  """

  planes: Array
  legal: Array
  policy: Array
  value: Array
  player: Array
  trainable: Array
  outcome: Array
  aux_known: Array
  aux: Any
  end: Array
  count: Array


def init(game: Game, num_envs: int, length: int, aux: Any = None) -> Replay:
  """Returns empty rings.

  Args:
    game: whose positions are kept.
    num_envs: E.
    length: L.
    aux: shapes and dtypes of one game's auxiliary targets.

  Raises:
    ValueError: the game's planes are not bool.
  """
  planes = jax.eval_shape(lambda: game.observe(game.init()))
  if planes.dtype != bool:
    raise ValueError(f'game {game.name}: its planes are {planes.dtype}; replay keeps bool planes')

  def empty(shape, dtype):
    return jnp.zeros((num_envs, length, *shape), dtype)

  return Replay(
    planes=empty((_bytes(planes.size),), jnp.uint8),
    legal=empty((_bytes(game.num_actions),), jnp.uint8),
    policy=empty((game.num_actions,), jnp.float16),
    value=empty((), jnp.float32),
    player=empty((), jnp.int8),
    trainable=empty((), bool),
    outcome=empty((), jnp.int8),
    aux_known=empty((), bool),
    aux=jax.tree.map(lambda x: empty(x.shape, x.dtype), aux or {}),
    end=empty((), jnp.int32),  # of unwritten places too, but these are not trainable
    count=jnp.zeros(num_envs, jnp.int32),
  )


def _bytes(bits: int) -> int:
  return -(-bits // 8)


# -------- writing --------


def write(replay: Replay, transition: Transition) -> Replay:
  """Returns the replay with one more position in each ring, and the games that ended closed."""
  num_envs, length = replay.end.shape
  place = replay.count[0] % length  # the same in all environments

  def put(ring, x):
    # A slice at one place of all rings: XLA updates it in place, where a scatter might copy.
    x = x.astype(ring.dtype).reshape(num_envs, 1, *ring.shape[2:])
    start = (jnp.zeros_like(place), place, *(jnp.zeros_like(place),) * (ring.ndim - 2))
    return lax.dynamic_update_slice(ring, x, start)

  same = ('policy', 'value', 'player', 'trainable', 'outcome', 'aux_known')
  end = put(replay.end, jnp.full((num_envs,), PENDING))  # closed below if the game ended
  return dataclasses.replace(
    replay,
    **{name: put(getattr(replay, name), getattr(transition, name)) for name in same},
    planes=put(replay.planes, _pack(transition.planes)),
    legal=put(replay.legal, _pack(transition.legal)),
    # Written after every move, read only where a game has ended: see `sample`.
    aux=jax.tree.map(put, replay.aux, transition.aux),
    # An environment plays one game at a time: all that is pending in its ring is of this game.
    end=jnp.where(transition.ended[:, None] & (end == PENDING), place, end),
    count=replay.count + 1,
  )


def _pack(x: Array) -> Array:
  return jnp.packbits(x.reshape(x.shape[0], -1), axis=-1)  # an eighth of the memory


# -------- sampling --------


def window_plies(length: int, num_envs: int, plies: Array, initial_window: int) -> Array:
  """Returns how many of an environment's latest positions are sampled from.

  The window grows with the positions played, N, as c (1 + beta ((N / c)^alpha - 1) / alpha) with
  alpha = 0.75, beta = 0.4 and c = `initial_window` (Wu 2019, appendix C), up to the whole ring.

  Args:
    length: L.
    num_envs: over all devices.
    plies: int32 `[]`, the positions that each environment has played.
    initial_window: c, over all environments; 0 for the whole ring from the start.

  Returns:
    int32 `[]`.
  """
  if not initial_window:
    return jnp.full_like(plies, length)
  # N / c from 1 on: before c positions there is nothing for the window to leave out.
  share = jnp.maximum(plies.astype(jnp.float32) * num_envs / initial_window, 1.0)
  size = initial_window * (1 + 0.4 * (share**0.75 - 1) / 0.75)
  window = jnp.ceil(jnp.minimum(size / num_envs, length))
  return jnp.maximum(window, 1).astype(plies.dtype)


def valid(replay: Replay, window: Array) -> Array:
  """Returns bool `[E, L]`: trainable positions of games that have ended, in the latest `window`."""
  length = replay.end.shape[1]
  # 0 for the newest place. A game's end is written after its positions and hence overwritten after
  # them, so `end` of a position in the ring points to that game's last one.
  age = (replay.count[:, None] - 1 - jnp.arange(length)[None]) % length
  return replay.trainable & (replay.end != PENDING) & (age < window)


def sample(game: Game, replay: Replay, key: Array, count: int, window: Array) -> dict[str, Any]:
  """Returns a batch of `count` valid positions, uniform over positions, with replacement.

  Each is transformed by a random symmetry of the game.

  Returns:
    planes: bool `[n, H, W, C]`. legal: bool `[n, A]`. policy: float32 `[n, A]`. value: float32
    `[n]` the search's, and outcome: float32 `[n]` the game's, both for the player to move. player:
    int32 `[n]`. aux, aux_known: of the end of the game, aux for player 0 and not transformed.
    symmetry: int32 `[n]` the element. mask: float32 `[n]`, all 1, or all 0 if nothing is valid.
  """
  sample_key, symmetry_key = jax.random.split(key)
  # Inverse of the cumulative count: the n-th valid position, without gathering them all.
  upto = jnp.cumsum(valid(replay, window).reshape(-1), dtype=jnp.int32)  # [E L]
  number = jax.random.randint(sample_key, (count,), 0, jnp.maximum(upto[-1], 1))  # [n]
  # The first place up to which there are more than `number`; one too far if there is none.
  at = jnp.minimum(jnp.searchsorted(upto, number, side='right'), upto.size - 1)
  env, place = at // replay.end.shape[1], at % replay.end.shape[1]
  element = jax.random.randint(symmetry_key, (count,), 0, game.symmetries.count)
  end = jnp.maximum(replay.end[env, place], 0)  # PENDING only where nothing is valid
  player = replay.player[env, place].astype(jnp.int32)
  shape = jax.eval_shape(lambda: game.observe(game.init())).shape
  planes = _unpack(replay.planes[env, place], int(np.prod(shape))).reshape(count, *shape)
  transform = jax.vmap(game.symmetries.policy)
  return {
    'planes': jax.vmap(game.symmetries.board)(planes, element),
    'legal': transform(_unpack(replay.legal[env, place], game.num_actions), element),
    'policy': transform(replay.policy[env, place].astype(jnp.float32), element),
    'value': replay.value[env, place],
    # Player 0's result, as it stands at the game's end, for the player who was to move here.
    'outcome': replay.outcome[env, end].astype(jnp.float32) * (1 - 2 * player),
    'player': player,
    'aux_known': replay.aux_known[env, end],
    'aux': jax.tree.map(lambda x: x[env, end], replay.aux),
    'symmetry': element,
    'mask': jnp.full((count,), upto[-1] > 0).astype(jnp.float32),
  }


def _unpack(x: Array, bits: int) -> Array:
  return jnp.unpackbits(x, axis=-1, count=bits).astype(bool)
