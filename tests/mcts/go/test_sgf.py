"""SGF as it is found in the wild, and collections of games against the reader of single files."""

import gzip
import logging
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.go import collection
from mcts import go
from mcts.go import sgf

PLAIN = b'(;GM[1]FF[4]SZ[9]KM[6.5]RE[B+3.5];B[ee];W[ce];B[];W[gc])'


def games_folder():
  """The folder of records, where there is one."""
  given = os.environ.get('GO_DATA_DIR')
  if given is None and 'TFDS_DATA_DIR' in os.environ:
    given = pathlib.Path(os.environ['TFDS_DATA_DIR'], '..', 'go')
  return pathlib.Path(given) if given and pathlib.Path(given).is_dir() else None


needs_games = pytest.mark.skipif(games_folder() is None, reason='no folder at GO_DATA_DIR')


# -------- one file --------


def test_a_plain_game():
  record = sgf.read(PLAIN)
  assert (record.size, record.komi, record.result, record.board) == (9, 6.5, 'B+3.5', None)
  # Column then row from the upper left: `ce` is the third column, fifth row.
  assert record.moves == [(0, 4 * 9 + 4), (1, 4 * 9 + 2), (0, 81), (1, 2 * 9 + 6)]


def test_missing_tags():
  record = sgf.read(b'(;B[aa])')
  assert (record.size, record.komi, record.result, record.names) == (19, 0.0, '', ('', ''))
  assert sgf.read(b'(;)').moves == []


def test_both_ways_to_pass():
  assert sgf.read(b'(;SZ[19];B[tt];W[])').moves == [(0, 361), (1, 361)]
  assert sgf.read(b'(;SZ[9];B[tt])').moves == [(0, 81)]
  assert sgf.read(b'(;SZ[21];B[tt])').moves == [(0, 19 * 21 + 19)]


def test_handicap_and_set_up_stones():
  record = sgf.read(b'(;SZ[9]HA[2]AB[gc][cg]AW[aa:ca]KM[0.5];W[ee])')
  assert record.handicap == 2 and record.to_play == sgf.WHITE
  board = np.zeros((9, 9), int)
  board[2, 6] = board[6, 2] = 1
  board[0, :3] = -1
  assert (record.board == board).all()
  assert sgf.read(b'(;SZ[9]AB[gc][cg])').to_play == sgf.WHITE
  assert sgf.read(b'(;SZ[9]AB[gc]AW[ee])').to_play == sgf.BLACK
  assert sgf.read(b'(;SZ[9]AB[gc]AW[ee]PL[W])').to_play == sgf.WHITE


def test_stones_set_up_later_begin_anew():
  record = sgf.read(b'(;SZ[9];B[aa];W[ba];B[ee]C[gone];W[ab];AE[ee]AW[cc];B[dd]C[on])')
  assert record.moves == [(0, 3 * 9 + 3)] and record.comments == {1: 'on'}
  assert np.argwhere(record.board).tolist() == [[0, 1], [1, 0], [2, 2]]  # aa was captured, ee taken


def test_stones_of_the_board_after_captures():
  record = sgf.read(b'(;SZ[5];B[aa];W[ba];B[ee];W[ab])')
  assert sgf.stones(record)[0, 0] == 0 and sgf.stones(record, 3)[0, 0] == 1
  assert not sgf.stones(record, 0).any()


