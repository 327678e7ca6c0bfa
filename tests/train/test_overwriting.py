"""What lies where a verb writes stays: the new file gets a name beside it, which is said."""

import json
import sys

import numpy as np
import pytest

from mcts.draw import diagram
from mcts.games import connect_four_solver
from mcts.match import arena, contestants
from tests.train.report.test_report import run_folder
from train import verbs
from train.report import page, results
from train.tasks.diffusion.sample import SampleWriter
from train.tasks.images.grids import ImageRequest
from train.workdir import free_path, ours_or_free


def test_the_next_free_name_counts(tmp_path):
  path = tmp_path / 'a.b' / 'grid-0.png'
  path.parent.mkdir()
  assert free_path(str(path)) == str(path)
  path.touch()
  (path.parent / 'grid-0-2.png').symlink_to('nowhere')
  assert free_path(str(path)) == str(path.parent / 'grid-0-3.png')
  assert free_path(f'{path.parent}/') == str(tmp_path / 'a.b-2')


@pytest.mark.parametrize(('contents', 'stays'), [('<html>mine', True), ('<html>{MARK}', False)])
def test_a_file_of_ours_is_replaced_and_no_other(tmp_path, contents, stays):
  path = tmp_path / 'x.html'
  path.write_text(contents)
  assert (ours_or_free(str(path), '{MARK}') != str(path)) == stays
  assert ours_or_free(str(tmp_path / 'new'), '{MARK}') == str(tmp_path / 'new')
  assert ours_or_free(str(tmp_path), '{MARK}') == f'{tmp_path}-2'


def test_samples_get_a_name_beside_those_before(tmp_path, capsys):
  request = ImageRequest(samples=1, labels=(), prompts=(), trajectories=False, seed=7)
  writer = SampleWriter.__new__(SampleWriter)
  writer.folder, writer.request = str(tmp_path), request
  for value in (0, 255):
    writer.save('grid', np.full((1, 8, 8, 1), value, np.uint8)[0])
  names = ['grid-7.png', 'grid-7-2.png']
  assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
  assert (tmp_path / names[0]).read_bytes() != (tmp_path / names[1]).read_bytes()


def test_a_report_replaces_its_own_page_and_no_other(tmp_path):
  run = run_folder(tmp_path / 'run')
  assert [page.write([run]) for _ in range(2)] == [f'{run}/report.html'] * 2
  mine = tmp_path / 'notes.html'
  mine.write_text('<html>mine')
  assert page.write([run], str(mine)) == str(tmp_path / 'notes-2.html')
  assert mine.read_text() == '<html>mine'


def test_a_record_replaces_a_record_and_no_other_file(tmp_path):
  run, path = run_folder(tmp_path / 'run'), tmp_path / 'lenet.json'
  assert [results.write([run], str(path)) for _ in range(2)] == [str(path)] * 2
  mine = tmp_path / 'package.json'
  mine.write_text('{"version": 1}')
  assert results.write([run], str(mine)) == str(tmp_path / 'package-2.json')
  assert mine.read_text() == '{"version": 1}'


def test_an_evaluation_of_something_else_is_kept(tmp_path, capsys):
  path = tmp_path / 'eval.json'
  last = {'step': 4, 'workdirs': ['a'], 'overrides': {}, 'options': {}, 'average': 1}
  verbs.keep_other(str(path), last)
  for old, kept in ((last, False), (last | {'step': 2}, True), ('half', True)):
    path.write_text(json.dumps(old) if isinstance(old, dict) else '{"step"')
    verbs.keep_other(str(path), last)
    assert path.exists() != kept
  said = capsys.readouterr().err.splitlines()
  assert said[0] == f'{path} was of something else: kept as {tmp_path / "eval-2.json"}'
  assert (tmp_path / 'eval-3.json').read_text() == '{"step"'


def test_a_picture_a_match_and_a_list_of_positions_want_a_new_name(tmp_path, monkeypatch, capsys):
  game, picture = tmp_path / 'a.sgf', tmp_path / 'a.png'
  game.write_text('(;GM[1]SZ[5];B[cc])')
  picture.write_text('mine')
  with pytest.raises(SystemExit, match=r'a\.png: is there already; give another name'):
    diagram.main([str(game), f'--output={picture}'])
  monkeypatch.setattr(sys, 'argv', ['solver', f'--output={picture}'])
  with pytest.raises(SystemExit):
    connect_four_solver.main()
  assert 'is there already; give another name' in capsys.readouterr().err
  assert picture.read_text() == 'mine'
  (tmp_path / 'match').mkdir()
  (tmp_path / 'match' / 'match.json').write_text('{}')
  random = contestants.from_spec('random')
  with pytest.raises(ValueError, match='holds the games of another match'):
    arena.match(random, random, None, workdir=str(tmp_path / 'match'))
