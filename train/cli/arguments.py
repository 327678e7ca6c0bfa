"""Reads the text of an option; a UserError says which texts mean something."""

import os
import pathlib
import re
from collections.abc import Sequence

from train.cli import usage
from train.errors import UserError, unknown
from train.workdir import folder

CONFIGS = str(pathlib.Path(__file__).parents[2] / 'configs')


def checkpoint(text: str) -> str | int:
  """Reads --step: 'latest', 'best' or a number."""
  if text in ('best', 'latest'):
    return text
  if not text.isdigit():
    raise UserError(f'--step={text}: must be best, latest or the number of a step')
  return int(text)


def steps(text: str | None) -> tuple[int, int] | None:
  """Reads --profile: START:STOP."""
  if text is None:
    return None
  match = re.fullmatch(r'(\d+):(\d+)', text)
  if not match or int(match[1]) >= int(match[2]):
    raise UserError(f'--profile={text}: must be START:STOP, steps, START below STOP')
  return int(match[1]), int(match[2])


def elo_bounds(texts: Sequence[str] | None) -> tuple[float, float] | None:
  """Reads --sprt: ELO0,ELO1."""
  try:
    values = tuple(map(float, texts or ()))
  except ValueError:
    values = (0.0,)
  if len(values) not in (0, 2):
    raise UserError(f'--sprt={",".join(texts or ())}: must be ELO0,ELO1, as in 0,50')
  return (values[0], values[1]) if values else None


def config_file(text: str, folder: str) -> str:
  """Returns the path of --config: a file, or the one of that name in the folder of configs."""
  named = os.path.join(folder, f'{text}.py')
  path = named if os.path.exists(named) else text
  if not os.path.isfile(path):
    name = os.path.basename(path).removesuffix('.py')
    raise unknown(f'--config={text}', name, 'no such file', usage.configs(folder))
  return path


def runs(workdirs: Sequence[str]) -> list[str]:
  """Returns the run folders of --workdir, given again or with commas; each holds a run."""
  paths = [folder(path) for text in workdirs for path in text.split(',') if path]
  if not paths:
    raise UserError('--workdir: needs a value, the folder of a run')
  for path in paths:
    if not os.path.exists(os.path.join(path, 'config.json')):
      raise UserError(
        f'--workdir={path}: no run there; `launch.py train --workdir={path}` makes one'
      )
  if len({os.path.realpath(path) for path in paths}) < len(paths):
    raise UserError(f'--workdir={",".join(paths)}: one of them is there twice')
  return paths


def one_run(workdirs: Sequence[str]) -> str:
  """Returns the one run folder of --workdir."""
  paths = runs(workdirs)
  if len(paths) > 1:
    raise UserError(f'--workdir={",".join(paths)}: one at a time')
  return paths[0]


def new_folder(workdirs: Sequence[str]) -> str:
  """Returns the one folder of --workdir, which need not be there."""
  if len(workdirs) != 1:
    raise UserError(f'--workdir={",".join(workdirs)}: needs one folder, which will be made')
  return folder(workdirs[0])
