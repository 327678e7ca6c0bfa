"""A game by hand in the terminal, against the network of a run or against a search by rollouts."""

import functools
from collections.abc import Callable
from typing import Any, TextIO

import jax
import jax.numpy as jnp
from jax import Array

import mcts
from mcts.engines import Player
from mcts.game import Game
from mcts.games import terminal
from train.errors import UserError
from train.task import Variables
from train.tasks import matches
from train.tasks.selfplay.task import SelfPlayTask


def by_hand(
  task: SelfPlayTask,
  variables: Variables,
  *,
  num_simulations: int = 0,
  human: int = 0,
  seed: int = 0,
  input: TextIO | None = None,
  output: TextIO | None = None,
) -> float | None:
  """Plays one game between a human and a run's network in the terminal.

  Args:
    task: of the run.
    variables: of the run.
    num_simulations: of the network's search; 0 for as many as in its evaluations.
    human: 0 to move first, 1 to move second.
    seed: of what the search draws at random.
    input: where moves are read; stdin by default.
    output: where the game is shown; stdout by default.

  Returns:
    1, 0 or -1 as the human has won, drawn or lost; None for a game that was left.

  Raises:
    UserError: num_simulations is negative.
  """
  if num_simulations < 0:
    raise UserError(f'simulations {num_simulations}: must be at least 0')
  make = functools.partial(task.player, num_simulations=num_simulations)
  opponent = chooser(make, variables, seed)
  return terminal.play(task.game, opponent, human=human, input=input, output=output)


def by_hand_against_rollouts(
  game: str,
  *,
  num_simulations: int = 400,
  human: int = 0,
  seed: int = 0,
  input: TextIO | None = None,
  output: TextIO | None = None,
) -> float | None:
  """Plays one game between a human and a search that evaluates leaves by random games.

  Args:
    game: of `mcts.GAMES`, such as 'connect_four' or 'go(size=5)'.
    num_simulations: of the search, at least 1.
    human: as for `by_hand`, as are the others.
    seed: of what the search draws at random.
    input: where moves are read.
    output: where the game is shown.

  Returns:
    As `by_hand`.

  Raises:
    UserError: there is no such game, or num_simulations is below 1.
  """
  if num_simulations < 1:
    raise UserError(f'simulations {num_simulations}: must be at least 1')
  built: Game = matches.build_spec(game, mcts.GAMES, '--game')
  player = matches.rollout(built, num_simulations)
  opponent = chooser(lambda _: player, (), seed)
  return terminal.play(built, opponent, human=human, input=input, output=output)


def chooser(make: Callable[[Any], Player], variables: Any, seed: int) -> terminal.Opponent:
  """Returns a function of one state to the player's action, compiled when it is first called."""

  @jax.jit
  def choose(variables: Any, state: Any, key: Array) -> Array:
    return make(variables)(jax.tree.map(lambda x: jnp.asarray(x)[None], state), key[None])[0]

  moves = 0

  def opponent(state: Any) -> int:
    nonlocal moves
    moves += 1
    action = int(choose(variables, state, jax.random.fold_in(jax.random.key(seed), moves)))
    if action < 0:
      raise matches.no_answer('the network', f'its move {moves}')
    return action

  return opponent
