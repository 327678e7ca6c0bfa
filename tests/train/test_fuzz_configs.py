"""Whatever is typed or a config file returns, a config is completed or refused in one line."""

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing import fuzzed
from train import config as config_lib
from train.errors import UserError
from train.sections import complete_config

NAMES = (
  *('lenet_digits', 'gpt_python_cpu', 'diffusion_digits', 'gan_digits', 'tictactoe'),
  'alphago_policy_cpu',
)
PATHS = [f'configs/{name}.py' for name in NAMES]

values = st.one_of(
  st.text(max_size=12),
  st.from_regex(r'-?[0-9(\[{]?[0-9]{0,3}([.,][0-9]*)?(e[0-9]{1,3})?[)\]}]?', fullmatch=True),
  st.sampled_from(['none', 'true', '1e400', '9' * 400, '(' * 2000, 'heun(churn=10)', 'a|b', '1j']),
)
anything = st.recursive(
  st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
  lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=6,
)


@functools.cache
def keys(path):
  return sorted(config_lib.flat(complete_config(config_lib.load(path))))


@st.composite
def overrides(draw):
  """Some keys of a config, cut, lengthened or whole, and values."""
  path = draw(st.sampled_from(PATHS))
  key = st.sampled_from(keys(path))
  cut = st.builds(lambda text, end: text[:end], key, st.integers(0, 12))
  longer = st.builds(lambda text, more: text + more, key, st.text('.x\n_', max_size=3))
  typed = st.one_of(key, key, key, cut, longer, st.text(max_size=8))
  return path, draw(st.lists(st.tuples(typed, values), min_size=1, max_size=3))


def is_completed_or_refused(complete):
  try:
    json.dumps(complete())
  except UserError as error:
    assert str(error).isprintable()
    assert len(str(error)) < 1500


@fuzzed
@given(overrides())
def test_fuzz_of_overrides(case):
  path, typed = case
  config = config_lib.load(path)

  def complete():
    changed = functools.reduce(lambda c, pair: config_lib.override(c, *pair), typed, config)
    return complete_config(changed)

  is_completed_or_refused(complete)


@fuzzed
@given(st.sampled_from(PATHS), st.data())
def test_fuzz_of_values_in_a_file(path, data):
  """A saved config in which one value, or one section, is another."""
  config = json.loads(json.dumps(complete_config(config_lib.load(path))))
  *sections, key = data.draw(st.sampled_from(keys(path))).split('.')
  depth = data.draw(st.integers(0, len(sections)))
  node = functools.reduce(dict.__getitem__, sections[:depth], config)
  node[[*sections, key][depth]] = data.draw(anything)
  is_completed_or_refused(lambda: complete_config(config))


@pytest.mark.parametrize(
  'returned', ['None', '3', '"text"', '[1, 2]', '[("a", 1)]', '{3: 4}', '(x for x in "ab")']
)
def test_a_config_file_that_returns_no_dict_is_refused(tmp_path, returned):
  path = tmp_path / 'own.py'
  path.write_text(f'def get_config():\n  return {returned}\n')
  with pytest.raises(UserError, match=r'own\.py: get_config\(\) must return a dict'):
    config_lib.load(str(path))


def test_a_config_file_that_leaves_is_no_end_without_a_word(tmp_path):
  path = tmp_path / 'own.py'
  path.write_text('import sys\nsys.exit(0)\n')
  with pytest.raises(UserError, match='SystemExit'):
    config_lib.load(str(path))


def test_what_is_typed_does_not_reach_the_terminal_raw():
  with pytest.raises(UserError) as caught:
    complete_config(config_lib.override({}, 'se\x1b[2Jed', '\n'))
  assert '\\x1b[2J' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('value', [float('inf'), float('nan'), 10**400])
def test_a_number_of_a_file_that_no_float_holds_is_refused(value):
  with pytest.raises(UserError, match='must be a float'):
    config_lib.fit(value, float, 'optimizer.learning_rate')


def test_a_name_that_is_no_text_is_refused():
  with pytest.raises(UserError, match=r'model\.name=\[\]: no such name; choose from '):
    complete_config({**config_lib.load(PATHS[0]), 'model': {'name': []}})
