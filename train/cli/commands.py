"""The verbs of launch.py: which options each takes, and what it does with them.

JAX and whatever imports it come in inside the functions, once `start` has made the process ready.
"""

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from absl import flags

from train import config as config_lib
from train import errors
from train.cli import arguments, chosen
from train.cli import verb_options as own
from train.declaration import Option
from train.errors import UserError, unknown
from train.runtime import host, processes
from train.tasks import DECLARATIONS
from train.workdir import folder

FLAGS = flags.FLAGS
Overrides = Mapping[str, str]
"""Config key -> text, as given by --config.KEY=TEXT."""

# -------- what the verbs do --------


def train(overrides: Overrides) -> None:
  """Trains by a config, or resumes what the workdir holds."""
  config, workdir = chosen.load_config(overrides), chosen.workdir_of_train()
  if FLAGS.dry_run:
    return dry_run(config)
  if FLAGS.summary:
    return summary(config)
  profile = arguments.steps(FLAGS.profile)
  record = start()
  from train import verbs
  from train.runtime import preemption

  preemption.before_training()
  finished = verbs.train(
    verbs.complete_config(config),
    workdir,
    host=record,
    profile=profile,
    new_data=FLAGS.new_data,
    watchdog=FLAGS.watchdog,
  )
  if not finished:
    sys.exit(errors.Status.PREEMPTED)


def dry_run(config: Mapping[str, Any]) -> None:
  """Prints the completed config as JSON."""
  from train import verbs

  print(json.dumps(verbs.complete_config(config), indent=2))


def summary(config: Mapping[str, Any]) -> None:
  """Prints the table of the model's layers."""
  start()
  from train import verbs

  print(verbs.summary(verbs.complete_config(config)))


def compile_(overrides: Overrides) -> None:
  """Compiles a config for hardware that is not there: memory, communication, time of a step."""
  config, workdir = chosen.load_config(overrides), chosen.workdir_of_train()
  from train.aot import topology

  if not FLAGS.topology:
    raise UserError(f'compile: give --topology=HARDWARE, as in {topology.EXAMPLES}')
  topology.prepare(FLAGS.topology)
  from train import verbs
  from train.aot import compile as compile_lib

  config = verbs.complete_config(config)
  if not compile_lib.compile_config(config, FLAGS.topology, workdir, FLAGS.verb):
    sys.exit(1)


def config_help(overrides: Overrides) -> str:
  """Returns every key of a config, its value and what it means."""
  config = chosen.load_config(overrides)
  from train import sections
  from train.cli import keys

  return keys.describe(sections.complete_config(config), sections.SECTIONS, sections.settings)


def evaluate(overrides: Overrides) -> None:
  """Evaluates a run's last checkpoint, or several runs' mean prediction; writes eval.json."""
  workdirs, options = arguments.runs(FLAGS.workdir), given(task_options('eval'))
  step = arguments.checkpoint(FLAGS.step)
  config = config_lib.load(os.path.join(workdirs[0], 'config.json'))
  start()
  from train import console, mesh, verbs

  with errors.user_errors():
    result = verbs.evaluate(workdirs, step, overrides, options, average=FLAGS.average)
  if mesh.is_main():
    console.print_metrics(result['metrics'], verbs.complete_config(config)['paper'])
    print(f'step {result["step"]}; more in {result["file"]}')


def report(overrides: Overrides) -> None:
  """Writes one HTML page about one run or several, the paper's number beside ours."""
  refuse(overrides)
  workdirs = arguments.runs(FLAGS.workdir)
  from train.report import page, results

  path = page.write(workdirs, FLAGS.output)
  print(f'the page: {path}{beside(path, FLAGS.output or os.path.join(workdirs[0], "report.html"))}')
  if FLAGS.record:
    path = results.write(workdirs, FLAGS.record)
    print(f'the number: {path}{beside(path, FLAGS.record)}')


def beside(path: str, wanted: str) -> str:
  """Returns why a file has another name than the one that was wanted; '' if it has that."""
  return '' if path == wanted else f' ({wanted} is another file, which stays)'


def sample(overrides: Overrides) -> None:
  """Samples from a trained model: text, streamed to stdout, or PNG images; also into samples/."""
  _write_with_run('sample', overrides)


