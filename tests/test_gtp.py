"""GTP as the standard has it, spoken to the engine line by line."""

import io
import os
import random
import string
import threading
import time

import numpy as np
import pytest

from mcts import clock, engines, gtp, handicap
from mcts.position import from_vertex, to_vertex

SIZE = 5


def talk(*lines, engine=None, **options):
  """The answers to the lines, without the empty lines that end them."""
  session = gtp.Session(engine or engines.make('random'), **{'size': SIZE, **options})
  output = io.StringIO()
  gtp.serve(session, gtp.Lines([f'{line}\n' for line in lines]), output)
  answers = output.getvalue().split('\n\n')
  assert answers.pop() == '', 'the last answer ends with an empty line'
  return answers


def rollout(**options):
  return engines.make('rollout', **{'simulations': 8, 'leaves': 4, **options})


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
def test_what_a_line_is_answered(line, answer):
  assert talk(line) == ([] if answer is None else [answer])


def test_an_error_of_ours_is_an_answer_too():
  class Broken(engines.Random):
    def consider(self, *_, **__):
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
  assert [handicap.most_fixed(n) for n in (6, 7, 8, 9, 13, 18, 19)] == [0, 4, 4, 9, 9, 4, 9]


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


# -------- the clock --------


@pytest.mark.parametrize('text', ['60', '20+10/5', '0+10/5', '20+3x4', '0+1x2'])
def test_budgets_never_lose_on_time(text):
  """Over games far longer than expected, each move taking what it may and a bit."""
  own = clock.Clock(clock.parse(text))
  for turn in range(400):
    seconds = own.budget(clock.moves_left(19, 2 * turn))
    assert seconds >= 0
    own.spend(seconds + (0.1 if text != '60' else min(0.1, own.left / 100)))
    assert not own.flagged, (turn, own.left)


def test_clocks_run_out():
  own = clock.Clock(clock.parse('10'))
  own.spend(10.5)
  assert own.flagged
  canadian = clock.Clock(clock.parse('0+10/2'))
  canadian.spend(6)
  canadian.spend(3)
  assert (canadian.left, canadian.stones, canadian.flagged) == (10, 2, False)
  canadian.spend(6)
  canadian.spend(5)
  assert canadian.flagged
  periods = clock.Clock(clock.parse('5+2x10'))
  periods.spend(17)
  assert (periods.left, periods.stones, periods.flagged) == (10, 1, False)
  periods.spend(10.5)
  assert periods.flagged


def test_settings_as_the_standard_means_them():
  assert clock.gtp_settings(0, 10, 0).kind == 'none'
  assert clock.gtp_settings(300, 0, 0) == clock.Settings('absolute', 300)
  assert clock.gtp_settings(0, 30, 5).kind == 'canadian'
  assert clock.Clock(clock.Settings()).budget(50) is None
  with pytest.raises(ValueError, match='write 300'):
    clock.parse('soon')


@pytest.mark.parametrize('settings', ['time_settings 1 0 0', 'kgs-time_settings byoyomi 0 0.4 1'])
def test_moves_come_in_time_on_both_clocks(settings):
  session = gtp.Session(rollout(), size=SIZE)
  assert session.answer(gtp.parse(settings)) == (True, '')
  for turn in range(16):
    success, _ = session.answer(gtp.parse(f'genmove {"bw"[turn % 2]}'))
    assert success and not any(own.flagged for own in session.clocks)


def test_the_controllers_clock_counts():
  session = gtp.Session(engines.make('random'), size=SIZE)
  for line in ('time_settings 60 0 0', 'time_left w 1 0', 'time_left b 30 2'):
    assert session.answer(gtp.parse(line)) == (True, '')
  assert session.clocks[1].budget(10) < 0.2 and session.clocks[0].stones == 2


# -------- moves and analysis --------


def test_a_game_against_itself_ends():
  session = gtp.Session(rollout(), size=3, komi=0.5)
  vertices = [session.answer(gtp.parse(f'genmove {"bw"[turn % 2]}'))[1] for turn in range(60)]
  assert 'pass' in vertices and 'resign' not in vertices
  assert session.answer(gtp.parse('final_score'))[0]


def test_reg_genmove_leaves_the_board_and_cleanup_plays():
  answers = talk('reg_genmove b', 'undo', 'kgs-genmove_cleanup b', 'undo', engine=rollout())
  assert answers[1] == '? cannot undo' and answers[3] == '= '


def test_a_lost_game_is_resigned():
  answers = talk('play b c3', 'genmove w', komi=-99.0, resign=0.4, engine=rollout())
  assert answers[1] == '= resign'


class Pipe:
  """A stream whose lines arrive when they are written."""

  def __init__(self):
    self.read_end, self.write_end = os.pipe()

  def __iter__(self):
    with os.fdopen(self.read_end, 'rb') as stream:
      yield from stream

  def write(self, text):
    os.write(self.write_end, text.encode())


