"""Two players of any game on the device: pairs of games with both colours, and all lines of play.

A player is a function of states `[B, ...]` and typed keys `[B]` to actions `[B]`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mcts import search as search_lib
from mcts.game import Game, initial_states
from mcts.search import evaluators
from mcts.search.evaluators import Evaluate
from mcts.search.selection import PolicyOutput, SelectionPolicy
from mcts.search.simulate import fold_in

Player = Callable[[Any, Array], Array]

# -------- players --------


def random(game: Game) -> Player:
  """Any legal move, with equal chances."""
  return lambda states, keys: jax.vmap(evaluators.random_action)(jax.vmap(game.legal)(states), keys)


def raw(game: Game, evaluate: Evaluate) -> Player:
  """The move that the evaluator likes best, without search."""
  return lambda states, keys: evaluators.make_root(game, evaluate)(states, keys).logits.argmax(-1)


def searcher(
  game: Game, evaluate: Evaluate, selection: SelectionPolicy, num_simulations: int
) -> Player:
  """The move that a search chooses in the end, nothing drawn among the moves it prefers."""
  decide = decider(game, evaluate, selection, num_simulations)
  return lambda states, keys: decide(states, keys).action


def decider(
  game: Game, evaluate: Evaluate, selection: SelectionPolicy, num_simulations: int
) -> Callable[[Any, Array], PolicyOutput]:
  """What such a search says, of states and keys."""
  root, expand = evaluators.make_root(game, evaluate), evaluators.make_expand(game, evaluate)
  options: dict[str, Any] = {'num_simulations': num_simulations, 'selection': selection}

  def consider(states, keys):
    roots = root(states, fold_in(keys, 0))
    return search_lib.puct(roots, expand, fold_in(keys, 1), temperature=0.0, **options)[0]

  return consider


# -------- pairs of games --------


def pairs(game: Game, players: tuple[Player, Player], keys: Array, opening: int) -> Array:
  """float32 `[P, 2]`: 1, -1 or 0 as players[0] won, lost or drew, moving first and moving second.

  keys: typed, `[P]`. Both games of a pair begin with the same `opening` random moves.
  """
  begin = _opening(game, fold_in(keys, 0), opening)
  ends = _play(game, players, begin, fold_in(keys, 1))
  mover = jax.vmap(game.to_play)(begin)
  sign = [jnp.where(jax.vmap(game.to_play)(end) == mover, 1.0, -1.0) for end in ends]
  values = [jax.vmap(game.value)(end) * sign for end, sign in zip(ends, sign, strict=True)]
  return jnp.stack([values[0], -values[1]], 1)


def _opening(game, keys, moves):
  states = initial_states(game, keys.shape[0])
  choose = random(game)
  for i in range(moves):
    states = jax.vmap(game.step)(states, choose(states, fold_in(keys, i)))
  return states


def _play(game, players, begin, keys):
  """The ends of the games in which players[0] moves first, and of those in which players[1] does.

  Each player moves in half of the games at a time, and then in the other half.
  """

  def going(carry):
    _, halves = carry
    return ~jnp.stack([jax.vmap(game.done)(half) for half in halves]).all()

  def move(carry):
    turn, halves = carry
    moved = []
    for i, (player, half) in enumerate(zip(players, halves, strict=True)):
      moved.append(jax.vmap(game.step)(half, player(half, fold_in(keys, 2 * turn + i))))
    return turn + 1, (moved[1], moved[0])

  turns, (a, b) = lax.while_loop(going, move, (jnp.int32(0), (begin, begin)))
  even = turns % 2 == 0

  def chosen(x, y):
    return jax.tree.map(lambda x, y: jnp.where(even, x, y), x, y)

  return chosen(a, b), chosen(b, a)


# -------- all lines of play --------


class Lines(NamedTuple):
  """How many lines of play a player has won, drawn and lost."""

  wins: int
  draws: int
  losses: int


def all_lines(game: Game, player: Player, side: int, width: int = 1024) -> Lines:
  """Of every line in which `player` moves as `side` (0, 1) and the opponent plays anything legal.

  For small games: at most `width` lines may be open at a time, else this raises ValueError. The
  player is called from the host, so it had better be compiled.
  """
  step, branch, results = _programs(game)
  states = initial_states(game, width)
  keys = jax.vmap(jax.random.key)(jnp.arange(width))
  alive, mover, total = jnp.arange(width) < 1, 0, np.zeros(3, int)
  while bool(alive.any()):
    if mover == side:
      states = step(states, player(states, keys))
    else:
      states, alive, count = branch(states, alive)
      if int(count) > width:
        raise ValueError(f'{int(count)} lines are open at a time: more than {width}')
    alive, ended = results(states, alive, side)
    total, mover = total + np.asarray(ended), 1 - mover
  return Lines(*total.tolist())


@functools.cache
def _programs(game: Game):
  step = jax.vmap(game.step)

  def branch(states, alive):
    """The states after each legal move, the open ones first; how many there are."""
    legal = jax.vmap(game.legal)(states) & alive[:, None]
    line, action = jnp.nonzero(legal, size=len(alive), fill_value=0)
    count = legal.sum()
    return step(jax.tree.map(lambda x: x[line], states), action), _first(alive, count), count

  def results(states, alive, side):
    """The lines that go on, and how many are now won, drawn, lost."""
    over = alive & jax.vmap(game.done)(states)
    ours = jax.vmap(game.to_play)(states) == side
    value = jax.vmap(game.value)(states) * jnp.where(ours, 1.0, -1.0)
    return alive & ~over, jnp.stack([(over & (value == x)).sum() for x in (1, 0, -1)])

  return tuple(map(jax.jit, (step, branch, results)))


def _first(like, count):
  return jnp.arange(len(like)) < count
