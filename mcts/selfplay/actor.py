"""A batch of games that a network plays against itself, move by move; a game that ends begins anew.

`play` makes one move in every game: it searches, chooses, and says what there is to be learned of
the position. Everything random of a game comes of its slot's key and of how many moves the slot has
made, so that games do not depend on how many devices share them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts import search as search_lib
from mcts.game import Game, beginnings, sign
from mcts.search import evaluators
from mcts.search import tree as tree_lib
from mcts.search.policies import Decision, Gumbel, Puct, Rule
from mcts.search.simulate import fold
from mcts.search.tree import Root, Tree, dataclass
from mcts.selfplay import metrics, resignation
from mcts.selfplay.metrics import Stats
from mcts.selfplay.replay import Entry
from mcts.selfplay.resignation import Resignation

Apply = Callable[[Array], tuple[Array, Array]]
"""Planes `[B, H, W, C]` to logits `[B, A]` and values `[B]`."""


@dataclasses.dataclass(frozen=True)
class SelfPlay:
  """How the games are played.

  simulations, rule: of a search. Dirichlet noise is the rule's (Silver et al. 2017, Methods).
  temperature_moves, temperature: so many first moves of a game are drawn from the search's policy
    to the power 1 / temperature (there: 30 and 1); later ones are the most visited, or Gumbel's.
  random_moves: a game begins with 0 to so many uniformly random moves, which are not learned, for
    positions that good play does not come to (of the kind of Wu 2019, appendix D).
  wander: the chance that a move is random wherever in the game, after a search that is learned; who
    wins says nothing then, and values are the search's.
  resign: see there.
  full: the share of moves searched in full. Others have `fast` simulations and no noise, and their
    policy is not learned (playout cap randomisation: Wu 2019, section 3.1).
  reuse: a move's search goes on with what the last one found below it (Silver et al. 2017).
  symmetries: whether leaves are seen turned or mirrored at random (`evaluators.turned`).
  rivals: of each so many slots the first plays against a rival's network, with a colour that is
    drawn anew for each game (past selves: OpenAI 2019, Dota 2 with large scale deep reinforcement
    learning); the rival's policies are not learned. 0: all play against themselves.
  ends: whether entries say who owns what at the end, and the score (a game of Go alone).
  """

  simulations: int
  rule: Rule
  temperature_moves: int = 0
  temperature: float = 1.0
  random_moves: int = 0
  wander: float = 0.0
  resign: Resignation = Resignation()  # noqa: RUF009 it is frozen
  full: float = 1.0
  fast: int = 0
  reuse: bool = False
  symmetries: bool = False
  rivals: int = 0
  ends: bool = False

  def __post_init__(self):
    if self.simulations < 1:
      raise ValueError(f'simulations {self.simulations}: must be at least 1')
    if self.random_moves < 0:
      raise ValueError(f'random_moves {self.random_moves}: must be at least 0')
    if not 0 <= self.wander <= 1:
      raise ValueError(f'wander {self.wander}: a chance, from 0 to 1')
    if not 0 < self.full <= 1:
      raise ValueError(f'full {self.full}: a share of moves, above 0 and at most 1')
    if self.full < 1 and not 1 <= self.fast <= self.simulations:
      raise ValueError(f'fast {self.fast}: must be from 1 to simulations, {self.simulations}')
    if self.reuse and isinstance(self.rule, Gumbel):
      raise ValueError('reuse: of PUCT; the rounds of Gumbel begin from a tree without visits')
    if self.rivals < 0:
      raise ValueError(f'rivals {self.rivals}: must be at least 0')
    if self.rivals and self.reuse:
      raise ValueError('rivals: two networks share no tree, so there is no reuse')

  @property
  def capacity(self) -> int:
    return self.simulations * (2 if self.reuse else 1) + 1


@dataclass
class Actors:
  """B games under way.

  state: pytree `[B, ...]`; key: typed keys `[B]`, one a slot for good.
  plies: int32 `[B]` moves that the slot has ever made; length: int32 `[B]` those of this game.
  lowest: float32 `[B, 2]` the lowest value that each player has had in this game.
  plays_out: bool `[B]` whether nobody may give this game up.
  tree, action: with `reuse` the last search and what was played after it, else ().
  """

  state: Any
  key: Array
  plies: Array
  length: Array
  lowest: Array
  plays_out: Array
  tree: Tree | tuple
  action: Array


def start(game: Game, settings: SelfPlay, keys: Array) -> Actors:
  """Games before their first moves; keys: typed, `[B]`, one a slot."""
  batch = keys.shape[0]
  state = beginnings(game, batch)
  return Actors(
    state=state,
    key=keys,
    plies=jnp.zeros(batch, jnp.int32),
    length=jnp.zeros(batch, jnp.int32),
    lowest=jnp.ones((batch, 2)),
    plays_out=_plays_out(settings, fold(keys, 0)),
    tree=_no_tree(game, settings, state) if settings.reuse else (),
    action=jnp.zeros(batch, jnp.int32),
  )


def _plays_out(settings: SelfPlay, keys: Array) -> Array:
  share = settings.resign.played_out
  draw = jax.vmap(lambda key: jax.random.bernoulli(key, share))
  return draw(keys) if share else jnp.ones(keys.shape, bool)


def _no_tree(game: Game, settings: SelfPlay, state: Any) -> Tree:
  logits = jnp.zeros((len(jax.tree.leaves(state)[0]), game.num_actions))
  zeros = logits[:, 0]
  root = Root(state, jax.vmap(game.pack)(state), logits, zeros, zeros > 0)
  return tree_lib.start(root, capacity=settings.capacity)


# -------- one move of every game --------


def play(
  game: Game,
  settings: SelfPlay,
  apply: Apply,
  actors: Actors,
  key: Array,
  threshold: Array,
  rival: Apply | None = None,
) -> tuple[Actors, Entry, tuple[Stats, tuple[Array, Array]]]:
  """The games one move on, what is to be kept of the positions, and figures of the play.

  key: one for all devices. threshold: below which a player gives up. rival: with
  `settings.rivals`. The figures come with what `resignation.update` wants to know of games played
  out.
  """
  keys = jax.vmap(jax.random.fold_in)(actors.key, 1 + actors.plies)
  full = jax.random.uniform(jax.random.fold_in(key, actors.plies[0])) < settings.full
  ours = _ours(game, settings, actors)
  if rival is not None:
    apply = _of_two(apply, rival, ours, settings.rivals)
  move = _choose(game, settings, apply, actors, keys, full)
  stepped = jax.vmap(game.step)(actors.state, move.action)
  player = jax.vmap(game.to_play)(actors.state)
  lowest = actors.lowest.at[jnp.arange(len(player)), player].min(move.hopes)
  resigned = (move.hopes < threshold) & ~actors.plays_out & ~move.astray
  entry = _entry(game, settings, move, player, stepped, resigned, full & ours)
  simulations = jnp.where(full, settings.simulations, settings.fast)
  stats = metrics.of_move(entry, actors.length, simulations)
  if settings.resign.played_out:
    hopeless, plays_out = lowest < threshold, actors.plays_out
    stats |= metrics.of_resignation(entry, resigned, hopeless, plays_out)
  if rival is not None:
    stats |= metrics.of_rivals(entry, _played_by_rivals(settings, actors), ours)
  histograms = resignation.tally(lowest, entry.outcome, entry.over & actors.plays_out)
  actors = _go_on(game, settings, actors, stepped, entry.over, lowest, keys, move)
  return actors, entry, (stats, histograms)


class Move(NamedTuple):
  """What is played in each of B games, and why.

  action: int32 `[B]`. planes, legal: `[B, H, W, C]`, `[B, A]` of the positions. decision, tree: of
  the search. astray: bool `[B]` whether the move is random and not to be learned. hopes: float32
  `[B]` the most that the position or a move that was tried is worth, for the player to move.
  """

  action: Array
  planes: Array
  legal: Array
  decision: Decision
  tree: Tree
  astray: Array
  hopes: Array


def _choose(game, settings, apply, actors, keys, full) -> Move:
  root, planes, legal = look(game, apply, actors.state)
  decision, tree = _think(game, settings, apply, actors, root, keys, full)
  astray = _astray(settings, actors)
  random = jax.vmap(evaluators.draw)(legal, fold(keys, 4))
  action = jnp.where(astray | _wandering(settings, keys), random, decision.action)
  hopes = jnp.maximum(decision.value, _best_value(tree))
  return Move(action, planes, legal, decision, tree, astray, hopes)


def _entry(game, settings, move, player, stepped, resigned, learned) -> Entry:
  done = jax.vmap(game.done)(stepped)
  return Entry(
    planes=move.planes,
    legal=move.legal,
    policy=move.decision.policy,
    value=move.decision.value,
    player=player,
    good=learned & ~move.astray,
    outcome=jnp.where(resigned, -sign(player), first_outcome(game, stepped)),
    over=done | resigned,
    known=done & ~resigned,
    extras=end_of(game, stepped) if settings.ends else {},
  )


def _ours(game: Game, settings: SelfPlay, actors: Actors) -> Array:
  """bool `[B]`: whether it is not a rival's turn."""
  if not settings.rivals:
    return jnp.ones(actors.length.shape, bool)
  theirs = jax.vmap(jax.random.bernoulli)(fold(_game_keys(actors), 3)).astype(jnp.int32)
  return ~_played_by_rivals(settings, actors) | (jax.vmap(game.to_play)(actors.state) != theirs)


