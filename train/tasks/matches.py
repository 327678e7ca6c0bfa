"""Matches on the device: how strong a network is against fixed players and its own past."""

import functools
import os
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
from mcts.match import batch, elo, exhaustive
from mcts.search import evaluators
from mcts.search.policies import Puct
from train import config as config_lib
from train import mesh as mesh_lib
from train.errors import UserError, shown, user_errors
from train.task import Variables

Maker = Callable[[Variables], Player]
"""Variables to a player of that network, inside compiled code."""


def build_spec(text: str, table: Mapping[str, Callable], where: str, **given: Any) -> Any:
  """Builds what text such as 'puct(dirichlet_fraction=0.25)' names.

  Args:
    text: the name of an entry of the table, with arguments that its user may set.
    table: name -> constructor.
    where: the config key or the option that has the text, for errors.
    **given: arguments that the code hands in.

  Raises:
    UserError: the text is not of this form, or the constructor does not take it.
  """
  with user_errors():
    section = spec.section(text, where)
  try:
    with user_errors():
      return config_lib.build(section, table, where, **given)
  except UserError as error:
    # As a section of a config it would have keys of its own, WHERE.name; but a text is one value.
    reason = str(error).removeprefix(f'{where}.')
    raise UserError(f'{where}={shown(text)}: {reason}') from error


# -------- baselines: players that never change --------


def random(game: Game) -> Player:
  """Returns a player of uniformly random moves, of those of `Game.rollout_legal`."""
  return lambda states, keys: jax.vmap(evaluators.random_action)(
    jax.vmap(game.rollout_legal)(states), keys
  )


def uniform(game: Game, num_simulations: int = 50) -> Player:
  """Returns a search with a uniform prior and no values: it knows the rules alone."""
  return players.search_player(game, evaluators.uniform(game), Puct(ties='random'), num_simulations)


def rollout(game: Game, num_simulations: int = 50) -> Player:
  """Returns a search whose leaves are evaluated by random games."""
  return players.search_player(game, evaluators.rollout(game), Puct(ties='random'), num_simulations)


BASELINES: Mapping[str, Callable[..., Player]] = {
  'random': random,
  'uniform': uniform,
  'rollout': rollout,
}


def baseline(game: Game, text: str) -> Player:
  """Returns the player that text such as 'rollout(num_simulations=100)' names."""
  return build_spec(text, BASELINES, 'task.evaluation.baselines', game=game)


# -------- matches --------


class Match:
  """Pairs of games, with both colours, of one player against another: see `batch.play_pairs`."""

  def __init__(self, game: Game, first: Maker, second: Maker, mesh: Mesh, games: int, opening: int):
    """Prepares a match; it is compiled when it is first played.

    Args:
      game: that is played.
      first: makes the player that is rated.
      second: makes its opponent; its variables may be () if it needs none.
      mesh: over whose batch axes the pairs are spread.
      games: so many, rounded up to pairs.
      opening: random moves that both games of a pair begin with.
    """
    shards, rows = mesh_lib.batch_shards(mesh), PartitionSpec(mesh_lib.BATCH_AXES)
    self.pairs = -(-games // 2)
    self.padded = -(-self.pairs // shards) * shards  # to as many on each device
    whole = PartitionSpec()

    def play(keys, ours, theirs):
      return batch.play_pairs(game, (first(ours), second(theirs)), keys, opening)

    on_devices = jax.shard_map(
      play, mesh=mesh, in_specs=(rows, whole, whole), out_specs=rows, check_vma=False
    )
    # A pair is the same on any number of devices; without the padding so is the result.
    self._play = jax.jit(
      lambda *x: on_devices(*x)[: self.pairs], out_shardings=mesh_lib.replicated(mesh)
    )

  def __call__(self, ours: Variables, theirs: Any = ()) -> np.ndarray:
    """Returns `[P, 2]`: 1, 0 or -1 for the first player, moving first and moving second.

    Raises:
      UserError: what one of the networks says in a game is not finite.
    """
    results = np.asarray(self.play(ours, theirs))
    failed = np.argwhere(~np.isfinite(results))
    if len(failed):
      pair, side = failed[0].tolist()
      whose = 'the network' if results[pair, side] < 0 else 'its opponent'
      raise no_answer(whose, f'pair {pair}, moving {("first", "second")[side]}', len(failed))
    return results

  def play(self, ours: Variables, theirs: Any, seed: int = 0) -> Array:
    """Returns the same as an array on the devices, without waiting for them."""
    key = jax.random.key(seed)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.padded))
    return self._play(keys, ours, theirs)


