"""AlphaGo Zero and AlphaZero: a network learns a game from nothing but games against itself."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

import mcts
import models
import models.summary
from data.selfplay import SelfPlayData
from mcts.engines import Player, players
from mcts.game import Game
from mcts.search import evaluators
from mcts.search.evaluators import Evaluate
from mcts.search.policies import Gumbel, Puct
from mcts.search.selection import PolicyOutput, SelectionPolicy
from mcts.selfplay.settings import (
  ExplorationSettings,
  ResignationSettings,
  SearchSettings,
  SelfPlay,
)
from train import mesh as mesh_lib
from train.errors import UserError, user_errors
from train.task import Batch, Evaluation, Metrics, Source, Task, Variables, evaluate
from train.tasks import matches
from train.tasks.selfplay import loss as loss_lib
from train.tasks.selfplay import preview, timing
from train.tasks.selfplay import source as source_lib
from train.tasks.selfplay.settings import (
  EvaluationSettings,
  GateSettings,
  LossSettings,
  OpponentPoolSettings,
  ReplaySettings,
  at_least,
  require,
)

SELECTIONS: Mapping[str, Callable[..., SelectionPolicy]] = {'puct': Puct, 'gumbel': Gumbel}


AUX_HEADS = ('ownership', 'score')  # of `models.alphazero`, as its config names them


class SelfPlayTask(Task):
  """The task `selfplay`.

  Text such as 'go(size=9)' or 'puct(dirichlet_fraction=0.25)' names an entry of a table and changes
  its defaults.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: SelfPlayData,
    *,
    game: str = 'tictactoe',
    num_envs: int = 64,
    moves_per_step: int = 1,
    snapshot_every: int = 1_000,
    selection: str = 'gumbel',
    search: SearchSettings = SearchSettings(),  # noqa: B008 these are frozen
    exploration: ExplorationSettings = ExplorationSettings(),  # noqa: B008
    resignation: ResignationSettings = ResignationSettings(),  # noqa: B008
    replay: ReplaySettings = ReplaySettings(),  # noqa: B008
    loss: LossSettings = LossSettings(),  # noqa: B008
    gate: GateSettings = GateSettings(),  # noqa: B008
    opponent_pool: OpponentPoolSettings = OpponentPoolSettings(),  # noqa: B008
    evaluation: EvaluationSettings = EvaluationSettings(),  # noqa: B008
  ):
    """Builds game and network, and checks that all fits together.

    Args:
      model: the config's section, of a network with a policy and a value.
      data: says how many positions a batch has.
      game: of `mcts.GAMES`.
      num_envs: games in parallel, over all devices.
      moves_per_step: that each game makes for a training step.
      snapshot_every: steps after which the network as it is becomes the opponent of later
        evaluations ('past') and enters the opponent pool.
      selection: the selection policy of the search, of SELECTIONS.
      search: simulations, playout cap randomisation, tree reuse, symmetries.
      exploration: temperature and random moves.
      resignation: when games are given up.
      replay: how many positions are kept and sampled from.
      loss: targets and weights.
      gate: AlphaGo Zero's evaluator.
      opponent_pool: games against past selves.
      evaluation: what is measured.

    Raises:
      UserError: two of these do not fit together, or a name is in no table.
    """
    at_least('num_envs', num_envs, 1)
    at_least('moves_per_step', moves_per_step, 1)
    at_least('snapshot_every', snapshot_every, 1)
    prob, mix = exploration.random_move_prob, loss.value_target_mix
    rule = 'needs task.loss.value_target_mix=1.0: outcomes after random moves say little'
    require('exploration.random_move_prob', prob, not prob or mix == 1, rule)
    self.data, self.loss_settings, self.gate, self.evaluation = data, loss, gate, evaluation
    self.game: Game = matches.build_spec(game, mcts.GAMES, 'task.game')
    has_points = self.game.aux_targets is not None
    rule = f'no auxiliary targets to learn; task.loss has weights {loss.weights}'
    require('game', game, has_points or not loss.has_aux, rule)
    policy = matches.build_spec(selection, SELECTIONS, 'task.selection')
    with user_errors():
      stride = opponent_pool.env_stride
      self.settings = SelfPlay(policy, search, exploration, resignation, stride, loss.has_aux)
      self.model = models.build(**{**model, 'num_actions': self.game.num_actions})
    for name in AUX_HEADS:
      weight, has = loss.weights[name], model.get(name, False)
      require(f'loss.{name}_weight', weight, weight == 0 or has, f'needs model.{name}=true')
    self.sizes = source_lib.PlaySizes(
      num_envs=num_envs,
      moves_per_step=moves_per_step,
      replay_length=-(-replay.window // num_envs),
      warmup_moves=-(-replay.min_size // num_envs),
      initial_window=replay.initial_window,
      batch_size=data.batch_size,
      snapshot_every=snapshot_every,
      pool_size=opponent_pool.size if stride else 0,
    )
    least = self.game.max_length * num_envs
    rule = f'must be at least {least}, the longest game in each of the {num_envs} environments'
    fits = self.sizes.replay_length >= self.game.max_length
    require('replay.window', replay.window, fits, rule)
    opening, longest = evaluation.opening_moves, self.game.max_length
    rule = f'must be below {longest}, the longest game'
    require('evaluation.opening_moves', opening, opening < longest, rule)
    self.baselines = {
      text.partition('(')[0]: matches.baseline(self.game, text) for text in evaluation.baselines
    }
    self.preview = preview.PREVIEWS.get(game.partition('(')[0].strip(), preview.DEFAULT)
    self.eval_num_simulations = evaluation.num_simulations or search.num_simulations
    self._snapshot: tuple[Any, Any] | None = None

  # -------- what the loop asks for --------

  @property
  def batch_size(self) -> int:
    """Returns the positions of a batch, over all devices."""
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    """Returns what the reported rates count, and how many of it a batch has."""
    return 'positions', self.data.batch_size

  def summary(self) -> str:
    """Returns the table of the network's parameters."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    """Closes the data."""
    self.data.close()

  def init(self, key: Array) -> Variables:
    """Returns fresh variables of the network."""
    planes = jax.eval_shape(lambda: self.game.observe(self.game.init()))
    return self.model.init(key, jnp.zeros((1, *planes.shape)), train=False)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Computes the loss of `loss.loss_terms`; weight decay, the paper's third term, is optax's."""
    extra: Any = {}
    if train:
      mutable = [name for name in variables if name != 'params']
      outputs, extra = self.model.apply(variables, batch['planes'], train=True, mutable=mutable)
    else:
      outputs = self.model.apply(variables, batch['planes'], train=False)
    terms = loss_lib.loss_terms(outputs, batch, self.loss_settings.value_target_mix)
    if self.settings.aux_targets:
      terms |= loss_lib.aux_terms(self.game, outputs[2], batch)
    weights = self.loss_settings.weights
    total = sum(weights.get(name, 1.0) * term for name, term in terms.items())
    examples = {'loss': total, **terms, **loss_lib.example_metrics(outputs, batch)}
    mask = batch['mask']
    weight = mask.sum()
    metrics = {name: (jnp.sum(x * mask), weight) for name, x in examples.items()}
    played = {f'play_{name}': (a.sum(), b.sum()) for name, (a, b) in batch['play'].items()}
    metrics['calibration'] = batch['calibration'][0].sum(), batch['calibration'][1].sum()
    # A search without an answer has the value NaN (`search.decide`): training ends there.
    searched = played['play_search_value'][0]
    total = metrics['loss'][0] + jnp.where(jnp.isfinite(searched), 0.0, jnp.nan)
    metrics['loss'] = total, weight
    return total / jnp.maximum(weight, 1e-9), (extra, {**metrics, **played})

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the source that plays; raises UserError where devices cannot share environments."""
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; evals plays matches')
    shards, num_envs = mesh_lib.batch_shards(mesh), self.sizes.num_envs
    rule = f'must be a multiple of {shards}, the devices on the batch axes'
    require('num_envs', num_envs, num_envs % shards == 0, rule)
    stride, each = self.settings.opponent_stride, num_envs // shards
    rule = f'must divide {each}, the environments of each device'
    require('opponent_pool.env_stride', stride, not stride or each % stride == 0, rule)
    abstract = dict(jax.eval_shape(lambda: self.init(jax.random.key(0))))

    def on_snapshot(snapshot: Any, step: Any) -> None:
      self._snapshot = snapshot, step

    gate = None
    if self.gate.threshold:
      match = self._match(mesh, self.player, self.player, self.gate.num_games)
      gate = source_lib.Gate(match, self.gate.every, self.gate.threshold)
    return source_lib.PlaySource(
      self.game, self.settings, self.sizes, self.apply, abstract, mesh, on_snapshot, gate
    )

  # -------- the network as a player --------

  def apply(self, variables: Variables, planes: Array) -> tuple[Array, Array]:
    """Returns logits `[B, A]` and values `[B]`, with running batch statistics."""
    outputs: Any = self.model.apply(variables, planes, train=False)
    return outputs[:2]

  def evaluator(self, variables: Variables, game: Game | None = None) -> Evaluate:
    """Returns the network as an evaluator; game: one with other rules on the same board."""
    return evaluators.network(game or self.game, functools.partial(self.apply, variables))

  def player(self, variables: Variables, num_simulations: int = 0) -> Player:
    """Returns the player of matches: its search has no noise and its best move is played.

    Args:
      variables: of the network.
      num_simulations: of its search; 0 for `evaluation.num_simulations`.
    """
    decide = self.decider(variables, num_simulations)
    return lambda states, keys: decide(states, keys).action

  def decider(
    self, variables: Variables, num_simulations: int = 0
  ) -> Callable[[Any, Array], PolicyOutput]:
    """Returns (states, keys) -> what that player's search says."""
    simulations = num_simulations or self.eval_num_simulations
    selection, evaluate = self.settings.selection.without_noise(), self.evaluator(variables)
    return players.search_decider(self.game, evaluate, selection, simulations)

  def raw_player(self, variables: Variables) -> Player:
    """Returns the player of the network's likeliest move, without search."""
    return players.policy_player(self.game, self.evaluator(variables))

  # -------- evaluations --------

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns matches and measurements by name.

    Each baseline by its name, 'raw' (no search, against random play), 'past' (against the last
    snapshot), and where asked for 'lines', 'solved' and 'time'.
    """
    match = functools.partial(self._match, mesh, games=self.evaluation.num_games)
    found: dict[str, Evaluation] = {
      name: _shares(match(self.player, _always(baseline)))
      for name, baseline in self.baselines.items()
    }
    found['raw'] = _shares(match(self.raw_player, _always(matches.random(self.game))))
    found['past'] = functools.partial(self._against_snapshot, match(self.player, self.player))
    if self.evaluation.all_lines:
      found['lines'] = matches.all_lines(self.game, self.raw_player)
    if self.evaluation.solved_positions:
      positions = matches.SolvedPositions(self.game, self.evaluation.solved_positions)
      found['solved'] = positions.measure(self.raw_player)
    if self.evaluation.timings:
      found['time'] = self._timings(mesh_lib.batch_shards(mesh))
    return found

  def _timings(self, shards: int) -> timing.StepTimings:
    def gradients(variables: Variables, planes: Array) -> Any:
      def total(params: Any) -> Array:
        logits, values = self.apply({**variables, 'params': params}, planes)
        return logits.sum() + values.sum()

      return jax.grad(total)(variables['params'])

    sizes = self.sizes
    each = sizes.num_envs // shards, sizes.batch_size // shards, sizes.moves_per_step
    return timing.StepTimings(self.game, self.settings, self.apply, gradients, *each)

  def _match(
    self, mesh: Mesh, first: matches.Maker, second: matches.Maker, games: int
  ) -> matches.Match:
    """Returns a match between two players, each made of variables."""
    opening = self.evaluation.opening_moves
    return matches.Match(self.game, first, second, mesh, games, opening)

  def _against_snapshot(self, match: matches.Match, variables: Variables) -> Mapping[str, float]:
    """Returns Elo over the last snapshot; nothing where no training is going on."""
    if self._snapshot is None:
      return {}
    snapshot, step = self._snapshot
    return {**matches.rating(match(variables, snapshot)), 'step': float(step)}

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Evaluates one run by the matches of `evals`, for the verb eval."""
    if len(members) > 1:
      raise UserError(f'{len(members)} workdirs: networks of self-play are evaluated one by one')
    with mesh_lib.activate(mesh):
      return evaluate(self.evals(mesh), members[0]), {}, {}

  def draw(self, variables: Variables, key: Array) -> dict[str, bytes]:
    """Returns the files of `preview`: a game of the network against itself, and its first move."""
    if not self.evaluation.preview:
      return {}
    record, policy = (program(variables, key) for program in self._preview_programs)
    files = self.preview.game(self.game, record)
    return {**files, **self.preview.first_move(self.game, np.asarray(policy))}

  @functools.cached_property
  def _preview_programs(self) -> tuple[Callable, Callable]:
    record = preview.recorder(self.game, self.player)
    return record, preview.first_move(self.game, self.decider)


def _always(player: Player) -> matches.Maker:
  return lambda variables: player


def _shares(match: matches.Match) -> Evaluation:
  return lambda variables: matches.shares(match(variables))
