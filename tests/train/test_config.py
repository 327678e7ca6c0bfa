"""A section is one constructor's keyword arguments: what is filled in, what is refused and how."""

import dataclasses
import functools
import json
from typing import Any, Literal

import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from train import config as config_lib
from train.config import complete, override
from train.config_types import OverrideText
from train.errors import UserError


def sgd(
  learning_rate: float,
  momentum: float = 0.9,
  *,
  milestones: tuple[int, ...] = (),
  clip_norm: float | None = None,
  steps: int = 0,
):
  return ('sgd', learning_rate, momentum, milestones, clip_norm, steps)


@dataclasses.dataclass
class Loop:
  steps: int = 10
  mode: Literal['min', 'max'] = 'min'
  hooks: list[str] = dataclasses.field(default_factory=list)


class Net(nn.Module):
  num_classes: int
  stages: tuple[int, ...] = (3, 3, 3)
  dtype: str = 'float32'
  activation: Any = nn.relu  # no value of JSON: not for configs

  @nn.compact
  def __call__(self, x):
    return nn.Dense(self.num_classes)(x)


TABLE = {'sgd': sgd, 'sgd_plain': functools.partial(sgd, momentum=0.0)}


def error(*arguments, **keywords) -> str:
  with pytest.raises(UserError) as caught:
    complete(*arguments, **keywords)
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_defaults_come_from_the_signature():
  section = complete({'name': 'sgd', 'learning_rate': 1}, TABLE, 'optimizer', given=('steps',))
  assert section == {
    'name': 'sgd',
    'learning_rate': 1.0,
    'momentum': 0.9,
    'milestones': (),
    'clip_norm': None,
  }
  assert type(section['learning_rate']) is float
  assert complete({'name': 'sgd_plain', 'learning_rate': 1}, TABLE, 'optimizer')['momentum'] == 0.0
  assert complete({}, Loop, 'train') == {'steps': 10, 'mode': 'min', 'hooks': []}


@dataclasses.dataclass(frozen=True)
class Search:
  num_simulations: int = 32
  policy: Literal['puct', 'gumbel'] = 'puct'


class Player:
  def __init__(self, games: int, *, search: Search = Search(num_simulations=50), seed: int = 0):
    self.games, self.search, self.seed = games, search, seed


def test_arguments_that_are_grouped_in_a_dataclass_are_a_section_in_the_section():
  whole = complete({'games': 2}, Player, 'task')
  assert whole == {
    'games': 2,
    'search': {'num_simulations': 50, 'policy': 'puct'},
    'seed': 0,
  }
  changed = override({'task': {'games': 2}}, 'task.search.num_simulations', '8')
  changed = override(changed, 'task.search.policy', 'gumbel')
  player = config_lib.build(changed['task'], Player, 'task')
  assert player.search == Search(8, 'gumbel') and player.games == 2
  assert config_lib.build(json.loads(json.dumps(whole)), Player, 'task').search == Search(
    50, 'puct'
  )


def test_what_is_wrong_in_a_group_is_named_by_its_whole_key():
  wrong = {'games': 2, 'search': {'num_simulation': 8}}
  assert error(wrong, Player, 'task') == (
    'task.search.num_simulation=8: unknown key (did you mean num_simulations?);'
    ' choose from num_simulations, policy'
  )
  assert 'must be a section' in error({'games': 2, 'search': 3}, Player, 'task')
  wrong = {'games': 2, 'search': {'policy': 'pucd'}}
  assert 'task.search.policy=' in error(wrong, Player, 'task')


def test_a_linen_module_shows_its_own_fields_alone():
  section = complete('net', {'net': Net}, 'model', given=('num_classes',))
  assert section == {'name': 'net', 'stages': (3, 3, 3), 'dtype': 'float32'}
  module = config_lib.build(section, {'net': Net}, 'model', num_classes=7)
  assert (module.num_classes, module.stages) == (7, (3, 3, 3))


def test_a_config_survives_its_json():
  section = {'name': 'sgd', 'learning_rate': 0.1, 'milestones': (3, 5)}
  once = complete(section, TABLE, 'optimizer')
  assert complete(json.loads(json.dumps(once)), TABLE, 'optimizer') == once


