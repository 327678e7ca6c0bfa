"""A game written from the docstring of `mcts.game.Game` alone: trained, rated, shown, played."""

import io
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import mcts
from mcts.game import Game
from mcts.games import terminal
from tests.train.tasks.selfplay.small_selfplay import config_of
from train import verbs
from train.report import page
from train.tasks.selfplay import play

HEAPS = (1, 2, 3)
MOST = max(HEAPS)


class Heaps(NamedTuple):
  """left: int32 `[3]`, the stones in each heap. player: int32 `[]`, to move."""

  left: Array
  player: Array


def Nim() -> Game:
  """Take as many stones as you like from one heap; who takes the last one wins.

  Action heap * 3 + n - 1 takes n stones.
  """

  def legal(state):
    return (jnp.arange(1, MOST + 1)[None] <= state.left[:, None]).reshape(-1)

  def step(state, action):
    taken = Heaps(
      state.left.at[action // MOST].add(-(action % MOST + 1)), (1 - state.player).astype(jnp.int32)
    )
    return jax.tree.map(lambda old, new: jnp.where(done(state), old, new), state, taken)

  def done(state):
    return state.left.sum() == 0

  return Game(
    name='nim',
    num_actions=len(HEAPS) * MOST,
    max_length=sum(HEAPS),
    init=lambda: Heaps(jnp.array(HEAPS, jnp.int32), jnp.int32(0)),
    step=step,
    legal=legal,
    done=done,
    value=lambda state: jnp.where(done(state), -1.0, 0.0),
    observe=lambda state: legal(state).reshape(len(HEAPS), MOST, 1),
    to_play=lambda state: state.player,
    render=lambda state: '\n'.join(f'{i}: {"o" * n}' for i, n in enumerate(state.left.tolist())),
    action_name=lambda action: f'{action % MOST + 1} from {action // MOST}',
  )


@pytest.fixture
def workdir(one_device, monkeypatch, tmp_path):
  """A run of two steps."""
  monkeypatch.setitem(mcts.GAMES, 'nim', Nim)
  config = config_of(game='nim', replay={'min_size': 32}, evaluation={'num_games': 4})
  config['train'] |= {'steps': 2, 'eval_every': 2, 'checkpoint_every': 2}
  verbs.train(config, str(tmp_path))
  return tmp_path


@pytest.mark.long
def test_it_trains_is_rated_shown_reported_and_played_by_hand(workdir):
  lines = [json.loads(x) for x in (workdir / 'metrics.jsonl').read_text().splitlines()]
  found = {k: v for line in lines for k, v in line.items()}
  assert np.isfinite(found['train/policy']) and found['train/play_draws'] == 0
  assert 3 <= found['train/play_length'] <= 6
  assert 0 <= found['random/share'] <= 1
  game = (workdir / 'samples' / '00000002-game.txt').read_text()
  assert '0: \n1: \n2: \n\n' in game and game.split('\n')[-2] in ('X wins', 'O wins')
  page.write([str(workdir)])
  assert 'nim' in (workdir / 'report.html').read_text()
  run, output = verbs.load_run(str(workdir)), io.StringIO()
  typed = io.StringIO('4 from 2\n3 FROM 2\n' + '\n'.join(map(str, range(9))) * 3)
  value = play.by_hand(run.task, run.variables, num_simulations=8, input=typed, output=output)
  shown = output.getvalue()
  assert value in (1, -1) and shown.endswith('X wins\n' if value == 1 else 'O wins\n')
  assert shown.startswith('\n0: o\n1: oo\n2: ooo\nX to move (1 from 0 1 from 1 2 from 1')
  assert "'4 from 2': no legal action here\n" in shown and 'O plays ' in shown


# -------- in the terminal --------


def first_legal(game):
  return lambda state: int(np.asarray(game.legal(state)).argmax())


def played(game, typed, **options):
  output = io.StringIO()
  value = terminal.play(game, first_legal(game), input=io.StringIO(typed), output=output, **options)
  return value, output.getvalue()


def test_tic_tac_toe_by_hand():
  """X takes the middle row; O the first free cells."""
  value, shown = played(mcts.build('tictactoe'), '4\n4\nx\n3\n5\n')
  assert value == 1 and shown.endswith('OO.\nXXX\n...\nX wins\n')
  assert "'4': no legal action here" in shown and "'x': no legal action here" in shown
  assert 'X to move (1 2 3 5 6 7 8; q quits): ' in shown


def test_connect_four_by_hand_as_the_second_player():
  value, shown = played(mcts.build('connect_four'), '1\n1\n1\n1\n', human=1)
  assert value == -1 and shown.endswith('X wins\n') and shown.count('O to move') == 3


def test_go_by_hand_takes_vertices():
  value, shown = played(mcts.build('go', size=3, max_moves=4), 'b2\npass\n')
  assert shown.startswith('\n   A B C\n') and 'O plays A3' in shown
  assert value == -1  # by komi


def test_a_game_may_be_left():
  assert played(mcts.build('tictactoe'), '0\nq\n')[0] is None
  assert played(mcts.build('tictactoe'), '0\n')[0] is None
  with pytest.raises(ValueError, match='human 2: must be 0'):
    terminal.play(mcts.build('tictactoe'), lambda state: 0, human=2)


@pytest.mark.long
def test_a_search_without_a_run_takes_what_wins():
  """X to move has 0 and 1 of the first row in the end, and O must stop 2."""
  output = io.StringIO()
  play.by_hand_against_rollouts(
    'tictactoe', num_simulations=100, input=io.StringIO('0\n1\n3\n6\n'), output=output
  )
  assert 'O plays' in output.getvalue()
