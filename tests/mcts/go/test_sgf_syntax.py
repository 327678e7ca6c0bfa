"""SGF as programs write it: charsets, damage, odd properties, and files without end."""

import itertools
import os

import numpy as np
import pytest

from mcts.go import sgf, sgf_syntax

# Whose second bytes are brackets or backslashes, beside one whose are not.
NAMES = {
  'shift_jis': 'ソ表ゾ高尾',
  'cp932': '①ソ',
  'big5': '功許',
  'gb18030': '朱譥誠',
  'euc_kr': '이창호',
  'cp949': '똠방각하',
  'euc_jp': '高尾',
  'iso2022_jp': '高尾紳路',
  'koi8-r': 'Иванов',
  'x-sjis': 'ソ表',
}


def game(charset, name, ca=''):
  charset = charset.removeprefix('x-')
  return f'(;SZ[9]{ca}PB[{name}]KM[6.5]PW[{name}];B[aa];W[bb]C[{name}];B[cc])'.encode(charset)


@pytest.mark.parametrize(('charset', 'name'), NAMES.items())
def test_a_charset_that_is_named(charset, name):
  record = sgf.read(game(charset, name, f'CA[{charset}]'))
  assert record.names == (name, name) and record.comments == {2: name}
  assert (record.komi, len(record.moves), record.notes) == (6.5, 3, ())


@pytest.mark.parametrize(('charset', 'name'), NAMES.items())
def test_nothing_is_lost_where_no_charset_is_named(charset, name):
  record = sgf.read(game(charset, name))
  assert (record.komi, len(record.moves)) == (6.5, 3)
  if charset in ('shift_jis', 'x-sjis', 'cp932', 'big5', 'gb18030'):
    assert record.names == (name, name) and 'no CA: read as' in record.notes[0]


@pytest.mark.parametrize(
  'said', ['UTF-8', 'nonsense', 'gb18030', 'Shift_JIS', 'UTF-16', 'undefined', 'unicode_escape', '']
)
def test_a_charset_that_is_not_the_files(said):
  record = sgf.read(game('latin-1', 'José', f'CA[{said}]'))
  assert record.names == ('José', 'José') and record.komi == 6.5 and len(record.moves) == 3
  assert (f'CA[{said}] does not fit: read as latin-1' in record.notes) == bool(said)
  assert sgf.read(game('ascii', 'Ann', f'CA[{said}]')).names == ('Ann', 'Ann')
  assert sgf.read(game('utf-8', '柯洁', f'CA[{said}]')).names == ('柯洁', '柯洁')


def test_a_character_that_was_cut_takes_no_other_with_it():
  record = sgf.read('(;SZ[9]PB[柯洁柯洁'.encode()[:-1] + b'];B[aa])')
  assert record.names[0].startswith('柯') and record.moves == [(0, 0)]
  assert record.notes == ('some of the text is not utf-8',)


