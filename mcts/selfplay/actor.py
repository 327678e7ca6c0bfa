"""A batch of games that a network plays against itself; a game that ends is replaced by a new one.

`play` makes one move in every game: it searches, chooses, steps, and returns a transition for the
replay. All environments move in step, so there is one compiled program and no idle lane.

Randomness: an environment has one key for good, and each move folds in how many moves the
environment has made, so that games do not depend on how many devices share them, nor on their
neighbours. What is drawn once a game folds in the number of the game's first move (`_game_keys`).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from mcts import search as search_lib
from mcts.game import Game, first_player_value, initial_states, sign
from mcts.search import evaluators
from mcts.search import tree as tree_lib
from mcts.search.evaluators import Apply
from mcts.search.selection import PolicyOutput
from mcts.search.simulate import fold_in
from mcts.search.tree import Root, Tree, dataclass
from mcts.selfplay import metrics, resignation
from mcts.selfplay.metrics import Metrics
from mcts.selfplay.replay import Transition
from mcts.selfplay.settings import SelfPlay

# What a move's keys are folded with; a key of the environment itself takes 0 (`init`).
ROOT_NOISE, RESIGNATION, DECISION, OPENING, RANDOM_MOVE = 0, 1, 2, 4, 6
# And a game's keys.
OPPONENT_COLOUR, OPENING_LENGTH = 3, 5


@dataclass
class Actors:
  """B games under way.

  state: pytree `[B, ...]` of the game.
  key: typed keys `[B]`, one an environment for good.
  plies: int32 `[B]` the moves that the environment has ever made.
  length: int32 `[B]` the moves of the present game.
  lowest_value: float32 `[B, 2]` the lowest value that each player has had in this game.
  resign_disabled: bool `[B]`, whether this game is played to its end.
  tree: with `reuse_tree` the last search's, else ().
  action: int32 `[B]`, with `reuse_tree` the move that followed it.
  """

  state: Any
  key: Array
  plies: Array
  length: Array
  lowest_value: Array
  resign_disabled: Array
  tree: Tree | tuple
  action: Array


def init(game: Game, settings: SelfPlay, keys: Array) -> Actors:
  """Returns games before their first moves; keys: typed `[B]`, one an environment."""
  batch = keys.shape[0]
  state = initial_states(game, batch)
  return Actors(
    state=state,
    key=keys,
    plies=jnp.zeros(batch, jnp.int32),
    length=jnp.zeros(batch, jnp.int32),
    lowest_value=jnp.ones((batch, 2)),
    resign_disabled=_draw_resign_disabled(settings, fold_in(keys, 0)),
    tree=_empty_tree(game, settings, state) if settings.search.reuse_tree else (),
    action=jnp.zeros(batch, jnp.int32),
  )


def _draw_resign_disabled(settings: SelfPlay, keys: Array) -> Array:
  fraction = settings.resignation.disabled_fraction
  draw = jax.vmap(lambda key: jax.random.bernoulli(key, fraction))
  return draw(keys) if fraction else jnp.ones(keys.shape, bool)


def _empty_tree(game: Game, settings: SelfPlay, state: Any) -> Tree:
  """Returns trees without children, from which `advance` starts anew."""
  logits = jnp.zeros((len(jax.tree.leaves(state)[0]), game.num_actions))
  zeros = logits[:, 0]
  root = Root(state, jax.vmap(game.pack)(state), logits, zeros, zeros > 0)
  return tree_lib.init(root, capacity=settings.search.capacity)


# -------- one move of every game --------


def play(
  game: Game,
  settings: SelfPlay,
  apply: Apply,
  actors: Actors,
  key: Array,
  threshold: Array,
  opponent: Apply | None = None,
) -> tuple[Actors, Transition, tuple[Metrics, tuple[Array, Array]]]:
  """Plays one move in every game.

  Args:
    game: that is played.
    settings: of self-play.
    apply: the network.
    actors: B games.
    key: one key that is the same on all devices: they agree on whether a move is searched in full.
    threshold: float32 `[]`, the value below which a player resigns.
    opponent: another network, where `settings.opponent_stride` is above 0.

  Returns:
    The actors after the move, the transitions `[B, ...]`, and (metrics, histograms) where the
    histograms are what `resignation.update` needs.
  """
  keys = jax.vmap(jax.random.fold_in)(actors.key, 1 + actors.plies)  # [B], of this move
  # One decision for all games, and for all devices: all environments have made as many moves.
  chance = jax.random.uniform(jax.random.fold_in(key, actors.plies[0]))
  full = chance < settings.search.full_search_prob
  is_ours = _is_ours(game, settings, actors)
  if opponent is not None:
    apply = _of_two_networks(apply, opponent, is_ours, settings.opponent_stride)
  move = _choose(game, settings, apply, actors, keys, full)
  stepped = jax.vmap(game.step)(actors.state, move.action)
  player = jax.vmap(game.to_play)(actors.state)
  # Each player's own, since either may be the one who would have resigned wrongly.
  lowest_value = actors.lowest_value.at[jnp.arange(len(player)), player].min(move.best_value)
  # A random opening may be lost by chance; whoever stands badly there has not played badly.
  resigned = (move.best_value < threshold) & ~actors.resign_disabled & ~move.is_exploratory
  # Fast searches only move the game on (Wu 2019, section 3.1); an opponent's are no target either.
  transition = _transition(game, settings, move, player, stepped, resigned, full & is_ours)
  simulations = jnp.where(
    full, settings.search.num_simulations, settings.search.fast_num_simulations
  )
  found = metrics.move_metrics(transition, actors.length, simulations)
  if settings.resignation.disabled_fraction:
    would_resign = lowest_value < threshold
    found |= metrics.resignation_metrics(transition, resigned, would_resign, actors.resign_disabled)
  if opponent is not None:
    found |= metrics.opponent_metrics(transition, _has_opponent(settings, actors), is_ours)
  ended = transition.ended
  # Only games that are played to their end show who would have resigned without having lost.
  histograms = resignation.tally(lowest_value, transition.outcome, ended & actors.resign_disabled)
  actors = _next_actors(game, settings, actors, stepped, ended, lowest_value, keys, move)
  return actors, transition, (found, histograms)


class Move(NamedTuple):
  """What is played in each of B games, and why.

  action: int32 `[B]`.
  planes: bool `[B, H, W, C]` and legal: bool `[B, A]` of the positions.
  output, tree: of the search.
  is_exploratory: bool `[B]`, whether it is a random opening move, which is not learned from.
  best_value: float32 `[B]`, max of the root value and the Q values of visited actions, for the
    player to move.
  """

  action: Array
  planes: Array
  legal: Array
  output: PolicyOutput
  tree: Tree
  is_exploratory: Array
  best_value: Array


def _choose(game, settings, apply, actors, keys, full) -> Move:
  root, planes, legal = evaluate_root(game, apply, actors.state)
  output, tree = _search(game, settings, apply, actors, root, keys, full)
  is_exploratory = _is_random_opening(settings, actors)
  # Drawn in every game: under `vmap` a branch would draw as often.
  random = jax.vmap(evaluators.random_action)(legal, fold_in(keys, OPENING))
  # Where the network's answer is not finite (action -1) some legal move keeps the game well formed;
  # the NaN of `output.value` ends the training.
  use_random = is_exploratory | _is_random_move(settings, keys) | (output.action < 0)
  action = jnp.where(use_random, random, output.action)
  # A player resigns if both the root's value and its best child's are low (Silver et al. 2017,
  # Methods, 'Self-play'). An unvisited child's 0 must not pass for a draw.
  q = jnp.where(tree.root_visits > 0, tree.root_values, -1.0)
  best_value = jnp.maximum(output.value, q.max(1))
  return Move(action, planes, legal, output, tree, is_exploratory, best_value)


def evaluate_root(game: Game, apply: Apply, states: Any) -> tuple[Root, Array, Array]:
  """Returns the roots of unfinished games `[B, ...]`, their planes and their legal moves.

  `evaluators.make_root` without what finished games need, and with planes and mask for the replay.
  """
  planes, legal = jax.vmap(game.observe)(states), jax.vmap(game.legal)(states)
  logits, values = apply(planes)
  logits, values = evaluators.masked(logits, values, legal)
  root = Root(
    state=states,
    node=jax.vmap(game.pack)(states),
    logits=logits,
    value=values,
    done=jnp.zeros_like(legal[:, 0]),  # games that ended have been replaced
  )
  return root, planes, legal


def _search(game, settings, apply, actors, root, keys, full):
  """Returns (PolicyOutput, Tree) of a full search or of a fast one, the same for all games."""
  evaluator = evaluators.network
  if settings.search.random_symmetry:
    evaluator = evaluators.random_symmetry
  expand = evaluators.make_expand(game, evaluator(game, apply))
  early = actors.length < settings.exploration.temperature_moves  # [B]: each game's own move
  # Towards 0 after a game's first moves, 30 in AlphaGo Zero: then the best move is played.
  temperature = jnp.where(early, settings.exploration.temperature, 0.0)

  def search(num_simulations, selection):
    if settings.search.reuse_tree:
      tree = search_lib.advance(actors.tree, actors.action, root, keys, selection=selection)
    else:
      tree = tree_lib.init(root, capacity=settings.search.capacity)
      tree = selection.prepare(tree, fold_in(keys, ROOT_NOISE))
    # One leaf at a time: lane b of each evaluation is then game b, as `_of_two_networks` needs it.
    tree = search_lib.extend(
      tree, expand, keys, num_simulations=num_simulations, selection=selection
    )
    return search_lib.decide(tree, fold_in(keys, DECISION), selection, temperature), tree

  if settings.search.full_search_prob == 1:
    return search(settings.search.num_simulations, settings.selection)
  # All games take the same branch: under `vmap` a conditional would compute both.
  return lax.cond(
    full,
    lambda: search(settings.search.num_simulations, settings.selection),
    # As strong as it can be (Wu 2019, section 3.1): nothing is learned from it.
    lambda: search(settings.search.fast_num_simulations, settings.selection.without_noise()),
  )


def _transition(game, settings, move, player, stepped, resigned, learned) -> Transition:
  done = jax.vmap(game.done)(stepped)
  outcome = jax.vmap(lambda state: first_player_value(game, state))(stepped)
  return Transition(
    planes=move.planes,
    legal=move.legal,
    policy=move.output.policy,
    value=move.output.value,
    player=player,
    trainable=learned & ~move.is_exploratory,
    outcome=jnp.where(resigned, -sign(player), outcome),  # who resigns has lost
    ended=done | resigned,
    aux_known=done & ~resigned,  # the board of a resigned game does not show who owns what
    aux=jax.vmap(game.aux_targets)(stepped) if settings.aux_targets else {},
  )


def _next_actors(game, settings, actors, stepped, ended, lowest_value, keys, move) -> Actors:
  """Returns the actors after a move; where a game has ended, before the first move of a new one."""
  fresh = initial_states(game, len(ended))
  state = jax.tree.map(lambda x, y: jnp.where(_expand_dims(ended, x), x, y), fresh, stepped)
  disabled = _draw_resign_disabled(settings, fold_in(keys, RESIGNATION))
  tree, reuse = move.tree, settings.search.reuse_tree
  if reuse:  # without links below the root a new game finds nothing of the last one's search
    # Only the root's row: whatever hangs below it is then out of reach, and `advance` drops it.
    child = jnp.where(ended[:, None], 0, tree.child[:, 0]).astype(tree.child.dtype)
    tree = dataclasses.replace(tree, child=tree.child.at[:, 0].set(child))
  return Actors(
    state=state,
    key=actors.key,
    plies=actors.plies + 1,
    length=jnp.where(ended, 0, actors.length + 1),
    lowest_value=jnp.where(ended[:, None], 1.0, lowest_value),  # the highest there is
    resign_disabled=jnp.where(ended, disabled, actors.resign_disabled),
    tree=tree if reuse else (),
    action=move.action if reuse else actors.action,
  )


# -------- exploration --------


def _is_random_opening(settings: SelfPlay, actors: Actors) -> Array:
  """Returns bool `[B]`: whether the move is one of the random ones at a game's beginning."""
  most = settings.exploration.max_random_opening_moves
  if not most:
    return jnp.zeros(actors.length.shape, bool)
  moves = jax.vmap(lambda key: jax.random.randint(key, (), 0, most + 1))
  # A number in 0 ... most for the whole game: the key is the game's, not the move's.
  return actors.length < moves(fold_in(_game_keys(actors), OPENING_LENGTH))


