"""The verb `runs`: every run folder in a line, whatever state it is in."""

import json
import shutil

import pytest

from tests.train.report.test_report import run_folder
from train.errors import UserError
from train.report import listing
from train.workdir import lock


def rows(folder, **options):
  head, *lines = listing.table(str(folder), **options).splitlines()
  assert head.split() == list(listing.HEAD)
  return {line.split()[0].rpartition('/')[2]: line.split()[1:] for line in lines}


def test_a_run_has_its_config_step_seed_and_headline(tmp_path):
  run_folder(tmp_path / 'a', seed=3, error=0.0125)
  config = json.loads((tmp_path / 'a' / 'config.json').read_text())
  config['task'] = {'name': 'classify'}
  (tmp_path / 'a' / 'config.json').write_text(json.dumps(config))
  command = 'python launch.py train --config=lenet_digits --config.seed=3'
  (tmp_path / 'a' / 'run.json').write_text(json.dumps({'starts': [{'command': command}]}))
  assert rows(tmp_path)['a'] == [
    'lenet_digits',
    '300/300',
    '3',
    'test/error',
    *('1.25', '%', '0.95', '%'),
  ]
  with lock(str(tmp_path / 'a')):
    assert rows(tmp_path)['a'][-1] == 'running'


@pytest.fixture
def one(tmp_path):
  run_folder(tmp_path / 'good')
  config = json.loads((tmp_path / 'good' / 'config.json').read_text())
  (tmp_path / 'good' / 'config.json').write_text(
    json.dumps({**config, 'task': {'name': 'classify'}})
  )
  return tmp_path


@pytest.mark.parametrize(
  ('text', 'why'),
  [
    ('', 'damaged'),
    ('[]', 'damaged'),
    ('{"model_type": "gpt2"}', 'of another program'),
    ('{"task": "x", "train": [], "paper": 5}', 'damaged'),
    ('{"task": {"name": 3}, "train": {"steps": 1}, "paper": 5}', 'of another type, left out'),
    ('\x00' * 40, 'damaged'),
  ],
)
def test_one_that_is_damaged_does_not_hide_the_others(one, text, why):
  (one / 'bad').mkdir()
  (one / 'bad' / 'config.json').write_text(text)
  found = rows(one)
  assert found['good'][0] == 'lenet'
  assert why in ' '.join(found['bad'])


def test_damaged_parts_are_named(one):
  (one / 'good' / 'eval.json').write_text('{"metrics"')
  (one / 'good' / 'run.json').write_text('\xff')
  assert ' '.join(rows(one)['good']).endswith(
    'run.json is damaged and left out, eval.json is damaged and left out'
  )


def test_links_are_followed_and_a_circle_ends(one, tmp_path_factory):
  other = tmp_path_factory.mktemp('elsewhere')
  shutil.copytree(one / 'good', other / 'far')
  (one / 'far').symlink_to(other / 'far')
  (other / 'far' / 'back').symlink_to(one)
  (one / 'nowhere').symlink_to('nothing')
  assert sorted(rows(one)) == ['far', 'good']


def test_a_narrow_terminal_has_the_cells_below_the_name(one):
  text = listing.table(str(one), columns=50)
  assert '\n  lenet  300/300  0  test/error  1.00 %' in text
  assert listing.table(str(one), columns=500) == listing.table(str(one))


def test_names_do_not_steer_the_terminal(one):
  shutil.copytree(one / 'good', one / 'a\x1b[31m\nb')
  assert 'a\\x1b[31m\\nb' in listing.table(str(one)) and '\x1b' not in listing.table(str(one))


def test_no_run_and_no_folder(tmp_path):
  with pytest.raises(
    UserError, match=f'--folder={tmp_path}: holds no run; `launch.py train` makes'
  ):
    listing.table(str(tmp_path))
  with pytest.raises(UserError, match='nowhere: no such folder'):
    listing.table(str(tmp_path / 'nowhere'))
