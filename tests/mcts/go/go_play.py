"""Random games of Go, and what our rules say of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mcts.go import Go


def random_action(mask, key, pass_chance=0.05):
  """A legal action; a pass with that chance, and where there is nothing else."""
  weights = jnp.where(mask, jax.random.uniform(key, mask.shape, minval=0.1), 0.0)
  chosen = jax.random.bernoulli(jax.random.fold_in(key, 1), pass_chance)
  return jnp.argmax(weights.at[-1].set(jnp.where(chosen, 2.0, 0.01)))


def random_game(game, turns, key):
  """States `[turns + 1]` and actions `[turns]` of a random game."""

  def play(state, key):
    action = random_action(game.legal(state), key)
    return game.step(state, action), (state, action)

  start = game.init(komi=7.5 + 0 * jax.random.uniform(key))  # of this device, under shard_map
  last, (states, actions) = jax.lax.scan(play, start, jax.random.split(key, turns))
  return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), states, last), actions


@functools.cache
def played(size, games=1, seed=0, turns=None, **options):
  """Random games, and what the rules say at each of their states: numpy, `[games, turns + 1]`."""
  game = Go(size, **options)
  turns = turns or 2 * size * size + 2

  def facts(state):
    names = ('legal', 'board', 'ownership', 'done', 'to_play', 'observe', 'score')
    return {name: getattr(game, name)(state) for name in names}

  def one(key):
    states, actions = random_game(game, turns, key)
    return states, actions, jax.lax.map(facts, states)

  keys = jax.random.split(jax.random.key(seed), games)
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))
