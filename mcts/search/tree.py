"""The search trees of a batch of games: their arrays, what is read from them, and the next move's.

A tree is arrays over its nodes, numbered in the order in which they were made, so that a parent
comes before its children; node 0 is the root. Statistics belong to edges, in rows of A numbers: a
search reads the row of a node, and adds to the edges of a path.
"""

import dataclasses
from typing import Any, dataclass_transform

import jax
import jax.numpy as jnp
from jax import Array, lax

NARROW = 2**16 - 1  # the largest number of nodes, and of visits, where those take 16 bits


@dataclass_transform(frozen_default=True)
def dataclass(cls):
  """Makes a class a frozen dataclass that is a pytree of its fields."""
  return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@dataclass
class Root:
  """Positions as a search begins with them: made by `evaluators.make_root`, or by hand.

  state: pytree `[B, ...]`, passed on to `expand` as it is.
  node: pytree `[B, ...]`, what the tree keeps of a position.
  logits: float32 `[B, A]`, -inf where an action is illegal.
  value: float32 `[B]`, from -1 to 1 for the player to move; of a finished game its outcome.
  done: bool `[B]`, whether the game is over: such a node is never expanded.
  """

  state: Any
  node: Any
  logits: Array
  value: Array
  done: Array


@dataclass
class Tree:
  """B trees of at most N nodes with A actions each, 12 A bytes a node (16 A from 65,536 nodes).

  prior: float32 `[B, N, A]` log-probabilities of the actions, -inf where illegal.
  visits: `[B, N, A]` simulations that took the edge.
  total: float32 `[B, N, A]` the sum of their values, for the player who chooses the edge.
  child: `[B, N, A]` the node behind the edge, 0 if there is none yet.
  raw: float32 `[B, N]` the node's own evaluation, for its player to move.
  done: bool `[B, N]` whether the game is over there.
  parent: int32 `[B, N]` the node above; 0 for the root and for what is not yet a node.
  nodes: pytree `[B, N, ...]` what `expand` keeps of each position.
  state: pytree `[B, ...]` the positions at the roots.
  size: int32 `[B]` the number of nodes.
  noise: float32 `[B, A]` what the rule of search drew for the root: Gumbel's, or zeros.
  """

  prior: Array
  visits: Array
  total: Array
  child: Array
  raw: Array
  done: Array
  parent: Array
  nodes: Any
  state: Any
  size: Array
  noise: Array

  @property
  def shape(self) -> tuple[int, int, int]:
    """B, N, A."""
    return self.prior.shape

  @property
  def root_visits(self) -> Array:
    """int32 `[B, A]`."""
    return self.visits[:, 0].astype(jnp.int32)

  @property
  def root_values(self) -> Array:
    """float32 `[B, A]`: the mean value of each action for the player to move, 0 if unvisited."""
    return self.total[:, 0] / jnp.maximum(self.root_visits, 1).astype(jnp.float32)

  @property
  def value(self) -> Array:
    """float32 `[B]`: the mean over the root's own evaluation and all simulations."""
    return count_and_mean(self.raw[:, 0], self.visits[:, 0], self.total[:, 0])[1]


def count_and_mean(raw: Array, visits: Array, total: Array) -> tuple[Array, Array]:
  """float32 `[B]` twice: a node's visits, its own evaluation among them, and the mean of them all.

  raw: `[B]`; visits, total: `[B, A]` of its edges.
  """
  count = 1 + visits.astype(jnp.float32).sum(-1)
  return count, (raw + total.sum(-1)) / count


def varying_like(x, like: Array):
  """x (a pytree), varying over the mesh axes of a `shard_map` over which `like` varies."""

  def cast(x):
    missing = jax.typeof(like).manual_axis_type.varying - jax.typeof(x).manual_axis_type.varying
    return lax.pcast(x, tuple(missing), to='varying') if missing else x

  return jax.tree.map(cast, x)


