"""Go against other programs, each where it is installed, as far as its rules are ours."""

import shutil
import subprocess

import numpy as np
import pytest

from mcts.go.notation import COLOURS, to_vertex
from tests.mcts.go.go_play import played

SIZES = (3, 5, 9, 19)
GNUGO = shutil.which('gnugo') or shutil.which('/usr/games/gnugo')


def one_game(size):
  _, actions, facts = played(size, seed=1)
  return actions[0].tolist(), {name: x[0] for name, x in facts.items()}


@pytest.mark.long
@pytest.mark.parametrize('size', SIZES)
def test_openspiel(size):
  """Its masks know only the simple ko, and it ends a game at a repetition: ours has none."""
  pyspiel = pytest.importorskip('pyspiel')
  actions, facts = one_game(size)
  state = pyspiel.load_game(f'go(board_size={size},komi=7.5)').new_initial_state()
  rows = np.arange(size * size).reshape(size, size)[::-1].ravel()  # its first row is the lowest
  for t, action in enumerate(actions):
    if state.is_terminal():
      assert facts['done'][t]
      assert np.sign(facts['score'][t]) == state.returns()[0]
      break
    mask = np.zeros(size * size + 1, bool)
    mask[state.legal_actions()] = True
    ours = facts['legal'][t]
    assert not (ours[:-1] & ~mask[:-1][rows]).any()  # what we allow, it allows
    text = [line.split()[1] for line in str(state).splitlines() if line[:2].strip().isdigit()]
    board = [[{'X': 1, 'O': -1, '+': 0}[x] for x in row] for row in text]
    assert board == facts['board'][t].tolist()
    state.apply_action(int(action if action == size * size else rows[action]))


@pytest.mark.parametrize('size', SIZES)
def test_sgfmill(size):
  """Boards after captures, and area scores."""
  boards = pytest.importorskip('sgfmill.boards')
  actions, facts = one_game(size)
  board = boards.Board(size)
  for t, action in enumerate(actions):
    if facts['done'][t]:
      break
    if action < size * size:
      row, column = divmod(action, size)
      board.play(size - 1 - row, column, 'bw'[facts['to_play'][t]])
    ours = facts['board'][t + 1]
    theirs = [[board.get(size - 1 - r, c) for c in range(size)] for r in range(size)]
    assert [[{1: 'b', -1: 'w', 0: None}[x] for x in row] for row in ours.tolist()] == theirs
    if t % 5 == 0:
      assert board.area_score() == facts['score'][t + 1] + 7.5


class GnuGo:
  def __init__(self):
    command = [GNUGO, '--mode', 'gtp', '--chinese-rules', '--positional-superko']
    pipe = subprocess.PIPE
    self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)

  def ask(self, line):
    self.process.stdin.write(f'{line}\n')
    self.process.stdin.flush()
    answer = []
    while (text := self.process.stdout.readline()).strip() or not answer:
      answer.append(text.strip())
    assert answer[0].startswith('='), (line, answer)
    return ' '.join(answer)[1:].split()


@pytest.mark.skipif(GNUGO is None, reason='GNU Go is not installed')
@pytest.mark.parametrize('size', [5, 9])
def test_gnu_go_with_positional_superko(size):
  actions, facts = one_game(size)
  program = GnuGo()
  program.ask(f'boardsize {size}')
  program.ask('clear_board')
  for t, action in enumerate(actions):
    if facts['done'][t]:
      break
    colour = COLOURS[facts['to_play'][t]]
    legal = {to_vertex(a, size) for a in np.flatnonzero(facts['legal'][t][:-1])}
    assert set(program.ask(f'all_legal {colour}')) == legal
    program.ask(f'play {colour} {to_vertex(action, size)}')
  program.ask('quit')
  program.process.communicate(timeout=10)
