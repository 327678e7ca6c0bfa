"""Every line of input gets its response, whatever it is."""

import io
import random
import string

import numpy as np
import pytest

from mcts.gtp import commands, server
from mcts.gtp.protocol import parse
from tests.mcts.gtp.gtp_talk import new_session


def junk(seed, count):
  """Yields valid lines, nearly valid ones and noise, numbered to tell the responses apart."""
  rng = random.Random(seed)
  names = [name for name in commands.COMMANDS if name != 'quit']
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
  session = new_session()
  output = io.StringIO()
  server.serve(session, server.Lines([f'{line}\n' for line in lines] + ['end name\n']), output)
  answers = output.getvalue().split('\n\n')
  assert answers.pop() == ''
  expected = [parse(line) for line in [*lines, 'end name']]
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
  session.position.set_up(session.position.setup, session.position.first_player)
  for turn in replay:
    session.position.play(turn.player, turn.action)
  np.testing.assert_array_equal(session.position.board, board)


@pytest.mark.long
def test_junk_neither_crashes_nor_confuses_it():
  fuzz(0, 3000)


@pytest.mark.slow
def test_a_hundred_thousand_lines_of_junk():
  fuzz(1, 100_000)
