"""Values of positions of games that policies play for it: AlphaGo's third stage as it was."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from data.go.source import turned
from data.selfplay import SelfPlayData
from mcts import symmetry
from mcts.alphago import episodes
from train import mesh as mesh_lib
from train.config import UserError
from train.step import make_eval
from train.task import Batch, Batches, Evaluation, Source, Variables
from train.tasks.alphago.positions import Board, SeenBatches, SeenSource, network_of, seen
from train.tasks.alphago.value import VIEWS, Values

LATEST = 1.25  # times N^2: the last U there is, 450 of 361 in the paper


class GoValuePlay(Values):
  """The task `go_value_play`: values of positions of games that policies play; see `Values`.

  Of each game one position is learnt: that after its U-th move, which is any legal point, where the
  moves before are drawn by `begin` and those after it by `player` (Silver et al. 2016,
  Methods, 'Value network: regression'). U is drawn once for all games of a round, so that the two
  networks take turns; a game that is over by then has no position.

  begin, player: the workdirs of runs of go_policy or go_reinforce; there one of each.
  games: of a round; every: steps from one to the next; minimum: games before the first step.
  kept: the newest so many games, of which batches are drawn, turned or mirrored at random.
  test_games: of other rounds, for the test.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: SelfPlayData,
    *,
    begin: str = '',
    player: str = '',
    policy: str = '',
    rollout: str = '',
    mixing: float = 0.5,
    size: int = 19,
    games: int = 128,
    every: int = 10,
    minimum: int = 1_280,
    kept: int = 128_000,
    test_games: int = 1_280,
  ):
    least = (('games', games, 1), ('every', every, 1), ('minimum', minimum, 1))
    for name, value, lowest in (*least, ('kept', kept, minimum), ('test_games', test_games, 1)):
      if value < lowest:
        raise UserError(f'task.{name}={value}: must be at least {lowest}')
    for name, value in (('kept', kept), ('test_games', test_games)):
      if value % games:
        raise UserError(f'task.{name}={value}: must be a multiple of task.games={games}')
    self.data, self.board = data, Board(model, size, VIEWS)
    self.players = {'begin': begin, 'player': player}
    self.games, self.every, self.minimum, self.kept = games, every, minimum, kept
    self.test_games = test_games
    self._rounds: Rounds | None = None
    self.search_with(policy, rollout, mixing)

  @functools.cached_property
  def policies(self) -> list[tuple[Board, Variables]]:
    """Who begins, and who goes on."""
    size, found = self.board.size, self.players
    for name, workdir in found.items():
      if not workdir:
        raise UserError(f"task.{name}='': give the workdir of a run, to play")
    return [network_of(workdir, f'task.{x}', size, 'planes') for x, workdir in found.items()]

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; batches has the test')
    return SeenSource(Games(self, mesh), seen(self.game, self.board.view, mesh))

  def rounds(self, mesh: Mesh) -> 'Rounds':
    """One for training and test, for it is long in compiling."""
    if self._rounds is None or self._rounds.mesh != mesh:
      self._rounds = Rounds(self, mesh)
    return self._rounds

  def batches(self, mesh: Mesh) -> Batches:
    """The test's positions: the rounds of a key of its own."""
    play, key = self.rounds(mesh), jax.random.key(1)
    rounds = [play(key, number) for number in range(self.test_games // self.games)]
    return SeenBatches(rounds, seen(self.game, self.board.view, mesh))

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    measure = make_eval(self)
    batches = functools.cache(lambda: self.batches(mesh))  # played when first asked for
    return {'test': lambda variables: measure(variables, batches())}

  def facts(self) -> dict[str, Any]:
    return {'games': self.test_games}


class Rounds:
  """(key, number) -> records of that round's positions, as of `data.go.source`, of all devices."""

  def __init__(self, task: GoValuePlay, mesh: Mesh):
    shards = mesh_lib.batch_shards(mesh)
    if task.games % shards:
      raise UserError(f'task.games={task.games}: must be a multiple of {shards}, the devices')
    self.mesh, self.game, self.count = mesh, task.game, task.games
    self.latest = int(LATEST * task.board.size**2)
    self.boards, self.variables = zip(*task.policies, strict=True)
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    self.spread = jax.shard_map(
      self._on_device, mesh=mesh, in_specs=(rows, whole, whole), out_specs=rows, check_vma=False
    )
    self.play = jax.jit(self._play)

  def __call__(self, key: Array, number: int) -> Batch:
    return self.play(key, number, self.variables)

  def _play(self, key: Array, number: Array, variables: tuple[Variables, ...]) -> Batch:
    key = jax.random.fold_in(key, number)
    turn = jax.random.randint(jax.random.fold_in(key, self.count), (), 1, self.latest + 1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.count))
    return self.spread(keys, turn, variables)

  def _on_device(self, keys: Array, turn: Array, variables: tuple[Variables, ...]) -> Batch:
    begin, go_on = (board.drawn(x) for board, x in zip(self.boards, variables, strict=True))
    states = episodes.play_with_random_move(self.game, begin, go_on, turn, keys)
    return episodes.positions(self.game, states, turn)


class Games:
  """Batches of a ring of games. Its carry: a key, the ring's records, the rounds that were played.

  Records have a mask of 0 where there is no game yet.
  """

  def __init__(self, task: GoValuePlay, mesh: Mesh):
    self.task, self.mesh, self.play = task, mesh, task.rounds(mesh)
    self.shards = mesh_lib.batch_shards(mesh)
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    spread = functools.partial(jax.shard_map, mesh=mesh, out_specs=rows, check_vma=False)
    self._put = jax.jit(spread(self._write, in_specs=(rows, rows, whole)), donate_argnums=0)
    self._draw = jax.jit(spread(self._sample, in_specs=(rows, whole)))
    self._enough = jax.jit(
      lambda mask: mask.reshape(self.shards, -1).any(1).all(),
      out_shardings=mesh_lib.replicated(mesh),
    )

  def init(self, key: Array) -> dict[str, Any]:
    shapes = jax.eval_shape(self.play, key, 0)
    place = mesh_lib.batch_sharding(self.mesh)

    @functools.partial(jax.jit, out_shardings=place)
    def empty() -> Batch:
      return jax.tree.map(lambda x: jnp.zeros((self.task.kept, *x.shape[1:]), x.dtype), shapes)

    whole = mesh_lib.replicated(self.mesh)
    key, rounds = jax.device_put((key, jnp.int32(0)), whole)
    return {'key': key, 'ring': empty(), 'rounds': rounds}

  def next(self, carry: dict[str, Any], step: int, variables: Variables):
    del variables
    if step % self.task.every == 0:
      carry = self._go_on(carry)
    return carry, self._draw(carry['ring'], jax.random.fold_in(carry['key'], step))

  def _go_on(self, carry: dict[str, Any]) -> dict[str, Any]:
    """A round; at first many, until there is something to draw on each device."""
    key, ring, rounds = carry['key'], carry['ring'], int(carry['rounds'])
    while True:
      ring = self._put(ring, self.play(key, rounds), rounds % (self.task.kept // self.task.games))
      rounds += 1
      if rounds * self.task.games >= self.task.minimum and self._enough(ring['mask']):
        place = mesh_lib.replicated(self.mesh)
        return {'key': key, 'ring': ring, 'rounds': jax.device_put(jnp.int32(rounds), place)}

  # -------- compiled, on each device --------

  def _write(self, ring: Batch, records: Batch, place: Array) -> Batch:
    """place: of the round among as many as the ring has room for."""

    def put(x: Array, new: Array) -> Array:
      return lax.dynamic_update_slice_in_dim(x, new, place * len(new), 0)

    return jax.tree.map(put, ring, records)

  def _sample(self, ring: Batch, key: Array) -> Batch:
    key = jax.random.fold_in(key, lax.axis_index(mesh_lib.BATCH_AXES))
    count, size = self.task.batch_size // self.shards, self.task.board.size
    until = jnp.cumsum(ring['mask'] > 0, dtype=jnp.int32)
    chosen = jax.random.randint(key, (count,), 0, until[-1])
    rows = jnp.searchsorted(until, chosen, side='right')
    batch = {name: x[rows] for name, x in ring.items()}
    turns = jax.random.randint(jax.random.fold_in(key, 0), (count, 1), 0, symmetry.COUNT)
    there = jnp.minimum(batch['points'], size**2)  # after the end too
    return {**batch, 'points': jnp.asarray(turned(size))[turns, there]}
