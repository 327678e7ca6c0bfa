"""The engine that searches: one game with a tree kept from move to move, or a batch in lockstep.

Where a position continues the one that was searched last, the search goes on with the part of its
tree that still holds; several leaves are evaluated at once, as one game makes small batches.
"""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mcts import search as search_lib
from mcts.engines.players import Act, Candidate, Report, eyes_of
from mcts.go import SIZES, Go, State
from mcts.go.position import Position, Turn
from mcts.search import evaluators
from mcts.search import tree as tree_lib
from mcts.search.evaluators import Evaluate
from mcts.search.policies import Puct

Evaluator = Callable[[Go], Evaluate]
"""A game to its evaluator, which is called inside compiled code (see `mcts.search.evaluators`)."""

MOST_VISITS = 2**15  # of a root, after which an endless search rests


@dataclasses.dataclass(frozen=True)
class Programs:
  """Compiled for one game, batch 1."""

  start: Callable[..., Any]  # (state, mask, keys) -> tree
  advance: Callable[..., Any]  # (tree, action, state, keys) -> tree
  extend: Callable[..., Any]  # (tree, keys) -> tree, by one chunk
  facts: Callable[..., Any]  # tree -> what the host reads of it


@dataclasses.dataclass(frozen=True)
class Memory:
  """The tree of an earlier move, and what must hold of a position for it to be of use.

  start: the stones set up, the array itself; turns: those that led to the root; player: who moves
    there.
  """

  start: np.ndarray
  komi: float
  turns: tuple[Turn, ...]
  player: int
  tree: Any

  def turns_since(self, position: Position, player: int) -> list[Turn] | None:
    """The turns from the root to the position; None if it does not follow by alternating turns."""
    known = len(self.turns)
    new = position.turns[known:]
    players = [turn.player for turn in new] + [player]
    alternating = players == [(self.player + i) % 2 for i in range(len(players))]
    same = position.setup is self.start and position.komi == self.komi
    follows = tuple(position.turns[:known]) == self.turns
    # After two passes in a row a tree ends, whereas here play may go on.
    return new if same and follows and alternating and position.passes < 2 else None