def _astray(settings: SelfPlay, actors: Actors) -> Array:
  """bool `[B]`: whether the move is one of the random ones at a game's beginning."""
  if not settings.random_moves:
    return jnp.zeros(actors.length.shape, bool)
  moves = lambda key: jax.random.randint(key, (), 0, settings.random_moves + 1)  # noqa: E731
  return actors.length < jax.vmap(moves)(fold(_game_keys(actors), 5))


def _wandering(settings: SelfPlay, keys: Array) -> Array:
  """bool `[B]`: whether a move is random after its search."""
  draw = jax.vmap(lambda key: jax.random.bernoulli(key, settings.wander))
  return draw(fold(keys, 6)) if settings.wander else jnp.zeros(keys.shape, bool)


def _game_keys(actors: Actors) -> Array:
  """Typed keys `[B]`, the same through all of a game."""
  return jax.vmap(jax.random.fold_in)(actors.key, 1 + actors.plies - actors.length)


def _played_by_rivals(settings: SelfPlay, actors: Actors) -> Array:
  return jnp.arange(len(actors.length)) % settings.rivals == 0


def _of_two(apply: Apply, rival: Apply, ours: Array, rivals: int) -> Apply:
  """`apply`, but where it is the rival's turn; only the slots that have one are asked of both."""

  def ask(planes: Array) -> tuple[Array, Array]:
    answers, others = apply(planes), rival(planes[::rivals])
    chosen = [
      jnp.where(_wide(ours[::rivals], x), a[::rivals], x)
      for a, x in zip(answers, others, strict=True)
    ]
    return answers[0].at[::rivals].set(chosen[0]), answers[1].at[::rivals].set(chosen[1])

  return ask


