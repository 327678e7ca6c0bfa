"""Selection policies: PUCT (AlphaGo Zero, AlphaZero, MuZero, KataGo) and Gumbel AlphaZero.

A selection policy scores the edges of one node of each game, and the search descends by the edge
with the highest score, the first of equal ones. After the last simulation it says what to play and
what to learn. The contract is `selection.SelectionPolicy`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts.search.selection import (
  TINY,
  Edges,
  PolicyOutput,
  check_range,
  mixed_value,
  root_edges,
  sample_action,
)
from mcts.search.tree import Tree, varying_like

FPU = ('loss', 'parent', 'mixed', 'lowest')
LARGEST = 1e6  # of a constant in a score: products of two of them are far from float32's end

# -------- PUCT --------


@dataclasses.dataclass(frozen=True)
class Puct:
  """PUCT: score(a) = Q(a) + c(N) P(a) sqrt(N) / (1 + n(a)).

  c(N) = c_init + log((N + c_base + 1) / c_base) (Silver et al. 2018, pseudocode); N counts the
  node's own evaluation.

  c_init, c_base: of c(N).
  fpu: first-play urgency, Q of an edge without visits: 'loss' (-1), 'parent' (the node's mean value
    less `fpu_reduction`), 'mixed' (Gumbel AlphaZero's v_mix) or 'lowest' (the lowest Q at the node,
    as in mctx).
  fpu_reduction: for fpu='parent'.
  rescale_q: whether Q is mapped to [0, 1] between its lowest and highest at the node (MuZero,
    appendix B).
  dirichlet_fraction: the share of Dirichlet noise in the root's prior, over legal actions; 0.25 in
    AlphaGo Zero.
  dirichlet_alpha: its concentration, None for 10.83 over the number of legal actions, which is 0.03
    on an empty 19 x 19 board.
  forced_playouts: k in sqrt(k P n): the visits of n that a visited edge of the root has at least,
    which the policy to learn leaves out again (Wu 2019, section 3.2, where k = 2); 0 for none.
  ties: 'first', or 'random' for noise below 1e-7 in the root's scores.
  """

  c_init: float = 1.25
  c_base: float = 19652.0
  fpu: str = 'parent'
  fpu_reduction: float = 0.0
  rescale_q: bool = False
  dirichlet_fraction: float = 0.0
  dirichlet_alpha: float | None = None
  forced_playouts: float = 0.0
  ties: str = 'first'

  def __post_init__(self):
    if self.fpu not in FPU:
      raise ValueError(f'fpu {self.fpu!r}: choose from {", ".join(FPU)}')
    if self.ties not in ('first', 'random'):
      raise ValueError(f'ties {self.ties!r}: choose from first, random')
    check_range(self, 0, 1, 'dirichlet_fraction')
    check_range(self, 0, LARGEST, 'c_init', 'forced_playouts')
    check_range(self, -LARGEST, LARGEST, 'fpu_reduction')
    check_range(self, 1e-6, 1e30, 'c_base')
    if self.dirichlet_alpha is not None:
      check_range(self, 1e-30, 1e30, 'dirichlet_alpha')

  @property
  def allows_tree_reuse(self) -> bool:
    """Returns whether a search may start from a root that has visits."""
    return True

  def without_noise(self) -> 'Puct':
    """Returns the policy without Dirichlet noise and forced playouts."""
    return dataclasses.replace(self, dirichlet_fraction=0.0, forced_playouts=0.0)

  def prepare(self, tree: Tree, keys: Array) -> Tree:
    """Returns the tree with Dirichlet noise in its root's prior; keys: typed `[B]`."""
    log_prior, noise = tree.log_prior, tree.noise
    split = jax.vmap(jax.random.split)(keys)
    if self.dirichlet_fraction:
      # Into the tree's own prior, so that all simulations and the decision see the same noise.
      mix = jax.vmap(_add_dirichlet, (0, 0, None, None))
      noisy = mix(split[:, 0], log_prior[:, 0], self.dirichlet_fraction, self.dirichlet_alpha)
      log_prior = log_prior.at[:, 0].set(noisy)
    if self.ties == 'random':
      draw = jax.vmap(lambda key: jax.random.uniform(key, noise.shape[1:], maxval=1e-7))
      noise = draw(split[:, 1])
    return dataclasses.replace(tree, log_prior=log_prior, noise=noise)

  def score(self, edges: Edges) -> Array:
    """Returns float32 `[B, A]`, -inf where illegal."""
    prior = jnp.exp(edges.log_prior)  # 0 where illegal
    exploration = self._exploration(edges.node_visits)[:, None] * prior / (1 + edges.visits)
    return jnp.where(edges.log_prior > -jnp.inf, self._q(edges, prior) + exploration, -jnp.inf)

  def score_root(
    self, edges: Edges, initial_visits: Array, noise: Array, num_simulations: int
  ) -> Array:
    """Returns float32 `[B, A]`: as `score`, +inf for edges that are short of forced playouts."""
    score = self.score(edges)
    if self.ties == 'random':
      score = score + noise
    if self.forced_playouts:
      wanted = _forced_visits(edges, self.forced_playouts)
      # Of edges that had a visit: forcing must not open moves that the prior rules out.
      score = jnp.where((edges.visits > 0) & (edges.visits < wanted), jnp.inf, score)
    return score

  def _exploration(self, node_visits):
    """Returns c(N) sqrt(N)."""
    # N counts the node's own evaluation, so that sqrt(N) is 1 and not 0 before its first visit:
    # the prior then decides, where all scores would be equal.
    c = self.c_init + jnp.log((node_visits + (self.c_base + 1)) / self.c_base)
    return c * jnp.sqrt(node_visits)

  def _q(self, edges, prior):
    """Returns Q `[B, A]` with the first-play urgency where unvisited, perhaps rescaled."""
    visited, q = edges.visits > 0, edges.q
    node = edges.node_value[:, None]
    if self.fpu == 'loss':
      fpu = jnp.full_like(node, -1.0)
    elif self.fpu == 'parent':
      fpu = node - self.fpu_reduction
    elif self.fpu == 'mixed':
      fpu = mixed_value(edges, prior)[:, None]
    if self.fpu == 'lowest' or self.rescale_q:
      known = jnp.where(visited, q, node)  # [B, A]; unvisited edges do not widen the range
      # Minimum and maximum by one reduction of twice the size, which is faster than two.
      lowest, highest = jnp.split(jnp.stack([-known, known], 1).max(-1), 2, 1)
      lowest, highest = jnp.minimum(-lowest, node), jnp.maximum(highest, node)
    if self.fpu == 'lowest':
      fpu = lowest
    q = jnp.where(visited, q, fpu)
    if not self.rescale_q:
      return q
    # The urgency may lie below every Q (fpu='loss'); with it in the range all stays in [0, 1].
    lowest, highest = jnp.minimum(lowest, fpu), jnp.maximum(highest, fpu)
    return (q - lowest) / jnp.maximum(highest - lowest, 1e-8)

  def decide(self, tree: Tree, keys: Array, temperature: Array | float = 1.0) -> PolicyOutput:
    """Returns the visits' distribution, and a move drawn from it to the power 1 / temperature."""
    edges = root_edges(tree)
    visits = self._pruned_visits(edges) if self.forced_playouts else edges.visits
    searched = visits.sum(-1, keepdims=True) > 0
    weights = jnp.where(searched, visits, jnp.exp(edges.log_prior))  # unsearched: the prior
    policy = weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-8)
    temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), policy.shape[:1])
    return PolicyOutput(sample_action(keys, policy, temperature), policy, edges.node_value)

  def _pruned_visits(self, edges):
    """Returns the visits less forced playouts (Wu 2019, section 3.2, policy target pruning).

    An edge loses visits as long as its score stays below that of the most visited one, and not
    more of them than were forced; a single visit that is left is pruned, too.
    """
    prior = jnp.exp(edges.log_prior)
    exploration = self._exploration(edges.node_visits)[:, None] * prior
    q = self._q(edges, prior)
    most = edges.visits == edges.visits.max(-1, keepdims=True)
    # The score to reach, of the most visited edge: [B, 1]. Where q alone reaches it, `fair` is huge
    # and nothing is pruned.
    best = jnp.where(most, q + exploration / (1 + edges.visits), -jnp.inf).max(-1, keepdims=True)
    # q + exploration / (1 + n) < best holds for n of more than this:
    fair = jnp.ceil(exploration / jnp.maximum(best - q, 1e-8) - 1)
    fewest = jnp.ceil(edges.visits - _forced_visits(edges, self.forced_playouts))
    pruned = jnp.clip(jnp.maximum(fair, fewest), 0, edges.visits)
    return jnp.where(most, edges.visits, jnp.where(pruned > 1, pruned, 0))


