"""Plays the Go games of a match between two engines at once, in one batch on the device."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.engines import Engine, NoAnswer, RandomEngine
from mcts.game import State, initial_states
from mcts.go import Go
from mcts.match import batch
from mcts.match.record import GameRecord
from mcts.match.terms import MatchTerms


def openings(terms: MatchTerms, pairs: Sequence[int]) -> tuple[State, np.ndarray]:
  """Returns the states `[P, ...]` after the openings of pairs of games, and int32 `[T, P]` moves.

  An opening depends on the seed and the number of its pair alone.
  """
  game, seed = terms.game(), terms.openings.seed
  states, actions = batch.play_opening(
    game,
    RandomEngine().player(game),
    initial_states(game, len(pairs), terms.rules.komi),
    lambda move: _keys(seed, move, pairs),
    terms.num_opening_moves,
  )
  return states, np.array(actions, np.int32).reshape(-1, len(pairs))


def _keys(seed: int, turn: int, numbers: Sequence[int]) -> Array:
  """Returns typed keys `[P]` of a seed, a turn and each game's number, whatever the batch."""
  key = jax.random.fold_in(jax.random.key(seed), turn)
  return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(numbers, jnp.uint32))


def play(
  engines: tuple[Engine, Engine],
  terms: MatchTerms,
  pairs: Sequence[int],
  on_turn: Callable[[int, int], None] = lambda turn, going: None,
) -> Iterator[GameRecord]:
  """Plays both games of each pair, each engine called once a turn; then yields their records.

  Args:
    engines: the first of them has black in game 2 p of pair p, white in game 2 p + 1.
    terms: of the match; there are no clocks, and engines do not clean up before a pass.
    pairs: numbers of the pairs.
    on_turn: called after each turn with its number and how many games go on.

  Yields:
    The records of the games, by number.

  Raises:
    NoAnswer: an engine has no move in a game, after the records of the games that were over.
  """
  game, keys = terms.game(), _turn_keys(terms.openings.seed + 1, pairs)
  players = (engines[0].player(game), engines[1].player(game))
  start, opening = openings(terms, pairs)
  halves = (start, start)
  moves = [np.stack([row, row]) for row in opening]  # each [2, P], by which player is black
  going = np.ones((2, len(pairs)), bool)
  was_going = [going] * len(moves)
  while going.any():
    turn = len(moves)
    halves, actions = batch.play_turn(game, players, halves, turn, keys)
    moves.append(_by_black(turn, actions))
    was_going.append(going)
    failed = (moves[-1] < 0) & going  # [2, P]
    if failed.any():
      break
    going = ~_by_black(turn + 1, [batch.compiled(game).done(half) for half in halves])
    on_turn(turn + 1, int(going.sum()))
  scores = _by_black(len(moves), [_compile_score(game)(half) for half in halves])
  records = _records(np.array(moves), np.array(was_going), scores, pairs)
  over = ~going.T.reshape(-1)  # [2 P], by number
  yield from (record for record, done in zip(records, over, strict=True) if done)
  if going.any():
    black, pair = np.argwhere(failed)[0]
    where = f'move {turn + 1} of game {2 * pairs[pair] + black}'
    raise NoAnswer(engines[_black(turn, black)].name, where)


def _turn_keys(seed: int, pairs: Sequence[int]) -> batch.TurnKeys:
  """Returns the keys of games by their numbers in the match."""
  return lambda turn, player: _keys(seed, turn, [2 * pair + _black(turn, player) for pair in pairs])


def _black(turn: int, player: int) -> int:
  """Returns which player is black (to move in even turns) where `player` is to move."""
  return player ^ (turn % 2)


def _by_black(turn: int, by_mover: Sequence[Array]) -> np.ndarray:
  """Returns `[2, P]` by who is black, from `[P]` of players[0] to move and of players[1]."""
  return np.stack([np.asarray(by_mover[_black(turn, black)]) for black in (0, 1)])


def _records(moves, was_going, scores, pairs):
  """Returns records from moves and whether they were made, `[T, 2, P]`, and scores `[2, P]`."""
  return [
    GameRecord.scored(
      2 * pair + black, black, moves[was_going[:, black, p], black, p], scores[black, p]
    )
    for p, pair in enumerate(pairs)
    for black in (0, 1)
  ]


@functools.cache
def _compile_score(game: Go) -> Callable[[State], Array]:
  return jax.jit(jax.vmap(game.score))
