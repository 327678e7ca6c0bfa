"""One simulation of a batch of trees: selection, expansion and evaluation, backup.

The trees are flat here (`flatten`): the nodes of all games stand in one axis, so that a node is the
row game * N + number; the edges of all nodes in one axis, so that an edge is row * A + action.

Why the cost of a simulation does not grow with the tree: no array with an axis of nodes is carried
through a conditional, where XLA would copy it. The loop down the tree carries only where the lanes
are and the path of edges; node arrays are read in it, and are not in its carry. The backup carries
the edge statistics, and changes them by scatters, in place. What finished games would write goes
to an index out of range and is dropped (`mode='drop'`), which needs no branch. A test reads the
compiled program for copies.

Letters in shapes: B games, N nodes, A actions, K leaves in parallel, L = K B lanes, D levels.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts.search import tree as tree_lib
from mcts.search.backup import backup
from mcts.search.selection import Edges, SelectionPolicy
from mcts.search.tree import UINT16_MAX, varying_like


@tree_lib.dataclass
class Leaf:
  """Where each lane's tree grows: the argument of `expand`.

  root: pytree `[L, ...]` the positions at the roots.
  parent: pytree `[L, ...]` what the tree keeps of the position above the leaf.
  line: pytree `[L, D, ...]` the same from the root's child down to that position.
  length: int32 `[L]` how many of the line are valid; 0 if the leaf is a child of the root.
  action: int32 `[L]` the action that leads from the parent to the leaf.
  key: typed keys `[L]`.
  """

  root: Any
  parent: Any
  line: Any
  length: Array
  action: Array
  key: Array


@tree_lib.dataclass
class Expansion:
  """The evaluated leaves that `expand` returns; fields as in `Root`, over L lanes."""

  node: Any
  logits: Array
  value: Array
  done: Array


Expand = Callable[[Leaf], Expansion]
"""The model of the game and its evaluation, called once a simulation for the whole batch."""


class Plan(NamedTuple):
  """What stays the same over a search; keys: typed `[B]`."""

  expand: Expand
  selection: SelectionPolicy
  num_simulations: int
  max_depth: int
  num_parallel_leaves: int
  keys: Array


def flatten(tree):
  """Returns the tree with all nodes in one axis and all edges in one: bitcasts, not copies."""
  nodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree.nodes)
  names = ('visits', 'value_sum', 'child', 'raw_value', 'done', 'parent')
  flat = {name: getattr(tree, name).reshape(-1) for name in names}
  # Priors stay rows: they are only ever read and written a whole node at a time.
  log_prior = tree.log_prior.reshape(-1, tree.log_prior.shape[-1])
  return dataclasses.replace(tree, log_prior=log_prior, nodes=nodes, **flat)


def unflatten(flat, shape):
  """Returns the tree of `shape` (B, N, A) of which `flatten` made `flat`."""
  of_edges, of_nodes = (
    ('log_prior', 'visits', 'value_sum', 'child'),
    ('raw_value', 'done', 'parent'),
  )
  edges = {name: getattr(flat, name).reshape(shape) for name in of_edges}
  rows = {name: getattr(flat, name).reshape(shape[:2]) for name in of_nodes}
  nodes = jax.tree.map(lambda x: x.reshape(*shape[:2], *x.shape[1:]), flat.nodes)
  return dataclasses.replace(flat, nodes=nodes, **edges, **rows)


# -------- one simulation --------


class Descent(NamedTuple):
  """The way down the trees. A lane that has stopped keeps its values, `depth` and `path` apart.

  row: int32 `[B]` the node that was reached, as a row of the flat tree.
  edge: int32 `[B]` the last edge taken. child: int32 `[B]` the number of the node behind it, or 0.
  node_visits, node_value: float32 `[B]` of the node, its own evaluation counted as one visit.
  length: int32 `[B]` the number of edges taken.
  active: bool `[B]`, whether the lane goes further down.
  depth: int32 `[]`, the number of edges that the longest lane has taken.
  path: int32 `[K D, B]` the edges of all descents, D rows for each.
  """

  row: Array
  edge: Array
  child: Array
  node_visits: Array
  node_value: Array
  length: Array
  active: Array
  depth: Array
  path: Array


class Ends(NamedTuple):
  """Where descents ended.

  length: int32 `[B]` edges taken. edge: int32 `[B]` the last of them.
  row: int32 `[B]` the node behind it; out of range (B N) if the tree has no room for it.
  is_new: bool `[B]`, whether the node was reserved by this descent.
  """

  length: Array
  edge: Array
  row: Array
  is_new: Array


def simulate(plan: Plan, i: Array, initial_visits: Array, tree, path: Array):
  """Runs K simulations in each tree: K descents, one batched evaluation, K backups.

  Args:
    plan: of the search.
    i: int32 `[]`, the number of this round.
    initial_visits: float32 `[B, A]` the roots' visits when the search began.
    tree: flat.
    path: int32 `[K D, B]`, memory for the paths; what it holds at the beginning is not read.

  Returns:
    The tree and the path, changed in place where a loop carries them.
  """
  num_evaluated, k = tree.size, plan.num_parallel_leaves  # nodes beyond it have no priors yet

  def descend(carry, j):
    tree, path = carry
    start = _path_start(path, k, j)
    tree, path, ends = _descend(plan, tree, path, initial_visits, num_evaluated, start)
    if k > 1:  # virtual loss: the next descents are turned away from this path
      tree = backup(tree, path, start, ends.length, virtual_loss=True)
    return (tree, path), ends

  (tree, path), ends = _scan(descend, (tree, path), k)
  tree, value = _expand(plan, i, tree, path, ends)  # value [K, B]

  def back_up(tree, j):
    start = _path_start(path, k, j)
    return backup(tree, path, start, ends.length[j], value[j], undo_virtual_loss=k > 1), ()

  return _scan(back_up, tree, k)[0], path


def _scan(function, carry, k):
  """Runs `lax.scan` over 0 ... k - 1; for k = 1, the usual case, without a loop."""
  if k > 1:
    return lax.scan(function, carry, jnp.arange(k, dtype=jnp.int32))
  carry, out = function(carry, 0)
  return carry, jax.tree.map(lambda x: x[None], out)


def _path_start(path, k, j):
  """Returns the row of `path` where descent j begins."""
  return path.shape[0] // k * j


# -------- selection --------


def _descend(plan, tree, path, initial_visits, num_evaluated, start):
  """Goes down from the roots to edges without a node, for each of which it reserves a node.

  A lane also ends at a finished game, at `max_depth`, and at a node that an earlier descent of this
  round has reserved: that has no priors yet.
  """
  B, A = initial_visits.shape
  N = tree.raw_value.shape[0] // B
  first = varying_like(jnp.arange(B, dtype=jnp.int32), tree.raw_value) * N  # rows of the roots

  def follow(walk, score):
    edge = walk.row * A + _first_argmax(score)  # [B]
    return _follow(plan, tree, walk, edge, first, num_evaluated, start)

  def step(walk):
    edges = _edges(tree, walk.row, A, walk.node_visits, walk.node_value)  # [B, A] each
    return follow(walk, plan.selection.score(edges))

  root = _root_edges(tree, first, A)
  zero = jnp.zeros_like(first)
  # A root whose visits have used up their integer type is not searched any further.
  full = UINT16_MAX if tree.visits.dtype == jnp.uint16 else 2**31 - 1
  active = ~tree.done[first] & (root.node_visits < full)
  walk = Descent(first, zero, zero, root.node_visits, root.node_value, zero, active, zero[0], path)
  score = plan.selection.score_root(root, initial_visits, tree.noise, plan.num_simulations)
  walk = follow(walk, score)  # the root's level stands outside of the loop: it scores differently
  # `tree` is closed over: the loop reads it, and does not carry it.
  walk = lax.while_loop(lambda walk: walk.active.any(), step, walk)
  return _reserve(tree, walk, active, first, B * N)


def _reserve(tree, walk, active, first, out):
  """Links a new node behind the last edge of lanes that found none; `out`: a row out of range."""
  B = len(first)
  N = out // B
  missing = (walk.child == 0) & active  # the root is nobody's child, so 0 says none
  is_new = missing & (tree.size < N)  # a full tree evaluates the leaf but does not keep it
  child = jnp.where(missing, tree.size, walk.child)
  row = jnp.where(is_new | (active & ~missing), first + child, out)
  at = jnp.where(is_new, walk.edge, tree.child.size)  # out of range: no link
  links = tree.child.at[at].set(child.astype(tree.child.dtype), mode='drop')
  tree = dataclasses.replace(tree, child=links, size=tree.size + is_new)
  return tree, walk.path, Ends(walk.length, walk.edge, row, is_new)


def _edges(tree, row, A, node_visits, node_value):
  """Returns the edges of the nodes in `row` `[B]`, gathered as rows of A numbers."""
  visits = tree.visits.reshape(-1, A)[row].astype(jnp.float32)
  value_sum = tree.value_sum.reshape(-1, A)[row]
  return Edges(tree.log_prior[row], visits, value_sum, tree.raw_value[row], node_visits, node_value)


def _root_edges(tree, first, A):
  edges = _edges(tree, first, A, None, None)
  visits, value = tree_lib.node_statistics(edges.raw_value, edges.visits, edges.value_sum)
  return edges._replace(node_visits=visits, node_value=value)


def _first_argmax(score):
  """Returns int32 `[B]`, argmax as two reductions, which XLA:CPU vectorises, unlike its own."""
  number = jnp.arange(score.shape[-1], dtype=jnp.int32)[None, :]
  highest = score.max(-1, keepdims=True)
  action = jnp.where(score == highest, number, score.shape[-1]).min(-1)
  return jnp.minimum(action, score.shape[-1] - 1)  # NaN equals nothing: stay within the row


def _follow(plan, tree, walk, edge, first, num_evaluated, start):
  """Returns the descent after one more edge of its active lanes."""
  child = tree.child[edge].astype(jnp.int32)
  below = first + child
  depth = walk.depth + 1
  is_evaluated = (child > 0) & (child < num_evaluated)  # else found by a descent of this round
  go_on = is_evaluated & ~tree.done[below] & (depth < plan.max_depth)
  # The edge's visits and mean are those of the node below, its own evaluation included: the first
  # visit of the edge was the one that evaluated the node. So no row has to be summed on the way.
  visits = tree.visits[edge].astype(jnp.float32)
  value = -tree.value_sum[edge] / jnp.maximum(visits, 1)  # the edge's sum is for the player above

  def where_active(new, old):
    return jnp.where(walk.active, new, old)

  return Descent(
    row=where_active(below, walk.row),
    edge=where_active(edge, walk.edge),
    child=where_active(child, walk.child),
    node_visits=where_active(visits, walk.node_visits),
    node_value=where_active(value, walk.node_value),
    length=where_active(depth, walk.length),
    active=walk.active & go_on,
    depth=depth,
    # Lanes that have stopped write junk beyond their `length`, where nobody reads.
    path=lax.dynamic_update_slice(walk.path, edge[None], (start + walk.depth, 0)),
  )


# -------- expansion and evaluation --------


def _expand(plan, i, tree, path, ends):
  """Evaluates the leaves and writes the new nodes.

  Returns:
    The tree, and float32 `[K, B]` the values at the ends for the player to move there.
  """
  k, B = ends.length.shape
  A = tree.log_prior.shape[-1]
  parent = ends.edge // A  # [K, B], rows of the flat tree
  expansion = plan.expand(_leaf(plan, i, tree, path, ends))  # one call of the network a round
  _check(expansion, k * B, A)
  out = tree.raw_value.shape[0]
  row = jnp.where(_merge(ends.is_new), _merge(ends.row), out)  # [L]; two lanes never write one

  def write(x, new):
    return x.at[row].set(new.astype(x.dtype), mode='drop')

  raw_value = expansion.value.astype(jnp.float32)
  tree = dataclasses.replace(
    tree,
    log_prior=write(tree.log_prior, tree_lib.log_softmax(expansion.logits)),
    raw_value=write(tree.raw_value, raw_value),
    done=write(tree.done, expansion.done),
    parent=write(tree.parent, _merge(parent) % (out // B)),  # from a row to the node's number
    nodes=jax.tree.map(write, tree.nodes, expansion.node),
  )
  # An end that the tree holds counts with the node's first evaluation, so that a node that is met
  # twice in a round, or the end of a game, has one value; one that found no room, with its own.
  end = _merge(ends.row)
  value = jnp.where(end < out, tree.raw_value[jnp.minimum(end, out - 1)], raw_value)
  return tree, value.reshape(k, B)


def _leaf(plan, i, tree, path, ends):
  """Returns the leaves of K descents in B trees, as L = K B lanes."""
  k, B = ends.length.shape
  A = tree.log_prior.shape[-1]
  keys = fold_in(plan.keys, 3 + i)  # 0 to 2: what is drawn before and after the simulations
  line = path.reshape(k, -1, B)[:, 1:].swapaxes(1, 2) // A  # [K, B, D - 1] rows, the root left out
  return Leaf(
    # [L, ...]: the lanes of one descent stand together, as `_merge` lays them out.
    root=jax.tree.map(lambda x: jnp.concatenate([x] * k) if k > 1 else x, tree.state),
    parent=jax.tree.map(lambda x: x[_merge(ends.edge // A)], tree.nodes),
    line=jax.tree.map(lambda x: x[_merge(line)], tree.nodes),
    length=_merge(jnp.maximum(ends.length - 1, 0)),  # 0 edges: the root was not searched
    action=_merge(ends.edge % A),
    key=_merge(jax.vmap(lambda j: fold_in(keys, j))(jnp.arange(k))),
  )


def _merge(x):
  """Returns x `[K, B, ...]` as `[K B, ...]`."""
  return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _check(expansion, lanes, A):
  for name, shape in (('logits', (lanes, A)), ('value', (lanes,)), ('done', (lanes,))):
    got = getattr(expansion, name).shape
    if got != shape:
      raise ValueError(f'expand: {name} has shape {got}, must have {shape}')


def fold_in(keys: Array, number) -> Array:
  """Returns typed keys `[B]` with the number folded into each."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
