"""The engine that searches: one game with a tree kept from move to move, or games in a batch.

Where a position continues the one that was searched last, the search goes on with the part of its
tree that still holds. As one game makes small batches, several leaves are evaluated together.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mcts import search as search_lib
from mcts.engines import players
from mcts.engines.engine import Analysis, Candidate, own_eyes
from mcts.engines.players import NoAnswer, Player
from mcts.engines.ruleset import RuleSet
from mcts.go import SIZES, Go, State
from mcts.go.position import Position, Turn
from mcts.search import evaluators
from mcts.search import tree as tree_lib
from mcts.search.evaluators import Evaluate
from mcts.search.policies import Puct
from mcts.search.tree import Tree

Evaluator = Callable[[Go], Evaluate]
"""A game to its evaluator, which is called inside compiled code (see `mcts.search.evaluators`)."""

MAX_VISITS = 2**15  # of a root, after which a search without a time limit stops
MAX_CHUNK = 32  # simulations between two looks at the clock
MAX_VARIATION = 64  # moves of a principal variation


class TreeStatistics(NamedTuple):
  """What the host reads of a tree of N nodes and A actions.

  visits, child: int `[N, A]`, simulations through each edge, and the node that it leads to (0 for
    none); node 0 is the root.
  value_sum, log_prior: float32 `[A]` of the root; -inf where a move is not considered.
  root_value: float32 `[]` for the player to move.
  """

  visits: Array | np.ndarray
  value_sum: Array | np.ndarray
  log_prior: Array | np.ndarray
  child: Array | np.ndarray
  root_value: Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class CompiledSearch:
  """The parts of a search of one game, compiled for a batch of 1.

  start: (states, legal mask `[1, A]`, keys) -> tree.
  advance: (tree, actions `[1]`, states after them, keys) -> tree.
  extend: (tree, keys) -> tree with one chunk of simulations more; its argument is donated.
  read: tree -> `TreeStatistics`.
  """

  start: Callable[..., Tree]
  advance: Callable[..., Tree]
  extend: Callable[..., Tree]
  read: Callable[[Tree], TreeStatistics]


@dataclasses.dataclass(frozen=True)
class SavedTree:
  """The tree of an earlier move, and what must hold of a position for it to be of use.

  start: int8 `[N, N]`, the stones set up; the array itself, as `Position.setup` has it.
  komi: of the game.
  turns: those that led to the root.
  player: who moves at the root.
  """

  start: np.ndarray
  komi: float
  turns: tuple[Turn, ...]
  player: int
  tree: Tree

  def turns_since(self, position: Position, player: int) -> list[Turn] | None:
    """Returns the turns from the root to a position, None where no alternating turns lead there."""
    known = len(self.turns)
    new = position.turns[known:]
    movers = [turn.player for turn in new] + [player]
    alternating = movers == [(self.player + i) % 2 for i in range(len(movers))]
    same = position.setup is self.start and position.komi == self.komi
    follows = tuple(position.turns[:known]) == self.turns
    # After two passes in a row a tree ends, whereas here play may go on.
    return new if same and follows and alternating and position.passes < 2 else None


@dataclasses.dataclass
class SearchEngine:
  """An engine that searches by PUCT with an evaluator; see `engine.Engine` for the methods.

  evaluator: priors and values, for the game of a position.
  name: what results call it.
  num_simulations: for each move that has no time limit.
  num_parallel_leaves: leaves that are evaluated together when one game is played; reduced to a
    divisor of `num_simulations`.
  max_nodes: of the tree, by default room for two moves' simulations. A full tree does not grow:
    further leaves are evaluated and backed up, but not kept.
  temperature: 0 plays the most visited move, above it moves are drawn in proportion to
    visits^(1 / temperature).
  seed: of the draws and of the evaluator's keys.
  selection: how edges are selected.
  cleanup_margin: with `cleanup`, how much less in value than the best move another one may have
    and still be played instead of a pass.
  sizes: of the boards that the evaluator knows.
  trained: the rules of the games that its network has learnt from, None if these are not known.
  """

  evaluator: Evaluator
  name: str = 'search'
  num_simulations: int = 200
  num_parallel_leaves: int = 4
  max_nodes: int | None = None
  temperature: float = 0.0
  seed: int = 0
  selection: Puct = Puct()  # noqa: RUF009 it is frozen
  cleanup_margin: float = 0.1
  sizes: Collection[int] = SIZES
  trained: RuleSet | None = None

  def __post_init__(self):
    if not 1 <= self.num_simulations <= MAX_VISITS:
      raise ValueError(f'num_simulations {self.num_simulations}: must be from 1 to {MAX_VISITS}')
    for name in ('num_parallel_leaves', 'max_nodes'):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(f'{name} {value}: must be at least 1')
    for name in ('temperature', 'cleanup_margin'):
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(f'{name} {getattr(self, name)}: must be a finite number of at least 0')
    leaves = self.num_parallel_leaves = math.gcd(self.num_parallel_leaves, self.num_simulations)
    # The clock is looked at between chunks, which divide the simulations and are whole in leaves.
    fits = [n for n in range(leaves, MAX_CHUNK + 1, leaves) if self.num_simulations % n == 0]
    self.chunk = max(fits, default=leaves)
    self.capacity = self.max_nodes or max(2 * self.num_simulations, 1024) + 1
    self._saved: SavedTree | None = None
    self._num_keys = 0

  # ---- one game ----

  def analyze(
    self,
    position: Position,
    player: int,
    seconds: float | None = None,
    *,
    cleanup: bool = False,
    allowed: np.ndarray | None = None,
  ) -> Iterator[Analysis]:
    """Yields an analysis after each chunk of simulations; see `Engine.analyze`."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    num_chunks = self.num_simulations // self.chunk if seconds is None else None
    trees = search_lib.timed(
      self._tree(position, player, allowed), self._extend(position), deadline
    )
    for tree in itertools.islice(trees, num_chunks):
      analysis = self._read(position, player, tree, cleanup)
      if allowed is None:
        turns = tuple(position.turns)
        self._saved = SavedTree(position.setup, position.komi, turns, player, tree)
      yield analysis
      if analysis.visits >= MAX_VISITS:
        return

  def _extend(self, position):
    extend = self._compiled(position.game).extend

    def chunk(tree):
      self._saved = None  # the tree's arrays are donated
      return extend(tree, self._new_keys())

    return chunk

  def _tree(self, position, player, allowed):
    """Returns what the saved tree knows of the position, or else a new tree."""
    saved, self._saved = self._saved, None
    legal = position.legal(player)
    if saved is not None and allowed is None and not position.only_passes:
      new = saved.turns_since(position, player)
      if new is not None:
        return self._advanced(saved, new, position)
    some = allowed is not None and (legal & allowed).any()
    mask = legal & allowed if some else legal
    start = self._compiled(position.game).start
    return start(_batch(position.state_for(player)), mask[None], self._new_keys())

  def _advanced(self, saved, new, position):
    advance, tree = self._compiled(position.game).advance, saved.tree
    for number, turn in enumerate(new, len(saved.turns) + 1):
      state = _batch(position.state_after(number))
      tree = advance(tree, np.array([turn.action], np.int32), state, self._new_keys())
    return tree

  def _new_keys(self):
    """Returns typed keys `[1]` that were not drawn before."""
    self._num_keys += 1
    return jax.random.fold_in(jax.random.key(self.seed), self._num_keys)[None]

  def _compiled(self, game: Go) -> CompiledSearch:
    return _compile_search(
      game, self.evaluator, self.selection, self.chunk, self.num_parallel_leaves, self.capacity
    )

  def compile(self, position: Position) -> None:
    """Compiles all parts of the search, by one chunk of it and a step to a child."""
    player, parts = position.to_play, self._compiled(position.game)
    tree = parts.extend(self._tree(position, player, None), self._new_keys())
    jax.block_until_ready(parts.read(tree))
    action = np.array([position.pass_action], np.int32)
    state = _batch(position.state_for(player))
    jax.block_until_ready(parts.advance(tree, action, state, self._new_keys()))
    own_eyes(position, player)

  # ---- what the tree says ----

  def _read(self, position, player, tree, cleanup):
    """Returns the analysis that a tree holds."""
    statistics = jax.device_get(self._compiled(position.game).read(tree))
    # Whatever an evaluation in the tree was, it has been backed up to the root (`evaluators`).
    if not math.isfinite(statistics.root_value):
      raise NoAnswer(self.name, f'move {len(position.turns) + 1}')
    visits, log_prior = statistics.visits[0], statistics.log_prior
    considered = np.flatnonzero(np.isfinite(log_prior))
    order = sorted(considered, key=lambda a: (-int(visits[a]), -log_prior[a], a))
    candidates = tuple(_candidate(statistics, int(a)) for a in order if visits[a] > 0)
    move = self._pick(candidates, int(order[0]))
    if cleanup and move == position.pass_action:
      move = self._instead_of_pass(position, player, candidates)
    return Analysis(move, float(statistics.root_value), int(visits.sum(dtype=int)), candidates)

  def _pick(self, candidates, unsearched):
    if not candidates:
      return unsearched
    if self.temperature == 0:
      return candidates[0].action
    rng = np.random.default_rng((self.seed, self._num_keys))
    # Relative to the most visited, whose logarithm is 0: no temperature overflows it.
    visits = np.array([c.visits for c in candidates], float)
    with np.errstate(over='ignore'):  # to -inf, for a temperature near 0
      weights = np.exp(np.log(visits / visits.max()) / self.temperature)
    return int(rng.choice([c.action for c in candidates], p=weights / weights.sum()))

  def _instead_of_pass(self, position, player, candidates):
    """Returns the most visited point that is about as good as the best, else a pass."""
    eyes = own_eyes(position, player)
    enough = max(c.value for c in candidates) - self.cleanup_margin
    for candidate in candidates:
      action = candidate.action
      if action != position.pass_action and not eyes[action] and candidate.value >= enough:
        return action
    return position.pass_action

  # ---- games in a batch ----

  def player(self, game: Go) -> Player:
    """Returns a compiled player that searches each position from a new tree."""
    return _compile_player(
      game, self.evaluator, self.selection, self.num_simulations, self.temperature
    )


