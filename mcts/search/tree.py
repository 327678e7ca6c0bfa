"""Search trees of a batch of games: their arrays, statistics of the root, and reuse after a move.

A tree is arrays over its nodes, numbered in the order in which they were made, so that a parent
comes before its children; node 0 is the root. Statistics belong to edges and lie in rows of A
numbers, one row a node: selection reads the row of a node, a backup adds to the edges of a path.
Letters in shapes: B games, N nodes at most, A actions.
"""

import dataclasses
from typing import Any, dataclass_transform

import jax
import jax.numpy as jnp
from jax import Array, lax

UINT16_MAX = 2**16 - 1  # the largest number of nodes, and of visits, where those take 16 bits


@dataclass_transform(frozen_default=True)
def dataclass(cls):
  """Makes a class a frozen dataclass that is a pytree of its fields."""
  return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@dataclass
class Root:
  """Positions that a search starts from, evaluated: see `evaluators.make_root`.

  state: pytree `[B, ...]`, handed to `expand` as it is.
  node: pytree `[B, ...]`, what the tree keeps of a position (`Game.pack`).
  logits: float32 `[B, A]`, -inf where an action is illegal.
  value: float32 `[B]` in [-1, 1] for the player to move; of a finished game its outcome.
  done: bool `[B]`, whether the game is over: such a node is never expanded.
  """

  state: Any
  node: Any
  logits: Array
  value: Array
  done: Array


@dataclass
class Tree:
  """B trees of at most N nodes with A actions; 12 A bytes a node, 16 A from 65,536 nodes on.

  log_prior: float32 `[B, N, A]` log-probabilities of the actions, -inf where illegal.
  visits: uint16 or uint32 `[B, N, A]` simulations that took the edge.
  value_sum: float32 `[B, N, A]` the sum of their values, for the player who selects the edge.
  child: uint16 or uint32 `[B, N, A]` the node behind the edge, 0 where there is none yet.
  raw_value: float32 `[B, N]` the node's own evaluation, for its player to move.
  done: bool `[B, N]` whether the game is over there.
  parent: int32 `[B, N]` the node above; 0 for the root and in unused rows.
  nodes: pytree `[B, N, ...]` what `expand` keeps of each position.
  state: pytree `[B, ...]` the positions at the roots.
  size: int32 `[B]` the number of nodes in use.
  noise: float32 `[B, A]` the selection policy's noise at the root: Gumbel's, or zeros.
  """

  log_prior: Array
  visits: Array
  value_sum: Array
  child: Array
  raw_value: Array
  done: Array
  parent: Array
  nodes: Any
  state: Any
  size: Array
  noise: Array

  @property
  def shape(self) -> tuple[int, int, int]:
    """Returns B, N, A."""
    B, N, A = self.log_prior.shape
    return B, N, A

  @property
  def root_visits(self) -> Array:
    """Returns int32 `[B, A]`."""
    return self.visits[:, 0].astype(jnp.int32)

  @property
  def root_values(self) -> Array:
    """Returns Q at the root, float32 `[B, A]` for the player to move, 0 where unvisited."""
    return self.value_sum[:, 0] / jnp.maximum(self.root_visits, 1).astype(jnp.float32)

  @property
  def value(self) -> Array:
    """Returns float32 `[B]`: the mean of the root's own evaluation and of all simulations."""
    return node_statistics(self.raw_value[:, 0], self.visits[:, 0], self.value_sum[:, 0])[1]


def node_statistics(raw_value: Array, visits: Array, value_sum: Array) -> tuple[Array, Array]:
  """Returns the visits of nodes, their own evaluation counted as one, and the mean value of these.

  Args:
    raw_value: float32 `[B]` the nodes' own evaluations.
    visits: `[B, A]` of the nodes' edges.
    value_sum: float32 `[B, A]` of the nodes' edges.

  Returns:
    float32 `[B]` visits and float32 `[B]` mean values for the player to move.
  """
  count = 1 + visits.astype(jnp.float32).sum(-1)
  return count, (raw_value + value_sum.sum(-1)) / count


def varying_like(x, like: Array):
  """Returns the pytree x marked as varying over the `shard_map` axes over which `like` varies."""

  def cast(x):
    # A loop's carry keeps its type under `shard_map`: a constant does not vary over devices, what
    # the body computes from data does.
    missing = jax.typeof(like).manual_axis_type.varying - jax.typeof(x).manual_axis_type.varying
    return lax.pcast(x, tuple(missing), to='varying') if missing else x

  return jax.tree.map(cast, x)


