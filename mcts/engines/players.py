"""Players of any game on the device: functions of a batch of states to a batch of actions."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from mcts import search as search_lib
from mcts.game import Game
from mcts.search import evaluators
from mcts.search.evaluators import Evaluate
from mcts.search.selection import PolicyOutput, SelectionPolicy
from mcts.search.simulate import fold_in


class NoAnswer(ValueError):
  """A player has no move, since what its network says of a position is NaN or infinite."""

  def __init__(self, name: str, where: str):
    """Says whose network it is and where it was asked, such as 'move 3 of game 7'."""
    super().__init__(f'{name}: at {where} its network gives NaN or infinity, which is no answer')


class Player(Protocol):
  """A player of one game, on the device.

  It is pure and may be traced. Each game of the batch has a key of its own, so that what a player
  does in one game does not depend on the games beside it.
  """

  def __call__(self, states: Any, keys: Array, /) -> Array:
    """Returns int32 `[B]`, a legal action for the player to move in each game.

    -1 says that it has none, because what its network says is not finite.

    Args:
      states: of the game, `[B, ...]`. In a game that is over any action may be returned.
      keys: typed keys `[B]`.
    """


def random_player(game: Game) -> Player:
  """Returns a player that draws from the legal actions with equal probabilities."""
  return lambda states, keys: jax.vmap(evaluators.random_action)(jax.vmap(game.legal)(states), keys)


def policy_player(game: Game, evaluate: Evaluate) -> Player:
  """Returns a player without search: the legal action with the highest prior logit."""
  root = evaluators.make_root(game, evaluate)

  def choose(states: Any, keys: Array) -> Array:
    roots = root(states, keys)
    return jnp.where(jnp.isfinite(roots.value), roots.logits.argmax(-1), -1)

  return choose


def search_player(
  game: Game, evaluate: Evaluate, selection: SelectionPolicy, num_simulations: int
) -> Player:
  """Returns a player of the action that `search_decider` prefers."""
  decide = search_decider(game, evaluate, selection, num_simulations)
  return lambda states, keys: decide(states, keys).action


def search_decider(
  game: Game, evaluate: Evaluate, selection: SelectionPolicy, num_simulations: int
) -> Callable[[Any, Array], PolicyOutput]:
  """Returns `(states [B, ...], keys [B]) -> PolicyOutput` by a search at temperature 0."""
  decide = make_search(game, evaluate, selection, num_simulations)
  return lambda states, keys: decide(states, fold_in(keys, 0), fold_in(keys, 1))


def make_search(
  game: Game,
  evaluate: Evaluate,
  selection: SelectionPolicy,
  num_simulations: int,
  temperature: float = 0.0,
) -> Callable[[Any, Array, Array], PolicyOutput]:
  """Returns a search from new trees: `(states, root keys, search keys) -> PolicyOutput`.

  Args:
    game: the game of the states.
    evaluate: priors and values of a batch of states, see `mcts.search.evaluators`.
    selection: how edges are selected and the decision is made, see `mcts.search.selection`.
    num_simulations: for each move.
    temperature: of the move; 0 plays the search's best, so that nothing is drawn.
  """
  root, expand = evaluators.make_root(game, evaluate), evaluators.make_expand(game, evaluate)

  def decide(states: Any, root_keys: Array, keys: Array) -> PolicyOutput:
    roots = root(states, root_keys)
    output, _ = search_lib.puct(
      roots,
      expand,
      keys,
      selection=selection,
      temperature=temperature,
      num_simulations=num_simulations,
    )
    return output

  return decide
