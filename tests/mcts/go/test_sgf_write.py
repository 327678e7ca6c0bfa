"""What is written is read back the same, by us and by sgfmill."""

import numpy as np
import pytest
import sgfmill.sgf
from hypothesis import given, settings
from hypothesis import strategies as st

from mcts.go import sgf

# Any text but half surrogate pairs; white space as SGF keeps it.
TEXTS = st.text(
  st.characters(exclude_categories=['Cs'], exclude_characters='\r\t\f\v'), max_size=20
)
KOMI = st.floats(-400, 400) | st.sampled_from([0.0, 0.5, 5.75, 100.0, 375.0, 1e-7, 123456.7, -0.25])
RESULTS = ['', '0', 'Draw', 'Void', '?', 'B+', 'B+R', 'W+T', 'B+F', 'W+0.5', 'B+100.25']


@st.composite
def records(draw) -> sgf.Record:
  size = draw(st.integers(2, 25))
  moves = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, size * size)), max_size=8))
  record = sgf.Record(
    size=size,
    komi=draw(KOMI),
    to_play=moves[0][0] if moves else draw(st.integers(0, 1)),
    moves=moves,
    result=draw(st.sampled_from(RESULTS)),
    handicap=draw(st.integers(0, 99)),
    names=(draw(TEXTS), draw(TEXTS)),
    comments=draw(st.dictionaries(st.integers(0, len(moves)), TEXTS.filter(bool), max_size=3)),
    tags={'EV': draw(TEXTS.filter(bool)), 'RU': 'area, positional ko'},
  )
  if draw(st.booleans()):
    record.board = np.zeros((size, size), np.int8)
    record.board[0, 0], record.board[-1, -1] = 1, draw(st.sampled_from([0, -1]))
  return record


@settings(max_examples=100)
@given(records())
def test_what_is_written_is_read_by_us_and_by_others(record):
  text = sgf.write(record)
  got = sgf.read(text.encode())
  for name in (
    'size',
    'komi',
    'to_play',
    'moves',
    'result',
    'handicap',
    'names',
    'comments',
    'tags',
  ):
    assert getattr(got, name) == getattr(record, name), name
  np.testing.assert_array_equal(sgf.stones(got, 0), sgf.stones(record, 0))
  other = sgfmill.sgf.Sgf_game.from_bytes(text.encode())
  assert other.get_size() == record.size and other.get_komi() == record.komi
  # To others a name is one line.
  assert (other.get_player_name('b') or '') == record.names[0].replace('\n', ' ')
  moves = [node.get_move() for node in other.get_main_sequence()[1:]]
  assert [
    ('bw'.index(colour), action_of(place, record.size)) for colour, place in moves
  ] == record.moves
  comments = [node.get('C') if node.has_property('C') else '' for node in other.get_main_sequence()]
  assert comments == [record.comments.get(i, '') for i in range(len(comments))]


def action_of(place, size):
  return size * size if place is None else (size - 1 - place[0]) * size + place[1]


@given(st.binary(max_size=20), st.floats(allow_nan=True))
def test_what_cannot_be_written(data, komi):
  name = data.decode('utf-8', 'surrogateescape')  # a file's name that is no UTF-8
  assert sgf.read(sgf.write(sgf.Record(9, names=(name, ''))).encode()).size == 9
  if not np.isfinite(komi):
    with pytest.raises(ValueError, match='must be finite'):
      sgf.write(sgf.Record(9, komi))


def test_comments_of_all_variations_are_kept():
  records = [
    sgf.Record(9, moves=[(0, 0), (1, 1)], comments={0: 'all', 1: 'one', 2: 'here'}),
    sgf.Record(9, moves=[(0, 0), (1, 2)], comments={0: 'all', 1: 'another', 2: 'there'}),
  ]
  found = sgf.read_all(sgf.write(*records).encode())
  assert found[0].comments == {0: 'all', 1: 'one\n\nanother', 2: 'here'}
  assert found[1].comments == {0: 'all', 1: 'one\n\nanother', 2: 'there'}


def test_many_variations_are_written_in_linear_time():
  records = [sgf.Record(19, moves=[(0, i % 361), (1, i // 361)]) for i in range(3000)]
  text = sgf.write(*records)
  assert text.count('B[') == 361 and text.count('W[') == 3000
