"""Games of Go that policies play, and positions drawn from them, as AlphaGo learned from."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts.game import initial_states, sign
from mcts.go import Go, State
from mcts.go.state import stones_of
from mcts.search import evaluators
from mcts.search.simulate import fold_in

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
  empty = initial_states(game, half)
  step = jax.vmap(game.step)

  def going(carry):
    return ~carry[-1]

  def two_turns(carry):
    turn, black, white, _ = carry
    for player, other in ((learner, opponent), (opponent, learner)):
      here = fold_in(keys, turn)
      black = step(black, player(black, here[:half]))
      white = step(white, other(white, here[half:]))
      turn = turn + 1
    over = jax.vmap(game.done)(black).all() & jax.vmap(game.done)(white).all()
    return turn, black, white, over

  start = (jnp.int32(0), empty, empty, jnp.bool_(False))
  _, black, white, _ = lax.while_loop(going, two_turns, start)
  states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), black, white)
  side = jnp.repeat(jnp.arange(2), half, total_repeat_length=2 * half)
  result = jnp.sign(jax.vmap(game.score)(states)) * sign(side)
  return Episodes(states, side, result)


def play_astray(game: Go, begin: Player, player: Player, turn: Array, keys: Array) -> State:
  """The ends of games in which move number `turn` (int32 `[]`, from 1) is any legal point.

  Those before it are `begin`'s, those after it `player`'s (Silver et al. 2016, Methods, 'Value
  network: regression'). As many games as there are typed keys.
  """

  def moves(choose: Player, states: State, first: Array | int, last: Array | int) -> State:
    def going(carry):
      return (carry[0] < last) & ~jax.vmap(game.done)(carry[1]).all()

    def move(carry):
      number, states = carry
      return number + 1, jax.vmap(game.step)(states, choose(states, fold_in(keys, number)))

    return lax.while_loop(going, move, (jnp.asarray(first, jnp.int32), states))[1]

  states = moves(begin, initial_states(game, keys.shape[0]), 0, turn - 1)
  states = moves(lambda *x: _any_point(game, *x), states, turn - 1, turn)
  return moves(player, states, turn, game.rules.max_moves)


def _any_point(game: Go, states: State, keys: Array) -> Array:
  points = jax.vmap(game.legal)(states)[:, :-1]
  return jax.vmap(evaluators.random_action)(
    jnp.append(points, ~points.any(-1, keepdims=True), axis=1), keys
  )


def positions(game: Go, states: State, turn: Array) -> dict[str, Array]:
  """After `turn` moves (int32 `[]`) of finished games, `[G, ...]`: what `recorded.states` takes.

  And 'result' for who is to move, 'mask': 0 of games that were over by then.
  """
  _, points, gone = jax.vmap(lambda state: stones_of(game.rules, state))(states)
  count = jnp.broadcast_to(turn, points.shape[:1])
  return {
    **_records(points.astype(jnp.uint16), gone.astype(jnp.uint16), count),
    'result': jnp.sign(jax.vmap(game.score)(states)) * sign(turn % 2),
    'mask': (states.count.astype(jnp.int32) > turn).astype(jnp.float32),
  }


def _records(points: Array, gone: Array, count: Array) -> dict[str, Array]:
  """Of games that began on an empty board, black to move."""
  zeros = jnp.zeros_like(count)
  records = {'points': points, 'gone': gone, 'count': count}
  return {**records, 'start': zeros, 'blacks': zeros, 'first': zeros}


def sample(game: Go, episodes: Episodes, key: Array, count: int) -> dict[str, Array]:
  """`count` of all points that the learner played, each with the same chance, and repeatedly.

  What `recorded.states` takes, `[count, ...]`, and 'move' and 'result' as of `data.go.source`.
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
  return {
    **_records(points[number], gone[number], turn),
    'move': points[number, turn],
    'result': episodes.result[number],
  }
