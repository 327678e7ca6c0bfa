"""The one entry: python launch.py VERB [--config=FILE] [--workdir=DIR] [--config.section.key=value]

Flags are defined here and nowhere else, and nothing imports this file. JAX is imported by the verbs
that need it, once the process has been made ready for it (`train.runtime.host`).
"""

import os
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from absl import flags

from train import config as config_lib
from train.cli import arguments, usage
from train.config import UserError, unknown
from train.runtime import host

CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'configs')
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
  "a run's folder (train: runs/NAME unless given; match: for its games); eval and report take"
  ' several, given again or joined by commas',
)
flags.DEFINE_boolean('summary', False, "print the table of the model's layers and leave")
flags.DEFINE_string('profile', None, 'START:STOP, the steps of which to leave a profile in workdir')
flags.DEFINE_string('step', 'latest', 'the checkpoint: latest, best, or the number of a step')
flags.DEFINE_string('output', None, 'the page to write, instead of report.html in the workdir')
flags.DEFINE_string('record', None, "a JSON file of docs/results to write the runs' number to")
flags.DEFINE_boolean(
  'host_tuning',
  True,
  'on a CPU: start anew with huge pages and the XLA flags that help there',
)
flags.DEFINE_string(
  'coordinator_address', None, 'HOST:PORT of process 0, where several train one run'
)
flags.DEFINE_integer('num_processes', None, 'how many they are; 1: this one alone', lower_bound=1)
flags.DEFINE_integer('process_id', None, 'which of them this is, from 0', lower_bound=0)
flags.DEFINE_integer(
  'heartbeat_timeout', 100, 'seconds after which a silent process stops all', lower_bound=1
)

flags.DEFINE_string('text', None, 'a file: its perplexity, instead of the evaluation split')
flags.DEFINE_integer(
  'stride', 0, 'tokens that a window moves by [half a block; all, of the evaluation split]'
)
flags.DEFINE_string('choices', None, 'a JSON-lines file of context, choices and answer')
flags.DEFINE_integer(
  'images', None, 'bits/dim of so many images of the evaluation split, 0: of all', lower_bound=0
)
flags.DEFINE_integer(
  'probes', 1, 'random vectors for the trace in the ODE, 0: the exact trace', lower_bound=0
)
flags.DEFINE_string('classifier', None, "a classifier's workdir, to judge images or to guide them")
flags.DEFINE_string(
  'inception', None, "a file of weights of FID's network: models/diffusion/inception.py"
)
flags.DEFINE_multi_string('prompt', [], 'what a text begins with; given again, one text for each')
flags.DEFINE_integer(
  'samples',
  1,
  'how many for each prompt or label [1 text, 8 images]; eval: in all, to be judged [1000]',
  lower_bound=1,
)
flags.DEFINE_integer('tokens', 500, 'the most that are added to a prompt', lower_bound=1)
flags.DEFINE_float('temperature', 1.0, '0: always the most likely token')
flags.DEFINE_integer('top_k', 0, 'only the k most likely tokens, 0: all')
flags.DEFINE_float('top_p', 1.0, 'only the most likely tokens that have this chance together')
flags.DEFINE_float('min_p', 0.0, "only tokens of this share of the most likely one's chance")
flags.DEFINE_float('repetition', 1.0, 'above 1: tokens that were there become less likely')
flags.DEFINE_multi_string('stop', [], 'a text ends before this')
flags.DEFINE_multi_string(
  'label', [], "of what to draw images: a class's name or number, several joined by commas [all]"
)
flags.DEFINE_boolean('path', False, 'also draw how the images come from noise')
flags.DEFINE_boolean('interpolate', False, 'draw ways between images of the evaluation split')
flags.DEFINE_string('inpaint', None, 'an image file, of which a part is drawn anew')
flags.DEFINE_string('mask', None, 'an image file, white where --inpaint draws')
flags.DEFINE_string('colourise', None, 'an image file, of which only the grey is kept')
flags.DEFINE_string('from_hf', None, 'a folder of GPT-2 weights to make the workdir from')
flags.DEFINE_string('to_hf', None, "a folder to write the workdir's weights to, for transformers")

