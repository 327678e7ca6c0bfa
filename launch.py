"""The one entry: `python launch.py VERB [--config=NAME] [--workdir=DIR] [--config.KEY=VALUE]`.

The verbs and their options are in `train/cli/commands.py`; a task declares its own beside itself
(`train/tasks/*/declaration.py`). Nothing imports this file.
"""

import importlib.util
import io
import os
import pathlib
import sys
import traceback

VENV = pathlib.Path(__file__).resolve().parent / '.venv' / 'bin' / 'python'
PACKAGES = ('absl', 'flax', 'jax', 'numpy', 'optax')
if not all(map(importlib.util.find_spec, PACKAGES)):
  # Started by another Python than that of `make venv`.
  if not VENV.exists() or os.environ.get('BREAKTHROUGHS_VENV'):
    sys.exit('launch.py: its packages are not installed here; `make venv` installs them')
  os.environ['BREAKTHROUGHS_VENV'] = '1'
  os.execv(VENV, [str(VENV), *sys.argv])

from absl import flags

from train.cli import arguments, commands, parsing, usage
from train.cli.commands import VERBS
from train.errors import Halted, PeerError, Status, UserError, plain
from train.runtime import peers

FLAGS = flags.FLAGS


def run(argv: list[str]) -> None:
  """Runs the verb of a command line, or prints the help that it asks for."""
  verb, overrides = parsing.parse(argv[1:], parsing.define(FLAGS), FLAGS)
  if verb is None and FLAGS.summary:
    verb = 'train'
  if verb is None and len(argv) > 1 and not FLAGS.help:
    raise UserError(f'no verb: choose from {", ".join(VERBS)}, as in `launch.py train ...`')
  if verb is None:
    print(usage.overview({name: each.run for name, each in VERBS.items()}, arguments.CONFIGS))
  elif FLAGS.help and FLAGS.config is not None and verb == 'train':
    print(commands.config_help(overrides))
  elif FLAGS.help:
    own = (*VERBS[verb].options, parsing.ALWAYS[1])
    print(usage.of_verb(verb, VERBS[verb].run, own, commands.task_options(verb)))
  else:
    VERBS[verb].run(overrides)


def main(argv: list[str]) -> int:
  """Returns the exit status, one of `Status`."""
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):  # not one that is closed
      stream.reconfigure(errors='backslashreplace')  # names that the terminal's encoding lacks
  try:
    run(argv)
  except UserError as error:
    return told(error, Status.USER_ERROR, argv)
  except SystemExit as error:  # of a verb with a status of its own
    return int(error.code or Status.FINISHED)
  except KeyboardInterrupt:
    return Status.INTERRUPTED
  except BrokenPipeError:  # the reader has enough, as in `sample | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  except PeerError as error:
    return told(error, Status.PEER, argv)
  except (OSError, Halted) as error:  # a full disk, a folder that may not be written to
    return told(error, Status.FAILED, argv)
  except Exception as error:
    return peers.failed(error)
  return Status.FINISHED


def told(error: Exception, status: int, argv: list[str]) -> int:
  """Prints an error in a line, with --traceback where it came from; returns the status."""
  line = plain(' '.join(str(error).split()))
  peers.tell(status, line)
  if '--traceback' in argv:
    traceback.print_exception(error)
  else:
    print(f'launch.py: {line}', file=sys.stderr)
  return status


if __name__ == '__main__':
  sys.exit(peers.end(main(sys.argv)))
