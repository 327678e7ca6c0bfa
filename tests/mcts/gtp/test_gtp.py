"""GTP commands and their responses, as the standard has them."""

import os
import subprocess
import sys

import pytest

from mcts.engines import RandomEngine
from mcts.go import handicap
from mcts.go.notation import from_vertex, to_vertex
from mcts.gtp import server
from tests.mcts.gtp.gtp_talk import SIZE, talk

# -------- the protocol --------


def test_ids_comments_and_control_characters():
  lines = [
    '12 protocol_version',
    '# nothing',
    '',
    ' \t ',
    '3\tname # a remark',
    '\x07\x00version\r',
  ]
  assert talk(*lines) == ['=12 2', '=3 breakthroughs random', '= 1']
  assert talk('007 komi 0.5', '9 foo') == ['=007 ', '?9 unknown command']


def test_every_command_is_known_and_listed():
  required = """
    protocol_version name version known_command list_commands quit boardsize clear_board
    komi play genmove undo loadsgf fixed_handicap place_free_handicap set_free_handicap
    time_settings time_left kgs-time_settings final_score final_status_list showboard
    all_legal is_legal reg_genmove gogui-analyze_commands lz-analyze kata-analyze
    kgs-genmove_cleanup
  """
  listed = talk('list_commands')[0].removeprefix('= ').split('\n')
  assert set(required.split()) <= set(listed)
  assert set(talk(*(f'known_command {name}' for name in listed))) == {'= true'}
  assert talk('known_command tea') == ['= false']


@pytest.mark.parametrize(
  ('line', 'answer'),
  [
    ('', None),
    ('tea', '? unknown command'),
    ('17', '?17 unknown command'),
    ('PLAY b c3', '? unknown command'),
    ('boardsize', '? syntax error'),
    ('boardsize five', '? syntax error'),
    ('boardsize 1', '? unacceptable size'),
    ('boardsize 26', '? unacceptable size'),
    ('boardsize -9', '? syntax error'),
    ('komi', '? syntax error'),
    ('komi nan', '? syntax error'),
    ('komi 1e99', '? syntax error'),
    ('komi ٣', '? syntax error'),
    ('play b', '? syntax error'),
    ('play b c3 w d4', '? syntax error'),
    ('play green c3', '? syntax error'),
    ('play b 33', '? syntax error'),
    ('play b i3', '? illegal move'),
    ('play b z9', '? illegal move'),
    ('play b c0', '? illegal move'),
    ('play BLACK C3', '= '),
    ('play w PASS', '= '),
    ('genmove', '? syntax error'),
    ('genmove b w', '? syntax error'),
    ('undo', '? cannot undo'),
    ('loadsgf /nowhere.sgf', '? cannot load file'),
    ('fixed_handicap 2', '? invalid number of stones'),
    ('place_free_handicap 1', '? invalid number of stones'),
    ('set_free_handicap c3', '? bad vertex list'),
    ('set_free_handicap c3 c3', '? bad vertex list'),
    ('set_free_handicap c3 pass', '? bad vertex list'),
    ('set_free_handicap c3 k9', '? bad vertex list'),
    ('time_settings 1 2', '? syntax error'),
    ('time_settings -1 0 0', '? syntax error'),
    ('kgs-time_settings fischer 1 2', '? syntax error'),
    ('kgs-time_settings byoyomi 60 0 3', '? syntax error'),
    ('time_left b now 0', '? syntax error'),
    ('final_status_list asleep', '? syntax error'),
    ('lz-analyze tea', '? syntax error'),
    ('lz-analyze b interval', '? syntax error'),
  ],
)
def test_the_response_to_a_line(line, answer):
  assert talk(line) == ([] if answer is None else [answer])


def test_an_internal_error_is_a_response_too():
  class Broken(RandomEngine):
    def analyze(self, *_, **__):
      raise RuntimeError('no idea\n\nat all')

  answers = talk('genmove b', 'name', engine=Broken())
  assert answers == ['? internal error: RuntimeError no idea at all', '= breakthroughs random']


# -------- the board --------


def test_moves_and_undo():
  lines = [
    'play b c3',
    'play b c3',
    'play b d3',
    'is_legal w c3',
    'undo',
    'is_legal b d3',
    'undo',
    'undo',
  ]
  assert talk(*lines) == [
    *('= ', '? illegal move', '= ', '= 0', '= ', '= 1', '= ', '? cannot undo'),
  ]


def test_a_board_is_shown():
  board = talk('play b a5', 'play w c3', 'showboard')[-1]
  assert board == (
    '= \n   A B C D E\n 5 X . . . . 5\n 4 . . . . . 4\n 3 . .(O). . 3\n'
    ' 2 . . . . . 2\n 1 . . . . . 1\n   A B C D E'
  )


def test_ko_and_superko():
  """Black takes a ko; white may take it back only after the board has changed."""
  shape = 'b b3 b c4 b c2 w d4 w e3 w d2 w c3'
  lines = [f'gogui-play_sequence {shape}', 'play b d3', 'is_legal w c3', 'play w a1', 'play b a5']
  assert talk(*lines, 'is_legal w c3') == ['= ', '= ', '= 0', '= ', '= ', '= 1']


