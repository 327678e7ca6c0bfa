"""The value network of AlphaGo from games of its own policies, one position of each game.

Silver et al. 2016, Methods, 'Value network: regression'.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from data.go.loader import symmetry_table
from data.selfplay import SelfPlayData
from mcts import symmetry
from mcts.alphago import episodes
from train import mesh as mesh_lib
from train.errors import UserError
from train.run import load_weights
from train.step import make_eval
from train.task import Batch, Batches, Evaluation, Programs, Source, Variables
from train.tasks.alphago.base import InputBatches, InputSource, check_at_least, to_inputs
from train.tasks.alphago.network import VALUE_INPUTS, GoNetwork, policy_of
from train.tasks.alphago.value import DEFAULT_ENGINE, EngineSettings, ValueTask

MAX_RANDOM_TURN = 1.25  # times N^2: the largest U, 450 of 361 in the paper


@dataclasses.dataclass(frozen=True)
class GameSettings:
  """How many games are played, and when; a round of games is played at once.

  Attributes:
    per_round: games of a round, over all devices.
    round_every: training steps from one round to the next.
    min_games: games before the first step.
    window: the newest so many games, of which batches are drawn.
    test_games: games for the test, of other rounds.
  """

  per_round: int = 128
  round_every: int = 10
  min_games: int = 1_280
  window: int = 128_000
  test_games: int = 1_280

  def __post_init__(self):
    check_at_least(
      **{
        'games.per_round': (self.per_round, 1),
        'games.round_every': (self.round_every, 1),
        'games.min_games': (self.min_games, 1),
        'games.window': (self.window, self.min_games),
        'games.test_games': (self.test_games, 1),
      }
    )
    for name, value in (('window', self.window), ('test_games', self.test_games)):
      if value % self.per_round:
        raise UserError(
          f'task.games.{name}={value}: must be a multiple of task.games.per_round={self.per_round}'
        )


class GoValueSelfPlay(ValueTask):
  """The task `go_value_selfplay`: a value network from games that policies play; see `ValueTask`.

  Of each game one position is learnt: the one after its U-th move, which is any legal point, where
  the SL policy samples the moves before it and the RL policy those after it. U is drawn once for
  all games of a round, so that the two networks take turns; a game that is over by then has no
  position.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: SelfPlayData,
    *,
    sl_policy: str = '',
    rl_policy: str = '',
    size: int = 19,
    games: GameSettings = GameSettings(),
    engine: EngineSettings = DEFAULT_ENGINE,
  ):
    """Builds the network; the policies' runs are opened when games are played.

    Args:
      model: the config's section.
      data: says how many positions a batch has.
      sl_policy: workdir of a run of go_policy or go_reinforce that plays the moves before U.
      rl_policy: likewise, for the moves after U.
      size: N of the board.
      games: how many are played, and when.
      engine: what a search with this network needs besides.
    """
    self.data, self.network = data, GoNetwork(model, size, VALUE_INPUTS)
    self.policy_runs = {'sl_policy': sl_policy, 'rl_policy': rl_policy}
    self.games, self.engine = games, engine
    self._rounds: Rounds | None = None

  @functools.cached_property
  def policies(self) -> list[GoNetwork]:
    """Returns the networks of the SL policy and of the RL policy, by the configs of their runs."""
    for name, workdir in self.policy_runs.items():
      if not workdir:
        raise UserError(
          f"task.{name}='': give the workdir of a run, whose policy plays; one of"
          ' --config=alphago_policy or alphago_reinforce'
        )
    return [
      policy_of(workdir, f'task.{name}', self.network.size, 'planes')
      for name, workdir in self.policy_runs.items()
    ]

  @functools.cached_property
  def policy_variables(self) -> tuple[Variables, ...]:
    """Returns the variables of `policies`, as their runs left them."""
    return tuple(load_weights(workdir).variables for workdir in self.policy_runs.values())

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns batches of the positions of games in the window: {'inputs', 'result', 'mask'}."""
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; batches has the test')
    convert = to_inputs(self.game, self.network.input_kind, mesh)
    return InputSource(WindowSource(self, mesh), convert)

  def rounds(self, mesh: Mesh) -> 'Rounds':
    """Returns the compiled rounds, one for training and test since compiling takes long."""
    if self._rounds is None or self._rounds.mesh != mesh:
      self._rounds = Rounds(self, mesh)
    return self._rounds

  def batches(self, mesh: Mesh) -> Batches:
    """Returns the test positions, from rounds of a key of its own."""
    play, key = self.rounds(mesh), jax.random.key(1)
    count = self.games.test_games // self.games.per_round
    rounds = [play(key, number) for number in range(count)]
    return InputBatches(rounds, to_inputs(self.game, self.network.input_kind, mesh))

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns one evaluation, 'test': the loss and its metrics on the test positions."""
    measure = make_eval(self)
    batches = functools.cache(lambda: self.batches(mesh))  # played when first asked for
    return {'test': lambda variables: measure(variables, batches())}

  def metadata(self) -> dict[str, Any]:
    """Returns for eval.json how many games the test has."""
    return {'games': self.games.test_games}


