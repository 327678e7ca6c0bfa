"""Go engines of runs: what the verbs play and match make of a workdir."""

import os
from collections.abc import Mapping
from typing import Any

from mcts import engines
from mcts.engines import Engine, Search
from mcts.go import SIZES, Go
from mcts.gtp import server
from mcts.match import arena
from mcts.search.evaluators import Evaluate
from train.config import UserError


def engine(workdir: str, step: int | str = 'latest', **options: Any) -> Search:
  """A search with the network of a run; options as for `Search`.

  Raises UserError for a run whose task knows no Go.
  """
  from train import verbs  # all tasks: not for a match without runs

  run = verbs.load_run(workdir, step)
  run.task.close()
  task: Any = run.task
  game: Any = getattr(task, 'game', None)
  plays_go = isinstance(game, Go)
  if not plays_go:
    name = run.config['task']['name']
    raise UserError(f'{workdir}: a run of task {name}; to play, it must be of one that learns Go')

  def evaluator(other: Go) -> Evaluate:
    return task.evaluator(run.variables, other)

  name = os.path.basename(os.path.normpath(workdir))
  return Search(evaluator, name, sizes=(game.size,), **options)


def player(spec: str, **options: Any) -> str | Engine:
  """The engine of 'WORKDIR', 'WORKDIR:400' or 'WORKDIR:simulations=400'; what is no run, as it is.

  options: for the engine, unless the text says otherwise.
  """
  workdir, _, text = spec.partition(':')
  if not os.path.exists(os.path.join(workdir, 'config.json')):
    return spec
  try:
    made = engine(workdir, **{**options, **arena.options_of(spec, text)})
  except TypeError as error:
    raise UserError(f'player {spec!r}: {error}') from error
  made.name = spec
  return made


def play(
  workdir: str | None,
  step: int | str,
  *,
  name: str,
  size: int | None,
  resign: float,
  rules: Mapping[str, Any],
  search: Mapping[str, Any],
) -> None:
  """Plays Go by GTP on stdin and stdout: a run's network, or a named engine without a workdir."""
  chosen: Engine
  if workdir is None:
    chosen = engines.make(name, **search)
  else:
    chosen = engine(workdir, step, **search)
  server.play(chosen, **rules, size=board_size(size, chosen), resign=resign)


def match(
  first: str,
  second: str,
  *,
  workdir: str | None,
  sprt: tuple[float, float] | None,
  size: int | None,
  terms: Mapping[str, Any],
  search: Mapping[str, Any],
) -> None:
  """Plays a match of two engines, runs or programs; see `mcts.match.arena.match`."""
  ours, theirs = player(first, **search), player(second, **search)
  size = board_size(size, ours, theirs)
  arena.match(ours, theirs, **terms, size=size, sprt=sprt, workdir=workdir, **search)


def board_size(wanted: int | None, *players: Any) -> int:
  """Returns the size that the user wants, else 9, or the largest that all players know."""
  known = set(SIZES).intersection(*(getattr(player, 'sizes', SIZES) for player in players))
  return wanted or (9 if 9 in known else max(known, default=9))
