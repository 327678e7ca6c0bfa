"""One simulation of a batch of trees: down, out, and the way back.

The nodes of all games stand in one axis, and the edges of all nodes in one. The loop down carries
where the lanes are and the path; the loop back carries the statistics, and adds to them by scatter.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts.search import tree as tree_lib
from mcts.search.policies import Edges, Rule
from mcts.search.tree import NARROW, varying_like

CHUNK = 4  # levels of the path that one scatter updates


@tree_lib.dataclass
class Leaf:
  """Where a tree grows; L lanes, which are the games, or several leaves of each.

  root: pytree `[L, ...]` the positions at the roots.
  parent: pytree `[L, ...]` what the tree keeps of the position above the leaf.
  line: pytree `[L, D, ...]` the same from the root's child down to that position;
  length: int32 `[L]` how many of the line hold, 0 if the leaf is a child of the root.
  action: int32 `[L]` the action that leads to the leaf.
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
  """What `expand` returns; fields as in `Root`, with L lanes."""

  node: Any
  logits: Array
  value: Array
  done: Array


Expand = Callable[[Leaf], Expansion]


class Plan(NamedTuple):
  """What stays the same over a search."""

  expand: Expand
  rule: Rule
  budget: int
  depth: int
  leaves: int
  keys: Array


def flatten(tree):
  """Nodes of all games in one axis, edges of all nodes in one: bitcasts, not copies."""
  nodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree.nodes)
  names = ('visits', 'total', 'child', 'raw', 'done', 'parent')
  flat = {name: getattr(tree, name).reshape(-1) for name in names}
  prior = tree.prior.reshape(-1, tree.prior.shape[-1])
  return dataclasses.replace(tree, prior=prior, nodes=nodes, **flat)


def unflatten(flat, shape):
  edges = {
    name: getattr(flat, name).reshape(shape) for name in ('prior', 'visits', 'total', 'child')
  }
  rows = {name: getattr(flat, name).reshape(shape[:2]) for name in ('raw', 'done', 'parent')}
  nodes = jax.tree.map(lambda x: x.reshape(*shape[:2], *x.shape[1:]), flat.nodes)
  return dataclasses.replace(flat, nodes=nodes, **edges, **rows)


# -------- one simulation --------


class Descent(NamedTuple):
  """A walk down. Of a lane that has stopped, all stays as it is.

  row: int32 `[B]` the node where it is, counted over all games.
  edge: int32 `[B]` the last edge, counted over all nodes; child: int32 `[B]` what is behind it.
  count, value: float32 `[B]` visits of the node and their mean.
  length: int32 `[B]` the number of edges taken.
  active: bool `[B]`; depth: int32, the number of edges that the longest lane has taken.
  path: int32 `[leaves * D, B]` the edges, of each descent from its row on.
  """

  row: Array
  edge: Array
  child: Array
  count: Array
  value: Array
  length: Array
  active: Array
  depth: Array
  path: Array


def simulate(plan, i, before, tree, path):
  """`leaves` descents, one expansion, the updates. Arrays of `tree` are flat."""
  settled, k = tree.size, plan.leaves

  def descend(carry, j):
    tree, path = carry
    start = _start(path, k, j)
    tree, path, found = _descend(plan, tree, path, before, settled, start)
    if k > 1:  # the next descents see a loss
      tree = _add(tree, path, start, found.length, virtual=True)
    return (tree, path), found

  (tree, path), found = _each(descend, (tree, path), k)
  tree, value = _expand(plan, i, tree, path, found)

  def back_up(tree, j):
    return _add(tree, path, _start(path, k, j), found.length[j], value[j], settle=k > 1), ()

  return _each(back_up, tree, k)[0], path


def _each(function, carry, k):
  """`lax.scan` over 0, 1, ... k - 1; of one, without a loop."""
  if k > 1:
    return lax.scan(function, carry, jnp.arange(k, dtype=jnp.int32))
  carry, out = function(carry, 0)
  return carry, jax.tree.map(lambda x: x[None], out)


def _start(path, k, j):
  """The row of `path` where descent j begins."""
  return path.shape[0] // k * j


class Found(NamedTuple):
  """The ends of descents: the number of edges, the last of them, the row of the node behind it.

  row: int32 `[B]`, out of range where the node is not kept; new: bool `[B]`, whether it is new.
  """

  length: Array
  edge: Array
  row: Array
  new: Array


def _descend(plan, tree, path, before, settled, start):
  """Down from the roots to an edge without a node, which it reserves, or to where a walk ends."""
  B, A = before.shape
  N = tree.raw.shape[0] // B
  first = varying_like(jnp.arange(B, dtype=jnp.int32), tree.raw) * N

  def level(walk, score):
    action = _first_highest(score)
    edge = walk.row * A + action
    return _follow(plan, tree, walk, edge, first, settled, start)

  def step(walk):
    return level(walk, plan.rule.score(_edges(tree, walk.row, A, walk.count, walk.value)))

  root = _root_edges(tree, first, A)
  zero = jnp.zeros_like(first)
  full = NARROW if tree.visits.dtype == jnp.uint16 else 2**31 - 1
  active = ~tree.done[first] & (root.count < full)
  walk = Descent(first, zero, zero, root.count, root.value, zero, active, zero[0], path)
  walk = level(walk, plan.rule.score_root(root, before, tree.noise, plan.budget))
  walk = lax.while_loop(lambda walk: walk.active.any(), step, walk)
  new = (walk.child == 0) & active
  kept = new & (tree.size < N)
  child = jnp.where(new, tree.size, walk.child)
  row = jnp.where(kept | (active & ~new), first + child, B * N)
  at = jnp.where(kept, walk.edge, tree.child.size)
  links = tree.child.at[at].set(child.astype(tree.child.dtype), mode='drop')
  tree = dataclasses.replace(tree, child=links, size=tree.size + kept)
  return tree, walk.path, Found(walk.length, walk.edge, row, kept)


