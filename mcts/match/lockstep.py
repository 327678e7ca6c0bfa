"""Two engines play all the games of a match at once, in one batch on the device."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mcts.engines import Engine
from mcts.game import initial_states
from mcts.go import Go, playouts
from mcts.go.position import shared_game
from mcts.match.referee import Game, Terms


def openings(terms: Terms, pairs: Sequence[int]):
  """The states after the pairs' random openings `[P, ...]`, and int32 `[T, P]` the actions."""
  game = shared_game(terms.size, terms.superko, terms.suicide, terms.max_moves)
  init = initial_states(game, len(pairs), terms.komi)

  opening = _programs(game).opening
  states, actions = init, []
  for turn in range(terms.opening):
    states, action = opening(states, _keys(terms.seed, turn, pairs))
    actions.append(np.asarray(action))
  return states, np.array(actions, np.int32).reshape(-1, len(pairs))


def _keys(seed: int, turn: int, numbers: Sequence[int]):
  """Keys `[P]`, of a seed, a turn, and each game's number: the same in any company."""
  key = jax.random.fold_in(jax.random.key(seed), turn)
  return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(numbers, jnp.uint32))


def play(
  players: tuple[Engine, Engine],
  terms: Terms,
  pairs: Sequence[int],
  tell: Callable[[int, int], None] = lambda turn, living: None,
) -> list[Game]:
  """Both games of each pair, all in lockstep; a turn is one call of each engine.

  tell: is called after each turn with its number and how many games go on.
  """
  game = shared_game(terms.size, terms.superko, terms.suicide, terms.max_moves)
  acts = [engine.act(game) for engine in players]
  begin, actions = openings(terms, pairs)
  groups = [begin, begin]  # the first player is black in the first group, white in the second
  alive = np.ones((2, len(pairs)), bool)
  moves = [np.stack([row, row]) for row in actions]  # [2, P] a turn
  living = [alive] * len(moves)
  while alive.any():
    turn, chosen = len(moves), []
    for black in (0, 1):
      numbers = [2 * pair + black for pair in pairs]
      action = acts[black ^ (turn % 2)](groups[black], _keys(terms.seed + 1, turn, numbers))
      groups[black], over = _programs(game).step(groups[black], action)
      chosen.append((np.asarray(action), ~np.asarray(over)))
    moves.append(np.stack([action for action, _ in chosen]))
    living.append(alive)
    alive = np.stack([going for _, going in chosen])
    tell(turn + 1, int(alive.sum()))
  scores = [np.asarray(_programs(game).score(states)) for states in groups]
  return _games(np.array(moves), np.array(living), scores, terms, pairs)


def _games(moves, living, scores, terms, pairs):
  """From moves and whether they were made, `[T, 2, P]`, and scores `[2][P]`."""
  return [
    Game.scored(
      2 * pair + black, black, moves[living[:, black, p], black, p], scores[black][p], terms
    )
    for p, pair in enumerate(pairs)
    for black in (0, 1)
  ]


class _Programs(NamedTuple):
  opening: Callable[..., Any]  # (states, keys) -> states, actions
  step: Callable[..., Any]  # (states, actions) -> states, whether they are over
  score: Callable[..., Any]


@functools.cache
def _programs(game: Go) -> _Programs:
  def opening(states, keys):
    action = playouts.random_moves(game, states, keys)
    return jax.vmap(game.step)(states, action), action

  def step(states, actions):
    states = jax.vmap(game.step)(states, actions)
    return states, jax.vmap(game.done)(states)

  return _Programs(*map(jax.jit, (opening, step, jax.vmap(game.score))))
