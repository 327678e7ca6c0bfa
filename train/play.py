"""The verbs play and match: runs as Go engines, GTP, and other games by hand in the terminal."""

import dataclasses
import os
from collections.abc import Collection, Mapping
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
    return task.evaluator(run.variables, other)

  name = os.path.basename(os.path.normpath(workdir))
  return SearchEngine(evaluator, name, sizes=(game.size,), **options)


def contestant(spec: str, **options: Any) -> Contestant:
  """Returns the contestant of 'WORKDIR', 'WORKDIR:400' or 'WORKDIR:num_simulations=400'.

  Args:
    spec: a run's folder, or whatever else `contestants.from_spec` takes.
    **options: for an engine, unless the text says otherwise.

  Raises:
    UserError: for a run that cannot play Go, and for options that an engine does not have.
    ValueError: for what is neither a run, an engine nor a program.
  """
  workdir, _, text = spec.partition(':')
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return contestants.from_spec(spec, **options)
  try:
    engine = load_engine(workdir, **{**options, **contestants.parse_options(spec, text)})
  except TypeError as error:
    raise UserError(f'player {spec!r}: {error}') from error
  engine.name = spec
  return EngineContestant(engine)


@dataclasses.dataclass(frozen=True)
class BoardOptions:
  """The rules of Go that the command line says.

  Attributes:
    size: of the board; None for 9, or the largest that all players know.
    komi, superko, suicide: as of `RuleSet`.
  """

  size: int | None
  komi: float
  superko: str
  suicide: bool

  def rules(self, *sizes: Collection[int]) -> RuleSet:
    """Returns the rules, on a board of the given size or else of one in all `sizes`."""
    known = set(sizes[0]).intersection(*sizes)
    size = self.size or (9 if 9 in known else max(known, default=9))
    return RuleSet(size, self.komi, self.superko, self.suicide)


def play(
  workdir: str | None,
  step: int | str,
  board: BoardOptions,
  *,
  game: str | None,
  engine: str,
  resign: float,
  search: Mapping[str, Any],
) -> None:
  """Plays Go by GTP on stdin and stdout, or another game by hand in the terminal.

  Args:
    workdir: a run, whose game and network are played; None for a search without a network.
    step: of the run's checkpoint.
    board: the rules of Go.
    game: of `mcts.GAMES`, to be played by hand; None for the run's, or Go by GTP.
    engine: of `mcts.engines.ENGINES`, for Go without a workdir.
    resign: the chance to win below which the engine resigns.
    search: seed, num_simulations and num_parallel_leaves of the search.
  """
  if workdir is not None and game is not None:
    raise UserError(
      f'--game={game}: the run in --workdir={workdir} says which game; give one of them'
    )
  _check_names(engine, game)
  hand = {name: search[name] for name in ('seed', 'num_simulations')}
  if workdir is None and game is not None:
    by_hand.by_hand_against_rollouts(game, **hand)
    return
  if workdir is None:
    player: Engine = engines.make(engine, **search)
  else:
    run = verbs.load_run(workdir, step)
    run.task.close()
    name = run.config['task'].get('game', 'go')
    if run.config['task']['name'] == 'selfplay' and not name.startswith('go'):
      task: Any = run.task
      by_hand.by_hand(task, run.variables, **hand)
      return
    player = engine_of(run, workdir, **search)
  server.play(player, board.rules(player.sizes), resign_threshold=resign)


def _check_names(engine: str, game: str | None) -> None:
  """Raises UserError for an engine or a game that is none of ours."""
  if engine not in engines.ENGINES:
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
  conditions = MatchTerms(
    board.rules(ours.sizes, theirs.sizes),
    Openings(terms['opening'], terms['seed']),
    TimeLimits(clock.parse(terms['time']), terms['timeout']),
  )
  arena.match(ours, theirs, conditions, num_games=terms['games'], sprt=sprt, workdir=workdir)