def look(game: Game, apply: Apply, states: Any) -> tuple[Root, Array, Array]:
  """Roots of games that are not over; their planes, and bool `[B, A]` their legal moves."""
  planes, legal = jax.vmap(game.observe)(states), jax.vmap(game.legal)(states)
  logits, values = apply(planes)
  root = Root(
    state=states,
    node=jax.vmap(game.pack)(states),
    logits=jnp.where(legal, logits.astype(jnp.float32), -jnp.inf),
    value=values.astype(jnp.float32),
    done=jnp.zeros_like(legal[:, 0]),
  )
  return root, planes, legal


def _think(game, settings, apply, actors, root, keys, full):
  """(Decision, Tree): in full, or a fast search without noise, for all games alike."""
  look = evaluators.turned if settings.symmetries else evaluators.network
  expand = evaluators.make_expand(game, look(game, apply))
  early = actors.length < settings.temperature_moves
  temperature = jnp.where(early, settings.temperature, 0.0)

  def search(simulations, rule):
    if settings.reuse:
      tree = search_lib.advance(actors.tree, actors.action, root, keys, rule=rule)
    else:
      tree = tree_lib.start(root, capacity=settings.capacity)
      tree = rule.prepare(tree, fold(keys, 0))
    tree = search_lib.extend(tree, expand, keys, num_simulations=simulations, rule=rule)
    return rule.decide(tree, fold(keys, 2), temperature), tree

  if settings.full == 1:
    return search(settings.simulations, settings.rule)
  return lax.cond(
    full,
    lambda: search(settings.simulations, settings.rule),
    lambda: search(settings.fast, quiet(settings.rule)),
  )


def quiet(rule: Rule) -> Rule:
  """The rule without noise at the root, nor forced visits."""
  if isinstance(rule, Puct):
    return dataclasses.replace(rule, fraction=0.0, forced=0.0)
  return dataclasses.replace(rule, scale=0.0)


def _best_value(tree: Tree) -> Array:
  """float32 `[B]`: of the visited moves the highest value, -1 if there is none."""
  return jnp.where(tree.root_visits > 0, tree.root_values, -1.0).max(1)


def _go_on(game, settings, actors, stepped, over, lowest, keys, move) -> Actors:
  """After a move; where a game is over, a new one."""
  again = beginnings(game, len(over))
  state = jax.tree.map(lambda new, old: jnp.where(_wide(over, new), new, old), again, stepped)
  tree = move.tree
  if settings.reuse:  # a new game has nothing below the last move of the one before
    forget = jnp.where(over[:, None], 0, tree.child[:, 0]).astype(tree.child.dtype)
    tree = dataclasses.replace(tree, child=tree.child.at[:, 0].set(forget))
  return Actors(
    state=state,
    key=actors.key,
    plies=actors.plies + 1,
    length=jnp.where(over, 0, actors.length + 1),
    lowest=jnp.where(over[:, None], 1.0, lowest),
    plays_out=jnp.where(over, _plays_out(settings, fold(keys, 1)), actors.plays_out),
    tree=tree if settings.reuse else (),
    action=move.action if settings.reuse else actors.action,
  )


def _wide(x: Array, like: Array) -> Array:
  return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))


# -------- what is known of a game --------


def first_outcome(game: Game, states: Any) -> Array:
  """float32 `[B]`: of finished games 1, -1 or 0 as the player 0 has won, lost or drawn."""
  return jax.vmap(game.value)(states) * sign(jax.vmap(game.to_play)(states))


def end_of(game: Any, states: Any) -> dict[str, Array]:
  """Of Go: who owns each point, int8 `[B, N, N]` with 1 for black, and black's score `[B]`."""
  ownership, score = jax.vmap(game.ownership)(states), jax.vmap(game.score)(states)
  return {'ownership': ownership, 'score': score}
