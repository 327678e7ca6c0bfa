"""From a game and an evaluator to what `search` takes: its roots, and its `expand`.

An evaluator is `(states, keys) -> (logits [B, A], values [B])` over a batch of states with a key
each; values are for the player to move. Illegal actions and finished games are seen to here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mcts.game import Game
from mcts.search.tree import Root
from mcts.search.tree_search import Expand, Expansion, game_keys

Evaluate = Callable[[Any, Array], tuple[Array, Array]]


def make_root(game: Game, evaluate: Evaluate) -> Callable[[Any, Array], Root]:
  """(states, key or keys) -> roots."""

  def root(states, key):
    like = jax.tree.leaves(states)[0]
    expansion = _assess(game, evaluate, states, game_keys(key, like))
    return Root(
      state=states,
      node=expansion.node,
      logits=expansion.logits,
      value=expansion.value,
      done=expansion.done,
    )

  return root


def make_expand(game: Game, evaluate: Evaluate) -> Expand:
  """The states of leaves from those of their parents, evaluated."""

  def expand(leaf):
    states = jax.vmap(game.unpack)(leaf.parent, leaf.root, leaf.line, leaf.length)
    return _assess(game, evaluate, jax.vmap(game.step)(states, leaf.action), leaf.key)

  return expand


def _assess(game, evaluate, states, keys):
  logits, values = evaluate(states, keys)
  legal, done = jax.vmap(game.legal)(states), jax.vmap(game.done)(states)
  return Expansion(
    node=jax.vmap(game.pack)(states),
    logits=jnp.where(legal, logits.astype(jnp.float32), -jnp.inf),
    value=jnp.where(done, jax.vmap(game.value)(states), values.astype(jnp.float32)),
    done=done,
  )


def network(game: Game, apply: Callable[[Array], tuple[Array, Array]]) -> Evaluate:
  """From `apply`, observations `[B, H, W, C]` -> (logits `[B, A]`, values `[B]`)."""

  def evaluate(states, keys):
    del keys
    return apply(jax.vmap(game.observe)(states))

  return evaluate


def turned(game: Game, apply: Callable[[Array], tuple[Array, Array]]) -> Evaluate:
  """Likewise, but it sees each position turned or mirrored at random, as the game allows.

  Silver et al. 2017, Methods, 'Search algorithm', expand and evaluate.
  """
  group = game.symmetries

  def evaluate(states, keys):
    turns = jax.vmap(lambda key: jax.random.randint(key, (), 0, group.count))(keys)
    logits, values = apply(jax.vmap(group.board)(jax.vmap(game.observe)(states), turns))
    return jax.vmap(group.policy)(logits, jax.vmap(group.inverse)(turns)), values

  return evaluate


def uniform(game: Game) -> Evaluate:
  """All legal actions alike, and every position even."""

  def evaluate(states, keys):
    del states
    values = jnp.zeros_like(jax.random.key_data(keys)[:, 0], jnp.float32)
    return jnp.broadcast_to(values[:, None], (*values.shape, game.num_actions)), values

  return evaluate


def draw(mask: Array, key: Array) -> Array:
  """int32 `[]`: where the mask `[A]` is true, anywhere with equal chances."""
  return jnp.where(mask, jax.random.uniform(key, mask.shape), -1).argmax().astype(jnp.int32)


def play_out(game: Game, choose, states, keys: Array, max_moves: int):
  """The states at the ends of games that go on with `choose(game, states, keys)`, actions `[B]`.

  keys: one a game. At the latest they end `max_moves` moves from here.
  """

  def going(carry):
    move, _, over = carry
    return ~over.all() & (move < max_moves)

  def play(carry):
    move, states, _ = carry
    move_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, move)
    states = jax.vmap(game.step)(states, choose(game, states, move_keys))
    return move + 1, states, jax.vmap(game.done)(states)

  over = jax.vmap(game.done)(states)
  return jax.lax.while_loop(going, play, (over[0].astype(jnp.int32) * 0, states, over))[1]