def _forced_visits(edges, k):
  """Returns float32 `[B, A]`, sqrt(k P(a) n) where n is the simulations of the root."""
  return jnp.sqrt(k * jnp.exp(edges.log_prior) * edges.visits.sum(-1, keepdims=True))


def _add_dirichlet(key, log_prior, fraction, alpha):
  """Returns log-probabilities `[A]` with noise over the legal actions; unbatched."""
  legal = log_prior > -jnp.inf
  # 10.83 = 0.03 x 361: alpha in inverse proportion to the number of moves (Silver et al. 2018).
  alpha = 10.83 / jnp.maximum(legal.sum(), 1) if alpha is None else alpha
  alpha = jnp.broadcast_to(jnp.asarray(alpha, jnp.float32), log_prior.shape)
  # In logarithms: gamma variates of such small shape parameters underflow to 0.
  draw = jnp.where(legal, jax.random.loggamma(key, varying_like(alpha, log_prior)), -jnp.inf)
  draw = draw - jnp.where(legal.any(), draw.max(), 0)
  # The largest is exp(0) = 1, so the sum is below 1 only where nothing is legal.
  noise = jnp.exp(draw) / jnp.maximum(jnp.exp(draw).sum(), 1.0)
  mixed = (1 - fraction) * jnp.exp(log_prior) + fraction * noise
  # A legal move whose share underflows must not become -inf, which would make it illegal.
  return jnp.where(legal, jnp.log(jnp.maximum(mixed, TINY)), -jnp.inf)


