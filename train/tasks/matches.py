"""How strong a network is: games against fixed players and against its own past, on the device."""

import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from data import spec
from mcts.engines import Player, players
from mcts.game import Game
from mcts.games import connect_four_solver as solver
from mcts.go import Go, playouts
from mcts.match import batch, elo, exhaustive
from mcts.search import evaluators
from mcts.search.policies import Puct
from train import config as config_lib
from train import mesh as mesh_lib
from train.config import UserError, user_errors
from train.task import Variables

Maker = Callable[[Variables], Player]
"""A player of the network with these variables, for use inside compiled code."""


# -------- players that never change --------


def random(game: Game) -> Player:
  """Any legal move; of Go, whose random games would not end otherwise, none into an own eye."""
  if isinstance(game, Go):
    return functools.partial(playouts.random_moves, game)
  return players.random_player(game)


def uniform(game: Game, simulations: int = 50) -> Player:
  """A search that knows the rules alone."""
  return players.search_player(game, evaluators.uniform(game), Puct(ties='random'), simulations)


def rollout(game: Game, simulations: int = 50) -> Player:
  """A search whose leaves are played out at random; of Go as the engine of that name does it."""
  evaluate = playouts.rollout(game) if isinstance(game, Go) else players.rollout(game)
  return players.search_player(game, evaluate, Puct(ties='random'), simulations)


ANCHORS: Mapping[str, Callable[..., Player]] = {
  'random': random,
  'uniform': uniform,
  'rollout': rollout,
}


def anchor(game: Game, text: str) -> Player:
  """The player that a spec such as 'rollout(simulations=100)' says."""
  with user_errors():
    section = spec.section(text, 'task.anchors')
    return config_lib.build(section, ANCHORS, 'task.anchors', game=game)


# -------- matches --------


class Match:
  """Pairs of games, both colours, of the network against another player: see `batch.play_pairs`.

  first, second: of variables to players; those of `second` may be () for one that needs none.
  """

  def __init__(self, game: Game, first: Maker, second: Maker, mesh: Mesh, games: int, opening: int):
    shards, spread = mesh_lib.batch_shards(mesh), PartitionSpec(mesh_lib.BATCH_AXES)
    self.pairs = -(-games // (2 * shards)) * shards
    whole = PartitionSpec()

    def play(keys, ours, theirs):
      return batch.play_pairs(game, (first(ours), second(theirs)), keys, opening)

    on_devices = jax.shard_map(
      play, mesh=mesh, in_specs=(spread, whole, whole), out_specs=spread, check_vma=False
    )
    self._play = jax.jit(on_devices, out_shardings=mesh_lib.replicated(mesh))

  def __call__(self, ours: Variables, theirs: Any = ()) -> np.ndarray:
    """`[P, 2]` results, moving first and second."""
    return np.asarray(self.play(ours, theirs))

  def play(self, ours: Variables, theirs: Any, seed: int = 0) -> Array:
    """Likewise, and does not wait for them."""
    key = jax.random.key(seed)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.pairs))
    return self._play(keys, ours, theirs)


def shares(results: np.ndarray) -> dict[str, float]:
  """Shares of points: in all games, as the first player, as the second; a draw is half a point."""
  points = (1 + results) / 2
  first, second = points.mean(0)
  return {'share': float(points.mean()), 'as_first': float(first), 'as_second': float(second)}


def rating(results: np.ndarray) -> dict[str, float]:
  """With Elo by which the network is stronger, and its interval."""
  counts = [int((results == x).sum()) for x in (1, 0, -1)]
  found = elo.estimate(*counts)
  return {**shares(results), 'elo': found.elo, 'elo_low': found.low, 'elo_high': found.high}


def lines(game: Game, make: Maker) -> Callable[[Variables], dict[str, float]]:
  """Of the network alone, without search: how many of all lines of play it loses, on each side."""
  choose = jax.jit(lambda variables, states, keys: make(variables)(states, keys))

  def evaluate(variables: Variables) -> dict[str, float]:
    player = functools.partial(choose, variables)
    first, second = (exhaustive.count_outcomes(game, player, side) for side in (0, 1))
    return {
      'losses': float(first.losses + second.losses),
      'losses_as_first': float(first.losses),
      'losses_as_second': float(second.losses),
      'lines': float(sum(first) + sum(second)),
    }

  return evaluate


class Solved:
  """The positions of Connect Four in a file that `mcts.games.connect_four_solver` has written.

  Raises UserError for another game, and for a file that is none or is not there.
  """

  def __init__(self, game: Game, path: str):
    board = jax.eval_shape(lambda: game.observe(game.init())).shape[:2]
    if game.name != 'connect_four' or board != (solver.ROWS, solver.COLUMNS):
      raise UserError(f'task.solved={path!r}: is for connect_four of 6 x 7, not for {game.name}')
    try:
      entries = solver.read(pathlib.Path(path).expanduser().read_text(encoding='ascii'))
      for played, _ in entries:
        solver.place(played)
    except (OSError, ValueError) as error:
      raise UserError(
        f'task.solved={path!r}: {error};'
        ' python -m mcts.games.connect_four_solver --output=FILE makes one'
      ) from error
    self.game, self.counts = game, np.array([len(played) for played, _ in entries])
    self.played = np.zeros((len(entries), solver.CELLS), np.int32)
    self.best = np.zeros((len(entries), solver.COLUMNS), bool)
    for i, (played, best) in enumerate(entries):
      self.played[i, : len(played)] = played
      self.best[i, best] = True

  def measure(self, make: Maker) -> Callable[[Variables], dict[str, float]]:
    """`optimal`: in what share of the positions the player's column is a best one;
    `optimal_of_some`: of those in which not all columns are equally good.
    """

    @jax.jit
    def choose(variables: Variables) -> tuple[Array, Array]:
      states = jax.vmap(self._reached)(jnp.asarray(self.played), jnp.asarray(self.counts))
      keys = jax.vmap(jax.random.key)(jnp.arange(len(self.counts)))
      return make(variables)(states, keys), jax.vmap(self.game.legal)(states)

    def evaluate(variables: Variables) -> dict[str, float]:
      columns, legal = map(np.asarray, choose(variables))
      right = self.best[np.arange(len(columns)), columns]
      some = (self.best != legal).any(1)
      return {
        'optimal': float(right.mean()),
        'optimal_of_some': float(right[some].mean()),
      }

    return evaluate

  def _reached(self, columns: Array, count: Array) -> Any:
    return lax.fori_loop(0, count, lambda i, s: self.game.step(s, columns[i]), self.game.init())