flags.DEFINE_string(
  'engine', 'rollout', 'who plays without --workdir: rollout, uniform (searches) or random'
)
flags.DEFINE_string(
  'first', 'rollout', 'an engine or workdir, as rollout:400, runs/go:50, or a GTP command line'
)
flags.DEFINE_string('second', 'random', 'its opponent, likewise')
flags.DEFINE_integer('size', 9, 'of the board, until the controller says another')
flags.DEFINE_float('komi', 7.5, "white's points for moving second")
flags.DEFINE_enum(
  'superko', 'positional', ['positional', 'situational', 'simple'], 'see go_rules.md'
)
flags.DEFINE_boolean('suicide', False, 'whether a move may remove its own chain')
flags.DEFINE_integer('simulations', 400, 'of a search, for a move', lower_bound=1)
flags.DEFINE_integer(
  'leaves', 8, 'that a search evaluates at once; divides --simulations', lower_bound=1
)
flags.DEFINE_float('resign', 0.0, 'below which chance to win to resign, 0: never', 0.0, 1.0)
flags.DEFINE_integer('seed', 0, 'of all that is drawn at random')
flags.DEFINE_integer('games', 100, 'rounded up to pairs: each opening is played with both colours')
flags.DEFINE_integer('opening', None, 'random moves that a game begins with [a third of --size]')
flags.DEFINE_list('sprt', None, 'ELO0,ELO1: stop when this test of the first player decides')
flags.DEFINE_string('time', '', 'a clock: 300, 60+30/5 (Canadian) or 60+3x10 (byo-yomi), seconds')
flags.DEFINE_float('timeout', 60.0, 'seconds after which a silent program has lost')

# -------- the verbs --------


def train(overrides: dict[str, str]) -> None:
  """Trains by a config, or resumes what the workdir holds."""
  config, workdir = load_config(overrides), workdir_of_train()
  profile = arguments.steps(FLAGS.profile)
  record = start()
  from train import verbs

  try:
    verbs.train(verbs.complete_config(config), workdir, host=record, profile=profile)
  except verbs.Halted as error:
    print(f'launch.py: {error}', file=sys.stderr)
    sys.exit(1)


def evaluate(overrides: dict[str, str]) -> None:
  """Evaluates a run's last checkpoint, or several runs' mean prediction; leaves eval.json."""
  workdirs, options = arguments.runs(FLAGS.workdir), given((*TEXTS, *MEASURES))
  step = arguments.checkpoint(FLAGS.step)
  config = config_lib.load(os.path.join(workdirs[0], 'config.json'))
  start()
  from train import mesh, verbs

  with config_lib.user_errors():
    result = verbs.evaluate(workdirs, step=step, overrides=overrides, options=options)
  if mesh.is_main():
    print_metrics(result['metrics'], config['paper'])
    print(f'step {result["step"]}; more in {result["file"]}')


def print_metrics(metrics: dict[str, float], paper: dict[str, Any]) -> None:
  width = max(map(len, metrics))
  for name, value in metrics.items():
    beside = name == paper['metric'] and paper['value'] is not None
    print(f'{name:{width}}  {value:.4f}' + (f'  (paper: {paper["value"]})' if beside else ''))


def report(overrides: dict[str, str]) -> None:
  """Writes one HTML page about one run or several, the paper's number beside ours."""
  no_overrides(overrides)
  workdirs = arguments.runs(FLAGS.workdir)
  from train.report import page as report_lib

  print(f'the page: {report_lib.write(workdirs, FLAGS.output)}')
  if FLAGS.record:
    from train.report import results

    print(f'the number: {results.write(workdirs, FLAGS.record)}')


def sample(overrides: dict[str, str]) -> None:
  """Draws from a trained model: text, to stdout as it comes, or PNG images; into its samples/."""
  workdir, step = arguments.one_run(FLAGS.workdir), arguments.checkpoint(FLAGS.step)
  options = given((*DRAWING, 'seed'))
  start()
  from train import verbs

  with config_lib.user_errors():
    verbs.sample(workdir, step=step, overrides=overrides, options=options)


