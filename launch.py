"""The one entry: python launch.py VERB [--config=FILE] [--workdir=DIR] [--config.section.key=value]

Flags are defined here and nowhere else, and nothing imports this file. JAX is imported by the verbs
that need it, once the process has been made ready for it (`train.host`).
"""

import ast
import contextlib
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

from train import config as config_lib
from train import host
from train.config import UserError, unknown

HERE = os.path.dirname(os.path.abspath(__file__))
FLAGS = flags.FLAGS

flags.DEFINE_boolean('help', False, 'print this and leave', short_name='h')
flags.DEFINE_boolean('traceback', False, "show a user error's traceback, too")
flags.DEFINE_string(
  'config',
  None,
  'a file, or the name of one in configs/; --config.section.key=value changes one of its values.'
  ' To resume, --workdir alone will do',
)
flags.DEFINE_multi_string(
  'workdir',
  [],
  "a run's folder (train: runs/NAME unless given); eval and report take several, given again or"
  ' joined by commas',
)
flags.DEFINE_boolean('summary', False, "print the table of the model's layers and leave")
flags.DEFINE_string('profile', None, 'START:STOP, the steps of which to leave a profile in workdir')
flags.DEFINE_string('step', 'best', 'the checkpoint: best, latest, or the number of a step')
flags.DEFINE_string('output', None, 'the page to write, instead of report.html in the workdir')
flags.DEFINE_boolean(
  'host_tuning', True, 'on a CPU: start anew with huge pages, and set the XLA flags the config wants'
)
flags.DEFINE_string('coordinator_address', None, 'HOST:PORT of process 0, where several train one run')
flags.DEFINE_integer('num_processes', None, 'how many they are; 1: this one alone', lower_bound=1)
flags.DEFINE_integer('process_id', None, 'which of them this is, from 0', lower_bound=0)
flags.DEFINE_integer(
  'heartbeat_timeout', 100, 'seconds after which a silent process stops all', lower_bound=1
)

# -------- the verbs --------


def train(overrides: dict[str, str]) -> None:
  """Trains by a config, or resumes what the workdir holds."""
  config = load_config(overrides)
  record = start(config)
  from train import tools

  tools.train(
    tools.complete_config(config), workdir_of_train(), host=record, profile=parse_profile()
  )


def evaluate(overrides: dict[str, str]) -> None:
  """Evaluates a run's best checkpoint, or several runs' mean prediction; leaves eval.json."""
  workdirs = several_workdirs()
  start(config_lib.load(os.path.join(workdirs[0], 'config.json')))
  from train import tools

  result = tools.evaluate(workdirs, step=parse_step(), overrides=overrides)
  width = max(map(len, result['metrics']))
  for name, value in result['metrics'].items():
    print(f'{name:{width}}  {value:.4f}')
  print(f'step {result["step"]}, in {os.path.join(workdirs[0], "eval.json")}')


def report(overrides: dict[str, str]) -> None:
  """Writes one HTML page from one run or several: curves, samples, the paper's number and ours."""
  no_overrides(overrides)
  workdirs = several_workdirs()
  from train import report as report_lib

  print(report_lib.write(workdirs, FLAGS.output))


def summary(overrides: dict[str, str]) -> None:
  config = load_config(overrides)
  start(config)
  from train import tools

  print(tools.summary(tools.complete_config(config)))


class Verb(NamedTuple):
  run: Callable[[dict[str, str]], None]
  flags: tuple[str, ...]


DISTRIBUTED = ('coordinator_address', 'num_processes', 'process_id', 'heartbeat_timeout')
VERBS = {
  'train': Verb(train, ('config', 'workdir', 'summary', 'profile', 'host_tuning', *DISTRIBUTED)),
  'eval': Verb(evaluate, ('workdir', 'step', 'host_tuning', *DISTRIBUTED)),
  'report': Verb(report, ('workdir', 'output')),
}

# -------- what the flags say --------


def parse(argv: list[str]) -> tuple[str | None, dict[str, str]]:
  """The verb, if one is there, and the overrides, key -> text; the flags proper go to FLAGS."""
  FLAGS.set_gnu_getopt(True)
  try:
    rest = FLAGS(argv, known_only=True)[1:]
  except flags.Error as error:
    raise UserError(' '.join(str(error).split())) from error
  words = [word for word in rest if not word.startswith('-')]
  overrides = dict(parse_override(word) for word in rest if word.startswith('-'))
  verb = words[0] if words else None
  if verb is not None and verb not in VERBS:
    raise unknown(verb, verb, 'no such verb', VERBS)
  if len(words) > 1:
    raise UserError(f'{words[1]}: one verb at a time, and values are given as --flag=value')
  return verb, overrides


def parse_override(word: str) -> tuple[str, str]:
  """'--config.a.b=c' -> ('a.b', 'c')."""
  flag, equals, text = word.lstrip('-').partition('=')
  if not flag.startswith('config.'):
    choices = [name for name in FLAGS if FLAGS[name].module == sys.argv[0]]
    raise unknown(word, flag, 'no such flag', choices)
  if not equals:
    raise UserError(f'{word}: needs a value, as in {word}=VALUE')
  return flag.removeprefix('config.'), text
