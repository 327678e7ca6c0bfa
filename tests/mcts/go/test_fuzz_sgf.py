"""Damaged SGF through all that reads it: a documented error, or moves that are on the board."""

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.go import collection, parsing
from mcts.go import sgf
from tests.fuzzing import fuzzed
from tests.mcts.gtp.gtp_talk import answer, new_session

VALID = [
  b'(;GM[1]FF[4]SZ[5]KM[6.5]PB[a]PW[b]RE[B+3.5];B[cc];W[dd];B[];W[ac])',
  b'(;FF[4]SZ[9]HA[2]AB[gc][cg]AW[aa:ca]KM[0.5]PL[W];W[ee](;B[dd];AE[ee])(;B[ff]C[a \\] b]))',
  b'(;SZ[5]RU[Japanese]DT[2016];B[ee];W[tt];B[dp])\n(;CA[UTF-8]SZ[5]PB[\xe6\x9f\xaf];B[aa])',
  '(;CA[Shift_JIS]SZ[5]PB[ソ表]EV[ゾ];B[aa])'.encode('cp932')
  + '(;CA[Big5]SZ[5]PB[功];W[bb])'.encode('big5'),
  b'(;SZ[5]PB[Jos\xe9]PW[Andr\xe9]KM[6,5];B[cc]C[caf\xe9];W[dd])',
  '(;GM[1]SZ[5]PB[柯洁];B[aa];W[bb])'.encode('gb18030'),
  '\ufeff(;SZ[5]PB[柯洁];B[aa];W[bb])'.encode('utf-16-le'),
]
TOKENS = [
  *(
    b'(',
    b')',
    b';',
    b'[',
    b']',
    b'\\',
    b':',
    b'\n',
    b'\0',
    b'\x1b',
    b'\x83',
    b'\xe9',
    b'(;',
    b')(',
  ),
  *(b'CA[Shift_JIS]', b'CA[utf-16]', b'CA[undefined]', b'CA[unicode_escape]', b'CA[', b'GM[1]'),
  *(
    b'SZ[25]',
    b'SZ[0]',
    b'SZ[9:9]',
    b'SZ[99999999999]',
    b'KM[1e999]',
    b'KM[nan]',
    b'HA[9]',
    b'RE[',
  ),
  *(b'AB[aa:ee]', b'AW[bb]', b'AE[zz]', b'PL[W]', b'PL[]', b'B[tt]', b'W[]', b'B[a1]', b'b[aa]'),
]


@st.composite
def damaged(draw) -> bytes:
  """Draws games with up to four changes of their bytes: cut, put in, taken from one another."""
  data = draw(st.sampled_from(VALID))
  other = draw(st.sampled_from(VALID))
  for _ in range(draw(st.integers(0, 4))):
    start, stop = sorted(draw(st.integers(0, len(data))) for _ in range(2))
    begin, end = sorted(draw(st.integers(0, len(other))) for _ in range(2))
    new = st.sampled_from([b'', other[begin:end], *TOKENS]) | st.binary(max_size=3)
    stop = draw(st.sampled_from([start, min(start + 1, len(data)), stop]))
    data = data[:start] + draw(new) + data[stop:]
  return data


def check(record: sgf.Record) -> None:
  points = record.size**2
  assert all(player in (0, 1) and 0 <= action <= points for player, action in record.moves)
  assert all(0 <= number <= len(record.moves) for number in record.comments)
  assert np.isfinite(record.komi) and '\x1b' not in ''.join(record.notes)
  assert record.board is None or record.board.shape == (record.size, record.size)
  again = sgf.read(sgf.write(record).encode())
  assert (again.moves, again.komi, again.to_play) == (record.moves, record.komi, record.to_play)


@fuzzed
@given(damaged())
def test_fuzz_every_variation_is_on_the_board(data):
  try:
    records = sgf.read_all(data)
  except ValueError as error:
    assert str(error).isprintable() and len(str(error)) < 300
    return
  for record in records:
    check(record)
  main = [x for x in sgf.main_lines(data) if isinstance(x, sgf.Record)]
  assert main and main[0].moves == records[0].moves


@fuzzed
@given(st.lists(damaged(), min_size=1, max_size=3))
def test_fuzz_a_folder_of_games(tmp_path_factory, monkeypatch, files):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.getbasetemp() / 'cache'))
  folder = tmp_path_factory.mktemp('games')
  for i, data in enumerate(files):
    (folder / f'{i}.sgf').write_bytes(data)
  (folder / 'good.sgf').write_bytes(VALID[0])
  games = collection.load(folder)
  assert 'good.sgf' in games.names and len(games) + len(games.broken) >= 1 + len(files)
  for i in range(len(games)):
    moves = games.moves[i, : games.lengths[i]]
    assert ((moves >= 0) & (moves <= int(games.size[i]) ** 2)).all()
    assert (games.moves[i, games.lengths[i] :] == collection.NEVER).all()
  assert np.isfinite(games.komi).all()


@fuzzed
@given(damaged())
def test_fuzz_the_plain_form_is_read_as_any_other(data):
  """Lines that NumPy parses at once have what the reader of single games finds in them."""
  line = data.replace(b'\n', b' ').replace(b'\r', b' ')
  fast, slow = parsing.parse(line, ['x']), parsing.ParsedGames()
  if line.strip():
    slow.add_all('x', line)
  assert len(fast.games) == len(slow.games) and len(fast.broken) == len(slow.broken)
  assert fast.notes == slow.notes
  for mine, other in zip(fast.games, slow.games, strict=True):
    np.testing.assert_equal(mine, other)


SESSION = new_session()


@fuzzed
@given(damaged())
def test_fuzz_loadsgf(tmp_path_factory, data):
  path = tmp_path_factory.getbasetemp() / 'fuzz.sgf'
  path.write_bytes(data)
  response = answer(SESSION, f'loadsgf {path}')
  assert response.text.isprintable() and 'internal error' not in response.text
  if not response.success:
    assert response.text.startswith('cannot load file'), response.text


def test_fuzz_keeps_no_memory():
  """The same damaged files again take no more than they did."""
  cut = [data[:end] for data in VALID for end in range(0, len(data), 3)]

  def read_everything():
    for data in cut:
      list(sgf.main_lines(data))

  read_everything()
  tracemalloc.start()
  try:
    for _ in range(3):
      read_everything()
    assert tracemalloc.get_traced_memory()[0] < 100_000
  finally:
    tracemalloc.stop()