def _edges(tree, row, A, count, value):
  visits = tree.visits.reshape(-1, A)[row].astype(jnp.float32)
  return Edges(tree.prior[row], visits, tree.total.reshape(-1, A)[row], tree.raw[row], count, value)


def _root_edges(tree, first, A):
  edges = _edges(tree, first, A, None, None)
  count, value = tree_lib.count_and_mean(edges.raw, edges.visits, edges.total)
  return edges._replace(count=count, value=value)


def _first_highest(score):
  """int32 `[B]`: argmax, in the two reductions that XLA:CPU vectorises, unlike its own."""
  number = jnp.arange(score.shape[-1], dtype=jnp.int32)[None, :]
  highest = score.max(-1, keepdims=True)
  action = jnp.where(score == highest, number, score.shape[-1]).min(-1)
  return jnp.minimum(action, score.shape[-1] - 1)  # of NaNs, the last


def _follow(plan, tree, walk, edge, first, settled, start):
  """The walk after one more edge of its active lanes."""
  child = tree.child[edge].astype(jnp.int32)
  below = first + child
  depth = walk.depth + 1
  go_on = (child > 0) & (child < settled) & ~tree.done[below] & (depth < plan.depth)
  count = tree.visits[edge].astype(jnp.float32)

  def where(new, old):
    return jnp.where(walk.active, new, old)

  return Descent(
    row=where(below, walk.row),
    edge=where(edge, walk.edge),
    child=where(child, walk.child),
    count=where(count, walk.count),
    value=where(-tree.total[edge] / jnp.maximum(count, 1), walk.value),
    length=where(depth, walk.length),
    active=walk.active & go_on,
    depth=depth,
    path=lax.dynamic_update_slice(walk.path, edge[None], (start + walk.depth, 0)),
  )


def _expand(plan, i, tree, path, found):
  """Evaluates the leaves and writes the new nodes; the values `[leaves, B]` at the ends."""
  k, B = found.length.shape
  A = tree.prior.shape[-1]
  parent = found.edge // A
  lanes = fold(plan.keys, 3 + i)  # 0 to 2: what is drawn before and after the simulations
  keys = jax.vmap(lambda j: fold(lanes, j))(jnp.arange(k))

  def merge(x):
    return x.reshape(k * B, *x.shape[2:])

  line = path.reshape(k, -1, B)[:, 1:].swapaxes(1, 2) // A  # [k, B, D]
  expansion = plan.expand(
    Leaf(
      root=jax.tree.map(lambda x: jnp.concatenate([x] * k) if k > 1 else x, tree.state),
      parent=jax.tree.map(lambda x: x[merge(parent)], tree.nodes),
      line=jax.tree.map(lambda x: x[merge(line)], tree.nodes),
      length=merge(jnp.maximum(found.length - 1, 0)),
      action=merge(found.edge % A),
      key=merge(keys),
    )
  )
  _check(expansion, k * B, A)
  out = tree.raw.shape[0]
  row = jnp.where(merge(found.new), merge(found.row), out)

  def write(x, new):
    return x.at[row].set(new.astype(x.dtype), mode='drop')

  raw = expansion.value.astype(jnp.float32)
  tree = dataclasses.replace(
    tree,
    prior=write(tree.prior, tree_lib.log_softmax(expansion.logits)),
    raw=write(tree.raw, raw),
    done=write(tree.done, expansion.done),
    parent=write(tree.parent, merge(parent) % (out // B)),
    nodes=jax.tree.map(write, tree.nodes, expansion.node),
  )
  end = merge(found.row)
  value = jnp.where(end < out, tree.raw[jnp.minimum(end, out - 1)], raw)
  return tree, value.reshape(k, B)


def _check(expansion, lanes, A):
  for name, shape in (('logits', (lanes, A)), ('value', (lanes,)), ('done', (lanes,))):
    got = getattr(expansion, name).shape
    if got != shape:
      raise ValueError(f'expand: {name} has shape {got}, must have {shape}')


def _add(tree, path, first, length, value=None, *, virtual=False, settle=False):
  """Adds a visit of `value` `[B]`, for the player to move at the end, to each edge of paths.

  The paths are `path[first : first + length]`, length `[B]`. virtual: the visit is a loss for every
  player on the path instead. settle: there was such a visit, which gets its value now.
  """
  out = tree.total.size

  def some(carry):
    start, visits, total = carry
    edges = lax.dynamic_slice_in_dim(path, first + start, CHUNK)  # [C, B]
    above = length[None, :] - start - jnp.arange(CHUNK, dtype=jnp.int32)[:, None]
    away = out + jnp.arange(edges.size, dtype=jnp.int32).reshape(edges.shape)
    edges = jnp.where(above > 0, edges, away)
    if virtual:
      added = jnp.full_like(edges, -1.0, jnp.float32)
    else:
      added = jnp.where(above % 2 == 1, -value[None], value[None]) + (1.0 if settle else 0.0)
    total = total.at[edges].add(added, mode='drop', unique_indices=True)
    if not settle:
      visits = visits.at[edges].add(jnp.ones((), visits.dtype), mode='drop', unique_indices=True)
    return start + CHUNK, visits, total

  longest = length.max()
  start = jnp.zeros_like(longest)
  carry = lax.while_loop(lambda c: c[0] < longest, some, (start, tree.visits, tree.total))
  return dataclasses.replace(tree, visits=carry[1], total=carry[2])


def fold(keys: Array, number) -> Array:
  return jax.vmap(jax.random.fold_in, (0, None))(keys, number)