def translate(overrides: Overrides) -> None:
  """Translates a file, or stdin, to stdout, line by line, with a run of task translation."""
  _write_with_run('translate', overrides)


def _write_with_run(verb: str, overrides: Overrides) -> None:
  workdir, step = arguments.one_run(FLAGS.workdir), arguments.checkpoint(FLAGS.step)
  options = given(task_options(verb))
  start()
  from train import verbs

  with errors.user_errors():
    getattr(verbs, verb)(workdir, step, overrides, options, average=FLAGS.average)


def prepare(overrides: Overrides) -> None:
  """Fetches a public data set, or writes a folder of images as shards, where the configs look."""
  refuse(overrides)
  from data import prepare as prepare_lib

  chosen, sets = FLAGS.dataset, prepare_lib.SETS
  with errors.user_errors():
    if not chosen:
      raise UserError(f'prepare: give --dataset=NAME; choose from {", ".join(sets)}')
    if chosen not in sets and os.path.isdir(os.path.expanduser(chosen)):
      return _prepare_folder(chosen)
    if FLAGS.name:
      raise UserError(f'--name={FLAGS.name}: is for a folder of images, and {chosen!r} is none')
    if chosen not in sets:
      what = 'no such folder' if os.sep in chosen else 'no such data set'
      raise unknown(chosen, chosen, what, sets)
    print(f'in {prepare_lib.prepare(chosen, FLAGS.data_dir)}')


def _prepare_folder(folder: str) -> None:
  from data import published
  from data.images import shards

  place = shards.prepare(folder, published.root(FLAGS.data_dir), FLAGS.name or '')
  name, root = place.parent.name, place.parent.parent
  print(f'in {place}: --config.data.dataset={name} --config.data.data_dir={root}')


def runs(overrides: Overrides) -> None:
  """Lists the run folders: config, step, seed, and the headline metric beside the paper's."""
  refuse(overrides)
  from train.report import listing

  on_terminal = sys.stdout is not None and sys.stdout.isatty()
  columns = shutil.get_terminal_size().columns if on_terminal else None
  print(listing.table(FLAGS.folder, columns))


def convert(overrides: Overrides) -> None:
  """Makes a workdir of public weights, or files for other programs of a workdir."""
  refuse(overrides)
  source = FLAGS['from'].value or FLAGS.from_hf
  targets = [x for x in ('to_hf', 'to_leelaz', 'to_word2vec') if FLAGS[x].value is not None]
  if (source is not None) + len(targets) != 1:
    raise UserError(
      'convert: give one of --from=PATH, to read from, and --to_hf=DIR, --to_leelaz=FILE or'
      ' --to_word2vec=FILE, to write to'
    )
  step = arguments.checkpoint(FLAGS.step)
  start()
  from train import convert as convert_lib

  with errors.user_errors():
    if source:
      workdir = arguments.new_folder(FLAGS.workdir)
      convert_lib.import_weights(os.path.expanduser(source), workdir, FLAGS.format)
    for name in targets:
      export = getattr(convert_lib, name.replace('to_', 'export_'))
      export(arguments.one_run(FLAGS.workdir), FLAGS[name].value, step)


def play(overrides: Overrides) -> None:
  """Plays Go by the Go Text Protocol on stdin and stdout, or another game in the terminal."""
  refuse(overrides)
  workdir = arguments.one_run(FLAGS.workdir) if FLAGS.workdir else None
  step = arguments.checkpoint(FLAGS.step)
  start()
  from train import play as play_lib

  with errors.user_errors():
    play_lib.play(
      workdir,
      step,
      play_lib.BoardOptions(**values(option.name for option in own.RULES)),
      game=FLAGS.game,
      engine=FLAGS.engine,
      resign=FLAGS.resign,
      search=values(('seed', 'num_simulations', 'num_parallel_leaves')),
    )