@pytest.mark.parametrize('charset', ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be'])
def test_byte_order_marks_and_none(charset):
  assert sgf.read(game(charset, '柯洁')).names == ('柯洁', '柯洁')


def test_games_of_a_file_have_their_own_charsets():
  data = b'\n'.join(
    game(x, NAMES[x], f'GM[1]CA[{x}]') for x in ('shift_jis', 'euc_kr', 'big5', 'gb18030')
  )
  data += game('latin-1', 'José', 'GM[1]') + game('utf-8', '柯洁', 'GM[1]')
  names = [record.names[0] for record in sgf.main_lines(data)]
  assert names == [*(NAMES[x] for x in ('shift_jis', 'euc_kr', 'big5', 'gb18030')), 'José', '柯洁']


# -------- properties --------


@pytest.mark.parametrize(
  ('text', 'moves'),
  [
    (';AddBlack[aa]Black[bb]', [10]),  # FF[3]: small letters say nothing
    (';B[ aa ]', [0]),
    (';\n B\n[aa]\n; W [bb]', [0, 10]),
    (';B[aa]LB[bb:A][cc:\\]]TR[aa]MN[3];W[bb]', [0, 10]),
    (';B[]AB', None),
    (';B[aa][bb]', None),
    ('SZ[9]SZ[13];B[aa]', None),
    (';B[aa]B[bb]', None),
    (';b[aa]', None),
    (';B[AA]', None),
    (';B[aa:bb]', None),
    ('B[aa](;W[bb])B[cc]', None),
    (';B[aa]()', None),
    (';B[aa];W[bb', None),
    (';B[aa] what', None),
  ],
)
def test_properties_and_what_is_none(text, moves):
  data = f'(;SZ[9]{text})'.encode()
  if moves is None:
    with pytest.raises(ValueError, match=r'.'):
      sgf.read(data)
  else:
    assert [action for _, action in sgf.read(data).moves] == moves


def test_stones_set_up():
  read = lambda text: sgf.read(f'(;SZ[9]{text})'.encode())  # noqa: E731
  assert (read('AB[aa:bc]').board[:3, :2] == 1).all() and read('AB[aa:bc]').board.sum() == 6
  assert (read('AB[bc:aa]').board == read('AB[aa:bc][aa]').board).all()
  assert not read('AB[]').board.any()
  for text, why in {
    'AB[aa]AW[aa]': 'a point is set up twice',
    'AB[aa:cc]AE[bb]': 'a point is set up twice',
    'AB[tt]': "'tt': not on a board of size 9",
    'AB[a`]': "'a`': not on a board of size 9",
    'AB[]AW[aa:zz]': "'zz': not on a board of size 9",
    'AB[aa]AW[ab][ba]': 'a chain has no liberty',
  }.items():
    with pytest.raises(ValueError, match=f'stones set up after move 0: {why}'):
      read(text)


def test_whose_turn_it_is():
  read = lambda text: sgf.read(f'(;SZ[9]{text})'.encode())  # noqa: E731
  assert read('PL[W]').to_play == read(';PL[white]').to_play == sgf.WHITE
  assert read('PL[B]').to_play == read('PL[x]').to_play == sgf.BLACK
  same = read(';B[aa];PL[W]C[so it is]')
  assert same.moves == [(0, 0)] and same.comments == {1: 'so it is'} and not same.notes
  other = read(';B[aa];PL[B];B[bb]')
  assert other.moves == [(0, 10)] and other.board[0, 0] == 1
  assert other.notes == ('stones or a player set up after move 1: the game begins there',)
  assert read(';B[aa];B[bb]').moves == [(0, 0), (0, 10)]


def test_what_is_not_kept_is_said():
  note = lambda text: sgf.read(f'(;SZ[9]{text}'.encode()).notes  # noqa: E731
  assert note('KM[half])') == ('KM[half]: no number, so komi is 0',)
  assert note(f'KM[{"9" * 50}])') == (f'KM[{"9" * 30}...]: no number, so komi is 0',)
  assert note('KM[1e999])') == ('KM[1e999]: no number, so komi is 0',)
  assert note('HA[two])') == ('HA[two]: no number',)
  assert note('PL[x])') == ('PL[x]: no player',)
  assert note('HA[2];W[aa])') == ('HA[2], but no stones are set up',)
  assert note(';B[aa]);W[bb])') == ("';W[bb])' after the game is not read",)
  assert "';W[bb])' after the game is not read" in sgf.read_all(b'(;;B[aa]);W[bb])')[0].notes
  assert note('KM[0]HA[])\n\x1a') == note('KM[])') == note('HA[1];B[aa])\n') == ()


def test_comments_without_a_move_between_them_are_all_kept():
  record = sgf.read(b'(;SZ[9]C[one];C[two];B[aa]C[three];C[four];W[bb])')
  assert record.comments == {0: 'one\n\ntwo', 1: 'three\n\nfour'}


@pytest.mark.parametrize('cut', [';B[aa]', ';B[aa]C[(so) \\] far', ';B[a', ';B', '(;B[aa])', ''])
def test_what_is_cut_is_called_so(cut):
  with pytest.raises(ValueError, match='cut short: the file ends within the game'):
    sgf.read(f'(;SZ[9]{cut}'.encode())


def test_a_header_may_come_later():
  record = sgf.read(b'(;SZ[9];PB[Ann]KM[6.5]RE[B+R];B[aa];KM[0])')
  assert (record.names[0], record.komi, record.result) == ('Ann', 6.5, 'B+R')


def test_games_that_were_merged_as_variations_keep_their_size():
  assert [x.size for x in sgf.read_all(b'(;SZ[9](;SZ[9];B[aa])(;SZ[9:9];B[bb]))')] == [9, 9]
  with pytest.raises(ValueError, match=r'SZ\[9\] within a game of size 19'):
    sgf.read(b'(;(;SZ[9];B[aa])(;SZ[9];B[bb]))')


def test_a_broken_game_costs_no_other():
  data = b'(;GM[1]SZ[9];B[aa](;W[bb]!)(;W[cc]))(;GM[1]SZ[9];B[dd])(;GM[2])(;GM[1];B[pd]'
  found = [x if isinstance(x, ValueError) else x.moves for x in sgf.main_lines(data)]
  assert found[1] == [(0, 30)] and len(found) == 4
  assert [str(x) for x in found if isinstance(x, ValueError)] == [
    "'!)(;W[cc]))(;GM[1]SZ[9];B[dd])...': no SGF",
    'GM[2]: must be 1, Go',
    'cut short: the file ends within the game',
  ]


def test_errors_are_a_short_line_without_control_characters(tmp_path):
  for text in (
    '(;GM[\x1b[31m\n\n])',
    '(;SZ[\x07])',
    '(;B[\x1b])',
    f'(;SZ[{"9" * 10_000}])',
    '(;\x1b',
  ):
    with pytest.raises(ValueError, match=r'.') as error:
      sgf.read(text.encode())
    assert str(error.value).isprintable() and len(str(error.value)) < 150
  path = tmp_path / 'game.sgf'
  path.write_bytes(b'(;SZ[26])')
  with pytest.raises(ValueError, match=r'game.sgf: SZ\[26\]'):
    sgf.read(path)


@pytest.mark.parametrize(('text', 'points'), [('B+3,5', 3.5), ('B+3 1/2', None), ('W+2½', None)])
def test_margins(text, points):
  found = sgf.margin(text)
  assert found == points if points else np.isnan(found)


# -------- size --------


def comb(branches):
  """A game of so many moves with a side branch at each."""
  points = itertools.cycle(a + b for a in 'abcdefghijklmnopqrs' for b in 'abcdefghijklmnopqrs')
  moves = ''.join(f';B[{next(points)}](;W[aa])(' for _ in range(branches))
  return f'(;SZ[19]{moves};B[]{")" * (branches + 1)}'.encode()


def test_side_branches_take_linear_time(monkeypatch):
  seen = []
  point = sgf._point
  monkeypatch.setattr(sgf, '_point', lambda text, size: seen.append(text) or point(text, size))
  records = sgf.read_all(comb(1000))
  assert len(records) == 1001 and len(seen) == 2000  # each move once, and not from the root again
  assert [len(record.moves) for record in records] == [*range(2, 1002), 1001]


def test_many_variations_together_are_refused_before_memory_is_full(monkeypatch):
  monkeypatch.setattr(sgf, 'MAX_TOTAL', 1000)
  with pytest.raises(ValueError, match='variations of more than 1000 moves together'):
    sgf.read_all(comb(100))


def test_nesting():
  assert len(sgf.read(b'(;SZ[9]' + b'(;B[aa]' * 100_000 + b')' * 100_001).moves) == 100_000
  with pytest.raises(ValueError, match='cut short'):
    sgf.read(b'(;' * 100_000)
  with pytest.raises(ValueError, match='a variation of more than 262144 nodes'):
    sgf.read(b'(' + b';' * 300_000 + b')')


def test_what_has_no_end_is_not_read(tmp_path, monkeypatch):
  os.mkfifo(tmp_path / 'pipe')
  for path in ('/dev/zero', tmp_path / 'pipe', tmp_path):
    with pytest.raises(ValueError, match='must be a file, not a folder, a device or a pipe'):
      sgf.read(path)
  path = tmp_path / 'large.sgf'
  path.write_bytes(b'(;SZ[9])')
  os.truncate(path, 3 << 30)  # a hole, not written
  with pytest.raises(ValueError, match=r'large.sgf: 3072 MiB: must be at most 64 MiB'):
    sgf.read(path)
  assert sgf_syntax.content(b'(;)') == b'(;)'
