"""Batched Monte Carlo tree search whose cost of a simulation does not grow with the tree.

One loop over simulations, within it one loop over depth for the whole batch; see `simulate.py`.
Networks and games enter as one function, `expand`.

  tree = search(root, expand, key, num_simulations=64, selection=Puct())

`search` begins a tree, `advance` keeps the part of it below the move that was played, `extend` goes
on with a tree. `puct` and `gumbel` are a search and its decision in one call.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts.search import tree as tree_lib
from mcts.search.backup import CHUNK
from mcts.search.policies import Gumbel, Puct
from mcts.search.selection import PolicyOutput, SelectionPolicy
from mcts.search.simulate import (
  Expand,
  Expansion,
  Leaf,
  Plan,
  flatten,
  fold_in,
  simulate,
  unflatten,
)
from mcts.search.tree import Root, Tree, varying_like

PUCT, GUMBEL = Puct(), Gumbel()

# What each of a game's keys is folded with; simulation i takes 3 + i (`simulate._leaf`).
ROOT_NOISE, DECISION = 0, 2


def search(
  root: Root,
  expand: Expand,
  key: Array,
  *,
  num_simulations: int,
  selection: SelectionPolicy = PUCT,
  capacity: int | None = None,
  max_depth: int | None = None,
  num_parallel_leaves: int = 1,
) -> Tree:
  """Returns the trees of `num_simulations` simulations from each root.

  Args:
    root: B positions, evaluated.
    expand: evaluates leaves; called once for each `num_parallel_leaves` simulations, on all games.
    key: a typed key, from which each game gets its own by its number, or typed keys `[B]`.
    num_simulations: leaves that are evaluated in each tree.
    selection: how edges are selected.
    capacity: the most nodes of a tree, by default one a simulation and the root. A full tree does
      not grow: what would be a new node is evaluated and backed up, but not kept.
    max_depth: the most moves of a simulation, which ends there with the evaluation that the node
      has; at least 1.
    num_parallel_leaves: leaves of a tree that are found before they are evaluated together, each by
      a descent to which those before it are losses (virtual loss).

  Raises:
    ValueError: num_simulations is negative, num_parallel_leaves does not divide it, max_depth is
      below 1, a tree has no room for its root, the batch has more edges than int32 counts, or
      `expand` returns another shape.
  """
  keys = game_keys(key, root.value)  # [B]
  tree = tree_lib.init(root, capacity=num_simulations + 1 if capacity is None else capacity)
  tree = selection.prepare(tree, fold_in(keys, ROOT_NOISE))
  return extend(
    tree,
    expand,
    keys,
    num_simulations=num_simulations,
    selection=selection,
    max_depth=max_depth,
    num_parallel_leaves=num_parallel_leaves,
  )


def puct(
  root: Root,
  expand: Expand,
  key: Array,
  *,
  selection: SelectionPolicy = PUCT,
  temperature: Array | float = 1.0,
  **options: Any,
) -> tuple[PolicyOutput, Tree]:
  """Returns the decision and the trees of a search by PUCT; options as for `search`."""
  keys = game_keys(key, root.value)
  tree = search(root, expand, keys, selection=selection, **options)
  # Another key than the noise's: a game folds each of its uses in by a number of its own.
  return decide(tree, fold_in(keys, DECISION), selection, temperature), tree


def decide(
  tree: Tree, keys: Array, selection: SelectionPolicy, temperature: Array | float
) -> PolicyOutput:
  """Returns what a selection policy says, with action -1 and value NaN where it rests on nothing.

  That is where an evaluation was not finite: its NaN has been backed up to the root. So the check
  is made once a search, and none in it.

  Args:
    tree: after the last simulation.
    keys: typed `[B]`, for drawing moves.
    selection: the policy.
    temperature: as for `SelectionPolicy.decide`.
  """
  output, sound = selection.decide(tree, keys, temperature), jnp.isfinite(tree.value)
  return output._replace(
    action=jnp.where(sound, output.action, -1), value=jnp.where(sound, output.value, jnp.nan)
  )


def gumbel(
  root: Root,
  expand: Expand,
  key: Array,
  *,
  selection: SelectionPolicy = GUMBEL,
  temperature: Array | float = 0.0,
  **options: Any,
) -> tuple[PolicyOutput, Tree]:
  """Returns the decision and the trees of Gumbel AlphaZero; options as for `search`."""
  return puct(root, expand, key, selection=selection, temperature=temperature, **options)


def game_keys(key: Array, like: Array) -> Array:
  """Returns typed keys `[B]` of which game b's does not depend on B.

  Args:
    key: a typed key, or typed keys `[B]`, which are returned as they are.
    like: an array `[B, ...]` that says how many games there are.
  """
  if key.ndim:
    return key
  numbers = jnp.arange(like.shape[0])
  return jax.vmap(jax.random.fold_in, (None, 0))(key, varying_like(numbers, like))


def advance(
  tree: Tree, action: Array, root: Root, key: Array, *, selection: SelectionPolicy = PUCT
) -> Tree:
  """Returns the trees below the actions that were played, with new noise at their roots.

  Args:
    tree: of the last search.
    action: int32 `[B]`.
    root: the positions after the actions, for trees that have no node there.
    key: as for `search`.
    selection: how edges are selected.
  """
  keys = game_keys(key, root.value)
  return selection.prepare(tree_lib.advance(tree, action, root), fold_in(keys, ROOT_NOISE))


def extend(
  tree: Tree,
  expand: Expand,
  key: Array,
  *,
  num_simulations: int,
  selection: SelectionPolicy = PUCT,
  max_depth: int | None = None,
  num_parallel_leaves: int = 1,
) -> Tree:
  """Returns the same trees after `num_simulations` more; arguments and errors as for `search`.

  `key` should differ from call to call, or evaluators that draw will draw the same again.
  """
  k = num_parallel_leaves
  if num_simulations < 0:
    raise ValueError(f'num_simulations {num_simulations}: must be at least 0')
  if max_depth is not None and max_depth < 1:
    raise ValueError(f'max_depth {max_depth}: must be at least 1, or None for no limit')
  if k < 1 or num_simulations % k:
    raise ValueError(f'num_parallel_leaves {k}: must divide num_simulations, {num_simulations}')
  if num_simulations == 0:
    return tree
  B, N, A = tree.shape
  # `backup` takes indices beyond the edges for writes that are dropped, and these must fit too.
  if B * N * A + B * CHUNK > 2**31 - 1:
    raise ValueError(f'{B} trees of {N} nodes and {A} actions: more edges than int32 counts')
  # N - 1 edges between nodes and one to a leaf that a full tree does not keep.
  depth = N if max_depth is None else min(max_depth, N)
  plan = Plan(expand, selection, num_simulations, depth, k, game_keys(key, tree.raw_value))
  # `[B, N, ...]` is for readers of a tree; in the loop one index finds a node of any game.
  flat = flatten(tree)
  # [B, A]: Gumbel's schedule counts the visits of this search, not those of a tree that goes on.
  initial_visits = tree.visits[:, 0].astype(jnp.float32)
  levels = -(-depth // CHUNK) * CHUNK  # the backup reads whole chunks
  # Allocated once and written over by each simulation.
  path = varying_like(jnp.zeros((k * levels, B), jnp.int32), tree.raw_value)

  def body(i, carry):
    return simulate(plan, i, initial_visits, *carry)

  # All games simulate in step; one that is over keeps its lane, and its writes are dropped.
  flat, _ = lax.fori_loop(0, num_simulations // k, body, (flat, path))
  return unflatten(flat, tree.shape)


# -------- with a time limit --------


def timed(tree: Tree, chunk: Callable[[Tree], Tree], deadline: float) -> Iterator[Tree]:
  """Yields the tree after each chunk, until another one would not end by the deadline.

  There is always one chunk. The next is expected to take as long as the slowest so far, including
  what the caller did with its tree before asking for the next.

  Args:
    tree: to start from.
    chunk: a compiled `extend`.
    deadline: a time of `time.monotonic`, in seconds.
  """
  slowest, before = 0.0, time.monotonic()
  while slowest == 0.0 or before + slowest < deadline:
    # A call returns before the device is done: the clock has to wait for it.
    tree = jax.block_until_ready(chunk(tree))
    yield tree
    now = time.monotonic()
    slowest, before = max(slowest, now - before), now


__all__ = [
  'Expand',
  'Expansion',
  'Leaf',
  'PolicyOutput',
  'Root',
  'Tree',
  'advance',
  'decide',
  'extend',
  'game_keys',
  'gumbel',
  'puct',
  'search',
  'timed',
]
