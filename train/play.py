"""Opens a run as a Go engine, for the verbs play and match."""

import os
from typing import Any

from mcts.engines import SearchEngine
from mcts.go import Go
from mcts.match import contestants
from mcts.match.contestants import Contestant, EngineContestant
from mcts.search.evaluators import Evaluate
from train.config import UserError


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
  from train import verbs  # which imports all tasks: not for a match without runs

  run = verbs.load_run(workdir, step)
  run.task.close()
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