def no_answer(whose: str, where: str, count: int = 1) -> UserError:
  """Returns the error for a network that gives NaN or infinity in so many games or positions."""
  more = f' and {count - 1} more' if count > 1 else ''
  return UserError(f'{whose} gives NaN or infinity, which is no answer: in {where}{more}')


def shares(results: np.ndarray) -> dict[str, float]:
  """Returns shares of points in all games, as the first player and as the second.

  A draw is half a point. results: `[P, 2]` of a `Match`.
  """
  points = (1 + results) / 2
  first, second = points.mean(0)
  return {'share': float(points.mean()), 'as_first': float(first), 'as_second': float(second)}


def rating(results: np.ndarray) -> dict[str, float]:
  """Returns shares, and the Elo difference with its interval; results: `[P, 2]` of a `Match`."""
  counts = [int((results == x).sum()) for x in (1, 0, -1)]
  found = elo.estimate(*counts)
  return {**shares(results), 'elo': found.elo, 'elo_low': found.low, 'elo_high': found.high}


def all_lines(game: Game, make: Maker) -> Callable[[Variables], dict[str, float]]:
  """Returns an evaluation that counts, on each side, the lines of play that the player loses.

  All lines are those in which the opponent plays any legal move.
  """
  choose = jax.jit(lambda variables, states, keys: make(variables)(states, keys))

  def evaluate(variables: Variables) -> dict[str, float]:
    player = functools.partial(choose, variables)
    with user_errors():
      first, second = (exhaustive.count_outcomes(game, player, side) for side in (0, 1))
    return {
      'losses': float(first.losses + second.losses),
      'losses_as_first': float(first.losses),
      'losses_as_second': float(second.losses),
      'lines': float(sum(first) + sum(second)),
    }

  return evaluate


class SolvedPositions:
  """Positions of Connect Four and their best moves, by `mcts.games.connect_four_solver`.

  counts: int `[P]`, moves played. played: int32 `[P, 42]`, these moves, padded with 0.
  best: bool `[P, 7]`, which columns keep the position's value.
  """

  def __init__(self, game: Game, path: str):
    """Reads the file; raises UserError for another game, and if it is missing or malformed."""
    where = f'task.evaluation.solved_positions={path!r}'
    board = jax.eval_shape(lambda: game.observe(game.init())).shape[:2]
    if game.name != 'connect_four' or board != (solver.ROWS, solver.COLUMNS):
      raise UserError(f'{where}: is for connect_four of 6 x 7, not for {game.name}')
    try:
      entries = solver.read(pathlib.Path(os.path.expanduser(path)).read_text(encoding='ascii'))
      for played, _ in entries:
        solver.place(played)
    except (OSError, ValueError) as error:
      raise UserError(
        f'{where}: {error}; python -m mcts.games.connect_four_solver --output=FILE makes one'
      ) from error
    self.game, self.counts = game, np.array([len(played) for played, _ in entries])
    self.played = np.zeros((len(entries), solver.CELLS), np.int32)
    self.best = np.zeros((len(entries), solver.COLUMNS), bool)
    for i, (played, best) in enumerate(entries):
      self.played[i, : len(played)] = played
      self.best[i, best] = True

  def measure(self, make: Maker) -> Callable[[Variables], dict[str, float]]:
    """Returns an evaluation of a player.

    'optimal' is the share of the positions in which its column is a best one, 'optimal_of_some'
    that of the positions in which not all columns are equally good.
    """

    @jax.jit
    def choose(variables: Variables) -> tuple[Array, Array]:
      states = jax.vmap(self._reached)(jnp.asarray(self.played), jnp.asarray(self.counts))
      keys = jax.vmap(jax.random.key)(jnp.arange(len(self.counts)))
      return make(variables)(states, keys), jax.vmap(self.game.legal)(states)

    def evaluate(variables: Variables) -> dict[str, float]:
      columns, legal = map(np.asarray, choose(variables))
      if (failed := np.flatnonzero(columns < 0)).size:
        raise no_answer('the network', f'solved position {failed[0]}', len(failed))
      is_best = self.best[np.arange(len(columns)), columns]
      some = (self.best != legal).any(1)
      return {
        'optimal': float(is_best.mean()),
        'optimal_of_some': float(is_best[some].mean()),
      }

    return evaluate

  def _reached(self, columns: Array, count: Array) -> Any:
    """Returns the state after the first `count` of the columns."""
    return lax.fori_loop(0, count, lambda i, s: self.game.step(s, columns[i]), self.game.init())
