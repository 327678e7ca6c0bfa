"""Options that several tasks declare agree, and are what the tasks' methods take."""

import inspect
from typing import get_args

import pytest
from absl import flags

from train import declaration as options
from train.cli import commands
from train.config import resolve
from train.tasks import DECLARATIONS, TASKS
from train.verbs import METHODS

EVERY = [
  *(option for verb in commands.VERBS.values() for option in verb.options),
  *(o for task in DECLARATIONS.values() for given in task.options.values() for o in given),
]


def test_options_of_one_name_agree_in_kind_default_and_bounds():
  meaning = {}
  for option in EVERY:
    told = (option.kind, option.default, option.least, option.most, option.choices)
    assert meaning.setdefault(option.name, told) == told, option.name


@pytest.mark.parametrize('kind', get_args(options.Kind))
def test_every_kind_becomes_a_flag(kind):
  values = flags.FlagValues()
  options.define(options.Option('x', kind, 'help', choices=('a', 'b')), values)
  values(['program'])
  assert 'help' in values['x'].help and not values['x'].present


@pytest.mark.parametrize('name', TASKS)
def test_a_task_takes_the_options_that_it_declares(name):
  task = resolve(TASKS[name])
  for verb, method in METHODS.items():
    declared = {option.name for option in DECLARATIONS[name].options.get(verb, ())}
    function = getattr(task, method, None)
    kinds = inspect.signature(function).parameters.values() if function else ()
    assert declared == {x.name for x in kinds if x.kind is x.KEYWORD_ONLY}, verb
