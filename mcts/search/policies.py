"""How a search chooses: PUCT (AlphaGo Zero, AlphaZero, MuZero, KataGo) and Gumbel AlphaZero.

A rule scores the edges of one node a lane; the search takes the edge with the highest score, the
first of equal ones. Everything is in [-1, 1] from the view of the player to move.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.search.tree import Tree, count_and_mean, varying_like

FIRST_PLAY = ('loss', 'parent', 'mixed', 'lowest')


class Edges(NamedTuple):
  """One node of each lane.

  prior: float32 `[B, A]` log-probabilities, -inf where illegal.
  visits, total: float32 `[B, A]` simulations through each edge, and the sum of their values.
  raw: float32 `[B]` the node's own evaluation.
  count, value: float32 `[B]` visits of the node, its own evaluation among them, and their mean.
  """

  prior: Array
  visits: Array
  total: Array
  raw: Array
  count: Array
  value: Array

  @property
  def q(self) -> Array:
    """float32 `[B, A]` the mean value of each edge, 0 where unvisited."""
    return self.total / jnp.maximum(self.visits, 1)


class Decision(NamedTuple):
  """What a search says about its roots.

  action: int32 `[B]` the move to play.
  policy: float32 `[B, A]` the distribution to learn.
  value: float32 `[B]` the root's value for the player to move.
  """

  action: Array
  policy: Array
  value: Array


def root_edges(tree: Tree) -> Edges:
  visits, total, raw = tree.visits[:, 0].astype(jnp.float32), tree.total[:, 0], tree.raw[:, 0]
  return Edges(tree.prior[:, 0], visits, total, raw, *count_and_mean(raw, visits, total))


def mixed_value(edges: Edges, probabilities: Array) -> Array:
  """float32 `[B]`: the node's evaluation and what its visited edges say, weighted by their priors.

  Danihelka et al. 2022, appendix D, equation 33.
  """
  seen = edges.visits > 0
  weight = jnp.where(seen, jnp.maximum(probabilities, np.finfo(np.float32).tiny), 0)
  q = (weight * edges.q).sum(-1) / jnp.maximum(weight.sum(-1), np.finfo(np.float32).tiny)
  visits = edges.visits.sum(-1)
  return (edges.raw + visits * q) / (1 + visits)


# -------- PUCT --------


@dataclasses.dataclass(frozen=True)
class Puct:
  """Q + c(N) P sqrt(N) / (1 + n), with c(N) = c_init + log((N + c_base + 1) / c_base).

  Silver et al. 2017 and 2018; N counts the node's own evaluation. `first_play` is Q of an edge not
  yet visited: a 'loss' (-1), the 'parent' node's mean value less `reduction`, the 'mixed' value of
  Gumbel AlphaZero, or the 'lowest' Q at the node. `rescale` maps Q to [0, 1] between the lowest and
  the highest at the node (MuZero, appendix B). At the root, `fraction` of the prior is Dirichlet
  noise over legal actions, whose concentration is `alpha`, by default 10.83 over their number
  (which is 0.03 on an empty 19 x 19 board), and a visited edge gets at least
  sqrt(`forced` P n) visits of n (KataGo, Wu 2019, section 3.2, which has `forced` 2), which the
  policy to learn leaves out again. `ties='random'` adds noise below 1e-7 to the scores at the root.
  """

  c_init: float = 1.25
  c_base: float = 19652.0
  first_play: str = 'parent'
  reduction: float = 0.0
  rescale: bool = False
  fraction: float = 0.0
  alpha: float | None = None
  forced: float = 0.0
  ties: str = 'first'

  def __post_init__(self):
    if self.first_play not in FIRST_PLAY:
      raise ValueError(f'first_play {self.first_play!r}: choose from {", ".join(FIRST_PLAY)}')
    if self.ties not in ('first', 'random'):
      raise ValueError(f'ties {self.ties!r}: choose from first, random')
    if not 0 <= self.fraction <= 1:
      raise ValueError(f'fraction {self.fraction}: must be in [0, 1]')

  def prepare(self, tree: Tree, keys: Array) -> Tree:
    """The tree with noise in the priors of its root; keys: one a game."""
    prior, noise = tree.prior, tree.noise
    split = jax.vmap(jax.random.split)(keys)
    if self.fraction:
      mix = jax.vmap(_add_dirichlet, (0, 0, None, None))
      prior = prior.at[:, 0].set(mix(split[:, 0], prior[:, 0], self.fraction, self.alpha))
    if self.ties == 'random':
      draw = jax.vmap(lambda key: jax.random.uniform(key, noise.shape[1:], maxval=1e-7))
      noise = draw(split[:, 1])
    return dataclasses.replace(tree, prior=prior, noise=noise)

  def score(self, edges: Edges) -> Array:
    """`[B, A]`, -inf where illegal."""
    prior = jnp.exp(edges.prior)
    exploration = self._exploration(edges.count)[:, None] * prior / (1 + edges.visits)
    return jnp.where(edges.prior > -jnp.inf, self._value(edges, prior) + exploration, -jnp.inf)

  def score_root(self, edges: Edges, before: Array, noise: Array, budget: int) -> Array:
    """`before`: the root's visits when this search began; `budget`: the simulations of it."""
    score = self.score(edges)
    if self.ties == 'random':
      score = score + noise
    if self.forced:
      wanted = _forced_visits(edges, self.forced)
      score = jnp.where((edges.visits > 0) & (edges.visits < wanted), jnp.inf, score)
    return score

  def _exploration(self, count):
    return (self.c_init + jnp.log((count + (self.c_base + 1)) / self.c_base)) * jnp.sqrt(count)

  def _value(self, edges, prior):
    seen, q = edges.visits > 0, edges.q
    node = edges.value[:, None]
    if self.first_play == 'loss':
      first = jnp.full_like(node, -1.0)
    elif self.first_play == 'parent':
      first = node - self.reduction
    elif self.first_play == 'mixed':
      first = mixed_value(edges, prior)[:, None]
    if self.first_play == 'lowest' or self.rescale:
      known = jnp.where(seen, q, node)
      # One reduction of twice the size is faster than two.
      lowest, highest = jnp.split(jnp.stack([-known, known], 1).max(-1), 2, 1)
      lowest, highest = jnp.minimum(-lowest, node), jnp.maximum(highest, node)
    if self.first_play == 'lowest':
      first = lowest
    q = jnp.where(seen, q, first)
    if not self.rescale:
      return q
    lowest, highest = jnp.minimum(lowest, first), jnp.maximum(highest, first)
    return (q - lowest) / jnp.maximum(highest - lowest, 1e-8)

  def decide(self, tree: Tree, keys: Array, temperature=1.0) -> Decision:
    """The move: by visits to the power 1 / `temperature` (a number or `[B]`), the most at 0."""
    edges = root_edges(tree)
    visits = self._pruned(edges) if self.forced else edges.visits
    some = visits.sum(-1, keepdims=True) > 0
    weights = jnp.where(some, visits, jnp.exp(edges.prior))  # before any simulation: the prior
    policy = weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-8)
    temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), policy.shape[:1])
    return Decision(_sample(keys, policy, temperature), policy, edges.value)

  def _pruned(self, edges):
    """Visits without those that were only forced: none that leaves an edge's score the highest."""
    prior = jnp.exp(edges.prior)
    exploration = self._exploration(edges.count)[:, None] * prior
    q = self._value(edges, prior)
    most = edges.visits == edges.visits.max(-1, keepdims=True)
    best = jnp.where(most, q + exploration / (1 + edges.visits), -jnp.inf).max(-1, keepdims=True)
    # q + exploration / (1 + n) < best holds for n of more than this:
    fair = jnp.ceil(exploration / jnp.maximum(best - q, 1e-8) - 1)
    fewest = jnp.ceil(edges.visits - _forced_visits(edges, self.forced))
    pruned = jnp.clip(jnp.maximum(fair, fewest), 0, edges.visits)
    return jnp.where(most, edges.visits, jnp.where(pruned > 1, pruned, 0))


