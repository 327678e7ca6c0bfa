"""Batched Monte Carlo tree search whose cost a simulation does not grow with the tree.

One loop over simulations, within it one loop over depth for the whole batch. A simulation goes down
by reading rows of edge statistics, expands, and adds to the edges of the path that it recorded.
No array with an axis of nodes is ever carried through a conditional, so none is copied. Networks
and games enter as one function, `expand`.

  tree = search(root, expand, key, num_simulations=64, rule=Puct())
"""

import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts.search import tree as tree_lib
from mcts.search.policies import Decision, Gumbel, Puct, Rule
from mcts.search.simulate import (
  CHUNK,
  Expand,
  Expansion,
  Leaf,
  Plan,
  flatten,
  fold,
  simulate,
  unflatten,
)
from mcts.search.tree import Root, Tree, varying_like

PUCT, GUMBEL = Puct(), Gumbel()


def search(
  root: Root,
  expand: Expand,
  key: Array,
  *,
  num_simulations: int,
  rule: Rule = PUCT,
  capacity: int | None = None,
  max_depth: int | None = None,
  leaves: int = 1,
) -> Tree:
  """The trees of `num_simulations` simulations from each root.

  key: a typed key, from which each game gets its own by its number, or typed keys `[B]`.
  capacity: the most nodes of a tree, by default one a simulation and the root. A full tree grows no
  more: what would be a new node is evaluated, counted and forgotten.
  max_depth: the most moves of a simulation; it ends there with the evaluation that the node has.
  leaves: so many leaves a tree are found before they are evaluated together, each of them by a
  descent that sees those before it as losses (virtual loss). It must divide `num_simulations`.
  """
  keys = game_keys(key, root.value)
  tree = tree_lib.start(root, capacity=capacity or num_simulations + 1)
  tree = rule.prepare(tree, fold(keys, 0))
  return extend(
    tree,
    expand,
    keys,
    num_simulations=num_simulations,
    rule=rule,
    max_depth=max_depth,
    leaves=leaves,
  )


def puct(root, expand, key, *, num_simulations, rule=PUCT, temperature=1.0, **options):
  """(Decision, Tree) of a search by PUCT; options as in `search`."""
  return _decide(root, expand, key, rule, temperature, num_simulations, options)


def gumbel(root, expand, key, *, num_simulations, rule=GUMBEL, temperature=None, **options):
  """(Decision, Tree) of Gumbel AlphaZero; options as in `search`."""
  return _decide(root, expand, key, rule, temperature, num_simulations, options)


def _decide(root, expand, key, rule, temperature, num_simulations, options):
  keys = game_keys(key, root.value)
  tree = search(root, expand, keys, num_simulations=num_simulations, rule=rule, **options)
  return rule.decide(tree, fold(keys, 2), temperature), tree


def game_keys(key: Array, like: Array) -> Array:
  """One key a game, `[B]`, which does not depend on how many games there are."""
  if key.ndim:
    return key
  numbers = jnp.arange(like.shape[0])
  return jax.vmap(jax.random.fold_in, (None, 0))(key, varying_like(numbers, like))


def advance(tree: Tree, action: Array, root: Root, key: Array, *, rule: Rule = PUCT) -> Tree:
  """The tree after `action` `[B]` was played, its statistics kept, with new noise at its root."""
  keys = game_keys(key, root.value)
  return rule.prepare(tree_lib.advance(tree, action, root), fold(keys, 0))


def extend(
  tree: Tree,
  expand: Expand,
  key: Array,
  *,
  num_simulations: int,
  rule: Rule = PUCT,
  max_depth: int | None = None,
  leaves: int = 1,
) -> Tree:
  """`num_simulations` more on the same trees; `key` should be another one for each call."""
  if leaves < 1 or num_simulations % leaves:
    raise ValueError(f'leaves {leaves}: must divide num_simulations, {num_simulations}')
  B, N, A = tree.shape
  if B * N * A + B * CHUNK > 2**31 - 1:
    raise ValueError(f'{B} trees of {N} nodes and {A} actions: more edges than int32 counts')
  depth = min(max_depth or N, N)
  plan = Plan(expand, rule, num_simulations, depth, leaves, game_keys(key, tree.raw))
  flat = flatten(tree)
  before = tree.visits[:, 0].astype(jnp.float32)
  steps = -(-depth // CHUNK) * CHUNK
  path = varying_like(jnp.zeros((leaves * steps, B), jnp.int32), tree.raw)

  def body(i, carry):
    return simulate(plan, i, before, *carry)

  flat, _ = lax.fori_loop(0, num_simulations // leaves, body, (flat, path))
  return unflatten(flat, tree.shape)


# -------- by the clock --------


def timed(tree: Tree, chunk: Callable[[Tree], Tree], deadline: float) -> Iterator[Tree]:
  """Yields the tree after each chunk, until another one would not end by the deadline.

  `chunk` is a compiled `extend`; `deadline` is a time of `time.monotonic`. There is always one
  chunk, and the next is expected to take as long as the slowest so far, with all that was done
  about it before the next was asked for.
  """
  slowest, before = 0.0, time.monotonic()
  while slowest == 0.0 or before + slowest < deadline:
    tree = jax.block_until_ready(chunk(tree))
    yield tree
    now = time.monotonic()
    slowest, before = max(slowest, now - before), now


__all__ = [
  'Decision',
  'Expand',
  'Expansion',
  'Leaf',
  'Root',
  'Tree',
  'advance',
  'extend',
  'game_keys',
  'gumbel',
  'puct',
  'search',
  'timed',
]