class Rounds:
  """Plays rounds of games: (key, number) -> records of that round's positions, over all devices.

  A record is what `episodes.positions` returns, of each game one. The same round is played whatever
  the number of devices.
  """

  def __init__(self, task: GoValueSelfPlay, mesh: Mesh):
    shards, games = mesh_lib.batch_shards(mesh), task.games.per_round
    if games % shards:
      raise UserError(f'task.games.per_round={games}: must be a multiple of {shards}, the devices')
    self.mesh, self.game, self.num_games = mesh, task.game, games
    self.max_turn = int(MAX_RANDOM_TURN * task.network.size**2)
    self.task, self.networks = task, task.policies
    self.abstract = mesh_lib.unbox(jax.eval_shape(self._fresh))
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    self.spread = jax.shard_map(
      self._on_device, mesh=mesh, in_specs=(rows, whole, whole), out_specs=rows, check_vma=False
    )
    self.play = jax.jit(self._play)

  def __call__(self, key: Array, number: int) -> Batch:
    """Returns a round's records; raises UserError where a policy's answer was not finite."""
    records = self.play(key, number, self.task.policy_variables)
    # Waits for the device, as whoever asks for a round has to: it is played once in many steps.
    if not bool(jnp.isfinite(records['result']).all()):
      rule = 'task.sl_policy or task.rl_policy: gives NaN or infinity, which is no move'
      raise UserError(f'{rule}: in round {number} of the games')
    return records

  def _fresh(self) -> list[Variables]:
    return [network.init(jax.random.key(0)) for network in self.networks]

  def _play(self, key: Array, number: Array, variables: tuple[Variables, ...]) -> Batch:
    key = jax.random.fold_in(key, number)
    turn_key = jax.random.fold_in(key, self.num_games)  # none of the games' keys
    turn = jax.random.randint(turn_key, (), 1, self.max_turn + 1)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.num_games))
    return self.spread(keys, turn, variables)

  def _on_device(self, keys: Array, turn: Array, variables: tuple[Variables, ...]) -> Batch:
    sl_player, rl_player = (
      network.player(x) for network, x in zip(self.networks, variables, strict=True)
    )
    states, failed = episodes.play_with_random_move(self.game, sl_player, rl_player, turn, keys)
    records = episodes.positions(self.game, states, turn)
    return {**records, 'result': jnp.where(failed, jnp.nan, records['result'])}


