"""The one entry: `python launch.py VERB [--config=NAME] [--workdir=DIR] [--config.KEY=VALUE]`.

The verbs and their options are in `train/cli/commands.py`; a task declares its own beside itself
(`train/tasks/*/declaration.py`). Nothing imports this file.
"""

import os
import pathlib
import sys

VENV = pathlib.Path(__file__).resolve().parent / '.venv' / 'bin' / 'python'
try:
  from absl import flags
except ModuleNotFoundError:
  # Started by another Python than that of `make venv`.
  if not VENV.exists() or os.environ.get('BREAKTHROUGHS_VENV'):
    sys.exit('launch.py: its packages are not installed here; `make venv` installs them')
  os.environ['BREAKTHROUGHS_VENV'] = '1'
  os.execv(VENV, [str(VENV), *sys.argv])

from train import declaration
from train.cli import arguments, commands, usage
from train.cli.commands import VERBS
from train.declaration import Option
from train.errors import UserError, unknown

FLAGS = flags.FLAGS
ALWAYS = (
  Option('help', 'switch', 'print this and exit', False),
  Option('traceback', 'switch', "show a user error's traceback, too", False),
)


def define() -> None:
  """Defines every option of every verb and task, once."""
  flags.DEFINE_boolean('help', False, ALWAYS[0].help, short_name='h')
  for verb in VERBS:
    for option in (*ALWAYS, *VERBS[verb].options, *sum(commands.task_options(verb).values(), ())):
      declaration.define(option, FLAGS)


def parse(argv: list[str]) -> tuple[str | None, dict[str, str]]:
  """Returns the verb, if there is one, and the overrides, key -> text; FLAGS takes the options.

  Raises:
    UserError: a word that is no verb, or an option that is none of the verb's.
  """
  FLAGS.set_gnu_getopt(True)
  try:
    rest = FLAGS(argv, known_only=True)[1:]
  except flags.Error as error:
    raise UserError(' '.join(str(error).split())) from error
  words = [word for word in rest if not word.startswith('-')]
  verb = words[0] if words else None
  if verb is not None and verb not in VERBS:
    raise unknown(verb, verb, 'no such verb', VERBS)
  if len(words) > 1 and verb and VERBS[verb].argument:
    FLAGS[VERBS[verb].argument].parse(words.pop(1))
  if len(words) > 1:
    raise UserError(f'{words[1]}: one verb at a time, and values are given as --option=value')
  choices = commands.all_options(verb) if verb else [name for name in FLAGS if name != 'h']
  overrides = dict(parse_override(word, choices) for word in rest if word.startswith('-'))
  for name in FLAGS:
    if verb and FLAGS[name].present and name not in (*choices, 'help', 'h', 'traceback'):
      raise unknown(f'--{name}', name, f'no option of {verb}', choices)
  return verb, overrides


def parse_override(word: str, choices: list[str]) -> tuple[str, str]:
  """Returns ('a.b', 'c') for '--config.a.b=c'."""
  name, equals, text = word.lstrip('-').partition('=')
  if not name.startswith('config.'):
    raise unknown(word, name, 'no such option', choices)
  if not equals:
    raise UserError(f'{word}: needs a value, as in {word}=VALUE')
  return name.removeprefix('config.'), text


def run(argv: list[str]) -> None:
  """Runs the verb of a command line, or prints the help that it asks for."""
  define()
  verb, overrides = parse(argv)
  if verb is None and FLAGS.summary:
    verb = 'train'
  if verb is None:
    print(usage.overview({name: each.run for name, each in VERBS.items()}, arguments.CONFIGS))
  elif FLAGS.help and FLAGS.config is not None and verb == 'train':
    print(commands.config_help(overrides))
  elif FLAGS.help:
    own = (*VERBS[verb].options, ALWAYS[1])
    print(usage.of_verb(verb, VERBS[verb].run, own, commands.task_options(verb)))
  else:
    VERBS[verb].run(overrides)


def main(argv: list[str]) -> int:
  """Returns the exit status: 0; 2 for a user's mistake, 1 for the system's, 130 for Ctrl-C."""
  try:
    run(argv)
  except UserError as error:
    if FLAGS.is_parsed() and FLAGS.traceback:
      raise
    print(f'launch.py: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    return 130
  except BrokenPipeError:  # the reader has enough, as in `sample | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except OSError as error:  # a full disk, a folder that may not be written to
    if FLAGS.is_parsed() and FLAGS.traceback:
      raise
    print(f'launch.py: {error}', file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