def init(root: Root, *, capacity: int) -> Tree:
  """Returns trees of a root alone, with room for `capacity` nodes.

  Raises:
    ValueError: capacity is below 1.
  """
  if capacity < 1:
    raise ValueError(f'capacity {capacity}: a tree has at least 1 node')
  B, A = root.logits.shape
  # 16 bits do for node numbers and visits of most searches, and make a node a quarter smaller.
  count = jnp.uint16 if capacity <= UINT16_MAX else jnp.uint32

  def empty(shape, dtype):
    return varying_like(jnp.zeros((B, capacity, *shape), dtype), root.value)

  def with_root(x):
    return empty(x.shape[1:], x.dtype).at[:, 0].set(x)

  return Tree(
    log_prior=with_root(log_softmax(root.logits)),
    visits=empty((A,), count),
    value_sum=empty((A,), jnp.float32),
    child=empty((A,), count),
    raw_value=with_root(root.value.astype(jnp.float32)),
    done=with_root(root.done),
    parent=empty((), jnp.int32),
    nodes=jax.tree.map(with_root, root.node),
    state=root.state,
    size=varying_like(jnp.ones((B,), jnp.int32), root.value),
    noise=varying_like(jnp.zeros((B, A), jnp.float32), root.value),
  )


def log_softmax(logits: Array) -> Array:
  """Returns the log-softmax over the last axis in float32; where all logits are -inf, all -inf.

  `jax.nn.log_softmax` gives NaN there, and a finished game has no legal action.
  """
  logits = logits.astype(jnp.float32)
  highest = logits.max(-1, keepdims=True)
  logits = logits - jnp.where(highest == -jnp.inf, 0.0, highest)  # not inf - inf
  mass = jnp.exp(logits).sum(-1, keepdims=True)
  return logits - jnp.log(jnp.maximum(mass, 1.0))  # the highest alone contributes 1


def advance(tree: Tree, action: Array, root: Root) -> Tree:
  """Returns the subtrees below `action`, renumbered, for the search of the next move.

  Args:
    tree: the trees of the last search.
    action: int32 `[B]`, the action that was played at each root.
    root: the positions after it. Its state becomes the trees' state; the rest of it is used where a
      tree has no node for the action, which then starts anew.

  Returns:
    Trees of the same capacity. The nodes that are kept stay in their order, so that parents still
    come before children.
  """
  B, N, _ = tree.shape
  top = jnp.take_along_axis(tree.child[:, 0], action[:, None], 1).astype(jnp.int32)  # [B, 1]
  index = jnp.arange(N, dtype=jnp.int32)[None, :]
  kept = _is_below(tree.parent, top) & (index < tree.size[:, None]) & (top > 0)  # [B, N]
  number = jnp.cumsum(kept, 1, dtype=jnp.int32) - 1  # the new number of each kept node
  size = jnp.maximum(number[:, -1] + 1, 1)  # [B]; at least the new root
  game = jnp.arange(B)[:, None]
  # The inverse of `number`: where row i of the new tree comes from. Nodes that go are dropped at N.
  source = (
    jnp.zeros_like(tree.parent)
    .at[game, jnp.where(kept, number, N)]
    .set(jnp.broadcast_to(index, (B, N)), mode='drop')
  )
  used = (index < size[:, None]) & (top > 0)  # all other rows become zeros, as in a new tree

  def move(x):
    rows = jnp.take_along_axis(x, _expand_dims(source, x), 1)
    return jnp.where(_expand_dims(used, x), rows, jnp.zeros_like(rows))

  # What is below a node that is kept is kept as well, so its child has a number.
  def renumber(x):  # of node numbers, where 0 means none and stays 0
    flat = jnp.take_along_axis(number, x.astype(jnp.int32).reshape(B, -1), 1).reshape(x.shape)
    return jnp.where(x > 0, flat, 0).astype(x.dtype)

  def move_or_root(x, root):  # row 0 is the new root's where the tree had no node for the action
    moved = move(x)
    first = jnp.where(_expand_dims(top[:, 0] > 0, root), moved[:, 0], root)
    return moved.at[:, 0].set(first)

  return Tree(
    log_prior=move_or_root(tree.log_prior, log_softmax(root.logits)),
    visits=move(tree.visits),  # zeros, as a new root has them, where nothing is kept
    value_sum=move(tree.value_sum),
    child=renumber(move(tree.child)),
    raw_value=move_or_root(tree.raw_value, root.value.astype(jnp.float32)),
    done=move_or_root(tree.done, root.done),
    # The parent of the new root, the old root, is gone; its number means nothing.
    parent=renumber(move(tree.parent)).at[:, 0].set(0),
    nodes=jax.tree.map(move_or_root, tree.nodes, root.node),
    state=root.state,
    size=size,
    noise=jnp.zeros_like(tree.noise),  # drawn anew by the selection policy
  )


def _is_below(parent, top):
  """Returns bool `[B, N]`: whether a node is `top` `[B, 1]` or one of its descendants.

  Pointer jumping: each round doubles the number of steps upwards, so log2 N rounds do, where
  walking up from every node would take as many as the tree is deep.
  """
  index = jnp.arange(parent.shape[1], dtype=jnp.int32)[None, :]
  # So does the root, whose parent is 0. All others reach one of the two.
  above = jnp.where(index == top, top, parent)  # `top` points to itself and ends the way up
  for _ in range(max(parent.shape[1] - 1, 1).bit_length()):
    above = jnp.take_along_axis(above, above, 1)
  return above == top


def _expand_dims(x, like):
  """Returns x `[B, n]` with trailing axes of size 1, as many axes as `like` has."""
  return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))