def test_variations():
  text = b'(;SZ[9];B[aa](;W[bb];B[cc](;W[dd])(;W[ee];B[ff]))(;W[gg]))'
  lines = [[action // 9 for _, action in r.moves] for r in sgf.read_all(text)]
  assert lines == [[0, 1, 2, 3], [0, 1, 2, 4, 5], [0, 6]]
  assert sgf.read(text).moves == sgf.read_all(text)[0].moves
  assert len(sgf.read_all(text + b'\n' + PLAIN)) == 4


@pytest.mark.parametrize(
  ('data', 'name'),
  [
    ('(;PB[黑嘉嘉];B[aa])'.encode('gb18030'), '黑嘉嘉'),
    ('(;CA[Shift_JIS]PB[ソ表];B[aa])'.encode('shift_jis'), 'ソ表'),  # both hold a backslash
    ('(;CA[nonsense]PB[이세돌];B[aa])'.encode(), '이세돌'),
    ('(;CA[gb2312]PB[Müller];B[aa])'.encode(), 'Müller'),
    ('\ufeff(;PB[柯洁];B[aa])'.encode('utf-8'), '柯洁'),
    ('\ufeff(;PB[柯洁];B[aa])'.encode('utf-16-le'), '柯洁'),
    (b'(;PB[a \\] b \\\\ c];B[aa])', 'a ] b \\ c'),
    (b'(;PB[Gr\xe9goire\xff];B[aa])', 'Grégoireÿ'),
  ],
  ids=['gb', 'sjis', 'unknown', 'wrong', 'utf8-mark', 'utf16', 'escapes', 'latin'],
)
def test_odd_encodings(data, name):
  record = sgf.read(data)
  assert record.names[0] == name and record.moves == [(0, 0)]


@pytest.mark.parametrize(
  ('text', 'komi'),
  [('6.5', 6.5), ('6,5', 6.5), (' 7.5 ', 7.5), ('5.75', 5.75), ('100', 100), ('', 0)]
  + [('-5', -5), ('half', 0), ('nan', 0), ('inf', 0), ('0', 0)],
)
def test_komi(text, komi):
  assert sgf.komi(text) == komi
  assert sgf.komi_in_points(komi) == komi


@pytest.mark.parametrize(
  ('written', 'points'), [(375, 7.5), (3.75, 7.5), (2.75, 5.5), (650, 6.5), (750, 7.5), (-3, -3)]
)
def test_komi_as_servers_write_it(written, points):
  assert sgf.komi_in_points(written) == points


def test_a_record_of_ours_is_read_back_with_its_komi():
  for komi in (5.75, 100.0, -0.25, 3.75):
    assert sgf.read(sgf.write(sgf.Record(9, komi)).encode()).komi == komi


@pytest.mark.parametrize('point', ['a1', 'i`', 'A1', '1a', '{a', 'jj', 'a', 'aaa', '\xe9a'])
def test_what_is_no_point_of_the_board_is_named(point):
  with pytest.raises(ValueError, match='not on a board of size 9'):
    sgf.read(f'(;SZ[9];B[{point}])'.encode('latin-1'))


def test_accents_in_latin_1_take_no_bracket_with_them():
  header = b'(;GM[1]SZ[19]PB[Jos\xe9]PW[Andr\xe9]KM[6.5];B[pd])'
  record = sgf.read(header)
  assert (record.names, record.komi, record.moves) == (('José', 'André'), 6.5, [(0, 72)])
  record = sgf.read(b'(;;B[pd]C[caf\xe9];W[dp]C[d\xe9j\xe0];B[dd])')
  assert len(record.moves) == 3
  assert record.comments == {1: 'café', 2: 'déjà'}


@pytest.mark.parametrize(
  ('text', 'winner', 'margin'),
  [('B+R', 1, None), ('W+12.5', -1, 12.5), ('Black + 3', 1, 3), ('w+Time', -1, None), ('0', 0, 0)]
  + [('Draw', 0, 0), ('Void', 0, None), ('?', 0, None), ('', 0, None)],
)
def test_results(text, winner, margin):
  assert sgf.winner(text) == winner
  assert np.isnan(sgf.margin(text)) if margin is None else sgf.margin(text) == margin


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (b'', 'SGF'),
    (b'hello', 'SGF'),
    (b'(;SZ[9];B[ee', 'SGF|end'),
    (b'(;GM[2];B[ee])', r'GM\[2\]: must be 1, Go'),
    (b'(;SZ[26];B[ee])', r'SZ\[26\]: must be from 2 to 25'),
    (b'(;SZ[9:13];B[ee])', '.'),
    (b'(;SZ[9];B[zz])', r"move 'zz': not on a board of size 9"),
    (b'(;SZ[9];B[ee]W[dd])', 'both colours'),
    (b'(;SZ[2]AB[aa][ab]AW[ba][bb])', 'no liberty'),
  ],
)
def test_broken_files(data, message):
  with pytest.raises(ValueError, match=message):
    sgf.read(data)


def test_square_sizes_are_sizes():
  assert sgf.read(b'(;SZ[13:13])').size == 13


