"""What a report calls a task's measures, and in which order it shows them."""

import dataclasses
from collections.abc import Mapping


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
    time_shares: Metrics 'time/NAME' in [0, 1] that say where the time goes, beside the speed.
  """

  evaluation: str = 'more'
  measures: tuple[str, ...] = ('elo', 'share', 'loss', 'error', 'error_top5', 'learning_rate')
  matches: tuple[str, ...] = ('elo', 'share')
  headings: Mapping[str, str] = dataclasses.field(default_factory=dict)
  time_shares: tuple[str, ...] = ()


_POSITIONS = ReportWords('metrics on the test positions')
_MATCHES = ReportWords(
  'matches against fixed players', time_shares=('network', 'search', 'environment', 'training')
)
WORDS = {
  'classify': ReportWords('confusion, samples and filters'),
  'consistency': ReportWords('distances between distributions of samples'),
  'diffusion': ReportWords('bounds in bits a dimension'),
  'go_policy': _POSITIONS,
  'go_reinforce': _MATCHES,
  'go_value': _POSITIONS,
  'go_value_play': _POSITIONS,
  'language': ReportWords('perplexity and bits per byte'),
  'selfplay': _MATCHES,
}


def words_of(config: Mapping) -> ReportWords:
  """Returns the words of the task that a run's config names; the default of an unknown one."""
  return WORDS.get((config.get('task') or {}).get('name') or '', ReportWords())