def test_errors_name_the_value_the_rule_and_the_choices():
  assert error({'name': 'sgd', 'learning_rate': 1, 'momentm': 0.9}, TABLE, 'optimizer') == (
    'optimizer.momentm=0.9: unknown key (did you mean momentum?); choose from name,'
    ' learning_rate, momentum, milestones, clip_norm, steps'
  )
  assert error({'name': 'adm'}, TABLE, 'optimizer') == (
    "optimizer.name='adm': no such name; choose from sgd, sgd_plain"
  )
  assert error({}, TABLE, 'optimizer') == (
    'optimizer.name: needs a value; choose from sgd, sgd_plain'
  )
  assert error('sgd', TABLE, 'optimizer') == ('optimizer.learning_rate: needs a value, a float')
  assert error({'steps': 'many'}, Loop, 'train') == "train.steps='many': must be an int"
  assert error({'mode': 'mim'}, Loop, 'train') == (
    "train.mode='mim': no such choice (did you mean min?); choose from min, max"
  )
  assert error({'name': 'sgd', 'learning_rate': 1, 'clip_norm': 'x'}, TABLE, 'optimizer') == (
    "optimizer.clip_norm='x': must be a float or none"
  )
  assert 'num_classes' in error({'num_classes': 3}, Net, 'model', given=('num_classes',))


@pytest.mark.parametrize(
  ('value', 'hint', 'result'),
  [
    (3, float, 3.0),
    (1e6, int, 1_000_000),
    ([1, 2], tuple[int, ...], (1, 2)),
    ([1, 2.5], tuple[float, float], (1.0, 2.5)),
    (None, float | None, None),
    (7, Literal['best'] | int, 7),
    ([[1, 2]], Any, [[1, 2]]),
    (OverrideText('1e-3'), float, 1e-3),
    (OverrideText('1e6'), int, 1_000_000),
    (OverrideText('false'), bool, False),
    (OverrideText('none'), float | None, None),
    (OverrideText('none'), str, 'none'),
    (OverrideText('3'), str, '3'),
    (OverrideText('1,2'), tuple[int, ...], (1, 2)),
    (OverrideText('(0.5, 1)'), float | tuple[float, ...], (0.5, 1.0)),
    (OverrideText('mnist'), Any, 'mnist'),
  ],
)
def test_what_fits(value, hint, result):
  fitted = config_lib.fit(value, hint, 'config.key')
  assert (fitted, type(fitted)) == (result, type(result))


@pytest.mark.parametrize(
  ('value', 'hint'),
  [
    (True, int),
    (1, bool),
    (0.5, int),
    ('1', int),
    (3, str),
    (None, str),
    ((1, 2), tuple[int, int, int]),
    (('a',), tuple[int, ...]),
    (object(), Any),
    (OverrideText('yes'), bool),
    (OverrideText('[1'), tuple[int, ...]),
  ],
)
def test_what_does_not_fit(value, hint):
  with pytest.raises(UserError, match=r'^config\.key=.*: must be '):
    config_lib.fit(value, hint, 'config.key')


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans())
def test_text_reads_back_what_str_wrote(whole, real, words, truth):
  for value, hint in ((whole, int), (real, float), (words, str), (truth, bool)):
    assert config_lib.fit(OverrideText(value), hint, 'key') == value


def test_override_copies_and_reaches_deep():
  config = {'model': {'name': 'lenet', 'width': 2}, 'seed': 0}
  assert override(config, 'model.width', '4')['model'] == {'name': 'lenet', 'width': '4'}
  assert override(config, 'model', 'resnet20')['model'] == 'resnet20'
  assert override(config, 'data.dataset', 'mnist')['data'] == {'dataset': 'mnist'}
  assert config == {'model': {'name': 'lenet', 'width': 2}, 'seed': 0}
  both = override(override(config, 'model', 'vgg'), 'model.width', '1')
  assert both['model'] == {'name': 'vgg', 'width': '1'}
  with pytest.raises(UserError, match=r'seed\.x=1: seed is a value \(0\), not a section'):
    override(config, 'seed.x', '1')


