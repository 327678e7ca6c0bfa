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
"""(states `[B, ...]`, typed keys `[B]`) -> actions int32 `[B]`, -1 for no answer."""


class Episodes(NamedTuple):
  """G finished games between a learner and an opponent.

  Attributes:
    states: `[G, ...]`, their last states, whose records hold the whole games.
    side: int32 `[G]`, the learner's colour, 0 black or 1 white.
    result: float32 `[G]`, 1, -1 or 0 as the learner won, lost or drew by the score of the last
      board; NaN where a player had no answer.
  """

  states: State
  side: Array
  result: Array


def play(game: Go, learner: Player, opponent: Player, keys: Array) -> Episodes:
  """Returns one game for each key; the learner is black in the first half of them.

  Both players move in each turn, each in its half of the games, so that neither waits.

  Args:
    game: the rules.
    learner: a player.
    opponent: a player.
    keys: typed, `[G]`, G even.
  """
  half = keys.shape[0] // 2
  empty = initial_states(game, half)

  def going(carry):
    return ~carry[-1]

  def two_turns(carry):
    turn, black, white, failed, _ = carry
    for player, other in ((learner, opponent), (opponent, learner)):
      here = fold_in(keys, turn)
      black, no_black = _step(game, black, player(black, here[:half]))
      white, no_white = _step(game, white, other(white, here[half:]))
      turn, failed = turn + 1, failed | jnp.concatenate([no_black, no_white])
    over = jax.vmap(game.done)(black).all() & jax.vmap(game.done)(white).all()
    return turn, black, white, failed, over

  nobody = jnp.concatenate([empty.komi, empty.komi]) > jnp.inf
  start = (jnp.int32(0), empty, empty, nobody, jnp.bool_(False))
  _, black, white, failed, _ = lax.while_loop(going, two_turns, start)
  states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), black, white)
  side = jnp.repeat(jnp.arange(2), half, total_repeat_length=2 * half)
  result = jnp.sign(jax.vmap(game.score)(states)) * sign(side)
  return Episodes(states, side, jnp.where(failed, jnp.nan, result))


def _step(game: Go, states: State, actions: Array) -> tuple[State, Array]:
  """Returns the states after actions, and bool `[B]`, in which games there was no answer."""
  failed = (actions < 0) & ~jax.vmap(game.done)(states)
  return jax.vmap(game.step)(states, jnp.maximum(actions, 0)), failed


def play_with_random_move(
  game: Go, sl_player: Player, rl_player: Player, turn: Array, keys: Array
) -> tuple[State, Array]:
  """Returns the last states `[G, ...]` of games for the value network, one for each key.

  The first U - 1 moves are `sl_player`'s, move U is a random legal point, and the rest are
  `rl_player`'s (Silver et al. 2016, Methods, 'Value network: regression'). Also bool `[G]`, in
  which games a player had no answer.

  Args:
    game: the rules.
    sl_player: samples from the SL policy.
    rl_player: samples from the RL policy.
    turn: int32 `[]`, U, from 1.
    keys: typed, `[G]`.
  """

  def moves(choose: Player, games, first: Array | int, last: Array | int):
    def going(carry):
      return (carry[0] < last) & ~jax.vmap(game.done)(carry[1]).all()

    def move(carry):
      number, states, failed = carry
      states, fails = _step(game, states, choose(states, fold_in(keys, number)))
      return number + 1, states, failed | fails

    return lax.while_loop(going, move, (jnp.asarray(first, jnp.int32), *games))[1:]

  empty = initial_states(game, keys.shape[0])
  games = moves(sl_player, (empty, empty.komi > jnp.inf), 0, turn - 1)
  games = moves(lambda *x: _random_point(game, *x), games, turn - 1, turn)
  return moves(rl_player, games, turn, game.rules.max_moves)


def _random_point(game: Go, states: State, keys: Array) -> Array:
  """Returns int32 `[B]`, any legal point, own eyes too; a pass only where there is none."""
  points = jax.vmap(game.legal)(states)[:, :-1]
  mask = jnp.append(points, ~points.any(-1, keepdims=True), axis=1)
  return jax.vmap(evaluators.random_action)(mask, keys)


def positions(game: Go, states: State, turn: Array) -> dict[str, Array]:
  """Returns the positions after `turn` moves of finished games, as records `[G, ...]`.

  Args:
    game: the rules.
    states: `[G, ...]`, last states of games that began on an empty board.
    turn: int32 `[]`.

  Returns:
    What `recorded.states` reads; 'result' float32 `[G]`, the outcome for the player to move; and
    'mask' float32 `[G]`, 0 for games that were over by then.
  """
  _, points, gone = jax.vmap(lambda state: stones_of(game.rules, state))(states)
  count = jnp.broadcast_to(turn, points.shape[:1])
  return {
    **_records(points.astype(jnp.uint16), gone.astype(jnp.uint16), count),
    'result': jnp.sign(jax.vmap(game.score)(states)) * sign(turn % 2),
    'mask': (states.num_entries.astype(jnp.int32) > turn).astype(jnp.float32),
  }


def _records(points: Array, gone: Array, count: Array) -> dict[str, Array]:
  """Returns `recorded.FIELDS` of games that began on an empty board, black to move."""
  zeros = jnp.zeros_like(count)
  records = {'points': points, 'gone': gone, 'count': count}
  return {**records, 'start': zeros, 'blacks': zeros, 'first': zeros}


def sample(game: Go, episodes: Episodes, key: Array, count: int) -> dict[str, Array]:
  """Returns `count` of the learner's moves, drawn uniformly with replacement; passes are left out.

  Args:
    game: the rules.
    episodes: G games.
    key: typed.
    count: how many.

  Returns:
    What `recorded.states` reads, `[count, ...]`, the positions before the moves; 'move' int32
    `[count]`; 'result' float32 `[count]`, the outcome for the learner; and 'among' int32 `[count]`,
    how many moves there were to draw from: 0 where the learner only passed, and then the rest means
    nothing.
  """
  _, points, gone = jax.vmap(lambda state: stones_of(game.rules, state))(episodes.states)
  entry = jnp.arange(points.shape[1])[None]
  made = entry < episodes.states.num_entries.astype(jnp.int32)[:, None]
  made &= (entry % 2 == episodes.side[:, None]) & (points < game.rules.points)
  before = jnp.cumsum(made.reshape(-1), dtype=jnp.int32)
  chosen = jax.random.randint(key, (count,), 0, jnp.maximum(before[-1], 1))
  place = jnp.searchsorted(before, chosen, side='right').astype(jnp.int32)
  place = jnp.minimum(place, before.shape[0] - 1)
  number, turn = place // points.shape[1], place % points.shape[1]
  return {
    **_records(points[number], gone[number], turn),
    'move': jnp.minimum(points[number, turn], game.rules.points - 1),
    'among': jnp.full((count,), before[-1]),
    'result': episodes.result[number],
  }
