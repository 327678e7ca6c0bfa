"""What a session answers where there is no move: a network that fails, a game at its end."""

import io
import os

import jax
import jax.numpy as jnp
import pytest

from mcts.engines import RandomEngine, RuleSet, SearchEngine
from mcts.gtp import server
from mcts.gtp.session import Session
from mcts.search import evaluators
from tests.mcts.gtp.gtp_talk import answer, new_session, rollout, talk


def sick(after=0, name='sick'):
  """An engine whose network gives NaN for the value from so many turns on."""

  def evaluator(game):
    uniform = evaluators.uniform(game)

    def evaluate(states, keys):
      logits, values = uniform(states, keys)
      return logits, jnp.where(states.num_entries >= after, jnp.nan, values)

    return evaluate

  return SearchEngine(evaluator, name, num_simulations=4)


COMMANDS = ['genmove b', 'reg_genmove b', 'kgs-genmove_cleanup b', 'visit_shares']
STREAMS = ['lz-genmove_analyze b', 'kata-analyze b 1', 'lz-analyze b 1', 'kata-genmove_analyze b']


def test_a_network_that_gives_nan_has_no_move():
  failure = 'sick: at move 1 its network gives NaN or infinity, which is no answer'
  lines = [f'{number} {line}' for number, line in enumerate(COMMANDS + STREAMS)]
  answers = talk(*lines, 'play b c3', 'genmove w', 'undo', engine=sick())
  assert answers[: len(lines)] == [f'?{number} {failure}' for number in range(len(lines))]
  assert answers[len(lines) :] == ['= ', f'? {failure.replace("move 1", "move 2")}', '= ']


def full_session(engine=None):
  """A session whose record has room for nothing: 2 N^2 + 100 turns, most of them passes."""
  session = new_session(engine, size=2)
  for turn in range(108):
    assert answer(session, f'play {"bw"[turn % 2]} pass').success == (turn < 107), turn
  return session


def test_a_full_record_ends_the_game():
  session = full_session(rollout())
  for line in (*COMMANDS, 'play b a1', 'play w pass'):
    assert answer(session, line) == (False, 'game is over', None), line
  for line in STREAMS:
    output = io.StringIO()
    server.serve(session, server.Lines([f'7 {line}\n']), output)
    assert output.getvalue() == '?7 game is over\n\n', line
  for line in ('final_score', 'showboard', 'all_legal b', 'final_status_list alive', 'undo'):
    assert answer(session, line).success, line
  assert answer(session, 'genmove w').text == 'pass'


def test_before_that_both_players_may_pass():
  session = full_session()
  for _ in range(4):
    answer(session, 'undo')
  assert answer(session, 'genmove b').text == 'pass'
  assert answer(session, 'play w a1') == (False, 'illegal move', None)
  assert answer(session, 'genmove w').text == 'pass'


def test_an_analysis_of_no_legal_move_is_refused():
  answers = talk('play b c3', 'lz-genmove_analyze w allow w c3 1', engine=rollout())
  assert answers[1] == '? no move that may be considered is legal'


# -------- the clock --------

ORDERS = [
  ['time_settings 30 0 0', 'boardsize 3'],
  ['boardsize 4', 'boardsize 3', 'komi 3', 'kgs-time_settings byoyomi 0 3 2', 'clear_board'],
  ['genmove b', 'time_settings 0 5 1', 'place_free_handicap 2', 'komi 1'],
  ['boardsize 2', 'play w a1', 'time_left w 20 0'],
]


@pytest.mark.slow
@pytest.mark.parametrize('lines', ORDERS, ids=lambda lines: lines[0])
def test_nothing_is_compiled_while_a_clock_runs(lines):
  session, compiled = new_session(rollout(num_simulations=4), size=3), []

  def listen(name, *_, **__):
    if name.endswith('backend_compile_duration'):
      compiled.append(name)

  jax.clear_caches()
  jax.monitoring.register_event_duration_secs_listener(listen)
  for line in lines:
    answer(session, line)
  before = len(compiled)
  assert before > 0
  for line in ('genmove w', 'genmove b', 'undo', 'genmove b', 'kgs-genmove_cleanup w'):
    assert answer(session, line).success
  jax.monitoring.unregister_event_duration_listener(listen)
  assert len(compiled) == before


def test_time_that_is_left_counts_without_settings():
  session = new_session()
  for line in ('time_left b 0 0', 'time_left w 8 2'):
    assert answer(session, line).success
  assert session.clocks[0].budget(10) is None and session.clocks[1].budget(10) < 4
  assert answer(session, 'time_settings 60 0 0').success
  assert answer(session, 'time_left b 10 5').success  # of a period that the settings did not have
  assert session.clocks[0].budget(10) < 2
  assert talk('kgs-time_settings byoyomi 60 10 2.5') == ['? syntax error']


# -------- rules that a network has learnt --------


def test_what_differs_from_training_is_said_once(capsys):
  engine = RandomEngine(name='small', trained=RuleSet(5, 14.5))
  session = Session(engine, RuleSet(5, 14.5))
  assert capsys.readouterr().err == ''
  for line in ('komi 7.5', 'komi 7.5', 'clear_board', 'komi 14.5', 'komi 7.5', 'get_komi'):
    found = answer(session, line)
  assert found.text == '7.5'
  said = 'small: this game has komi 7.5, not 14.5 as those that it was trained on\n'
  assert capsys.readouterr().err == said
  answer(session, 'place_free_handicap 2')
  assert 'has a handicap' in capsys.readouterr().err
  Session(engine, RuleSet(5, 14.5, superko='simple', suicide=True))
  assert 'superko simple, not positional' in capsys.readouterr().err


@pytest.mark.parametrize('komi', ['7.00001', '1001', '9007199254740993', '-1e8', '16777217'])
def test_a_komi_that_float32_would_change_is_refused(komi):
  answers = talk(f'komi {komi}', 'get_komi')
  assert answers[0] == '? syntax error' or 'must be from -1000 to 1000' in answers[0]
  assert answers[1] == '= 7.5'
  assert talk('komi 5.75', 'get_komi', 'komi -0.125') == ['= ', '= 5.75', '= ']


@pytest.mark.parametrize('threshold', [-0.1, 1.5, float('nan')])
def test_a_threshold_that_is_no_chance_is_refused(threshold):
  with pytest.raises(ValueError, match='must be a chance to win, from 0'):
    new_session(resign_threshold=threshold)


# -------- the lines --------


@pytest.mark.parametrize('start', [b'12 play b ', b'undo ', b' ' * 20])
def test_a_line_without_end_is_no_command_and_takes_no_memory(monkeypatch, start):
  monkeypatch.setattr(server, 'LONGEST_LINE', 1000)
  whole = os.read
  monkeypatch.setattr(os, 'read', lambda descriptor, _: whole(descriptor, 300))
  read, write = os.pipe()
  os.write(write, start + b'a1' * 2000)
  lines = server.read_lines(read)
  os.write(write, b'c3\nname\n')
  os.close(write)
  output = io.StringIO()
  server.serve(new_session(), server.Lines(lines), output)
  *rest, last, end = output.getvalue().split('\n\n')
  assert last == '= breakthroughs random' and end == ''
  assert [answer[0] for answer in rest] == ['?'] * len(rest)
  os.close(read)