def test_sections_and_what_stands_outside_of_them():
  def settings(seed: int = 0, parallel: Literal['jit', 'pmap'] = 'jit'): ...

  sections = {'optimizer': (TABLE, ('steps',)), 'train': (Loop, ())}
  config = override({'optimizer': {'name': 'sgd', 'learning_rate': 0.1}}, 'seed', '3')
  whole = config_lib.complete_sections(config, sections, settings)
  assert list(whole) == ['optimizer', 'train', 'seed', 'parallel']
  assert (whole['seed'], whole['train']['steps']) == (3, 10)
  with pytest.raises(UserError, match=r'optimzer: .*did you mean optimizer\?'):
    config_lib.complete_sections({'optimzer': {}}, sections, settings)
  with pytest.raises(UserError, match=r'train=3: must be a section'):
    config_lib.complete_sections({**config, 'train': 3}, sections, settings)


def test_load(tmp_path):
  path = tmp_path / 'small.py'
  path.write_text(
    'from ml_collections import ConfigDict\n\n\n'
    'def get_config():\n  return ConfigDict(dict(train=dict(steps=3), mean=(1, 2)))\n'
  )
  assert config_lib.load(str(path)) == {'train': {'steps': 3}, 'mean': (1, 2)}
  path.write_bytes(path.read_bytes().replace(b'\n', b'\r\n'))
  assert config_lib.load(str(path))['mean'] == (1, 2)
  with pytest.raises(UserError, match='no such config file'):
    config_lib.load(str(tmp_path / 'absent.py'))


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('x = 1', ": AttributeError: module 'config' has no attribute 'get_config'"),
    ('x = 1\ndef get_config(:', ', line 2: SyntaxError: '),
    ('\nimport nowhere', ", line 2: ModuleNotFoundError: No module named 'nowhere'"),
    ('def get_config():\n  x = 1\n  return y\n', ", line 3: NameError: name 'y' is not defined"),
    ('import json\ndef get_config():\n  return json.loads("{")', ', line 3: JSONDecodeError: '),
    ('def get_config():\n  raise SystemExit(3)', ', line 2: SystemExit: 3'),
    ('def get_config():\n  return None', r': get_config\(\) must return a dict of .*, not None'),
    ('def get_config():\n  return {3: 4}', r': get_config\(\) must return .*, not \{3: 4\}'),
    ('def get_config():\n  return {"a": {1, 2}}', r': get_config\(\) must return '),
  ],
)
def test_an_error_in_a_config_file_names_its_line(tmp_path, text, message):
  path = tmp_path / 'mine.py'
  path.write_text(text)
  with pytest.raises(UserError, match=f'^{path}{message}'):
    config_lib.load(str(path))


def test_a_file_of_another_kind_and_one_of_windows(tmp_path):
  (tmp_path / 'config.yaml').write_text('seed: 3')
  with pytest.raises(UserError, match=r'config\.yaml: a config is a file NAME\.py with get_config'):
    config_lib.load(str(tmp_path / 'config.yaml'))
  (tmp_path / 'config.json').write_bytes(b'\xef\xbb\xbf{"seed":\r\n 3}')
  assert config_lib.load(str(tmp_path / 'config.json')) == {'seed': 3}


# -------- what is damaged, or longer than a line --------


@pytest.mark.parametrize(
  'contents', [b'', b'{"seed": 1', b'[]', b'3', b'\xff\xfe', b'{"a": "\x00"}', b'[' * 100_000]
)
def test_a_damaged_config_json_is_named(tmp_path, contents):
  path = tmp_path / 'config.json'
  path.write_bytes(contents)
  with pytest.raises(
    UserError, match=r'config\.json: damaged, it should hold one JSON object'
  ) as caught:
    config_lib.load(str(path))
  assert len(str(caught.value)) < 300 and '\n' not in str(caught.value)


def test_a_long_value_is_not_repeated_whole():
  for wrong in ({'steps': 'x' * 5000}, {'mode': 'y' * 5000}, {'z' * 5000: 1}):
    assert len(error(wrong, Loop, 'train')) < 400


def test_a_number_that_no_float_holds_is_refused():
  config = override({'optimizer': {'name': 'sgd'}}, 'optimizer.learning_rate', '1e400')
  assert error(config['optimizer'], TABLE, 'optimizer') == (
    'optimizer.learning_rate=1e400: must be a float'
  )


def test_a_key_of_thousands_of_parts_is_refused():
  with pytest.raises(UserError, match='a key has at most 9 parts'):
    override({}, '.'.join(['a'] * 3000), '1')