def convert(overrides: dict[str, str]) -> None:
  """Makes a workdir of GPT-2 weights in Hugging Face's layout, or such a folder of a workdir."""
  no_overrides(overrides)
  if (FLAGS.from_hf is None) == (FLAGS.to_hf is None):
    raise UserError('convert: give either --from_hf=DIR, to read from, or --to_hf=DIR, to write to')
  step = arguments.checkpoint(FLAGS.step)
  start()
  from train.tasks.language import convert as convert_lib

  with config_lib.user_errors():
    if FLAGS.from_hf:
      convert_lib.import_hf(FLAGS.from_hf, arguments.new_folder(FLAGS.workdir))
    else:
      convert_lib.export_hf(arguments.one_run(FLAGS.workdir), FLAGS.to_hf, step)


def play(overrides: dict[str, str]) -> None:
  """Plays Go by the Go Text Protocol on stdin and stdout, for any program that speaks it."""
  no_overrides(overrides)
  workdir = arguments.one_run(FLAGS.workdir) if FLAGS.workdir else ''
  step = arguments.checkpoint(FLAGS.step)
  start()
  from mcts import engines
  from mcts.gtp import server

  options = {'seed': FLAGS.seed, **search_options()}
  with config_lib.user_errors():
    if workdir:
      from train import play as play_lib

      engine: engines.Engine = play_lib.load_engine(workdir, step, **options)
    else:
      engine = engines.make(FLAGS.engine, **options)
    server.play(engine, rule_set(engine.sizes), resign_threshold=FLAGS.resign)


def match(overrides: dict[str, str]) -> None:
  """Plays two Go engines or programs against each other: wins by colour, Elo, SGF records."""
  no_overrides(overrides)
  if FLAGS.config is not None:
    take_flags(find_config(), VERBS['match'].flags)
  if len(FLAGS.workdir) > 1:
    raise UserError(f'--workdir={",".join(FLAGS.workdir)}: one folder for the games of a match')
  sprt = arguments.elo_bounds(FLAGS.sprt)
  start()
  from mcts.engines import clock
  from mcts.match import arena
  from mcts.match.terms import MatchTerms, Openings, TimeLimits
  from train import play as play_lib

  with config_lib.user_errors():
    workdir = FLAGS.workdir[0] if FLAGS.workdir else None
    specs = (FLAGS.first, FLAGS.second)
    first, second = (play_lib.contestant(spec, **search_options()) for spec in specs)
    terms = MatchTerms(
      rule_set(first.sizes, second.sizes),
      Openings(FLAGS.opening, FLAGS.seed),
      TimeLimits(clock.parse(FLAGS.time), FLAGS.timeout),
    )
    arena.match(first, second, terms, num_games=FLAGS.games, sprt=sprt, workdir=workdir)


def rule_set(*sizes: Collection[int]) -> Any:
  """Returns the rules that the flags say, on a board of --size or else of a size in all `sizes`."""
  from mcts.engines import RuleSet

  known = set(sizes[0]).intersection(*sizes)
  given = FLAGS['size'].present or FLAGS.size in known
  size = FLAGS.size if given else max(known, default=FLAGS.size)
  return RuleSet(size, FLAGS.komi, FLAGS.superko, FLAGS.suicide)


def search_options() -> dict[str, Any]:
  return {'num_simulations': FLAGS.simulations, 'num_parallel_leaves': FLAGS.leaves}


def summary(overrides: dict[str, str]) -> None:
  config = load_config(overrides)
  start()
  from train import verbs

  print(verbs.summary(verbs.complete_config(config)))


class Verb(NamedTuple):
  run: Callable[[dict[str, str]], None]
  flags: tuple[str, ...]


