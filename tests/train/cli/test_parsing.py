"""Command lines as they are typed: with typos, values of another kind, and words astray."""

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from train.cli import commands, parsing
from train.cli.commands import VERBS
from train.errors import UserError


def parse(*words):
  values = flags.FlagValues()
  verb, overrides = parsing.parse(words, parsing.define(values), values)
  return verb, overrides, values


def error(*words):
  with pytest.raises(UserError) as caught:
    parse(*words)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_options_stand_anywhere_and_take_the_next_word():
  for words in (
    ('train', '--config=x', '--dry_run'),
    ('--config', 'x', 'train', '--dry_run=true'),
    ('--dry_run', '--config=x', 'train', '--'),
  ):
    verb, overrides, values = parse(*words)
    assert (verb, overrides, values.config, values.dry_run) == ('train', {}, 'x', True)
  assert parse('train', '--nohost_tuning')[2].host_tuning is False
  assert parse('play', '--komi', '-5.5')[2].komi == -5.5
  assert parse('sample', '--prompt=a', '--prompt=b')[2].prompt == ['a', 'b']
  assert parse('prepare', 'mnist')[2].dataset == 'mnist'


def test_an_override_is_a_key_and_a_text():
  _, overrides, _ = parse('train', '--config.seed', '3', '--config.a.b==c', '--config.x=')
  assert overrides == {'seed': '3', 'x': '', 'a.b': '=c'}


def test_a_section_is_replaced_before_its_keys_in_whatever_order():
  _, overrides, _ = parse('train', '--config.model.width=3', '--config.model=lenet')
  assert list(overrides) == ['model', 'model.width']


@pytest.mark.parametrize(
  'words',
  [('help', 'train'), ('train', 'help'), ('train', '--help'), ('--help', 'train'), ('-h', 'train')],
)
def test_help_may_be_asked_for_anywhere(words):
  verb, _, values = parse(*words)
  assert (verb, values.help) == ('train', True)


@pytest.mark.parametrize(
  ('words', 'begins'),
  [
    (['Trian'], 'Trian: no such verb (did you mean train?); choose from train, '),
    (['zzz'], 'zzz: no such verb; choose from train, '),
    (['train', '--confg=x'], '--confg=x: no option of train (did you mean config?); choose from '),
    (['train', '--CONFIG=x'], '--CONFIG=x: no option of train (did you mean config?); '),
    (['train', '--dry_rn'], '--dry_rn: no option of train (did you mean dry_run?); '),
    (['eval', '--workdri=x'], '--workdri=x: no option of eval (did you mean workdir?); '),
    (
      ['train', '--text=x'],
      '--text=x: an option of eval, translate, not of train; choose from config, ',
    ),
    (['train', '--seed=3'], '--seed=3: no option of train (did you mean --config.seed?); '),
    (['train', '--train.steps=3'], '--train.steps=3: no option of train (did you mean --config.tr'),
    (['runs', '--seed=3'], '--seed=3: an option of sample, play, match, not of runs; choose from '),
    (['train', '--workdir'], '--workdir: needs a value, as in --workdir=VALUE'),
    (['train', '--workdir', '--dry_run'], '--workdir: needs a value'),
    (['report', '--record='], '--record: needs a value'),
    (['train', '--config.seed'], '--config.seed: needs a value'),
    (['train', '--config=a', '--config=b'], "--config: given twice, 'a' and 'b'; give one"),
    (['train', '--config.a=1', '--config.a=2'], "--config.a: given twice, '1' and '2'; give one"),
    (['train', '--dry_run', '--nodry_run'], "--dry_run: given twice, 'true' and 'false'"),
    (['train', 'lenet_digits'], 'lenet_digits: one verb at a time (did you mean --config=lenet_d'),
    (['train', 'mine.py'], 'mine.py: one verb at a time (did you mean --config=mine.py?)'),
    (['train', 'tests'], 'tests: one verb at a time (did you mean --workdir=tests?)'),
    (['train', 'config=x'], 'config=x: one verb at a time (did you mean --config=x?)'),
    (['train', 'model.a=1'], 'model.a=1: one verb at a time (did you mean --config.model.a=1?)'),
    (['train', 'eval'], 'eval: one verb at a time; values are given as --option=value'),
    (['play', '--size=x'], '--size=x: must be a whole number'),
    (['play', '--num_simulations=0'], '--num_simulations=0: must be a whole number, at least 1'),
    (['play', '--komi=nan'], '--komi=nan: must be a finite number'),
    (['match', '--timeout=1e400'], '--timeout=1e400: must be a finite number'),
    (['play', '--resign=2'], '--resign=2: must be a finite number, at least 0, at most 1'),
    (['play', '--superko=simpel'], '--superko=simpel: no such choice (did you mean simple?); '),
    (['train', '--dry_run=maybe'], '--dry_run=maybe: must be true or false'),
    (['train', '--x\x1b[31m=3'], '--x\\x1b[31m=3: no option of train; '),
    (['tr\x1bain'], 'tr\\x1bain: no such verb (did you mean train?)'),
  ],
)
def test_a_mistake_is_told_with_its_hint_first(words, begins):
  assert error(*words).startswith(begins)


def test_the_choices_are_those_of_the_verb():
  for verb in VERBS:
    choices = error(verb, '--zzz=1').partition('choose from ')[2].split(', ')
    assert choices == commands.all_options(verb)


def test_a_long_word_is_not_repeated_whole():
  for words in (['x' * 5000], ['train', 'x' * 5000], ['train', f'--{"x" * 5000}={"y" * 5000}']):
    assert len(error(*words)) < 600


NAMES = sorted({name for verb in VERBS for name in commands.all_options(verb)})
WORD = st.one_of(
  st.sampled_from([*VERBS, 'help', '-h', '--help', '--', '-', '--=', '--config.', '--no', '---']),
  st.builds(
    '{}{}{}'.format,
    st.sampled_from(['--', '-', '--no', '']),
    st.sampled_from(NAMES),
    st.sampled_from(['', '=', '=x', '=1', '=-1', '=1e999', '=nan', '=\x00', '=é,ü']),
  ),
  st.builds('--config.{}={}'.format, st.text(max_size=9), st.text(max_size=9)),
  st.text(max_size=12),
)


@fuzzed
@given(st.lists(WORD, max_size=6))
def test_fuzz_no_command_line_ends_in_a_traceback(words):
  try:
    verb, overrides, _ = parse(*words)
  except UserError as told:
    assert '\x1b' not in str(told)
  else:
    assert verb is None or verb in VERBS
    assert all(isinstance(text, str) for text in overrides.values())