def _is_random_move(settings: SelfPlay, keys: Array) -> Array:
  """Returns bool `[B]`: whether the move is uniformly random, its search learned all the same."""
  prob = settings.exploration.random_move_prob
  draw = jax.vmap(lambda key: jax.random.bernoulli(key, prob))
  return draw(fold_in(keys, RANDOM_MOVE)) if prob else jnp.zeros(keys.shape, bool)


def _game_keys(actors: Actors) -> Array:
  """Returns typed keys `[B]` that stay the same through a game."""
  # Both grow by one a move, so their difference is the number of the game's first move.
  return jax.vmap(jax.random.fold_in)(actors.key, 1 + actors.plies - actors.length)


# -------- opponents --------


def _is_ours(game: Game, settings: SelfPlay, actors: Actors) -> Array:
  """Returns bool `[B]`: whether the newest network, and not an opponent, is to move."""
  if not settings.opponent_stride:
    return jnp.ones(actors.length.shape, bool)
  # The opponent keeps its colour through a game.
  keys = fold_in(_game_keys(actors), OPPONENT_COLOUR)
  theirs = jax.vmap(jax.random.bernoulli)(keys).astype(jnp.int32)
  return ~_has_opponent(settings, actors) | (jax.vmap(game.to_play)(actors.state) != theirs)


def _has_opponent(settings: SelfPlay, actors: Actors) -> Array:
  return jnp.arange(len(actors.length)) % settings.opponent_stride == 0


def _of_two_networks(apply: Apply, opponent: Apply, is_ours: Array, stride: int) -> Apply:
  """Returns a network that is the opponent's where it is to move.

  Only the environments that have an opponent, one in `stride`, are evaluated by both.
  """

  def evaluate(planes: Array) -> tuple[Array, Array]:
    # Whose move it is at the root decides, so all leaves of a search are evaluated by one network.
    ours, theirs = apply(planes), opponent(planes[::stride])
    logits, values = (
      jnp.where(_expand_dims(is_ours[::stride], x), a[::stride], x)
      for a, x in zip(ours, theirs, strict=True)
    )
    return ours[0].at[::stride].set(logits), ours[1].at[::stride].set(values)

  return evaluate


def _expand_dims(x: Array, like: Array) -> Array:
  return x.reshape(x.shape + (1,) * (like.ndim - x.ndim))
