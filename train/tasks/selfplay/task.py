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
from data import spec
from data.selfplay import SelfPlayData
from mcts.engines import Player, players
from mcts.game import Game
from mcts.search import evaluators
from mcts.search.evaluators import Evaluate
from mcts.search.policies import Decision, Gumbel, Puct, Rule
from mcts.selfplay.actor import SelfPlay, quiet
from mcts.selfplay.resignation import Resignation
from train import config as config_lib
from train import mesh as mesh_lib
from train.config import UserError, user_errors
from train.task import Batch, Evaluation, Metrics, Source, Variables, evaluate
from train.tasks import matches
from train.tasks.selfplay import loss as loss_lib
from train.tasks.selfplay import preview, timing
from train.tasks.selfplay import source as source_lib

RULES: Mapping[str, Callable[..., Rule]] = {'puct': Puct, 'gumbel': Gumbel}


class SelfPlayTask:
  """The task `selfplay`. Specs such as 'go(size=9)' choose from a table and change its defaults.

  game: of `mcts.GAMES`. slots: games at a time, over all devices; moves: that each makes for a
    training step. simulations, rule ('puct' or 'gumbel', of `mcts.search.policies`),
    temperature_moves, temperature, random_moves, wander, full, fast, reuse, symmetries: see
    `mcts.selfplay.actor.SelfPlay`.
  played_out: the share of games that nobody gives up, 0 for no resignation at all; wrong: the
    largest share of games given up that were not lost.
  window: positions that are kept, over all slots; window_start: as many are drawn from at first
    (Wu 2019, appendix C), 0 for all that there are. minimum: positions played before training.
  value_mix: the share of the search's value in the target of the value, the rest is the outcome.
  value_weight, ownership_weight, score_weight: of their losses; the last two are for Go and for a
    network with those heads.
  gate: the share of points in a match of `gate_games` above which the newest network replaces the
    one that plays, every `gate_every` steps (`source.Gate`); 0: the newest always plays.
  rivals: see `mcts.selfplay.actor.SelfPlay`; pool: how many past selves these are drawn from, one
    more each `past_every` steps.
  anchors: of `matches.ANCHORS`, players to be rated against. match_games: in each match;
    match_simulations: of the network in them, 0 for as many as in training; opening: random moves
    that both games of a pair begin with; past_every: steps after which the network as it is becomes
    the opponent of later evaluations. lines: count all lines of play (for tic-tac-toe). solved: a
    file of solved positions (`mcts.games.connect_four_solver`) for the network without search.
  shown: whether each evaluation shows a game, and what the search thinks of the first move. parts:
    whether it says where the time goes, by programs of its own (`timing.Parts`).
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: SelfPlayData,
    *,
    game: str = 'tictactoe',
    slots: int = 64,
    moves: int = 1,
    simulations: int = 32,
    rule: str = 'gumbel',
    temperature_moves: int = 0,
    temperature: float = 1.0,
    random_moves: int = 0,
    wander: float = 0.0,
    full: float = 1.0,
    fast: int = 0,
    reuse: bool = False,
    symmetries: bool = False,
    played_out: float = 0.0,
    wrong: float = 0.05,
    window: int = 50_000,
    window_start: int = 0,
    minimum: int = 1_000,
    value_mix: float = 0.0,
    value_weight: float = 1.0,
    ownership_weight: float = 0.0,
    score_weight: float = 0.0,
    gate: float = 0.0,
    gate_games: int = 400,
    gate_every: int = 1_000,
    rivals: int = 0,
    pool: int = 8,
    anchors: tuple[str, ...] = ('random',),
    match_games: int = 100,
    match_simulations: int = 0,
    opening: int = 2,
    past_every: int = 1_000,
    lines: bool = False,
    solved: str = '',
    shown: bool = True,
    parts: bool = False,
  ):
    for name, value, least in (
      *(('slots', slots, 1), ('moves', moves, 1), ('match_games', match_games, 2)),
      *(('minimum', minimum, 0), ('opening', opening, 0), ('past_every', past_every, 1)),
      *(('match_simulations', match_simulations, 0), ('window_start', window_start, 0)),
      *(('gate_games', gate_games, 2), ('gate_every', gate_every, 1), ('pool', pool, 1)),
    ):
      _require(name, value, value >= least, f'must be at least {least}')
    _require('value_mix', value_mix, 0 <= value_mix <= 1, 'must be in [0, 1]')
    rule_of_wandering = 'needs task.value_mix=1.0: who wins says nothing after random moves'
    _require('wander', wander, not wander or value_mix == 1, rule_of_wandering)
    _require('gate', gate, 0 <= gate < 1, 'must be in [0, 1), a share of points')
    self.data = data
    self.game = build(game, mcts.GAMES, 'game')
    self.rule: Rule = build(rule, RULES, 'rule')
    self.value_mix, self.weights = value_mix, {'value': value_weight}
    self.weights |= {'ownership': ownership_weight, 'score': score_weight}
    ends = ownership_weight > 0 or score_weight > 0
    _require('game', game, not ends or hasattr(self.game, 'score'), 'only Go has points to learn')
    with user_errors():
      self.settings = SelfPlay(
        simulations=simulations,
        rule=self.rule,
        temperature_moves=temperature_moves,
        temperature=temperature,
        random_moves=random_moves,
        wander=wander,
        resign=Resignation(wrong, played_out),
        full=full,
        fast=fast,
        reuse=reuse,
        symmetries=symmetries,
        rivals=rivals,
        ends=ends,
      )
      self.model = models.build(**{**model, 'num_actions': self.game.num_actions})
    self._check_heads()
    self.amounts = source_lib.Amounts(
      slots=slots,
      moves=moves,
      length=-(-window // slots),
      warmup=-(-minimum // slots),
      window=window_start,
      batch=data.batch_size,
      past=past_every,
      pool=pool if rivals else 0,
    )
    longest = longest_game(self.game)
    rule_of_window = f'must be at least {longest * slots}, the longest game in each of the slots'
    _require('window', window, self.amounts.length >= longest, rule_of_window)
    self.anchors = {text.partition('(')[0]: matches.anchor(self.game, text) for text in anchors}
    self.gate, self.gate_games, self.gate_every = gate, gate_games, gate_every
    self.match_games, self.opening = match_games, opening
    self.match_simulations = match_simulations or simulations
    self.with_lines, self.shown, self.with_parts = lines, shown, parts
    self.solved = solved
    self._past: tuple[Any, Any] | None = None
    self._show: tuple[Callable, Callable] | None = None

  def _check_heads(self) -> None:
    for name in ('ownership', 'score'):
      wanted, has = self.weights[name] > 0, getattr(self.model, name, False)
      _require(f'{name}_weight', self.weights[name], not wanted or has, f'needs model.{name}=true')

  # -------- what the loop asks for --------

  @property
  def batch_size(self) -> int:
    return self.data.batch_size

  @property
  def throughput(self) -> tuple[str, int]:
    return 'positions', self.data.batch_size

  def summary(self) -> str:
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    self.data.close()

  def init(self, key: Array) -> Variables:
    planes = jax.eval_shape(lambda: self.game.observe(self.game.init()))
    return self.model.init(key, jnp.zeros((1, *planes.shape)), train=False)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """See `zero_loss`; weight decay, the third term there, is the optimiser's."""
    extra: Any = {}
    if train:
      mutable = [name for name in variables if name != 'params']
      outputs, extra = self.model.apply(variables, batch['planes'], train=True, mutable=mutable)
    else:
      outputs = self.model.apply(variables, batch['planes'], train=False)
    terms = loss_lib.terms(outputs, batch, self.value_mix)
    if self.settings.ends:
      terms |= loss_lib.end_terms(self.game, outputs[2], batch)
    total = sum(self.weights.get(name, 1.0) * term for name, term in terms.items())
    figures = {'loss': total, **terms, **loss_lib.figures(outputs, batch)}
    mask = batch['mask']
    weight = jnp.maximum(mask.sum(), 1)
    metrics = {name: (jnp.sum(x * mask), weight) for name, x in figures.items()}
    error = loss_lib.calibration_error(batch['value'], batch['outcome'], mask)
    metrics['calibration'] = (error, jnp.ones(()))
    played = {name: (a.sum(), b.sum()) for name, (a, b) in batch['play'].items()}
    played = {f'play_{name}': pair for name, pair in played.items()}
    return metrics['loss'][0] / weight, (extra, {**metrics, **played})

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    if split != 'train':
      raise ValueError(f'split {split!r}: only train is a stream; evals plays matches')
    shards = mesh_lib.batch_shards(mesh)
    rule = f'must be a multiple of {shards}, the devices on the batch axes'
    _require('slots', self.amounts.slots, self.amounts.slots % shards == 0, rule)
    rivals, each = self.settings.rivals, self.amounts.slots // shards
    rule = f'must divide {each}, the slots of each device'
    _require('rivals', rivals, not rivals or each % rivals == 0, rule)
    abstract = dict(jax.eval_shape(self.init, jax.random.key(0)))

    def seen(past: Any, step: Any) -> None:
      self._past = past, step

    gate = None
    if self.gate:
      match = self._match(mesh)(self.player, self.player, games=self.gate_games)
      gate = source_lib.Gate(match, self.gate_every, self.gate)
    return source_lib.PlaySource(
      self.game, self.settings, self.amounts, self.apply, abstract, mesh, seen, gate
    )

  # -------- the network as others know it --------

  def apply(self, variables: Variables, planes: Array) -> tuple[Array, Array]:
    """Logits `[B, A]` and values `[B]` by running statistics."""
    outputs: Any = self.model.apply(variables, planes, train=False)
    return outputs[:2]

  def evaluator(self, variables: Variables, game: Game | None = None) -> Evaluate:
    """game: one with other rules than in training, on the same board."""
    return evaluators.network(game or self.game, functools.partial(self.apply, variables))

  def player(self, variables: Variables) -> Player:
    """As in matches: it searches, and draws nothing."""
    decide = self.decider(variables)
    return lambda states, keys: decide(states, keys).action

  def decider(self, variables: Variables) -> Callable[[Any, Array], Decision]:
    rule, simulations = quiet(self.rule), self.match_simulations
    return players.search_decider(self.game, self.evaluator(variables), rule, simulations)

  def raw(self, variables: Variables) -> Player:
    """The network without search."""
    return players.policy_player(self.game, self.evaluator(variables))

  # -------- evaluations --------

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Each anchor by its name, 'raw' (no search, against random), 'past', 'lines', 'solved'."""
    match = self._match(mesh)
    found: dict[str, Evaluation] = {
      name: _rated(match(self.player, _always(anchor))) for name, anchor in self.anchors.items()
    }
    found['raw'] = _rated(match(self.raw, _always(matches.random(self.game))))
    past = match(self.player, self.player)
    found['past'] = functools.partial(self._against_past, past)
    if self.with_lines:
      found['lines'] = matches.lines(self.game, self.raw)
    if self.solved:
      found['solved'] = matches.Solved(self.game, self.solved).measure(self.raw)
    if self.with_parts:
      found['time'] = self._parts(mesh_lib.batch_shards(mesh))
    return found

  def _parts(self, shards: int) -> timing.Parts:
    def learn(variables: Variables, planes: Array) -> Any:
      def total(params: Any) -> Array:
        logits, values = self.apply({**variables, 'params': params}, planes)
        return logits.sum() + values.sum()

      return jax.grad(total)(variables['params'])

    amounts = self.amounts
    each = amounts.slots // shards, amounts.batch // shards, amounts.moves
    return timing.Parts(self.game, self.settings, self.apply, learn, *each)

  def _match(self, mesh: Mesh) -> Callable[..., matches.Match]:
    """Of two makers of players."""
    return functools.partial(
      matches.Match, self.game, mesh=mesh, games=self.match_games, opening=self.opening
    )

  def _against_past(self, match: matches.Match, variables: Variables) -> Mapping[str, float]:
    """Elo over the network of `past_step`; nothing where no training is going on."""
    if self._past is None:
      return {}
    past, step = self._past
    return {**matches.rating(match(variables, past)), 'step': float(step)}

  def examine(
    self, members: Sequence[Variables], mesh: Mesh
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """The verb eval: the matches of `evals`."""
    if len(members) > 1:
      raise UserError(f'{len(members)} workdirs: networks of self-play are evaluated one by one')
    with mesh_lib.activate(mesh):
      return evaluate(self.evals(mesh), members[0]), {}, {}

  def draw(self, variables: Variables, key: Array) -> dict[str, bytes]:
    """A game of the network against itself: 'game.sgf' and 'game.png' of Go, else 'game.txt'."""
    if not self.shown:
      return {}
    if self._show is None:
      record = preview.recorder(self.game, self.player, longest_game(self.game))
      self._show = record, preview.first_move(self.game, self.decider)
    game, first = (show(variables, key) for show in self._show)
    return {**preview.files(self.game, game), **preview.map_of(self.game, np.asarray(first))}


def _always(player: Player) -> matches.Maker:
  return lambda variables: player


def _rated(match: matches.Match) -> Evaluation:
  return lambda variables: matches.shares(match(variables))


def longest_game(game: Any) -> int:
  """The most moves that a game may last."""
  if hasattr(game, 'rules'):
    return game.rules.max_moves
  return int(np.prod(jax.eval_shape(lambda: game.observe(game.init())).shape[:2]))


# -------- building --------


def build(text: str, table: Mapping[str, Callable], key: str) -> Any:
  """What a spec such as 'puct(fraction=0.25)' says, of a table."""
  with user_errors():
    where = f'task.{key}'
    return config_lib.build(spec.section(text, where), table, where)


def _require(key: str, value: Any, holds: bool, rule: str) -> None:
  if not holds:
    raise UserError(f'task.{key}={value!r}: {rule}')