@dataclasses.dataclass
class Search:
  """PUCT with an evaluator.

  simulations: a move. leaves: so many are evaluated together when one game is played; both are
    fitted to each other. nodes: room in the tree, by default for two moves' simulations; what finds
    none counts but grows no tree.
  temperature: 0 plays the most visited move, 1 in proportion to the visits.
  slack: with `tidy`, how much worse than the best a move may be, in value, and still beat a pass.
  sizes: of the boards that the evaluator knows.
  """

  evaluator: Evaluator
  name: str = 'search'
  simulations: int = 200
  leaves: int = 4
  nodes: int | None = None
  temperature: float = 0.0
  seed: int = 0
  rule: Puct = Puct()  # noqa: RUF009 it is frozen
  slack: float = 0.1
  sizes: Collection[int] = SIZES

  def __post_init__(self):
    if self.simulations < 1:
      raise ValueError(f'simulations {self.simulations}: must be at least 1')
    self.leaves = math.gcd(self.leaves, self.simulations)
    fits = [n for n in range(self.leaves, 33, self.leaves) if self.simulations % n == 0]
    self.chunk = max(fits, default=self.leaves)
    self.capacity = self.nodes or max(2 * self.simulations, 1024) + 1
    self._memory: Memory | None = None
    self._keys_drawn = 0

  # ---- one game ----

  def consider(self, position, player, seconds=None, *, tidy=False, allowed=None):
    deadline = math.inf if seconds is None else time.monotonic() + seconds

    def extend(tree):
      self._memory = None  # the tree's arrays are handed on
      return self._programs(position.game).extend(tree, self._keys())

    trees = search_lib.timed(self._tree(position, player, allowed), extend, deadline)
    chunks = self.simulations // self.chunk if seconds is None else None
    for tree in itertools.islice(trees, chunks):
      report = self._report(position, player, tree, tidy)
      if allowed is None:
        turns = tuple(position.turns)
        self._memory = Memory(position.setup, position.komi, turns, player, tree)
      yield report
      if report.visits >= MOST_VISITS:
        return

  def _tree(self, position, player, allowed):
    """The tree that holds what is known of the position, or a new one."""
    memory, self._memory = self._memory, None
    new = memory.turns_since(position, player) if memory and allowed is None else None
    programs, mask = self._programs(position.game), position.legal(player)
    if new is None or not mask.any():
      mask = mask if allowed is None or not (mask & allowed).any() else mask & allowed
      return programs.start(_batch(position.state_for(player)), mask[None], self._keys())
    tree = memory.tree
    for number, turn in enumerate(new, len(memory.turns) + 1):
      state = _batch(position.state_after(number))
      tree = programs.advance(tree, np.array([turn.action], np.int32), state, self._keys())
    return tree

  def _keys(self):
    """Keys `[1]` that were not drawn before."""
    self._keys_drawn += 1
    return jax.random.fold_in(jax.random.key(self.seed), self._keys_drawn)[None]

  def _programs(self, game: Go) -> Programs:
    return _compile(game, self.evaluator, self.rule, self.chunk, self.leaves, self.capacity)

  def warm(self, position):
    programs, player = self._programs(position.game), position.to_play
    for _ in self.consider(position, player, 0.0):
      pass
    action = np.array([position.pass_action], np.int32)
    state = _batch(position.state_for(player))
    jax.block_until_ready(programs.advance(self._memory.tree, action, state, self._keys()))
    eyes_of(position, player)
    self._memory = None

  # ---- what the tree says ----

  def _report(self, position, player, tree, tidy):
    facts = jax.device_get(self._programs(position.game).facts(tree))
    visits, total, prior, child, value = facts
    means = total / np.maximum(visits[0], 1)
    order = sorted(
      np.flatnonzero(np.isfinite(prior)), key=lambda a: (-int(visits[0, a]), -prior[a], a)
    )
    candidates = tuple(
      Candidate(
        action=int(a),
        visits=int(visits[0, a]),
        value=float(means[a]),
        prior=float(np.exp(prior[a])),
        line=_line(visits, child, int(a)),
      )
      for a in order
      if visits[0, a] > 0
    )
    move = self._pick(candidates, int(order[0]))
    if tidy and move == position.pass_action:
      move = self._instead_of_pass(position, player, candidates, move)
    return Report(move, float(value), int(visits[0].sum(dtype=int)), candidates)

  def _pick(self, candidates, otherwise):
    if not candidates:
      return otherwise
    if self.temperature == 0:
      return candidates[0].action
    rng = np.random.default_rng((self.seed, self._keys_drawn))
    weights = np.array([c.visits for c in candidates], float) ** (1 / self.temperature)
    return int(rng.choice([c.action for c in candidates], p=weights / weights.sum()))

  def _instead_of_pass(self, position, player, candidates, move):
    eyes = eyes_of(position, player)
    best = max(c.value for c in candidates)
    others = [c for c in candidates if c.action != move and not eyes[c.action]]
    others = [c for c in others if c.value >= best - self.slack]
    return others[0].action if others else move

  # ---- many games ----

  def act(self, game):
    return _compile_act(game, self.evaluator, self.rule, self.simulations, self.temperature)


@functools.lru_cache(maxsize=32)  # engines that are alike share their programs
def _compile(game, evaluator, rule, chunk, leaves, capacity) -> Programs:
  assess = evaluator(game)
  root_of, expand = evaluators.make_root(game, assess), evaluators.make_expand(game, assess)
  options = {'num_simulations': chunk, 'num_parallel_leaves': leaves, 'selection': rule}

  def start(state, mask, keys):
    root = root_of(state, keys)
    root = dataclasses.replace(root, logits=jnp.where(mask, root.logits, -math.inf))
    return rule.prepare(tree_lib.init(root, capacity=capacity), keys)

  def advance(tree, action, state, keys):
    return search_lib.advance(tree, action, root_of(state, keys), keys, selection=rule)

  def extend(tree, keys):
    return search_lib.extend(tree, expand, keys, **options)

  def facts(tree):
    return tree.visits[0], tree.value_sum[0, 0], tree.log_prior[0, 0], tree.child[0], tree.value[0]

  overwriting = jax.jit(extend, donate_argnums=0)
  return Programs(jax.jit(start), jax.jit(advance), overwriting, jax.jit(facts))


@functools.lru_cache(maxsize=32)
def _compile_act(game, evaluator, rule, simulations, temperature) -> Act:
  assess = evaluator(game)
  root_of, expand = evaluators.make_root(game, assess), evaluators.make_expand(game, assess)
  options = {'num_simulations': simulations, 'temperature': temperature, 'selection': rule}

  def act(states, key):
    keys = search_lib.game_keys(key, states.komi)
    return search_lib.puct(root_of(states, keys), expand, keys, **options)[0].action

  return jax.jit(act)


def _batch(state: State) -> State:
  return jax.tree.map(lambda x: x[None], state)


def _line(visits, child, action):
  """The most visited continuation, `action` first; arrays `[N, A]` of a tree."""
  line, node = [action], int(child[0, action])
  while node and visits[node].any() and len(line) < 64:
    action = int(visits[node].argmax())
    line.append(action)
    node = int(child[node, action])
  return tuple(line)