@settings(max_examples=50)
@given(st.data())
def test_what_is_written_is_read(data):
  size = data.draw(st.sampled_from((2, 9, 19, 25)))
  action = st.integers(0, size * size)
  moves = data.draw(st.lists(st.tuples(st.integers(0, 1), action), max_size=20))
  words = st.text(st.characters(codec='utf-8', categories=('L', 'N', 'P')), max_size=10)
  board = None
  if data.draw(st.booleans()):
    board = np.zeros((size, size), np.int8)
    board[0, 0], board[-1, -1] = 1, data.draw(st.sampled_from((0, -1)))
  given = sgf.Record(
    size=size,
    komi=data.draw(st.sampled_from((0.0, 6.5, -3.0))),
    board=board,
    to_play=moves[0][0] if moves else data.draw(st.integers(0, 1)) if board is not None else 0,
    moves=moves,
    result=data.draw(st.sampled_from(('', 'B+R', 'W+0.5'))),
    names=(data.draw(words), data.draw(words)),
    comments={i: f'at [{i}] \\' for i in range(0, len(moves) + 1, 3)},
    tags={'DT': '2016-03-10'},
  )
  got = sgf.read(sgf.write(given).encode())
  assert (got.board is None) == (board is None) or not board.any()
  assert board is None or (got.board == board).all()
  for name in ('size', 'komi', 'to_play', 'moves', 'result', 'names', 'comments', 'tags'):
    assert getattr(got, name) == getattr(given, name), name


def test_variations_are_written():
  lines = [[0, 1, 2, 3], [0, 1, 2, 4, 5], [0, 6], [7]]
  records = [sgf.Record(9, moves=[(i % 2, a) for i, a in enumerate(line)]) for line in lines]
  text = sgf.write(*records)
  assert [[a for _, a in r.moves] for r in sgf.read_all(text.encode())] == lines
  assert text.count('B[aa]') == 1
  with pytest.raises(ValueError, match='must begin from the same board'):
    sgf.write(records[0], sgf.Record(9, board=np.eye(9, dtype=np.int8)))


# -------- many games --------


LINES = [
  PLAIN,
  b'(;GM[1]FF[4]SZ[19]KM[6.5]RE[W+R];B[pd];W[tt];B[dp];W[sa])\r',
  b'(;SZ[9]C[;B[aa\\] is no move];B[ee];W[ce])',
  b'',
  b'(;SZ[9]HA[2]AB[gc][cg];W[ee];B[aa])',
  b'(;SZ[9] ;B [ee] ;W[ce]C[a comment](;B[cc])(;B[dd]))',
  b'(;SZ[9]PB[x])',
  b'(;SZ[13]RE[Draw];W[aa];B[mm])',
]
BROKEN = [
  b'(;SZ[9];B[ee];B[ce])',
  b'(;SZ[9];B[ee];W[jj])',
  b'garbage',
  b'(;SZ[9];B[ee];W[c',
  b'(;GM[5];B[ee])',
]


def record_of(games, i):
  """Returns one game of a collection as the reader of single files does."""
  size, first = int(games.size[i]), int(games.first[i])
  actions = games.moves[i, : games.lengths[i]].tolist()
  moves = [((first + turn) % 2, action) for turn, action in enumerate(actions)]
  board = games.boards[games.start[i], :size, :size] if games.start[i] else None
  return sgf.Record(size, float(games.komi[i]), board, first, moves, '')


def parse(lines):
  return collection.parse([(b'\n'.join(lines), [f'game {i}' for i in range(len(lines))])])


def test_a_collection_is_what_the_reader_of_single_files_reads():
  games = parse(LINES)
  assert games.broken == () and len(games) == len(LINES) - 1
  for i, line in enumerate(x for x in LINES if x):
    record, mine = sgf.read(line), record_of(games, i)
    for name in ('size', 'komi', 'moves', 'to_play'):
      assert getattr(mine, name) == getattr(record, name), (name, line)
    board = np.zeros((record.size, record.size)) if record.board is None else record.board
    assert (games.boards[games.start[i]][: record.size, : record.size] == board).all()
    assert games.result[i] == sgf.winner(record.result)
    np.testing.assert_equal(games.margin[i], np.float32(sgf.margin(record.result)))
  assert games.moves.dtype == np.int16 and games.moves[0].tolist() == [40, 38, 81, 24]
  assert (games.moves[4][games.lengths[4] :] == -1).all()


def test_broken_games_are_named_and_left_out():
  games = parse([LINES[0], *BROKEN, LINES[1]])
  assert len(games) == 2
  assert [line.split(':')[0] for line in games.broken] == [f'game {i}' for i in range(1, 6)]
  assert 'black moves twice in a row' in games.broken[0]
  assert 'move 2: not on a board of size 9' in games.broken[1]


