"""Folders and files of games as users have them: all is read, or counted and named."""

import gzip
import logging
import os
import pathlib
import zipfile

import numpy as np
import pytest

from data.go import collection, parsing
from data.go.source import GoGames
from mcts.engines.ruleset import RuleSet
from mcts.match.record import GameRecord
from mcts.match.terms import MatchTerms


def game(number, komi='6.5', extra='', result='B+R'):
  return f'(;GM[1]SZ[9]KM[{komi}]RE[{result}]{extra};B[a{chr(97 + number)}];W[bb])'.encode()


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path


@pytest.fixture
def folder(cache):
  path = cache / 'games'
  path.mkdir()
  return path


def said(caplog):
  return ' | '.join(record.getMessage() for record in caplog.records)


def test_a_folder_is_read_whatever_its_files_are_called(folder, cache):
  (folder / 'a.SGF').write_bytes(game(0))
  (folder / 'b.sgf').write_bytes(game(1) + b'\n\n' + game(2).replace(b';', b'\n;'))
  (folder / 'c.Sgf.gz').write_bytes(gzip.compress(game(3)))
  (cache / 'elsewhere').mkdir()
  (cache / 'elsewhere' / 'd.sgf').write_bytes(game(4))
  os.symlink(cache / 'elsewhere', folder / 'link')
  os.symlink(folder, cache / 'elsewhere' / 'back')
  (folder / 'e.sgf').write_bytes(game(5).decode().encode('utf-16'))
  games = collection.load(folder)
  assert games.names == ('a.SGF', 'b.sgf', 'b.sgf, game 2', 'c.Sgf.gz', 'e.sgf', 'link/d.sgf')
  assert (games.moves[:, 0] // 9).tolist() == [0, 1, 2, 3, 5, 4] and not games.broken


def test_what_is_left_out_is_counted_and_named_once(folder, caplog):
  (folder / 'good.sgf').write_bytes(game(0))
  (folder / 'empty.sgf').write_bytes(b' \n')
  (folder / 'cut.sgf.gz').write_bytes(gzip.compress(game(1))[:-9])
  (folder / 'bad.sgf.gz').write_bytes(gzip.compress(game(1))[:20] + b'damaged' * 9)
  (folder / 'second.sgf').write_bytes(game(2) + b'(;GM[1]SZ[9];B[zz])(;GM[1];B')
  (folder / 'handicap.sgf').write_bytes(game(3, extra='HA[4]'))
  (folder / 'long.sgf').write_bytes(b'(;SZ[9]' + b';B[];W[]' * (parsing.MAX_MOVES // 2 + 1) + b')')
  (folder / '.hidden.sgf').write_bytes(game(5))
  (folder / 'notes.txt').write_bytes(b'text')
  with zipfile.ZipFile(folder / 'more.zip', 'w') as archive:
    archive.writestr('x.sgf', game(4))
  os.symlink('/nowhere', folder / 'broken.sgf')
  os.mkfifo(folder / 'pipe.sgf')
  (folder / 'folder.sgf').mkdir()
  for name in ('.DS_Store', '._good.sgf', 'Thumbs.db', '@eaDir/good.sgf', '__MACOSX/good.sgf'):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b'of the system')
  with caplog.at_level(logging.WARNING):
    games = collection.load(folder)
    assert collection.load(folder).broken == games.broken  # from the cache
  assert games.names == ('good.sgf', 'second.sgf')
  why = dict(line.split(': ', 1) for line in games.broken)
  assert why.pop('bad.sgf.gz').startswith('the gzip file is cut or damaged')
  assert why == {
    'cut.sgf.gz': 'the gzip file is cut or damaged: Compressed file ended before the end-of-stream'
    ' marker was reached',
    'empty.sgf': 'it is empty',
    'second.sgf, game 2': "move 'zz': not on a board of size 9 (turn 1)",
    'second.sgf, game 3': 'cut short: the file ends within the game',
    'handicap.sgf': 'HA[4], but no stones are set up',
    'long.sgf': '4098 moves: must be at most 4096',
  }
  one, again = (record.getMessage() for record in caplog.records)
  assert one == again and '7 of 9 games left out: bad.sgf.gz: ' in one
  assert '5 other files are left out: .hidden.sgf; broken.sgf; more.zip and more' in one


def test_what_is_not_as_it_is_written_is_said(folder, caplog):
  (folder / 'a.sgf').write_bytes(game(0, komi='half'))
  (folder / 'b.sgf').write_bytes(b'(;SZ[9];B[aa];AW[bb];B[cc]);W[dd])')
  with caplog.at_level(logging.WARNING):
    collection.load(folder)
  assert '3 remarks on games that are read: a.sgf: KM[half]: no number, so komi is 0' in said(
    caplog
  )
  assert "b.sgf: ';W[dd])' after the game is not read" in said(caplog)


def test_a_folder_without_games_is_said(folder, caplog):
  with caplog.at_level(logging.WARNING):
    assert len(collection.load(folder)) == 0
  assert 'games: there is no SGF file' in said(caplog)


@pytest.mark.parametrize(
  ('name', 'content', 'why'),
  [
    (
      'games.txt.gz',
      gzip.compress(game(0) * 99, mtime=0)[:-9],  # one name for the case in every process
      'the gzip file is cut or damaged: Compressed',
    ),
    ('games.zip', b'PK\x03\x04\0\0', 'it is no text; an archive has to be unpacked'),
    ('games.txt', None, 'must be a file, not a folder, a device or a pipe'),
  ],
)
def test_a_file_that_cannot_be_read_is_named(cache, name, content, why):
  if content is None:
    os.mkfifo(cache / name)
  else:
    (cache / name).write_bytes(content)
  with pytest.raises(ValueError, match=f"{name}': {why}"):
    collection.load(cache / name)


def test_lines_without_end_are_not_read_into_memory(cache, monkeypatch):
  monkeypatch.setattr('mcts.go.sgf_syntax.MAX_BYTES', 1000)
  monkeypatch.setattr(collection, 'CHUNK', 100)
  (cache / 'games.txt').write_bytes(game(0) + b'\n' + b'x' * 2000)
  with pytest.raises(ValueError, match='line 2 is longer than'):
    collection.load(cache / 'games.txt')


def test_an_accent_or_a_double_byte_loses_no_komi_in_the_plain_form():
  lines = [
    game(0, extra='PB[Jos\xe9]PW[Andr\xe9]').decode().encode('latin-1'),
    game(1, extra='PB[表]PW[ゾ]').decode().encode('cp932'),
    game(2, extra='PB[柯洁]').decode().encode(),
    game(3, komi='6,5'),
    game(4, extra='HA[0]'),
  ]
  games = collection.parse([(b'\n'.join(lines), list('abcde'))])
  assert games.komi.tolist() == [6.5] * 5 and not games.broken and not games.notes


@pytest.mark.parametrize('komi', [5.75, 100.0, 3.75, 375.0, 2.75, -0.25])
def test_komi_of_our_own_matches_is_read_as_it_was(cache, komi):
  record = GameRecord.scored(0, 0, [1, 2], 3.0)
  path = pathlib.Path(cache, 'match.sgf')
  path.write_text(record.to_sgf(('a', 'b'), MatchTerms(RuleSet(9, komi))))
  assert collection.load(path).komi.tolist() == [komi]


# -------- for training --------


def test_games_with_nothing_to_learn_from_are_counted(cache, caplog):
  lines = [game(i % 9, result=r) for i, r in enumerate(['B+', 'W+R', 'B+T', 'W+F', 'B+0.5'] * 4)]
  lines += [game(0, result=r) for r in ('?', 'Void', '', 'white won')]
  lines += [b'(;SZ[9]KM[6.5]RE[B+R];B[];W[])', b'(;SZ[9]KM[6.5]RE[B+R])']
  lines += [b'(;SZ[9]KM[6.5]RE[0];B[aa];W[];B[];W[bb];B[cc])', game(1, komi='0.5')]
  (cache / 'games.txt').write_bytes(b'\n'.join(lines))
  with caplog.at_level(logging.WARNING):
    data = GoGames(str(cache / 'games.txt'), size=9, test_fraction=0.5, with_result=True)
  assert sum(len(data.split(x).result) for x in ('train', 'test')) == 22
  for text in (
    '2 games are left out, as they have no move but passes',
    '4 games are left out, as they do not say who won',
    '1 games end at two passes, though moves follow',
    '1 results are by another komi than 6.5',
  ):
    assert text in said(caplog)
  results = np.concatenate([data.split(x).result for x in ('train', 'test')])
  assert (results == 1).sum() == 13 and (results == -1).sum() == 8 and (results == 0).sum() == 1
  assert all((np.diff(data.split(x).first_target) > 0).all() for x in ('train', 'test'))


def test_the_game_that_is_illegal_is_named_with_its_file(folder, caplog):
  for i in range(9):
    (folder / f'{i}.sgf').write_bytes(game(i))
  (folder / 'illegal.sgf').write_bytes(b'(;SZ[9];B[aa];W[aa])')
  with caplog.at_level(logging.WARNING):
    GoGames(str(folder), size=9, test_fraction=0.5)
  assert 'game 10: move 2: the point is occupied (illegal.sgf)' in said(caplog)