TEXTS = ('text', 'stride', 'choices')
MEASURES = ('images', 'probes', 'samples', 'classifier', 'inception')
DRAWING = (
  *('prompt', 'samples', 'tokens', 'stop'),
  *('temperature', 'top_k', 'top_p', 'min_p', 'repetition'),
  *('label', 'path', 'interpolate', 'inpaint', 'mask', 'colourise', 'classifier'),
)
DISTRIBUTED = ('coordinator_address', 'num_processes', 'process_id', 'heartbeat_timeout')
GO = ('size', 'komi', 'superko', 'suicide', 'simulations', 'leaves', 'seed', 'host_tuning')
MATCH = ('games', 'opening', 'sprt', 'time', 'timeout')
VERBS = {
  'train': Verb(train, ('config', 'workdir', 'summary', 'profile', 'host_tuning', *DISTRIBUTED)),
  'eval': Verb(evaluate, ('workdir', 'step', *TEXTS, *MEASURES, 'host_tuning', *DISTRIBUTED)),
  'report': Verb(report, ('workdir', 'output', 'record')),
  'sample': Verb(sample, ('workdir', 'step', *DRAWING, 'seed', 'host_tuning')),
  'convert': Verb(convert, ('from_hf', 'to_hf', 'workdir', 'step')),
  'play': Verb(play, ('engine', 'workdir', 'step', 'resign', *GO)),
  'match': Verb(match, ('config', 'first', 'second', 'workdir', *MATCH, *GO)),
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
    choices = [name for name in FLAGS if name != 'h']
    raise unknown(word, flag, 'no such flag', choices)
  if not equals:
    raise UserError(f'{word}: needs a value, as in {word}=VALUE')
  return flag.removeprefix('config.'), text


def load_config(overrides: dict[str, str]) -> dict[str, Any]:
  """The config that --config names, or else the workdir's own, with the overrides put in."""
  config = config_lib.load(find_config())
  for key, text in overrides.items():
    config = config_lib.override(config, key, text)
  return config


def find_config() -> str:
  if FLAGS.config is not None:
    return arguments.config_file(FLAGS.config, CONFIGS)
  saved = os.path.join(workdir_of_train(), 'config.json')
  if not os.path.exists(saved):
    raise UserError(f'--workdir={FLAGS.workdir[0]}: holds no config.json; give --config=FILE')
  return saved


def workdir_of_train() -> str:
  """The one workdir; runs/NAME for a config NAME.py if none is given."""
  if len(FLAGS.workdir) == 1:
    return FLAGS.workdir[0]
  if FLAGS.workdir or FLAGS.config is None:
    raise UserError(f'--workdir={",".join(FLAGS.workdir)}: give --config=FILE or one --workdir=DIR')
  return os.path.join('runs', os.path.basename(FLAGS.config).removesuffix('.py'))


def given(names: Iterable[str]) -> dict[str, Any]:
  """Those of the flags that the command has, for a task that says itself which it takes."""
  return {name: FLAGS[name].value for name in names if FLAGS[name].present}


def no_overrides(overrides: dict[str, str]) -> None:
  for key, text in overrides.items():
    raise UserError(f'--config.{key}={text}: only train, eval and sample change a config')


def take_flags(path: str, names: Collection[str]) -> None:
  """Gives flags the values of a config whose keys are flags, where the command has none."""
  for name, value in config_lib.load(path).items():
    if name not in names:
      raise unknown(f'{path}: {name}={value!r}', name, 'no such flag of this verb', names)
    if not FLAGS[name].present:
      try:
        FLAGS.set_default(name, value)
      except flags.Error as error:
        raise UserError(f'{path}: {error}') from error


# -------- start --------


def start() -> dict[str, Any]:
  """Makes the process ready for JAX; returns what was done to it, for the run's record."""
  host.use_compilation_cache()
  record = host.report(host_tuning=False)
  if FLAGS.host_tuning:
    record = host.tune()
  with config_lib.user_errors():
    host.join(
      FLAGS.coordinator_address, FLAGS.num_processes, FLAGS.process_id, FLAGS.heartbeat_timeout
    )
  return record


# -------- the one entry --------


def run(argv: list[str]) -> None:
  verb, overrides = parse(argv)
  if verb is None and FLAGS.summary:
    verb = 'train'
  if verb is None:
    print(usage.overview(VERBS, CONFIGS))
  elif FLAGS.help:
    print(usage.of_verb(verb, VERBS[verb], FLAGS))
  else:
    for name in FLAGS:
      if FLAGS[name].present and name not in (*VERBS[verb].flags, 'traceback'):
        raise unknown(f'--{name}', name, f'no flag of {verb}', VERBS[verb].flags)
    (summary if FLAGS.summary else VERBS[verb].run)(overrides)


def main(argv: list[str]) -> int:
  try:
    run(argv)
  except UserError as error:
    if FLAGS.is_parsed() and FLAGS.traceback:
      raise
    print(f'launch.py: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    return 130
  except BrokenPipeError:  # whoever reads has enough, as in `sample | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv))
