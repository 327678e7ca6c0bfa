"""What a selection policy is: what it sees of a node, and what it says about a search.

`policies.py` has two. Values are in [-1, 1] from the view of the player to move at the node.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.search.tree import Tree, node_statistics

TINY = np.finfo(np.float32).tiny


class Edges(NamedTuple):
  """The edges of one node of each of B games.

  log_prior: float32 `[B, A]` log-probabilities, -inf where illegal.
  visits: float32 `[B, A]` simulations through each edge, n(a).
  value_sum: float32 `[B, A]` the sum of their values.
  raw_value: float32 `[B]` the node's own evaluation.
  node_visits: float32 `[B]` visits of the node, N, its own evaluation counted as one.
  node_value: float32 `[B]` the mean value of these.
  """

  log_prior: Array
  visits: Array
  value_sum: Array
  raw_value: Array
  node_visits: Array
  node_value: Array

  @property
  def q(self) -> Array:
    """Returns float32 `[B, A]`, the mean value of each edge, 0 where unvisited."""
    return self.value_sum / jnp.maximum(self.visits, 1)


class PolicyOutput(NamedTuple):
  """The result of a search at its roots.

  action: int32 `[B]` the move to play; -1 where an evaluation of the search was not finite, and
    then `value` is NaN and the policy means nothing (`tree_search.decide`).
  policy: float32 `[B, A]` the distribution that the network learns.
  value: float32 `[B]` the root's value for the player to move.
  """

  action: Array
  policy: Array
  value: Array


class SelectionPolicy(Protocol):
  """How a search selects edges and what it concludes; hashable, so that `jit` can depend on it."""

  @property
  def allows_tree_reuse(self) -> bool:
    """Returns whether a search may start from a root that has visits already."""

  def without_noise(self) -> 'SelectionPolicy':
    """Returns the policy for strength alone: no noise at the root and no forced playouts."""

  def prepare(self, tree: Tree, keys: Array) -> Tree:
    """Returns the tree with this policy's noise at its root; keys: typed `[B]`."""

  def score(self, edges: Edges) -> Array:
    """Returns float32 `[B, A]` scores below the root, -inf where illegal."""

  def score_root(
    self, edges: Edges, initial_visits: Array, noise: Array, num_simulations: int
  ) -> Array:
    """Returns float32 `[B, A]` scores at the root.

    Args:
      edges: of the roots.
      initial_visits: float32 `[B, A]`, the roots' visits when this search began.
      noise: float32 `[B, A]`, `Tree.noise`.
      num_simulations: of this search in all.
    """

  def decide(self, tree: Tree, keys: Array, temperature: Array | float) -> PolicyOutput:
    """Returns what a finished search says.

    Args:
      tree: after the last simulation.
      keys: typed `[B]`, for drawing moves.
      temperature: a number or `[B]`. Above 0 the move is drawn from the search's policy to the
        power 1 / temperature; at 0 it is the search's best.
    """


def check_range(settings: object, least: float, most: float, *names: str) -> None:
  """Checks that fields of a dataclass are from `least` to `most`, which NaN is not.

  Raises:
    ValueError: for the first that is not.
  """
  for name in names:
    value = getattr(settings, name)
    if not least <= value <= most:
      raise ValueError(f'{name} {value}: must be from {least:g} to {most:g}')


def root_edges(tree: Tree) -> Edges:
  """Returns the edges of the roots."""
  visits, value_sum = tree.visits[:, 0].astype(jnp.float32), tree.value_sum[:, 0]
  raw_value = tree.raw_value[:, 0]
  statistics = node_statistics(raw_value, visits, value_sum)
  return Edges(tree.log_prior[:, 0], visits, value_sum, raw_value, *statistics)


def mixed_value(edges: Edges, prior: Array) -> Array:
  """Returns v_mix `[B]`: the raw value mixed with the visited edges' Q, weighted by their prior.

  Danihelka et al. 2022, appendix D, equation 33.

  Args:
    edges: of one node a game.
    prior: float32 `[B, A]` probabilities.
  """
  visited = edges.visits > 0
  # A visited edge whose prior underflows to 0 still has a weight, so that the sum is not 0.
  weight = jnp.where(visited, jnp.maximum(prior, TINY), 0)
  q = (weight * edges.q).sum(-1) / jnp.maximum(weight.sum(-1), TINY)
  visits = edges.visits.sum(-1)
  return (edges.raw_value + visits * q) / (1 + visits)


def sample_action(keys, policy, temperature):
  """Returns int32 `[B]` drawn from policy^(1 / temperature); at 0 the first of the likeliest."""
  # Relative to the likeliest action, whose logit is 0 at any temperature: none underflows all.
  logits = jnp.log(jnp.maximum(policy / jnp.maximum(policy.max(-1, keepdims=True), TINY), TINY))
  divisor = jnp.where(temperature > 0, temperature, 1.0)[:, None]
  logits = jnp.where(policy > 0, logits / divisor, -jnp.inf)
  drawn = jax.vmap(jax.random.categorical)(keys, logits)
  return jnp.where(temperature > 0, drawn, policy.argmax(-1)).astype(jnp.int32)
