"""Random games of Go by players who leave their own eyes alone, and the search's evaluator of them.

Without that bit of sense games would not end before the cap on moves, and their outcomes would say
little of the position that they began from.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts import chains, evaluators
from mcts.go import Go, State


def random_moves(game: Go, states: State, keys: Array) -> Array:
  """int32 `[B]`: a legal point at random, except what fills an eye of one's own; else a pass."""

  def choose(state, key):
    points = game.legal(state)[:-1] & ~own_eyes(game, state)
    mask = jnp.append(points, ~points.any())
    draw = jnp.where(mask, jax.random.uniform(key, mask.shape), -1.0)
    return draw.argmax().astype(jnp.int32)

  return jax.vmap(choose)(states, keys)


def own_eyes(game: Go, state: State) -> Array:
  """bool `[N^2]`: empty points whose neighbours are all of the player to move, and safe.

  Safe if the opponent has at most one of the diagonal neighbours, at the edge none.
  """
  size = game.size
  mine = jnp.sign(state.chains) * (1 - 2 * game.to_play(state)).astype(state.chains.dtype)
  board = jnp.pad(mine.reshape(size, size), 1, constant_values=2)  # 2: beyond the edge
  at = lambda y, x: board[1 + y : 1 + y + size, 1 + x : 1 + x + size]  # noqa: E731
  surrounded = [at(y, x) > 0 for y, x in ((-1, 0), (1, 0), (0, -1), (0, 1))]
  corners = [at(y, x) for y in (-1, 1) for x in (-1, 1)]
  hostile = sum((corner == -1).astype(jnp.int32) for corner in corners)
  edge = chains.any_of([corner == 2 for corner in corners])
  eyes = (at(0, 0) == 0) & (hostile <= jnp.where(edge, 0, 1))
  for side in surrounded:
    eyes &= side
  return eyes.reshape(-1)


def play_out(game: Go, states: State, keys: Array) -> State:
  """The states after random games to the end, or after 3 N^2 turns more."""
  longest = 3 * game.size * game.size

  def going(carry):
    turn, _, over = carry
    return (turn < longest) & ~over.all()

  def play(carry):
    turn, states, _ = carry
    turn_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, turn)
    states = jax.vmap(game.step)(states, random_moves(game, states, turn_keys))
    return turn + 1, states, jax.vmap(game.done)(states)

  over = jax.vmap(game.done)(states)
  return lax.while_loop(going, play, (over[0].astype(jnp.int32) * 0, states, over))[1]


def rollout(game: Go) -> evaluators.Evaluate:
  """All moves alike; the value is the area's outcome after one such game."""
  prior = evaluators.uniform(game)

  def assess(states, keys):
    score = jax.vmap(game.score)(play_out(game, states, keys))
    sign = 1 - 2 * jax.vmap(game.to_play)(states)
    return prior(states, keys)[0], jnp.sign(score) * sign.astype(jnp.float32)

  return assess