@pytest.mark.parametrize('name', ['lz', 'kata'])
def test_an_analysis_streams_until_the_next_line(name):
  pipe, output = Pipe(), io.StringIO()
  session = gtp.Session(rollout(), size=SIZE)
  thread = threading.Thread(target=gtp.serve, args=(session, gtp.Lines(pipe), output))
  thread.start()
  pipe.write(f'5 {name}-analyze b 1 maxmoves 3\n')
  deadline = time.monotonic() + 60
  while output.getvalue().count('\n') < 4 and time.monotonic() < deadline:
    time.sleep(0.01)
  assert '\n\n' not in output.getvalue()
  pipe.write('6 name\n')
  os.close(pipe.write_end)
  thread.join(30)
  analysis, answer, _ = output.getvalue().split('\n\n')
  assert answer == '=6 breakthroughs rollout'
  first, *lines = analysis.split('\n')
  assert first == '=5' and len(lines) >= 3
  for line in lines:
    moves = line.split('info ')[1:]
    assert 1 <= len(moves) <= 3
    for order, text in enumerate(moves):
      words = text.split()
      fields = dict(
        zip(words[: words.index('pv') : 2], words[1 : words.index('pv') : 2], strict=False)
      )
      most = 10_000 if name == 'lz' else 1
      assert int(fields['order']) == order and int(fields['visits']) >= 1
      assert all(0 <= float(fields[key]) <= most for key in ('winrate', 'prior', 'lcb'))
      assert words[words.index('pv') + 1] == fields['move']


def test_moves_can_be_left_out_of_an_analysis():
  answers = talk('lz-genmove_analyze b 1 allow b c3,d4 9', engine=rollout())
  assert answers[0].split('\n')[-1] in ('play C3', 'play D4')


def test_the_tree_is_kept_where_it_still_holds():
  engine = rollout(simulations=64)
  session = gtp.Session(engine, size=SIZE)
  for line in ('genmove b', 'genmove w'):
    session.answer(gtp.parse(line))
  kept = session.last.visits
  assert kept > 64  # some came with the tree
  for line in ('undo', 'undo', 'genmove b'):
    assert session.answer(gtp.parse(line))[0]
  assert session.last.visits == 64


# -------- junk --------


def junk(seed, count):
  """Lines that make sense, lines that nearly do, and noise; numbered, to tell the answers."""
  rng = random.Random(seed)
  names = [name for name in gtp.COMMANDS if name != 'quit']
  words = [
    *('b', 'w', 'black', 'white', 'B', 'pass', 'resign', 'a1', 'C3', 'd4', 'e5', 'j9', 'z26', 'i1'),
    *('0', '1', '2', '3', '5', '-1', '7.5', '1e5', 'nan', 'inf', '99999999999', 'true', 'alive'),
    *('none', 'absolute', 'byoyomi', 'canadian', 'interval', 'avoid', '/dev/null', 'é', '=', '?'),
  ]
  noise = string.printable.replace('\n', '') + '\x00\x7fé\ufffd#'

  def vertex():
    return rng.choice('abcde') + str(rng.randint(1, 5))

  def line():
    kind = rng.random()
    if kind < 0.45:
      return f'play {rng.choice("bw")} {vertex()}'
    if kind < 0.55:
      return rng.choice(['undo', f'genmove {rng.choice("bw")}', f'all_legal {rng.choice("bw")}'])
    if kind < 0.58:
      return rng.choice(['clear_board', 'boardsize 2', 'boardsize 3', 'boardsize 5'])
    if kind < 0.9:
      return ' '.join([rng.choice(names), *rng.choices(words, k=rng.choice([0, 1, 1, 2, 2, 3, 6]))])
    return ''.join(rng.choices(noise, k=rng.randint(0, 30)))

  sensible = {'boardsize 7', 'boardsize 9'}
  for number in range(count):
    text = line()
    yield f'{number} {text if text not in sensible else "name"}'


def fuzz(seed, count):
  lines = list(junk(seed, count))
  session = gtp.Session(engines.make('random'), size=SIZE)
  output = io.StringIO()
  gtp.serve(session, gtp.Lines([f'{line}\n' for line in lines] + ['end name\n']), output)
  answers = output.getvalue().split('\n\n')
  assert answers.pop() == ''
  expected = [gtp.parse(line) for line in [*lines, 'end name']]
  expected = [command for command in expected if command is not None]
  assert len(answers) == len(expected)
  for command, answer in zip(expected, answers, strict=True):
    assert answer[0] in '=?' and answer[1:].split()[:1] in (
      [command.id],
      [],
      *([] if command.id else [[word] for word in answer[1:].split()[:1]]),
    ), (command, answer)
    assert answer[1:].startswith(command.id)
    assert 'internal error' not in answer, (command, answer)
  replay = [turn for turn in session.position.turns]
  board = session.position.board.copy()
  session.position.set_up(session.position.start, session.position.first)
  for turn in replay:
    session.position.play(turn.player, turn.action)
  np.testing.assert_array_equal(session.position.board, board)


def test_junk_neither_crashes_nor_confuses_it():
  fuzz(0, 3000)


@pytest.mark.slow
def test_a_hundred_thousand_lines_of_junk():
  fuzz(1, 100_000)
