"""Leela Zero's networks as runs of AlphaGo Zero, and such runs' networks for leelaz."""

import os
from collections.abc import Mapping
from typing import Any

from mcts.go import Go
from models.alphazero import PolicyValue
from models.weights import leelaz
from models.weights.files import Files
from train import errors, verbs
from train.convert.format import Converted
from train.errors import UserError

# The config of an imported workdir, but for its network and its game: self-play goes on from it.
DEFAULTS: Mapping[str, Any] = {
  'data': {'name': 'selfplay', 'batch_size': 64},
  'optimizer': {'name': 'sgd', 'learning_rate': 1e-3, 'momentum': 0.9, 'weight_decay': 1e-4},
  'train': {'steps': 1_000, 'log_every': 10, 'eval_every': 0},
  'paper': {'title': 'imported weights', 'metric': 'past/share'},
}
SELF_PLAY: Mapping[str, Any] = {
  'name': 'selfplay',
  'num_envs': 16,
  'selection': 'puct(dirichlet_fraction=0.25, dirichlet_alpha=0.03)',
  'search': {'num_simulations': 400},
  'exploration': {'temperature_moves': 30},
  'evaluation': {'num_games': 2, 'num_simulations': 400, 'preview': False},
}


def is_leelaz(files: Files) -> bool:
  """Returns whether it is a network in Leela Zero's text format, gzipped or not."""
  return leelaz.recognises(files.path)


def from_leelaz(files: Files) -> Converted:
  """Returns a network of Leela Zero as a run of self-play, by the rules that it was trained with.

  Area scoring, komi 7.5, positional superko, no suicide: `Go`'s defaults.
  """
  model, size, variables = leelaz.from_leelaz(files.path)
  names = ('blocks', 'channels', *leelaz.LEELAZ_HEADS, 'white_plane', 'black_value')
  section = {'name': 'policy_value', **{name: getattr(model, name) for name in names}}
  replay = {'window': 16 * Go(size).max_length}
  task = {**SELF_PLAY, 'game': f'go(size={size}, komi=7.5)', 'replay': replay}
  summary = f'{model.blocks} blocks of {model.channels} channels for {size} x {size}'
  return Converted({**DEFAULTS, 'task': task, 'model': section}, variables, summary)


def export_leelaz(workdir: str, path: str, step: int | str = 'latest') -> None:
  """Writes a workdir's network (averaged where kept) as a file that leelaz plays.

  Args:
    workdir: of a run of self-play on Go.
    path: a new file; gzipped if its name ends in '.gz'.
    step: the checkpoint's, or 'latest', 'best'.

  Raises:
    UserError: the file exists, or the run has no network that leelaz could play.
  """
  if os.path.exists(path):
    raise UserError(f'{path}: exists already; give a new file')
  name = verbs.read_config(workdir)['task']['name']
  if name != 'selfplay':
    raise UserError(f'{workdir}: task.name={name!r}; only networks of self-play are exported')
  run = verbs.load_run(workdir, step)
  task: Any = run.task
  if not isinstance(task.game, Go):
    raise UserError(f'{workdir}: task.game={task.game.name}; leelaz plays Go alone')
  with errors.user_errors():
    version, arrays = leelaz.to_leelaz(task.model, task.game.size, run.variables)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    leelaz.write(path, arrays, version)
  for line in left_out(task.game, task.model):
    print(f'{path}: {line}')
  print(f'{path}: step {run.step} of {workdir}, for leelaz')


def left_out(game: Go, model: PolicyValue) -> list[str]:
  """Returns what of a run a file cannot say, or leelaz does not play by."""
  lines = []
  if game.size != leelaz.LEELAZ_SIZE:
    lines.append(
      f'is for {game.size} x {game.size}; leelaz plays it if it was compiled with that BOARD_SIZE'
    )
  if heads := [name for name in ('ownership', 'score') if getattr(model, name)]:
    lines.append(f'the format has no heads of {" and ".join(heads)}; they are left out')
  return lines
