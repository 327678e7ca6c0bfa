"""The keys of a config, with what their constructors' docstrings say of them."""

import dataclasses

from train.cli import keys


@dataclasses.dataclass(frozen=True)
class Search:
  """A search.

  Attributes:
    num_simulations: of each move; the
      more the stronger.
    policy, temperature: how a move is chosen.
  """

  num_simulations: int = 8
  policy: str = 'puct'
  temperature: float = 1.0


def task(*, search: Search = Search(), rate: float = 0.1):
  """Makes a task.

  Args:
    search: how moves are found.
    rate (a float): of learning, told at such length that a second line takes the rest.
  """


def settings(seed: int = 0):
  """Returns defaults.

  Args:
    seed: of all.
  """


def test_each_key_has_its_value_and_its_meaning():
  config = {
    'task': {'search': dataclasses.asdict(Search()), 'rate': 0.1},
    'seed': 3,
  }
  assert keys.describe(config, {'task': (task, ())}, settings).splitlines() == [
    'task.search.num_simulations=8       of each move; the more the stronger.',
    "task.search.policy='puct'           how a move is chosen.",
    'task.search.temperature=1.0         how a move is chosen.',
    'task.rate=0.1                       of learning, told at such length that a second line takes',
    '                                    the rest.',
    '',
    'seed=3                              of all.',
  ]
