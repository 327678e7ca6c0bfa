"""run.json is a record: damage to it is said, kept, and no reason not to train."""

import json

import pytest

from train.provenance import provenance, record_start


@pytest.mark.parametrize(
  'contents',
  [b'', b'{"starts": [', b'[]', b'\xff\xfe', b'{"starts": 5}', b'{"starts": null}', None],
)
def test_a_damaged_record_is_kept_and_a_new_one_begins(tmp_path, capsys, contents):
  path = tmp_path / 'run.json'
  if contents is None:
    path.mkdir()
  else:
    path.write_bytes(contents)
  record_start(str(tmp_path), 7, {'seed': 3}, {})
  run = json.loads(path.read_text())
  assert (run['seed'], [start['step'] for start in run['starts']]) == (3, [7])
  assert 'run.json.damaged, a new record begins' in capsys.readouterr().err
  kept = tmp_path / 'run.json.damaged'
  assert kept.is_dir() if contents is None else kept.read_bytes() == contents


def test_a_whole_record_goes_on(tmp_path, capsys):
  for step in (0, 5):
    record_start(str(tmp_path), step, {'seed': 3}, {})
  starts = json.loads((tmp_path / 'run.json').read_text())['starts']
  assert [start['step'] for start in starts] == [0, 5]
  assert capsys.readouterr().err == ''


def test_without_git_the_commit_is_the_one_that_an_image_was_made_of(monkeypatch):
  monkeypatch.setenv('PATH', '')
  monkeypatch.delenv('BREAKTHROUGHS_COMMIT', raising=False)
  assert provenance()['commit'] is None
  monkeypatch.setenv('BREAKTHROUGHS_COMMIT', '0123abc')
  assert provenance()['commit'] == '0123abc'
