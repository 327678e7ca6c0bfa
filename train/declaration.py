"""What a task says of itself before it is imported: options, free keys, the words of its report.

Nothing heavy is imported here, so that `--help` is instant.

An option belongs to whoever acts on it: the launcher (`train/cli/commands.py`), or a task, which
lists the options of its verbs in its `Declaration`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from absl import flags

Kind = Literal['text', 'texts', 'words', 'integer', 'number', 'switch', 'choice']


@dataclasses.dataclass(frozen=True)
class Option:
  """One `--name` of a verb.

  Attributes:
    kind: 'texts' may be given again, 'words' are joined by commas, a 'switch' is on or off.
    help: what it does, with its unit and, in brackets, a default that the owner fills in.
    default: the value without the option; None where its owner has a default of its own.
    least, most: bounds of a number.
    choices: of kind 'choice'.
  """

  name: str
  kind: Kind
  help: str
  default: Any = None
  least: float | None = None
  most: float | None = None
  choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ReportWords:
  """The words and the order of one task's report.

  A measure is a metric's name without its split: 'error' of 'test/error'.

  Attributes:
    evaluation: What `launch.py eval` adds to the page; a run without eval.json is told so.
    measures: The measures whose charts come first, in this order; the others follow as logged.
    matches: Those that get a large chart though their splits are opponents. Any measure of a split
      'test' or 'val' gets one.
    headings: Measure to the heading of its chart; the default is the name with spaces.
    splits: Split to its name in a chart's legend; the default is the split.
    time_shares: Metrics 'time/NAME' in [0, 1] that say where the time goes, beside the speed.
  """

  evaluation: str = 'more'
  measures: tuple[str, ...] = ('elo', 'share', 'loss', 'error', 'error_top5', 'learning_rate')
  matches: tuple[str, ...] = ('elo', 'share')
  headings: Mapping[str, str] = dataclasses.field(default_factory=dict)
  splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
  time_shares: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Declaration:
  """What the launcher, the run folder and the report know of a task without importing it.

  Attributes:
    task: its class, as 'module:name'.
    options: verb -> the options that the task's method for that verb takes as keyword arguments.
    free: config keys (or sections) that may differ when a run is resumed: what they say has
      no part in what is computed from step to step.
    plays: whether `launch.py play` and `match` play with its runs.
    metric: the headline, where a config's section `paper` names none.
    report: the words and order of its report.
  """

  task: str
  options: Mapping[str, tuple[Option, ...]] = dataclasses.field(default_factory=dict)
  free: tuple[str, ...] = ()
  plays: bool = False
  metric: str = 'test/error'
  report: ReportWords = dataclasses.field(default_factory=ReportWords)


def define(option: Option, values: flags.FlagValues) -> None:
  """Defines the option as a flag, once; several may declare one of the same kind and default."""
  if option.name in values:
    return
  name, default, text = option.name, option.default, option.help
  match option.kind:
    case 'text':
      flags.DEFINE_string(name, default, text, flag_values=values)
    case 'texts':
      flags.DEFINE_multi_string(name, default or [], text, flag_values=values)
    case 'words':
      flags.DEFINE_list(name, default, text, flag_values=values)
    case 'integer':
      bounds: Any = {'lower_bound': option.least, 'upper_bound': option.most}
      flags.DEFINE_integer(name, default, text, **bounds, flag_values=values)
    case 'number':
      flags.DEFINE_float(name, default, text, option.least, option.most, flag_values=values)
    case 'switch':
      flags.DEFINE_boolean(name, default, text, flag_values=values)
    case 'choice':
      flags.DEFINE_enum(name, default, option.choices, text, flag_values=values)
