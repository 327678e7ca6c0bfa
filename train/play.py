"""The verbs play and match: runs as Go engines, GTP, and other games by hand in the terminal."""

import dataclasses
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import mcts
from mcts import engines
from mcts.engines import Engine, RuleSet, SearchEngine, clock
from mcts.go import Go
from mcts.gtp import server
from mcts.match import arena, contestants
from mcts.match.contestants import Contestant, EngineContestant
from mcts.match.terms import MatchTerms, Openings, TimeLimits
from mcts.search.evaluators import Evaluate
from train import verbs
from train.errors import UserError, unknown
from train.tasks.selfplay import play as by_hand

LEARNT = ('komi', 'superko', 'suicide')  # rules that a network's values depend on


def load_engine(workdir: str, step: int | str = 'latest', **options: Any) -> SearchEngine:
  """Returns an engine that searches with the network of a run.

  Args:
    workdir: of a run whose task has learnt Go; the engine plays on boards of its size, under
      whatever other rules.
    step: the checkpoint, 'latest', 'best' or a number.
    **options: of `SearchEngine`.

  Raises:
    UserError: for a run of another game or task.
  """
  run = verbs.load_run(workdir, step)
  run.task.close()
  return engine_of(run, workdir, **options)


def engine_of(run: verbs.Run, workdir: str, **options: Any) -> SearchEngine:
  """Returns an engine that searches with the network of an opened run, as `load_engine`."""
  task: Any = run.task
  game = getattr(task, 'game', None)
  if not isinstance(game, Go):
    name = run.config['task']['name']
    raise UserError(f'{workdir}: a run of task {name}; to play, it must be of one that learns Go')

  def evaluator(other: Go) -> Evaluate:
    # Under other rules the network still sees as many past boards as it was trained on.
    rules = other.rules
    seen = Go(other.size, rules.superko, rules.suicide, rules.max_moves, history=game.rules.history)
    return task.evaluator(run.variables, seen)

  name = os.path.basename(os.path.normpath(workdir))
  trained = None if getattr(task, 'from_records', False) else RuleSet.of(game)
  return SearchEngine(evaluator, name, sizes=(game.size,), trained=trained, **options)


def contestant(spec: str, **options: Any) -> Contestant:
  """Returns the contestant of 'WORKDIR', 'WORKDIR:400' or 'WORKDIR:num_simulations=400'.

  Args:
    spec: a run's folder, or whatever else `contestants.from_spec` takes.
    **options: for an engine, unless the text says otherwise.

  Raises:
    UserError: for a run that cannot play Go.
    ValueError: for options that an engine does not have, and for what is neither a run, an engine
      nor a program.
  """
  workdir, _, text = spec.partition(':')
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return contestants.from_spec(spec, **options)
  engine = load_engine(workdir, **{**options, **contestants.parse_options(spec, text)})
  engine.name = spec
  return EngineContestant(engine)


@dataclasses.dataclass(frozen=True)
class BoardOptions:
  """The rules of Go that the command line says; None for what it does not say.

  Attributes:
    size: of the board; by default 9, or the largest that all players know.
    komi, superko, suicide: as of `RuleSet`; by default those that the players' networks were
      trained with.
  """

  size: int | None = None
  komi: float | None = None
  superko: str | None = None
  suicide: bool | None = None

  def rules(self, sizes: Sequence[Collection[int]], trained: Sequence[RuleSet | None]) -> RuleSet:
    """Returns the rules of a game.

    Args:
      sizes: of the boards that each player knows.
      trained: the rules of the games that each player has learnt from, None where not known.

    Raises:
      UserError: networks were trained with different rules, and the command line says neither.
    """
    known = set(sizes[0]).intersection(*sizes)
    size = 9 if 9 in known else max(known, default=9)
    size = size if self.size is None else self.size
    return RuleSet(size, **{name: self._rule(name, trained) for name in LEARNT})

  def _rule(self, name: str, trained: Sequence[RuleSet | None]) -> Any:
    given = getattr(self, name)
    learnt = {getattr(rules, name) for rules in trained if rules is not None}
    if given is None and len(learnt) > 1:
      both = ' and '.join(map(str, sorted(learnt)))
      raise UserError(f'--{name}: the networks were trained with {both}; give the one to play by')
    return next(iter(learnt or {getattr(RuleSet, name)})) if given is None else given

  def check_unused(self, game: str) -> None:
    """Raises UserError if anything is given, for a game by hand, which has its own rules."""
    for field in dataclasses.fields(self):
      if getattr(self, field.name) is not None:
        raise UserError(
          f'--{field.name}: has no effect on {game}; it is for Go by GTP. A game by hand says its'
          ' rules itself, as in --game="go(size=5, komi=0.5)"'
        )


