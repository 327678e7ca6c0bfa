"""Sessions of damaged commands: each has its response, and the board obeys the rules."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mcts.go.notation import from_vertex
from mcts.gtp import commands, server
from mcts.gtp.protocol import parse
from tests.fuzzing import fuzzed
from tests.mcts.gtp.gtp_talk import new_session

SIZE = 3
VERTICES = [f'{column}{row}' for column in 'ABC' for row in '123']
COLOURS = st.sampled_from(['b', 'w', 'black', 'W'])
POINTS = st.sampled_from([*VERTICES, 'pass', 'A4', 'i1', 'D1'])
MOVES = st.builds('play {} {}'.format, COLOURS, POINTS)
NAMES = st.sampled_from([name for name in commands.COMMANDS if name != 'quit'])
WORDS = st.sampled_from(
  [
    'b',
    'w',
    'B2',
    'pass',
    '0',
    '1',
    '2',
    '-1',
    '7.5',
    '1e8',
    'nan',
    'inf',
    '9' * 30,
    'alive',
    'none',
  ]
  + ['absolute', 'byoyomi', 'canadian', 'interval', 'allow', 'avoid', 'maxmoves', '/dev/null', 'é']
)
VALID = st.one_of(
  MOVES,
  MOVES,
  st.builds('genmove {}'.format, COLOURS),
  st.sampled_from(
    ['undo', 'clear_board', 'boardsize 2', 'boardsize 3', 'showboard', 'final_score']
  ),
  st.sampled_from(['time_settings 0 0 0', 'time_left b 0 0', 'kgs-time_settings byoyomi 0 1 1']),
  st.builds('{} {}'.format, NAMES, st.lists(WORDS, max_size=4).map(' '.join)),
)


@st.composite
def damaged(draw):
  """A line of which a part may be cut, doubled, or replaced by other characters."""
  line = draw(VALID)
  kind = draw(st.integers(0, 5))
  if kind > 3 or not line:
    return line
  start = draw(st.integers(0, len(line) - 1))
  end = draw(st.integers(start, len(line)))
  other = draw(st.text(st.characters(codec='utf-8', exclude_characters='\n'), max_size=6))
  return line[:start] + ('', line[start:end] * 2, other, '\t' + other)[kind] + line[end:]


def legal_by_the_book(session):
  """Plays the session's turns on a fresh board: each must be legal, and the boards equal."""
  position, copy = session.position, session.empty_position(session.position.size, 0.5)
  copy.set_up(position.setup, position.first_player)
  for turn in position.turns:
    copy.play(turn.player, turn.action)
  np.testing.assert_array_equal(copy.board, position.board)


@fuzzed
@given(st.lists(damaged(), max_size=25), st.sampled_from(['\n', '\r\n']))
def test_fuzz_sessions(lines, ending):
  session, output = new_session(size=SIZE), io.StringIO()
  numbered = [f'{number} {line}{ending}' for number, line in enumerate(lines)]
  server.serve(session, server.Lines([*numbered, 'name\n']), output)
  *answers, end = output.getvalue().split('\n\n')
  assert end == '' and answers[-1].startswith('= breakthroughs')
  expected = [command for command in map(parse, numbered) if command is not None]
  if not session.closed:
    assert len(answers) == len(expected) + 1
  for command, answer in zip(expected, answers, strict=False):
    assert answer[0] in '=?' and answer[1:].startswith(command.id), (command, answer)
    assert 'internal error' not in answer, (command, answer)
    if command.name == 'genmove' and answer[0] == '=':
      word = answer.split()[1]
      assert word == 'resign' or from_vertex(word, 25) >= 0
  assert max(map(len, answers)) < 10_000
  legal_by_the_book(session)
