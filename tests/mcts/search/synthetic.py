"""Endless trees out of a hash: every path has its own priors and value, in our form and mctx's."""

import jax
import jax.numpy as jnp
import numpy as np

from mcts.search import Expansion, evaluators, search
from mcts.search.tree import Root


def follow(seed, action):
  """uint32: the seed of a child."""
  x = (seed ^ (action.astype(jnp.uint32) + np.uint32(1))) * np.uint32(2654435761)
  x = (x ^ (x >> 15)) * np.uint32(2246822519)
  return (x ^ (x >> 13)) * np.uint32(3266489917)


def look(seed, actions: int, spread: float):
  """Logits `[B, A]` from 0 to `spread` and values `[B]` from -1 to 1 of seeds `[B]`."""
  numbers = jnp.arange(1, actions + 1, dtype=jnp.uint32)[None, :]
  logits = follow(seed[:, None], numbers * np.uint32(7919)) >> 8
  value = follow(seed, jnp.full_like(seed, 123457)) >> 8
  unit = np.float32(2.0**-24)
  return logits.astype(jnp.float32) * unit * spread, value.astype(jnp.float32) * unit * 2 - 1


def make(batch: int, actions: int, *, spread=4.0, illegal=0.0, seed=0):
  """Root, expand, and what mctx calls root, recurrent_fn and invalid_actions."""
  seeds = jnp.asarray(np.random.default_rng(seed).integers(2**32, size=batch), jnp.uint32)
  logits, value = look(seeds, actions, spread)
  invalid = np.random.default_rng(seed + 1).random((batch, actions)) < illegal
  invalid[:, -1] = False
  done = jnp.zeros(batch, bool)

  def expand(leaf):
    child = follow(leaf.parent, leaf.action)
    logits, value = look(child, actions, spread)
    return Expansion(node=child, logits=logits, value=value, done=jnp.zeros_like(value, bool))

  root = Root(
    state=seeds, node=seeds, logits=jnp.where(invalid, -jnp.inf, logits), value=value, done=done
  )
  return root, expand, (logits, value, seeds, invalid)


def for_mctx(mctx, arrays, actions, *, spread=4.0):
  logits, value, seeds, invalid = arrays

  def recurrent(params, key, action, seed):
    del params, key
    child = follow(seed, action)
    logits, value = look(child, actions, spread)
    ones = jnp.ones_like(value)
    output = mctx.RecurrentFnOutput(
      reward=0 * ones, discount=-ones, prior_logits=logits, value=value
    )
    return output, child

  root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=seeds)
  return root, recurrent, jnp.asarray(invalid)


def keys_of(batch: int, seed: int = 0):
  """A typed key for each game."""
  return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(batch))


# -------- real games --------


def position(game, *moves):
  state = game.init()
  for move in moves:
    state = game.step(state, jnp.int32(move))
  return state


def stack(*states):
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def search_of(game, evaluate, **options):
  """(states, keys) -> the trees, compiled."""

  @jax.jit
  def run(states, keys):
    root = evaluators.make_root(game, evaluate)(states, keys)
    return search(root, evaluators.make_expand(game, evaluate), keys, **options)

  return run


# -------- trees as plain data --------


def nodes_of(tree, game=0):
  """The tree of one game of the batch: 'value' of the root and 'nodes' in their order.

  Each node has its parent and the action from there (none of the root), 'visits' and mean 'value'
  of that edge and its 'prior', for the player who selects it; 'raw', the node's own evaluation;
  'done'.
  """
  names = ('log_prior', 'visits', 'value_sum', 'child', 'raw_value', 'done', 'parent', 'size')
  arrays = jax.device_get([getattr(tree, name)[game] for name in names])
  log_prior, visits, value_sum, child, raw_value, done, parent, size = arrays

  def rounded(x):
    return round(float(x), 6)

  nodes = [{'raw': rounded(raw_value[0]), 'done': bool(done[0])}]
  for i in range(1, int(size)):
    above = int(parent[i])
    action = int(np.flatnonzero(child[above] == i)[0])
    count = int(visits[above, action])
    node = {'parent': above, 'action': action, 'visits': count}
    node['value'] = rounded(value_sum[above, action] / max(count, 1))
    node['prior'] = rounded(np.exp(log_prior[above, action]))
    nodes.append({**node, 'raw': rounded(raw_value[i]), 'done': bool(done[i])})
  return {'actions': log_prior.shape[-1], 'value': rounded(tree.value[game]), 'nodes': nodes}