# -------- Gumbel --------


@dataclasses.dataclass(frozen=True)
class Gumbel:
  """Gumbel AlphaZero (Danihelka et al. 2022): sequential halving at the root.

  At the root, the actions with the highest Gumbel noise + log prior share the simulations, and the
  better half of them goes on in each round (section 3). Below, the visits follow the policy that is
  improved by completed Q, deterministically (section 5). The noise is drawn when a tree starts, and
  stays while it is extended.

  max_num_considered_actions: that the root starts from.
  value_scale, maxvisit_init: c_scale and c_visit of equation 8: Q is scaled by
    value_scale (maxvisit_init + the most visits of an edge).
  gumbel_scale: of the noise; 0 leaves it out.
  rescale_q: whether Q is mapped to [0, 1] between its lowest and highest at the node before that.
  """

  max_num_considered_actions: int = 16
  value_scale: float = 0.1
  maxvisit_init: float = 50.0
  gumbel_scale: float = 1.0
  rescale_q: bool = True

  def __post_init__(self):
    check_range(self, 1, np.inf, 'max_num_considered_actions')
    check_range(self, 0, LARGEST, 'value_scale', 'maxvisit_init', 'gumbel_scale')

  @property
  def allows_tree_reuse(self) -> bool:
    """Returns whether a search may start from a root that has visits."""
    return False  # the schedule of sequential halving starts from an unvisited root

  def without_noise(self) -> 'Gumbel':
    """Returns the policy without Gumbel noise."""
    return dataclasses.replace(self, gumbel_scale=0.0)

  def prepare(self, tree: Tree, keys: Array) -> Tree:
    """Returns the tree with Gumbel noise for its root's actions; keys: typed `[B]`."""
    draw = jax.vmap(lambda key: jax.random.gumbel(key, tree.noise.shape[1:]))
    return dataclasses.replace(tree, noise=self.gumbel_scale * draw(keys))

  def improved_logits(self, edges: Edges) -> Array:
    """Returns the improved policy's logits `[B, A]`: log prior + scaled completed Q (section 4)."""
    q = self._completed_q(edges)
    if self.rescale_q:
      # Illegal edges do not widen the range: they have v_mix, which lies among the others' Q.
      lowest, highest = q.min(-1, keepdims=True), q.max(-1, keepdims=True)
      q = (q - lowest) / jnp.maximum(highest - lowest, 1e-8)
    return edges.log_prior + self.value_scale * (self.maxvisit_init + _most_visits(edges)) * q

  def _completed_q(self, edges: Edges) -> Array:
    """Returns Q `[B, A]`, completed by v_mix where unvisited."""
    v_mix = mixed_value(edges, jnp.exp(edges.log_prior))[:, None]
    return jnp.where(edges.visits > 0, edges.q, v_mix)

  def score(self, edges: Edges) -> Array:
    """Returns float32 `[B, A]`: pi'(a) - n(a) / (1 + sum n) (section 5)."""
    policy = self._improved_policy(edges)
    # The edge whose share of visits lags most behind pi': shares approach pi' without any noise.
    share = edges.visits / (1 + edges.visits.sum(-1, keepdims=True))
    return jnp.where(edges.log_prior > -jnp.inf, policy - share, -jnp.inf)

  def _improved_policy(self, edges: Edges) -> Array:
    """Returns pi' `[B, A]`; all zeros, not NaN, where no action is legal."""
    logits = self.improved_logits(edges)
    weights = jnp.exp(logits - _zero_if_infinite(logits.max(-1, keepdims=True)))
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-8)

  def score_root(
    self, edges: Edges, initial_visits: Array, noise: Array, num_simulations: int
  ) -> Array:
    """Returns float32 `[B, A]`, -inf but for edges with the visits that the schedule has now."""
    visits = edges.visits - initial_visits  # of this search alone
    simulation = visits.sum(-1).astype(jnp.int32)
    legal = (edges.log_prior > -jnp.inf).sum(-1)
    actions = min(self.max_num_considered_actions, edges.log_prior.shape[-1])
    # Halving without a list of survivors: a simulation takes the best ranked of the actions that
    # have as many visits as the schedule says. When a round begins all of the last one have, so the
    # best of them are picked, and who is not picked falls behind for good.
    table = halving_table(actions, num_simulations)
    row, column = jnp.minimum(legal, actions), jnp.minimum(simulation, num_simulations - 1)
    wanted = jnp.asarray(table)[row, column][:, None].astype(jnp.float32)  # [B, 1]
    allowed = (visits == wanted) & (edges.log_prior > -jnp.inf)
    return jnp.where(allowed, self._root_ranking(edges, noise), -jnp.inf)

  def _root_ranking(self, edges, noise):
    """Returns g(a) + logits(a) + sigma(q(a)), by which sequential halving ranks actions."""
    highest = _zero_if_infinite(edges.log_prior.max(-1, keepdims=True))
    # Above -inf, which `score_root` keeps for actions that the schedule rules out.
    return jnp.maximum(noise + (self.improved_logits(edges) - highest), -1e9)

  def decide(self, tree: Tree, keys: Array, temperature: Array | float = 0.0) -> PolicyOutput:
    """Returns the improved policy, and the best ranked of the most visited actions.

    A temperature above 0 samples from the improved policy instead. The value is the improved
    policy's by completed Q: with few simulations the mean of all is mostly of moves that were only
    tried.
    """
    edges = root_edges(tree)
    policy = self._improved_policy(edges)
    # The survivors of the last round have the most visits.
    possible = (edges.visits == _most_visits(edges)) & (edges.log_prior > -jnp.inf)
    best = jnp.where(possible, self._root_ranking(edges, tree.noise), -jnp.inf).argmax(-1)
    temperature = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), best.shape)
    sampled = sample_action(keys, policy, temperature)
    action = jnp.where(temperature > 0, sampled, best.astype(jnp.int32))
    value = (policy * self._completed_q(edges)).sum(-1)
    value = jnp.where(edges.visits.any(-1), value, edges.node_value)
    return PolicyOutput(action, policy, value)


