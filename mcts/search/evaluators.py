"""Evaluators, and what `search` takes made of a game and an evaluator: its roots and its `expand`.

An evaluator is `(states [B, ...], typed keys [B]) -> (logits [B, A], values [B])`; values are in
[-1, 1] for the player to move. Illegal actions and finished games are dealt with here, not by it.

An evaluation that is not finite is no answer: `masked` makes its value NaN, whatever of it was NaN
or infinite. The backup adds that to all edges up to the root, so that `tree_search.decide` sees it
by one look at a root, and a simulation does no more than without.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mcts.game import Game
from mcts.search.simulate import Expand, Expansion, fold_in
from mcts.search.tree import Root
from mcts.search.tree_search import game_keys

Evaluate = Callable[[Any, Array], tuple[Array, Array]]

Apply = Callable[[Array], tuple[Array, Array]]
"""A network: planes `[B, H, W, C]` to logits `[B, A]` and values `[B]`."""


def make_root(game: Game, evaluate: Evaluate) -> Callable[[Any, Array], Root]:
  """Returns a function of states `[B, ...]` and a key or keys `[B]` to evaluated roots."""

  def root(states, key):
    like = jax.tree.leaves(states)[0]
    expansion = _evaluate(game, evaluate, states, game_keys(key, like))
    return Root(
      state=states,
      node=expansion.node,
      logits=expansion.logits,
      value=expansion.value,
      done=expansion.done,
    )

  return root


def make_expand(game: Game, evaluate: Evaluate) -> Expand:
  """Returns the function that plays each leaf's action in its parent's state and evaluates it."""

  def expand(leaf):
    # A tree keeps packed nodes (in Go at 19x19 101 bytes of a state's 2,470): the state is made
    # from the root's, of which there is one a game, and the moves between.
    states = jax.vmap(game.unpack)(leaf.parent, leaf.root, leaf.line, leaf.length)
    return _evaluate(game, evaluate, jax.vmap(game.step)(states, leaf.action), leaf.key)

  return expand


def _evaluate(game, evaluate, states, keys):
  """Returns the expansion of states: logits masked, and of finished games the true value."""
  # Finished games are evaluated too and overruled: in a batch a branch would compute both sides.
  done = jax.vmap(game.done)(states)
  logits, values = evaluate(states, keys)
  logits, values = masked(logits, values, jax.vmap(game.legal)(states))
  return Expansion(
    node=jax.vmap(game.pack)(states),
    logits=logits,
    value=jnp.where(done, jax.vmap(game.value)(states), values),
    done=done,
  )


def masked(logits: Array, values: Array, legal: Array) -> tuple[Array, Array]:
  """Returns an evaluation in float32: logits -inf where illegal, values NaN where it is not finite.

  A legal action may have the logit -inf, but not all of them.

  Args:
    logits: `[B, A]`, of any dtype.
    values: `[B]`.
    legal: bool `[B, A]`.

  Raises:
    ValueError: logits or values have another shape, which might be broadcast.
  """
  for name, x, shape in (('logits', logits, legal.shape), ('values', values, legal.shape[:1])):
    if x.shape != shape:
      raise ValueError(f'evaluator: {name} have shape {x.shape}, must have {shape}')
  logits = jnp.where(legal, logits.astype(jnp.float32), -jnp.inf)
  # XLA's CPU backend leaves NaN out of the maximum of a long row.
  sound = jnp.isfinite(logits.max(-1)) & ~jnp.isnan(logits).any(-1) & jnp.isfinite(values)
  return logits, jnp.where(sound, values.astype(jnp.float32), jnp.nan)


# -------- evaluators --------


def network(game: Game, apply: Apply) -> Evaluate:
  """Returns the evaluator that asks a network."""

  def evaluate(states, keys):
    del keys
    return apply(jax.vmap(game.observe)(states))

  return evaluate


def random_symmetry(game: Game, apply: Apply) -> Evaluate:
  """Returns an evaluator that shows a network each position under a random symmetry.

  Silver et al. 2017, Methods, 'Search algorithm', expand and evaluate.
  """
  group = game.symmetries

  def evaluate(states, keys):
    elements = jax.vmap(lambda key: jax.random.randint(key, (), 0, group.count))(keys)  # [B]
    logits, values = apply(jax.vmap(group.board)(jax.vmap(game.observe)(states), elements))
    # The policy is of the turned board and is turned back; the value is the same for both.
    return jax.vmap(group.policy)(logits, jax.vmap(group.inverse)(elements)), values

  return evaluate


def uniform(game: Game) -> Evaluate:
  """Returns the evaluator that knows nothing: a uniform policy, and 0 for every position."""

  def evaluate(states, keys):
    del states
    # Of the keys, so that under `shard_map` it varies over devices as they do.
    values = jnp.zeros_like(jax.random.key_data(keys)[:, 0], jnp.float32)
    return jnp.broadcast_to(values[:, None], (*values.shape, game.num_actions)), values

  return evaluate


def rollout(game: Game) -> Evaluate:
  """Returns the evaluator with a uniform policy and the result of one random game as the value."""
  prior = uniform(game)

  def choose(game, states, keys):
    return jax.vmap(random_action)(jax.vmap(game.rollout_legal)(states), keys)

  def evaluate(states, keys):
    # All games run to the end of the longest; those that are over do not change any more.
    end = play_out(game, choose, states, keys, game.max_length)
    # `value` is for whoever would be to move at the end, and is wanted for who is to move now.
    same = jax.vmap(game.to_play)(states) == jax.vmap(game.to_play)(end)
    value = jax.vmap(game.value)(end) * jnp.where(same, 1.0, -1.0)
    return prior(states, keys)[0], value

  return evaluate


def random_action(mask: Array, key: Array) -> Array:
  """Returns int32 `[]`, an action where the mask `[A]` is true, with equal chances (unbatched)."""
  # The largest of independent uniform numbers is a uniform choice, without logarithms.
  return jnp.where(mask, jax.random.uniform(key, mask.shape), -1).argmax().astype(jnp.int32)


def play_out(game: Game, choose, states, keys: Array, max_moves: int):
  """Returns the states after games were played on to their ends.

  Args:
    game: whose states these are.
    choose: (game, states, keys) -> actions `[B]`.
    states: `[B, ...]`.
    keys: typed `[B]`.
    max_moves: after which games that have no end yet are left as they are.
  """

  def going(carry):
    move, _, over = carry
    return ~over.all() & (move < max_moves)

  def play(carry):
    move, states, _ = carry
    states = jax.vmap(game.step)(states, choose(game, states, fold_in(keys, move)))
    return move + 1, states, jax.vmap(game.done)(states)

  # The count of moves begins with a zero made of data, which varies over devices as `over` does.
  over = jax.vmap(game.done)(states)
  return jax.lax.while_loop(going, play, (over[0].astype(jnp.int32) * 0, states, over))[1]
