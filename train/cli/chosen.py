"""The config and the run folder that a command line chooses."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from absl import flags

from train import config as config_lib
from train.cli import arguments
from train.errors import UserError, unknown
from train.workdir import folder

FLAGS = flags.FLAGS


def load_config(overrides: Mapping[str, str]) -> dict[str, Any]:
  """Returns the config that --config names, or else the workdir's own, with the overrides."""
  path = find_config()
  config = config_lib.load(path)
  if 'task' not in config:
    raise UserError(f'{path}: no config of a run, since it has no section task; `match` takes such')
  if FLAGS.init_from is not None:
    overrides = {**overrides, 'init_from': FLAGS.init_from}
  for key, text in overrides.items():
    config = config_lib.override(config, key, text)
  return config


def find_config() -> str:
  """Returns the path of the config: of --config, or of the workdir's config.json."""
  if FLAGS.config is not None:
    return arguments.config_file(FLAGS.config, arguments.CONFIGS)
  saved = os.path.join(workdir_of_train(), 'config.json')
  if not os.path.exists(saved):
    raise UserError(f'--workdir={FLAGS.workdir[0]}: holds no config.json; give --config=FILE')
  return saved


def workdir_of_train() -> str:
  """Returns the one workdir, or else runs/NAME for the config NAME.py or NAME/config.json."""
  if len(FLAGS.workdir) == 1 and FLAGS.workdir[0]:
    return folder(FLAGS.workdir[0])
  if FLAGS.workdir or FLAGS.config is None:
    raise UserError(f'--workdir={",".join(FLAGS.workdir)}: give --config=FILE or one --workdir=DIR')
  parent, name = os.path.split(FLAGS.config)
  name = os.path.basename(os.path.abspath(parent)) if name == 'config.json' else name
  return os.path.join('runs', os.path.splitext(name)[0])


def take_options(path: str, names: Iterable[str]) -> None:
  """Gives options the values of a config whose keys are options, where the command has none."""
  for name, value in config_lib.load(path).items():
    if name not in names:
      raise unknown(f'{path}: {name}={value!r}', name, 'no such option of this verb', list(names))
    if not FLAGS[name].present:
      try:
        FLAGS.set_default(name, value)
      except flags.Error as error:
        raise UserError(f'{path}: {error}') from error