def play(
  workdir: str | None,
  step: int | str,
  board: BoardOptions,
  *,
  game: str | None,
  engine: str | None,
  resign: float,
  search: Mapping[str, Any],
) -> None:
  """Plays Go by GTP on stdin and stdout, or another game by hand in the terminal.

  Args:
    workdir: a run, whose game and network are played; None for a search without a network.
    step: of the run's checkpoint.
    board: the rules of Go.
    game: of `mcts.GAMES`, to be played by hand; None for the run's, or Go by GTP.
    engine: of `mcts.engines.ENGINES`, for Go without a workdir; None for 'rollout'.
    resign: the chance to win below which the engine resigns.
    search: seed, num_simulations and num_parallel_leaves of the search.
  """
  if workdir is not None and game is not None:
    raise UserError(
      f'--game={game}: the run in --workdir={workdir} says which game; give one of them'
    )
  if engine is not None and (workdir is not None or game is not None):
    raise UserError(f'--engine={engine}: has no effect with --workdir or --game; leave it out')
  _check_names(engine, game)
  hand = {name: search[name] for name in ('seed', 'num_simulations')}
  if workdir is None and game is not None:
    board.check_unused(game)
    by_hand.by_hand_against_rollouts(game, **hand)
    return
  if workdir is None:
    player: Engine = engines.make(engine or 'rollout', **search)
  else:
    run = verbs.load_run(workdir, step)
    run.task.close()
    name = run.config['task'].get('game', 'go')
    if run.config['task']['name'] == 'selfplay' and not name.startswith('go'):
      task: Any = run.task
      board.check_unused(name)
      by_hand.by_hand(task, run.variables, **hand)
      return
    player = engine_of(run, workdir, **search)
  rules = board.rules([player.sizes], [player.trained])
  server.play(player, rules, resign_threshold=resign)


def _check_names(engine: str | None, game: str | None) -> None:
  """Raises UserError for an engine or a game that is none of ours."""
  if engine is not None and engine not in engines.ENGINES:
    raise unknown(f'--engine={engine}', engine, 'no such engine', engines.ENGINES)
  if game is not None and (name := game.partition('(')[0]) not in mcts.GAMES:
    raise unknown(f'--game={game}', name, 'no such game', mcts.GAMES)


def match(
  first: str,
  second: str,
  board: BoardOptions,
  *,
  workdir: str | None,
  terms: Mapping[str, Any],
  search: Mapping[str, Any],
  sprt: tuple[float, float] | None,
) -> None:
  """Plays a match of two engines, runs or programs.

  Args:
    first: an engine, a run or a GTP command line, as `contestant` takes it.
    second: its opponent.
    board: the rules.
    workdir: where the records of the games go.
    terms: games, opening, seed, time and timeout.
    search: num_simulations and num_parallel_leaves, unless a player's text says otherwise.
    sprt: bounds of the sequential test that ends the match.
  """
  ours, theirs = (contestant(spec, **search) for spec in (first, second))
  networks = [player.engine for player in (ours, theirs) if player.engine is not None]
  rules = board.rules([ours.sizes, theirs.sizes], [network.trained for network in networks])
  for network in networks:
    if network.trained is not None:
      for text in network.trained.differences(rules):
        print(f'{network.name}: this match has {text} as its training', file=sys.stderr)
  conditions = MatchTerms(
    rules,
    Openings(terms['opening'], terms['seed']),
    TimeLimits(clock.parse(terms['time']), terms['timeout']),
  )
  arena.match(ours, theirs, conditions, num_games=terms['games'], sprt=sprt, workdir=workdir)