@settings(max_examples=100)
@given(
  st.lists(st.tuples(st.sampled_from(LINES + BROKEN), st.integers(0, 80), st.binary(max_size=3)))
)
def test_damage_in_one_line_does_no_harm_to_others(lines):
  damaged = [a[:at] + b.replace(b'\n', b'') + a[at + 1 :] for a, at, b in lines]
  together = parse([x for line in damaged for x in (line, PLAIN)])
  alone = [parse([line]) for line in damaged]
  assert len(together) == len(damaged) + sum(map(len, alone))
  assert len(together.broken) == sum(len(x.broken) for x in alone)


@pytest.fixture
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache'


def test_a_file_in_pieces_and_the_cache(cache, tmp_path, monkeypatch, caplog):
  path = tmp_path / 'games.txt.gz'
  with gzip.open(path, 'wb') as file:
    file.write(b'\n'.join(LINES * 20 + BROKEN))
  whole = parse(LINES * 20 + BROKEN)
  monkeypatch.setattr(collection, 'CHUNK', 700)
  with caplog.at_level(logging.WARNING):
    games = collection.load(path)
  assert '5 of 145 games left out: line 161: ' in caplog.text
  again = collection.load(path)
  for name in ('moves', 'lengths', 'size', 'komi', 'result', 'margin', 'first'):
    np.testing.assert_array_equal(getattr(games, name), getattr(whole, name))
    np.testing.assert_array_equal(getattr(games, name), getattr(again, name))
  for i in range(len(games)):
    np.testing.assert_array_equal(games.boards[games.start[i]], whole.boards[whole.start[i]])
  assert games.broken == again.broken and len(games.broken) == 5
  monkeypatch.setattr(collection, 'parse', None)  # what is cached is not read again
  collection.load(path)


def test_a_damaged_cache_is_made_anew(cache, tmp_path):
  path = tmp_path / 'games.txt'
  path.write_bytes(b'\n'.join(LINES))
  games = collection.load(path)
  (stored,) = cache.rglob('*.npz')
  for content in (b'', b'junk', stored.read_bytes()[:-100]):
    stored.write_bytes(content)
    assert len(collection.load(path)) == len(games)
  path.write_bytes(PLAIN)  # another file: another cache
  assert len(collection.load(path)) == 1


def test_a_folder_of_files(cache, tmp_path):
  for i, line in enumerate(LINES[:3]):
    (tmp_path / f'{i}.sgf').write_bytes(line.replace(b';B', b'\n;B'))
  (tmp_path / 'bad.sgf').write_bytes(b'(;')
  games = collection.load(tmp_path)
  assert len(games) == 3 and games.broken[0].startswith('bad.sgf: ')
  assert record_of(games, 0).moves == sgf.read(PLAIN).moves


def test_no_such_file():
  with pytest.raises(ValueError, match=r"games 'absent': no such file or folder"):
    collection.load('absent')


# -------- through the rules --------


def replay(games, chosen, size=19):
  """How many of the chosen games' moves are illegal, and their last boards."""
  rules = go.Go(size, max_moves=722)
  chosen = np.flatnonzero(games.size == size)[chosen]
  moves = jnp.asarray(games.moves[chosen], jnp.int32)
  play = jax.jit(jax.vmap(lambda moves: rules.replay(rules.init(), moves)))
  states, legal = play(moves)
  return int((~legal).sum()), np.asarray(jax.vmap(rules.board)(states)), chosen


@needs_games
@pytest.mark.slow
def test_the_famous_games_are_legal():
  folder = games_folder() / 'famous'
  games = collection.load(folder)
  assert len(games) == 216 and not games.broken
  illegal, boards, chosen = replay(games, slice(None))
  assert not illegal
  for i in range(0, 216, 20):
    assert (boards[i] == sgf.stones(record_of(games, chosen[i]))).all()


@pytest.mark.long
@needs_games
def test_a_sample_of_server_games_is_legal():
  with gzip.open(games_folder() / 'tygem_9d.txt.gz') as file:
    lines = [file.readline() for _ in range(64)]
  games = parse([line.strip() for line in lines])
  illegal, boards, _ = replay(games, slice(0, 8))
  assert not illegal and len(games) == 64
  assert all((boards[i] == sgf.stones(record_of(games, i))).all() for i in range(8))


@needs_games
def test_all_server_games_are_read():
  games = collection.load(games_folder() / 'tygem_9d.txt.gz')
  assert len(games) == 20_000 and not games.broken
  assert set(games.size.tolist()) == {19} and set(games.komi.tolist()) == {6.5}
  assert abs((games.result == 1).mean() - 0.503) < 0.005
  assert games.lengths.min() >= 60