class WindowSource:
  """The source of records: a ring buffer of the newest games, from which batches are drawn.

  The carry is {'key', 'ring', 'rounds'}: the ring's records are `[per_round, slots, ...]`, sharded
  over the games of a round, so that any number of devices can go on with it; their mask is 0 where
  there is no game yet or a game has no position; `rounds` counts the rounds played, of which round
  r lies in slot r % slots, with slots = window / per_round.
  """

  def __init__(self, task: GoValueSelfPlay, mesh: Mesh):
    self.task, self.games, self.mesh, self.play = task, task.games, mesh, task.rounds(mesh)
    self.shards = mesh_lib.batch_shards(mesh)
    self.slots = self.games.window // self.games.per_round
    rows, whole = PartitionSpec(mesh_lib.BATCH_AXES), PartitionSpec()
    spread = functools.partial(jax.shard_map, mesh=mesh, out_specs=rows, check_vma=False)
    self._put = jax.jit(spread(self._write, in_specs=(rows, rows, whole)), donate_argnums=0)
    self._draw = jax.jit(spread(self._sample, in_specs=(rows, whole)))
    self._enough = jax.jit(
      lambda mask: mask.reshape(self.shards, -1).any(1).all(),
      out_shardings=mesh_lib.replicated(mesh),
    )

  def init(self, key: Array) -> dict[str, Any]:
    """Returns the carry with an empty ring."""
    empty = jax.jit(self._empty, out_shardings=mesh_lib.batch_sharding(self.mesh))
    whole = mesh_lib.replicated(self.mesh)
    key, rounds = jax.device_put((key, jnp.int32(0)), whole)
    return {'key': key, 'ring': empty(), 'rounds': rounds}

  def _empty(self) -> Batch:
    shapes = jax.eval_shape(lambda: self.play.play(jax.random.key(0), 0, self.play.abstract))
    return jax.tree.map(lambda x: jnp.zeros((len(x), self.slots, *x.shape[1:]), x.dtype), shapes)

  def next(self, carry: dict[str, Any], step: int, variables: Variables):
    """Returns the carry, with a round more when it is time, and a batch of records."""
    del variables
    if step % self.games.round_every == 0:
      carry = self._play_round(carry)
    return carry, self._draw(carry['ring'], jax.random.fold_in(carry['key'], step))

  def trace(self, variables: Variables) -> tuple[Programs, Batch]:
    """Returns the programs that play a round and draw a batch, and the abstract batch."""
    del variables
    rows, whole = mesh_lib.batch_sharding(self.mesh), mesh_lib.replicated(self.mesh)
    key: Any = mesh_lib.abstract(jax.eval_shape(lambda: jax.random.key(0)), whole)
    players: Any = mesh_lib.abstract(self.play.abstract, whole)
    draw = self._draw.trace(mesh_lib.abstract(jax.eval_shape(self._empty), rows), key)
    programs = {'play': self.play.play.trace(key, 0, players), 'draw': draw}
    return programs, mesh_lib.abstract(draw.out_info, rows)

  def _play_round(self, carry: dict[str, Any]) -> dict[str, Any]:
    """Plays a round; at first many, until each device has something to draw."""
    key, ring, rounds = carry['key'], carry['ring'], int(carry['rounds'])
    while True:
      ring = self._put(ring, self.play(key, rounds), rounds % self.slots)
      rounds += 1
      if rounds * self.games.per_round >= self.games.min_games and self._enough(ring['mask']):
        whole = mesh_lib.replicated(self.mesh)
        return {'key': key, 'ring': ring, 'rounds': jax.device_put(jnp.int32(rounds), whole)}

  # -------- compiled, on each device --------

  def _write(self, ring: Batch, records: Batch, slot: Array) -> Batch:
    """Returns the ring with a round's records in a slot."""

    def put(x: Array, new: Array) -> Array:
      return lax.dynamic_update_slice_in_dim(x, new[:, None], slot, 1)

    return jax.tree.map(put, ring, records)

  def _sample(self, ring: Batch, key: Array) -> Batch:
    """Returns positions drawn uniformly with replacement, each under a random symmetry."""
    key = jax.random.fold_in(key, lax.axis_index(mesh_lib.BATCH_AXES))
    count, size = self.task.batch_size // self.shards, self.task.network.size
    ring = {name: x.reshape(-1, *x.shape[2:]) for name, x in ring.items()}
    until = jnp.cumsum(ring['mask'] > 0, dtype=jnp.int32)
    chosen = jax.random.randint(key, (count,), 0, until[-1])
    rows = jnp.searchsorted(until, chosen, side='right')
    batch = {name: x[rows] for name, x in ring.items()}
    turns = jax.random.randint(jax.random.fold_in(key, 0), (count, 1), 0, symmetry.COUNT)
    there = jnp.minimum(batch['points'], size**2)  # after the end too
    batch['mask'] *= mesh_lib.share_of(until[-1])
    return {**batch, 'points': jnp.asarray(symmetry_table(size))[turns, there]}