@functools.lru_cache(maxsize=32)  # engines that are alike share their programs
def _compile_search(game, evaluator, selection, chunk, num_parallel_leaves, capacity):
  evaluate = evaluator(game)
  root_of = evaluators.make_root(game, evaluate)
  expand = evaluators.make_expand(game, evaluate)
  options = {
    'num_simulations': chunk,
    'num_parallel_leaves': num_parallel_leaves,
    'selection': selection,
  }

  def start(states, mask, keys):
    root = root_of(states, keys)
    root = dataclasses.replace(root, logits=jnp.where(mask, root.logits, -math.inf))
    return selection.prepare(tree_lib.init(root, capacity=capacity), keys)

  def advance(tree, actions, states, keys):
    return search_lib.advance(tree, actions, root_of(states, keys), keys, selection=selection)

  def extend(tree, keys):
    return search_lib.extend(tree, expand, keys, **options)

  return CompiledSearch(
    jax.jit(start), jax.jit(advance), jax.jit(extend, donate_argnums=0), jax.jit(_statistics)
  )


def _statistics(tree: Tree) -> TreeStatistics:
  """Returns the statistics of the first tree of a batch."""
  return TreeStatistics(
    visits=tree.visits[0],
    value_sum=tree.value_sum[0, 0],
    log_prior=tree.log_prior[0, 0],
    child=tree.child[0],
    root_value=tree.value[0],
  )


@functools.lru_cache(maxsize=32)
def _compile_player(game, evaluator, selection, num_simulations, temperature) -> Player:
  decide = players.make_search(game, evaluator(game), selection, num_simulations, temperature)

  def choose(states: State, keys: Array) -> Array:
    return decide(states, keys, keys).action

  return jax.jit(choose)


def _batch(state: State) -> State:
  return jax.tree.map(lambda x: x[None], state)


def _candidate(statistics: TreeStatistics, action: int) -> Candidate:
  visits = statistics.visits[0, action]
  return Candidate(
    action=action,
    visits=int(visits),
    value=float(statistics.value_sum[action] / np.maximum(visits, 1)),
    prior=float(np.exp(statistics.log_prior[action])),
    principal_variation=_variation(statistics, action),
  )


def _variation(statistics: TreeStatistics, action: int) -> tuple[int, ...]:
  """Returns the most visited continuation, of which `action` is the first."""
  visits, child = statistics.visits, statistics.child
  line, node = [action], int(child[0, action])
  while node and visits[node].any() and len(line) < MAX_VARIATION:
    action = int(visits[node].argmax())
    line.append(action)
    node = int(child[node, action])
  return tuple(line)
