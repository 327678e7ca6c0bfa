"""Games of Go between a learner and an opponent, and positions drawn from them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts.game import beginnings
from mcts.go import Go, State
from mcts.go_state import stones_of
from mcts.simulate import fold

Player = Callable[[State, Array], Array]
"""States `[B, ...]` and typed keys `[B]` to actions `[B]`."""


class Episodes(NamedTuple):
  """Finished games.

  states: their ends, `[G, ...]`, whose records hold all of them.
  side: int32 `[G]`, the learner's colour, 0 black or 1 white.
  result: float32 `[G]`, 1, -1 or 0 as the learner won, lost or drew; of the board as it stands.
  """

  states: State
  side: Array
  result: Array


def play(game: Go, learner: Player, opponent: Player, keys: Array) -> Episodes:
  """As many games as there are typed keys, an even number; the learner is black in one half.

  Both play every turn, each in its half, so none waits for the other.
  """
  half = keys.shape[0] // 2
  empty = beginnings(game, half)
  step = jax.vmap(game.step)

  def going(carry):
    return ~carry[-1]

  def two_turns(carry):
    turn, black, white, _ = carry
    for player, other in ((learner, opponent), (opponent, learner)):
      here = fold(keys, turn)
      black = step(black, player(black, here[:half]))
      white = step(white, other(white, here[half:]))
      turn = turn + 1
    over = jax.vmap(game.done)(black).all() & jax.vmap(game.done)(white).all()
    return turn, black, white, over

  start = (jnp.int32(0), empty, empty, jnp.bool_(False))
  _, black, white, _ = lax.while_loop(going, two_turns, start)
  states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), black, white)
  side = jnp.repeat(jnp.arange(2), half, total_repeat_length=2 * half)
  result = jnp.sign(jax.vmap(game.score)(states)) * (1 - 2 * side)
  return Episodes(states, side, result)


def sample(game: Go, episodes: Episodes, key: Array, count: int) -> dict[str, Array]:
  """`count` of all points that the learner played, each with the same chance, and repeatedly.

  What `recorded.states` takes, `[count, ...]`, and 'move' and 'result' as of `data.go_games`.
  """
  _, points, gone = jax.vmap(lambda state: stones_of(game.rules, state))(episodes.states)
  entry = jnp.arange(points.shape[1])[None]
  made = entry < episodes.states.count.astype(jnp.int32)[:, None]
  made &= (entry % 2 == episodes.side[:, None]) & (points < game.rules.points)
  before = jnp.cumsum(made.reshape(-1), dtype=jnp.int32)
  chosen = jax.random.randint(key, (count,), 0, jnp.maximum(before[-1], 1))
  place = jnp.searchsorted(before, chosen, side='right').astype(jnp.int32)
  place = jnp.minimum(place, before.shape[0] - 1)
  number, turn = place // points.shape[1], place % points.shape[1]
  zeros = jnp.zeros_like(turn)
  return {
    'points': points[number],
    'gone': gone[number],
    'count': turn,
    'start': zeros,
    'blacks': zeros,
    'first': zeros,
    'move': points[number, turn],
    'result': episodes.result[number],
  }
