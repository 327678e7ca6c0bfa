"""Counts all lines of play of a small game in which one side plays by a fixed player."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.engines.players import NoAnswer, Player
from mcts.game import Game, initial_states


class Outcomes(NamedTuple):
  """How many lines of play a player wins, draws and loses."""

  wins: int
  draws: int
  losses: int


def count_outcomes(game: Game, player: Player, side: int, max_open: int = 1024) -> Outcomes:
  """Returns the outcomes of every line in which the opponent may play any legal move.

  Args:
    game: a small one, such as tic-tac-toe.
    player: called from the host once a turn, so it should be compiled. It should draw nothing:
      its keys are always the same.
    side: 0 if the player moves first, 1 if second.
    max_open: lines that may be open at a time; the batch has so many states.

  Raises:
    ValueError: if more lines are open at a time.
    NoAnswer: the player has no move.
  """
  step, branch, results = _compile(game)
  states = initial_states(game, max_open)
  keys = jax.vmap(jax.random.key)(jnp.arange(max_open))
  is_open, number, total = jnp.arange(max_open) < 1, 1, np.zeros(3, int)
  while bool(is_open.any()):
    if number % 2 != side:
      actions = player(states, keys)
      if bool(((actions < 0) & is_open).any()):
        raise NoAnswer('the player', f'move {number}')
      states = step(states, actions)
    else:
      states, is_open, count = branch(states, is_open)
      if int(count) > max_open:
        raise ValueError(f'{int(count)} lines are open at a time: more than {max_open}')
    is_open, ended = results(states, is_open, side)
    total, number = total + np.asarray(ended), number + 1
  return Outcomes(*total.tolist())


@functools.cache
def _compile(game: Game):
  step = jax.vmap(game.step)

  def branch(states: Any, is_open: Array) -> tuple[Any, Array, Array]:
    """Returns the states after each legal move, the open lines first, and how many these are."""
    legal = jax.vmap(game.legal)(states) & is_open[:, None]
    line, action = jnp.nonzero(legal, size=len(is_open), fill_value=0)
    count = legal.sum()
    after = step(jax.tree.map(lambda x: x[line], states), action)
    return after, jnp.arange(len(is_open)) < count, count

  def results(states: Any, is_open: Array, side: int) -> tuple[Array, Array]:
    """Returns the lines that go on, and how many were just won, drawn and lost by `side`."""
    over = is_open & jax.vmap(game.done)(states)
    ours = jax.vmap(game.to_play)(states) == side
    value = jax.vmap(game.value)(states) * jnp.where(ours, 1.0, -1.0)
    return is_open & ~over, jnp.stack([(over & (value == x)).sum() for x in (1, 0, -1)])

  return jax.jit(step), jax.jit(branch), jax.jit(results)