def _most_visits(edges):
  return edges.visits.max(-1, keepdims=True)


def _zero_if_infinite(x):
  return jnp.where(x == -jnp.inf, 0.0, x)


def halving_table(max_num_considered_actions: int, num_simulations: int) -> np.ndarray:
  """Returns the schedule of sequential halving (Karnin et al. 2013).

  m actions get an equal share of the simulations in each of ceil(log2 m) rounds, after which the
  better half goes on; two remain until the simulations are spent.

  Returns:
    int32 `[max_num_considered_actions + 1, num_simulations]`: row m, for m legal actions, has the
    visits that the action of each simulation has had before it.
  """
  rows = [_halving(m, num_simulations) for m in range(max_num_considered_actions + 1)]
  return np.array(rows, np.int32).reshape(max_num_considered_actions + 1, num_simulations)


def _halving(num_actions: int, num_simulations: int) -> list[int]:
  if num_actions <= 1:
    return list(range(num_simulations))  # one action has had 0, 1, 2, ... visits
  rounds = (num_actions - 1).bit_length()
  sequence: list[int] = []
  visits, left = 0, num_actions
  while len(sequence) < num_simulations:
    # n / (ceil(log2 m) left) visits for each that is left, and at least one.
    for _ in range(max(1, num_simulations // (rounds * left))):
      sequence += [visits] * left
      visits += 1
    left = max(2, left // 2)
  return sequence[:num_simulations]
