"""Plays pairs of games between two players of any game, in one batch on the device.

Both games of a pair begin with the same opening, and in one of them players[0] is the first to move
after it, in the other players[1]. So the batch has two halves of P games each: in every turn
players[0] moves in the first half and players[1] in the second, and then the halves change places.
Each player is called once a turn, on P states.

`play_pairs` is a whole match in compiled code; `mcts.match.lockstep` drives the same turns from the
host and records the moves.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts.engines.players import Player, random_player
from mcts.game import Game, State, initial_states
from mcts.search.simulate import fold_in

Players = tuple[Player, Player]

Halves = tuple[State, State]
"""States `[P, ...]` of the games in which players[0] is to move, and of those of players[1]."""

TurnKeys = Callable[[Any, int], Array]
"""(turn, player 0 or 1) -> typed keys `[P]` for that player's moves in that turn."""


def play_pairs(game: Game, players: Players, keys: Array, num_opening_moves: int) -> Array:
  """Returns float32 `[P, 2]`: 1, 0 or -1 as players[0] won, drew or lost.

  -inf where players[0] had no answer (`Player`), inf where players[1] had none: that is no result,
  and no mean over it is finite. The first column is of the games in which players[0] moved first
  after the opening, the second of the others. May be traced, also under `shard_map`.

  Args:
    game: that is played.
    players: functions of states and keys.
    keys: typed keys `[P]`, one for each pair of games.
    num_opening_moves: random moves that both games of a pair begin with.
  """
  # Apart, so that the players draw the same after openings of any length.
  opening_keys, keys = fold_in(keys, 0), fold_in(keys, 1)
  start, _ = play_opening(
    game,
    random_player(game),
    initial_states(game, keys.shape[0]),
    lambda move: fold_in(opening_keys, move),
    num_opening_moves,
  )
  ends, failed = _play_to_end(game, players, start, lambda turn, i: fold_in(keys, 2 * turn + i))
  first = jax.vmap(game.to_play)(start)
  # `first` is players[0] in the first half and players[1] in the second: hence the sign.
  values = [_value_for(game, end, first) for end in ends]
  results = jnp.stack([values[0], -values[1]], 1)
  return jnp.select([failed == 0, failed == 1], [-jnp.inf, jnp.inf], results)


def play_opening(
  game: Game, player: Player, states: State, keys: Callable[[int], Array], num_moves: int
) -> tuple[State, list[Array]]:
  """Returns states `[P, ...]` after `num_moves` moves of `player`, and the actions `[P]` of each.

  `keys` gives the typed keys `[P]` of a move by its number.
  """
  actions = []
  for move in range(num_moves):
    actions.append(player(states, keys(move)))
    states = compiled(game).step(states, actions[-1])
  return states, actions


def play_turn(
  game: Game, players: Players, halves: Halves, turn: Any, keys: TurnKeys
) -> tuple[Halves, list[Array]]:
  """Returns the halves after one turn, in their new places, and the actions `[P]` of each player.

  `turn`, an int or a traced int32, goes to `keys` alone.
  """
  actions = [
    player(half, keys(turn, i))
    for i, (player, half) in enumerate(zip(players, halves, strict=True))
  ]
  # Any action does where a player has none: whoever calls ends such a game.
  first, second = (
    compiled(game).step(half, jnp.maximum(action, 0))
    for half, action in zip(halves, actions, strict=True)
  )
  return (second, first), actions  # in both halves the other player is to move


def _play_to_end(
  game: Game, players: Players, start: State, keys: TurnKeys
) -> tuple[Halves, Array]:
  """Returns the final states of the games that players[0] began and of those of players[1].

  Also int32 `[P, 2]`, which player had no answer in each of them, -1 for none.
  """

  def over(halves):
    return jnp.stack([jax.vmap(game.done)(half) for half in halves], 1)  # [P, 2]

  def going(carry):
    _, halves, failed = carry
    # The longest game decides; those that are over stay as they are, whatever is played in them.
    return ~(over(halves) | (failed >= 0)).all()

  def turn(carry):
    number, halves, failed = carry
    ended = over(halves)
    halves, actions = play_turn(game, players, halves, number, keys)
    fails = (jnp.stack(actions, 1) < 0) & ~ended & (failed < 0)
    # The columns change places with the halves.
    return number + 1, halves, jnp.where(fails, jnp.arange(2), failed)[:, ::-1]

  nobody = jnp.where(over((start, start)), -1, -1)  # varies over devices as the states do
  # Both games of a pair start from one state, and part with the first move.
  turns, (a, b), failed = lax.while_loop(going, turn, (jnp.int32(0), (start, start), nobody))
  even = turns % 2 == 0  # else the halves have changed places
  select = functools.partial(jax.tree.map, lambda x, y: jnp.where(even, x, y))
  return (select(a, b), select(b, a)), select(failed, failed[:, ::-1])


def _value_for(game: Game, ends: State, player: Array) -> Array:
  """Returns float32 `[P]`, the results of finished games for `player` (int32 `[P]`)."""
  same = jax.vmap(game.to_play)(ends) == player
  return jax.vmap(game.value)(ends) * jnp.where(same, 1.0, -1.0)


class Compiled(NamedTuple):
  """A game's functions over a batch, compiled; inlined where they are traced."""

  step: Callable[[State, Array], State]
  done: Callable[[State], Array]


# Once a game: with another `jax.jit` each time the host's loop would compile every move.
@functools.cache
def compiled(game: Game) -> Compiled:
  """Returns the compiled functions of a game."""
  return Compiled(jax.jit(jax.vmap(game.step)), jax.jit(jax.vmap(game.done)))
