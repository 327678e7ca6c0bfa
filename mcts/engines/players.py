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
from mcts.search.policies import Decision, Rule
from mcts.search.simulate import fold


class Player(Protocol):
  """A player of one game, on the device.

  It is pure and may be traced. Each game of the batch has a key of its own, so that what a player
  does in one game does not depend on the games beside it.
  """

  def __call__(self, states: Any, keys: Array, /) -> Array:
    """Returns int32 `[B]`, a legal action for the player to move in each game.

    Args:
      states: of the game, `[B, ...]`. In a game that is over any action may be returned.
      keys: typed keys `[B]`.
    """


def random_player(game: Game) -> Player:
  """Returns a player that draws from the legal actions with equal probabilities."""
  return lambda states, keys: jax.vmap(evaluators.draw)(jax.vmap(game.legal)(states), keys)


def policy_player(game: Game, evaluate: Evaluate) -> Player:
  """Returns a player without search: the legal action with the highest prior logit."""
  root = evaluators.make_root(game, evaluate)
  return lambda states, keys: root(states, keys).logits.argmax(-1)


def search_player(game: Game, evaluate: Evaluate, selection: Rule, num_simulations: int) -> Player:
  """Returns a player of the action that `search_decider` prefers."""
  decide = search_decider(game, evaluate, selection, num_simulations)
  return lambda states, keys: decide(states, keys).action


def search_decider(
  game: Game, evaluate: Evaluate, selection: Rule, num_simulations: int
) -> Callable[[Any, Array], Decision]:
  """Returns `(states [B, ...], keys [B]) -> Decision` by a search at temperature 0."""
  decide = make_search(game, evaluate, selection, num_simulations)
  return lambda states, keys: decide(states, fold(keys, 0), fold(keys, 1))


def make_search(
  game: Game, evaluate: Evaluate, selection: Rule, num_simulations: int, temperature: float = 0.0
) -> Callable[[Any, Array, Array], Decision]:
  """Returns a search from new trees: `(states, root keys, search keys) -> Decision`.

  Args:
    game: the game of the states.
    evaluate: priors and values of a batch of states, see `mcts.search.evaluators`.
    selection: how edges are selected and the decision is made, see `mcts.search.policies`.
    num_simulations: for each move.
    temperature: of the move; 0 plays the search's best, so that nothing is drawn.
  """
  root, expand = evaluators.make_root(game, evaluate), evaluators.make_expand(game, evaluate)

  def decide(states: Any, root_keys: Array, keys: Array) -> Decision:
    roots = root(states, root_keys)
    tree = search_lib.search(roots, expand, keys, num_simulations=num_simulations, rule=selection)
    return selection.decide(tree, fold(keys, 2), temperature)

  return decide


def rollout(game: Game, max_moves: int = 1000) -> Evaluate:
  """Returns an evaluator with a uniform prior, whose value is the outcome of one random game.

  Args:
    game: any game whose random games end. Of Go see `mcts.go.playouts.rollout`.
    max_moves: of a random game; one that has not ended by then has the value 0.
  """
  prior, choose = evaluators.uniform(game), random_player(game)

  def evaluate(states: Any, keys: Array) -> tuple[Array, Array]:
    end = evaluators.play_out(game, lambda _, s, k: choose(s, k), states, keys, max_moves)
    same = jax.vmap(game.to_play)(states) == jax.vmap(game.to_play)(end)
    value = jax.vmap(game.value)(end) * jnp.where(same, 1.0, -1.0)
    return prior(states, keys)[0], jnp.where(jax.vmap(game.done)(end), value, 0.0)

  return evaluate