def _forced_visits(edges, forced):
  return jnp.sqrt(forced * jnp.exp(edges.prior) * edges.visits.sum(-1, keepdims=True))


def _add_dirichlet(key, prior, fraction, alpha):
  """Unbatched: log-probabilities `[A]` with noise over the legal ones, of the same total."""
  legal = prior > -jnp.inf
  alpha = 10.83 / jnp.maximum(legal.sum(), 1) if alpha is None else alpha
  alpha = jnp.broadcast_to(jnp.asarray(alpha, jnp.float32), prior.shape)
  # By logarithms: gamma variates of such small shapes underflow.
  draw = jnp.where(legal, jax.random.loggamma(key, varying_like(alpha, prior)), -jnp.inf)
  draw = draw - jnp.where(legal.any(), draw.max(), 0)
  noise = jnp.exp(draw) / jnp.maximum(jnp.exp(draw).sum(), 1.0)
  mixed = (1 - fraction) * jnp.exp(prior) + fraction * noise
  return jnp.where(legal, jnp.log(jnp.maximum(mixed, np.finfo(np.float32).tiny)), -jnp.inf)


def _sample(keys, policy, temperature):
  """int32 `[B]`; of a temperature of 0 the first of the likeliest actions."""
  tiny = np.finfo(np.float32).tiny
  logits = jnp.log(jnp.maximum(policy / jnp.maximum(policy.max(-1, keepdims=True), tiny), tiny))
  logits = jnp.where(policy > 0, logits / jnp.maximum(temperature, 1e-3)[:, None], -jnp.inf)
  drawn = jax.vmap(jax.random.categorical)(keys, logits)
  return jnp.where(temperature > 0, drawn, policy.argmax(-1)).astype(jnp.int32)


# -------- Gumbel --------