def match(overrides: Overrides) -> None:
  """Plays two Go engines or programs against each other: wins by colour, Elo, SGF records."""
  refuse(overrides)
  if FLAGS.config is not None:
    chosen.take_options(chosen.find_config(), [option.name for option in VERBS['match'].options])
  if len(FLAGS.workdir) > 1:
    raise UserError(f'--workdir={",".join(FLAGS.workdir)}: one folder for the games of a match')
  sprt = arguments.elo_bounds(FLAGS.sprt)
  start()
  from train import play as play_lib

  with errors.user_errors():
    play_lib.match(
      FLAGS.first,
      FLAGS.second,
      play_lib.BoardOptions(**values(option.name for option in own.RULES)),
      workdir=folder(FLAGS.workdir[0]) if FLAGS.workdir else None,
      terms=values(('games', 'opening', 'seed', 'time', 'timeout')),
      search=values(('num_simulations', 'num_parallel_leaves')),
      sprt=sprt,
    )


@dataclasses.dataclass(frozen=True)
class Verb:
  """A verb's function, and the options that it takes whatever the task.

  Attributes:
    run: called with the overrides of config keys.
    options: its own.
    argument: the option that a word behind the verb is the value of, as in `prepare mnist`.
  """

  run: Callable[[Overrides], None]
  options: tuple[Option, ...]
  argument: str = ''


VERBS = {
  'train': Verb(train, (own.CONFIG, own.NEW_RUN, *own.TRAIN, own.HOST_TUNING, *own.PROCESSES)),
  'compile': Verb(compile_, (own.CONFIG, own.NEW_RUN, *own.COMPILE)),
  'eval': Verb(evaluate, (own.RUNS, *own.OPENED, *own.PROCESSES)),
  'report': Verb(report, (own.RUNS, *own.REPORT)),
  'sample': Verb(sample, (own.RUN, *own.OPENED)),
  'translate': Verb(translate, (own.RUN, *own.OPENED)),
  'prepare': Verb(prepare, own.PREPARE, argument='dataset'),
  'runs': Verb(runs, own.LISTING, argument='folder'),
  'convert': Verb(convert, (*own.CONVERT, own.RUN, own.STEP)),
  'play': Verb(
    play, (*own.PLAY, own.RUN, own.STEP, *own.RULES, *own.SEARCH, own.SEED, own.HOST_TUNING)
  ),
  'match': Verb(
    match,
    (
      own.CONFIG,
      *own.PLAYERS,
      own.RECORDS,
      *own.TERMS,
      *own.RULES,
      *own.SEARCH,
      own.SEED,
      own.HOST_TUNING,
    ),
  ),
}


# -------- what the options say --------


def task_options(verb: str) -> dict[str, tuple[Option, ...]]:
  """Returns task -> the options that it declares for the verb; tasks without any are left out."""
  declared = {name: task.options.get(verb, ()) for name, task in DECLARATIONS.items()}
  return {name: options for name, options in declared.items() if options}


def all_options(verb: str) -> list[str]:
  """Returns the names of the options of a verb: its own, then its tasks'."""
  every = [option.name for option in VERBS[verb].options]
  tasks = [option.name for options in task_options(verb).values() for option in options]
  return list(dict.fromkeys([*every, *tasks]))


def given(options: Mapping[str, Iterable[Option]]) -> dict[str, Any]:
  """Returns those of the tasks' options that the command has; the run's task checks them."""
  names = {option.name: None for declared in options.values() for option in declared}
  return {name: FLAGS[name].value for name in names if FLAGS[name].present}


def values(names: Iterable[str]) -> dict[str, Any]:
  """Returns the options' values, given or default."""
  return {name: FLAGS[name].value for name in names}


def refuse(overrides: Overrides) -> None:
  """Raises UserError if there is any override."""
  for key, text in overrides.items():
    raise UserError(
      f'--config.{key}={text}: only train, compile, eval, sample and translate change a config'
    )


# -------- the process --------


def start() -> dict[str, Any]:
  """Makes the process ready for JAX; returns what was done to it, for the run's record."""
  host.open_streams()
  host.use_compilation_cache()
  record = host.report(host_tuning=False)
  if FLAGS.host_tuning:
    record = host.tune()
  with errors.user_errors():
    processes.join(
      *(FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id),
      init_timeout=FLAGS.init_timeout,
      heartbeat_timeout=FLAGS.heartbeat_timeout,
    )
  return record