def start(root: Root, *, capacity: int) -> Tree:
  """Trees that are nothing but their roots, with room for `capacity` nodes."""
  if capacity < 1:
    raise ValueError(f'capacity {capacity}: a tree has at least 1 node')
  B, A = root.logits.shape
  count = jnp.uint16 if capacity <= NARROW else jnp.uint32

  def room(shape, dtype):
    return varying_like(jnp.zeros((B, capacity, *shape), dtype), root.value)

  def rooted(x):
    return room(x.shape[1:], x.dtype).at[:, 0].set(x)

  return Tree(
    prior=rooted(log_softmax(root.logits)),
    visits=room((A,), count),
    total=room((A,), jnp.float32),
    child=room((A,), count),
    raw=rooted(root.value.astype(jnp.float32)),
    done=rooted(root.done),
    parent=room((), jnp.int32),
    nodes=jax.tree.map(rooted, root.node),
    state=root.state,
    size=varying_like(jnp.ones((B,), jnp.int32), root.value),
    noise=varying_like(jnp.zeros((B, A), jnp.float32), root.value),
  )


def log_softmax(logits: Array) -> Array:
  """Over the last axis, of float32 logits that may all be -inf (a finished game): then all are."""
  logits = logits.astype(jnp.float32)
  highest = logits.max(-1, keepdims=True)
  logits = logits - jnp.where(highest == -jnp.inf, 0.0, highest)
  mass = jnp.exp(logits).sum(-1, keepdims=True)
  return logits - jnp.log(jnp.maximum(mass, 1.0))  # the highest alone has 1


def advance(tree: Tree, action: Array, root: Root) -> Tree:
  """The trees below `action` `[B]`, renumbered, for the search of the next move.

  `root` is the position after the action. It gives the state, and all of the root where the tree
  has no node for the action; where it has one, that and everything below it is kept, in its order.
  """
  B, N, _ = tree.shape
  top = jnp.take_along_axis(tree.child[:, 0], action[:, None], 1).astype(jnp.int32)  # [B, 1]
  index = jnp.arange(N, dtype=jnp.int32)[None, :]
  kept = _below(tree.parent, top) & (index < tree.size[:, None]) & (top > 0)  # [B, N]
  number = jnp.cumsum(kept, 1, dtype=jnp.int32) - 1
  size = jnp.maximum(number[:, -1] + 1, 1)
  lane = jnp.arange(B)[:, None]
  source = (
    jnp.zeros_like(tree.parent)
    .at[lane, jnp.where(kept, number, N)]
    .set(jnp.broadcast_to(index, (B, N)), mode='drop')
  )
  used = (index < size[:, None]) & (top > 0)

  def move(x):
    rows = jnp.take_along_axis(x, _expand(source, x), 1)
    return jnp.where(_expand(used, x), rows, jnp.zeros_like(rows))

  def renumber(x):  # node numbers; 0 stays 0
    flat = jnp.take_along_axis(number, x.astype(jnp.int32).reshape(B, -1), 1).reshape(x.shape)
    return jnp.where(x > 0, flat, 0).astype(x.dtype)

  def move_or_root(x, root):  # row 0 of a tree that had no such node is the new root's
    moved = move(x)
    first = jnp.where(_expand(top[:, 0] > 0, root), moved[:, 0], root)
    return moved.at[:, 0].set(first)

  return Tree(
    prior=move_or_root(tree.prior, log_softmax(root.logits)),
    visits=move(tree.visits),
    total=move(tree.total),
    child=renumber(move(tree.child)),
    raw=move_or_root(tree.raw, root.value.astype(jnp.float32)),
    done=move_or_root(tree.done, root.done),
    parent=renumber(move(tree.parent)).at[:, 0].set(0),
    nodes=jax.tree.map(move_or_root, tree.nodes, root.node),
    state=root.state,
    size=size,
    noise=jnp.zeros_like(tree.noise),
  )


def _below(parent, top):
  """bool `[B, N]`: whether a node is `top` `[B, 1]` or below it, by doubling the step upwards."""
  index = jnp.arange(parent.shape[1], dtype=jnp.int32)[None, :]
  above = jnp.where(index == top, top, parent)
  for _ in range(max(parent.shape[1] - 1, 1).bit_length()):
    above = jnp.take_along_axis(above, above, 1)
  return above == top


def _expand(x, like):
  """x `[B, n]` with as many axes as `like`."""
  return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))
