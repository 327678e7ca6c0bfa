"""An engine behind GTP: its clock, its moves, its analysis."""

import io
import itertools
import os
import threading
import time
import types

import pytest

from mcts.engines import search_engine
from mcts.gtp import server
from mcts.gtp import session as session_lib
from mcts.search import tree_search
from tests.mcts.gtp.gtp_talk import answer, new_session, rollout, talk

# -------- the clock --------


@pytest.mark.long
@pytest.mark.parametrize('settings', ['time_settings 30 0 0', 'kgs-time_settings byoyomi 0 3 1'])
def test_moves_come_in_time_on_both_clocks(monkeypatch, settings):
  """By a clock of which a quarter of a second is gone each time that someone looks at it."""
  session = new_session(rollout())
  assert answer(session, settings) == (True, '', None)
  watch, visits = types.SimpleNamespace(monotonic=itertools.count(0.0, 0.25).__next__), []
  for module in (session_lib, search_engine, tree_search):
    monkeypatch.setattr(module, 'time', watch)
  for turn in range(16):
    assert answer(session, f'genmove {"bw"[turn % 2]}').success
    assert not any(own.flagged for own in session.clocks)
    visits.append(session.last_analysis.visits)
  assert visits[0] > 8, 'one chunk of search, though there is time for more'


def test_the_controllers_clock_counts():
  session = new_session()
  for line in ('time_settings 60 0 0', 'time_left w 1 0', 'time_left b 30 2'):
    assert answer(session, line) == (True, '', None)
  assert session.clocks[1].budget(10) < 0.2 and session.clocks[0].stones == 2


# -------- moves and analysis --------


@pytest.mark.long
def test_a_game_against_itself_ends():
  session = new_session(rollout(), size=3, komi=0.5)
  vertices = [answer(session, f'genmove {"bw"[turn % 2]}').text for turn in range(60)]
  assert 'pass' in vertices and 'resign' not in vertices
  assert answer(session, 'final_score').success


def test_reg_genmove_leaves_the_board_and_cleanup_plays():
  answers = talk('reg_genmove b', 'undo', 'kgs-genmove_cleanup b', 'undo', engine=rollout())
  assert answers[1] == '? cannot undo' and answers[3] == '= '


def test_a_lost_game_is_resigned():
  answers = talk('play b c3', 'genmove w', komi=-99.0, resign_threshold=0.4, engine=rollout())
  assert answers[1] == '= resign'


class Pipe:
  """A stream whose lines arrive when they are written."""

  def __init__(self):
    self.read_end, self.write_end = os.pipe()

  def __iter__(self):
    with os.fdopen(self.read_end) as stream:
      yield from stream

  def write(self, text):
    os.write(self.write_end, text.encode())


@pytest.mark.parametrize('name', ['lz', 'kata'])
def test_an_analysis_streams_until_the_next_line(name):
  pipe, output = Pipe(), io.StringIO()
  session = new_session(rollout())
  thread = threading.Thread(target=server.serve, args=(session, server.Lines(pipe), output))
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


@pytest.mark.long
def test_the_tree_is_kept_where_it_still_holds():
  session = new_session(rollout(num_simulations=64))
  for line in ('genmove b', 'genmove w'):
    answer(session, line)
  kept = session.last_analysis.visits
  assert kept > 64  # some came with the tree
  for line in ('undo', 'undo', 'genmove b'):
    assert answer(session, line).success
  assert session.last_analysis.visits == 64