def test_a_sequence_is_played_whole_or_not_at_all():
  lines = ['gogui-play_sequence b c3 w c3', 'is_legal w c3', 'gogui-play_sequence b c3 w', 'undo']
  assert talk(*lines) == ['? illegal move', '= 1', '? syntax error', '? cannot undo']


def test_the_score_of_the_stones_as_they_stand():
  wall = [f'play b c{row}' for row in range(1, 6)]
  answers = talk(*wall, 'play w e3', 'komi 3.5', 'final_score', 'komi 14', 'final_score')
  assert [answers[-3], answers[-1]] == ['= B+10.5', '= 0']
  assert talk('final_score', komi=0.5) == ['= W+0.5']
  lists = talk(*wall, 'play w e3', *(f'final_status_list {x}' for x in ('alive', 'dead', 'seki')))
  assert lists[-3:] == ['= E3\nC5 C4 C3 C2 C1'.replace('E3\n', '') + '\nE3', '= ', '= ']


def test_play_goes_on_after_two_passes():
  lines = ['play b pass', 'play w pass', 'play b c3', 'play w pass', 'genmove b', 'undo']
  answers = talk(*lines)
  assert all(answer.startswith('=') for answer in answers)


def test_all_legal_and_is_legal_agree():
  moves = ['play b b1', 'play b a2', 'play w c1']
  points = [f'{letter}{row}' for letter in 'ABCDE' for row in range(1, 6)]
  legal = talk(*moves, 'all_legal w')[-1].split()[1:]
  asked = talk(*moves, *(f'is_legal w {point}' for point in points))[3:]
  assert {p for p, answer in zip(points, asked, strict=True) if answer == '= 1'} == set(legal)
  assert 'A1' not in legal  # suicide


@pytest.mark.parametrize('size', [2, 9, 19, 25])
def test_vertices(size):
  for action in range(size * size + 1):
    assert from_vertex(to_vertex(action, size), size) == action
  assert to_vertex(0, 19) == 'A19' and to_vertex(8, 19) == 'J19'


# -------- handicap --------


def test_fixed_handicaps_are_those_of_the_standard():
  nine = ['D4', 'Q16', 'D16', 'Q4', 'D10', 'Q10', 'K4', 'K16', 'K10']
  for number in range(2, 10):
    expected = set(nine[:number])
    if number in (5, 7):
      expected = set(nine[: number - 1]) | {'K10'}
    assert {to_vertex(p, 19) for p in handicap.fixed(19, number)} == expected
  assert {to_vertex(p, 9) for p in handicap.fixed(9, 4)} == {'C3', 'G7', 'C7', 'G3'}
  assert [handicap.max_fixed(n) for n in (6, 7, 8, 9, 13, 18, 19)] == [0, 4, 4, 9, 9, 4, 9]


def test_handicaps():
  answers = talk('set_free_handicap c3 d4', 'undo', 'all_legal w', 'set_free_handicap a1 b2')
  assert answers[:2] == ['= ', '? cannot undo'] and answers[3] == '? board not empty'
  assert 'C3' not in answers[2]
  placed = talk('place_free_handicap 4', 'genmove w')[0].split()[1:]
  assert len(set(placed)) == 4


# -------- records --------


def test_a_record_is_loaded_up_to_a_move(tmp_path):
  path = tmp_path / 'game.sgf'
  path.write_text(f'(;GM[1]FF[4]SZ[{SIZE}]KM[1.5]AB[aa]PL[W];W[cc];B[dc];W[ec])')
  lines = [f'loadsgf {path} 3', 'is_legal w c3', 'is_legal w e3', 'get_komi', f'loadsgf {path}']
  assert talk(*lines, 'undo') == ['= white', '= 0', '= 1', '= 1.5', '= black', '= ']


@pytest.mark.long
def test_quit_ends_the_process_while_the_controller_keeps_the_pipe_open():
  """As Sabaki and twogtp do."""
  code = "from mcts.gtp import server; from mcts.engines import make; server.play(make('random'))"
  process = subprocess.Popen(
    [sys.executable, '-c', code],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  process.stdin.write('1 name\r\n2 quit\n')
  process.stdin.flush()
  assert process.wait(120) == 0
  assert process.stdout.read().startswith('=1 breakthroughs random\n\n=2')
  assert 'Fatal' not in process.stderr.read()
  for pipe in (process.stdin, process.stdout, process.stderr):
    pipe.close()


def test_lines_come_as_they_arrive_and_the_last_may_have_no_end():
  read, write = os.pipe()
  os.write(write, b'name\r\nver')
  lines = server.read_lines(read)
  assert next(lines) == 'name\r\n'
  os.write(write, b'sion\n\xff\nquit')
  assert next(lines) == 'version\n'
  assert next(lines) == '\ufffd\n'
  os.close(write)
  assert list(lines) == ['quit']
  os.close(read)