@dataclasses.dataclass(frozen=True)
class Gumbel:
  """Danihelka et al. 2022: sequential halving at the root, deterministic choice below.

  At the root, the `considered` actions with the highest Gumbel noise + log prior share the budget,
  and half of them goes on each time (section 3); `scale` 0 leaves the noise out. Below, visits
  follow the policy improved by completed Q (section 5), whose scale is
  (`visit_init` + most visits) `value_scale` (equation 8); `rescale` maps Q to [0, 1] before.
  The noise is drawn when a tree starts and stays while it is extended.
  """

  considered: int = 16
  value_scale: float = 0.1
  visit_init: float = 50.0
  scale: float = 1.0
  rescale: bool = True

  def __post_init__(self):
    if self.considered < 1:
      raise ValueError(f'considered {self.considered}: at least 1 action must be considered')

  def prepare(self, tree: Tree, keys: Array) -> Tree:
    draw = jax.vmap(lambda key: jax.random.gumbel(key, tree.noise.shape[1:]))
    return dataclasses.replace(tree, noise=self.scale * draw(keys))

  def improved(self, edges: Edges) -> Array:
    """Log prior + scaled Q, completed by the mixed value where unvisited: `[B, A]` logits."""
    q = self._completed(edges)
    if self.rescale:
      # Illegal edges are unvisited: they have the mixed value, as some legal edge has or surrounds.
      lowest, highest = q.min(-1, keepdims=True), q.max(-1, keepdims=True)
      q = (q - lowest) / jnp.maximum(highest - lowest, 1e-8)
    return edges.prior + self.value_scale * (self.visit_init + _most(edges)) * q

  def _completed(self, edges: Edges) -> Array:
    """Q `[B, A]`, the mixed value where unvisited."""
    first = mixed_value(edges, jnp.exp(edges.prior))[:, None]
    return jnp.where(edges.visits > 0, edges.q, first)

  def score(self, edges: Edges) -> Array:
    logits = self.improved(edges)
    weights = jnp.exp(logits - _finite(logits.max(-1, keepdims=True)))
    policy = weights / weights.sum(-1, keepdims=True)
    share = edges.visits / (1 + edges.visits.sum(-1, keepdims=True))
    return jnp.where(edges.prior > -jnp.inf, policy - share, -jnp.inf)

  def score_root(self, edges: Edges, before: Array, noise: Array, budget: int) -> Array:
    """Only edges with as many visits of this search as the schedule has now are possible."""
    visits = edges.visits - before
    done = visits.sum(-1).astype(jnp.int32)
    legal = (edges.prior > -jnp.inf).sum(-1)
    table = halving_table(min(self.considered, edges.prior.shape[-1]), budget)
    now = jnp.asarray(table)[jnp.minimum(legal, len(table) - 1), jnp.minimum(done, budget - 1)]
    allowed = (visits == now[:, None].astype(jnp.float32)) & (edges.prior > -jnp.inf)
    return jnp.where(allowed, self._ranking(edges, noise), -jnp.inf)

  def _ranking(self, edges, noise):
    highest = _finite(edges.prior.max(-1, keepdims=True))
    return jnp.maximum(noise + (self.improved(edges) - highest), -1e9)

  def decide(self, tree: Tree, keys: Array, temperature=None) -> Decision:
    """The best of the most visited; `temperature` samples from the improved policy instead.

    The value is the improved policy's, by the completed Q: at few simulations the mean of all is
    mostly of moves that were only tried.
    """
    edges = root_edges(tree)
    logits = self.improved(edges)
    weights = jnp.exp(logits - _finite(logits.max(-1, keepdims=True)))
    policy = weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-8)
    possible = (edges.visits == _most(edges)) & (edges.prior > -jnp.inf)
    best = jnp.where(possible, self._ranking(edges, tree.noise), -jnp.inf).argmax(-1)
    best = best.astype(jnp.int32)
    if temperature is not None:
      temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), best.shape)
      best = jnp.where(temperature > 0, _sample(keys, policy, temperature), best)
    value = jnp.where(edges.visits.any(-1), (policy * self._completed(edges)).sum(-1), edges.value)
    return Decision(best, policy, value)


def _most(edges):
  return edges.visits.max(-1, keepdims=True)


def _finite(x):
  return jnp.where(x == -jnp.inf, 0.0, x)


def halving_table(considered: int, budget: int) -> np.ndarray:
  """int32 `[considered + 1, budget]`: row m for m actions, the visits that the next one has had.

  Karnin et al. 2013: m actions get an equal share in each of ceil(log2 m) rounds, after which the
  better half goes on; two remain until the budget is spent.
  """
  rows = [_halving(m, budget) for m in range(considered + 1)]
  return np.array(rows, np.int32).reshape(considered + 1, budget)


def _halving(actions, budget):
  if actions <= 1:
    return list(range(budget))
  rounds = (actions - 1).bit_length()
  sequence, visits, left = [], 0, actions
  while len(sequence) < budget:
    for _ in range(max(1, budget // (rounds * left))):
      sequence += [visits] * left
      visits += 1
    left = max(2, left // 2)
  return sequence[:budget]


Rule = Puct | Gumbel
